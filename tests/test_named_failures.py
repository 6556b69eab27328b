"""What the log and the peer are told of a failure: which handler, for whom; which limit."""

import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from handler_apps import ask, connected, serving, texts
from support import (
    CLOSE,
    FAILED,
    SWITCHED,
    TEXT,
    UPGRADE,
    client_frame,
    close_payload,
    http_request,
)

from fastws import App, Connection, HandshakeError, Request, Response, Server

Run = Callable[[Any], Any]


class Broken(App):
    """Fails where it is told to, in a plain callback."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, here: str) -> None:
        if here == self.where:
            raise ZeroDivisionError("a secret")

    def http(self, request: Request) -> Response:
        self.fail("http")
        raise HandshakeError(404, "Not here")

    def refuse(self, error: HandshakeError) -> Response:
        self.fail("refuse")
        return super().refuse(error)

    def admit(self, connection: Connection, request: Request) -> None:
        self.fail("admit")

    def opened(self, connection: Connection, request: Request) -> None:
        self.fail("opened")

    def message(self, connection: Connection, message: str | bytes) -> None:
        self.fail("message")
        connection.close(1000)

    def closed(self, connection: Connection) -> None:
        self.fail("closed")


class BrokenLater(Broken):
    """The same in coroutines."""

    async def http(self, request: Request) -> Response:  # type: ignore[override]
        return super().http(request)

    async def admit(self, connection: Connection, request: Request) -> None:  # type: ignore[override]
        super().admit(connection, request)

    async def opened(self, connection: Connection, request: Request) -> None:  # type: ignore[override]
        super().opened(connection, request)

    async def message(self, connection: Connection, message: str | bytes) -> None:  # type: ignore[override]
        super().message(connection, message)

    async def closed(self, connection: Connection) -> None:  # type: ignore[override]
        super().closed(connection)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, from errors up."""
    with caplog.at_level(logging.ERROR, "fastws"):
        yield caplog
    caplog.clear()


def told(logged: pytest.LogCaptureFixture) -> str:
    """The one line of the log, without the client's port."""
    (record,) = logged.records
    assert record.exc_info
    return re.sub(r"127\.0\.0\.1:\d{4,5}$", "CLIENT", record.getMessage())


@pytest.mark.parametrize("app", [Broken, BrokenLater])
@pytest.mark.parametrize("where", ["admit", "opened", "message", "closed"])
def test_a_callback_that_fails_is_named_with_the_websocket(
    run: Run, logged: pytest.LogCaptureFixture, app: type[Broken], where: str
) -> None:
    async def story() -> None:
        async with serving(app(where)) as (server, address):
            client = await ask(address, "/chat/%0a?token=secret", texts(["hello"]))
            if where == "admit":
                answer = await client.response()
                assert (answer.status, answer.body) == (500, b"Internal server error")
            else:
                assert await client.head() == SWITCHED
                opcode, payload = await client.frame()
                ended_well = where == "closed"
                assert (opcode, payload) == (CLOSE, close_payload(1000) if ended_well else FAILED)
                await client.send(client_frame(CLOSE, close_payload(1000)))
                assert await client.ended()
            client.sock.close()
            await server.stop()

    run(story())
    name = f"{app.__name__ if app is BrokenLater and where != 'refuse' else 'Broken'}.{where}"
    place = r"GET /chat/\n" if where == "admit" else r"the WebSocket /chat/\n"
    assert told(logged) == f"a handler raised: {name}, for {place} of CLIENT"


@pytest.mark.parametrize("app", [Broken, BrokenLater])
def test_an_http_handler_that_fails_is_named_with_method_and_path(
    run: Run, logged: pytest.LogCaptureFixture, app: type[Broken]
) -> None:
    async def story() -> None:
        async with serving(app("http")) as (_, address), connected(address) as client:
            await client.send(http_request("POST", "/orders/7?token=secret", {"n": 1}))
            answer = await client.response()
            assert (answer.status, answer.body) == (500, b"Internal server error")

    run(story())
    name = f"{app.__name__}.http"
    assert told(logged) == f"a handler raised: {name}, for POST /orders/7 of CLIENT"


