"""Request heads; ids such as H30 are those of the hostile-input catalogue."""

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from heads import UPGRADE, head

from fastws.errors import FastwsError, HandshakeError, printable
from fastws.http.head import HeadLimits, head_too_large, parse_request
from fastws.http.upgrade import accept_key, check_upgrade, choose_subprotocol


def status_of_head(data: bytes) -> int:
    with pytest.raises(HandshakeError) as caught:
        parse_request(data)
    return caught.value.status


def test_path_and_query_are_made_once_when_they_are_asked_for() -> None:
    request, same = (parse_request(head("Host: h", line="GET /a?b=c HTTP/1.1")) for _ in range(2))
    assert request.query is request.query
    assert request.path is request.path
    assert (request.path, request.query) == ("/a", {"b": "c"})
    assert request == same
    assert repr(request) == repr(same)


def test_request_is_read_field_by_field() -> None:
    request = parse_request(
        b"POST /a%20b/c?x=1&x=2&empty=&y=%C3%A9+z HTTP/1.1\r\nHost: h\r\nX-Two: a \r\n"
        b"Content-Length: 007\r\nx-two:\tb\r\nX-Empty:\r\nX-Obs: caf\xe9\r\n\r\n"
    )
    assert (request.method, request.http_version) == ("POST", "1.1")
    assert request.target == "/a%20b/c?x=1&x=2&empty=&y=%C3%A9+z"
    assert request.path == "/a b/c"
    assert request.query == {"x": "1", "empty": "", "y": "é z"}
    assert request.raw_headers == (
        (b"host", b"h"),
        (b"x-two", b"a"),
        (b"content-length", b"007"),
        (b"x-two", b"b"),
        (b"x-empty", b""),
        (b"x-obs", b"caf\xe9"),
    )
    assert request.header("X-Two") == "a, b"
    assert request.values("x-two") == ["a", "b"]
    assert request.header("x-obs") == "caf\xe9"
    assert request.header("absent") is None
    assert request.content_length == 7
    assert request.keep_alive
    assert not request.is_upgrade
    assert not request.expects_continue


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("GET http://h:1/p?q HTTP/1.1", "/p"),  # H39
        ("GET http://h HTTP/1.1", "/"),
        ("OPTIONS * HTTP/1.1", "*"),
        ("CONNECT h:1 HTTP/1.1", ""),
        ("GET //h/p HTTP/1.1", "//h/p"),
        ("GET /%ff%00 HTTP/1.1", "/\ufffd\0"),
    ],
)
def test_each_form_of_target_has_a_path(line: str, path: str) -> None:
    assert parse_request(head("Host: h", line=line)).path == path


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", "", True),
        ("1.1", "Connection: close", False),
        ("1.1", "Connection: x, Close", False),
        ("1.0", "", False),
        ("1.0", "Connection: Keep-Alive", True),
    ],
)
def test_keep_alive_follows_version_and_connection(
    version: str, connection: str, keep_alive: bool
) -> None:
    fields = ["Host: h"] + ([connection] if connection else [])
    assert parse_request(head(*fields, line=f"GET / HTTP/{version}")).keep_alive is keep_alive


def test_http_1_0_needs_no_host() -> None:
    assert parse_request(head(line="GET /config HTTP/1.0")).path == "/config"


