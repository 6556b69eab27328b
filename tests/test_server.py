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
    FAILED,
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
)

from fastws import App, Connection, HandshakeError, Request, Response, Server
from fastws.http.response import refusal

Run = Callable[[Any], Any]

# The upgrade.


@pytest.mark.parametrize("path", ["/", "/ticks", "/a/b?x=1&x=2", "/stats", "/config", "/%00"])
def test_any_path_upgrades_with_the_golden_101(run: Run, path: str) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(f"GET {path} HTTP/1.1\r\n{UPGRADE_FIELDS}".encode())
            assert await client.exactly(len(SWITCHED)) == SWITCHED

    run(story())


def test_frames_sent_with_the_request_are_answered_behind_the_101(run: Run) -> None:
    """H07."""

    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(UPGRADE + client_frame(PING, b"early") + client_frame(PING, b"2"))
            expected = SWITCHED + b"\x8a\x05early\x8a\x012"
            assert await client.exactly(len(expected)) == expected

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
            reason = "over max_message_size: 16384 bytes" if code == 1009 else ""
            assert await client.frame() == (CLOSE, close_payload(code, reason))
            assert await client.ended()
            await good.send(client_frame(PING))
            assert await good.frame() == (PONG, b"")

    run(story())


def test_message_of_the_largest_size_is_taken_and_counted(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(max_message_size=1 << 20) as site,
            await site.websocket() as client,
        ):
            await client.send(client_frame(BINARY, bytes(1 << 20)) + client_frame(PING))
            assert await client.frame() == (PONG, b"")
            assert (await site.stats())["server"]["ignoredMessages"] == 1

    run(story())


def test_what_a_client_of_the_feed_says_has_16_kib_at_most(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client:
            await client.send(client_frame(TEXT, bytes(16384)) + client_frame(PING))
            assert await client.frame() == (PONG, b"")
            assert (await site.stats())["server"]["ignoredMessages"] == 1
            await client.send(client_frame(TEXT, bytes(16385)))
            reason = "over max_message_size: 16384 bytes"
            assert await client.frame() == (CLOSE, close_payload(1009, reason))

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


def test_connections_of_one_address_past_the_limit_get_429(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(max_per_address=2, exempt_addresses=()) as site,
            await site.websocket() as first,
        ):
            async with await site.websocket(), await site.dial() as third:
                await third.send(UPGRADE)
                answer = await third.response()
                assert answer.status == 429
                assert answer.body == b"Too many connections from this address"
                assert await third.ended()
            first.sock.close()
            await site.sockets(0)
            async with await site.websocket() as fourth:
                await fourth.send(client_frame(PING))
                assert await fourth.frame() == (PONG, b"")

    run(story())


# An app of one's own.


class Faulty(App):
    """Raises where it is told to."""

    def http(self, request: Request) -> Response:
        if request.path == "/raise":
            raise ZeroDivisionError
        if request.path == "/wrong":
            return "no bytes"  # type: ignore[return-value]
        return Response(200, request.body)

    def refuse(self, error: HandshakeError) -> Response:
        return refusal(error)

    def opened(self, connection: Connection, request: Request) -> None:
        connection.context = request.query
        if request.path == "/raise":
            raise ZeroDivisionError

    def message(self, connection: Connection, message: str | bytes) -> None:
        if message == "raise":
            raise ZeroDivisionError
        connection.send_nowait(5 if message == "wrong" else message)  # type: ignore[arg-type]

    def closed(self, connection: Connection) -> None:
        return


async def serve_faulty() -> tuple[Server, tuple[str, int]]:
    server = Server(Faulty())
    (address,) = server.listen("127.0.0.1", 0)
    server.start()
    return server, address


@pytest.mark.hostile("X27")
@pytest.mark.parametrize("fault", ["raise", "wrong"])
def test_handler_that_raises_or_gives_a_wrong_type_ends_its_connection_alone(
    run: Run, caplog: pytest.LogCaptureFixture, fault: str
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
        await in_message.send(client_frame(TEXT, fault.encode()))
        assert await in_message.frame() == (CLOSE, FAILED)
        await in_opened.send(UPGRADE.replace(b"GET /", b"GET /raise"))
        assert await in_opened.head() == SWITCHED
        assert await in_opened.frame() == (CLOSE, FAILED)
        await in_http.send(http_request("GET", f"/{fault}"))
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
