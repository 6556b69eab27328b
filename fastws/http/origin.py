"""Which web pages may connect (RFC 6455 10.2, RFC 6454): against cross-site WebSocket hijacking."""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from fastws.errors import ConfigError, HandshakeError, printable
from fastws.http.request import Request

# As browsers send it (RFC 6454 6.2): no path, and no port that is the default of its scheme.
# `file://` has no host; it is what Electron, Cordova and old web views of Android send.
_ORIGIN = re.compile(
    r"null|file://|(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://"
    r"((\*\.)?[a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5}|:\*)?",
    re.ASCII | re.IGNORECASE,
)
# Pages of this machine, whatever their port.
LOCAL_PAGES = ("http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*", "tauri://localhost")
_LABELS = r"[a-z0-9_-]+(\.[a-z0-9_-]+)*"
_PORT = re.compile(r":\d{1,5}$", re.ASCII)


def check_origin(request: Request, allowed: Collection[str] | None) -> None:
    """Refuse an upgrade, or a change over HTTP, that a page of another origin asks for.

    Args:
        request: its head.
        allowed: origins as browsers send them (`https://example.com`, `http://localhost:3000`,
            `file://` or `null`), or patterns (`https://*.example.com`, `http://localhost:*`),
            compared whole and without regard to case; None lets every origin in. A request
            without Origin comes from no browser and passes, and so does one of a page that this
            server sent itself, where it was reached by an address or as localhost.

    Raises:
        HandshakeError: 403; for more than one Origin too.
    """
    if allowed is None:
        return
    origin = origin_of(request)
    if origin is not None and not matches(origin, allowed) and not _is_own_page(origin, request):
        raise HandshakeError(403, f"Forbidden origin: {printable(origin, 80)}")


def _is_own_page(origin: str, request: Request) -> bool:
    """Whether a page came from where the request goes; a name may point anywhere (rebinding)."""
    scheme, _, host = origin.lower().partition("://")
    hosts = [each.lower() for each in request.values("host")]
    same = scheme in ("http", "https") and hosts == [host]
    return same and (is_loopback_host(host) or _is_address(_PORT.sub("", host).strip("[]")))


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def origin_of(request: Request) -> str | None:
    """Return the Origin of a request, None where there is none.

    Raises:
        HandshakeError: 403, there is more than one.
    """
    origins = request.values("origin")
    if len(origins) > 1:
        raise HandshakeError(403, "More than one Origin")
    return origins[0] if origins else None


def matches(origin: str, allowed: Collection[str]) -> bool:
    """Whether an origin is one of those that are allowed."""
    return _matcher(tuple(allowed)).fullmatch(origin) is not None


def is_loopback_origin(origin: str) -> bool:
    """Whether a page is from this machine: http or https, a loopback host, any port."""
    scheme, separator, host = origin.lower().partition("://")
    return bool(separator) and scheme in ("http", "https") and is_loopback_host(host)


def is_loopback_host(host: str) -> bool:
    """Whether `host[:port]` is localhost, a name below it (RFC 6761 6.3), or a loopback address."""
    name = _PORT.sub("", host.lower())
    if name.startswith("["):
        return name.endswith("]") and ":" in name and is_loopback_address(name[1:-1])
    if name == "localhost" or name.endswith(".localhost"):
        return re.fullmatch(_LABELS, name, re.ASCII) is not None
    return ":" not in name and is_loopback_address(name)


def is_loopback_address(text: str) -> bool:
    """Whether an IP address is of 127.0.0.0/8, mapped into IPv6 too, or ::1."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def origins_of(field: str, values: object) -> tuple[str, ...]:
    """Refuse what no browser would send as an Origin, and one text in place of several.

    A pattern has `*.` in front of a host, for one label or more, or `:*` behind it, for any port
    and none.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(field, f"must be a list of origins, such as [{values!r}]")
    origins = tuple(values)
    for value in origins:
        if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
            raise ConfigError(
                field,
                "must be null or scheme://host[:port], without a path, such as "
                "https://*.example.com, http://localhost:* or file://",
            )
    return origins


@lru_cache(maxsize=16)
def _matcher(allowed: tuple[str, ...]) -> re.Pattern[str]:
    """Return what an origin must match whole: one of these."""
    if not allowed:
        return re.compile(r"(?!)")
    return re.compile("|".join(map(_pattern, allowed)), re.ASCII | re.IGNORECASE)


def _pattern(allowed: str) -> str:
    any_port = allowed.endswith(":*")
    scheme, wildcard, host = allowed.removesuffix(":*").partition("://*.")
    text = re.escape(scheme) + (f"://{_LABELS}\\.{re.escape(host)}" if wildcard else "")
    return text + (r"(:\d{1,5})?" if any_port else "")
