"""HTTP/1.1 heads and the WebSocket upgrade, server side: bytes in, decisions and bytes out.

Knows the grammar of RFC 9112 and RFC 6455 4.2; knows no socket, no route and no clock. The caller
collects the bytes up to and including the blank line, bounded by `HeadLimits.head_bytes`. Two
judges read each head: the strict check here, in time linear in the head, and llhttp (httptools).
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import httptools

from fastws.errors import HandshakeError
from fastws.request import RawHeaders as RawHeaders
from fastws.request import Request as Request
from fastws.request import field_values

ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
VERSION_HEADERS = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))

_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROLS = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"
_VISIBLE = bytes(range(0x21, 0x7F))
_VERSION = re.compile(rb"HTTP/\d\.\d")
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
# What response() and switching_protocols() write themselves; twice would be request smuggling.
_OWN_FIELDS = frozenset({"connection", "content-length", "transfer-encoding"})
_LISTS = frozenset({b"connection", b"upgrade", b"transfer-encoding", b"expect"})


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """Bounds of one request; bytes, except `headers`, which counts fields.

    `list_elements` bounds the fields that are read as lists (`Connection`, `Upgrade`,
    `Transfer-Encoding` and `Expect`), all together.
    """

    head_bytes: int = 16 * 1024
    line_bytes: int = 8 * 1024
    headers: int = 64
    body_bytes: int = 64 * 1024
    list_elements: int = 64


DEFAULT_LIMITS = HeadLimits()


def parse_request(head: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> Request:
    """Parse a request head.

    Args:
        head: all bytes up to and including the blank line; one leading CRLF is forgiven.
        limits: bounds; a head beyond them is refused.

    Raises:
        HandshakeError: 400 malformed; 411 chunked body (a length is required); 413 body too long;
            414 target too long; 417 an unknown expectation; 431 a field line too long, too many
            fields or elements of lists, head too long; 501 unknown method or transfer coding; 505
            neither HTTP/1.0 nor HTTP/1.1.
    """
    head = head.removeprefix(b"\r\n")  # RFC 9112 2.2: after a body that ended in a stray CRLF
    start, headers = split_head(head, limits)
    method, target, version = _check_request_line(start, limits)
    _check_host(headers, version)
    _check_lists(headers, limits)
    content_length = _check_body(headers, version, limits)
    expects_continue = _check_expect(headers, version)
    _second_opinion(head)
    connection = list_tokens(headers, "connection")
    return Request(
        method=method,
        target=target.decode("ascii"),
        http_version=version,
        headers=headers,
        content_length=content_length,
        keep_alive="close" not in connection
        and (version == "1.1" or "keep-alive" in connection)
        and not _asks_to_leave_http(headers, connection),
        expects_continue=expects_continue,
        is_upgrade="upgrade" in connection and "websocket" in list_tokens(headers, "upgrade"),
    )


def _asks_to_leave_http(headers: RawHeaders, connection: Sequence[str]) -> bool:
    """Say whether some upgrade was asked for.

    A proxy in front may take it for granted whatever the answer, and what it then lets through
    unseen must not be read as requests.
    """
    return "upgrade" in connection or any(
        name == b"upgrade" or name.startswith(b"sec-websocket-") for name, _ in headers
    )


def head_too_large(part: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> HandshakeError:
    """Say how to refuse a head that went past `limits.head_bytes`, from the bytes seen so far."""
    line, end, _ = part.removeprefix(b"\r\n").partition(b"\r\n")
    if end and len(line) <= limits.line_bytes:
        return HandshakeError(431, f"request head longer than {limits.head_bytes} bytes")
    method, blank, _ = line.partition(b" ")
    if blank and _is_token(method):
        return HandshakeError(414, f"request target longer than {limits.line_bytes} bytes")
    return HandshakeError(400, "malformed request line")


def split_head(head: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> tuple[bytes, RawHeaders]:
    """Cut a head into its start line and fields, by the letter of RFC 9112 2.2 and 5.

    Returns:
        The start line (unchecked but for control characters) and (lower-case name, value) pairs.

    Raises:
        HandshakeError: 400 for anything malformed, 414 or 431 beyond a limit.
    """
    if len(head) > limits.head_bytes:
        raise head_too_large(head, limits)
    if not head.endswith(b"\r\n\r\n"):
        raise HandshakeError(400, "incomplete head")
    start, *lines = head[:-4].split(b"\r\n")
    if _has_controls(start):
        raise HandshakeError(400, "control character in the first line")
    if len(lines) > limits.headers:
        raise HandshakeError(431, f"more than {limits.headers} header fields")
    return start, tuple(_split_field(line, limits) for line in lines)


def list_tokens(headers: RawHeaders, name: str) -> list[str]:
    """Return the elements of comma-separated field `name`, over all its lines, in lower case."""
    elements = ",".join(field_values(headers, name)).split(",")
    return [element.strip(" \t").lower() for element in elements if element.strip(" \t")]


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


def choose_subprotocol(request: Request, offered: Sequence[str]) -> str | None:
    """Return the client's most wanted subprotocol among `offered`, None if there is none.

    Malformed elements match nothing and are passed over; RFC 6455 4.2.2 lets us answer without.
    """
    wanted = ",".join(request.values("sec-websocket-protocol")).split(",")
    return next((name for item in wanted if (name := item.strip(" \t")) in offered), None)


def switching_protocols(
    accept: str, subprotocol: str | None = None, extra: Iterable[tuple[str, str]] = ()
) -> bytes:
    """Build the 101 that opens the WebSocket (RFC 6455 4.2.2).

    Raises:
        ValueError: a name is no token, or a value holds a control character such as CR, LF, NUL.
    """
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]
    if subprotocol is not None:
        if not _is_token(subprotocol.encode("latin-1")):
            raise ValueError("subprotocol is not a token")
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    fields += _foreign(extra)
    return b"HTTP/1.1 101 Switching Protocols\r\n" + encode_fields(fields) + b"\r\n"


def response(
    status: int,
    body: bytes = b"",
    content_type: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[str, str]] = (),
    keep_alive: bool = True,
    head_only: bool = False,
) -> bytes:
    """Build a whole response other than 101.

    Args:
        status: 200-599; 204 and 304 go without a body and its fields (RFC 9110 8.6).
        body: sent as it is; its length is announced.
        content_type: media type of `body`.
        headers: more fields; not those that frame the message.
        keep_alive: whether the connection serves another request afterwards.
        head_only: answer to HEAD: announces the length, sends no body.

    Raises:
        ValueError: unknown status, a body where none may be, or a bad name or value in `headers`.
    """
    phrase = HTTPStatus(status).phrase
    extra = _foreign(headers)
    fields: list[tuple[str, str]] = []
    if status < 200 or (status in (204, 304) and body):
        raise ValueError(f"status {status} cannot be answered like this")
    if status not in (204, 304):
        fields = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    connection = "keep-alive" if keep_alive else "close"
    if any(name.lower() == "upgrade" for name, _ in extra):
        connection += ", Upgrade"  # RFC 9110 7.8: a sender of Upgrade names it here
    fields += [("Connection", connection), *extra]
    start = f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")
    return start + encode_fields(fields) + b"\r\n" + (b"" if head_only else body)


def refusal(error: HandshakeError, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Build the answer to a request refused with `error`; the connection closes behind it."""
    return response(
        error.status, error.body.encode(), headers=(*headers, *error.headers), keep_alive=False
    )


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Encode fields as `name: value CRLF`, refusing whatever could start another line.

    Raises:
        ValueError: a name is no token; a value is not Latin-1 or holds a control character.
    """
    encoded = []
    for name, value in fields:
        raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
        if not _is_token(raw_name):
            raise ValueError("header name is not a token")
        if _has_controls(raw_value):
            raise ValueError(f"control character in the value of {name}")
        encoded.append(raw_name + b": " + raw_value + b"\r\n")
    return b"".join(encoded)


def _is_token(text: bytes) -> bool:
    """RFC 9110 5.6.2."""
    return bool(text) and not text.translate(None, _TOKEN)


def _has_controls(text: bytes) -> bool:
    return len(text.translate(None, _CONTROLS)) != len(text)


def _foreign(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return `headers` as a list; those that frame the message are ours alone."""
    fields = list(headers)
    for name, _ in fields:
        if name.lower() in _OWN_FIELDS:
            raise ValueError(f"{name} is set by fastws")
    return fields


