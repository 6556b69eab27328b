"""Headers and cookies on the 101, from `process_request` and `App.admit`."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
import websockets
from support import Client

import fastws
from fastws import App, Connection, Request, Response, Server

Run = Callable[[Any], Any]
COOKIES = [("Set-Cookie", "sid=1; HttpOnly"), ("Set-Cookie", "theme=dark"), ("X-Node", "a")]


async def echo(ws: Connection) -> None:
    async for message in ws:
        await ws.send(message)


def say_cookies(request: Request) -> Response | None:
    return Response(101, headers=COOKIES) if request.is_upgrade else None


async def say_cookies_later(request: Request) -> Response | None:
    return say_cookies(request)


def url_of(server: Server) -> str:
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("process_request", [say_cookies, say_cookies_later])
def test_process_request_adds_headers_to_the_101(run: Run, process_request: Any) -> None:
    async def story() -> None:
        async with (
            fastws.serve(
                echo, process_request=process_request, subprotocols=["v1"], deflate=True
            ) as server,
            websockets.connect(url_of(server), subprotocols=["v1"]) as client,  # type: ignore[list-item]
        ):
            assert client.response is not None
            headers = client.response.headers
            assert headers.get_all("Set-Cookie") == ["sid=1; HttpOnly", "theme=dark"]
            assert headers["X-Node"] == "a"
            assert client.subprotocol == "v1"
            assert "permessage-deflate" in headers["Sec-WebSocket-Extensions"]
            await client.send("hello")
            assert await client.recv() == "hello"

    run(story())


@pytest.mark.parametrize("later", [False, True])
def test_admit_adds_headers_to_those_of_process_request_or_refuses(run: Run, later: bool) -> None:
    class Doorman(App):
        handler = staticmethod(echo)

        def admit(self, connection: Connection, request: Request) -> Response:
            if request.path == "/no":
                return Response(402, "pay first")
            return Response(101, headers={"Set-Cookie": "seat=7"})

    class LateDoorman(Doorman):
        async def admit(self, connection: Connection, request: Request) -> Response:  # type: ignore[override]
            return super().admit(connection, request)

    async def story() -> None:
        app = LateDoorman() if later else Doorman()
        async with fastws.serve(app, process_request=say_cookies) as server:
            async with websockets.connect(url_of(server)) as client:
                assert client.response is not None
                cookies = client.response.headers.get_all("Set-Cookie")
                assert cookies == ["sid=1; HttpOnly", "theme=dark", "seat=7"]
                await client.send("hello")
                assert await client.recv() == "hello"
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(url_of(server) + "/no")
            assert refused.value.response.status_code == 402
            assert refused.value.response.body == b"pay first"

    run(story())


@pytest.mark.parametrize(
    "response",
    [
        Response(101, headers=[("Sec-WebSocket-Accept", "x")]),
        Response(101, headers=[("Upgrade", "h2c")]),
        Response(101, headers=[("Connection", "close")]),
        Response(101, headers=[("X-A", "b\r\nX-C: d")]),
        Response(101, "a body"),
    ],
)
def test_headers_that_would_break_the_handshake_fail_it(
    run: Run, response: Response, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with fastws.serve(echo, process_request=lambda _: response) as server:
            with pytest.raises(websockets.InvalidStatus, match="500"):
                await websockets.connect(url_of(server))

    with caplog.at_level(logging.CRITICAL, "fastws"):
        run(story())


def test_a_101_for_a_request_that_is_no_upgrade_fails(run: Run) -> None:
    async def story() -> None:
        async with (
            fastws.serve(echo, process_request=lambda _: Response(101)) as server,
            Client(await dial(server)) as client,
        ):
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await client.response()).status == 500

    run(story())


async def dial(server: Server) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, server.sockets[0].getsockname())
    return sock
