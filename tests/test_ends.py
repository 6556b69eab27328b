"""`stop` and `close` from every handler, at every moment: they work, or say what to call."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from ending_apps import ASYNC, SYNC, AsyncEnding, End, Ending, ends, hear_the_end
from handler_apps import eventually, others, serving, texts, websocket
from support import (
    CLOSE,
    Client,
    Site,
    client_frame,
    close_payload,
    open_files,
)

from fastws import App, Connection, Server

Run = Callable[[Any], Any]

pytestmark = pytest.mark.usefixtures("quiet")


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
            await other.send(client_frame(CLOSE, close_payload(1001)))
            assert await other.ended()
            other.sock.close()
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