def test_one_crlf_before_the_request_is_forgiven() -> None:
    assert parse_request(b"\r\n" + head("Host: h")).method == "GET"
    assert status_of_head(b"\r\n\r\n" + head("Host: h")) == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        pytest.param((), 400, id="H12 no Host"),
        pytest.param(("Host: a", "Host: a"), 400, id="H13 two Hosts"),
        pytest.param(("Host: a b",), 400, id="blank in Host"),
        pytest.param(("Host: http://a/",), 400, id="a URL as Host"),
        pytest.param(("Host: h", "no colon here"), 400, id="H30 no colon"),
        pytest.param(("Host: h", "X : 1"), 400, id="H31 blank before colon"),
        pytest.param(("Host: h", "X\t: 1"), 400, id="H31 tab before colon"),
        pytest.param(("Host: h", "X: 1", " folded"), 400, id="H32 obs-fold"),
        pytest.param(("Host: h", "X: 1", "\tfolded"), 400, id="H32 obs-fold with a tab"),
        pytest.param((" Host: h",), 400, id="blank before the first field"),
        pytest.param(("Host: h", "X: a\0b"), 400, id="H33 NUL"),
        pytest.param(("Host: h", "X: a\rb"), 400, id="H34 bare CR"),
        pytest.param(("Host: h", "X: a\r"), 400, id="H34 two CRs before LF"),
        pytest.param(("Host: h", "X: a\nY: b"), 400, id="H35 bare LF"),
        pytest.param(("Host: h", "X: \x1b[31m"), 400, id="ESC"),
        pytest.param(("Host: h", "X: \x7f"), 400, id="DEL"),
        pytest.param(("Host: h", "X(y): 1"), 400, id="H36 non-token name"),
        pytest.param(("Host: h", "caf\xe9: 1"), 400, id="H36 obs-text in a name"),
        pytest.param(("Host: h", ": 1"), 400, id="H36 empty name"),
        pytest.param(("Host: h", "Content-Length: 3", "Transfer-Encoding: chunked"), 400, id="H57"),
        pytest.param(
            ("Host: h", "Transfer-Encoding: chunked", "Content-Length: 3"), 400, id="H57b"
        ),
        pytest.param(("Host: h", "Content-Length: 3", "Content-Length: 3"), 400, id="two lengths"),
        pytest.param(("Host: h", "Content-Length: 3, 3"), 400, id="list of lengths"),
        pytest.param(("Host: h", "Content-Length: +3"), 400, id="signed length"),
        pytest.param(("Host: h", "Content-Length: \xb2"), 400, id="superscript length"),
        pytest.param(("Host: h", "Content-Length: 0x3"), 400, id="hexadecimal length"),
        pytest.param(("Host: h", "Content-Length:"), 400, id="empty length"),
        pytest.param(("Host: h", "Content-Length: 65537"), 413, id="body too long"),
        pytest.param(("Host: h", "Content-Length: " + "9" * 5000), 413, id="5000 digits"),
        pytest.param(("Host: h", "Transfer-Encoding: chunked"), 411, id="chunked"),
        pytest.param(("Host: h", "Transfer-Encoding: gzip, chunked"), 501, id="gzip"),
        pytest.param(("Host: h", "Transfer-Encoding:"), 501, id="empty coding"),
        pytest.param(("Host: h", "Expect: magic"), 417, id="unknown expectation"),
        pytest.param(("Host: h", *(f"X{n}: 1" for n in range(64))), 431, id="H45 65 fields"),
        pytest.param(("Host: h", *("X: 1" for _ in range(5000))), 431, id="H45 5000 fields"),
        pytest.param(("Host: h", "Connection: " + "a," * 64), 431, id="65 elements"),
        pytest.param(("Host: h", "Expect: " + "," * 8000), 431, id="8001 empty elements"),
        pytest.param(
            ("Host: h", *["Connection: a,b", "Upgrade: a,b"] * 16, "Connection: a"),
            431,
            id="65 elements in many fields",
        ),
        pytest.param(("Host: h", "X: " + "a" * 8190), 431, id="H46 line over 8 KiB"),
        pytest.param(("Host: h", "X: " + "a" * (1 << 20)), 431, id="H46 1 MiB field"),
    ],
)
def test_malformed_fields_are_refused_with_an_honest_status(
    fields: tuple[str, ...], status: int
) -> None:
    assert status_of_head(head(*fields, line="POST / HTTP/1.1")) == status


