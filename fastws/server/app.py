"""What a server serves: the App, whose methods are one's own.

Layer 6. Knows connections and requests; neither sockets nor the loop.
"""

from collections.abc import Awaitable

from fastws._frame import Connection
from fastws.errors import HandshakeError
from fastws.http.request import Request
from fastws.http.response import refusal, response
from fastws.http.upgrade import VERSION_HEADERS


class App:
    """What a server serves; override what you need.

    Every method is called on the loop's thread, inside the engine's turn, and must not block.
    One that raises ends its connection (1011, or 500) and is logged.

    `admit`, `opened`, `message` and `closed` may be `async def`. Those of one connection then run
    one after the other, in order, in a task that is there only meanwhile; while `handler_queue`
    messages wait behind the one that is handled, the connection is not read from (so pausing and
    resuming it is the server's alone). When it ends, what runs is cancelled (CancelledError), what
    waits is dropped, and `closed` follows. A decorator around one shows it with `functools.wraps`;
    a handler that does not look async and returns something all the same has failed.
    """

    def http(self, request: Request, body: bytes, remote: str) -> bytes:
        """Answer a request that is not an upgrade with a whole response.

        By default 426 (RFC 9110 15.5.22): whatever the path, only a WebSocket is served there.

        Args:
            request: its head.
            body: all of it, at most 64 KiB.
            remote: the peer's address without port; empty for a Unix socket.
        """
        return response(
            426,
            b"a WebSocket upgrade is required",
            headers=VERSION_HEADERS,
            keep_alive=request.keep_alive,
            head_only=request.method == "HEAD",
        )

    def refuse(self, error: HandshakeError) -> bytes:
        """Answer a request that is refused; the connection closes behind it."""
        return refusal(error)

    def admit(self, connection: Connection, request: Request) -> Awaitable[None] | None:
        """Let a client in, or raise HandshakeError (401, 403, ...): it is then refused with that.

        Called before the 101, for a handshake that is good otherwise. As `async def` it has
        `handshake_timeout` (10 s), from accept or a later request's first byte; then the client
        gets 503 and this is cancelled, as it is when the client goes.
        """

    def opened(self, connection: Connection, request: Request) -> Awaitable[None] | None:
        """Take a new WebSocket; its 101 leaves ahead of whatever is sent here.

        `message` is not called before an async one has returned: put an endless loop in a task
        (`asyncio.create_task`), and cancel it in `closed`.
        """

    def message(self, connection: Connection, message: str | bytes) -> Awaitable[None] | None:
        """Take a message of a client."""

    def closed(self, connection: Connection) -> Awaitable[None] | None:
        """Hear that a connection has ended, HTTP ones too; see its close_code and reason."""
