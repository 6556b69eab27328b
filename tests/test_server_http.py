"""HTTP on the port of the WebSockets: golden responses, bodies, what is refused."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest
from support import (
    PING,
    PONG,
    SWITCHED,
    UPGRADE,
    Site,
    client_frame,
    http_request,
)

Run = Callable[[Any], Any]
CORS = (
    b"Access-Control-Allow-Origin: *\r\n"
    b"Access-Control-Allow-Methods: GET, POST, DELETE, OPTIONS\r\n"
    b"Access-Control-Allow-Headers: Content-Type, Authorization\r\n"
)
CONFIG = b'{"rate":0,"rampEnabled":false,"rampPercent":10,"rampIntervalSec":5,"format":"json"}'


def ok(body: bytes, connection: bytes = b"keep-alive") -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"Connection: %s\r\n%s\r\n%s" % (len(body), connection, CORS, body)
    )


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
                assert await client.exactly(len(answer)) == answer

    run(story())


def test_a_refused_head_has_an_answer_without_content(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(b"HEAD / HTTP/1.1\r\n\r\n")
            answer = await client.response(head_only=True)
            assert (answer.status, answer.headers["connection"]) == (400, "close")
            assert await client.ended()

    run(story())


def test_connection_close_is_obeyed(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as client:
            await client.send(http_request("GET", "/config", fields=["Connection: close"]))
            expected = ok(CONFIG, b"close")
            assert await client.exactly(len(expected)) == expected
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
