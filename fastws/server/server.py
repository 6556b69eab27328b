"""The server: listening sockets, the engine in an event loop, topics, the end.

Layer 6. Knows sockets, the loop and the order of starting and stopping. What a request becomes is
the Acceptor's. Owns the listening sockets and the engine, which owns all others.
"""

import asyncio
import logging
import socket
from collections.abc import Collection, Generator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from fastws._frame import Connection, Topic, check_close, deflate_available
from fastws.checks import check_flag
from fastws.errors import ConfigError, ConnectionClosed, printable
from fastws.http.origin import origins_of
from fastws.lag import History, Lag
from fastws.server.acceptor import (
    AcceptOptions,
    Acceptor,
    ProcessRequest,
    SelectSubprotocol,
)
from fastws.server.app import App
from fastws.server.driver import FORKED, Driver
from fastws.server.engines import make_engine
from fastws.server.limit_log import LimitLog
from fastws.server.limits import Limits
from fastws.server.listeners import (
    add_listeners,
    bound_address,
    listen_tcp,
    listen_unix,
    shown_address,
    take_socket,
)
from fastws.server.listeners import close as close_listener
from fastws.server.open_files import say_low_limit

if TYPE_CHECKING:
    from fastws._frame import Content, OnSlow

logger = logging.getLogger("fastws")

GOING_AWAY = 1001


