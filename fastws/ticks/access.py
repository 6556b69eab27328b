"""Who may change something over HTTP (docs/protocol.md 2). Layer 5.

Knows requests and the rules; says why one is refused. Web pages of strangers, names that were
pointed at this machine (DNS rebinding) and peers behind a proxy are kept out.
"""

import hmac
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from fastws.errors import HandshakeError, printable
from fastws.http.origin import (
    is_loopback_address,
    is_loopback_host,
    is_loopback_origin,
    matches,
    origin_of,
)
from fastws.http.request import Request

# A request with one of these was passed on, so that its address is not that of who asks.
PROXY_FIELDS = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via", "CF-Connecting-IP")
TAURI = "tauri://localhost"


class Access:
    """Decides on requests that change something.

    Args:
        admin_token: with it, `Authorization: Bearer` decides alone; None: changes are taken from
            this machine only.
        allowed_origins: whose web pages may change something besides those of this machine.
        own_names: what a Host field may name besides `localhost` and loopback addresses: the
            name of the machine, and the address that the server listens on.
    """

    def __init__(
        self,
        admin_token: str | None = None,
        allowed_origins: Collection[str] = (),
        own_names: Iterable[str] = (),
    ) -> None:
        self._admin_token = admin_token
        self._allowed_origins = allowed_origins
        names = {name.lower() for name in own_names if name}
        self._own_names = names | {f"[{name}]" for name in names if ":" in name}

    def check(self, request: Request) -> None:
        """Let a change pass, or refuse it.

        Raises:
            HandshakeError: 403 with the reason.
        """
        if self._admin_token is not None:
            if not self._has_token(request, self._admin_token):
                raise HandshakeError(403, "Forbidden: changes need the admin token")
            return
        if not is_loopback(request.remote_address[0]):
            raise HandshakeError(403, "Forbidden: changes from elsewhere need an --admin-token")
        proxy = next((name for name in PROXY_FIELDS if request.values(name)), None)
        if proxy is not None:
            raise HandshakeError(
                403, f"Forbidden: changes through a proxy ({proxy}) need an --admin-token"
            )
        for host in _hosts(request):
            if not self._is_own(host):
                shown = printable(host, 80)
                raise HandshakeError(403, f"Forbidden: the host {shown!r} is not this machine")
        origin = origin_of(request)
        if origin is not None and not self._may_change(origin):
            raise HandshakeError(403, f"Forbidden origin: {printable(origin, 80)}")

    @staticmethod
    def _has_token(request: Request, token: str) -> bool:
        scheme, _, given = (request.header("authorization") or "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            given.strip().encode(), token.encode()
        )

    def _is_own(self, host: str) -> bool:
        name = host.lower()
        without_port, _, port = name.rpartition(":")
        own = name in self._own_names or (port.isdigit() and without_port in self._own_names)
        return own or is_loopback_host(name)

    def _may_change(self, origin: str) -> bool:
        return (
            origin.lower() == TAURI
            or is_loopback_origin(origin)
            or matches(origin, self._allowed_origins)
        )


def is_loopback(remote: str) -> bool:
    """Whether a peer's address is this machine: a loopback address, or none (a Unix socket)."""
    return not remote or is_loopback_address(remote)


def _hosts(request: Request) -> list[str]:
    """Return the host that a request names, and that of a target with one (RFC 9112 3.2.2)."""
    hosts = request.values("host") or [""]
    if not request.target.startswith(("/", "*")):
        hosts.append(_authority(request.target))
    return hosts


def _authority(target: str) -> str:
    try:
        return urlsplit(target).netloc
    except ValueError:
        return ""
