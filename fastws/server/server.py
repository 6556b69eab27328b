"""The server: listening sockets, the engine in an event loop, HTTP heads and bodies, the end.

Layer 6. Knows sockets, the loop and how a request becomes an answer or a WebSocket; what is
served it asks its App. Owns the listening sockets and the engine, which owns all others.
"""

import asyncio
import logging
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from fastws._frame import Connection, Engine, Topic, check_close, deflate_available
from fastws.checks import check_integer
from fastws.errors import ConfigError, ConnectionClosed, FastwsError, HandshakeError, printable
from fastws.http.extensions import negotiate
from fastws.http.head import head_too_large, parse_request
from fastws.http.origin import check_origin, origins_of
from fastws.http.request import Request
from fastws.http.response import CONTINUE
from fastws.http.upgrade import check_upgrade, switching_protocols
from fastws.lag import History, Lag
from fastws.server.app import App
from fastws.server.driver import FORKED, Driver
from fastws.server.handlers import Handlers, check_done, is_async
from fastws.server.limit_log import HTTP_LIMITS, LimitLog
from fastws.server.listeners import close as close_listener
from fastws.server.listeners import keep, listen_tcp, listen_unix
from fastws.server.memory import memory_budget
from fastws.server.open_files import room_for
from fastws.server.timeouts import Timeouts

if TYPE_CHECKING:
    from fastws._frame import OnSlow

logger = logging.getLogger("fastws")

GOING_AWAY = 1001
INTERNAL_ERROR = 1011


