"""The feed of lines: what its clients get, how slow ones are treated; both loops."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from line_site import LineSite, numbered, texts, until_close
from support import UPGRADE, balances, close_payload, open_files

from fastws import ConfigError, ServeOptions
from fastws.lines.config import LinesOptions
from fastws.lines.feed import LinesFeed

Run = Callable[[Any], Any]


def test_each_line_is_a_text_for_every_client_in_order(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with (
            LineSite(tmp_path) as site,
            await site.websocket() as one,
            await site.websocket(path="/any/path") as two,
        ):
            await site.write("grüß\r\n\nthird\nnot who".encode())
            for client in (one, two):
                assert await texts(client, 3) == ["grüß".encode(), b"", b"third"]
            await site.write(b"le\n")
            for client in (one, two):
                assert await texts(client, 1) == [b"not whole"]

    run(case())


def test_thousands_of_lines_come_whole_and_in_order(run: Run, tmp_path: Path) -> None:
    lines = numbered(30_000)

    async def case() -> None:
        async with LineSite(tmp_path) as site, await site.websocket() as client:
            writing = asyncio.create_task(site.write(b"\n".join(lines)))  # no newline at the end
            found = await texts(client, len(lines) - 1)
            await writing
            site.end()
            assert found + await texts(client, 1) == lines

    run(case())


def test_a_new_client_gets_the_last_lines_and_what_follows(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, last=3) as site:
            await site.write(b"1\n2\n3\n4\n5\n")
            await site.until(lambda: site.feed.stats()["source"]["published"] == 5)
            async with await site.websocket() as client:
                assert await texts(client, 3) == [b"3", b"4", b"5"]
                await site.write(b"6\n")
                assert await texts(client, 1) == [b"6"]

    run(case())


def test_the_last_lines_are_there_for_each_that_comes_however_long(
    run: Run, tmp_path: Path
) -> None:
    async def case() -> None:
        lines = [f"{i} ".encode().ljust(60_000, b"x") for i in range(1000)]
        async with LineSite(tmp_path, last=50, wait_for=0) as site:
            await site.write(b"\n".join([*lines, b""]))
            await site.until(lambda: site.feed.stats()["source"]["published"] == 1000)
            for _ in range(2):
                async with await site.websocket() as client:
                    assert await texts(client, 50) == lines[-50:]

    run(case())


def test_of_the_last_lines_a_client_gets_those_that_are_kept(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        lines = [f"{i} ".encode().ljust(2000, b"x") for i in range(3000)]
        options: dict[str, Any] = {"max_log_bytes": 1 << 20, "last": 1000, "on_slow": "latest"}
        async with LineSite(tmp_path, **options) as site:
            await site.write(b"\n".join([*lines, b""]))
            await site.until(lambda: site.feed.stats()["source"]["published"] == 3000)
            async with await site.websocket() as client:
                await site.write(b"behind\n")
                got = await texts(client, 1)
                while got[-1] != b"behind":
                    got += await texts(client, 1)
                assert 100 < len(got) < 1000
                assert got == [*lines, b"behind"][-len(got) :]

    run(case())


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        ("https://evil.example", (), b"403"),
        ("http://localhost:3000", (), b"101"),
        ("https://panel.example", ("https://panel.example",), b"101"),
        ("http://localhost:3000", ("https://panel.example",), b"403"),
    ],
)
def test_lines_are_for_pages_of_this_machine_unless_others_are_named(
    run: Run, tmp_path: Path, origin: str, allowed: tuple[str, ...], status: bytes
) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, allowed_origins=allowed) as site, await site.dial() as client:
            await client.send(UPGRADE[:-2] + f"Origin: {origin}\r\n\r\n".encode())
            assert (await client.head()).split()[1] == status

    run(case())


def test_without_last_lines_it_begins_with_what_follows(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, last=0) as site:
            await site.write(b"before\n")
            await site.until(lambda: site.feed.stats()["source"]["published"] == 1)
            async with await site.websocket() as client:
                await site.write(b"behind\n")
                assert await texts(client, 1) == [b"behind"]

    run(case())


def test_the_source_waits_for_clients(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, wait_for=2, last=0) as site:
            await site.write(b"first\n")
            async with await site.websocket() as one:
                assert site.feed.stats()["source"] == {
                    "name": "fifo", "topic": "lines", "state": "waiting",
                    "lines": 0, "published": 0, "rate": 0, "notUtf8": 0, "cut": 0,
                }  # fmt: skip
                async with await site.websocket() as two:
                    assert await texts(one, 1) == await texts(two, 1) == [b"first"]

    run(case())


# Slow clients.


def test_lossless_holds_the_source_for_a_slow_client(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = numbered(60_000)

    async def case() -> None:
        async with (
            LineSite(tmp_path, max_lag_bytes=64 << 10) as site,
            await site.websocket(receive_buffer=1 << 14) as client,
        ):
            writing = asyncio.create_task(site.write(b"\n".join([*lines, b""])))
            await site.until(lambda: site.feed.stats()["source"]["state"] == "held")
            held = site.feed.stats()["source"]["published"]
            assert held < len(lines)
            assert await texts(client, len(lines)) == lines
            await writing
            account = site.feed.stats()["server"]
            assert balances(account)
            assert account["dropped"] == 0
            counters = site.feed.server.counters()
            assert counters["log_full"] > 0
            site.feed.server.limit_log.stop()
            site.feed.server.limit_log.start()  # looks at the counters now
            assert caplog.messages == []

    run(case())


def test_latest_leaves_lines_out_and_counts_them(run: Run, tmp_path: Path) -> None:
    lines = numbered(100_000)

    async def case() -> None:
        async with (
            LineSite(tmp_path, on_slow="latest", max_lag_bytes=64 << 10) as site,
            await site.websocket(receive_buffer=1 << 14) as client,
        ):
            await site.write(b"\n".join([*lines, b""]))
            site.end()
            await site.until(lambda: site.feed.stats()["source"]["state"] == "ended")
            found: list[bytes] = []
            while not found or found[-1] != lines[-1]:
                found += [payload for _, payload in await client.frames(1)]
            account = site.feed.stats()["server"]
            assert account["dropped"] == len(lines) - len(found) > 0
            assert found == sorted(found, key=lambda line: int(line.split()[0]))

    run(case())


def test_close_ends_a_slow_client_with_1013(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with (
            LineSite(tmp_path, on_slow="close", max_lag_bytes=64 << 10) as site,
            await site.websocket(receive_buffer=1 << 14) as client,
        ):
            await site.write(b"\n".join([*numbered(100_000), b""]))
            found, close = await until_close(client)
            assert close[:2] == close_payload(1013)
            assert found == numbered(len(found))

    run(case())


# The pace of a file.


def test_a_file_is_sent_at_the_rate_and_repeated(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one\ntwo\nthree")
    options = {"source": str(path), "rate": 100, "wait_for": 1, "repeat": True}

    async def case() -> None:
        async with LineSite(tmp_path, **options) as site:
            began = time.monotonic()
            async with await site.websocket() as client:
                found = [(await client.frame())[1] for _ in range(31)]
                assert time.monotonic() - began >= 30 / 100 - 0.01
                assert found == [b"one", b"two", b"three"] * 10 + [b"one"]

    run(case())


def test_an_empty_file_is_not_repeated(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")

    async def case() -> None:
        async with LineSite(tmp_path, source=str(path), repeat=True) as site:
            await site.finished()

    run(case())


def test_without_a_rate_a_file_is_sent_at_once(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    lines = numbered(20_000)
    path.write_bytes(b"\n".join(lines))

    async def case() -> None:
        async with (
            LineSite(tmp_path, source=str(path), wait_for=1) as site,
            await site.websocket() as client,
        ):
            assert await texts(client, len(lines)) == lines
            await site.finished()

    run(case())


# HTTP, and what is shown.


def test_http_has_the_page_and_the_counts(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, topic="log") as site, await site.websocket() as client:
            await site.write(b"one\n")
            await texts(client, 1)
            stats = (await site.http("GET", "/stats")).json
            assert stats["source"]["topic"] == "log"
            assert stats["source"]["published"] == 1
            assert stats["server"]["connections"] == 1
            assert stats["server"]["topics"]["log"]["delivered"] == 1
            assert [each["clientId"] for each in stats["server"]["clients"]] == [""]
            answers = [
                (await site.http(method, path)).status
                for method, path in (
                    ("GET", "/"), ("GET", "/healthz"), ("GET", "/stats/"), ("OPTIONS", "/stats"),
                    ("GET", "/config"), ("POST", "/stats"), ("DELETE", "/stats"),
                )
            ]  # fmt: skip
            assert answers == [200, 200, 200, 204, 404, 405, 405]

    run(case())


def test_a_row_a_second_says_what_there_is(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        said: list[str] = []
        async with (
            LineSite(tmp_path, lines=said.append) as site,
            await site.websocket(),
            await site.websocket(),
        ):
            await site.write(b"one\n" * 500)
            await site.until(lambda: said)
        row = said[0].split(" | ")
        assert row[0].startswith("[Lines] ")
        assert row[2:] == ["connections: 2", "lag: 0.0s", "dropped: 0/s", "reading"]
        assert row[0] != "[Lines] 0/s"
        assert row[1] != "delivered: 0/s"

    run(case())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"source": ""}, "source: must be - or the path of a file"),
        ({"topic": "two words"}, "topic: must be visible ASCII without blanks"),
        ({"rate": 0}, "rate: of a source must be more than 0"),
        ({"max_line": 3}, "max_line: must be an integer from 4 to 16,777,216"),
        ({"last": 1001}, "last: must be an integer from 0 to 1,000"),
        ({"wait_for": -1}, "wait_for: must be an integer from 0 to 10,000,000"),
        ({"repeat": True}, "repeat: needs a file: standard input cannot begin again"),
    ],
)
def test_a_bad_option_is_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LinesOptions(**options)
    assert str(caught.value) == line


def test_a_source_that_is_not_there_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(ConfigError, match="No such file"):
        LinesFeed(ServeOptions(port=0), LinesOptions(source=str(tmp_path / "none")))
    assert open_files() == before
