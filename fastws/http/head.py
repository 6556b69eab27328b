"""HTTP/1.1 request heads, server side: bytes in, a Request or a refusal out. Layer 5.

Knows the grammar of RFC 9112; knows no socket, no route and no clock. The caller
collects the bytes up to and including the blank line, bounded by `HeadLimits.head_bytes`. Two
judges read each head: the strict check here, in time linear in the head, and llhttp (httptools).
"""

import re
from dataclasses import dataclass

import httptools

from fastws.errors import HandshakeError
from fastws.http.fields import Fields, has_controls, is_token, list_tokens
from fastws.http.request import Peer, Request

_VISIBLE = bytes(range(0x21, 0x7F))
_VERSION = re.compile(rb"HTTP/\d\.\d")
_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_METHODS = {b"GET": "GET", b"HEAD": "HEAD", b"POST": "POST"}  # they need no check, and no copy
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_LISTS = (b"connection", b"upgrade", b"transfer-encoding", b"expect")
_NOBODY = object()  # listens to llhttp


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


def parse_request(
    head: bytes, limits: HeadLimits = DEFAULT_LIMITS, peer: Peer | None = None
) -> Request:
    """Parse a request head.

    Args:
        head: all bytes up to and including the blank line; one leading CRLF is forgiven.
        limits: bounds; a head beyond them is refused.
        peer: what it came from.

    Raises:
        HandshakeError: 400 malformed; 411 chunked body (a length is required); 413 body too long;
            414 target too long; 417 an unknown expectation; 431 a field line too long, too many
            fields or elements of lists, head too long; 501 unknown method or transfer coding; 505
            neither HTTP/1.0 nor HTTP/1.1.
    """
    head = head.removeprefix(b"\r\n")  # RFC 9112 2.2: after a body that ended in a stray CRLF
    start, fields = split_head(head, limits)
    method, target, version = _check_request_line(start, limits)
    _check_host(fields, version)
    _check_lists(fields, limits)
    content_length = _check_body(fields, version, limits)
    expects_continue = _check_expect(fields, version)
    _second_opinion(head)
    connection = list_tokens(fields.get(b"connection", ()))
    upgrade = list_tokens(fields.get(b"upgrade", ()))
    return Request(
        method=method,
        target=target.decode("ascii"),
        http_version=version,
        raw_head=head,
        content_length=content_length,
        keep_alive="upgrade" not in connection
        and "close" not in connection
        and (version == "1.1" or "keep-alive" in connection)
        and not _asks_to_leave_http(fields),
        expects_continue=expects_continue,
        is_upgrade="upgrade" in connection and "websocket" in upgrade,
        peer=peer,
        _fields=fields,
    )


def _asks_to_leave_http(fields: Fields) -> bool:
    """Say whether some upgrade was asked for.

    A proxy in front may take it for granted whatever the answer, and what it then lets through
    unseen must not be read as requests.
    """
    return any(name == b"upgrade" or name.startswith(b"sec-websocket-") for name in fields)


