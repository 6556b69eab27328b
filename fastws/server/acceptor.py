"""From a request to a response or a WebSocket: what comes before a handler has a connection.

Layer 6. Knows requests, routes and the App; neither listening sockets nor the life of the server.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastws._frame import Connection, Engine, Topic, closed_error
from fastws.errors import ConnectionClosed, HandshakeError
from fastws.http.extensions import negotiate
from fastws.http.head import HeadLimits, head_too_large, parse_request
from fastws.http.origin import check_origin
from fastws.http.request import Request
from fastws.http.response import CONTINUE, Response, encode_response
from fastws.http.router import WEBSOCKET, Match
from fastws.http.upgrade import (
    asked_subprotocols,
    check_subprotocol,
    check_upgrade,
    choose_subprotocol,
    headers_of_101,
    lets_in,
    switching_protocols,
)
from fastws.server.app import App
from fastws.server.coroutines import Coroutines, Session
from fastws.server.decisions import Decisions
from fastws.server.failures import Failures
from fastws.server.handlers import check_done, is_async
from fastws.server.limit_log import HTTP_LIMITS
from fastws.server.plain import Asked, Plain, PlainSession
from fastws.server.tasks import Tasks
from fastws.server.waits import Waits
from fastws.server.workers import Workers

NO_PARAMETERS: Mapping[str, str] = {}
HEALTH = ("/healthz", "/healthz/")

ProcessRequest = Callable[[Request], Response | Awaitable[Response | None] | None]
SelectSubprotocol = Callable[[Request, list[str]], str | None]


@dataclass(frozen=True, slots=True)
class AcceptOptions:
    """How requests are taken; see `Server`."""

    process_request: ProcessRequest | None
    subprotocols: Sequence[str]
    select_subprotocol: SelectSubprotocol | None
    origins: Collection[str] | None
    deflate: bool
    health: bool
    head_limits: HeadLimits
    handler_queue: int
    max_topic_name: int


@dataclass(slots=True)
class _Upgrade:
    """A handshake that is good: what opens the WebSocket, and who is to have it."""

    request: Request
    accept: str
    window_bits: int
    subprotocol: str | None
    match: Match | Asked | None
    headers: list[tuple[str, str]]


class Acceptor:
    """Takes the requests, and the connections' ends, of one engine for one App.

    Args:
        engine: whose events it takes.
        waits: hears of the connections' ends as well.
        app: what is served.
        options: see there.
        on_end: called when a connection has ended.
    """

    def __init__(
        self,
        engine: Engine,
        waits: Waits,
        app: App,
        options: AcceptOptions,
        on_end: Callable[[], None],
    ) -> None:
        self.tasks = Tasks()
        self.http_refused = dict.fromkeys(HTTP_LIMITS, 0)
        self.stopping = False  # every request gets 503
        self._engine = engine
        self._app = app
        self._options = options
        self._on_end = on_end
        self._default = None if app.handler is None else Match(app.handler, {})
        self._only_routes = app.serves_routes_only
        self._is_async: dict[Callable[..., Any], bool] = {}
        self._failures = Failures(engine, app)
        self._decisions = Decisions(self.tasks)
        self._workers = Workers(self.tasks, app, options.handler_queue, self._failures.take)
        self._coroutines = Coroutines(self.tasks, options.handler_queue, self._failures.take)
        self._plain = Plain(lambda: app.plain, options.max_topic_name)
        self._bodies: dict[int, Request] = {}  # by connection: whose body is still to come
        self._waits = waits
        self._take_events()

    def _take_events(self) -> None:
        engine = self._engine
        engine.on_head = self._on_head
        engine.on_head_limit = self._on_head_limit
        engine.on_body = self._on_body
        engine.on_undecided = self._on_undecided
        engine.on_close = self._on_close
        engine.on_error = self._failures.take
        engine.on_topic_closed = self._on_topic_closed

    def counts(self) -> dict[str, int]:
        """Return what is counted here, by name."""
        return self.http_refused | self._plain.counts()

    def dismiss(self, connection: Connection) -> None:
        """Refuse a client in the middle of a request with 503: the server stops."""
        self._decisions.cancel(connection)
        try:
            self._refuse(connection, HandshakeError(503, "Shutting down"), head_only=False)
        except ConnectionClosed:
            if not connection.buffered_amount:  # else it has an answer on its way, and then ends
                connection.abort()

    # Requests.

    def _on_head(self, connection: Connection, head: bytes) -> None:
        try:
            request = parse_request(head, self._options.head_limits, connection)
            self._check_room(connection)
            if self._options.process_request is None or self._is_health(request):
                self._take(connection, request)
            else:
                self._process(connection, request, self._options.process_request)
        except HandshakeError as error:
            self._refuse(connection, error, head_only=head.startswith(b"HEAD "))

    def _check_room(self, connection: Connection) -> None:
        if self.stopping:
            raise HandshakeError(503, "Shutting down")
        if self._engine.over_limit(connection):
            raise HandshakeError(503, "Too many connections")
        if self._engine.over_address(connection):
            raise HandshakeError(429, "Too many connections from this address")

    def _is_health(self, request: Request) -> bool:
        return (
            self._options.health
            and not request.is_upgrade
            and request.path in HEALTH
            and request.method in ("GET", "HEAD")
        )

    def _process(
        self, connection: Connection, request: Request, process_request: ProcessRequest
    ) -> None:
        def go_on(response: Response | None) -> None:
            if response is None:
                self._take(connection, request)
            elif lets_in(response) and request.is_upgrade:
                self._upgrade(connection, request, headers_of_101(response))
            else:
                self._respond(connection, request, response, keep_alive=False)

        self._ask(connection, request, process_request, (request,), go_on)

    def _take(self, connection: Connection, request: Request) -> None:
        if request.is_upgrade:
            self._upgrade(connection, request)
        elif request.content_length:
            interim = CONTINUE if request.expects_continue else b""
            self._bodies[connection.id] = request
            self._engine.expect_body(connection, request.content_length, interim)
        else:
            self._answer(connection, request)

    def _ask(
        self,
        connection: Connection,
        request: Request,
        handler: Callable[..., Any],
        arguments: tuple[object, ...],
        go_on: Callable[[Any], None],
        parameters: Mapping[str, str] = NO_PARAMETERS,
    ) -> None:
        """Go on with what a handler returns, at once or, where it is async, in a task."""
        known = self._is_async.get(handler)
        if known is None:
            known = self._is_async[handler] = is_async(handler)
        if known:
            call = partial(handler, *arguments, **parameters)
            decision = partial(self._ask_later, connection, request, call, go_on)
            failed = partial(self._failures.take, request=request)
            self._decisions.start(connection, decision, handler, failed)
        else:
            self._failures.begin(connection, handler, request)
            go_on(handler(*arguments, **parameters))
            self._failures.end()

    async def _ask_later(
        self,
        connection: Connection,
        request: Request,
        call: Callable[[], Awaitable[Any]],
        go_on: Callable[[Any], None],
    ) -> None:
        try:
            go_on(await call())
        except HandshakeError as error:
            self._refuse(connection, error, head_only=request.method == "HEAD")

    def _on_head_limit(self, connection: Connection, part: bytes) -> None:
        error = head_too_large(part, self._options.head_limits)
        self._refuse(connection, error, head_only=part.startswith(b"HEAD "))

    def _on_body(self, connection: Connection, body: bytes) -> None:
        request = replace(self._bodies.pop(connection.id), body=body)
        try:
            if self.stopping:
                raise HandshakeError(503, "Shutting down")
            self._answer(connection, request)
        except HandshakeError as error:
            self._refuse(connection, error, head_only=request.method == "HEAD")

    def _on_undecided(self, connection: Connection) -> None:
        self._decisions.cancel(connection)
        error = HandshakeError(503, "The decision took too long")
        self._refuse(connection, error, head_only=False)

    # Responses.

    def _answer(self, connection: Connection, request: Request) -> None:
        if self._is_health(request):
            response = Response(200, "ok\n")
            self._respond(connection, request, response, keep_alive=request.keep_alive)
            return
        router = self._app.routes
        match = None if router is None else router.find(request.method, request.path)
        if match is None:
            self._plain.refuse(request)
        match = match or Match(self._app.http, {})

        def go_on(response: Response) -> None:
            self._respond(connection, request, response, keep_alive=request.keep_alive)

        self._ask(connection, request, match.handler, (request,), go_on, match.parameters)

    def _respond(
        self, connection: Connection, request: Request, response: Response, *, keep_alive: bool
    ) -> None:
        if not isinstance(response, Response):
            raise TypeError(f"a request is answered with a Response, not {response!r}")
        head_only = request.method == "HEAD"
        answer = encode_response(response, keep_alive=keep_alive, head_only=head_only)
        self._engine.respond(connection, answer, keep_alive=keep_alive)

    def _refuse(self, connection: Connection, error: HandshakeError, *, head_only: bool) -> None:
        name = f"http_{error.status}"
        if name in self.http_refused:
            self.http_refused[name] += 1
        self._failures.begin(connection, self._app.refuse)
        response = self._app.refuse(error)
        answer = encode_response(response, keep_alive=False, head_only=head_only)
        self._failures.end()
        self._engine.respond(connection, answer, keep_alive=False)

    # Upgrades.

    def _upgrade(
        self, connection: Connection, request: Request, headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        accept = check_upgrade(request)
        check_origin(request, self._options.origins)
        match = self._match(request)
        subprotocol = self._subprotocol(connection, request)
        offers = request.values("sec-websocket-extensions") if self._options.deflate else ()
        deflate = negotiate(offers)
        extra = [("Sec-WebSocket-Extensions", deflate.header)] if deflate else []
        bits = deflate.window_bits if deflate else 0
        upgrade = _Upgrade(request, accept, bits, subprotocol, match, [*extra, *headers])

        def go_on(result: object) -> None:
            if isinstance(result, Response):
                if not lets_in(result):
                    self._respond(connection, request, result, keep_alive=False)
                    return
                upgrade.headers += headers_of_101(result)
            else:
                check_done(result)
            if isinstance(upgrade.match, Asked):
                self._ask_to_subscribe(connection, upgrade, upgrade.match)
            else:
                self._open(connection, upgrade)

        self._ask(connection, request, self._app.admit, (connection, request), go_on)

    def _match(self, request: Request) -> Match | Asked | None:
        """Return who is to have the WebSocket; None: the methods of the App."""
        router = self._app.routes
        match = None if router is None else router.find(WEBSOCKET, request.path)
        asked = self._plain.asked(request) if match is None else None
        found = match or asked or self._default
        if found is None and self._only_routes:
            raise HandshakeError(404, "Not found")
        return found

    def _subprotocol(self, connection: Connection, request: Request) -> str | None:
        select, spoken = self._options.select_subprotocol, self._options.subprotocols
        if select is None:
            return choose_subprotocol(request, spoken) if spoken else None
        self._failures.begin(connection, select, request)
        chosen = select(request, asked_subprotocols(request))
        check_subprotocol(chosen)
        self._failures.end()
        return chosen

    def _open(self, connection: Connection, upgrade: _Upgrade) -> None:
        answer = switching_protocols(upgrade.accept, upgrade.subprotocol, upgrade.headers)
        self._engine.upgrade(connection, answer, window_bits=upgrade.window_bits)
        match, request = upgrade.match, upgrade.request
        if isinstance(match, Match):
            request.release_fields()
            session = Session(request, upgrade.subprotocol, path=request.path)
            self._coroutines.start(connection, session, match.handler, match.parameters)
            return
        if upgrade.subprotocol is not None or request.path != "/":
            connection.session = Session(subprotocol=upgrade.subprotocol, path=request.path)
        self._failures.begin(connection, self._app.opened)
        if self._workers.needed:
            self._workers.open(connection, request)
        else:
            connection.on_message = self._app.message
            check_done(self._app.opened(connection, request))
        self._failures.end()

    # Plain topics.

    def _ask_to_subscribe(self, connection: Connection, upgrade: _Upgrade, asked: Asked) -> None:
        request, decide = upgrade.request, asked.plain.can_subscribe

        def go_on(allowed: object) -> None:
            if isinstance(allowed, Response):
                if not lets_in(allowed):
                    self._respond(connection, request, allowed, keep_alive=False)
                    return
                upgrade.headers += headers_of_101(allowed)
            begin = self._plain.begin(connection, asked, allowed, upgrade.subprotocol)

            def answer() -> bytes:
                fields = [*upgrade.headers, *begin()]
                return switching_protocols(upgrade.accept, upgrade.subprotocol, fields)

            self._engine.upgrade_with(connection, answer, window_bits=upgrade.window_bits)
            if asked.plain.came is not None:
                self._failures.begin(connection, asked.plain.came, request)
                asked.plain.came(connection)
                self._failures.end()

        if decide is None:
            go_on(None)
        else:
            self._ask(connection, request, decide, (request, asked.request.topic), go_on)

    # Ends.

    def _on_topic_closed(self, topic: Topic) -> None:
        self._waits.publishers.on_close(topic)
        self._plain.topic_closed(topic)

    def _on_close(self, connection: Connection) -> None:
        try:
            self._tell_end(connection)
        finally:
            self._on_end()

    def _tell_end(self, connection: Connection) -> None:
        self._bodies.pop(connection.id, None)
        self._waits.on_close(connection)
        session = connection.session
        if session is not None and session.inbox is not None:
            session.inbox.end(closed_error(connection))
        elif isinstance(session, PlainSession):
            self._plain.ended(connection, session)
        elif connection.on_message is None:
            self._decisions.cancel(connection)
        else:
            self._failures.begin(connection, self._app.closed)
            if self._workers.needed_at_the_end:
                self._workers.end(connection)
            else:
                check_done(self._app.closed(connection))
            self._failures.end()