class Server:
    """Serves one App on up to eight addresses.

    Args:
        app: what is served.
        max_connections: 1 to 10,000,000, past it: 503. None takes what the limit of open files
            (raised as far as we may) has room for; more is lowered to it, with a warning.
        max_per_address: connections of one address (IPv6: of one /64), 0: no limit; past it: 429.
        max_message_size: bytes of a client's message; past it: 1009.
        max_fragments: frames of one; past it: 1009.
        allowed_origins: as for `check_origin`; None lets every origin in.
        deflate: whether clients that offer permessage-deflate get it.
        max_log_bytes: bytes of memory that the logs of all topics may take together, 1 MiB up; past
            it the oldest messages of those that hold most go first. None: the smaller of 256 MiB
            and an eighth of the memory that the control group or the machine has.
        handler_queue: messages of one client (1 to 65,534) that may wait for an `async` handler.
        max_buffered_bytes: bytes of memory that all else may take that waits in user memory, 1 MiB
            up: direct sends and responses, messages and requests that are not whole, what other
            threads staged. Past it sends raise LogFull, requests get 503, and those connections
            that hold most are closed with 1013. None: as for max_log_bytes.
        handshake_timeout, keep_alive_timeout, close_timeout, ping_interval, pong_timeout,
            message_timeout, write_timeout: seconds; see `Timeouts`.

    Raises:
        ConfigError: an option out of range, or deflate in a build without zlib; one clear line.
        TypeError: app is no App.
    """

    def __init__(
        self,
        app: App,
        *,
        max_connections: int | None = None,
        max_per_address: int = 0,
        max_message_size: int = 1 << 20,
        max_fragments: int = 16_384,
        allowed_origins: Collection[str] | None = None,
        deflate: bool = False,
        max_log_bytes: int | None = None,
        handler_queue: int = 16,
        max_buffered_bytes: int | None = None,
        handshake_timeout: float = 10.0,
        keep_alive_timeout: float = 75.0,
        close_timeout: float = 5.0,
        ping_interval: float = 20.0,
        pong_timeout: float = 20.0,
        message_timeout: float = 60.0,
        write_timeout: float = 30.0,
    ) -> None:
        if not isinstance(app, App):
            raise TypeError(f"app must be an instance of App, not {app!r}")
        check_integer("max_per_address", max_per_address, 0, 2**32 - 1)
        check_integer("max_message_size", max_message_size, 0, 2**63 - 1)  # RFC 6455 5.2
        check_integer("max_fragments", max_fragments, 1, 2**32 - 1)
        check_integer("handler_queue", handler_queue, 1, 65_534)
        timeouts = Timeouts(
            handshake_timeout=handshake_timeout,
            keep_alive_timeout=keep_alive_timeout,
            close_timeout=close_timeout,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
            message_timeout=message_timeout,
            write_timeout=write_timeout,
        )
        self._close_timeout = close_timeout
        if deflate and not deflate_available():
            raise ConfigError("deflate", "this fastws was built without zlib (zlib.h was missing)")
        self._deflate = deflate
        self._app = app
        self._allowed_origins = (
            None if allowed_origins is None else origins_of("allowed_origins", allowed_origins)
        )
        self.engine = Engine(
            max_connections=room_for(max_connections),
            max_per_address=max_per_address,
            max_message_size=max_message_size,
            max_fragments=max_fragments,
            max_log_bytes=memory_budget("max_log_bytes", max_log_bytes),
            max_buffered_bytes=memory_budget("max_buffered_bytes", max_buffered_bytes),
            **asdict(timeouts),
        )
        self.engine.on_head = self._on_head
        self.engine.on_head_limit = self._on_head_limit
        self.engine.on_body = self._on_body
        self.engine.on_undecided = self._on_undecided
        self._async = {
            name
            for name in ("admit", "opened", "message", "closed")
            if is_async(getattr(app, name))
        }
        self._queued = not self._async.isdisjoint({"opened", "message"})
        self._handler_queue = handler_queue
        self._handlers = Handlers(handler_queue if self._queued else 0, self._failed)
        self.engine.on_message = self._on_message if self._queued else app.message
        self.engine.on_close = self._on_close
        self.engine.on_error = self._failed
        self.engine.on_topic_error = self._topic_failed
        self._driver = Driver(self.engine)
        self._sockets: list[socket.socket] = []
        self._ended = False
        self._empty: asyncio.Event | None = None  # set: it stops
        self._stopping: asyncio.Task[None] | None = None
        self._bodies: dict[int, Request] = {}  # by connection: whose body is still to come
        self._http_refused = dict.fromkeys(HTTP_LIMITS, 0)
        self._limits = LimitLog(self.counters)

    def listen(self, host: str, port: int) -> list[tuple[str, int]]:
        """Bind and listen on every address of a host name; connections wait until `start`.

        Args:
            host: a name or address.
            port: 0 to 65,535; 0 takes a free one, the same for all addresses of the host.

        Returns:
            The addresses bound.

        Raises:
            ConfigError: the address is bad, in use, not ours or one too many; one clear line.
            RuntimeError: the server has started, or is closed.
        """
        self._check_new()
        listeners = listen_tcp(host, port)
        keep(self._sockets, listeners)
        return [listener.getsockname()[:2] for listener in listeners]

    def listen_unix(self, path: str) -> None:
        """Bind and listen on a Unix socket; its file is removed at the end.

        Raises:
            ConfigError: the path is too long, in use, one too many, or something else is there.
            RuntimeError: the server has started, or is closed.
        """
        self._check_new()
        keep(self._sockets, [listen_unix(path)])

    def start(self) -> None:
        """Begin to serve on the running loop.

        Raises:
            RuntimeError: it has started already, or is closed; no loop is running.
        """
        self._check_new()
        self._driver.start()
        for listener in self._sockets:
            self.engine.listen(listener.fileno())
        self._limits.start()

    async def stop(self, code: int = GOING_AWAY, reason: str = "") -> None:
        """Accept no more, close every WebSocket behind what is on its way, and let go of all.

        A client in the middle of a request gets 503. Takes at most `close_timeout` and one
        second, whatever progress a client makes; connections that have not closed by then are cut
        off, and handlers that do not end when they are cancelled are left behind, which is logged.

        An async handler may await it (another one: `asyncio.create_task(server.stop())`): that
        handler is not cancelled, and continues when everything else has ended. A second call waits
        for the same end. A cancelled call still stops the server. Before `start`, and once the loop
        has ended, it is `close`.

        Raises:
            ValueError: a code or reason that `Connection.close` refuses.
            RuntimeError: called in another thread than the loop's, or in a child of the process.
        """
        check_close(code, reason)
        self._driver.check_thread()
        loop = asyncio.get_running_loop()
        if self._stopping is None and self._driver.loop is loop:
            self._stop_listening()
            self._empty = asyncio.Event()
            self._stopping = loop.create_task(self._stop(self._empty, code, reason))
        task = self._stopping
        if task is None or task.cancelled() or task.get_loop() is not loop:
            self.close()
            return
        with self._handlers.sparing(asyncio.current_task()):
            await asyncio.shield(task)

    async def _stop(self, empty: asyncio.Event, code: int, reason: str) -> None:
        deadline = asyncio.get_running_loop().time() + self._close_timeout + 1
        try:
            await asyncio.sleep(0)  # an eager task begins in the turn
            self._driver.turn()  # requests that have come are known to have begun
            self._take_leave(code, reason)
            self._driver.turn_soon()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline - 0.5):
                    while self.engine.connections:
                        empty.clear()
                        await empty.wait()
        finally:
            self.close()
        await self._handlers.finish(deadline - asyncio.get_running_loop().time())

    def _take_leave(self, code: int, reason: str) -> None:
        if self._ended:
            return  # a handler has closed it
        for connection in self.engine.all_connections():
            if connection.is_open:
                with suppress(ConnectionClosed):
                    connection.close(code, reason)
            elif self.engine.is_http(connection):
                self._handlers.cancel(connection)
                self._dismiss(connection)

    def _dismiss(self, connection: Connection) -> None:
        try:  # in the middle of a request
            self._refuse(connection, HandshakeError(503, "Shutting down"), head_only=False)
        except ConnectionClosed:
            if not connection.buffered_amount:  # else it has an answer on its way, and then ends
                connection.abort()

    @property
    def ended(self) -> bool:
        """Whether it was closed, or has stopped."""
        return self._ended

    def counters(self) -> dict[str, int]:
        """Return what was counted since the start, by name: the engine's, and `http_STATUS`."""
        return self.engine.counters() | self._http_refused

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
        self._ended = True
        self._stop_listening()
        self._limits.stop()
        self._driver.stop()
        self.engine.close()

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

    # Topics.

    def topic(
        self,
        name: str,
        *,
        on_slow: "OnSlow | None" = None,
        max_lag: Lag | None = None,
        retention_bytes: int | None = None,
        history: History | None = None,
        min_rate: int | None = None,
    ) -> Topic:
        """Return the topic of that name; see `Engine.topic`."""
        return self.engine.topic(
            name,
            on_slow=on_slow,
            max_lag=max_lag,
            retention_bytes=retention_bytes,
            history=history,
            min_rate=min_rate,
        )

    def topics(
        self,
        pattern: str,
        *,
        on_slow: "OnSlow | None" = None,
        max_lag: Lag | None = None,
        retention_bytes: int | None = None,
        history: History | None = None,
        min_rate: int | None = None,
    ) -> None:
        """Set the options of topics that are only named and match; see `Engine.topics`."""
        self.engine.topics(
            pattern,
            on_slow=on_slow,
            max_lag=max_lag,
            retention_bytes=retention_bytes,
            history=history,
            min_rate=min_rate,
        )

    # What the engine raises.

    def _on_head(self, connection: Connection, head: bytes) -> None:
        try:
            request = parse_request(head)
            if self._empty is not None:
                raise HandshakeError(503, "Shutting down")
            if self.engine.over_limit(connection):
                raise HandshakeError(503, "Too many connections")
            if self.engine.over_address(connection):
                raise HandshakeError(429, "Too many connections from this address")
            if request.is_upgrade:
                self._upgrade(connection, request)
            elif request.content_length:
                interim = CONTINUE if request.expects_continue else b""
                self._bodies[connection.id] = request
                self.engine.expect_body(connection, request.content_length, interim)
            else:
                self._answer(connection, request, b"")
        except HandshakeError as error:
            self._refuse(connection, error, head_only=head.startswith(b"HEAD "))

    def _on_head_limit(self, connection: Connection, part: bytes) -> None:
        self._refuse(connection, head_too_large(part), head_only=part.startswith(b"HEAD "))

    def _refuse(self, connection: Connection, error: HandshakeError, *, head_only: bool) -> None:
        name = f"http_{error.status}"
        if name in self._http_refused:
            self._http_refused[name] += 1
        answer = self._app.refuse(error)
        if head_only:  # RFC 9110 9.3.2: the answer to HEAD has no content
            answer = b"".join(answer.partition(b"\r\n\r\n")[:2])
        self.engine.respond(connection, answer, keep_alive=False)

    def _on_body(self, connection: Connection, body: bytes) -> None:
        request = self._bodies.pop(connection.id)
        if self._empty is None:
            self._answer(connection, request, body)
        else:
            self._refuse(connection, HandshakeError(503, "Shutting down"), head_only=False)

    def _answer(self, connection: Connection, request: Request, body: bytes) -> None:
        try:
            answer = self._app.http(request, body, connection.remote_address[0])
        except HandshakeError as error:
            self._refuse(connection, error, head_only=request.method == "HEAD")
            return
        self.engine.respond(connection, answer, keep_alive=request.keep_alive)

    def _upgrade(self, connection: Connection, request: Request) -> None:
        accept = check_upgrade(request)
        check_origin(request, self._allowed_origins)
        offers = request.values("sec-websocket-extensions") if self._deflate else ()
        deflate = negotiate(offers)
        extra = [("Sec-WebSocket-Extensions", deflate.header)] if deflate else []
        answer = switching_protocols(accept, extra=extra)
        bits = deflate.window_bits if deflate else 0
        if "admit" in self._async:
            self._handlers.put(connection, self._admit, request, answer, bits)
        else:
            check_done(self._app.admit(connection, request))
            self._open(connection, request, answer, bits)

    async def _admit(
        self, connection: Connection, request: Request, answer: bytes, window_bits: int
    ) -> None:
        try:
            decision = self._app.admit(connection, request)
            if decision is not None:
                await decision
        except HandshakeError as error:
            self._refuse(connection, error, head_only=False)
        else:
            self._open(connection, request, answer, window_bits)

    def _on_undecided(self, connection: Connection) -> None:
        self._handlers.cancel(connection)
        error = HandshakeError(503, "The decision took too long")
        self._refuse(connection, error, head_only=False)

    def _open(
        self, connection: Connection, request: Request, answer: bytes, window_bits: int
    ) -> None:
        self.engine.upgrade(connection, answer, window_bits=window_bits)
        if self._queued:
            connection.pause_reading(after=self._handler_queue)
        if "opened" in self._async:
            self._handlers.put(connection, self._app.opened, request)
        else:
            check_done(self._app.opened(connection, request))

    def _on_message(self, connection: Connection, message: str | bytes) -> None:
        self._handlers.put(connection, self._app.message, message)

    def _on_close(self, connection: Connection) -> None:
        self._bodies.pop(connection.id, None)
        if self._empty is not None:
            self._empty.set()
        if self._async:
            self._handlers.end(connection, self._app.closed)
        else:
            check_done(self._app.closed(connection))

    def _topic_failed(self, topic: Topic, exception: BaseException) -> None:
        logger.error("topic %s: a callback raised", printable(topic.name), exc_info=exception)

    def _failed(self, connection: Connection, exception: BaseException) -> None:
        """A handler raised: the connection ends with 1011 or 500, the others go on."""
        ended = not (connection.is_open or self.engine.is_http(connection))
        if ended and isinstance(exception, ConnectionClosed):
            return  # it went away while it was being answered; another's end is a failure
        where = connection.remote_address
        logger.error("connection %s: a handler raised", where, exc_info=exception)
        with suppress(FastwsError):
            if connection.is_open:
                connection.close(INTERNAL_ERROR)
                return
            error = HandshakeError(500, "Internal server error")
            self.engine.respond(connection, self._app.refuse(error), keep_alive=False)
