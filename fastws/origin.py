"""Which web pages may connect (RFC 6455 10.2, RFC 6454): against cross-site WebSocket hijacking."""

from collections.abc import Collection

from fastws.errors import HandshakeError, printable
from fastws.handshake import Request


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
