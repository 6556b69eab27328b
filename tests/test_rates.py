"""Rates of a client: who sends too much is slowed down, who asks too often gets 429; both loops."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from handler_apps import eventually
from support import PATIENCE, UPGRADE, Client, Site, balances, client_frame, http_request
from test_cli import command as fastws_command
from test_cli import serving
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import InvalidStatus

from fastws import Connection, Limits, Server, serve
from fastws.ticks.config import FEED_LIMITS

Run = Callable[[Any], Any]
TEXT = 1


async def echo(ws: Connection) -> None:
    async for message in ws:
        await ws.send(message)


def uri_of(server: Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"ws://{host}:{port}"


async def flood(uri: str, n: int, message: str | bytes = "x") -> float:
    """Send n messages at once and take their echoes, in order; the seconds that it took."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE), connect(uri, compression=None) as client:
        for i in range(n):
            await client.send(f"{i} {message!r}")
        for i in range(n):
            assert await client.recv() == f"{i} {message!r}"
    return time.monotonic() - began


# Messages and bytes.


def test_a_client_that_floods_is_slowed_and_loses_nothing_and_others_notice_nothing(
    run: Run,
) -> None:
    async def case() -> None:
        async with serve(echo, limits=Limits(message_rate=50)) as server:
            loud = asyncio.create_task(flood(uri_of(server), 150))
            async with connect(uri_of(server), compression=None) as quiet:
                await eventually(lambda: server.counters()["message_rate_paused"])
                for i in range(40):  # within its own rate
                    await quiet.send(str(i))
                    assert await quiet.recv() == str(i)
            assert not loud.done()
            assert 1.75 <= await loud < 10  # 50 at once, and 100 in two seconds
            assert not server.counters()["byte_rate_paused"]

    run(case())


def test_bytes_past_the_rate_come_later(run: Run) -> None:
    async def case() -> None:
        async with serve(echo, limits=Limits(byte_rate=50_000)) as server:
            assert 1.75 <= await flood(uri_of(server), 150, "x" * 985) < 10
            assert server.counters()["byte_rate_paused"]
            assert not server.counters()["message_rate_paused"]

    run(case())


def test_compressed_bytes_count_as_they_come_in(run: Run) -> None:
    async def case() -> None:
        limits = Limits(byte_rate=5000)
        async with (
            serve(echo, limits=limits, deflate=True) as server,
            connect(uri_of(server)) as client,
        ):
            for _ in range(3):
                await client.send("x" * 100_000)
                assert len(await client.recv()) == 100_000
            assert not server.counters()["byte_rate_paused"]

    run(case())


def test_a_flood_of_pings_is_slowed(run: Run) -> None:
    async def case() -> None:
        async with Site(message_rate=20) as site, await site.websocket() as client:
            await client.send(b"".join(client_frame(9, b"%d" % i) for i in range(50)))
            answered = [int((await client.frame())[1])]
            while answered[-1] != 49:
                answered.append(int((await client.frame())[1]))
            # 20 at once; of those that wait the last one is answered for all (RFC 6455 5.5.3).
            assert answered[:20] == list(range(20))
            assert answered == sorted(set(answered))
            assert len(answered) < 50
            assert site.feed.server.counters()["message_rate_paused"] > 0

    run(case())


def test_one_that_is_slowed_still_gets_its_ticks(run: Run) -> None:
    async def case() -> None:
        async with Site(message_rate=1, rate=1000) as site, await site.websocket() as client:
            await client.send(client_frame(TEXT, b"{}") * 200)
            while not site.feed.server.counters()["message_rate_paused"]:
                await client.tick()
            for _ in range(500):
                await client.tick()
            assert balances((await site.stats())["server"])

    run(case())


# Requests of an address.


async def answer_from(host: str, server: Server) -> tuple[int, str | None]:
    """What a handshake from that address of this machine is answered with, and Retry-After."""
    try:
        async with connect(uri_of(server), local_addr=(host, 0)):
            return 101, None
    except InvalidStatus as refused:
        return refused.response.status_code, refused.response.headers.get("Retry-After")


