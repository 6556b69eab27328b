"""Which web pages may connect (RFC 6455 10.2, RFC 6454): against cross-site WebSocket hijacking."""

import re
from collections.abc import Collection, Iterable

from fastws.errors import ConfigError, HandshakeError, printable
from fastws.http.request import Request

# As browsers send it (RFC 6454 6.2): no path, and no port that is the default of its scheme.
_ORIGIN = re.compile(
    r"null|(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?",
    re.ASCII | re.IGNORECASE,
)


def check_origin(request: Request, allowed: Collection[str] | None) -> None:
    """Refuse an upgrade, or a change over HTTP, that a page of another origin asks for.

    Args:
        request: its head.
        allowed: origins as browsers send them (`https://example.com`, `http://localhost:3000`, or
            `null`), compared whole and without regard to case; None lets every origin in. A
            request without Origin comes from no browser and passes.

    Raises:
        HandshakeError: 403; for more than one Origin too.
    """
    if allowed is None:
        return
    origins = request.values("origin")
    if len(origins) > 1:
        raise HandshakeError(403, "More than one Origin")
    if origins and origins[0].lower() not in {each.lower() for each in allowed}:
        raise HandshakeError(403, f"Forbidden origin: {printable(origins[0], 80)}")


def origins_of(field: str, values: object) -> tuple[str, ...]:
    """Refuse what no browser would send as an Origin, and one text in place of several."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(field, f"must be a list of origins, such as [{values!r}]")
    origins = tuple(values)
    for value in origins:
        if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
            raise ConfigError(field, "must be null or scheme://host[:port], without a path")
    return origins