def _split_field(line: bytes, limits: HeadLimits) -> tuple[bytes, bytes]:
    if len(line) > limits.line_bytes:
        raise HandshakeError(431, f"header line longer than {limits.line_bytes} bytes")
    name, colon, value = line.partition(b":")
    # Also covers obs-fold and a blank before the colon (RFC 9112 5.1, 5.2): no token has blanks.
    if not colon or not _is_token(name):
        raise HandshakeError(400, "malformed header field")
    if _has_controls(value):
        raise HandshakeError(400, "control character in a header field")
    return name.lower(), value.strip(b" \t")


def _check_request_line(line: bytes, limits: HeadLimits) -> tuple[str, bytes, str]:
    """Return method, target and version ("1.0" or "1.1") of a request line (RFC 9112 3)."""
    if len(line) > limits.line_bytes:
        raise head_too_large(line, limits)
    parts = line.split(b" ")
    if len(parts) != 3 or _VERSION.fullmatch(parts[2]) is None:
        raise HandshakeError(400, "malformed request line")
    method, target, version = parts
    if version not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise HandshakeError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if not _is_token(method) or method != method.upper():
        raise HandshakeError(400, "malformed method")
    if not target or target.translate(None, _VISIBLE):
        raise HandshakeError(400, "malformed request target")
    return method.decode("ascii"), target, version[5:].decode("ascii")


