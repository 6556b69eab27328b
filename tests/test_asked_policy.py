"""What a client asks for by ?onSlow=: at the rate max, and of lines, it holds nobody."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from line_site import LineSite, numbered, texts, until_close
from support import UPGRADE_FIELDS, Site, close_payload

Run = Callable[[Any], Any]
LATEST = "/?onSlow=latest"


def test_who_asks_for_the_latest_does_not_hold_the_ticks_at_max(run: Run) -> None:
    async def case() -> None:
        async with (
            Site(rate="max") as site,
            await site.websocket(path=LATEST, receive_buffer=1 << 14),
            await site.websocket() as reader,
        ):
            server = site.feed.server
            for _ in range(20_000):
                await reader.frame()
            # One that does not read would have held all of them at 256 KiB, some 4,500 ticks.
            assert len(server.connections) == 2
            account = (await site.stats())["server"]
            assert account["dropped"] > 0

    run(case())


def test_who_asks_for_the_latest_does_not_hold_the_lines(run: Run, tmp_path: Path) -> None:
    lines = numbered(60_000)

    async def case() -> None:
        async with (
            LineSite(tmp_path, max_lag_bytes=64 << 10) as site,
            await site.websocket(path="/any" + LATEST, receive_buffer=1 << 14) as slow,
            await site.websocket() as reader,
        ):
            writing = asyncio.create_task(site.write(b"\n".join([*lines, b""])))
            assert await texts(reader, len(lines)) == lines
            await writing
            found: list[bytes] = []
            while not found or found[-1] != lines[-1]:
                found += await texts(slow, 1)
            assert len(found) < len(lines)
            assert site.feed.stats()["server"]["dropped"] == len(lines) - len(found)

    run(case())


def test_who_asks_to_be_closed_is_closed(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with (
            LineSite(tmp_path) as site,
            await site.websocket(path="/?onSlow=close", receive_buffer=1 << 14) as slow,
        ):
            await site.write(b"\n".join([*numbered(30_000), b""]))
            _, close = await until_close(slow)
            assert close[:2] == close_payload(1013)

    run(case())


@pytest.mark.parametrize("asked", ["lossless", "", "latest%00"])
def test_another_policy_is_refused(run: Run, asked: str) -> None:
    async def case() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(f"GET /?onSlow={asked} HTTP/1.1\r\n{UPGRADE_FIELDS}".encode())
            answer = await client.response()
            assert answer.status == 400
            assert answer.body == b"onSlow must be one of latest, drop_oldest, close"

    run(case())
