"""Drawn lists in fields: subprotocols, `Connection`, compression, against strict parsers."""

from hypothesis import example, given
from hypothesis import strategies as st
from thorough import THOROUGH, TOKENS
from websockets.exceptions import InvalidHeader, NegotiationError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.headers import parse_connection, parse_extension, parse_subprotocol

from fastws.http.extensions import negotiate
from fastws.http.fields import list_tokens
from fastws.http.head import parse_request
from fastws.http.request import Request
from fastws.http.upgrade import choose_subprotocol

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
