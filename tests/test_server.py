"""The server over real sockets: upgrades, frames, HTTP on the same port, limits, the end.

H07 and such are ids of the hostile-input catalogue.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    SWITCHED,
    TEXT,
    UPGRADE,
    UPGRADE_FIELDS,
    Client,
    Site,
    client_frame,
    close_payload,
    http_request,
    open_files,
    take_frames,
)

from fastws import App, ConfigError, Connection, HandshakeError, Request, Server
from fastws.handshake import parse_request, refusal, response

Run = Callable[[Any], Any]
CORS = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Allow-Methods: GET, POST, DELETE, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: Content-Type\r\n"
)
CONFIG = b'{"rate":0,"rampEnabled":false,"rampPercent":10,"rampIntervalSec":5,"format":"json"}'


def ok(body: bytes, connection: bytes = b"keep-alive") -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: %s\r\n%s\r\n%s" % (len(body), connection, CORS, body)
    )


async def received(client: Client, n: int) -> bytes:
    """Exactly n bytes, and none beyond them."""
    while len(client.buffer) < n:
        await client.more()
    data = bytes(client.buffer)
    client.buffer.clear()
    return data


# The upgrade.


@pytest.mark.parametrize("path", ["/", "/ticks", "/a/b?x=1&x=2", "/stats", "/config", "/%00"])
def test_any_path_upgrades_with_the_golden_101(run: Run, path: str) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(f"GET {path} HTTP/1.1\r\n{UPGRADE_FIELDS}".encode())
            assert await received(client, len(SWITCHED)) == SWITCHED

    run(story())


def test_frames_sent_with_the_request_are_answered_behind_the_101(run: Run) -> None:
    """H07."""

    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(UPGRADE + client_frame(PING, b"early") + client_frame(PING, b"2"))
            expected = SWITCHED + b"\x8a\x05early\x8a\x012"
            assert await received(client, len(expected)) == expected

    run(story())


def test_ticks_leave_behind_the_101(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=100_000) as site, await site.websocket() as first:
            await first.tick()  # the feed runs
            for _ in range(20):
                async with await site.websocket() as client:
                    await client.tick()

    run(story())


def test_a_request_in_single_bytes_is_served(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for i in range(len(UPGRADE)):
                await client.send(UPGRADE[i : i + 1])
                await asyncio.sleep(0)  # the server reads between them
            assert await client.head() == SWITCHED
            for byte in client_frame(PING, b"slow"):
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert await client.frame() == (PONG, b"slow")

    run(story())


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        ("Sec-WebSocket-Key", "X-Key", 400),
        ("Host: 127.0.0.1\r\n", "", 400),
        ("\r\n\r\n", "\r\nContent-Length: 1\r\n\r\n", 400),
    ],
)
def test_bad_upgrades_are_refused_and_closed(run: Run, old: str, new: str, status: int) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(b"GET / HTTP/1.1\r\n" + UPGRADE_FIELDS.replace(old, new).encode())
            answer = await client.response()
            assert (answer.status, answer.headers["connection"].split(",")[0]) == (status, "close")
            assert answer.headers["access-control-allow-origin"] == "*"
            assert await client.ended()

    run(story())


# Frames.


@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(125))])
def test_ping_is_answered_with_its_payload(run: Run, payload: bytes) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client:
            await client.send(client_frame(PING, payload))
            assert await client.frame() == (PONG, payload)

    run(story())


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (b"", b""),
        (close_payload(1000), close_payload(1000)),
        (close_payload(1001, "leaving"), close_payload(1001, "leaving")),
        (close_payload(3000), close_payload(3000)),
        (close_payload(4999, "é" * 61), close_payload(4999, "é" * 61)),
        (b"\x03", close_payload(1002)),
        (close_payload(999), close_payload(1002)),
        (close_payload(1005), close_payload(1002)),
        (close_payload(1006), close_payload(1002)),
        (close_payload(5000), close_payload(1002)),
        (close_payload(1000) + b"\xff", close_payload(1007)),
    ],
)
def test_close_is_answered_and_tcp_ends(run: Run, sent: bytes, answered: bytes) -> None:
    async def story() -> None:
        async with Site(rate=1000) as site, await site.websocket() as client:
            await client.tick()
            await client.send(client_frame(CLOSE, sent))
            assert await client.until(CLOSE) == answered
            assert await client.ended()
            client.sock.close()
            await site.stats_when(lambda stats: stats["server"]["connections"] == 0)

    run(story())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x81\x01x", 1002, id="unmasked"),
        pytest.param(b"\x88\x02\x03\xe8", 1002, id="unmasked close"),
        pytest.param(b"\xc1\x81\0\0\0\0x", 1002, id="RSV1"),
        pytest.param(b"\x83\x80\0\0\0\0", 1002, id="unknown opcode"),
        pytest.param(b"\x09\x80\0\0\0\0", 1002, id="fragmented ping"),
        pytest.param(client_frame(PING, bytes(126)), 1002, id="long ping"),
        pytest.param(client_frame(0, b"x"), 1002, id="continuation of nothing"),
        pytest.param(client_frame(TEXT, b"a", fin=False) + client_frame(TEXT), 1002, id="nested"),
        pytest.param(client_frame(TEXT, b"\xc3\x28"), 1007, id="bad UTF-8"),
        pytest.param(client_frame(TEXT, b"\xed\xa0\x80"), 1007, id="surrogate"),
        pytest.param(client_frame(TEXT, b"\xe2\x82"), 1007, id="cut UTF-8"),
        pytest.param(b"\x82\xff" + (1 << 62).to_bytes(8, "big") + bytes(4), 1009, id="huge"),
        pytest.param(b"\x82\xff" + (1048577).to_bytes(8, "big") + bytes(4), 1009, id="too big"),
    ],
)
def test_protocol_errors_end_with_their_code(run: Run, data: bytes, code: int) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client, await site.websocket() as good:
            await client.send(data)
            assert await client.frame() == (CLOSE, close_payload(code))
            assert await client.ended()
            await good.send(client_frame(PING))
            assert await good.frame() == (PONG, b"")

    run(story())


def test_message_of_the_largest_size_is_taken_and_counted(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client:
            await client.send(client_frame(BINARY, bytes(1 << 20)) + client_frame(PING))
            assert await client.frame() == (PONG, b"")
            assert (await site.stats())["server"]["ignoredMessages"] == 1

    run(story())


# HTTP.


def test_responses_are_golden(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            for request, answer in (
                (http_request("GET", "/config"), ok(CONFIG)),
                (http_request("HEAD", "/config"), ok(CONFIG)[: -len(CONFIG)]),
                (http_request("POST", "/config", {"format": "json"}), ok(CONFIG)),
                (http_request("DELETE", "/stats"), ok(b'{"cleared":true}')),
                (
                    http_request("OPTIONS", "*"),
                    b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n" + CORS + b"\r\n",
                ),
                (
                    http_request("GET", "/nowhere"),
                    b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    b"Content-Length: 9\r\nConnection: keep-alive\r\n" + CORS + b"\r\nNot found",
                ),
                (
                    http_request("POST", "/config", b"{"),
                    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
                    b"Content-Length: 12\r\nConnection: keep-alive\r\n"
                    + CORS
                    + b"\r\nInvalid JSON",
                ),
            ):
                await client.send(request)
                assert await received(client, len(answer)) == answer

    run(story())


def test_connection_close_is_obeyed(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(http_request("GET", "/config", fields=["Connection: close"]))
            expected = ok(CONFIG, b"close")
            assert await received(client, len(expected)) == expected
            assert await client.ended()

    run(story())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            rates = [http_request("POST", "/config", {"rate": rate}) for rate in range(1, 30)]
            await client.send(b"".join(rates) + UPGRADE + client_frame(PING, b"end"))
            for rate in range(1, 30):
                assert (await client.response()).json["rate"] == rate
            assert await client.head() == SWITCHED
            assert await client.until(PONG) == b"end"

    run(story())


def test_body_in_single_bytes_is_put_together(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = http_request("POST", "/config", {"rate": 77})
            for byte in request:
                await client.send(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.response()).json["rate"] == 77

    run(story())


def test_body_of_the_largest_size_is_read(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            body = b'{"rate":5}'.ljust(64 * 1024)
            await client.send(http_request("POST", "/config", body) * 2)
            assert [(await client.response()).json["rate"] for _ in range(2)] == [5, 5]

    run(story())


def test_expect_100_continue_is_answered_first(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            whole = http_request("POST", "/config", {"rate": 9}, ["Expect: 100-continue"])
            head, _, body = whole.partition(b"\r\n\r\n")
            await client.send(head + b"\r\n\r\n")
            assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(body)
            assert (await client.response()).json["rate"] == 9

    run(story())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(
            b"POST /config HTTP/1.1\r\nHost: h\r\nContent-Length: 65537\r\n\r\n", 413, id="body"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: %s\r\n" % bytes(4096).replace(b"\0", b"x") * 5,
            431,
            id="head",
        ),
        pytest.param(b"GET /" + b"x" * 17_000, 414, id="target"),
        pytest.param(b"\x16\x03\x01" + b"x" * 17_000, 400, id="TLS"),
        pytest.param(
            b"POST /config HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            411,
            id="chunked",
        ),
        pytest.param(b"NONSENSE\r\n\r\n", 400, id="nonsense"),
        pytest.param(b"GET / HTTP/1.1\nHost: h\n\n", 400, id="bare LF"),
        pytest.param(b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, id="version"),
    ],
)
def test_refusals_close_the_connection(run: Run, request_bytes: bytes, status: int) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(request_bytes)
            answer = await client.response()
            assert (answer.status, answer.headers["connection"]) == (status, "close")
            assert await client.ended()

    run(story())


def test_upgrade_after_requests_on_one_connection(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1000) as site, await site.dial() as client:
            for _ in range(3):
                await client.send(http_request("GET", "/config"))
                assert (await client.response()).status == 200
            await client.send(UPGRADE)
            assert await client.head() == SWITCHED
            await client.tick()

    run(story())


# Limits.


def test_connections_past_the_limit_get_503(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(max_connections=2) as site,
            await site.websocket() as first,
            await site.websocket(),
        ):
            for request in (UPGRADE, http_request("GET", "/config")):
                async with await site.dial() as third:
                    await third.send(request)
                    answer = await third.response()
                    assert (answer.status, answer.body) == (503, b"Too many connections")
                    assert await third.ended()
            first.sock.close()
            await site.sockets(1)
            async with await site.websocket() as fourth:
                await fourth.send(client_frame(PING))
                assert await fourth.frame() == (PONG, b"")

    run(story())


# An app of one's own.


class Faulty(App):
    """Raises where it is told to."""

    def http(self, request: Request, body: bytes, remote: str) -> bytes:
        if request.path == "/raise":
            raise ZeroDivisionError
        return response(200, body)

    def refuse(self, error: HandshakeError) -> bytes:
        return refusal(error)

    def opened(self, connection: Connection, request: Request) -> None:
        connection.state = request.query
        if request.path == "/raise":
            raise ZeroDivisionError

    def message(self, connection: Connection, message: str | bytes) -> None:
        if message == "raise":
            raise ZeroDivisionError
        connection.send(message)

    def closed(self, connection: Connection) -> None:
        return


async def serve_faulty() -> tuple[Server, tuple[str, int]]:
    server = Server(Faulty())
    (address,) = server.listen("127.0.0.1", 0)
    server.start()
    return server, address


def test_handler_that_raises_ends_its_connection_alone(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        server, address = await serve_faulty()
        clients = [Client(socket.create_connection(address)) for _ in range(4)]
        for client in clients:
            client.sock.setblocking(False)
        good, in_message, in_opened, in_http = clients
        for client in (good, in_message):
            await client.send(UPGRADE)
            assert await client.head() == SWITCHED
        await in_message.send(client_frame(TEXT, b"raise"))
        assert await in_message.frame() == (CLOSE, close_payload(1011))
        await in_opened.send(UPGRADE.replace(b"GET /", b"GET /raise"))
        assert await in_opened.head() == SWITCHED
        assert await in_opened.frame() == (CLOSE, close_payload(1011))
        await in_http.send(http_request("GET", "/raise"))
        assert (await in_http.response()).status == 500
        assert await in_http.ended()
        await good.send(client_frame(TEXT, b"echo"))
        assert await good.frame() == (TEXT, b"echo")
        server.close()
        server.close()
        for client in clients:
            client.sock.close()

    with caplog.at_level(logging.ERROR, "fastws"):
        run(story())
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    caplog.clear()


def test_bodies_reach_the_app_whole(run: Run) -> None:
    async def story() -> None:
        server, address = await serve_faulty()
        async with Client(socket.create_connection(address)) as client:
            client.sock.setblocking(False)
            body = bytes(range(256)) * 256
            await client.send(http_request("POST", "/echo", body))
            assert (await client.response()).body == body
        server.close()

    run(story())


# The end.


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> float:
    """A close time-out for tests, in seconds."""
    monkeypatch.setattr("fastws.server.CLOSE_TIMEOUT", 0.5)
    return 0.5


def test_stop_sends_1001_to_every_client(run: Run) -> None:
    async def story() -> None:
        files = open_files()
        site = Site(rate=20_000)
        async with site:
            reader, unread = await site.websocket(), await site.websocket()
            stalled = await site.websocket(receive_buffer=4096)
            idle, raw = await site.dial(), await site.dial()
            await idle.send(http_request("GET", "/config"))
            await idle.response()
            await raw.send(UPGRADE[:50])
            await site.stats_when(lambda stats: stats["server"]["pending"] > 500)
            await reader.frames(100)
            stopping = asyncio.ensure_future(site.feed.stop())
            for client in (reader, unread, stalled):
                assert await client.until(CLOSE) == close_payload(1001)
                await client.send(client_frame(CLOSE, close_payload(1001)))
                assert await client.ended()
                client.sock.close()
            async with asyncio.timeout(5):
                await stopping
            for client in (idle, raw):
                assert await client.ended()
                client.sock.close()
            assert site.feed.server.engine.live == 0
        assert open_files() == files

    run(story())


def test_stop_cuts_off_who_does_not_answer(run: Run, hurried: float) -> None:
    async def story() -> None:
        async with (
            Site(rate=20_000) as site,
            await site.websocket(),
            await site.websocket(receive_buffer=4096),
        ):
            await site.stats_when(lambda stats: stats["server"]["pending"] > 500)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await site.feed.stop()
            assert hurried <= loop.time() - began < hurried + 0.9  # a sweep comes every 0.25 s

    run(story())


def test_stop_without_clients_is_immediate(run: Run) -> None:
    async def story() -> None:
        async with Site() as site:
            async with asyncio.timeout(1):
                await site.feed.stop()
            with pytest.raises(ConnectionRefusedError):
                await site.dial()

    run(story())


def test_stop_ends_who_connected_and_said_nothing(run: Run, hurried: float) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as silent:
            await site.sockets(1)
            async with asyncio.timeout(hurried):
                await site.feed.stop()
            assert await silent.ended()

    run(story())


def test_handshakes_while_it_stops_get_503(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client, await site.dial() as late:
            await late.send(UPGRADE[:50])
            await site.sockets(2)
            stopping = asyncio.ensure_future(site.feed.stop())
            assert await client.until(CLOSE) == close_payload(1001)
            await late.send(UPGRADE[50:])
            assert (await late.response()).status == 503
            assert await late.ended()
            late.sock.close()
            await client.send(client_frame(CLOSE, close_payload(1001)))
            assert await client.ended()
            client.sock.close()
            await stopping

    run(story())


# Addresses.


def test_port_in_use_is_one_line(run: Run) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError) as caught:
                Site(port=port)
            assert str(caught.value) == f"port: {port} on 127.0.0.1 is in use"
            with pytest.raises(ConfigError) as caught:
                Site(http_port=port)
            assert str(caught.value) == f"http_port: {port} on 127.0.0.1 is in use"

    run(story())


@pytest.mark.parametrize("host", ["no.such.host.invalid", "127.0.0.1.5", "a..b", "x" * 64])
def test_bad_address_is_one_line(run: Run, host: str) -> None:
    async def story() -> None:
        server = Server(Faulty())
        with pytest.raises(ConfigError, match=r"^host: cannot listen on '") as caught:
            server.listen(host, 0)
        assert "\n" not in str(caught.value)
        server.close()

    run(story())


def test_ipv6_loopback_serves(run: Run) -> None:
    async def story() -> None:
        async with Site(host="::1") as site:
            sock = socket.create_connection(("::1", site.port))
            sock.setblocking(False)
            async with Client(sock) as client:
                await client.send(UPGRADE)
                assert await client.head() == SWITCHED
                await client.send(http_request("GET", "/stats")[:0] + client_frame(PING))
                assert await client.frame() == (PONG, b"")
                (row,) = site.feed.stats()["server"]["clients"]  # type: ignore[index]
                assert row["remote"] == f"[::1]:{sock.getsockname()[1]}"

    run(story())


def test_a_request_may_come_from_elsewhere_only_with_the_token(run: Run) -> None:
    async def story() -> None:
        async with Site(admin_token="s3cret") as site:
            change = http_request("POST", "/config", {"rate": 5})
            head, body = change.split(b"\r\n\r\n")
            request = parse_request(head + b"\r\n\r\n")
            assert site.feed.http(request, body, "192.0.2.1").startswith(b"HTTP/1.1 403 ")
            assert site.feed.http(request, body, "127.0.0.1").startswith(b"HTTP/1.1 200 ")
            reading = parse_request(http_request("GET", "/config"))
            assert site.feed.http(reading, b"", "192.0.2.1").startswith(b"HTTP/1.1 200 ")

    run(story())


def test_masking_helper_of_the_tests_is_sound() -> None:
    assert take_frames(bytearray(b"\x81\x02hi\x82\x00\x81")) == [(TEXT, b"hi"), (BINARY, b"")]
    assert client_frame(TEXT, b"\0\0\0\0\0")[-5:] == b"\x12\x34\x56\x78\x12"
