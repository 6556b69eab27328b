"""What one client of the tick feed can cost: messages, rows of the console, /stats."""

import zlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from support import CLOSE, PING, PONG, TEXT, UPGRADE, Site, client_frame, close_payload

from fastws.ticks.console import console_lines
from fastws.ticks.reports import ClientReports, Stats

Run = Callable[[Any], Any]
LIMIT = 16 * 1024
NASTY = "\U000e0001"  # one character that is shown as ten
NAMES = [
    NASTY * 122 + "{:06d}", "\x01" * 120 + "{:08d}", "\x1b[2J\x1b]0;owned\x07{}", "\r\n{}",
    "\N{RIGHT-TO-LEFT OVERRIDE}{}", '"' * 120 + "{}", "\N{GRINNING FACE}" * 100 + "{}",
]  # fmt: skip


def text_of(n: int) -> bytes:
    """A JSON message of so many bytes that parses, and means nothing."""
    return b'{"type":"' + b"x" * (n - 11) + b'"}'


def flood(name: str, n: int = 1000) -> ClientReports:
    reports = ClientReports()
    for i in range(n):
        reports.update(Stats(name.format(i)[:128], 2**53, -(2**53), 1e-300, 2.0**53), 0)
    return reports


# Messages.


def test_a_message_of_16_kib_is_read_and_a_larger_one_is_1009(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client:
            await client.send(client_frame(TEXT, text_of(LIMIT)) + client_frame(PING, b"read"))
            assert await client.until(PONG) == b"read"
            assert site.feed.ignored_messages == 1
            await client.send(client_frame(TEXT, text_of(LIMIT + 1)))
            assert (await client.until(CLOSE))[:2] == close_payload(1009)
            assert site.feed.ignored_messages == 1

    run(story())


def test_the_limit_holds_for_fragments_and_for_what_is_inflated(run: Run) -> None:
    async def story() -> None:
        async with Site(deflate=True) as site:
            async with await site.websocket() as client:
                half = b"x" * (LIMIT // 2 + 1)
                await client.send(client_frame(TEXT, half, fin=False) + client_frame(0, half))
                assert (await client.until(CLOSE))[:2] == close_payload(1009)
            async with await site.dial() as client:
                offer = b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
                await client.send(UPGRADE[:-2] + offer)
                assert b"permessage-deflate" in await client.head()
                packed = zlib.compressobj(9, zlib.DEFLATED, -15)
                bomb = packed.compress(b"[" + b"0," * 524_000) + packed.flush(zlib.Z_SYNC_FLUSH)
                assert len(bomb) < 2048
                frame = bytearray(client_frame(TEXT, bomb[:-4]))
                frame[0] |= 0x40  # RSV1: it is compressed
                await client.send(bytes(frame))
                assert (await client.until(CLOSE))[:2] == close_payload(1009)
            assert site.feed.ignored_messages == 0

    run(story())


# The console.


@pytest.mark.parametrize("name", NAMES)
def test_a_block_of_the_console_is_short_and_printable_whatever_clients_say(name: str) -> None:
    lines = console_lines("max", 2**63, flood(name).recent(0), 2**63, 1e9)
    assert len(lines) == 23
    assert all(line.isprintable() for line in lines)
    assert max(map(len, lines)) <= 160
    assert lines[-2].strip() == "and 980 more (GET /stats has a hundred)"
    assert sum(map(len, lines)) < 4096  # a second: at most 350 MB a day, whoever tries


def test_twenty_clients_have_a_row_each_and_short_names_stay_whole() -> None:
    lines = console_lines(1, 1, flood("a-client-with-a-name-of-{:07d}", 20).recent(0))
    assert len(lines) == 21
    assert lines[1].startswith("        a-client-with-a-name-of-0000000: ")
    assert "more" not in lines[-1]


# /stats.


@pytest.mark.parametrize("name", NAMES)
def test_what_clients_report_has_32_kib_in_stats(name: str) -> None:
    reports = flood(name)
    rows = reports.to_wire()
    assert len(orjson.dumps(rows)) <= 34 * 1024
    assert len(rows) >= 12
    assert list(rows)[-1] == name.format(999)[:128]  # those heard of last


def test_a_hundred_usual_names_are_all_there() -> None:
    rows = flood("browser-headless-{}").to_wire()
    assert list(rows) == [f"browser-headless-{i}" for i in range(900, 1000)]
