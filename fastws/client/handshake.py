"""The WebSocket upgrade, client side (RFC 6455 4.1): a request out, the server's answer judged.

Pure like `fastws.http`, whose grammar of heads it shares; knows no socket. Layer 5.
"""

import base64
import hmac
import os
import re
from collections.abc import Iterable, Sequence

from fastws.errors import HandshakeError, InvalidHandshake, printable
from fastws.http.fields import Fields, encode_fields, list_tokens
from fastws.http.head import split_head
from fastws.http.upgrade import accept_key

_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3})(?: (.*))?")


def new_key() -> str:
    """Return a fresh Sec-WebSocket-Key: 16 bytes of the system's generator in base64."""
    return base64.b64encode(os.urandom(16)).decode("ascii")


def build_request(
    host: str,
    port: int,
    target: str,
    key: str,
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    extra: Iterable[tuple[str, str]] = (),
) -> bytes:
    """Build the upgrade request.

    Raises:
        ValueError: `target` is not origin-form, or a header name or value could break the head.
    """
    if not target.startswith("/") or not all("!" <= char <= "~" for char in target):
        raise ValueError("target must start with / and be printable ASCII without blanks")
    address = host.partition("%")[0]  # a scope means nothing to others (RFC 6874 1)
    name = f"[{address}]" if ":" in address else host
    fields = [
        ("Host", name if port == 80 else f"{name}:{port}"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if subprotocols:
        fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if origin is not None:
        fields.append(("Origin", origin))
    return f"GET {target} HTTP/1.1\r\n".encode() + encode_fields([*fields, *extra]) + b"\r\n"


def check_response(head: bytes, key: str, subprotocols: Sequence[str] = ()) -> str | None:
    """Judge the answer to `build_request` (RFC 6455 4.1, the client's six checks).

    Args:
        head: all bytes up to and including the blank line.
        key: the Sec-WebSocket-Key that was sent.
        subprotocols: what was asked for.

    Returns:
        The subprotocol the server chose, or None.

    Raises:
        InvalidHandshake: the answer is not a correct 101; `status` says what it was.
    """
    try:
        start, fields = split_head(head)
    except HandshakeError as error:
        raise InvalidHandshake(f"malformed answer: {error.body}") from None
    match = _STATUS_LINE.fullmatch(start)
    if match is None:
        raise InvalidHandshake("the answer is not HTTP/1.1")
    status = int(match[1])
    if status != 101:
        phrase = printable((match[2] or b"").decode("latin-1"))
        raise InvalidHandshake(f"the server refused: {status} {phrase}".rstrip(), status)
    if list_tokens(fields.get(b"upgrade", ())) != ["websocket"]:
        raise InvalidHandshake("Upgrade is not websocket", status)
    if "upgrade" not in list_tokens(fields.get(b"connection", ())):
        raise InvalidHandshake("Connection does not say upgrade", status)
    accept = _single(fields, b"sec-websocket-accept")
    if accept is None or not hmac.compare_digest(accept, accept_key(key).encode("ascii")):
        raise InvalidHandshake("Sec-WebSocket-Accept does not answer the key", status)
    if list_tokens(fields.get(b"sec-websocket-extensions", ())):
        raise InvalidHandshake("the server chose an extension nobody asked for", status)
    chosen = _single(fields, b"sec-websocket-protocol")
    if chosen is not None and chosen.decode("latin-1") not in subprotocols:
        raise InvalidHandshake("the server chose a subprotocol nobody asked for", status)
    return None if chosen is None else chosen.decode("latin-1")


def answer_fields(head: bytes) -> Fields:
    """Return the fields of an answer that `check_response` has found good."""
    return split_head(head)[1]


def _single(fields: Fields, name: bytes) -> bytes | None:
    """Return the value of a field that may be there once; None if absent."""
    found = fields.get(name, [])
    if len(found) > 1:
        raise InvalidHandshake(f"{name.decode('ascii')} is there more than once", 101)
    return found[0] if found else None
