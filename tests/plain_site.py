"""A server of plain topics on the running loop, and the clients that others wrote."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from support import ACCEPT, UPGRADE_FIELDS, Client, Response
from websockets.asyncio.client import ClientConnection, connect

from fastws import App, Server, Topic, serve


class PlainSite:
    """A server whose App has plain topics."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.address = server.sockets[0].getsockname()

    def kept(self, name: str) -> Topic:
        """A topic that stays, because it is configured."""
        return self.server.topic(name, on_slow="close")

    def url(self, target: str) -> str:
        return f"ws://127.0.0.1:{self.address[1]}{target}"

    def connect(self, target: str, **options: Any) -> connect:
        """A client of `websockets`."""
        return connect(self.url(target), **{"compression": None, **options})

    async def client(self, target: str, *, receive_buffer: int = 0) -> Client:
        """One that is read by hand, behind its 101."""
        client = await self.dial(receive_buffer)
        await client.send(f"GET {target} HTTP/1.1\r\n{UPGRADE_FIELDS}".encode())
        head = await client.head()
        assert ACCEPT.encode() in head, head
        return client

    async def refused(self, target: str) -> Response:
        """The answer to an upgrade that is refused."""
        async with await self.dial() as client:
            await client.send(f"GET {target} HTTP/1.1\r\n{UPGRADE_FIELDS}".encode())
            return await client.response()

    async def dial(self, receive_buffer: int = 0) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        return Client(sock)


@asynccontextmanager
async def plain_site(
    *arguments: Any, app: App | None = None, options: dict[str, Any] | None = None, **plain: Any
) -> AsyncIterator[PlainSite]:
    """Serve `app.plain_topics(*arguments, **plain)`, with these options of the server."""
    app = app or App()
    app.plain_topics(*arguments, **plain)
    async with serve(app, "127.0.0.1", 0, **(options or {})) as server:
        yield PlainSite(server)


def position(ws: ClientConnection) -> tuple[str, int]:
    """What the 101 says."""
    assert ws.response is not None
    epoch, _, seq = ws.response.headers["Fastws-Position"].partition(":")
    return epoch, int(seq)


def counts(ws: ClientConnection) -> bool:
    """Whether the 101 says that each message comes."""
    assert ws.response is not None
    said = ws.response.headers.get("Fastws-Delivery")
    assert said in (None, "every-message")
    return said is not None


Run = Callable[[Any], Any]
