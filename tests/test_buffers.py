"""What waits in user memory, apart from the logs: one budget, by what is allocated."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import pytest
from handler_apps import eventually, serving, websocket
from support import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    TEXT,
    UPGRADE,
    Client,
    Rig,
    Site,
    client_frame,
    close_payload,
    http_request,
)
from surroundings import INSTRUMENTED

from fastws import App, ConfigError, Connection, Limits, LogFull, Request, Response, Server
from fastws.feeds.stats import Shared
from fastws.server.memory import memory_budget

Run = Callable[[Any], Any]
KIB, MIB = 1 << 10, 1 << 20
SMALL = 4096  # a receive buffer that is full soon
ONE_TURN = 2 * 512 * KIB  # what a turn may receive, in buffers that have grown to twice that
PAGE = bytes(200 * KIB)


# An engine by hand.


def test_an_empty_message_that_waits_takes_ten_bytes() -> None:
    with Rig(outbox_limit=8 * MIB) as rig:
        connection, _ = rig.connect(receive_buffer=SMALL)
        rig.engine.turn()
        assert rig.engine.buffered_bytes == 0
        for _ in range(500_000):
            connection.send_nowait(b"")
        assert connection.buffered_amount <= 1_000_000
        assert rig.engine.buffered_bytes < 10.5 * 500_000


def test_many_small_messages_to_many_stay_within_the_budget() -> None:
    with Rig(max_buffered_bytes=MIB, outbox_limit=MIB) as rig:
        stalled = [rig.connect(receive_buffer=SMALL) for _ in range(50)]
        connection, healthy = rig.connect()
        refused, most = 0, 0
        for i in range(3000):
            for other, _ in stalled:
                try:
                    if other.is_open:
                        other.send_nowait(b"x" * 20)
                except LogFull:
                    refused += 1
            most = max(most, rig.engine.buffered_bytes)
            if i % 10 == 0:
                connection.send_nowait(b"well")
                rig.until(lambda: healthy.pull().payloads)
                assert healthy.payloads == [b"well"]
                healthy.frames.clear()
        counters = rig.engine.counters()
        assert MIB // 2 < most <= MIB + 8 * KIB
        assert counters["log_full"] == refused > 0
        assert counters["buffered_closed"] == len([c for c, _ in stalled if not c.is_open]) > 0
        told = []
        for other, peer in stalled:
            if not other.is_open:
                rig.until(lambda peer=peer: peer.pull().ended)
                told.append(peer.frames[-1])
        assert set(told) == {(CLOSE, close_payload(1013, "memory limit"))}
        assert not rig.errors


@pytest.mark.parametrize("cut", [1, 2, 5, 100, 5000, 299_000])
def test_a_partial_message_counts_from_its_first_byte(cut: int) -> None:
    with Rig(max_buffered_bytes=8 * MIB) as rig:
        _, peer = rig.connect()
        frame = client_frame(BINARY, bytes(300_000), fin=False)
        peer.send(frame[:cut])
        rig.until(lambda: cut <= 14 or rig.engine.buffered_bytes >= cut - 14)
        assert rig.engine.buffered_bytes < 2 * cut + KIB
        peer.send(frame[cut:] + client_frame(0, b"!"))
        rig.until(lambda: rig.messages)
        assert rig.engine.buffered_bytes == 0


# A server, both loops.


class Worst(App):
    """Echoes, answers GET with a large page."""

    def message(self, connection: Connection, message: str | bytes) -> None:
        with suppress(LogFull):
            connection.send_nowait(message)

    def http(self, request: Request) -> Response:
        return Response(200, PAGE)


HALF = client_frame(BINARY, bytes(900 * KIB))[: 600 * KIB]
# What bounds these is per connection already: pongs are replaced, answers stop the reading.
BOUNDED_ANYWAY = ("pings whose pongs are not read", "echoes that are not read")
SINS: dict[str, bytes] = {
    "echoes that are not read": UPGRADE + client_frame(TEXT) * 20_000,
    "pings whose pongs are not read": UPGRADE + client_frame(PING, b"?" * 125) * 1000,
    "half a message": UPGRADE + HALF,
    "a message of many fragments": UPGRADE
    + client_frame(TEXT, fin=False)
    + client_frame(0, b"y" * 50, fin=False) * 4000,
    "half a head": b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 7000 + b"\r\nC: " + b"d" * 7000,
    "half a body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n" + bytes(60_000),
    "answers that are not read": http_request("GET", "/") * 50,
}


def dial(address: Any) -> Client:
    """A client that can take little at once."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    sock.connect(address)
    sock.setblocking(False)
    return Client(sock)


async def push(client: Client, data: bytes) -> None:
    """Send it until the server takes nothing for a while, and read nothing; it may end it."""
    loop, patience = asyncio.get_running_loop(), 2 if INSTRUMENTED else 0.5
    with suppress(OSError, TimeoutError):
        for at in range(0, len(data), 16 * KIB):
            async with asyncio.timeout(patience):
                await loop.sock_sendall(client.sock, data[at : at + 16 * KIB])


def closed(server: Server) -> int:
    return server.counters()["buffered_closed"]


