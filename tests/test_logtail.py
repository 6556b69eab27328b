"""The log tail of the examples: a file that grows, is rotated and truncated; its page."""

import asyncio
import os
from pathlib import Path

import websockets
from browser import browsing, instrumented, no_browser
from programs import PATIENCE, running

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "logtail.py"


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


async def heard(client: websockets.ClientConnection, n: int) -> list[str | bytes]:
    async with asyncio.timeout(PATIENCE):
        return [await client.recv() for _ in range(n)]


def test_lines_come_from_the_end_on_and_whole(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("before\n")

    async def story(url: str) -> None:
        async with websockets.connect(f"{url}/lines") as client:
            append(log, "größe\n\nhal".encode())
            assert await heard(client, 2) == ["größe", ""]
            append(log, b"f\n\xff\n")
            assert await heard(client, 2) == ["half", "\ufffd"]
            append(log, b"".join(b"%d\n" % i for i in range(100_000)))
            assert await heard(client, 100_000) == [str(i) for i in range(100_000)]

    with running(EXAMPLE, str(log), "0") as (url, _):
        asyncio.run(story(url))


def test_a_rotation_and_a_truncation_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("")

    async def story(url: str) -> None:
        async with websockets.connect(f"{url}/lines") as client:
            append(log, b"one\n")
            os.rename(log, tmp_path / "app.log.1")
            append(tmp_path / "app.log.1", b"two\n")  # by who has it still open
            append(log, b"three\n")
            assert await heard(client, 3) == ["one", "two", "three"]
            os.truncate(log, 0)
            append(log, b"4\n")
            assert await heard(client, 1) == ["4"]

    with running(EXAMPLE, str(log), "0") as (url, _):
        asyncio.run(story(url))


@no_browser
@instrumented
def test_its_page_shows_the_newest_lines(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("")

    async def story(url: str) -> None:
        async with browsing(url.replace("ws:", "http:") + "/", tmp_path / "profile") as page:
            await page.until("ws.readyState === WebSocket.OPEN")
            append(log, b"one\n<b>two</b>\n")
            shown = "document.querySelector('pre').textContent"
            await page.until(f"{shown} === 'one\\n<b>two</b>'")
            append(log, b"".join(b"%d\n" % i for i in range(1000)))
            await page.until(f"{shown}.endsWith('\\n999')")
            assert (await page.value(shown)).split("\n") == [str(i) for i in range(500, 1000)]
            assert page.complaints == []

    with running(EXAMPLE, str(log), "0") as (url, _):
        asyncio.run(story(url))
