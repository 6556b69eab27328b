"""Drawn HTTP: request heads against h11's verdict, what is made of lists in fields, bodies.

fastws is stricter than h11 in the places that `OURS_STRICTER` names and laxer in those of
`OURS_LAXER`, and nowhere else.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace

import h11
from hypothesis import example, given
from hypothesis import strategies as st
from support import encoded
from thorough import THOROUGH
from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import parse_connection, parse_extension, parse_subprotocol

from fastws.errors import HandshakeError
from fastws.http.extensions import negotiate
from fastws.http.fields import list_tokens
from fastws.http.head import parse_request
from fastws.http.request import Request
from fastws.http.response import encode_response, refusal
from fastws.http.upgrade import accept_key, check_upgrade, choose_subprotocol, switching_protocols
from fastws.ticks.api import HttpApi
from fastws.ticks.config import FeedConfig

STATUSES = {400, 411, 413, 414, 417, 431, 501, 505}
UPGRADE_STATUSES = {400, 405, 426}


# Requests, mostly whole and legal, then changed in a byte or two.

TOKENS = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1, max_size=8)
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


def read_back(answer: bytes, method: str) -> h11.Response | h11.InformationalResponse:
    """What an h11 client makes of an answer to a request of that method."""
    client = h11.Connection(h11.CLIENT)
    upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    known = method if method in ("HEAD", "GET") else "GET"
    client.send(h11.Request(method=known, target="/", headers=[("Host", "h"), *upgrade]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    event = client.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    return event


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


# Lists in fields.

LISTS = st.lists(
    st.one_of(TOKENS, st.sampled_from(["", " ", '"q"', "a b", "chat", "tick", "a;b", "\t"])),
    max_size=6,
).map(lambda parts: ",".join(parts))


def request_with(name: str, lines: list[str]) -> Request:
    fields = "".join(f"{name}: {line}\r\n" for line in lines)
    return parse_request(f"GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n".encode("latin-1"))


@THOROUGH
@given(st.lists(LISTS, max_size=3))
def test_the_subprotocol_is_one_of_ours_and_the_first_that_a_strict_parser_finds(
    lines: list[str],
) -> None:
    offered = ("tick", "chat")
    chosen = choose_subprotocol(request_with("Sec-WebSocket-Protocol", lines), offered)
    assert chosen is None or chosen in offered
    try:
        wanted = [it for line in lines for it in parse_subprotocol(line)]
    except InvalidHeader:
        return
    assert chosen == next((it for it in wanted if it in offered), None)


@THOROUGH
@given(st.lists(LISTS, max_size=3))
def test_the_elements_of_a_list_are_those_that_a_strict_parser_finds(lines: list[str]) -> None:
    request = request_with("Connection", lines)
    found = list_tokens(value for name, value in request.raw_headers if name == b"connection")
    try:
        strict = [it.lower() for line in lines for it in parse_connection(line)]
    except InvalidHeader:
        return
    assert found == strict


BITS = st.sampled_from(["", "=8", "=9", "=10", "=15", "=16", '="12"', '="', "=010", "= 9", "=a"])
PARAMETERS = st.one_of(
    st.sampled_from(["server_no_context_takeover", "client_no_context_takeover", "x=1", "", "a b"]),
    BITS.map(lambda bits: f"server_max_window_bits{bits}"),
    BITS.map(lambda bits: f"client_max_window_bits{bits}"),
)
OFFERS = st.tuples(
    st.sampled_from(["permessage-deflate"] * 4 + ["x", "", "constructor", '"']),
    st.lists(PARAMETERS, max_size=4),
).map(lambda it: "; ".join([it[0], *it[1]]))


def their_window(lines: list[str]) -> int | None:
    """The window of the first offer that `websockets` takes, None when it takes none.

    It takes 8 bits and then compresses with 9 (RFC 7692 7.1.2.1 forbids that): declined here.
    """
    server = ServerPerMessageDeflateFactory(True, True)
    for name, parameters in [offer for line in lines for offer in parse_extension(line)]:
        try:
            if name == server.name and ("server_max_window_bits", "8") not in parameters:
                answer, _ = server.process_request_params(parameters, [])
                return int(dict(answer).get("server_max_window_bits") or 15)
        except NegotiationError:
            continue
    return None


@THOROUGH
@given(st.lists(OFFERS, max_size=4).map(", ".join), st.lists(OFFERS, max_size=2))
@example("permessage-deflate; server_max_window_bits=8, permessage-deflate", [])
def test_compression_is_agreed_on_as_websockets_does(line: str, more: list[str]) -> None:
    lines = [it for it in (line, *more) if it.strip(", ")]  # it refuses a list of nothing
    chosen = negotiate(lines)
    if chosen is not None:
        ((name, parameters),) = parse_extension(chosen.header)
        assert name == "permessage-deflate"
        assert ("server_no_context_takeover", None) in parameters
        assert ("client_no_context_takeover", None) in parameters
        assert 9 <= chosen.window_bits <= 15
        assert dict(parameters).get("server_max_window_bits", "15") == str(chosen.window_bits)
    try:
        expected = their_window(lines)
    except InvalidHeader:
        assert chosen is None, "broken, and still taken"
        return
    assert expected == (chosen and chosen.window_bits)


# Bodies.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["rate", "rampEnabled", "rampPercent", "rampIntervalSec", "format", "serverRate", "x"]
)
CHANGES = st.dictionaries(
    KEYS, st.one_of(JSON, st.integers(-5, 200000), st.sampled_from(["max", "json", "binary"]))
)
BODIES = st.one_of(CHANGES.map(json.dumps), JSON.map(json.dumps)).map(str.encode)


@THOROUGH
@given(
    st.one_of(
        BODIES,
        st.binary(max_size=40),
        BODIES.flatmap(lambda body: st.integers(0, len(body)).map(lambda n: body[:n])),
    )
)
@example(b"[" * 5000)
@example(b'{"rate":1e999}')
@example(b'{"rate":NaN}')
@example(b'{"rate":' + b"9" * 400 + b"}")
def test_any_body_changes_the_configuration_to_a_legal_one_or_not_at_all(body: bytes) -> None:
    state = [FeedConfig()]
    api = HttpApi(lambda: state[0], lambda config: state.__setitem__(0, config), dict, lambda: None)
    head = f"POST /config HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    request = replace(parse_request(head.encode()), body=body)
    answer = encode_response(api.handle(request))
    status = read_back(answer, "POST").status_code
    content = answer.partition(b"\r\n\r\n")[2]
    if status == 200:
        assert json.loads(content) == json.loads(json.dumps(state[0].to_wire()))
        assert FeedConfig().apply(dict(state[0].to_wire())) == state[0]
    else:
        assert status == 400
        assert content
        assert state[0] == FeedConfig()
