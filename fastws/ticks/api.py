"""The HTTP API (docs/protocol.md 2): a request in, a response out.

Knows routes, who may change what, and the exact JSON; knows no socket and keeps no state. What
it shows and changes it reaches through the callables it is given.
"""

import hmac
from collections.abc import Callable, Collection, Mapping
from ipaddress import IPv6Address, ip_address

import orjson

from fastws.errors import ConfigError, HandshakeError
from fastws.http.origin import check_origin
from fastws.http.request import Request
from fastws.http.response import Response, refusal
from fastws.ticks.config import FeedConfig

CORS_HEADERS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"),
    ("Access-Control-Allow-Headers", "Content-Type"),
)

Route = Callable[[bytes], object]


class HttpApi:
    """The routes of the server.

    Args:
        get_config: the configuration in force.
        set_config: puts one in force at once; may raise ConfigError to refuse it.
        stats: the object of `GET /stats`, keys in order, or its JSON.
        clear_stats: forgets the client reports.
        admin_token: secret for changes from elsewhere than loopback; None refuses them all.
        allowed_origins: whose web pages may change something, as for `check_origin`.
    """

    def __init__(
        self,
        get_config: Callable[[], FeedConfig],
        set_config: Callable[[FeedConfig], None],
        stats: Callable[[], Mapping[str, object] | orjson.Fragment],
        clear_stats: Callable[[], None],
        admin_token: str | None = None,
        allowed_origins: Collection[str] | None = None,
    ) -> None:
        self._get_config = get_config
        self._set_config = set_config
        self._stats = stats
        self._clear_stats = clear_stats
        self._admin_token = admin_token
        self._allowed_origins = allowed_origins
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
            if request.method in ("POST", "DELETE"):
                self._authorize(request)
            return Response.json(route(request.body), headers=CORS_HEADERS)
        except HandshakeError as error:
            return self.refuse(error)

    def refuse(self, error: HandshakeError) -> Response:
        """Answer a request that is refused."""
        return refusal(error, CORS_HEADERS)

    def _find(self, request: Request) -> Route:
        methods = self._routes.get(request.path)
        if methods is None:
            raise HandshakeError(404, "Not found")
        route = methods.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allow = ", ".join((*methods, "HEAD", "OPTIONS"))
            raise HandshakeError(405, "Method not allowed", (("Allow", allow),))
        return route

    def _authorize(self, request: Request) -> None:
        """Let changes from this machine pass, and from elsewhere with the token only.

        Raises:
            HandshakeError: 403.
        """
        check_origin(request, self._allowed_origins)
        proxied = any(request.values(name) for name in ("forwarded", "x-forwarded-for"))
        if is_loopback(request.remote_address[0]) and not proxied:
            return
        scheme, _, token = (request.header("authorization") or "").partition(" ")
        if (
            self._admin_token is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(token.strip().encode(), self._admin_token.encode())
        ):
            return
        raise HandshakeError(403, "Forbidden: changes from elsewhere need the admin token")

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


def is_loopback(remote: str) -> bool:
    """Whether a peer's address is this machine: 127.0.0.0/8, ::1, either mapped, Unix socket."""
    if not remote:
        return True
    try:
        address = ip_address(remote)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