def test_handshakes_past_the_rate_get_429_and_another_address_gets_in(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        limits = Limits(handshake_rate=5, exempt_addresses=())
        async with serve(echo, limits=limits) as server:
            answers = [await answer_from("127.0.0.1", server) for _ in range(12)]
            assert answers[:5] == [(101, None)] * 5
            assert (429, "1") in answers[5:]
            assert await answer_from("127.0.0.2", server) == (101, None)
            async with asyncio.timeout(PATIENCE):
                while await answer_from("127.0.0.1", server) != (101, None):
                    pass
            await eventually(lambda: len(caplog.records) >= 2)

    with caplog.at_level(logging.WARNING, "fastws"):
        run(case())
    first, second = (record.getMessage() for record in caplog.records[:2])
    assert first.startswith("127.0.0.1 has sent more requests in a second than handshake_rate")
    assert "exempt_addresses" in first
    assert "handshakes_refused" in second
    assert "(handshake_rate, last: 127.0.0.1)" in second


def test_plain_requests_of_one_connection_count_and_the_answer_ends_it(run: Run) -> None:
    async def case() -> None:
        async with Site(handshake_rate=3, exempt_addresses=()) as site, await site.dial() as client:
            for _ in range(3):
                await client.send(http_request("GET", "/config"))
                assert (await client.response()).status == 200
            await client.send(http_request("GET", "/config"))
            refused = await client.response()
            assert (refused.status, refused.headers["retry-after"]) == (429, "1")
            assert refused.headers["connection"] == "close"
            assert refused.body == b"Too many requests from this address"
            assert await client.ended()

    run(case())


@pytest.mark.parametrize(
    ("exempt", "host", "counts"),
    [
        (Limits().exempt_addresses, "127.0.0.1", False),
        ((), "127.0.0.1", True),
        (["127.0.0.2"], "127.0.0.1", True),
        (["127.0.0.2"], "127.0.0.2", False),
        (["10.0.0.0/8", "127.0.0.0/30"], "127.0.0.3", False),
        (["127.0.0.0/30"], "127.0.0.4", True),
        (["0.0.0.0/0"], "127.0.0.4", False),
        (["::ffff:127.0.0.0/104"], "127.9.9.9", False),
        (["::/0"], "127.0.0.4", False),
    ],
)
def test_exempt_addresses_are_not_counted(
    run: Run, exempt: Sequence[str], host: str, counts: bool
) -> None:
    async def case() -> None:
        limits = Limits(handshake_rate=1, max_per_address=1, exempt_addresses=tuple(exempt))
        async with serve(echo, limits=limits) as server, AsyncExitStack() as stack:
            await stack.enter_async_context(connect(uri_of(server), local_addr=(host, 0)))
            expected = 429 if counts else 101
            assert (await answer_from(host, server))[0] == expected
            assert (server.counters()["handshakes_refused"] > 0) == counts

    run(case())


def test_a_unix_socket_has_no_address_to_count(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        limits = Limits(handshake_rate=1, max_per_address=1, exempt_addresses=())
        path = tmp_path / "s"
        async with serve(echo, unix=str(path), limits=limits) as server, AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(unix_connect(str(path)))
            assert server.counters()["accepted"] == 3
            assert not server.counters()["handshakes_refused"]

    run(case())


def test_by_default_no_address_takes_every_connection(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        async with Site(max_connections=4, exempt_addresses=()) as site, AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(await site.websocket())
            async with await site.dial() as fourth:
                await fourth.send(UPGRADE)
                assert (await fourth.response()).status == 429
            other = await answer_from("127.0.0.2", site.feed.server)
            assert other == (101, None)
            await eventually(lambda: len(caplog.records) >= 2)

    with caplog.at_level(logging.WARNING, "fastws"):
        run(case())
    first, second = (record.getMessage() for record in caplog.records[:2])
    assert first.startswith("127.0.0.1 has as many connections as max_per_address allows")
    assert "address_refused 1 (max_per_address, last: 127.0.0.1)" in second


# The defaults of `fastws serve`.


def test_the_clients_of_the_feed_meet_none_of_its_rates(run: Run) -> None:
    """A browser's 255 WebSockets, opened again and again at once; each says what it always does."""
    identify = client_frame(TEXT, b'{"type":"identify","clientId":"page"}')
    stats = client_frame(TEXT, b'{"type":"stats","clientId":"page","messagesPerSec":1.5}')

    async def page(site: Site) -> list[Client]:
        clients = await asyncio.gather(*(site.websocket() for _ in range(255)))
        for client in clients:
            await client.send(identify + stats + client_frame(9, b"here"))
            assert await client.until(10) == b"here"
        return clients

    async def case() -> None:
        rates = {"message_rate": FEED_LIMITS.message_rate, "byte_rate": FEED_LIMITS.byte_rate}
        assert all(rates.values())
        async with Site(exempt_addresses=(), **rates) as site:
            for _ in range(3):
                for client in await page(site):
                    client.sock.close()
                await site.sockets(0)
            counters = site.feed.server.counters()
            assert counters["handshakes_refused"] == counters["address_refused"] == 0
            assert counters["message_rate_paused"] == counters["byte_rate_paused"] == 0

    run(case())


@pytest.mark.slow
def test_a_thousand_clients_of_bench_are_served_by_default() -> None:
    with serving("--rate", "100") as (_, port, _):
        uri = f"ws://127.0.0.1:{port}"
        done = fastws_command("bench", uri, "--clients", "1000", "--duration", "1")
        assert done.returncode == 0, done.stderr
        assert "refused" not in done.stderr


def test_none_empties_the_list_of_the_command_line() -> None:
    with serving("--exempt-addresses", "none", "--handshake-rate", "1") as (_, port, _):

        async def case() -> list[int]:
            async with connect(f"ws://127.0.0.1:{port}"):
                pass
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://127.0.0.1:{port}"):
                    pass
            return [refused.value.response.status_code]

        assert asyncio.run(case()) == [429]
