"""Apps that end their server in a handler, and clients that hear the end."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from handler_apps import ask, connected, eventually, others, serving, texts
from support import (
    CLOSE,
    Client,
    client_frame,
    close_payload,
    http_request,
    open_files,
)

from fastws import App, Connection, HandshakeError, Request, Response, Server

End = Callable[["Ending"], Any]


SYNC = ["admit", "opened", "message", "closed", "http", "refuse", "topic"]
ASYNC = ["admit", "opened", "message", "closed"]


class Ending(App):
    """Ends its server in the handler `where`, by `end`."""

    def __init__(self, where: str, end: End) -> None:
        self.where, self.end = where, end
        self.server: Server
        self.calls = 0
        self.went_on = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def hear(self, where: str) -> Any:
        if where != self.where or self.calls:
            return None
        self.calls += 1
        return self.end(self)

    def stop_in_a_task(self) -> None:
        self.tasks.append(asyncio.create_task(self.server.stop()))

    def admit(self, connection: Connection, request: Request) -> None:
        self.hear("admit")

    def opened(self, connection: Connection, request: Request) -> None:
        self.hear("opened")
        topic = self.server.topic("t", on_slow="close")
        topic.on_first_subscriber = lambda _: self.hear("topic")
        connection.subscribe(topic)

    def message(self, connection: Connection, message: str | bytes) -> None:
        self.hear("message")

    def closed(self, connection: Connection) -> None:
        self.hear("closed")

    def http(self, request: Request) -> Response:
        self.hear("http")
        return Response(200, b"bye")

    def refuse(self, error: HandshakeError) -> Response:
        self.hear("refuse")
        return super().refuse(error)


class AsyncEnding(Ending):
    """The same in handlers that are async; the one that ends it says whether it went on."""

    async def wait(self, where: str) -> None:
        result = self.hear(where)
        if isinstance(result, Awaitable):
            await result
            await asyncio.sleep(0.01)
            self.went_on.set()

    async def admit(self, connection: Connection, request: Request) -> None:  # type: ignore[override]
        await self.wait("admit")

    async def opened(self, connection: Connection, request: Request) -> None:  # type: ignore[override]
        await self.wait("opened")

    async def message(self, connection: Connection, message: str | bytes) -> None:  # type: ignore[override]
        await self.wait("message")

    async def closed(self, connection: Connection) -> None:  # type: ignore[override]
        await self.wait("closed")


async def provoke(address: Any, app: Ending) -> list[Client]:
    """Three clients, and whatever makes the handler run; all that were opened answer a Close."""
    clients = [await ask(address, "/") for _ in range(3)]
    if app.where == "message":
        for client in clients:  # else one may still be at its handshake when the server stops
            while b"\r\n\r\n" not in client.buffer:
                await client.more()
        await clients[0].send(texts(["x"]))
    elif app.where == "closed":
        await eventually(lambda: len(app.server.connections) == 3)
        clients.pop(0).sock.close()
    elif app.where == "http":
        clients.append(connected(address))
        await clients[-1].send(http_request("GET", "/"))
    elif app.where == "refuse":
        clients.append(connected(address))
        await clients[-1].send(b"nonsense\r\n\r\n")
    return clients


async def hear_the_end(client: Client) -> list[bytes]:
    """Read up to the end and answer a Close on the way; what came."""
    answered = False
    while True:
        try:
            await client.more()
        except (EOFError, ConnectionError):
            client.sock.close()
            return bytes(client.buffer).split(b"\r\n\r\n")
        if not answered and client.buffer.endswith(b"\x88\x02" + close_payload(1001)):
            answered = True
            with suppress(ConnectionError):
                await client.send(client_frame(CLOSE, close_payload(1001)))


async def ends(app: Ending, **options: float) -> list[list[bytes]]:
    """Serve it until it has ended itself: what each client got."""
    files = open_files()
    async with serving(app, **options) as (server, address):
        app.server = server
        clients = await provoke(address, app)
        async with asyncio.timeout(4):  # less than the close time-out
            got = [await hear_the_end(client) for client in clients]
            await eventually(lambda: server.ended)
            await asyncio.gather(*app.tasks)
            while others():
                await asyncio.wait(others())
        with pytest.raises(RuntimeError, match="closed"):
            server.counters()
        assert server.engine.live == 0
        await server.stop()
        server.close()
    assert app.calls == 1
    assert open_files() == files
    return got