class Server:
    """Serves one App on up to eight addresses. `fastws.serve` makes one, too.

    Listen, start, stop; or `async with server`, which starts and stops it. Several may share a
    loop. `engine` is what carries it, `limit_log` says which limits were met.

    Args:
        app: what is served.
        process_request: `process_request(request)`, sync or async, is asked before everything else;
            it returns None; or a Response, which is sent and ends the connection; or, for a
            WebSocket, `Response(101, headers=...)`, which lets it go on and adds headers to the
            101, such as Set-Cookie.
        subprotocols: those that are spoken here (RFC 6455 1.9); a client gets the first of its own
            list that is among them, or none.
        select_subprotocol: `select_subprotocol(request, asked)` chooses instead: one of `asked`, or
            None. It may raise HandshakeError.
        origins: those of web pages that may connect, as browsers send them; None lets all in.
        limits: what bounds it.
        deflate: whether clients that offer permessage-deflate get it.
        health: whether GET /healthz is answered with 200.

    Raises:
        ConfigError: an option out of range, or deflate in a build without zlib; one clear line.
        TypeError: app is no App.
    """

    def __init__(
        self,
        app: App,
        *,
        process_request: ProcessRequest | None = None,
        subprotocols: Sequence[str] = (),
        select_subprotocol: SelectSubprotocol | None = None,
        origins: Collection[str] | None = None,
        limits: Limits | None = None,
        deflate: bool = False,
        health: bool = True,
    ) -> None:
        if not isinstance(app, App):
            raise TypeError(f"app must be an instance of App, not {app!r}")
        check_flag("deflate", deflate)
        if deflate and not deflate_available():
            raise ConfigError("deflate", "this fastws was built without zlib (zlib.h was missing)")
        if isinstance(subprotocols, str):
            raise ConfigError("subprotocols", f"must be a list, such as [{subprotocols!r}]")
        self.limits = Limits() if limits is None else limits
        options = AcceptOptions(
            process_request,
            tuple(subprotocols),
            select_subprotocol,
            None if origins is None else origins_of("origins", origins),
            deflate,
            health,
            self.limits.of_heads(),
            self.limits.handler_queue,
            self.limits.max_topic_name,
        )
        self.engine, waits = make_engine(self.limits)
        self._acceptor = Acceptor(self.engine, waits, app, options, self._on_end)
        self.engine.on_topic_error = self._topic_failed
        self._driver = Driver(self.engine)
        self._sockets: list[socket.socket] = []
        self._ended = False
        self._empty: asyncio.Event | None = None  # set: a connection has ended while it stops
        self._stopping: asyncio.Task[None] | None = None
        self._closed: asyncio.Event | None = None  # set: it has stopped
        self.limit_log = LimitLog(self.counters, self.engine.met_last)

    # Listening.

    def listen(self, host: str | None, port: int) -> list[tuple[str, int]]:
        """Bind and listen on every address of a host name; connections wait until `start`.

        Args:
            host: a name or address; None: every address of this machine.
            port: 0 to 65,535; 0 takes a free one, the same for all addresses of the host.

        Returns:
            The addresses bound.

        Raises:
            ConfigError: the address is bad, in use, not ours or one too many; one clear line.
            RuntimeError: the server has started, or is closed.
        """
        self._check_new()
        listeners = listen_tcp(host, port)
        add_listeners(self._sockets, listeners)
        return [bound_address(listener) for listener in listeners]

    def listen_unix(self, path: str, mode: int | None = None) -> None:
        """Bind and listen on a Unix socket; its file is removed at the end.

        Args:
            path: up to 107 bytes.
            mode: of its file, 0 to 0o777: who may write to it may connect; None: as the umask
                has it.

        Raises:
            ConfigError: the path is too long, in use, one too many, or something else is there;
                the mode is out of range.
            RuntimeError: the server has started, or is closed.
        """
        self._check_new()
        add_listeners(self._sockets, [listen_unix(path, mode)])

    def listen_on(self, sock: socket.socket) -> None:
        """Take over a socket that is bound; it listens, and is closed at the end.

        Raises:
            ConfigError: it is no stream socket of TCP or Unix, or one too many.
            RuntimeError: the server has started, or is closed.
        """
        self._check_new()
        add_listeners(self._sockets, [take_socket(sock)])

    # Life.

    def start(self) -> None:
        """Begin to serve on the running loop.

        Raises:
            RuntimeError: it has started already, or is closed; no loop is running.
        """
        self._check_new()
        self._closed = asyncio.Event()
        self._driver.start()
        for listener in self._sockets:
            self.engine.listen(listener.fileno())
        self.limit_log.start()
        say_low_limit(self.limits.max_connections)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def __await__(self) -> Generator[Any, None, Self]:
        """Start, and return the server: `server = await serve(...)`."""
        return self._started().__await__()

    async def _started(self) -> Self:
        self.start()
        return self

    async def serve_forever(self) -> None:
        """Wait until the server has stopped, from wherever; cancelled, it goes on serving.

        Raises:
            RuntimeError: it has not started.
        """
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the server has stopped or was closed.

        Raises:
            RuntimeError: it has not started.
        """
        if self._closed is None:
            raise RuntimeError("the server has not started: use `async with`, or start()")
        await self._closed.wait()

    async def stop(
        self, code: int = GOING_AWAY, reason: str = "", *, grace: float | None = None
    ) -> None:
        """Accept no more, close every WebSocket behind what is on its way, and let go of all.

        A client in the middle of a request gets 503. Takes at most `grace` and one second, whatever
        progress a client makes. Connections that have not closed half a second behind the grace are
        cut off, coroutine handlers that have not ended are cancelled, and those that do not end
        then are left behind, which is logged.

        An async handler may await it (another one: `asyncio.create_task(server.stop())`): that
        handler is not cancelled, and continues when everything else has ended. A second call waits
        for the same end. A cancelled call still stops the server. Before `start`, and once the loop
        has ended, it is `close`.

        Args:
            code: of the Close that is sent.
            reason: its text.
            grace: seconds; None: `close_timeout`.

        Raises:
            ValueError: a code or reason that `Connection.close` refuses, or a negative grace.
            RuntimeError: called in another thread than the loop's, or in a child of the process.
        """
        check_close(code, reason)
        seconds = self.limits.close_timeout if grace is None else grace
        if not seconds >= 0:
            raise ValueError(f"grace must be seconds from 0, not {grace!r}")
        self._driver.check_thread()
        loop = asyncio.get_running_loop()
        if self._stopping is None and self._driver.loop is loop:
            self._stop_listening()
            self._acceptor.stopping = True
            self._empty = asyncio.Event()
            self._stopping = loop.create_task(self._stop(self._empty, code, reason, seconds))
        task = self._stopping
        if task is None or task.cancelled() or task.get_loop() is not loop:
            self.close()
            return
        with self._acceptor.tasks.sparing(asyncio.current_task()):
            await asyncio.shield(task)

    async def _stop(self, empty: asyncio.Event, code: int, reason: str, seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds + 1
        try:
            await asyncio.sleep(0)  # an eager task begins in the turn
            self._driver.turn_now()  # requests that have come are known to have begun
            self._take_leave(code, reason)
            self._driver.turn_soon()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline - 0.5):
                    while self.engine.connections:
                        empty.clear()
                        await empty.wait()
            self._let_go()
            await self._acceptor.tasks.finish(deadline - 0.5, deadline)
        finally:
            self._let_go()
            self._say_closed()

    def _take_leave(self, code: int, reason: str) -> None:
        if self._ended:
            return  # a handler has closed it
        for connection in self.engine.all_connections():
            if connection.is_open:
                with suppress(ConnectionClosed):
                    connection.close(code, reason)
            elif self.engine.is_http(connection):
                self._acceptor.dismiss(connection)

    def _on_end(self) -> None:
        if self._empty is not None:
            self._empty.set()

    def close(self) -> None:
        """Let go of everything at once; handlers are cancelled, also the calling one. Idempotent.

        Called in a handler that is not async, it ends the connections at the end of the present
        turn. When the loop and its thread have ended, any thread may call it; an async `closed` is
        not called then. In a child of the process (fork) it only closes the child's descriptors.

        Raises:
            RuntimeError: called in another thread than the loop's.
        """
        if not self.engine.inherited:
            self._driver.check_thread()
            self._acceptor.tasks.cancel_lasting()
        self._let_go()
        if self._stopping is None:
            self._say_closed()

    def _let_go(self) -> None:
        self._ended = True
        self._stop_listening()
        self.limit_log.stop()
        self._driver.stop()
        self.engine.close()

    def _say_closed(self) -> None:
        if self._closed is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._closed.set()

    def _check_new(self) -> None:
        if self.engine.inherited:
            raise RuntimeError(f"{FORKED}; make a new Server in the child")
        if self._ended:
            raise RuntimeError("the server is closed; make a new Server")
        if self._driver.loop is not None:
            raise RuntimeError("the server has started already; listen before start, start once")

    def _stop_listening(self) -> None:
        for listener in self._sockets:
            with suppress(RuntimeError):
                self.engine.unlisten(listener.fileno())
            close_listener(listener)
        self._sockets.clear()

    # Facts.

    def __repr__(self) -> str:
        state = "not started" if self._driver.loop is None else "serving"
        state = "closed" if self._ended else "stopping" if self._acceptor.stopping else state
        where = "".join(f" {shown_address(each)}" for each in self._sockets)
        return f"<fastws.Server {state}{where} with {self.engine.live} connections>"

    @property
    def ended(self) -> bool:
        """Whether it was closed, or has stopped."""
        return self._ended

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets; they are the server's."""
        return tuple(self._sockets)

    @property
    def connections(self) -> list[Connection]:
        """The open WebSockets."""
        return [each for each in self.engine.connections if each.is_open]

    def counters(self) -> dict[str, int]:
        """Return what was counted since the start, by name: the engine's and of requests."""
        return self.engine.counters() | self._acceptor.counts()

    # Topics.

    def topic(
        self,
        name: str,
        *,
        on_slow: "OnSlow | None" = None,
        max_lag: Lag | None = None,
        retention_bytes: int | None = None,
        history: History | None = None,
        retain: bool | None = None,
        min_rate: int | None = None,
        content: "Content | None" = None,
    ) -> Topic:
        """Return the topic of that name; see `Engine.topic`."""
        return self.engine.topic(
            name,
            on_slow=on_slow,
            max_lag=max_lag,
            retention_bytes=retention_bytes,
            history=history,
            retain=retain,
            min_rate=min_rate,
            content=content,
        )

    def topics(
        self,
        pattern: str,
        *,
        on_slow: "OnSlow | None" = None,
        max_lag: Lag | None = None,
        retention_bytes: int | None = None,
        history: History | None = None,
        retain: bool | None = None,
        min_rate: int | None = None,
        content: "Content | None" = None,
    ) -> None:
        """Set the options of topics that are only named and match; see `Engine.topics`."""
        self.engine.topics(
            pattern,
            on_slow=on_slow,
            max_lag=max_lag,
            retention_bytes=retention_bytes,
            history=history,
            retain=retain,
            min_rate=min_rate,
            content=content,
        )

    def _topic_failed(self, topic: Topic, exception: BaseException) -> None:
        logger.error("topic %s: a callback raised", printable(topic.name), exc_info=exception)
