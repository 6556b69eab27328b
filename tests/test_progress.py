"""Time-outs measure progress: uploads, downloads and reused connections.

The clients are slow on purpose: they sleep between two pieces.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import uvloop
from handler_apps import connected, eventually, serving, websocket
from support import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    SWITCHED,
    TEXT,
    UPGRADE,
    Client,
    client_frame,
    close_payload,
    http_request,
    limited,
)

from fastws import App, ConfigError, Connection, Request, Response, Server
from fastws.server.limits import Limits

Run = Callable[[Any], Any]
KIB, MIB = 1 << 10, 1 << 20
TICK = 0.1  # seconds between two pieces
QUICK = {"ping_interval": 0.3, "pong_timeout": 0.4}


@pytest.fixture
def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """One loop: what is shown here is the engine's, and takes its time."""
    return uvloop.new_event_loop


class Sizes(App):
    """Answers each message with its size."""

    def message(self, connection: Connection, message: str | bytes) -> None:
        connection.send_nowait(str(len(message)))


class AsyncSizes(Sizes):
    """The same in a coroutine."""

    async def message(  # type: ignore[override]
        self, connection: Connection, message: str | bytes
    ) -> None:
        connection.send_nowait(str(len(message)))


def timeouts_met(server: Server) -> dict[str, int]:
    return {name: n for name, n in server.counters().items() if n and name.endswith("_timeouts")}


# Uploads.


def in_one_frame(message: bytes) -> bytes:
    return client_frame(BINARY, message)


def in_many_frames(message: bytes) -> bytes:
    pieces = [message[i : i + 1000] for i in range(0, len(message), 1000)]
    frames = [client_frame(BINARY if i == 0 else 0, piece) for i, piece in enumerate(pieces)]
    starts = [bytes([frame[0] & 0x7F]) + frame[1:] for frame in frames[:-1]]
    return b"".join([*starts, frames[-1]])


@pytest.mark.parametrize("app", [Sizes, AsyncSizes])
@pytest.mark.parametrize("framed", [in_one_frame, in_many_frames])
def test_a_large_message_that_keeps_arriving_is_taken(
    run: Run, app: type[App], framed: Callable[[bytes], bytes]
) -> None:
    size = 40 * KIB

    async def story() -> None:
        async with (
            serving(app(), message_timeout=0.5, **QUICK) as (server, address),
            await websocket(address) as client,
        ):
            data = framed(bytes(size))
            for at in range(0, len(data), 2 * KIB):  # two seconds, without a pong
                await client.send(data[at : at + 2 * KIB])
                await asyncio.sleep(TICK)
            opcodes = []
            while (frame := await client.frame())[0] == PING:
                opcodes.append(PING)
            assert frame == (TEXT, str(size).encode())
            assert len(opcodes) >= 3
            assert timeouts_met(server) == {}

    run(story())


@pytest.mark.parametrize("framed", [in_one_frame, in_many_frames])
def test_a_message_that_drips_ends_with_1008(run: Run, framed: Callable[[bytes], bytes]) -> None:
    async def story() -> None:
        async with (
            serving(Sizes(), message_timeout=0.5, ping_interval=0) as (server, address),
            await websocket(address) as client,
        ):
            for byte in framed(bytes(KIB)):
                await client.send(bytes([byte]))
                await asyncio.sleep(TICK / 10)
                if server.counters()["message_timeouts"]:
                    break
            assert await client.frame() == (CLOSE, close_payload(1008, "message timeout"))
            assert timeouts_met(server) == {"message_timeouts": 1}

    run(story())


def test_a_body_that_keeps_arriving_is_taken(run: Run) -> None:
    class Bodies(App):
        def http(self, request: Request) -> Response:
            return Response(200, str(len(request.body)))

    async def story() -> None:
        async with (
            serving(Bodies(), handshake_timeout=0.4) as (server, address),
            connected(address) as client,
        ):
            data = http_request("POST", "/", bytes(40 * KIB))
            for at in range(0, len(data), 2 * KIB):
                await client.send(data[at : at + 2 * KIB])
                await asyncio.sleep(TICK)
            assert (await client.response()).body == str(40 * KIB).encode()
            assert timeouts_met(server) == {}

    run(story())


# Downloads.


class Pages(App):
    """One page for all, and a message that is the same."""

    page = b"x" * (6 * MIB)

    def http(self, request: Request) -> Response:
        return Response(200, self.page)

    def message(self, connection: Connection, message: str | bytes) -> None:
        connection.send_nowait(self.page[:MIB])
        connection.close(1000)


@asynccontextmanager
async def pages(path: Path | None, **options: Any) -> AsyncIterator[tuple[Server, Client]]:
    """Serves them, and a client with a small receive buffer."""
    if path is None:
        async with serving(Pages(), **options) as (server, address):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * KIB)
            sock.connect(address)
            sock.setblocking(False)
            async with Client(sock) as client:
                yield server, client
        return
    server = Server(Pages(), **limited(options))
    server.listen_unix(str(path))
    server.start()
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    sock.setblocking(False)
    try:
        async with Client(sock) as client:
            yield server, client
    finally:
        server.close()


async def slowly(client: Client, n: int, each: int) -> bytearray:
    """The next n bytes, or up to the end; `each` of them in a tick."""
    loop, got = asyncio.get_running_loop(), bytearray()
    while len(got) < n:
        async with asyncio.timeout(PATIENCE):
            try:
                data = await loop.sock_recv(client.sock, each)
            except ConnectionResetError:
                break
        if not data:
            break
        got += data
        await asyncio.sleep(TICK * len(data) / each)
    return got


