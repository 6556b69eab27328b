"""`stop` and `close` from every handler, at every moment: they work, or say what to call."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from handler_apps import ask, connected, eventually, others, serving, texts, websocket
from support import (
    CLOSE,
    SWITCHED,
    TEXT,
    Client,
    Site,
    client_frame,
    close_payload,
    http_request,
    open_files,
)

from fastws import App, Connection, HandshakeError, Request, Response, Server

Run = Callable[[Any], Any]
End = Callable[["Ending"], Any]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Nothing of this is an error."""
    with caplog.at_level(logging.WARNING):
        yield caplog
    said = [record.getMessage() for record in caplog.records]
    assert not [line for line in said if not line.startswith("limits met")]


class Ending(App):
    """Ends its server in the handler `where`, by `end`."""

    def __init__(self, where: str, end: End) -> None:
        self.where, self.end = where, end
        self.server: Server
        self.calls = 0
        self.went_on = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def hear(self, where: str) -> Any:
        if where != self.where or self.calls:
            return None
        self.calls += 1
        return self.end(self)

    def stop_in_a_task(self) -> None:
        self.tasks.append(asyncio.create_task(self.server.stop()))

    def admit(self, connection: Connection, request: Request) -> None:
        self.hear("admit")

    def opened(self, connection: Connection, request: Request) -> None:
        self.hear("opened")
        topic = self.server.topic("t", on_slow="close")
        topic.on_first_subscriber = lambda _: self.hear("topic")
        connection.subscribe(topic)

    def message(self, connection: Connection, message: str | bytes) -> None:
        self.hear("message")

    def closed(self, connection: Connection) -> None:
        self.hear("closed")

    def http(self, request: Request) -> Response:
        self.hear("http")
        return Response(200, b"bye")

    def refuse(self, error: HandshakeError) -> Response:
        self.hear("refuse")
        return super().refuse(error)


class AsyncEnding(Ending):
    """The same in handlers that are async; the one that ends it says whether it went on."""

    async def wait(self, where: str) -> None:
        result = self.hear(where)
        if isinstance(result, Awaitable):
            await result
            await asyncio.sleep(0.01)
            self.went_on.set()

    async def admit(self, connection: Connection, request: Request) -> None:  # type: ignore[override]
        await self.wait("admit")

    async def opened(self, connection: Connection, request: Request) -> None:  # type: ignore[override]
        await self.wait("opened")

    async def message(self, connection: Connection, message: str | bytes) -> None:  # type: ignore[override]
        await self.wait("message")

    async def closed(self, connection: Connection) -> None:  # type: ignore[override]
        await self.wait("closed")


async def provoke(address: Any, app: Ending) -> list[Client]:
    """Three clients, and whatever makes the handler run; all that were opened answer a Close."""
    clients = [await ask(address, "/") for _ in range(3)]
    if app.where == "message":
        for client in clients:  # else one may still be at its handshake when the server stops
            while b"\r\n\r\n" not in client.buffer:
                await client.more()
        await clients[0].send(texts(["x"]))
    elif app.where == "closed":
        await eventually(lambda: len(app.server.connections) == 3)
        clients.pop(0).sock.close()
    elif app.where == "http":
        clients.append(connected(address))
        await clients[-1].send(http_request("GET", "/"))
    elif app.where == "refuse":
        clients.append(connected(address))
        await clients[-1].send(b"nonsense\r\n\r\n")
    return clients


async def hear_the_end(client: Client) -> list[bytes]:
    """Read up to the end and answer a Close on the way; what came."""
    answered = False
    while True:
        try:
            await client.more()
        except (EOFError, ConnectionError):
            client.sock.close()
            return bytes(client.buffer).split(b"\r\n\r\n")
        if not answered and client.buffer.endswith(b"\x88\x02" + close_payload(1001)):
            answered = True
            with suppress(ConnectionError):
                await client.send(client_frame(CLOSE, close_payload(1001)))


