"""Drawn HTTP: request heads against h11's verdict, answers as h11 reads them.

fastws is stricter than h11 in the places that `OURS_STRICTER` names and laxer in those of
`OURS_LAXER`, and nowhere else.
"""

import re
from collections.abc import Callable

import h11
from hypothesis import example, given
from hypothesis import strategies as st
from support import encoded
from thorough import THOROUGH, TOKENS, read_back

from fastws.errors import HandshakeError
from fastws.http.head import parse_request
from fastws.http.request import Request
from fastws.http.response import encode_response, refusal
from fastws.http.upgrade import accept_key, check_upgrade, switching_protocols

STATUSES = {400, 411, 413, 414, 417, 431, 501, 505}
UPGRADE_STATUSES = {400, 405, 426}


# Requests, mostly whole and legal, then changed in a byte or two.

NAMES = st.one_of(
    st.sampled_from(
        [
            "Host",
            "Connection",
            "Upgrade",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Extensions",
            "Content-Length",
            "Transfer-Encoding",
            "Expect",
            "X-Other",
        ]
    ),
    TOKENS,
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            "example.com:80",
            "[::1]:1",
            "a b",
            "Upgrade",
            "keep-alive, Upgrade",
            "close",
            "websocket",
            "h2c, WebSocket",
            "dGhlIHNhbXBsZSBub25jZQ==",
            "13",
            "0",
            "5, 5",
            "00012",
            "+5",
            "99999999999999999999",
            "chunked",
            "gzip, chunked",
            "identity",
            "100-continue",
            "permessage-deflate; client_max_window_bits",
            "\xe9\xff",
            "a\tb",
            "a\x7fb",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
)
FIELDS = st.tuples(NAMES, st.sampled_from([":", ": ", ":\t ", " :", ""]), VALUES).map("".join)
LEGAL = st.tuples(NAMES, st.just(": "), VALUES).map("".join)
UPGRADE = [
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version: 13",
]
TARGETS = st.one_of(
    st.sampled_from(
        ["/", "*", "/config?x=1", "http://a/b", "a:80", "//x", "/%0d%0a", "/%ff", "http://[", "?"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
)
METHODS = st.one_of(
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "DELETE", "CONNECT", "PRI", "get"]), TOKENS
)
VERSIONS = st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "x"])


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    blank = draw(st.sampled_from([" "] * 8 + ["  ", "\t", ""]))
    start = blank.join([draw(METHODS), draw(TARGETS), draw(VERSIONS)])
    fields = ["Host: h"] if draw(st.integers(0, 9)) else []
    fields += UPGRADE if draw(st.booleans()) else []
    fields += draw(st.lists(st.one_of(LEGAL, LEGAL, FIELDS), max_size=4))
    end = draw(st.sampled_from(["\r\n"] * 8 + ["\n", "\r\n "]))
    head = bytearray("\r\n".join([start, end.join(fields), "", ""]).encode("latin-1"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(head) - 5))
        odd = draw(st.sampled_from([b"", b"\r", b"\n", b"\0", b" ", b":", b"\t", b"\x80", b"\r\n"]))
        head[at : at + draw(st.integers(0, 1))] = odd
    return first_head(draw(st.sampled_from([b""] * 9 + [b"\r\n"])) + head)


def first_head(data: bytes) -> bytes:
    """As the engine cuts heads off: up to the first empty line, a bare LF ending a line, too."""
    blank = re.search(rb"\n\r?\n", data)
    return data[: blank.end()] if blank else data


def ours(head: bytes) -> Request | HandshakeError:
    try:
        return parse_request(head)
    except HandshakeError as error:
        return error


def upgrade_of(request: Request) -> str | HandshakeError:
    try:
        return check_upgrade(request)
    except HandshakeError as error:
        return error


