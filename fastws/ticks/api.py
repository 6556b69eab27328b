"""The HTTP API (docs/protocol.md 2): a request in, a response out.

Knows routes, who may change what, and the exact JSON; knows no socket and keeps no state. What
it shows and changes it reaches through the callables it is given.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import orjson

from fastws.errors import ConfigError, HandshakeError
from fastws.http.request import Request
from fastws.http.response import Response, refusal
from fastws.ticks.access import Access
from fastws.ticks.config import FeedConfig

CORS_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"),
    ("Access-Control-Allow-Headers", "Content-Type, Authorization"),
)

Route = Callable[[bytes], object]


class Told(Protocol):
    """Hears what becomes of changes."""

    def accept(self, request: Request) -> None:
        """Hear that a change was made."""

    def refuse(self, request: Request, reason: str) -> None:
        """Hear that a change was refused."""


class HttpApi:
    """The routes of the server.

    Args:
        get_config: the configuration in force.
        set_config: puts one in force at once; may raise ConfigError to refuse it.
        stats: the object of `GET /stats`, keys in order, or its JSON.
        clear_stats: forgets the client reports.
        access: decides who may change something.
        changes: hears of each change that was made or refused.
    """

    def __init__(
        self,
        get_config: Callable[[], FeedConfig],
        set_config: Callable[[FeedConfig], None],
        stats: Callable[[], Mapping[str, object] | orjson.Fragment],
        clear_stats: Callable[[], None],
        access: Access,
        changes: Told,
    ) -> None:
        self._get_config = get_config
        self._set_config = set_config
        self._stats = stats
        self._clear_stats = clear_stats
        self._access = access
        self._changes = changes
        self._routes: dict[str, dict[str, Route]] = {
            "/config": {"GET": self._show_config, "POST": self._change_config},
            "/stats": {"GET": self._show_stats, "DELETE": self._delete_stats},
        }

    def handle(self, request: Request) -> Response:
        """Answer a request that is not an upgrade, with its body."""
        if request.method == "OPTIONS":
            return Response(204, headers=CORS_HEADERS)
        try:
            route = self._find(request)
            changes = request.method in ("POST", "DELETE")
            answer = self._change(request, route) if changes else route(request.body)
            return Response.json(answer, headers=CORS_HEADERS)
        except HandshakeError as error:
            return self.refuse(error)

    def refuse(self, error: HandshakeError) -> Response:
        """Answer a request that is refused."""
        return refusal(error, CORS_HEADERS)

    def _find(self, request: Request) -> Route:
        path = request.path
        methods = self._routes.get(path) or self._routes.get(path.removesuffix("/"))
        if methods is None:
            raise HandshakeError(404, "Not found")
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allow = ", ".join((*methods, "HEAD", "OPTIONS"))
            raise HandshakeError(405, "Method not allowed", (("Allow", allow),))
        return route

    def _change(self, request: Request, route: Route) -> object:
        """Change something, if the peer may and what it asks for is good.

        Raises:
            HandshakeError: 403 or 400.
        """
        try:
            self._access.check(request)
            answer = route(request.body)
        except HandshakeError as error:
            self._changes.refuse(request, error.body)
            raise
        self._changes.accept(request)
        return answer

    def _show_config(self, _body: bytes) -> object:
        return self._get_config().to_wire()

    def _change_config(self, body: bytes) -> object:
        try:
            changes = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise HandshakeError(400, "Invalid JSON") from None
        if not isinstance(changes, dict):
            raise HandshakeError(400, "Invalid JSON")
        try:
            changed = self._get_config().apply(changes)
            self._set_config(changed)
        except ConfigError as error:
            raise HandshakeError(400, str(error)) from None
        return changed.to_wire()

    def _show_stats(self, _body: bytes) -> object:
        return self._stats()

    def _delete_stats(self, _body: bytes) -> object:
        self._clear_stats()
        return {"cleared": True}
