"""The HTTP API to the byte: routes, CORS, and who may change what."""

from dataclasses import replace

import pytest
from support import From

from fastws.errors import ConfigError, HandshakeError
from fastws.http.head import parse_request
from fastws.http.response import encode_response
from fastws.ticks.access import Access
from fastws.ticks.api import HttpApi
from fastws.ticks.changes import Changes
from fastws.ticks.config import FeedConfig

CORS = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Allow-Methods: GET, POST, DELETE, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: Content-Type, Authorization\r\n"
)
DEFAULT = b'{"rate":100,"rampEnabled":false,"rampPercent":10,"rampIntervalSec":5,"format":"json"}'
STATS = {
    "serverRate": 5,
    "targetRate": "max",
    "clients": {"a": {"clientId": "a", "avgLatencyMs": None}},
    "server": {"published": 18446744073709551615},
}


class Server:
    """What stands behind the API, and a way to ask it."""

    def __init__(self, admin_token: str | None = None) -> None:
        self.config = FeedConfig()
        self.cleared = 0
        self.refuse_change = False
        self.changes = Changes()
        self.api = HttpApi(
            lambda: self.config,
            self.set_config,
            lambda: STATS,
            self.clear,
            Access(admin_token),
            self.changes,
        )

    def set_config(self, config: FeedConfig) -> None:
        if self.refuse_change:
            raise ConfigError("rate", "not now")
        self.config = config

    def clear(self) -> None:
        self.cleared += 1

    def ask(self, line: str, *fields: str, body: bytes = b"", remote: str = "127.0.0.1") -> bytes:
        lines = (
            f"{line} HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {len(body)}",
            *fields,
            "",
            "",
        )
        head = "\r\n".join(lines).encode()
        request = replace(parse_request(head, peer=From(remote)), body=body)
        return encode_response(
            self.api.handle(request),
            keep_alive=request.keep_alive,
            head_only=request.method == "HEAD",
        )


def ok(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: keep-alive\r\n%s\r\n%s" % (len(body), CORS, body)
    )


def failed(start: bytes, body: bytes, extra: bytes = b"") -> bytes:
    return (
        b"HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"
        b"Connection: keep-alive\r\n%s%s\r\n%s" % (start, len(body), CORS, extra, body)
    )


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def test_get_config_golden_bytes() -> None:
    assert Server().ask("GET /config") == ok(DEFAULT)
    assert Server().ask("GET /config?t=1") == ok(DEFAULT)


def test_post_config_answers_the_whole_configuration_in_force() -> None:
    server = Server()
    reply = server.ask("POST /config", body=b'{"rate":500000,"rampEnabled":true}')
    assert reply == ok(
        b'{"rate":500000,"rampEnabled":true,"rampPercent":10,"rampIntervalSec":5,"format":"json"}'
    )
    assert server.config == FeedConfig(500_000, True)
    assert server.ask("GET /config") == reply
    assert server.ask("POST /config", body=b"{}") == reply


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"rate=5", b"\xff", b'{"rate":NaN}', b"[" * 60000, b"[]", b"null", b"5", b'"max"'],
)
def test_what_is_not_a_json_object_is_answered_invalid_json(body: bytes) -> None:
    server = Server()
    assert server.ask("POST /config", body=body) == failed(b"400 Bad Request", b"Invalid JSON")
    assert server.config == FeedConfig()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"format":"binary","rate":-1}', b"rate"),
        (b'{"format":"binary","rate":true}', b"rate"),
        (b'{"rate":5,"rampEnabled":1}', b"rampEnabled"),
        (b'{"rate":5,"rampPercent":"10"}', b"rampPercent"),
        (b'{"rate":5,"rampIntervalSec":0}', b"rampIntervalSec"),
        (b'{"rate":5,"format":"xml"}', b"format"),
        (b'{"rate":5,"rte":6}', b"rte"),
        (b'{"rate":5,"a\\r\\nb":6}', b"a\\r\\nb"),
    ],
)
def test_a_bad_value_names_its_field_and_changes_nothing(body: bytes, field: bytes) -> None:
    server = Server()
    reply = server.ask("POST /config", body=body)
    assert status_of(reply) == 400
    assert reply.partition(b"\r\n\r\n")[2].startswith(field + b": ")
    assert CORS in reply
    assert server.config == FeedConfig()


