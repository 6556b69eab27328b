"""`fastws.serve`: a server in one call. Layer 6."""

import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from fastws.errors import ConfigError
from fastws.server.acceptor import ProcessRequest, SelectSubprotocol
from fastws.server.app import App, WebSocketHandler
from fastws.server.handlers import is_async
from fastws.server.limits import Limits
from fastws.server.server import Server


def serve(
    handler: WebSocketHandler | App,
    host: str | Sequence[str] | None = "127.0.0.1",
    port: int = 0,
    *,
    unix: str | None = None,
    unix_mode: int | None = None,
    sock: socket.socket | None = None,
    ssl: object = None,
    process_request: ProcessRequest | None = None,
    subprotocols: Sequence[str] = (),
    select_subprotocol: SelectSubprotocol | None = None,
    origins: Collection[str] | None = None,
    limits: Limits | None = None,
    deflate: bool = False,
    health: bool = True,
) -> Server:
    """Return a server that listens once it is started, by `async with` or `await`.

    `async with` stops it as well; after `await`, `await server.stop()` does.

    Args:
        handler: a coroutine handler, called with the connection of each client; or an App.
        host: a name or address, or several; None: every address of this machine, IPv4 and IPv6.
        port: 0 to 65,535; 0: a free one, see `Server.sockets`.
        unix: the path of a Unix socket, instead of host and port.
        unix_mode: of its file, such as 0o660: who may write to it may connect; None: as the umask
            has it.
        sock: a bound socket, instead of host and port.
        ssl: not supported yet; put a proxy in front that ends TLS.
        process_request: see `Server`, as for all that follow.
        subprotocols: spoken here.
        select_subprotocol: chooses one.
        origins: of web pages that may connect.
        limits: what bounds it.
        deflate: whether clients that offer permessage-deflate get it.
        health: whether GET /healthz is answered.

    Raises:
        ConfigError: an option out of range; when it starts: an address that cannot be had.
        TypeError: handler is neither `async def` nor an App.

    Example:
        async def echo(ws):
            async for message in ws:
                await ws.send(message)

        async with fastws.serve(echo, "127.0.0.1", 8080) as server:
            await server.serve_forever()
    """
    if ssl is not None:
        raise ConfigError("ssl", "TLS is not supported yet: put a proxy in front that ends it")
    if unix is not None and sock is not None:
        raise ConfigError("sock", "cannot be combined with unix")
    if unix_mode is not None and unix is None:
        raise ConfigError("unix_mode", "needs unix")
    hosts = [host] if isinstance(host, str) or host is None else list(host)
    if not hosts:
        raise ConfigError("host", "an empty list of hosts; None is every address")
    return _Serving(
        _app(handler),
        _Where(unix, unix_mode, sock, hosts, port),
        process_request=process_request,
        subprotocols=subprotocols,
        select_subprotocol=select_subprotocol,
        origins=origins,
        limits=limits,
        deflate=deflate,
        health=health,
    )


@dataclass(frozen=True, slots=True)
class _Where:
    """Where to listen; see `serve`."""

    unix: str | None
    unix_mode: int | None
    sock: socket.socket | None
    hosts: list[str | None] | list[str]
    port: int


class _Serving(Server):
    """A server that knows where to listen before it starts."""

    def __init__(self, app: App, where: _Where, **options: Any) -> None:
        super().__init__(app, **options)
        self._where = where

    def start(self) -> None:
        self._check_new()
        where = self._where
        try:
            if where.unix is not None:
                self.listen_unix(where.unix, where.unix_mode)
            elif where.sock is not None:
                self.listen_on(where.sock)
            else:
                port = where.port
                for host in where.hosts:
                    _, port = self.listen(host, port)[0]  # the same free one for all of them
            super().start()
        except BaseException:
            self.close()
            raise


def _app(handler: WebSocketHandler | App) -> App:
    if isinstance(handler, App):
        return handler
    if not callable(handler) or not is_async(handler):
        raise TypeError(f"a handler is `async def handler(ws)` or an App, unlike {handler!r}")
    app = App()
    app.handler = handler
    return app