@pytest.mark.parametrize("sin", [*SINS, "all"])
def test_many_connections_that_sin_stay_within_the_budget(run: Run, sin: str) -> None:
    budget, each = MIB, 10 if sin == "all" else 80

    async def story() -> None:
        most = 0
        limits = {"max_buffered_bytes": budget, "ping_interval": 0}
        async with serving(Worst(), **limits) as (server, address):
            healthy = await websocket(address)
            clients = [dial(address) for _ in range(each * (len(SINS) if sin == "all" else 1))]
            sins = list(SINS.values()) if sin == "all" else [SINS[sin]]
            pushing = asyncio.gather(
                *(push(client, sins[i % len(sins)]) for i, client in enumerate(clients))
            )
            async with asyncio.timeout(PATIENCE):
                while not (pushing.done() and (sin in BOUNDED_ANYWAY or closed(server))):
                    await healthy.send(client_frame(TEXT, b"well"))
                    assert await healthy.frame() == (TEXT, b"well")
                    most = max(most, server.engine.buffered_bytes)
            assert most <= budget + ONE_TURN
            if sin in BOUNDED_ANYWAY:
                assert server.engine.buffered_bytes < len(clients) * 400 * KIB
            for client in (healthy, *clients):
                client.sock.close()
            await eventually(lambda: server.engine.live == 0)
            assert server.engine.buffered_bytes == 0

    run(story())


def test_what_is_refused_for_memory_is_told_and_logged(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with serving(Worst(), max_buffered_bytes=MIB) as (server, address):
            clients = [dial(address) for _ in range(12)]
            for client in clients:
                await client.send(http_request("GET", "/"))
            await eventually(lambda: server.counters()["refused"] > 0)
            await eventually(lambda: server.counters()["buffered_closed"] > 0)
            await eventually(lambda: "buffered_closed" in caplog.text)
            answered = 0
            for client in clients:
                with suppress(ConnectionResetError):
                    response = await client.response()
                    answered += response.status == 503
                    assert response.status == 503 or response.body == PAGE
            assert answered == server.counters()["refused"]
            for client in clients:
                client.sock.close()

    run(story())


def test_requests_wait_while_answers_are_not_read(run: Run) -> None:
    """32 bytes ask for a page: behind a quarter of `outbox_limit` no more are answered."""

    async def story() -> None:
        async with serving(Worst()) as (server, address):
            client = dial(address)
            await client.send(http_request("GET", "/") * 50)
            await eventually(lambda: server.engine.buffered_bytes > 256 * KIB)
            async with await websocket(address) as other:  # a few turns more
                for _ in range(20):
                    await other.send(client_frame(PING))
                    await other.frame()
            assert server.engine.buffered_bytes < 256 * KIB + len(PAGE) + 4 * KIB
            for _ in range(50):
                assert (await client.response()).body == PAGE
            client.sock.close()

    run(story())


# GET /stats.


def test_stats_are_shared_only_where_making_them_takes_a_quarter_of_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, made = 100.0, 0
    monkeypatch.setattr("fastws.feeds.stats.time.monotonic", lambda: now)

    def make() -> dict[str, object]:
        nonlocal now, made
        now += 0.001
        made += 1
        return {"made": made}

    def get() -> Any:
        return orjson.loads(orjson.dumps(shared.get()))["made"]

    shared = Shared(make)
    for i in range(20):
        assert get() == i + 1, "who asks now and then always gets what is true now"
    before, then = made, now
    for _ in range(10_000):
        get()
        now += 0.0001
    assert 0.2 < (made - before) * 0.001 / (now - then) < 0.3
    now += 0.1
    assert get() == made > before
    shared.forget()
    for _ in range(100):
        get()
    shared.forget()
    assert get() == made


def test_stats_of_a_thousand_long_names_are_small(run: Run) -> None:
    async def story() -> None:
        async with Site() as site:
            client = await site.websocket()
            for i in range(1000):
                name = "\x01" * 120 + f"{i:08}"
                await client.send(
                    client_frame(TEXT, orjson.dumps({"type": "stats", "clientId": name}))
                )
            await client.say({"type": "identify", "clientId": "done"})
            response = await site.http("GET", "/stats")
            assert 10 < len(response.json["clients"]) < 100  # as many as 32 KiB hold
            assert len(response.body) < 64 * KIB
            client.sock.close()

    run(story())


# The option.


def test_the_default_follows_from_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.server.memory.available_memory", lambda: 80 * MIB)
    assert memory_budget("max_buffered_bytes", None) == 10 * MIB
    monkeypatch.setattr("fastws.server.memory.available_memory", lambda: 1 << 50)
    assert memory_budget("max_buffered_bytes", None) == 256 * MIB
    assert memory_budget("max_buffered_bytes", 3 * MIB) == 3 * MIB
    for wrong in (0, MIB - 1, 2**62 + 1, True, 1.5e9, "1MiB"):
        with pytest.raises(ConfigError, match="max_buffered_bytes"):
            Server(App(), limits=Limits(max_buffered_bytes=wrong))  # type: ignore[arg-type]
