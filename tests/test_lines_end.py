"""The end of a feed of lines: of its source, of the server, of the loop; both loops."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from line_site import LineSite, numbered, texts, until_close
from support import close_payload, open_files

from fastws import ServeOptions
from fastws.lines.config import LinesOptions
from fastws.lines.feed import LinesFeed

Run = Callable[[Any], Any]


def test_the_end_comes_behind_the_last_line(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        said: list[str] = []
        async with LineSite(tmp_path, lines=said.append) as site, await site.websocket() as client:
            await site.write(b"one\nlast")
            site.end()
            await site.finished()
            stopping = asyncio.create_task(site.feed.stop())
            assert await until_close(client) == (
                [b"one", b"last"],
                close_payload(1001, "end of the source"),
            )
            client.sock.close()
            await stopping
            assert site.feed.status == 0
            assert said == [f"end of {tmp_path / 'fifo'}: 2 lines"]
            assert site.feed.summary().startswith(
                "2 lines; connections: 1, 1 at once at most, in 0."
            )
            assert site.feed.summary().endswith("s: 2 messages delivered, 0 dropped")

    run(case())


def test_the_end_waits_for_a_client_that_takes_its_time(run: Run, tmp_path: Path) -> None:
    lines = numbered(50_000)

    async def case() -> None:
        async with (
            LineSite(tmp_path) as site,
            await site.websocket(receive_buffer=1 << 14) as client,
        ):
            await site.write(b"\n".join(lines))
            site.end()
            await site.until(lambda: site.feed.stats()["source"]["state"] == "ended")
            ending = asyncio.create_task(site.finished())
            await asyncio.sleep(0)
            assert not ending.done()
            assert await texts(client, len(lines)) == lines
            await ending

    run(case())


def test_keep_open_goes_on_serving(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, keep_open=True) as site:
            await site.write(b"one\ntwo\n")
            site.end()
            await site.until(lambda: site.feed.stats()["source"]["state"] == "ended")
            async with await site.websocket() as client:
                assert await texts(client, 2) == [b"one", b"two"]
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(site.feed.finished(), 0.05)

    run(case())


def test_a_source_that_fails_is_said_and_ends_with_status_1(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, source="/proc/self/mem") as site:  # EIO at address 0
            await site.finished()
            assert site.feed.status == 1

    run(case())
    assert caplog.messages == ["/proc/self/mem cannot be read: Input/output error"]


def test_odd_lines_are_said_once_and_counted(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, max_line=10) as site, await site.websocket() as client:
            await site.write(b"fine\n\xff\n\xfe\n0123456789a\n0123456789b")
            site.end()
            await site.finished()
            found = [(await client.frame())[1] for _ in range(5)]
            odd = "\ufffd".encode()
            assert found == [b"fine", odd, odd, b"0123456789", b"0123456789"]
            source = site.feed.stats()["source"]
            assert (source["lines"], source["notUtf8"], source["cut"]) == (5, 2, 2)
            assert site.feed.summary().startswith(
                "5 lines, 2 not UTF-8 (the first: 2), 2 cut (the first: 4); "
            )

    run(case())
    assert caplog.messages == [
        "line 2 is not UTF-8: sent with U+FFFD for what is not; others are counted",
        "line 4 is longer than 10 bytes (--max-line) and was cut; others are counted",
    ]


def test_close_lets_go_of_the_source(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        before = open_files()
        async with LineSite(tmp_path) as site:
            await site.write(b"one\n")
        site.feed.close()
        assert open_files() == before

    run(case())


def test_it_can_be_closed_when_its_loop_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    before = open_files()
    feed = LinesFeed(ServeOptions(port=0), LinesOptions(source=str(path)))

    async def case() -> None:
        feed.listen()
        feed.start()

    asyncio.run(case())
    feed.close()
    assert open_files() == before
