"""Routes, `process_request`, limits of requests, and callbacks."""

import asyncio
import gc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from handler_apps import ask, connected, eventually, served
from support import CLOSE, SWITCHED, TEXT, Client, Response, client_frame, http_request
from websockets.asyncio.client import connect

from fastws import App, Connection, HandshakeError, Limits, Request
from fastws import Response as Answer

Run = Callable[[Any], Any]


def api() -> App:
    """An App with a route of each kind."""
    app = App()

    @app.get("/price/{symbol}")
    def price(request: Request, symbol: str) -> Answer:
        return Answer.json({"symbol": symbol, "n": request.query.get("n")})

    @app.get("/later/{symbol}/{n}")
    async def later(request: Request, symbol: str, n: str) -> Answer:
        await asyncio.sleep(0)
        return Answer(200, f"{symbol} {n}", {"X-Kind": "later"})

    @app.post("/orders")
    async def order(request: Request) -> Answer:
        return Answer(201, request.body, content_type="application/octet-stream")

    @app.put("/orders")
    def put(request: Request) -> Answer:
        return Answer(200, b"put " + request.body)

    @app.delete("/orders/{n}")
    def delete(request: Request, n: str) -> Answer:
        return Answer(204)

    @app.route("/any", "PATCH", "OPTIONS")
    def patch(request: Request) -> Answer:
        return Answer(200, request.method)

    @app.get("/literal/first")
    def literal(request: Request) -> Answer:
        return Answer(200, "literal")

    @app.get("/literal/{name}")
    def pattern(request: Request, name: str) -> Answer:
        return Answer(200, f"pattern {name}")

    @app.get("/refuse")
    async def refuse(request: Request) -> Answer:
        raise HandshakeError(403, "Not you", (("X-Why", "because"),))

    @app.get("/raise")
    def fail(request: Request) -> Answer:
        raise ZeroDivisionError

    @app.get("/wrong")
    def wrong(request: Request) -> Any:
        return {"a": 1}

    @app.get("/wrong/later")
    async def wrong_later(request: Request) -> Any:
        return "text"

    @app.get("/teapot/{status}")
    def teapot(request: Request, status: str) -> Answer:
        return Answer(int(status), "x")

    @app.websocket("/prices/{symbol}")
    async def prices(ws: Connection, symbol: str) -> None:
        await ws.send(f"{symbol} {ws.request.path} {ws.request.query_all('a')}")

    return app


async def http(address: Any, method: str, path: str, body: object = None, *f: str) -> Response:
    async with connected(address) as client:
        await client.send(http_request(method, path, body, f))
        return await client.response(head_only=method == "HEAD")


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "answer"),
    [
        ("GET", "/price/BTC?n=1&n=2", None, 200, b'{"symbol":"BTC","n":"1"}'),
        ("GET", "/price/BTC/", None, 200, b'{"symbol":"BTC","n":null}'),
        ("GET", "/price/a%20b", None, 200, b'{"symbol":"a b","n":null}'),
        ("GET", "/price/a/b", None, 404, b"Not found"),
        ("GET", "/price/", None, 404, b"Not found"),
        ("HEAD", "/price/BTC", None, 200, b""),
        ("GET", "/later/BTC/7", None, 200, b"BTC 7"),
        ("POST", "/orders", b"\x00" * 5000, 201, b"\x00" * 5000),
        ("POST", "/orders", None, 201, b""),
        ("PUT", "/orders", b"it", 200, b"put it"),
        ("DELETE", "/orders/3", None, 204, b""),
        ("PATCH", "/any", None, 200, b"PATCH"),
        ("OPTIONS", "/any/", None, 200, b"OPTIONS"),
        ("GET", "/literal/first", None, 200, b"literal"),
        ("GET", "/literal/second", None, 200, b"pattern second"),
        ("GET", "/nowhere", None, 404, b"Not found"),
        ("GET", "/refuse", None, 403, b"Not you"),
        ("GET", "/raise", None, 500, b"Internal server error"),
        ("GET", "/wrong", None, 500, b"Internal server error"),
        ("GET", "/wrong/later", None, 500, b"Internal server error"),
        ("GET", "/teapot/418", None, 418, b"x"),
        ("GET", "/teapot/299", None, 299, b"x"),
        ("GET", "/teapot/599", None, 599, b"x"),
        ("GET", "/teapot/204", None, 500, b"Internal server error"),
        ("GET", "/teapot/101", None, 500, b"Internal server error"),
        ("GET", "/teapot/600", None, 500, b"Internal server error"),
        ("GET", "/prices/BTC", None, 426, b"a WebSocket upgrade is required"),
    ],
)
def test_a_request_gets_the_answer_of_its_route(
    run: Run, method: str, path: str, body: object, status: int, answer: bytes
) -> None:
    async def case() -> None:
        async with served(api()) as (_, address):
            got = await http(address, method, path, body)
            assert (got.status, got.body) == (status, answer)

    run(case())


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/price/BTC", {"GET", "HEAD"}),
        ("GET", "/orders", {"POST", "PUT"}),
        ("HEAD", "/orders", {"POST", "PUT"}),
        ("POST", "/orders/3", {"DELETE"}),
        ("GET", "/any", {"PATCH", "OPTIONS"}),
    ],
)
def test_another_method_is_405_and_told_which_there_are(
    run: Run, method: str, path: str, allow: set[str]
) -> None:
    async def case() -> None:
        async with served(api()) as (_, address):
            got = await http(address, method, path)
            assert (got.status, set(got.headers["allow"].split(", "))) == (405, allow)

    run(case())


