"""The programs of README and docs/topics.md run as printed, with clients that are not ours.

Only the port is another one: 8080 may be in use here.
"""

import asyncio
import re
import signal
import socket
import subprocess
from pathlib import Path

import websockets
from programs import PATIENCE, running

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#([^)\s]*))?\)|\]\(#([^)\s]+)\)")
GOING_AWAY = 1001


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def save_program(page: str, folder: Path) -> Path:
    """The program of a page, saved away from the tree, with a port that is free."""
    programs = PROGRAM.findall((ROOT / page).read_text())
    assert len(programs) == 1, page
    text = programs[0]
    assert "8080" in text
    program = folder / "program.py"
    program.write_text(text.replace("8080", str(free_port())))
    return program


def test_the_program_of_the_readme_sends_the_time_and_answers(tmp_path: Path) -> None:
    async def story(url: str) -> None:
        async with websockets.connect(url) as client:
            await client.send("hello")
            heard = [str(await client.recv()) for _ in range(3)]
            heard.remove("hello")
            assert all(re.fullmatch(r"\d\d:\d\d:\d\d", each) for each in heard)

    with running(save_program("README.md", tmp_path)) as (url, _):
        asyncio.run(story(url))


def test_ctrl_c_closes_the_clients_of_the_program_of_the_readme(tmp_path: Path) -> None:
    async def story(url: str, process: subprocess.Popen[str]) -> None:
        async with websockets.connect(url) as client:
            process.send_signal(signal.SIGINT)
            await client.wait_closed()
            assert client.close_code == GOING_AWAY

    with running(save_program("README.md", tmp_path)) as (url, process):
        asyncio.run(story(url, process))
        process.wait(PATIENCE)


def test_the_program_about_topics_has_rooms(tmp_path: Path) -> None:
    async def story(url: str) -> list[str | bytes]:
        async with (
            websockets.connect(f"{url}/kitchen") as ann,
            websockets.connect(f"{url}/kitchen") as ben,
            websockets.connect(f"{url}/kitchen") as cid,
            websockets.connect(f"{url}/cellar") as dan,
            websockets.connect(f"{url}/cellar") as eve,
        ):
            await ann.send("from ann")
            heard = [await ben.recv(), await cid.recv()]
            await ben.send("from ben")
            heard += [await ann.recv(), await cid.recv()]
            await dan.send("from dan")
            return [*heard, await eve.recv()]

    with running(save_program("docs/topics.md", tmp_path)) as (url, _):
        heard = asyncio.run(story(url))
        assert heard == ["from ann", "from ann", "from ben", "from ben", "from dan"]


def anchors(page: Path) -> set[str]:
    """The names of its headings, as hosts of repositories make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


def test_links_lead_somewhere() -> None:
    found = 0
    for page in PAGES:
        for file, anchor, here in LINK.findall(page.read_text()):
            if "://" in file:
                continue
            found += 1
            target = page.parent / file if file else page
            assert target.exists(), f"{page.name}: {file}"
            name = anchor or here
            assert not name or name in anchors(target), f"{page.name}: {file}#{name}"
    assert found > 10
