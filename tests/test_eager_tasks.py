"""Task factories that begin a task at once, such as `asyncio.eager_task_factory`; both loops."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ending_apps import ASYNC, SYNC, AsyncEnding, Ending, ends
from handler_apps import ask, eventually, met, others, serving, texts, websocket
from support import (
    CLOSE,
    SWITCHED,
    TEXT,
    client_frame,
    close_payload,
)

from fastws import App, Connection, HandshakeError, Request

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


def eager(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
    """What asyncio.eager_task_factory does, in Python 3.11 as well: begins at once."""

    async def rest(waits_for: Any) -> Any:
        return await Fed(coroutine, waits_for)

    async def done(value: Any) -> Any:
        return value

    try:
        first = coroutine.send(None)
    except StopIteration as end:
        return asyncio.Task(done(end.value), loop=loop, **options)
    return asyncio.Task(rest(first), loop=loop, **options)


FACTORIES = [eager]
if hasattr(asyncio, "eager_task_factory"):
    FACTORIES.append(asyncio.eager_task_factory)


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("waits", [False, True])
def test_messages_are_handled_in_order_by_tasks_that_begin_at_once(
    run: Run, factory: Any, waits: bool
) -> None:
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
        asyncio.get_running_loop().set_task_factory(factory)
        async with serving(Echo(), handler_queue=3) as (server, address):
            async with await websocket(address) as client:
                for part in range(3):
                    numbers = [str(100 * part + i) for i in range(100)]
                    await client.send(texts(numbers))
                    got = [await client.frame() for _ in numbers]
                    assert got == [(TEXT, number.encode()) for number in numbers]
            await eventually(lambda: server.engine.live == 0)
            await eventually(lambda: not others())
        asyncio.get_running_loop().set_task_factory(None)

    run(story())


@pytest.mark.parametrize("factory", FACTORIES)
def test_the_queue_is_bounded_where_tasks_begin_at_once(run: Run, factory: Any) -> None:
    class Held(App):
        begun = 0

        def __init__(self) -> None:
            self.gate = asyncio.Event()

        async def message(self, connection: Connection, message: str | bytes) -> None:
            self.begun += 1
            await self.gate.wait()

    async def story() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
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
        asyncio.get_running_loop().set_task_factory(None)

    run(story())


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("where", ASYNC)
def test_an_eager_handler_stops_the_server(run: Run, factory: Any, where: str) -> None:
    async def story() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        app = AsyncEnding(where, lambda app: app.server.stop())
        await ends(app)
        assert app.went_on.is_set()
        asyncio.get_running_loop().set_task_factory(None)

    run(story())


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("where", SYNC)
def test_a_task_that_begins_in_the_turn_stops_the_server(
    run: Run, factory: Any, where: str
) -> None:
    async def story() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        await ends(Ending(where, Ending.stop_in_a_task))
        asyncio.get_running_loop().set_task_factory(None)

    run(story())


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("path", ["/yes", "/no"])
def test_an_eager_decision_lets_in_or_refuses(run: Run, factory: Any, path: str) -> None:
    class Door(App):
        async def admit(self, connection: Connection, request: Request) -> None:
            if request.path == "/no":
                raise HandshakeError(401, "Who are you?")

    async def story() -> None:
        asyncio.get_running_loop().set_task_factory(factory)
        async with serving(Door()) as (_, address), await ask(address, path) as client:
            if path == "/yes":
                assert await client.head() == SWITCHED
            else:
                assert (await client.response()).status == 401
        asyncio.get_running_loop().set_task_factory(None)

    run(story())


def test_eager_tasks_change_nothing(run: Run) -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("this Python has no eager tasks")

    async def case() -> None:
        asyncio.get_running_loop().set_task_factory(factory)

        async def handler(ws: Connection) -> None:
            if ws.request.path == "/":
                async for message in ws:
                    await asyncio.create_task(ws.send(message))

        async with met(handler) as (_, client):
            for i in range(5):
                await client.send(texts([f"{i}"]))
                assert await client.until(TEXT) == b"%d" % i
            await client.send(client_frame(CLOSE, close_payload(1000)))
            assert await client.until(CLOSE) == close_payload(1000)

    run(case())