def head_too_large(part: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> HandshakeError:
    """Say how to refuse a head that went past `limits.head_bytes`, from the bytes seen so far."""
    line, end, _ = part.removeprefix(b"\r\n").partition(b"\r\n")
    if end and len(line) <= limits.line_bytes:
        return HandshakeError(431, f"request head longer than {limits.head_bytes} bytes")
    method, blank, _ = line.partition(b" ")
    if blank and is_token(method):
        return HandshakeError(414, f"request target longer than {limits.line_bytes} bytes")
    return HandshakeError(400, "malformed request line")


def split_head(head: bytes, limits: HeadLimits = DEFAULT_LIMITS) -> tuple[bytes, Fields]:
    """Cut a head into its start line and fields, by the letter of RFC 9112 2.2 and 5.

    Returns:
        The start line (unchecked but for control characters) and the fields.

    Raises:
        HandshakeError: 400 for anything malformed, 414 or 431 beyond a limit.
    """
    if len(head) > limits.head_bytes:
        raise head_too_large(head, limits)
    if not head.endswith(b"\r\n\r\n"):
        raise HandshakeError(400, "incomplete head")
    start, *lines = head[:-4].split(b"\r\n")
    if len(lines) > limits.headers:
        raise HandshakeError(431, f"more than {limits.headers} header fields")
    if any(len(line) > limits.line_bytes for line in lines):
        raise HandshakeError(431, f"header line longer than {limits.line_bytes} bytes")
    if has_controls(b"".join([start, *lines])):
        raise HandshakeError(400, "control character in the head")
    fields: Fields = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name:
            raise HandshakeError(400, "malformed header field")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    # Also covers obs-fold and a blank before the colon (RFC 9112 5.1, 5.2): no token has blanks.
    if fields and not is_token(b"".join(fields)):
        raise HandshakeError(400, "malformed header field")
    return start, fields


def _check_request_line(line: bytes, limits: HeadLimits) -> tuple[str, bytes, str]:
    """Return method, target and version ("1.0" or "1.1") of a request line (RFC 9112 3)."""
    if len(line) > limits.line_bytes:
        raise head_too_large(line, limits)
    parts = line.split(b" ")
    if len(parts) != 3:
        raise HandshakeError(400, "malformed request line")
    method, target, version = parts
    if version not in _VERSIONS:
        if _VERSION.fullmatch(version) is None:
            raise HandshakeError(400, "malformed request line")
        raise HandshakeError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    if method not in _METHODS and (not is_token(method) or method != method.upper()):
        raise HandshakeError(400, "malformed method")
    if not target or target.translate(None, _VISIBLE):
        raise HandshakeError(400, "malformed request target")
    return _METHODS.get(method) or method.decode("ascii"), target, _VERSIONS[version]


def _check_host(fields: Fields, version: str) -> None:
    hosts = fields.get(b"host")
    if hosts is None:
        good = version != "1.1"  # RFC 9112 3.2
    else:
        good = len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None
    if not good:
        raise HandshakeError(400, "exactly one valid Host field is required")


def _check_lists(fields: Fields, limits: HeadLimits) -> None:
    """Bound what `list_tokens` is asked for: an element costs much more than a byte."""
    values = [value for name in _LISTS if name in fields for value in fields[name]]
    if b",".join(values).count(b",") >= limits.list_elements:
        raise HandshakeError(431, f"more than {limits.list_elements} elements in lists")


def _check_body(fields: Fields, version: str, limits: HeadLimits) -> int:
    """Return the length of the body to come, in bytes (RFC 9112 6)."""
    lengths = fields.get(b"content-length", ())
    if b"transfer-encoding" in fields:
        if lengths or version == "1.0":
            raise HandshakeError(400, "ambiguous body length")
        if list_tokens(fields[b"transfer-encoding"]) == ["chunked"]:
            raise HandshakeError(411, "a Content-Length is required; chunked bodies are not read")
        raise HandshakeError(501, "transfer coding not supported")
    if not lengths:
        return 0
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise HandshakeError(400, "malformed Content-Length")
    digits = lengths[0].lstrip(b"0") or b"0"
    # Counted in digits first: int() of thousands of digits is slow and raises.
    if len(digits) > 18 or int(digits) > limits.body_bytes:
        raise HandshakeError(413, f"body longer than {limits.body_bytes} bytes")
    return int(digits)


def _check_expect(fields: Fields, version: str) -> bool:
    if b"expect" not in fields or version == "1.0":  # RFC 9110 10.1.1: ignored from HTTP/1.0
        return False
    expectations = list_tokens(fields[b"expect"])
    if not expectations:
        return False
    if expectations != ["100-continue"]:
        raise HandshakeError(417, "unknown expectation")
    return True


def _second_opinion(head: bytes) -> None:
    """Let llhttp judge what the strict check let pass: methods, targets, combinations of fields."""
    parser = httptools.HttpRequestParser(_NOBODY)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        return
    except httptools.HttpParserInvalidMethodError:
        raise HandshakeError(501, "unknown method") from None
    except httptools.HttpParserError:
        raise HandshakeError(400, "malformed request") from None
