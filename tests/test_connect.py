"""The client: against servers of others and our own, refusals, reconnecting; both loops."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from handler_apps import eventually
from support import PATIENCE, open_files
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as others_serve

import fastws
from fastws import (
    ConfigError,
    Connection,
    ConnectionClosedError,
    HandshakeError,
    InvalidHandshake,
    Limits,
    Request,
    connect,
)
from fastws.client import engines
from fastws.client.connect import reconnect_delays

Run = Callable[[Any], Any]


@asynccontextmanager
async def theirs(handler: Callable[[ServerConnection], Any], **options: Any) -> AsyncIterator[str]:
    """A server of websockets; its URL."""
    async with others_serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def ours(handler: Any, **options: Any) -> AsyncIterator[tuple[fastws.Server, str]]:
    """A server of ours; its URL."""
    async with fastws.serve(handler, "127.0.0.1", 0, **options) as server:
        yield server, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def echo(ws: ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


async def our_echo(ws: Connection) -> None:
    async for message in ws:
        await ws.send(message)


def test_messages_of_all_sizes_come_back_from_a_server_of_others(run: Run) -> None:
    async def story() -> None:
        async with theirs(echo) as url, connect(url) as ws:
            for size in (0, 1, 125, 126, 65_535, 65_536, 700_000):
                for message in ("x" * size, b"y" * size):
                    await ws.send(message)
                    assert await ws.recv() == message
            assert 0 < await ws.ping() < PATIENCE
        assert ws.close_sent == ws.close_received == (1000, "")

    run(story())


def test_a_client_and_a_server_share_a_loop_and_leave_nothing_behind(run: Run) -> None:
    async def story() -> None:
        files = open_files()
        async with ours(our_echo) as (server, url):
            clients = [await connect(url) for _ in range(100)]
            for i, ws in enumerate(clients):
                await ws.send(str(i))
            assert [await ws.recv() for ws in clients] == [str(i) for i in range(100)]
            assert len({ws.engine for ws in clients}) == 1
            await asyncio.gather(*(ws.close() for ws in clients))
            await eventually(lambda: not server.connections)
        await eventually(lambda: open_files() == files)
        assert not engines._ENGINES

    run(story())


def test_the_handshake_says_what_was_asked_for(run: Run) -> None:
    seen: list[Request] = []

    async def handler(ws: Connection) -> None:
        seen.append(ws.request)
        await ws.recv()

    async def story() -> None:
        async with (
            ours(handler, subprotocols=["b", "a"]) as (_, url),
            connect(
                f"{url}/rooms/1?x=2",
                subprotocols=["a", "b"],
                origin="https://example.com",
                headers={"Authorization": "Bearer t"},
            ) as ws,
        ):
            assert ws.subprotocol == "a"
        (request,) = seen
        assert (request.path, request.query) == ("/rooms/1", {"x": "2"})
        assert request.headers["origin"] == "https://example.com"
        assert request.headers["authorization"] == "Bearer t"

    run(story())


def test_a_unix_socket_can_be_connected_to(run: Run, tmp_path: Path) -> None:
    path = str(tmp_path / "s")

    async def story() -> None:
        async with (
            fastws.serve(our_echo, unix=path),
            connect("ws://localhost/", unix=path) as ws,
        ):
            await ws.send("hi")
            assert await ws.recv() == "hi"

    run(story())


@pytest.mark.parametrize("status", [401, 503])
def test_a_refusal_tells_its_status(run: Run, status: int) -> None:
    def refuse(request: Request) -> fastws.Response:
        raise HandshakeError(status, "No")

    async def story() -> None:
        async with ours(our_echo, process_request=refuse) as (_, url):
            with pytest.raises(InvalidHandshake, match=str(status)) as caught:
                await connect(url)
            assert caught.value.status == status
        await eventually(lambda: not engines._ENGINES)

    run(story())


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"],
)
def test_an_answer_that_is_none_is_an_error(run: Run, answer: bytes) -> None:
    async def story() -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises((InvalidHandshake, ConnectionResetError)):
                await connect(f"ws://127.0.0.1:{port}")
        await eventually(lambda: not engines._ENGINES)

    run(story())


def test_a_server_that_does_not_answer_is_given_up(run: Run) -> None:
    async def story() -> None:
        files = open_files()
        with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
            await connect(f"ws://127.0.0.1:{silent.getsockname()[1]}", open_timeout=0.05)
        await eventually(lambda: not engines._ENGINES)
        assert open_files() == files

    run(story())


def test_a_port_where_nobody_listens_is_an_error_of_the_system(run: Run) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await connect(f"ws://127.0.0.1:{port}")

    run(story())


def test_arguments_out_of_range_are_one_clear_line() -> None:
    with pytest.raises(ConfigError, match=r"^url: wss is not supported"):
        connect("wss://localhost")
    with pytest.raises(ConfigError, match=r"^open_timeout: "):
        connect("ws://localhost", open_timeout=0)
    with pytest.raises(ConfigError, match=r"^stale_timeout: "):
        connect("ws://localhost", stale_timeout=-1)
    with pytest.raises(ConfigError, match=r"^subprotocols: "):
        connect("ws://localhost", subprotocols="chat")


def test_a_connection_that_falls_silent_is_closed(run: Run) -> None:
    async def handler(ws: ServerConnection) -> None:
        for i in range(6):
            await ws.send(str(i))
            await asyncio.sleep(0.05)
        await ws.wait_closed()

    async def story() -> None:
        async with theirs(handler) as url, connect(url, stale_timeout=0.25) as ws:
            assert [message async for message in ws] == ["0", "1", "2", "3", "4", "5"]
            assert ws.close_sent == (1001, "stale")

    run(story())


def test_a_loop_over_connect_connects_again(run: Run) -> None:
    async def handler(ws: Connection) -> None:
        await ws.send("hello")
        if ws.request.path == "/error":
            await ws.close(1011, "oops")

    async def story() -> None:
        async with ours(handler) as (_, url):
            seen = []
            async for ws in connect(url):
                seen += [message async for message in ws]
                if len(seen) == 3:
                    break
            assert seen == ["hello"] * 3
            async for ws in connect(f"{url}/error"):
                assert await ws.recv() == "hello"
                with pytest.raises(ConnectionClosedError, match="1011 oops") as caught:
                    await ws.recv()
                assert caught.value.received == (1011, "oops")
                break

    run(story())


def test_a_loop_over_connect_waits_for_a_server_that_is_not_there_yet(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.client.connect.FIRST_DELAY", 0.01)
    monkeypatch.setattr("fastws.client.connect.LEAST_DELAY", 0.01)
    busy = True

    def refuse(request: Request) -> None:
        if busy:
            raise HandshakeError(503, "Later")

    async def story() -> None:
        nonlocal busy
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]

        async def first() -> Connection:
            async for ws in connect(f"ws://127.0.0.1:{port}"):
                return ws
            raise AssertionError

        waiting = asyncio.create_task(first())
        await asyncio.sleep(0.05)
        server = fastws.serve(our_echo, "127.0.0.1", port, process_request=refuse)
        async with server:
            await eventually(lambda: server.counters()["accepted"] > 2)
            busy = False
            async with asyncio.timeout(PATIENCE):
                await waiting

    run(story())


def test_what_another_attempt_cannot_cure_ends_the_loop(run: Run) -> None:
    def refuse(request: Request) -> None:
        raise HandshakeError(403, "Never")

    async def story() -> None:
        async with ours(our_echo, process_request=refuse) as (_, url):
            with pytest.raises(InvalidHandshake, match="403"):
                await anext(aiter(connect(url)))

    run(story())


def test_delays_are_random_and_their_bounds_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.client.connect.random.uniform", lambda _, bound: bound)
    bounds = list(islice(reconnect_delays(), 12))
    assert bounds[:3] == [5.0, 3.1, pytest.approx(3.1 * 1.618)]
    assert bounds[1:] == sorted(bounds[1:])
    assert bounds[-1] == 90.0


def test_limits_of_a_client_are_its_own(run: Run) -> None:
    async def talk(ws: ServerConnection) -> None:
        await ws.send("x" * 2000)
        await ws.wait_closed()

    async def story() -> None:
        async with theirs(talk) as url, connect(url, limits=Limits(max_message_size=1000)) as ws:
            with pytest.raises(ConnectionClosedError):
                await ws.recv()
            assert ws.close_sent is not None
            assert ws.close_sent.code == 1009

    run(story())
