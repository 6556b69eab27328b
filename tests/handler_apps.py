"""Apps whose handlers wait or decide, what serves them, and a client of theirs."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

from support import PATIENCE, SWITCHED, TEXT, UPGRADE, Client, client_frame, limited
from websockets.asyncio.client import connect

from fastws import App, Connection, HandshakeError, Limits, Request, Server, serve

Handler = Callable[[Connection], Any]


def timed(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as there are many: a plain `def` around whatever it is."""

    @wraps(handler)
    def call(*arguments: object) -> Any:
        return handler(*arguments)

    return call


class Gate(App):
    """Handles a message once it is let through, and writes down what happens."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[str] = []
        self.news = asyncio.Condition()

    async def message(self, connection: Connection, message: str | bytes) -> None:
        await self.note(f"begin {message!s}")
        try:
            await self.open.wait()
            if message == "raise":
                raise ZeroDivisionError
        except asyncio.CancelledError:
            await self.note(f"cancelled {message!s}")
            raise
        if connection.is_open:
            connection.send_nowait(message)
        self.seen.append(f"end {message!s}")

    async def closed(self, connection: Connection) -> None:
        await self.note("closed")

    async def note(self, what: str) -> None:
        self.seen.append(what)
        async with self.news:
            self.news.notify_all()

    async def until(self, what: str) -> None:
        async with asyncio.timeout(PATIENCE), self.news:
            await self.news.wait_for(lambda: what in self.seen)


@asynccontextmanager
async def serving(app: App, **options: Any) -> AsyncIterator[tuple[Server, Any]]:
    server = Server(app, **limited(options))
    (address,) = server.listen("127.0.0.1", 0)
    server.start()
    try:
        yield server, address
    finally:
        server.close()


def connected(address: Any) -> Client:
    client = Client(socket.create_connection(address))
    client.sock.setblocking(False)
    return client


async def websocket(address: Any) -> Client:
    client = connected(address)
    await client.send(UPGRADE)
    assert await client.head() == SWITCHED
    return client


def texts(messages: list[str]) -> bytes:
    return b"".join(client_frame(TEXT, message.encode()) for message in messages)


async def eventually(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


class Door(App):
    """Decides as the path says, in a coroutine."""

    def __init__(self) -> None:
        self.begun = self.cancelled = self.opened_ones = self.closed_ones = 0
        self.gate = asyncio.Event()

    async def admit(self, connection: Connection, request: Request) -> None:
        self.begun += 1
        try:
            await asyncio.wait_for(self.gate.wait(), None if request.path == "/slow" else 0.001)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        except TimeoutError:
            pass
        if request.path == "/raise":
            raise ZeroDivisionError
        if request.path == "/no":
            raise HandshakeError(401, "Who are you?", [("WWW-Authenticate", "Basic")])

    def opened(self, connection: Connection, request: Request) -> None:
        self.opened_ones += 1

    def message(self, connection: Connection, message: str | bytes) -> None:
        connection.send_nowait(message)

    def closed(self, connection: Connection) -> None:
        self.closed_ones += 1


class SyncDoor(Door):
    """The same without coroutines."""

    def admit(self, connection: Connection, request: Request) -> None:  # type: ignore[override]
        if request.path == "/raise":
            raise ZeroDivisionError
        if request.path == "/no":
            raise HandshakeError(401, "Who are you?", [("WWW-Authenticate", "Basic")])


async def ask(address: Any, path: str, behind: bytes = b"") -> Client:
    client = connected(address)
    await client.send(UPGRADE.replace(b"GET / ", f"GET {path} ".encode()) + behind)
    return client


class TimedDoor(Door):
    """The same, decorated."""

    admit = timed(Door.admit)


async def echo(ws: Connection) -> None:
    async for message in ws:
        await ws.send(message)


async def idle(ws: Connection) -> None:
    await ws.wait_closed()


def where(server: Server) -> list[str]:
    names = [sock.getsockname() for sock in server.sockets]
    return [f"ws://[{a[0]}]:{a[1]}" if ":" in a[0] else f"ws://{a[0]}:{a[1]}" for a in names]


async def echoed(uri: str, message: str | bytes = "hello") -> bool:
    async with connect(uri, compression=None) as client:
        await client.send(message)
        return await client.recv() == message


@asynccontextmanager
async def met(handler: Handler, **limits: Any) -> AsyncIterator[tuple[Server, Client]]:
    """A server with the handler, and a client of it."""
    async with (
        serve(handler, limits=Limits(**limits)) as server,
        await websocket(server.sockets[0].getsockname()) as client,
    ):
        yield server, client


class Notes(list[object]):
    """What handlers have to tell."""

    async def all(self, *expected: object) -> None:
        await eventually(lambda: len(self) >= len(expected))
        assert self == list(expected)


@asynccontextmanager
async def served(app: Any, **options: Any) -> Any:
    async with serve(app, **options) as server:
        yield server, server.sockets[0].getsockname()