@pytest.mark.parametrize(
    ("line", "status"),
    [
        pytest.param("\x16\x03\x01\x02\0\x01\0", 400, id="H51 TLS hello"),
        pytest.param("PRI * HTTP/2.0", 505, id="H52 h2 preface"),
        pytest.param("", 400, id="H53 CRLFs"),
        pytest.param("GET /", 400, id="H54 0.9"),
        pytest.param("GET / HTTP/9.9", 505, id="H55 9.9"),
        pytest.param("GET / HTTP/1.2", 505, id="1.2"),
        pytest.param("get / HTTP/1.1", 400, id="H56 lower-case method"),
        pytest.param("GET / http/1.1", 400, id="lower-case protocol"),
        pytest.param("GET / HTTP/1.10", 400, id="two digits"),
        pytest.param("GET / RTSP/1.0", 400, id="RTSP"),
        pytest.param("BREW / HTTP/1.1", 501, id="unknown method"),
        pytest.param("G(T / HTTP/1.1", 400, id="non-token method"),
        pytest.param("GET  / HTTP/1.1", 400, id="two blanks"),
        pytest.param("GET / HTTP/1.1 ", 400, id="blank at the end"),
        pytest.param("GET\t/\tHTTP/1.1", 400, id="tabs"),
        pytest.param("GET /a b HTTP/1.1", 400, id="blank in the target"),
        pytest.param("GET /\xff HTTP/1.1", 400, id="H37 obs-text in the target"),
        pytest.param("GET /\0 HTTP/1.1", 400, id="NUL in the target"),
        pytest.param("GET relative HTTP/1.1", 400, id="relative target"),
        pytest.param("GET ?q HTTP/1.1", 400, id="no path"),
        pytest.param("GET /" + "a" * 8192 + " HTTP/1.1", 414, id="H47 target over 8 KiB"),
        pytest.param("GET /" + "a" * (1 << 20) + " HTTP/1.1", 414, id="H47 1 MiB target"),
        pytest.param("A" * 9000, 400, id="H50 9000 letters"),
    ],
)
def test_malformed_request_lines_are_refused_with_an_honest_status(line: str, status: int) -> None:
    assert status_of_head(head("Host: h", line=line)) == status


@pytest.mark.parametrize("data", [b"", b"\r\n", b"GET / HTTP/1.1\r\nHost: h\r\n", b"\n\n"])
def test_a_head_without_its_blank_line_is_refused(data: bytes) -> None:
    assert status_of_head(data) == 400


def test_bytes_behind_the_blank_line_are_no_part_of_a_head() -> None:
    assert status_of_head(head(*UPGRADE) + b"\x89\0\r\n\r\n") == 400


def test_limits_are_inclusive() -> None:
    target = "/" + "a" * (8192 - len("GET / HTTP/1.1"))
    assert len(parse_request(head("Host: h", line=f"GET {target} HTTP/1.1")).target) == len(target)
    assert parse_request(head("Host: h", "X: " + "a" * 8189)).values("x") == ["a" * 8189]
    assert len(parse_request(head("Host: h", *(f"X{n}: 1" for n in range(63)))).headers) == 64
    assert parse_request(head("Host: h", "Content-Length: 65536")).content_length == 65536
    assert parse_request(head("Host: h", "Connection: " + "a," * 63)).keep_alive
    assert parse_request(head("Host: h", "X: " + "a," * 4000)).keep_alive
    small = HeadLimits(head_bytes=64, line_bytes=32, headers=2, body_bytes=3)
    assert parse_request(head("Host: h", "Content-Length: 3"), small).content_length == 3


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (b"GET /" + b"a" * 16384, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 16384, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 3000, 431),
        (b"a" * 16385, 400),
        (b"\x16\x03\x01" + b" " * 16385, 400),
    ],
)
def test_a_head_that_never_ends_gets_the_status_of_what_overflowed(
    part: bytes, status: int
) -> None:
    assert head_too_large(part).status == status