@pytest.mark.parametrize("where", ["tcp", "unix"])
@pytest.mark.parametrize("field", ["Connection: close", "Connection: keep-alive"])
def test_an_answer_that_keeps_being_taken_is_not_cut_off(
    run: Run, tmp_path: Path, where: str, field: str
) -> None:
    path = tmp_path / "s" if where == "unix" else None
    times = {"close_timeout": 0.5, "keep_alive_timeout": 0.5, "write_timeout": 0.5}

    async def story() -> None:
        async with pages(path, **times) as (server, client):
            await client.send(http_request("GET", "/", fields=[field]))
            got = await slowly(client, 1, 300 * KIB)
            n = got.index(b"\r\n\r\n") + 4 + len(Pages.page)
            got += await slowly(client, n - len(got), 300 * KIB)  # two seconds
            assert len(got) == n
            assert server.counters()["close_timeouts"] == 0
            assert server.counters()["write_timeouts"] == 0
            assert await client.ended()

    run(story())


def test_a_close_waits_for_what_keeps_being_taken_before_it(run: Run) -> None:
    async def story() -> None:
        async with pages(None, close_timeout=0.5) as (server, client):
            await client.send(UPGRADE + client_frame(TEXT, b"go"))
            n = len(SWITCHED) + 10 + MIB + 4  # the message, then Close
            got = await slowly(client, n, 60 * KIB)
            assert len(got) == n
            assert got.endswith(b"\x88\x02" + close_payload(1000))
            await client.send(client_frame(CLOSE, close_payload(1000)))
            assert await client.ended()
            assert timeouts_met(server) == {}

    run(story())


@pytest.mark.parametrize("field", ["Connection: close", "Connection: keep-alive"])
def test_an_answer_that_nobody_takes_is_cut_off(run: Run, field: str) -> None:
    async def story() -> None:
        async with pages(None, close_timeout=0.5, keep_alive_timeout=0.5) as (server, client):
            loop = asyncio.get_running_loop()
            await client.send(http_request("GET", "/", fields=[field]))
            await eventually(lambda: server.engine.live == 1)
            began = loop.time()
            await eventually(lambda: server.engine.live == 0)
            assert loop.time() - began < 4
            name = "close_timeouts" if field.endswith("close") else "keep_alive_timeouts"
            assert timeouts_met(server) == {name: 1}

    run(story())


# Connections that are used again.


class Slow(App):
    """Decides after a while."""

    def http(self, request: Request) -> Response:
        return Response(200, b"ok")

    async def admit(self, connection: Connection, request: Request) -> None:
        await asyncio.sleep(0.5)


@asynccontextmanager
async def reused() -> AsyncIterator[tuple[Server, Client]]:
    """A connection that has been idle for longer than a handshake may take."""
    times = {"handshake_timeout": 0.8, "keep_alive_timeout": 2.5}
    async with serving(Slow(), **times) as (server, address), connected(address) as client:
        await client.send(http_request("GET", "/health"))
        assert (await client.response()).status == 200
        await asyncio.sleep(1.2)
        yield server, client


def test_an_upgrade_on_a_used_connection_is_decided_on_in_its_own_time(run: Run) -> None:
    async def story() -> None:
        async with reused() as (server, client):
            await client.send(UPGRADE)
            assert await client.head() == SWITCHED
            assert timeouts_met(server) == {}

    run(story())


def test_a_later_request_in_pieces_has_its_own_time(run: Run) -> None:
    async def story() -> None:
        async with reused() as (server, client):
            request = http_request("GET", "/health")
            for _ in range(2):
                await client.send(request[:10])
                await asyncio.sleep(0.5)
                await client.send(request[10:])
                assert (await client.response()).status == 200
            assert timeouts_met(server) == {}

    run(story())


def test_a_later_request_that_never_ends_has_no_more_than_that(run: Run) -> None:
    async def story() -> None:
        async with reused() as (server, client):
            loop = asyncio.get_running_loop()
            began = loop.time()
            await client.send(b"GET / HT")
            assert await client.ended()
            assert 0.7 < loop.time() - began < 2.2
            assert timeouts_met(server) == {"handshake_timeouts": 1}

    run(story())


def test_a_connection_is_kept_for_longer_than_a_load_balancer_keeps_it() -> None:
    assert Limits().keep_alive_timeout > 60


# The options.


@pytest.mark.parametrize(
    "name", [each.name for each in fields(Limits) if "may_be_off" in each.metadata]
)
def test_a_timeout_out_of_range_is_one_clear_line(name: str) -> None:
    off = name in ("ping_interval", "message_timeout", "write_timeout")
    says = f"^{name}: must be 0.1 to 86,400 seconds{', or 0 for none' if off else ''}$"
    for wrong in (-1, 0.01, 86_401, float("nan"), float("inf"), True, "5", None):
        with pytest.raises(ConfigError, match=says):
            Limits(**{name: wrong})  # type: ignore[arg-type]
    Limits(**{name: 0.1})  # type: ignore[arg-type]
    if off:
        Limits(**{name: 0})  # type: ignore[arg-type]
    else:
        with pytest.raises(ConfigError, match=says):
            Limits(**{name: 0})  # type: ignore[arg-type]