def theirs(head: bytes) -> h11.Request | None:
    """What h11 makes of the head, None when it refuses."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


def values(theirs: h11.Request, name: bytes) -> list[bytes]:
    return [value for key, value in theirs.headers if key == name]


def matches(pattern: bytes) -> Callable[[bytes, h11.Request], bool]:
    compiled = re.compile(pattern, re.DOTALL)
    return lambda head, _: compiled.search(head) is not None


# What we refuse, with that status, and h11 takes; each with the reason.
COMMON_METHODS = (b"GET", b"POST", b"HEAD", b"OPTIONS", b"DELETE", b"PUT", b"CONNECT", b"TRACE")
PLAIN_HOST = re.compile(rb"([a-zA-Z0-9.-]*|\[[0-9a-f:]+\])(:[0-9]*)?")
OURS_STRICTER: list[tuple[int, str, Callable[[bytes, h11.Request], bool]]] = [
    (400, "a bare LF ends no line (RFC 9112 2.2 lets us refuse)", matches(rb"(?<!\r)\n")),
    (400, "no line folding (RFC 9112 5.2)", matches(rb"\r\n[ \t]")),
    (400, "DEL is a control character (RFC 9110 5.5)", matches(rb"\x7f")),
    (
        400,
        "Host is a host",
        lambda _, it: any(PLAIN_HOST.fullmatch(host) is None for host in values(it, b"host")),
    ),
    (400, "one length, not a list of equal ones", matches(rb"(?i)content-length:.*,")),
    (400, "one length, not twice the same", matches(rb"(?i)content-length:.*content-length:")),
    (
        400,
        "no length beside a coding, no coding in HTTP/1.0 (RFC 9112 6.1)",
        lambda _, it: (
            bool(values(it, b"transfer-encoding"))
            and (bool(values(it, b"content-length")) or it.http_version == b"1.0")
        ),
    ),
    (400, "methods are upper case", lambda _, it: it.method != it.method.upper()),
    (400, "PRI is HTTP/2's (RFC 9113 3.4)", lambda _, it: it.method == b"PRI"),
    (400, "a target that llhttp takes", lambda _, it: not it.target.startswith(b"/")),
    (505, "HTTP/1 only", lambda _, it: it.http_version not in (b"1.0", b"1.1")),
    (501, "methods that llhttp knows", lambda _, it: it.method not in COMMON_METHODS),
    (411, "chunked bodies are not read", lambda _, it: bool(values(it, b"transfer-encoding"))),
    (
        413,
        "long bodies are not read",
        lambda _, it: int((values(it, b"content-length") or [b"0"])[0]) > 65536,
    ),
    (417, "one expectation is known", lambda _, it: bool(values(it, b"expect"))),
]
# What h11 refuses and we take; each with the reason.
OURS_LAXER = {
    "an empty line first (RFC 9112 2.2 asks for it)": rb"\A\r\n",
}


@THOROUGH
@given(heads())
@example(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
def test_a_head_is_judged_as_h11_does_but_for_the_listed_differences(head: bytes) -> None:
    mine, other = ours(head), theirs(head)
    if isinstance(mine, HandshakeError):
        assert mine.status in STATUSES
        assert other is None or any(
            mine.status == status and holds(head, other) for status, _, holds in OURS_STRICTER
        ), f"refused with {mine.status} {mine.body}, h11 takes it"
        return
    if other is None:
        assert any(re.search(pattern, head) for pattern in OURS_LAXER.values()), "h11 refuses it"
        return
    assert (mine.method.encode(), mine.target.encode()) == (other.method, other.target)
    assert mine.http_version.encode() == other.http_version
    assert list(mine.raw_headers) == list(other.headers)
    assert mine.content_length == int((values(other, b"content-length") or [b"0"])[0])


@THOROUGH
@given(
    st.one_of(
        heads(), st.binary(max_size=200), st.binary(max_size=80).map(lambda it: it + b"\r\n\r\n")
    )
)
def test_any_bytes_are_a_request_or_refused_with_an_answer_that_can_be_read(head: bytes) -> None:
    mine = ours(head)
    if isinstance(mine, HandshakeError):
        assert read_back(encode_response(refusal(mine)), "GET").status_code == mine.status
        return
    upgraded = upgrade_of(mine)
    if isinstance(upgraded, HandshakeError):
        assert upgraded.status in UPGRADE_STATUSES
        assert (
            read_back(encode_response(refusal(upgraded)), mine.method).status_code
            == upgraded.status
        )
        return
    assert mine.is_upgrade
    assert upgraded == accept_key(*mine.values("sec-websocket-key"))
    switched = read_back(switching_protocols(upgraded), "GET")
    assert isinstance(switched, h11.InformationalResponse)


# Answers.


@THOROUGH
@given(
    status=st.sampled_from([200, 204, 304, 400, 404, 405, 426, 500, 503]),
    body=st.binary(max_size=50),
    fields=st.lists(st.tuples(TOKENS, VALUES), max_size=3),
    keep_alive=st.booleans(),
)
def test_an_answer_is_read_as_it_was_meant_or_not_built(
    status: int, body: bytes, fields: list[tuple[str, str]], keep_alive: bool
) -> None:
    try:
        answer = encoded(status, body, headers=fields, keep_alive=keep_alive)
    except ValueError:
        assert (
            (status in (204, 304) and body)
            or any(re.search(r"[\0-\x08\x0a-\x1f\x7f]", value) for _, value in fields)
            or any(name.lower() in ("connection", "content-length") for name, _ in fields)
        )
        return
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "h")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    assert head.status_code == status
    got = list(head.headers)[-len(fields) :] if fields else []
    assert got == [
        (name.lower().encode(), value.strip(" \t").encode("latin-1")) for name, value in fields
    ]
    received = b""
    while isinstance(event := client.next_event(), h11.Data):
        received += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert received == body
    assert client.trailing_data == (b"", False)
