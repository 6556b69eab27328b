"""Task factories that begin a task at once: asyncio's own from Python 3.12 on, and one like it.

`create_task` may return a task that has ended already, and a handler may begin, and end, inside the
engine's turn.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from ending_apps import ASYNC, SYNC, AsyncEnding, Ending, ends
from handler_apps import ask, connected, eventually, met, others, served, serving, texts, websocket
from support import CLOSE, SWITCHED, TEXT, client_frame, close_payload, http_request

from fastws import App, Connection, HandshakeError, Request, Response, connect

Run = Callable[[Any], Any]

pytestmark = pytest.mark.usefixtures("quiet")


class Fed:
    """Goes on with a coroutine that was run up to its first wait."""

    def __init__(self, coroutine: Any, waits_for: Any) -> None:
        self.coroutine, self.waits_for = coroutine, waits_for

    def __await__(self) -> Any:
        while True:
            sent, failed = None, None
            try:
                sent = yield self.waits_for
            except BaseException as error:
                failed = error
            try:
                if failed is None:
                    self.waits_for = self.coroutine.send(sent)
                else:
                    self.waits_for = self.coroutine.throw(failed)
            except StopIteration as end:
                return end.value


def like_it(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """What asyncio.eager_task_factory does, in Python 3.11 and on uvloop as well."""

    async def rest(waits_for: Any) -> Any:
        return await Fed(coroutine, waits_for)

    async def done(value: Any) -> Any:
        return value

    options.pop("eager_start", None)
    try:
        first = coroutine.send(None)
    except StopIteration as end:
        return asyncio.Task(done(end.value), loop=loop, **options)
    return asyncio.Task(rest(first), loop=loop, **options)


THEIRS = getattr(asyncio, "eager_task_factory", None)  # from Python 3.12 on


@pytest.fixture(params=["like it", "asyncio's"] if THEIRS else ["like it"])
def factory(
    request: pytest.FixtureRequest, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> Any:
    """A factory of tasks that begin at once."""
    if request.param == "like it":
        return like_it
    new, takes = sys.version_info >= (3, 13), inspect.signature(THEIRS).parameters
    if loop_factory is uvloop.new_event_loop and new and "eager_start" not in takes:
        pytest.skip("uvloop hands it an eager_start, which this Python refuses")
    return THEIRS


@pytest.fixture
def run(run: Run, factory: Any) -> Run:
    """Runs a coroutine to its end; tasks that are made meanwhile begin at once."""

    def run_it(story: Any) -> Any:
        async def with_the_factory() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_task_factory(factory)
            try:
                return await story
            finally:
                loop.set_task_factory(None)

        return run(with_the_factory())

    return run_it


# Callbacks of an App.


@pytest.mark.parametrize("waits", [False, True])
def test_messages_are_handled_in_order_by_tasks_that_begin_at_once(run: Run, waits: bool) -> None:
    class Echo(App):
        inside = 0

        async def message(self, connection: Connection, message: str | bytes) -> None:
            self.inside += 1
            assert self.inside == 1
            if waits:
                await asyncio.sleep(0)
            connection.send_nowait(message)
            self.inside -= 1

    async def story() -> None:
        async with serving(Echo(), handler_queue=3) as (server, address):
            async with await websocket(address) as client:
                for part in range(3):
                    numbers = [str(100 * part + i) for i in range(100)]
                    await client.send(texts(numbers))
                    got = [await client.frame() for _ in numbers]
                    assert got == [(TEXT, number.encode()) for number in numbers]
            await eventually(lambda: server.engine.live == 0)
            await eventually(lambda: not others())

    run(story())


def test_the_queue_is_bounded_where_tasks_begin_at_once(run: Run) -> None:
    class Held(App):
        begun = 0

        def __init__(self) -> None:
            self.gate = asyncio.Event()

        async def message(self, connection: Connection, message: str | bytes) -> None:
            self.begun += 1
            await self.gate.wait()

    async def story() -> None:
        app = Held()
        async with (
            serving(app, handler_queue=4) as (server, address),
            await websocket(address) as client,
        ):
            await client.send(texts([str(i) for i in range(50)]))
            await eventually(lambda: server.engine.counters()["handler_queue_full"])
            await eventually(lambda: app.begun)
            assert app.begun == 1
            (worker,) = server._acceptor._workers._workers.values()
            assert len(worker.inbox) <= 4
            app.gate.set()
            await eventually(lambda: app.begun == 50)

    run(story())


@pytest.mark.parametrize("where", ASYNC)
def test_an_eager_handler_stops_the_server(run: Run, where: str) -> None:
    async def story() -> None:
        app = AsyncEnding(where, lambda app: app.server.stop())
        await ends(app)
        assert app.went_on.is_set()

    run(story())


@pytest.mark.parametrize("where", SYNC)
def test_a_task_that_begins_in_the_turn_stops_the_server(run: Run, where: str) -> None:
    async def story() -> None:
        await ends(Ending(where, Ending.stop_in_a_task))

    run(story())


@pytest.mark.parametrize("path", ["/yes", "/no"])
def test_an_eager_decision_lets_in_or_refuses(run: Run, path: str) -> None:
    class Door(App):
        async def admit(self, connection: Connection, request: Request) -> None:
            if request.path == "/no":
                raise HandshakeError(401, "Who are you?")

    async def story() -> None:
        async with serving(Door()) as (_, address), await ask(address, path) as client:
            if path == "/yes":
                assert await client.head() == SWITCHED
            else:
                assert (await client.response()).status == 401

    run(story())


# `serve`: coroutine handlers, routes, process_request.


async def echo(ws: Connection) -> None:
    """Echoes by tasks of its own, too."""
    async for message in ws:
        await asyncio.create_task(ws.send(message))


def test_a_handler_that_makes_tasks_gets_and_sends_in_order(run: Run) -> None:
    async def story() -> None:
        async with met(echo) as (_, client):
            for i in range(5):
                await client.send(texts([f"{i}"]))
                assert await client.until(TEXT) == b"%d" % i
            numbers = [str(i) for i in range(100)]
            await client.send(texts(numbers))
            assert [(await client.frame())[1].decode() for _ in numbers] == numbers
            await client.send(client_frame(CLOSE, close_payload(1000)))
            assert await client.until(CLOSE) == close_payload(1000)

    run(story())


@pytest.mark.parametrize(
    ("how", "code"), [("returns", 1000), ("closes", 4000), ("raises", 1011), ("stops", 1000)]
)
def test_a_handler_that_is_done_at_its_first_step_ends_its_connection(
    run: Run, how: str, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async def handler(ws: Connection) -> None:
            ws.send_nowait("hello")
            if how == "closes":
                ws.close(4000)
            elif how == "raises":
                raise ZeroDivisionError
            elif how == "stops":
                stopping.append(asyncio.create_task(server.stop()))

        stopping: list[asyncio.Task[None]] = []
        async with served(handler) as (server, address):
            async with await ask(address, "/") as client:
                assert await client.head() == SWITCHED
                assert await client.frame() == (TEXT, b"hello")
                assert (await client.until(CLOSE))[:2] == close_payload(code)[:2]
            await asyncio.gather(*stopping)
            await eventually(lambda: not server.engine.live)
        await eventually(lambda: not others())

    run(story())
    raised = [record for record in caplog.records if record.exc_info]
    assert len(raised) == (how == "raises")
    caplog.clear()


@pytest.mark.parametrize("waits", [False, True])
def test_requests_are_decided_on_and_answered_by_eager_tasks(run: Run, waits: bool) -> None:
    app = App()

    @app.get("/price/{symbol}")
    async def price(request: Request, symbol: str) -> Response:
        if waits:
            await asyncio.sleep(0)
        return Response(200, symbol)

    async def check(request: Request) -> Response | None:
        if waits:
            await asyncio.sleep(0)
        return Response(403, "no") if request.path == "/no" else None

    async def story() -> None:
        async with served(app, process_request=check) as (_, address):
            for path, status in (("/price/BTC", 200), ("/no", 403), ("/price/BTC", 200)):
                async with connected(address) as client:
                    await client.send(http_request("GET", path))
                    assert (await client.response()).status == status

    run(story())


# The client.


@pytest.mark.parametrize("waits", [False, True])
def test_a_client_and_its_server_speak_by_eager_tasks(run: Run, waits: bool) -> None:
    async def story() -> None:
        async with served(echo) as (_, (host, port)), connect(f"ws://{host}:{port}") as ws:
            for i in range(20):
                receiving = asyncio.create_task(ws.recv())
                if waits:
                    await asyncio.sleep(0)
                await asyncio.create_task(ws.send(f"{i}"))
                assert await receiving == f"{i}"
            cancelled = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            cancelled.cancel()
            await asyncio.wait([cancelled])
            assert cancelled.cancelled()
            pinging = asyncio.create_task(ws.ping())
            assert await pinging < 5
            await ws.send("last")
            assert await ws.recv() == "last"

    run(story())


def test_many_clients_dial_at_once(run: Run) -> None:
    async def story() -> None:
        async def once(i: int) -> str | bytes:
            async with connect(uri) as ws:
                await ws.send(f"{i}")
                return await ws.recv()

        async with served(echo) as (server, (host, port)):
            uri = f"ws://{host}:{port}"
            got = await asyncio.gather(*(asyncio.create_task(once(i)) for i in range(20)))
            assert got == [f"{i}" for i in range(20)]
            await eventually(lambda: not server.engine.live)

    run(story())


def test_a_client_connects_again(run: Run) -> None:
    async def story() -> None:
        async def once(ws: Connection) -> None:
            await ws.send("again")

        got: list[str | bytes] = []
        async with served(once) as (_, (host, port)):
            async for ws in connect(f"ws://{host}:{port}"):
                got += [message async for message in ws]
                if len(got) == 3:
                    break
        assert got == ["again"] * 3

    run(story())