def test_a_websocket_route_gets_its_parameters_and_other_paths_are_404(run: Run) -> None:
    async def case() -> None:
        async with served(api()) as (_, (host, port)):
            uri = f"ws://{host}:{port}"
            async with connect(f"{uri}/prices/BTC?a=1&b=2&a=3") as client:
                assert await client.recv() == "BTC /prices/BTC ['1', '3']"
            for path in ("/", "/prices", "/price/BTC", "/healthz"):
                with pytest.raises(Exception, match="HTTP 404"):
                    await connect(uri + path)

    run(case())


def test_requests_on_one_connection_are_answered_one_after_the_other(run: Run) -> None:
    async def case() -> None:
        async with served(api()) as (_, address), connected(address) as client:
            requests = [("GET", f"/later/x/{i}") for i in range(5)]
            await client.send(b"".join(http_request(*each) for each in requests))
            for i in range(5):
                assert (await client.response()).body == b"x %d" % i
            await client.send(http_request("HEAD", "/later/x/y") + http_request("GET", "/any"))
            assert (await client.response(head_only=True)).headers["content-length"] == "3"
            assert (await client.response()).status == 405
            assert await client.ended()

    run(case())


def partials() -> int:
    gc.collect()
    return sum(type(each) is partial for each in gc.get_objects())


def test_requests_of_routes_with_parameters_leave_nothing_behind(run: Run) -> None:
    async def case() -> None:
        before = partials()
        async with served(api()) as (_, address), connected(address) as client:
            for path in ("/price/x", "/later/x/y"):
                for _ in range(200):
                    await client.send(http_request("GET", path))
                    assert (await client.response()).status == 200
            assert partials() - before < 100

    run(case())


def test_a_route_that_cannot_be_is_refused() -> None:
    app = api()
    for path in (
        "price",
        "/{}",
        "/{a}/{a}",
        "/{a-b}",
        "/{a",
        "/price/{symbol}",
        "/price/{symbol}/",
    ):
        with pytest.raises(ValueError, match=r"path|name|already"):
            app.get(path)(lambda request: Answer())
    with pytest.raises(TypeError, match="async def"):
        app.websocket("/x")(lambda ws: None)  # type: ignore[arg-type, return-value]


# process_request, /healthz


@pytest.mark.parametrize("later", [False, True])
def test_process_request_answers_or_lets_through(run: Run, later: bool) -> None:
    def decide(request: Request) -> Answer | None:
        if request.path == "/raise":
            raise ZeroDivisionError
        if request.path == "/refuse":
            raise HandshakeError(401, "Who?", (("WWW-Authenticate", "Basic"),))
        if request.path == "/wrong":
            return "text"  # type: ignore[return-value]
        if request.headers.get("x-token") == "secret" or request.path == "/":
            return None
        return Answer(403, f"Not from {request.remote_address[0]}")

    async def decide_later(request: Request) -> Answer | None:
        await asyncio.sleep(0)
        return decide(request)

    async def case() -> None:
        chosen = decide_later if later else decide
        async with served(api(), process_request=chosen) as (_, address):
            for path, status in (
                ("/price/BTC", 403),
                ("/raise", 500),
                ("/refuse", 401),
                ("/wrong", 500),
                ("/healthz", 200),
            ):
                async with connected(address) as client:
                    await client.send(http_request("GET", path))
                    assert (await client.response()).status == status
                    if status != 200:
                        assert await client.ended()
            got = await http(address, "GET", "/price/BTC", None, "X-Token: secret")
            assert got.status == 200
            async with await ask(address, "/prices/x") as client:
                assert (await client.response()).body == b"Not from 127.0.0.1"

    run(case())