@pytest.mark.parametrize(
    "data",
    [
        head("Host: h", *(":" * 250 for _ in range(60))),
        head("Host: h", "Connection: " + "," * 8000, "Upgrade: " + ", " * 3900),
        head(*UPGRADE, "Sec-WebSocket-Protocol: " + '"\\' * 4000),
        head(*UPGRADE, "Sec-WebSocket-Protocol: a" + " " * 8000 + "b"),
        head("Host: h", "X: " + "a" * (4 << 20)),
    ],
)
def test_hostile_heads_cost_little(data: bytes) -> None:
    start = time.process_time()
    with contextlib.suppress(HandshakeError):
        choose_subprotocol(parse_request(data), ["fastws.v1"])
    assert time.process_time() - start < 0.05


HONEST = {400, 405, 411, 413, 414, 417, 426, 431, 501, 505}
KEY_LINE = re.compile(rb"^sec-websocket-key:[ \t]*(\S+)\r$", re.MULTILINE | re.IGNORECASE)


def outcome(judge: Callable[[], Any]) -> Any:
    """What it returns, None when it refuses with a status that fits."""
    status = None
    try:
        return judge()
    except HandshakeError as error:
        status = error.status
    assert status in HONEST
    return None


def test_every_changed_byte_of_an_upgrade_is_an_upgrade_with_that_key_or_refused() -> None:
    """An upgrade that is taken is answered for the key that stands in it; all 256 bytes."""
    good, taken = head(*UPGRADE), 0
    for position in range(len(good)):
        for byte in range(256):
            data = good[:position] + bytes([byte]) + good[position + 1 :]
            accepted = outcome(lambda data=data: check_upgrade(parse_request(data)))
            if accepted is None:
                continue
            key = re.search(KEY_LINE, data)
            assert key is not None
            assert accepted == accept_key(key[1].decode())
            taken += 1
    assert taken > 1000


def test_a_head_is_whole_only_at_its_last_byte() -> None:
    """Cut at every byte it is refused; whole, and in no other way, it is taken."""
    good = head(*UPGRADE, "Content-Length: 0")
    for size in range(len(good)):
        assert status_of_head(good[:size]) == 400
        assert head_too_large(good[:size]).status in (400, 414, 431)
    assert parse_request(good).is_upgrade


def test_a_byte_left_out_or_sent_twice_is_read_as_it_stands_or_refused() -> None:
    good = head(*UPGRADE)
    for position in range(len(good)):
        for data in (
            good[:position] + good[position + 1 :],
            good[:position] + good[position : position + 1] + good[position:],
        ):
            request = outcome(lambda data=data: parse_request(data))
            if request is None:
                continue
            lines = data.removeprefix(b"\r\n")[:-4].split(b"\r\n")
            assert f"{request.method} {request.target} ".encode() == lines[0][:-8]
            assert len(request.raw_headers) == len(lines) - 1


def test_expect_100_continue_is_reported() -> None:
    fields = ("Host: h", "Content-Length: 3", "Expect: 100-Continue")
    assert parse_request(head(*fields, line="POST / HTTP/1.1")).expects_continue
    assert not parse_request(head(*fields, line="POST / HTTP/1.0")).expects_continue


def test_encoded_line_breaks_in_a_target_reach_no_answer_and_no_log() -> None:  # H38
    request = parse_request(head("Host: h", line="GET /%0d%0aX:%201?a=%0d%0a HTTP/1.1"))
    assert request.path == "/\r\nX: 1"
    assert printable(request.path) == "/\\r\\nX: 1"
    assert printable(request.target) == "/%0d%0aX:%201?a=%0d%0a"


def test_printable_escapes_and_cuts() -> None:  # X58
    assert printable("a\x1b[31m\u2028é") == "a\\x1b[31m\\u2028é"
    assert len(printable("a" * 1000)) == 256


def test_handshake_error_is_a_fastws_error() -> None:
    error = HandshakeError(400, "why")
    assert isinstance(error, FastwsError)
    assert (str(error), error.headers) == ("400 why", ())