async def ends(app: Ending, **options: float) -> list[list[bytes]]:
    """Serve it until it has ended itself: what each client got."""
    files = open_files()
    async with serving(app, **options) as (server, address):
        app.server = server
        clients = await provoke(address, app)
        async with asyncio.timeout(4):  # less than the close time-out
            got = [await hear_the_end(client) for client in clients]
            await eventually(lambda: server.ended)
            await asyncio.gather(*app.tasks)
            while others():
                await asyncio.wait(others())
        with pytest.raises(RuntimeError, match="closed"):
            server.counters()
        assert server.engine.live == 0
        await server.stop()
        server.close()
    assert app.calls == 1
    assert open_files() == files
    return got


SYNC = ["admit", "opened", "message", "closed", "http", "refuse", "topic"]
ASYNC = ["admit", "opened", "message", "closed"]


@pytest.mark.parametrize("where", SYNC)
def test_a_handler_stops_the_server_by_a_task(run: Run, where: str) -> None:
    async def story() -> None:
        got = await ends(Ending(where, Ending.stop_in_a_task))
        if where == "message":
            assert all(parts[-1] == b"\x88\x02" + close_payload(1001) for parts in got)
        if where == "http":
            assert got[-1][-1] == b"bye"

    run(story())


@pytest.mark.parametrize("where", SYNC)
def test_a_handler_closes_the_server(run: Run, where: str) -> None:
    async def story() -> None:
        got = await ends(Ending(where, lambda app: app.server.close()))
        if where == "http":
            assert got[-1][-1] == b"bye"  # the turn's answers leave

    run(story())


@pytest.mark.parametrize("where", ASYNC)
def test_an_async_handler_stops_the_server_and_goes_on(run: Run, where: str) -> None:
    async def story() -> None:
        app = AsyncEnding(where, lambda app: app.server.stop())
        await ends(app)
        assert app.went_on.is_set()

    run(story())


@pytest.mark.parametrize("where", ASYNC)
@pytest.mark.parametrize("way", ["task", "awaited task", "close"])
def test_an_async_handler_ends_the_server_otherwise(run: Run, where: str, way: str) -> None:
    ways: dict[str, End] = {
        "task": Ending.stop_in_a_task,
        "awaited task": lambda app: asyncio.create_task(app.server.stop()),
        "close": lambda app: app.server.close(),
    }

    async def story() -> None:
        await ends(AsyncEnding(where, ways[way]))

    if (where, way) != ("closed", "awaited task"):  # see the next one
        run(story())


def test_a_closed_that_waits_for_a_task_that_stops_the_server_is_cut_off(
    run: Run, quiet: pytest.LogCaptureFixture
) -> None:
    """Only who calls `stop` itself is known to wait for it."""

    async def story() -> None:
        app = AsyncEnding("closed", lambda app: asyncio.create_task(app.server.stop()))
        await ends(app, close_timeout=0.1)
        assert not app.went_on.is_set()

    run(story())
    (record,) = quiet.records
    assert "1 tasks of handlers did not end" in record.getMessage()
    quiet.clear()


def test_handlers_that_all_stop_the_server_all_go_on(run: Run) -> None:
    class Crowd(App):
        server: Server
        begun = returned = 0

        async def message(self, connection: Connection, message: str | bytes) -> None:
            self.begun += 1
            await eventually(lambda: self.begun == 5)
            await self.server.stop(1012)
            self.returned += 1

    async def story() -> None:
        app = Crowd()
        async with serving(app) as (app.server, address):
            clients = [await websocket(address) for _ in range(5)]
            for client in clients:
                await client.send(texts(["stop"]))
            for client in clients:
                assert await client.frame() == (CLOSE, close_payload(1012))
                await client.send(client_frame(CLOSE, close_payload(1012)))
                assert await client.ended()
                client.sock.close()
            await eventually(lambda: app.returned == 5)
            assert not others()

    run(story())


def test_stop_in_a_handler_cancels_the_others_and_waits_for_them(run: Run) -> None:
    class Workers(App):
        server: Server
        seen: list[str]

        async def message(self, connection: Connection, message: str | bytes) -> None:
            if message == "stop":
                await self.server.stop()
                self.seen.append("stopped")
                return
            try:
                self.seen.append("works")
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.05)
                self.seen.append("cleaned up")

    async def story() -> None:
        app = Workers()
        app.seen = []
        async with serving(app) as (app.server, address):
            worker, stopper = await websocket(address), await websocket(address)
            await worker.send(texts(["work"]))
            await eventually(lambda: app.seen == ["works"])
            await stopper.send(texts(["stop"]))
            for client in (worker, stopper):
                await hear_the_end(client)
            await eventually(lambda: "stopped" in app.seen)
            assert app.seen == ["works", "cleaned up", "stopped"]

    run(story())