def test_a_change_that_the_server_refuses_names_its_field() -> None:
    server = Server()
    server.refuse_change = True
    assert server.ask("POST /config", body=b'{"rate":5}') == failed(
        b"400 Bad Request", b"rate: not now"
    )


def test_get_stats_golden_bytes() -> None:
    assert Server().ask("GET /stats") == ok(
        b'{"serverRate":5,"targetRate":"max","clients":{"a":{"clientId":"a","avgLatencyMs":null}},'
        b'"server":{"published":18446744073709551615}}'
    )


def test_delete_stats_clears() -> None:
    server = Server()
    assert server.ask("DELETE /stats") == ok(b'{"cleared":true}')
    assert server.cleared == 1


@pytest.mark.parametrize("target", ["*", "/config", "/stats", "/anything"])
def test_options_is_204_everywhere(target: str) -> None:
    assert Server().ask(f"OPTIONS {target}", remote="192.0.2.1") == (
        b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n" + CORS + b"\r\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "GET /",
        "GET /CONFIG",
        "GET /config//",
        "POST /x",
        "DELETE /x",
        "GET //stats",
        "GET /%0d%0aX",
    ],
)
def test_another_path_is_not_found(line: str) -> None:
    assert Server().ask(line) == failed(b"404 Not Found", b"Not found")


@pytest.mark.parametrize("line", ["GET /config", "GET /stats", "GET /x"])
def test_head_is_get_without_the_body(line: str) -> None:
    whole = Server().ask(line)
    head = Server().ask(line.replace("GET", "HEAD"))
    assert head == whole[: whole.index(b"\r\n\r\n") + 4]


@pytest.mark.parametrize(
    ("line", "allow"),
    [
        ("PUT /config", b"GET, POST, HEAD, OPTIONS"),
        ("DELETE /config", b"GET, POST, HEAD, OPTIONS"),
        ("POST /stats", b"GET, DELETE, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_which_ones_there_are(line: str, allow: bytes) -> None:
    assert Server().ask(line) == failed(
        b"405 Method Not Allowed", b"Method not allowed", b"Allow: " + allow + b"\r\n"
    )


def test_connection_close_is_answered_with_close() -> None:
    for line in ("GET /config", "GET /x", "OPTIONS *"):
        reply = Server().ask(line, "Connection: close")
        assert b"\r\nConnection: close\r\n" in reply


@pytest.mark.parametrize("line", ["POST /config", "DELETE /stats"])
def test_only_who_may_changes_anything_and_both_are_counted(line: str) -> None:
    server = Server("s3cret")
    for fields in ((), ("Authorization: Bearer guess",)):
        reply = server.ask(line, *fields, body=b'{"rate":5}')
        assert status_of(reply) == 403
        assert CORS in reply
    assert (server.config, server.cleared) == (FeedConfig(), 0)
    assert status_of(server.ask(line, "Authorization: Bearer s3cret", body=b'{"rate":5}')) == 200
    assert (server.config, server.cleared) != (FeedConfig(), 0)
    assert (server.changes.accepted, server.changes.refused) == (1, 2)


def test_a_change_that_is_wrong_counts_as_refused() -> None:
    server = Server()
    for body in (b"{", b'{"rate":-1}'):
        assert status_of(server.ask("POST /config", body=body)) == 400
    assert (server.changes.accepted, server.changes.refused) == (0, 2)
    for line in ("PUT /config", "POST /x", "GET /config", "OPTIONS /config"):
        server.ask(line)
    assert (server.changes.accepted, server.changes.refused) == (0, 2)


@pytest.mark.parametrize("line", ["GET /config", "POST /config", "GET /stats", "DELETE /stats"])
def test_a_trailing_slash_is_forgiven(line: str) -> None:
    assert Server().ask(f"{line}/", body=b"{}") == Server().ask(line, body=b"{}")


def test_reading_is_free_from_everywhere() -> None:
    for line in ("GET /config", "GET /stats", "HEAD /stats"):
        assert status_of(Server().ask(line, "X-Forwarded-For: x", remote="192.0.2.1")) == 200


def test_a_refused_head_is_answered_with_cors_and_close() -> None:
    response = Server().api.refuse(HandshakeError(413, "too long"))
    assert encode_response(response, keep_alive=False).endswith(
        b"\r\nContent-Length: 8\r\nConnection: close\r\n" + CORS + b"\r\ntoo long"
    )
