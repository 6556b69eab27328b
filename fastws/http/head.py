"""HTTP/1.1 request heads, server side: bytes in, a Request or a refusal out. Layer 5.

Knows the grammar of RFC 9112; knows no socket, no route and no clock. The caller
collects the bytes up to and including the blank line, bounded by `HeadLimits.head_bytes`. Two
judges read each head: the strict check here, in time linear in the head, and llhttp (httptools).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import httptools

from fastws.errors import HandshakeError
from fastws.http.fields import RawHeaders, field_values, has_controls, is_token, list_tokens
from fastws.http.request import Peer, Request

_VISIBLE = bytes(range(0x21, 0x7F))
_VERSION = re.compile(rb"HTTP/\d\.\d")
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
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
        raw_headers=headers,
        content_length=content_length,
        keep_alive="close" not in connection
        and (version == "1.1" or "keep-alive" in connection)
        and not _asks_to_leave_http(headers, connection),
        expects_continue=expects_continue,
        peer=peer,
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
    if blank and is_token(method):
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
    if has_controls(start):
        raise HandshakeError(400, "control character in the first line")
    if len(lines) > limits.headers:
        raise HandshakeError(431, f"more than {limits.headers} header fields")
    return start, tuple(_split_field(line, limits) for line in lines)


def _split_field(line: bytes, limits: HeadLimits) -> tuple[bytes, bytes]:
    if len(line) > limits.line_bytes:
        raise HandshakeError(431, f"header line longer than {limits.line_bytes} bytes")
    name, colon, value = line.partition(b":")
    # Also covers obs-fold and a blank before the colon (RFC 9112 5.1, 5.2): no token has blanks.
    if not colon or not is_token(name):
        raise HandshakeError(400, "malformed header field")
    if has_controls(value):
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
    if not is_token(method) or method != method.upper():
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