@pytest.mark.parametrize("health", [True, False])
def test_healthz_is_there_unless_it_is_turned_off(run: Run, health: bool) -> None:
    async def case() -> None:
        async with served(api(), health=health) as (_, address):
            got = await http(address, "GET", "/healthz")
            assert (got.status, got.body) == ((200, b"ok\n") if health else (404, b"Not found"))
            head = await http(address, "HEAD", "/healthz")
            assert head.status == got.status
            assert (await http(address, "POST", "/healthz")).status == 404

    run(case())


# Limits.


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (http_request("POST", "/orders", b"x" * 101), 413),
        (http_request("GET", "/" + "x" * 300), 414),
        (http_request("GET", "/", None, ["X-A: " + "x" * 300]), 431),
        (http_request("GET", "/", None, [f"X-{i}: 1" for i in range(9)]), 431),
        (http_request("GET", "/", None, [f"X-{i}: {'x' * 250}" for i in range(5)]), 431),
    ],
)
def test_a_request_past_a_limit_is_refused_with_its_status(
    run: Run, request_bytes: bytes, status: int
) -> None:
    async def case() -> None:
        limits = Limits(max_body_size=100, max_head_size=1024, max_head_line=256, max_head_fields=8)
        async with served(api(), limits=limits) as (server, address):
            async with connected(address) as client:
                await client.send(request_bytes)
                assert (await client.response()).status == status
            got = await http(address, "POST", "/orders", b"x" * 100)
            assert (got.status, len(got.body)) == (201, 100)
            assert server.counters()[f"http_{status}"] == 1

    run(case())


# Callbacks.


@pytest.mark.parametrize("later", [False, True])
def test_closed_is_called_for_what_was_opened_only(run: Run, later: bool) -> None:
    seen: list[str] = []

    class Callbacks(App):
        def admit(self, connection: Connection, request: Request) -> None:
            if request.path == "/no":
                raise HandshakeError(403, "No")

        def opened(self, connection: Connection, request: Request) -> None:
            connection.context = request.path
            seen.append(f"opened {request.path}")
            with pytest.raises(AttributeError, match="not kept"):
                _ = connection.request

        def closed(self, connection: Connection) -> None:
            seen.append(f"closed {connection.context} {connection.close_code}")

    class Later(Callbacks):
        async def closed(self, connection: Connection) -> None:  # type: ignore[override]
            super().closed(connection)

    async def case() -> None:
        async with served(Later() if later else Callbacks()) as (server, address):
            clients: list[Client] = [await ask(address, path) for path in ("/no", "/yes")]
            assert (await clients[0].response()).status == 403
            assert await clients[1].head() == SWITCHED
            await http(address, "GET", "/nothing")
            for client in clients:
                await client.send(client_frame(CLOSE))
                client.sock.close()
            await eventually(lambda: len(seen) == 2 and not server.engine.live)
        assert seen == ["opened /yes", "closed /yes 1005"]

    run(case())


def test_routes_come_before_the_methods_of_the_app(run: Run) -> None:
    class Both(App):
        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.send_nowait("method")

        def http(self, request: Request) -> Answer:
            return Answer(200, "method")

    async def case() -> None:
        app = Both()

        @app.websocket("/route")
        async def route(ws: Connection) -> None:
            await ws.send("route")

        async with served(app) as (_, address):
            for path, expected in (("/", b"method"), ("/route", b"route")):
                async with await ask(address, path) as client:
                    assert await client.head() == SWITCHED
                    await client.send(client_frame(TEXT, b"x"))
                    assert await client.until(TEXT) == expected
            assert (await http(address, "GET", "/any")).body == b"method"

    run(case())
