"""What a handler raised: named in the log, and told to its peer as 1011 or 500. Layer 6."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fastws._frame import Connection, Engine
from fastws.errors import ConnectionClosed, FastwsError, HandshakeError, host_and_port, printable
from fastws.http.request import Request
from fastws.http.response import encode_response
from fastws.server.app import App

logger = logging.getLogger("fastws")

INTERNAL_ERROR = 1011
REASON = "the handler failed"  # what it raised is the server's own affair


class Failures:
    """Ends the connection of a handler that raised; the others go on.

    Args:
        engine: whose connections.
        app: its `message` is called by the engine itself, its `refuse` answers requests.
    """

    def __init__(self, engine: Engine, app: App) -> None:
        self._engine = engine
        self._app = app
        self._called: tuple[Connection, Callable[..., Any], Request | None] | None = None

    def begin(
        self, connection: Connection, handler: Callable[..., Any], request: Request | None = None
    ) -> None:
        """A handler is called in the turn; should it raise, it is known which one it was."""
        self._called = (connection, handler, request)

    def end(self) -> None:
        """It has returned."""
        self._called = None

    def take(
        self,
        connection: Connection,
        exception: BaseException,
        handler: Callable[..., Any] | None = None,
        request: Request | None = None,
    ) -> None:
        """Log what was raised, and end the connection with 1011 or 500.

        Args:
            connection: whose handler it was.
            exception: what it raised.
            handler: the handler; None: the one that `begin` told of, else an `on_gap` that is being
                called, else `App.message`.
            request: what it was called for, where there is no WebSocket yet.
        """
        called, self._called = self._called, None
        if called is not None and called[0] is connection:
            _, handler, request = called
        handler = handler or self._engine.telling
        ended = not (connection.is_open or self._engine.is_http(connection))
        if ended and isinstance(exception, ConnectionClosed):
            return  # it went away while it was being answered; another's end is a failure
        name = handler_name(self._app.message if handler is None else handler)
        place = place_of(connection, request)
        logger.error("a handler raised: %s, for %s", name, place, exc_info=exception)
        with suppress(FastwsError):
            if connection.is_open:
                connection.close(INTERNAL_ERROR, REASON)
                return
            response = self._app.refuse(HandshakeError(500, "Internal server error"))
            answer = encode_response(response, keep_alive=False)
            self._engine.respond(connection, answer, keep_alive=False)


def handler_name(handler: Callable[..., Any]) -> str:
    """Return how a program calls a handler: `Chat.message`."""
    return printable(getattr(handler, "__qualname__", None) or repr(handler), 128)


def place_of(connection: Connection, request: Request | None = None) -> str:
    """Return where it happened: "the WebSocket /chat of 127.0.0.1:50000", or a request."""
    address = connection.remote_address
    peer = host_and_port(address) if address[0] else "a Unix socket"
    session = connection.session
    if connection.on_message is None:
        return peer if request is None else f"{request.method} {_shown(request.path)} of {peer}"
    path = "/" if session is None else session.path
    return f"the WebSocket {_shown(path)} of {peer}"


def _shown(path: str) -> str:
    return printable(path, 128)
