"""What a server serves: the App, by routes or by methods that one overrides. Layer 6.

Knows connections and requests; neither sockets nor the loop.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, Concatenate, TypeVar

from fastws._frame import Connection
from fastws.errors import VERSION_HEADERS, HandshakeError
from fastws.http.request import Request
from fastws.http.response import Response, refusal
from fastws.http.router import WEBSOCKET, Router
from fastws.lag import Lag
from fastws.server.handlers import is_async
from fastws.server.plain import NAME_PATTERN, PREFIX, CanSubscribe, PlainTopics

# The rest of the arguments are the parameters of the path, by name.
HttpHandler = Callable[Concatenate[Request, ...], Response | Awaitable[Response]]
WebSocketHandler = Callable[Concatenate[Connection, ...], Coroutine[Any, Any, None]]
H = TypeVar("H", bound=HttpHandler)
W = TypeVar("W", bound=WebSocketHandler)


class App:
    """What a server serves.

    Routes are added by decorators, and come first:

        app = App()

        @app.get("/price/{symbol}")
        def price(request, symbol): return Response.json(prices[symbol])

        @app.websocket("/prices/{symbol}")
        async def prices(ws, symbol): ...

    An HTTP handler takes the request (and the path's parameters) and returns a Response; it may be
    `async def`. A WebSocket handler is `async def`, and takes the connection: its end is a close
    with 1000.

    The methods below are for all other requests, and need no task for each connection; override
    those that you need. Every method is called on the loop's thread, inside the engine's turn, and
    must not block. One that raises ends its connection (1011, or 500) and is logged.

    `admit`, `opened`, `message` and `closed` may be `async def`. Those of one connection then run
    one after the other, in order, in a task that is there only while messages come; while
    `handler_queue` messages wait behind the one that is handled, the connection is not read from
    (so pausing and resuming it is the server's alone). When it ends, what runs is cancelled
    (CancelledError), what waits is dropped, and `closed` follows. Wrap async handlers with
    `functools.wraps`; otherwise fastws cannot see that they are async, and they fail.
    """

    handler: WebSocketHandler | None = None  # a coroutine handler of WebSockets without a route
    routes: Router | None = None  # None: there is none
    plain: tuple[PlainTopics, ...] = ()  # the longest prefix first

    # Routes.

    def _router(self) -> Router:
        if self.routes is None:
            self.routes = Router()
        return self.routes

    @property
    def serves_routes_only(self) -> bool:
        """Whether WebSockets have routes, and those without one are for nobody."""
        own = type(self)
        overridden = own.opened is not App.opened or own.message is not App.message
        has_some = self.plain or (self.routes is not None and self.routes.has(WEBSOCKET))
        return bool(has_some) and not overridden

    def route(self, path: str, *methods: str) -> Callable[[H], H]:
        """Add an HTTP handler for a path and methods (names in capitals; none: GET).

        Args:
            path: literal but for `{name}`, which stands for one segment.
            methods: "GET", "POST", ...

        Raises:
            ValueError: the path is malformed, or has a handler for the method.
        """

        def add(handler: H) -> H:
            for method in methods or ("GET",):
                self._router().add(method, path, handler)
            return handler

        return add

    def get(self, path: str) -> Callable[[H], H]:
        """Add a handler of GET (and HEAD); see `route`."""
        return self.route(path, "GET")

    def post(self, path: str) -> Callable[[H], H]:
        """Add a handler of POST; see `route`."""
        return self.route(path, "POST")

    def put(self, path: str) -> Callable[[H], H]:
        """Add a handler of PUT; see `route`."""
        return self.route(path, "PUT")

    def delete(self, path: str) -> Callable[[H], H]:
        """Add a handler of DELETE; see `route`."""
        return self.route(path, "DELETE")

    def websocket(self, path: str) -> Callable[[W], W]:
        """Add a coroutine handler for WebSockets at a path; see `route`.

        Raises:
            TypeError: the handler is not `async def`.
        """

        def add(handler: W) -> W:
            if not is_async(handler):
                raise TypeError(f"a WebSocket handler is `async def`, unlike {handler!r}")
            self._router().add(WEBSOCKET, path, handler)
            return handler

        return add

    def plain_topics(
        self,
        can_subscribe: CanSubscribe | None = None,
        *,
        prefix: str = PREFIX,
        name_pattern: str = NAME_PATTERN,
        query: Collection[str] = (),
        lossless: bool = False,
        max_lag: Lag | None = None,
    ) -> None:
        """Serve topics to any WebSocket client: `/topics/{topic}` gets what is published to it.

        docs/protocol.md 4 has the options of the query, such as `?since=epoch:seq`. A route of the
        same path comes first. What such a client sends is ignored.

        Args:
            can_subscribe: `can_subscribe(request, topic)`, sync or async, is asked before the 101:
                True lets the client subscribe, and makes the topic if there is none; None lets it
                where the topic exists, else 404; False is 403; a Response is sent, or, with status
                101, lets the client in and adds headers. None: as if it returned None.
            prefix: of the paths; the rest is the topic's name, which may have slashes.
            name_pattern: a regular expression that a whole name has to match, else 400. The limit
                `max_topic_name` bounds its bytes.
            query: names of options in the query that are the program's own, such as "token"; any
                other name is 400.
            lossless: whether clients may ask for `onSlow=lossless`: they can hold the publisher.
            max_lag: of clients that ask for a policy by `onSlow`, its bytes up to what the topic
                retains; None: the topic's.

        Raises:
            ValueError: the prefix does not begin and end with a slash, or has topics already;
                max_lag is out of range.
            re.PatternError: name_pattern is no regular expression.
        """
        topics = PlainTopics(prefix, can_subscribe, name_pattern, query, lossless, max_lag)
        self._add_plain(topics)

    def _add_plain(self, topics: PlainTopics) -> None:
        if any(each.prefix == topics.prefix for each in self.plain):
            raise ValueError(f"there are topics at {topics.prefix} already")
        all_of_them = [*self.plain, topics]
        self.plain = tuple(sorted(all_of_them, key=lambda each: -len(each.prefix)))

    # Methods to override.

    def http(self, request: Request) -> Response | Awaitable[Response]:
        """Answer a request that is not an upgrade and has no route.

        By default: 404 where there are routes for HTTP, else 426 (RFC 9110 15.5.22): whatever the
        path, only a WebSocket is served there.
        """
        if self.routes is not None and self.routes.has_http:
            return Response(404, "Not found")
        return Response(426, "a WebSocket upgrade is required", VERSION_HEADERS)

    def refuse(self, error: HandshakeError) -> Response:
        """Answer a request that is refused; the connection closes behind it."""
        return refusal(error)

    def admit(
        self, connection: Connection, request: Request
    ) -> Response | Awaitable[Response | None] | None:
        """Let a client in, or raise HandshakeError (401, 403, ...): it is then refused with that.

        `Response(101, headers=...)` lets it in and adds headers to the 101, such as Set-Cookie;
        another Response refuses it.

        Called before the 101, for a handshake that is good otherwise, also where a route has it. As
        `async def` it has `handshake_timeout` (10 s), from accept or a later request's first byte;
        then the client gets 503 and this is cancelled, as it is when the client goes.
        """

    def opened(self, connection: Connection, request: Request) -> Awaitable[None] | None:
        """Take a new WebSocket; its 101 leaves ahead of whatever is sent here.

        `message` is not called before an async one has returned: put an endless loop in a task
        (`asyncio.create_task`), and cancel it in `closed`; or use a coroutine handler.
        """

    def message(self, connection: Connection, message: str | bytes) -> Awaitable[None] | None:
        """Take a message of a client."""

    def closed(self, connection: Connection) -> Awaitable[None] | None:
        """Hear that a connection has ended that was `opened`; see its close_code and reason."""
