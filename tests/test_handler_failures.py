"""Handlers that fail: what ends, what is said, and what goes on."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from handler_apps import Gate, ask, connected, eventually, serving, texts, websocket
from support import (
    CLOSE,
    FAILED,
    TEXT,
    Client,
    client_frame,
    close_payload,
    http_request,
)

from fastws import App, Connection, Request, Response, Server

Run = Callable[[Any], Any]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, from errors up."""
    with caplog.at_level(logging.ERROR, "fastws"):
        yield caplog
    caplog.clear()


@pytest.mark.hostile("X27")
def test_an_async_handler_that_raises_ends_its_connection_alone(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        app = Gate()
        app.open.set()
        async with serving(app) as (_, address):
            good, bad = await websocket(address), await websocket(address)
            await bad.send(texts(["raise", "never"]))
            assert await bad.frame() == (CLOSE, FAILED)
            await bad.send(client_frame(CLOSE, close_payload(1011)))
            assert await bad.ended()
            await app.until("closed")
            assert "begin never" not in app.seen
            await good.send(texts(["on"]))
            assert await good.frame() == (TEXT, b"on")
            for client in (good, bad):
                client.sock.close()

    run(story())
    assert [record.levelname for record in logged.records] == ["ERROR"]


def test_what_a_handler_waits_for_may_be_cancelled_and_it_counts_as_raised(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    class Cancelling(App):
        async def message(self, connection: Connection, message: str | bytes) -> None:
            waiting = asyncio.ensure_future(asyncio.Event().wait())
            asyncio.get_running_loop().call_soon(waiting.cancel)
            await waiting

    async def story() -> None:
        async with serving(Cancelling()) as (_, address), await websocket(address) as client:
            await client.send(texts(["x"]))
            assert await client.frame() == (CLOSE, FAILED)

    run(story())
    assert len(logged.records) == 1


@pytest.mark.hostile("X27")
def test_a_plain_handler_that_meets_something_cancelled_ends_its_connection_alone(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    class Impatient(App):
        def message(self, connection: Connection, message: str | bytes) -> None:
            if message == "bad":
                raise asyncio.CancelledError
            connection.send_nowait(message)

    async def story() -> None:
        async with (
            serving(Impatient()) as (_, address),
            await websocket(address) as bad,
            await websocket(address) as good,
        ):
            await bad.send(texts(["bad"]))
            await good.send(texts(["good"]))
            assert await bad.frame() == (CLOSE, FAILED)
            assert await good.frame() == (TEXT, b"good")

    run(story())
    assert len(logged.records) == 1


def test_who_catches_an_interrupt_of_a_handler_may_serve_on(run: Run) -> None:
    class Interrupting(App):
        def message(self, connection: Connection, message: str | bytes) -> None:
            if message == "stop":
                raise KeyboardInterrupt
            connection.send_nowait(message)

    async def story(clients: asyncio.Queue[Client]) -> None:
        async with serving(Interrupting()) as (_, address), await websocket(address) as client:
            clients.put_nowait(client)
            await asyncio.Event().wait()

    async def say(clients: asyncio.Queue[Client], message: str) -> None:
        client = await clients.get()
        clients.put_nowait(client)
        await client.send(texts([message]))
        assert await client.frame() == (TEXT, message.encode())

    async def start() -> tuple[asyncio.Queue[Client], asyncio.Task[None]]:
        clients: asyncio.Queue[Client] = asyncio.Queue()
        return clients, asyncio.create_task(story(clients))

    clients, task = run(start())
    with pytest.raises(KeyboardInterrupt):
        run(say(clients, "stop"))
    run(say(clients, "go on"))
    task.cancel()


# What another connection's end is to a handler: a failure like any other.


class Relay(App):
    """Passes everything on to whoever came first."""

    first: Connection | None = None

    def opened(self, connection: Connection, request: Request) -> None:
        self.first = self.first or connection

    def pass_on(self, message: str | bytes) -> None:
        assert self.first is not None
        self.first.send_nowait(message)

    def message(self, connection: Connection, message: str | bytes) -> Awaitable[None] | None:
        self.pass_on(message)
        return None

    def http(self, request: Request) -> Response:
        self.pass_on("asked")
        return super().http(request)


class LateRelay(Relay):
    """The same, once it may."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def message(self, connection: Connection, message: str | bytes) -> None:
        await self.gate.wait()
        self.pass_on(message)


async def first_gone(server: Server, address: Any) -> None:
    """Let the first client come and go."""
    async with await websocket(address):
        pass
    await eventually(lambda: server.engine.live == 0)


@pytest.mark.hostile("X27")
def test_a_send_to_another_that_is_gone_ends_the_handlers_own_connection(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with serving(Relay()) as (server, address):
            await first_gone(server, address)
            async with await websocket(address) as client:
                await client.send(texts(["x"]))
                assert await client.frame() == (CLOSE, FAILED)

    run(story())
    assert len(logged.records) == 1


@pytest.mark.hostile("X27")
def test_so_it_does_where_a_full_queue_had_stopped_the_reading(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        app = LateRelay()
        async with serving(app, handler_queue=4) as (server, address):
            await first_gone(server, address)
            async with await websocket(address) as client:
                await client.send(texts(["x"] * 100))
                await eventually(lambda: server.engine.counters()["handler_queue_full"])
                app.gate.set()
                assert await client.frame() == (CLOSE, FAILED)
                await client.send(client_frame(CLOSE, close_payload(1011)))
                assert await client.ended()

    run(story())
    assert len(logged.records) == 1


@pytest.mark.hostile("X27")
def test_a_request_whose_handler_sends_to_one_that_is_gone_is_answered_with_500(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with serving(Relay()) as (server, address):
            await first_gone(server, address)
            async with connected(address) as client:
                await client.send(http_request("GET", "/"))
                assert (await client.response()).status == 500
                assert await client.ended()

    run(story())
    assert len(logged.records) == 1


def test_a_handler_may_send_to_its_own_connection_that_is_closing(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    class Closer(App):
        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.close()
            connection.send_nowait(message)

    async def story() -> None:
        async with serving(Closer()) as (_, address), await websocket(address) as client:
            await client.send(texts(["x"]))
            assert await client.frame() == (CLOSE, close_payload(1000))

    run(story())
    assert not logged.records


# A plain handler that returns something, which nobody would await.


def unawaited(*_: object) -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@pytest.mark.hostile("X03")
def test_an_admit_that_looks_plain_and_returns_an_awaitable_lets_nobody_in(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    class Open(App):
        def admit(self, connection: Connection, request: Request) -> Awaitable[None]:
            return unawaited()

    async def story() -> None:
        async with serving(Open()) as (_, address), await ask(address, "/") as client:
            assert (await client.response()).status == 500
            assert await client.ended()

    run(story())
    assert "async def" in str(logged.records[0].exc_info)


@pytest.mark.hostile("X27")
@pytest.mark.parametrize("name", ["opened", "message"])
def test_a_handler_that_looks_plain_and_returns_an_awaitable_has_failed(
    run: Run, logged: pytest.LogCaptureFixture, name: str
) -> None:
    async def story() -> None:
        app = App()
        setattr(app, name, unawaited)
        async with serving(app) as (_, address), await websocket(address) as client:
            await client.send(texts(["x"]))
            assert await client.frame() == (CLOSE, FAILED)

    run(story())
    assert "async def" in str(logged.records[0].exc_info)


@pytest.mark.parametrize("app", [App, Gate])
def test_a_closed_that_looks_plain_and_returns_an_awaitable_is_logged(
    run: Run, logged: pytest.LogCaptureFixture, app: type[App]
) -> None:
    class Closing(app):  # type: ignore[valid-type,misc]
        closed = unawaited

    async def story() -> None:
        async with serving(Closing()) as (_, address):
            async with await websocket(address):
                pass
            await eventually(lambda: logged.records)

    run(story())
    assert "async def" in str(logged.records[0].exc_info)


# Who it was.


@pytest.mark.parametrize("leave", ["close", "reset", "abort", "server"])
def test_who_has_left_is_known_in_closed_and_in_the_log(
    run: Run, logged: pytest.LogCaptureFixture, leave: str
) -> None:
    class Who(App):
        came: tuple[str, int] | None = None
        went: tuple[str, int] | None = None
        connection: Connection | None = None

        def opened(self, connection: Connection, request: Request) -> None:
            self.came, self.connection = connection.remote_address, connection

        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.abort()

        def closed(self, connection: Connection) -> None:
            self.went = connection.remote_address
            raise ZeroDivisionError

    async def story() -> None:
        app = Who()
        async with serving(app) as (server, address):
            client = await websocket(address)
            mine = client.sock.getsockname()
            if leave == "server":
                server.close()
            elif leave == "abort":
                await client.send(texts(["x"]))
                assert await client.ended()
            elif leave == "reset":
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sock.close()
            await eventually(lambda: app.went)
            assert app.connection is not None
            assert app.came == app.went == app.connection.remote_address == mine
            assert str(mine[1]) in logged.records[0].getMessage()

    run(story())
    assert len(logged.records) == 1
