"""The README's examples are run as they stand there, with clients that are not ours."""

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import websockets
from surroundings import UNDER

README = Path(__file__).resolve().parent.parent / "README.md"


def example(number: int) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2, "the README has two Python examples"
    return str(blocks[number])


@contextmanager
def running(program: Path) -> Iterator[str]:
    """The address that a program says it listens on; at the end Ctrl-C ends it without an error."""
    process = subprocess.Popen(
        [*UNDER, sys.executable, "-u", str(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert "Traceback" not in errors or "KeyboardInterrupt" in errors


async def first_message(url: str) -> str | bytes:
    async with websockets.connect(url) as client:
        return await client.recv()


def test_the_first_example_of_the_readme_tells_the_time(tmp_path: Path) -> None:
    program = tmp_path / "clock.py"
    program.write_text(example(0))
    with running(program) as url:
        assert re.fullmatch(r"\d\d:\d\d:\d\d", str(asyncio.run(first_message(url))))


async def talk(url: str) -> list[str | bytes]:
    """Three clients in one room and two in another, who hear nothing of the first room."""
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


def test_the_second_example_of_the_readme_has_rooms(tmp_path: Path) -> None:
    program = tmp_path / "rooms.py"
    program.write_text(example(1))
    with running(program) as url:
        heard = asyncio.run(talk(url))
        assert heard == ["from ann", "from ann", "from ben", "from ben", "from dan"]