def test_refuse_that_fails_is_named_and_not_the_handler_that_refused(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with serving(Broken("refuse")) as (_, address), connected(address) as client:
            await client.send(http_request("GET", "/"))
            assert await client.ended()

    run(story())
    assert told(logged) == "a handler raised: Broken.refuse, for CLIENT"


@pytest.mark.parametrize("later", [False, True])
def test_routes_coroutine_handlers_and_process_request_are_named(
    run: Run, logged: pytest.LogCaptureFixture, later: bool
) -> None:
    app = App()

    @app.websocket("/rooms/{room}")
    async def talk(ws: Connection, room: str) -> None:
        raise ZeroDivisionError

    @app.get("/price/{symbol}")
    def price(request: Request, symbol: str) -> Response:
        raise ZeroDivisionError

    def check(request: Request) -> None:
        if request.path == "/checked":
            raise ZeroDivisionError

    async def check_later(request: Request) -> None:
        check(request)

    async def story() -> None:
        server = Server(app, process_request=check_later if later else check)
        (address,) = server.listen("127.0.0.1", 0)
        async with server:
            async with connected(address) as client:
                await client.send(UPGRADE.replace(b"GET /", b"GET /rooms/a"))
                assert await client.head() == SWITCHED
                assert await client.frame() == (CLOSE, FAILED)
            for path in ("/price/BTC", "/checked"):
                async with connected(address) as client:
                    await client.send(http_request("GET", path))
                    assert (await client.response()).status == 500

    run(story())
    told = [re.sub(r" of .*", "", each.getMessage()) for each in logged.records]
    here = "test_routes_coroutine_handlers_and_process_request_are_named.<locals>"
    assert told == [
        f"a handler raised: {here}.talk, for the WebSocket /rooms/a",
        f"a handler raised: {here}.price, for GET /price/BTC",
        f"a handler raised: {here}.{'check_later' if later else 'check'}, for GET /checked",
    ]


def choose_badly(request: Request, asked: list[str]) -> Any:
    """A `select_subprotocol` that fails, or answers with what is no name."""
    answers = {"/text": "not a token", "/empty": "", "/number": 7, "/euro": "\u20ac"}
    if request.path == "/raise":
        raise ZeroDivisionError
    return answers[request.path]


@pytest.mark.parametrize("asks", [None, "at once", "later"])
@pytest.mark.parametrize("path", ["/raise", "/text", "/empty", "/number", "/euro"])
def test_what_chooses_a_subprotocol_badly_is_named(
    run: Run, logged: pytest.LogCaptureFixture, path: str, asks: str | None
) -> None:
    async def later(request: Request) -> None:
        pass

    process_request = {"at once": lambda _: None, "later": later, None: None}[asks]
    server = Server(App(), select_subprotocol=choose_badly, process_request=process_request)
    assert run(status_of(server, path)) == 500
    assert told(logged) == f"a handler raised: choose_badly, for GET {path} of CLIENT"


async def status_of(server: Server, path: str) -> int:
    """The status that a handshake is answered with."""
    (address,) = server.listen("127.0.0.1", 0)
    async with server, connected(address) as client:
        await client.send(UPGRADE.replace(b"GET /", b"GET " + path.encode()))
        return (await client.response()).status


@pytest.mark.parametrize(
    "headers", [{"Connection": "close"}, {"Upgrade": "h2c"}, {"X-A": "b\nc"}, {"X A": "b"}]
)
@pytest.mark.parametrize("is_later", [False, True])
def test_process_request_that_makes_a_bad_101_is_named(
    run: Run, logged: pytest.LogCaptureFixture, headers: dict[str, str], is_later: bool
) -> None:
    def check(request: Request) -> Response:
        return Response(101, headers=headers)

    async def check_later(request: Request) -> Response:
        return check(request)

    server = Server(App(), process_request=check_later if is_later else check)
    assert run(status_of(server, "/in")) == 500
    name = (check_later if is_later else check).__qualname__
    assert told(logged) == f"a handler raised: {name}, for GET /in of CLIENT"


def test_refuse_that_returns_no_response_is_named(
    run: Run, logged: pytest.LogCaptureFixture
) -> None:
    class Silent(App):
        def refuse(self, error: HandshakeError) -> Response:
            return None  # type: ignore[return-value]

    async def story() -> None:
        async with serving(Silent()) as (_, address), connected(address) as client:
            await client.send(b"nonsense\r\n\r\n")
            assert await client.ended()

    run(story())
    assert told(logged) == f"a handler raised: {Silent.refuse.__qualname__}, for CLIENT"


def test_what_is_too_large_names_the_limit(run: Run) -> None:
    async def story() -> None:
        async with serving(App(), max_message_size=1000, max_fragments=3) as (_, address):
            for data, reason in (
                (client_frame(TEXT, bytes(1001)), "over max_message_size: 1000 bytes"),
                (3 * client_frame(TEXT, fin=False), ""),
                (
                    client_frame(TEXT, fin=False) + 3 * client_frame(0, fin=False),
                    "over max_fragments: 3",
                ),
            ):
                client = await ask(address, "/", data)
                assert await client.head() == SWITCHED
                code = 1009 if reason else 1002
                assert await client.frame() == (CLOSE, close_payload(code, reason))
                client.sock.close()

    run(story())


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"nonsense\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (404, b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n"),
        (405, b"POST /only-get HTTP/1.1\r\nHost: h\r\n\r\n"),
        (411, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"),
        (413, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999\r\n\r\n"),
        (414, b"GET /" + 9000 * b"a" + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        (426, UPGRADE.replace(b"Version: 13", b"Version: 12")),
        (431, b"GET / HTTP/1.1\r\nHost: h\r\n" + 100 * b"a: b\r\n" + b"\r\n"),
        (505, b"GET / HTTP/3.0\r\nHost: h\r\n\r\n"),
    ],
)
def test_a_refusal_says_why_in_one_line(run: Run, status: int, data: bytes) -> None:
    app = App()

    @app.get("/only-get")
    def only(request: Request) -> Response:
        return Response(200)

    async def story() -> None:
        async with serving(app) as (_, address), connected(address) as client:
            await client.send(data)
            answer = await client.response()
            assert answer.status == status
            assert 5 < len(answer.body.decode().strip()) < 100
            assert len(answer.body.splitlines()) == 1

    run(story())
