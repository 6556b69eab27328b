"""The WebSocket upgrade, server side (RFC 6455 4.2): whether it is good, and the 101. Layer 5."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence

from fastws.errors import VERSION_HEADERS, HandshakeError
from fastws.http.fields import encode_fields, is_token
from fastws.http.request import Request
from fastws.http.response import Response, own_fields_refused

ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")


def accept_key(key: str) -> str:
    """Return the Sec-WebSocket-Accept that answers `key` (RFC 6455 4.2.2, item 5.4)."""
    digest = hashlib.sha1(key.encode("ascii") + ACCEPT_GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")


def check_upgrade(request: Request) -> str:
    """Return the Sec-WebSocket-Accept value that answers `request` (RFC 6455 4.2.1).

    Raises:
        HandshakeError: 426 not an upgrade to websocket, or not version 13; 405 not GET; 400 not
            HTTP/1.1, a body, or a key that is not 16 bytes in base64, exactly once.
    """
    if not request.is_upgrade:
        raise HandshakeError(426, "a WebSocket upgrade is required", VERSION_HEADERS)
    if request.method != "GET":
        raise HandshakeError(405, "a WebSocket upgrade must be GET", (("Allow", "GET"),))
    if request.http_version != "1.1":
        raise HandshakeError(400, "a WebSocket upgrade needs HTTP/1.1")
    if request.content_length:
        # Its bytes would be read as frames (RFC 9110 7.8: the request must end first).
        raise HandshakeError(400, "a WebSocket upgrade must not have a body")
    if request.values("sec-websocket-version") != ["13"]:
        raise HandshakeError(426, "Sec-WebSocket-Version must be 13", VERSION_HEADERS)
    keys = request.values("sec-websocket-key")
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        raise HandshakeError(400, "Sec-WebSocket-Key must be 16 bytes in base64, once")
    return accept_key(keys[0])


def asked_subprotocols(request: Request) -> list[str]:
    """Return the subprotocols that a client asks for, the most wanted one first (RFC 6455 4.1).

    Malformed elements are passed over; RFC 6455 4.2.2 lets us answer without.
    """
    asked = ",".join(request.values("sec-websocket-protocol")).split(",")
    return [name for item in asked if is_token((name := item.strip(" \t")).encode("latin-1"))]


def choose_subprotocol(request: Request, offered: Sequence[str]) -> str | None:
    """Return the client's most wanted subprotocol among `offered`, None if there is none."""
    return next((name for name in asked_subprotocols(request) if name in offered), None)


def check_subprotocol(name: object) -> None:
    """Raise TypeError or ValueError of what is neither None nor the name of a subprotocol."""
    if name is None:
        return
    if not isinstance(name, str):
        raise TypeError(f"a subprotocol is a str or None, not {name!r}")
    if not is_token(name.encode("latin-1", "replace")):
        raise ValueError(f"the subprotocol {name!r} is not a token")


def lets_in(response: object) -> bool:
    """Whether it is a `Response(101)`, which lets a WebSocket in."""
    return isinstance(response, Response) and response.status == 101


def headers_of_101(response: Response) -> list[tuple[str, str]]:
    """Return the fields that a `Response(101, headers=...)` adds to the handshake's answer.

    Raises:
        ValueError: it has a body, fields that are the handshake's own, or a bad name or value.
    """
    given = response.headers
    fields = own_fields_refused(given.items() if isinstance(given, Mapping) else given)
    for name, _ in fields:
        if name.lower() == "upgrade" or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"{name} of a 101 is set by fastws")
    if response.body:
        raise ValueError("a 101 has no body")
    encode_fields(fields)  # here, where it is known whose they are
    return fields


def switching_protocols(
    accept: str, subprotocol: str | None = None, extra: Iterable[tuple[str, str]] = ()
) -> bytes:
    """Build the 101 that opens the WebSocket (RFC 6455 4.2.2).

    Raises:
        ValueError: a name is no token, or a value holds a control character such as CR, LF, NUL.
        TypeError: the subprotocol is no str.
    """
    fields = [("Sec-WebSocket-Accept", accept)]
    if subprotocol is not None:
        check_subprotocol(subprotocol)
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    fields += own_fields_refused(extra)
    return _SWITCHING + encode_fields(fields) + b"\r\n"
