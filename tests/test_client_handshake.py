"""The upgrade as the client asks for it and judges the answer."""

import base64

import pytest

from fastws.client.handshake import build_request, check_response, new_key
from fastws.client.url import Url, parse_url
from fastws.errors import ConfigError, InvalidHandshake
from fastws.http.head import parse_request
from fastws.http.upgrade import check_upgrade, choose_subprotocol, switching_protocols

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3
GOOD = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
)


def answer(*fields: str, line: str = "HTTP/1.1 101 Switching Protocols") -> bytes:
    return "".join(f"{text}\r\n" for text in (line, *fields, "")).encode("latin-1")


def test_request_golden_bytes() -> None:
    assert build_request("127.0.0.1", 8080, "/a?b", KEY) == (
        b"GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\n"
    )
    assert build_request("::1", 80, "/", KEY, ["a", "b"], "null", [("X", "y")]) == (
        b"GET / HTTP/1.1\r\nHost: [::1]\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: a, b\r\nOrigin: null\r\nX: y\r\n\r\n"
    )


def test_our_server_and_our_client_agree() -> None:
    key = new_key()
    request = parse_request(build_request("::1", 8080, "/", key, ["x", "fastws.v1"]))
    chosen = choose_subprotocol(request, ["fastws.v1"])
    reply = switching_protocols(check_upgrade(request), chosen)
    assert check_response(reply, key, ["x", "fastws.v1"]) == "fastws.v1"


def test_keys_are_16_fresh_bytes() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(base64.b64decode(key, validate=True)) for key in keys} == {16}


@pytest.mark.parametrize("bad", ["", "a", "/a b", "/a\r\nX: 1", "/\xe9", "/\0"])
def test_a_target_cannot_break_the_request_line(bad: str) -> None:
    with pytest.raises(ValueError, match="target"):
        build_request("h", 80, bad, KEY)


def test_no_argument_can_start_another_line() -> None:
    with pytest.raises(ValueError, match="Host"):
        build_request("h\r\nX: 1", 80, "/", KEY)
    with pytest.raises(ValueError, match="Key"):
        build_request("h", 80, "/", KEY + "\n")
    with pytest.raises(ValueError, match="Protocol"):
        build_request("h", 80, "/", KEY, ["a\rb"])
    with pytest.raises(ValueError, match="Origin"):
        build_request("h", 80, "/", KEY, origin="\0")
    with pytest.raises(ValueError, match="token"):
        build_request("h", 80, "/", KEY, extra=[("X:", "1")])


def test_odd_case_and_lists_in_the_answer_are_accepted() -> None:
    fields = ("uPGRADE: WebSocket", "CONNECTION: keep-alive, upgrade", GOOD[2], "Server: caf\xe9")
    assert check_response(answer(*fields), KEY) is None
    assert check_response(answer(*GOOD, line="HTTP/1.1 101"), KEY) is None


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", None, "malformed"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", None, "not HTTP"),
        (answer(*GOOD, line="HTTP/1.0 101 x"), None, "not HTTP/1.1"),
        (answer(*GOOD, "X: a\rb"), None, "malformed"),
        (answer(*GOOD, " folded"), None, "malformed"),
        (answer(line="HTTP/1.1 404 Not Found"), 404, "refused: 404 Not Found"),
        (answer(line="HTTP/1.1 503"), 503, "refused: 503"),
        (answer(*GOOD[1:]), 101, "Upgrade"),
        (answer("Upgrade: h2c", *GOOD[1:]), 101, "Upgrade"),
        (answer(GOOD[0], GOOD[2]), 101, "Connection"),
        (answer(GOOD[0], "Connection: notupgrade", GOOD[2]), 101, "Connection"),
        (answer(*GOOD[:2]), 101, "Accept"),
        (answer(*GOOD[:2], GOOD[2].swapcase()), 101, "Accept"),
        (answer(*GOOD, GOOD[2]), 101, "more than once"),
        (answer(*GOOD, "Sec-WebSocket-Extensions: permessage-deflate"), 101, "extension"),
        (answer(*GOOD, "Sec-WebSocket-Protocol: b"), 101, "subprotocol"),
        (answer(*GOOD, *["Sec-WebSocket-Protocol: a"] * 2), 101, "more than once"),
    ],
)
def test_wrong_answers_are_refused(data: bytes, status: int | None, message: str) -> None:
    with pytest.raises(InvalidHandshake, match=message) as caught:
        check_response(data, KEY, ["a"])
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("ws://127.0.0.1:8080", Url("127.0.0.1", 8080, "/")),
        ("ws://127.0.0.1:8080/a/b?c=d&e", Url("127.0.0.1", 8080, "/a/b?c=d&e")),
        ("WS://LocalHost?x", Url("localhost", 80, "/?x")),
        ("ws://[::1]:9/", Url("::1", 9, "/")),
        ("ws://[fe80::1%25eth0]:9/", Url("fe80::1%eth0", 9, "/")),
        ("ws://[fe80::1%eth0]/%25", Url("fe80::1%eth0", 80, "/%25")),
    ],
)
def test_ws_urls_are_read(text: str, url: Url) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wss://127.0.0.1/", "wss is not supported"),
        ("http://127.0.0.1/", "must look like"),
        ("127.0.0.1:8080", "must look like"),
        ("ws:///path", "must look like"),
        ("", "must look like"),
        ("ws://127.0.0.1:99999/", "[Pp]ort"),
        ("ws://127.0.0.1:0/", "port"),
        ("ws://127.0.0.1:x/", "[Pp]ort"),
        ("ws://[::1/", "IPv6"),
        ("ws://127.0.0.1/#a", "fragment"),
        ("ws://u:p@127.0.0.1/", "user"),
        ("ws://127.0.0.1/\r\nX: 1", "printable"),
        ("ws://127.0.0.1/a b", "printable"),
    ],
)
def test_other_urls_are_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_url(text)
    assert caught.value.field == "url"
    assert str(caught.value).isprintable()