def _check_host(headers: RawHeaders, version: str) -> None:
    hosts = [value for name, value in headers if name == b"host"]
    missing = not hosts and version == "1.1"  # RFC 9112 3.2
    if missing or len(hosts) > 1 or any(_HOST.fullmatch(host) is None for host in hosts):
        raise HandshakeError(400, "exactly one valid Host field is required")


def _check_lists(headers: RawHeaders, limits: HeadLimits) -> None:
    """Bound what `list_tokens` is asked for: an element costs much more than a byte."""
    if sum(value.count(b",") + 1 for name, value in headers if name in _LISTS) > (
        limits.list_elements
    ):
        raise HandshakeError(431, f"more than {limits.list_elements} elements in lists")


def _check_body(headers: RawHeaders, version: str, limits: HeadLimits) -> int:
    """Return the length of the body to come, in bytes (RFC 9112 6)."""
    lengths = field_values(headers, "content-length")
    codings = list_tokens(headers, "transfer-encoding")
    has_coding = any(name == b"transfer-encoding" for name, _ in headers)
    if has_coding and (lengths or version == "1.0"):
        raise HandshakeError(400, "ambiguous body length")
    if codings == ["chunked"]:
        raise HandshakeError(411, "a Content-Length is required; chunked bodies are not read")
    if has_coding:
        raise HandshakeError(501, "transfer coding not supported")
    if not lengths:
        return 0
    if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
        raise HandshakeError(400, "malformed Content-Length")
    digits = lengths[0].lstrip("0") or "0"
    # Counted in digits first: int() of thousands of digits is slow and raises.
    if len(digits) > 18 or int(digits) > limits.body_bytes:
        raise HandshakeError(413, f"body longer than {limits.body_bytes} bytes")
    return int(digits)


def _check_expect(headers: RawHeaders, version: str) -> bool:
    expectations = list_tokens(headers, "expect")
    if not expectations or version == "1.0":  # RFC 9110 10.1.1: ignored from HTTP/1.0
        return False
    if expectations != ["100-continue"]:
        raise HandshakeError(417, "unknown expectation")
    return True


def _second_opinion(head: bytes) -> None:
    """Let llhttp judge what the strict check let pass: methods, targets, combinations of fields."""
    parser = httptools.HttpRequestParser(object())
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        return
    except httptools.HttpParserInvalidMethodError:
        raise HandshakeError(501, "unknown method") from None
    except httptools.HttpParserError:
        raise HandshakeError(400, "malformed request") from None