def test_a_client_that_says_stop_and_goes_stops_the_server_all_the_same(run: Run) -> None:
    async def story() -> None:
        app = AsyncEnding("message", lambda app: app.server.stop())
        async with serving(app) as (app.server, address):
            other = await websocket(address)
            client = await websocket(address)
            await client.send(texts(["stop"]))
            client.sock.close()
            assert await other.frame() == (CLOSE, close_payload(1001))
            await hear_the_end(other)
            async with asyncio.timeout(4):
                await app.went_on.wait()
            assert app.server.ended

    run(story())


def test_a_stop_that_is_cancelled_goes_on(run: Run) -> None:
    async def story() -> None:
        async with serving(App()) as (server, address), await websocket(address) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await server.stop()
            assert not server.ended
            assert await client.frame() == (CLOSE, close_payload(1001))
            again = asyncio.create_task(server.stop())
            await client.send(client_frame(CLOSE, close_payload(1001)))
            assert await client.ended()
            await again
            assert server.ended

    run(story())


def test_close_cuts_a_stop_short(run: Run) -> None:
    async def story() -> None:
        async with serving(App()) as (server, address), await websocket(address) as client:
            stopping = asyncio.create_task(server.stop())
            assert await client.frame() == (CLOSE, close_payload(1001))
            server.close()
            async with asyncio.timeout(1):
                await stopping
            assert await client.ended()

    run(story())


def test_a_program_that_ends_while_it_stops_lets_go_of_all(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    files = open_files()
    servers: list[Server] = []
    clients: list[Client] = []

    async def story() -> None:
        servers.append(server := Server(App()))
        (address,) = server.listen("127.0.0.1", 0)
        server.start()
        clients.append(await websocket(address))
        task = asyncio.create_task(server.stop())
        assert await clients[0].frame() == (CLOSE, close_payload(1001))
        assert not task.done()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(story())
    assert servers[0].ended
    clients[0].sock.close()
    assert open_files() == files


@pytest.mark.parametrize("end", ["stop", "close"])
def test_behind_the_end_of_its_loop_a_server_lets_go_of_all(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], end: str
) -> None:
    class Mixed(App):
        ended = 0

        async def message(self, connection: Connection, message: str | bytes) -> None:
            await asyncio.Event().wait()

        def closed(self, connection: Connection) -> None:
            self.ended += 1

    files = open_files()
    app, kept = Mixed(), list[Client]()
    server = Server(app)

    async def story() -> None:
        (address,) = server.listen("127.0.0.1", 0)
        server.start()
        for _ in range(2):
            kept.append(await websocket(address))
        await kept[0].send(texts(["x"]))
        await eventually(others)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(story())
    if end == "stop":
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(server.stop())
    else:
        server.close()
    assert server.ended
    assert app.ended == 2
    for client in kept:
        client.sock.close()
    assert open_files() == files


def test_an_async_closed_that_no_loop_can_run_is_said(
    quiet: pytest.LogCaptureFixture, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    class Late(App):
        async def closed(self, connection: Connection) -> None:
            raise AssertionError("nobody awaits this")

    server, kept = Server(Late()), list[Client]()

    async def story() -> None:
        (address,) = server.listen("127.0.0.1", 0)
        server.start()
        for _ in range(2):
            kept.append(await websocket(address))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(story())
    server.close()
    for client in kept:
        client.sock.close()
    (record,) = quiet.records
    assert "`closed`, which is async, is not called" in record.getMessage()
    quiet.clear()


def test_a_feed_stops_twice_and_before_its_start(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1000) as site:
            await asyncio.gather(site.feed.stop(), site.feed.stop())
            await site.feed.stop()
            site.feed.close()
        site = Site()
        await site.feed.stop()
        await site.feed.stop()

    run(story())


# Eager tasks.


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
