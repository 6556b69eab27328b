"""Handlers that are coroutines: order, the bound, what ends."""

import asyncio
import logging
import resource
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from handler_apps import (
    Door,
    Gate,
    SyncDoor,
    TimedDoor,
    ask,
    eventually,
    others,
    serving,
    texts,
    timed,
    websocket,
)
from support import CLOSE, PING, PONG, SWITCHED, TEXT, client_frame, close_payload, open_files
from surroundings import INSTRUMENTED

from fastws import App, ConfigError, Connection, Limits, Request, Server

Run = Callable[[Any], Any]
NUMBERS = [str(i) for i in range(100)]


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Slow(App):
    """Answers each message at the loop's next turn, the longer ones later."""

    async def message(self, connection: Connection, message: str | bytes) -> None:
        for _ in range(int(message) % 7):
            await asyncio.sleep(0)
        connection.send_nowait(message)


class Timed(Slow):
    """The same, decorated, and it says what it hears of the others."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    message = timed(Slow.message)

    @timed
    async def opened(self, connection: Connection, request: Request) -> None:
        await asyncio.sleep(0)
        self.heard.append("opened")

    @timed
    async def closed(self, connection: Connection) -> None:
        await asyncio.sleep(0)
        self.heard.append("closed")


@pytest.mark.parametrize("app", [Slow, Timed])
def test_messages_of_a_connection_are_handled_one_after_the_other(run: Run, app: type[App]) -> None:
    async def story() -> None:
        async with serving(app()) as (_, address):
            clients = [await websocket(address) for _ in range(3)]
            for client in clients:
                await client.send(texts(NUMBERS))
            for client in clients:
                got = [(await client.frame())[1].decode() for _ in NUMBERS]
                assert got == NUMBERS
                client.sock.close()

    run(story())


def test_there_is_a_task_only_while_messages_come(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.server.workers.IDLE", 0.02)

    async def story() -> None:
        app = Gate()
        async with serving(app) as (_, address), await websocket(address) as client:
            assert not others()
            await client.send(texts(["a", "b"]))
            await app.until("begin a")
            assert len(others()) == 1
            app.open.set()
            await client.frames(2)
            await eventually(lambda: not others())
            await client.send(texts(["c"]))
            await client.frame()

    run(story())


def test_a_slow_handler_stops_the_reading_and_loses_nothing(run: Run) -> None:
    n, size = 10_000, 1024
    sent = [str(i).ljust(size, "x") for i in range(n)]
    stream = texts(sent)

    class Held(App):
        def __init__(self) -> None:
            self.gate = asyncio.Event()
            self.begun = self.raised = self.most = 0

        def opened(self, connection: Connection, request: Request) -> None:
            handle = connection.on_message
            assert handle is not None

            def count(connection: Connection, message: str | bytes) -> None:
                self.raised += 1
                handle(connection, message)
                self.most = max(self.most, self.raised - self.begun)

            connection.on_message = count

        async def message(self, connection: Connection, message: str | bytes) -> None:
            assert message == sent[self.begun]
            self.begun += 1
            await self.gate.wait()

    async def story() -> None:
        app = Held()
        async with serving(app) as (server, address), await websocket(address) as client:
            before = resident()
            sending = asyncio.ensure_future(client.send(stream))
            await eventually(lambda: server.engine.counters()["handler_queue_full"] and app.begun)
            assert app.begun == 1
            async with await websocket(address) as second:  # others are served meanwhile
                await second.send(client_frame(PING, b"there?"))
                assert await second.frame() == (PONG, b"there?")
            assert not sending.done()
            assert app.raised <= 17
            assert resident() - before < 2 << 20
            app.gate.set()
            await sending
            await eventually(lambda: app.begun == n)
            assert app.most <= 16 + 1  # those that wait, and the one whose task is about to begin
            assert INSTRUMENTED or resident() - before < 4 << 20

    run(story())


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_goes_cancels_the_handler_and_drops_the_rest(run: Run, leave: str) -> None:
    async def story() -> None:
        files = open_files()
        app = Gate()
        async with serving(app) as (server, address):
            client = await websocket(address)
            await client.send(texts(["a", "b", "c"]))
            await app.until("begin a")
            if leave == "reset":
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.sock.close()
            await app.until("closed")
            assert app.seen == ["begin a", "cancelled a", "closed"]
            assert server.engine.live == 0
            await asyncio.sleep(0)
            assert not others()
        assert open_files() == files

    run(story())


def test_stop_cancels_handlers_and_waits_for_their_ends(run: Run) -> None:
    async def story() -> None:
        app = Gate()
        async with serving(app) as (server, address), await websocket(address) as client:
            await client.send(texts(["a", "b"]))
            await app.until("begin a")
            stopping = asyncio.ensure_future(server.stop())
            assert await client.frame() == (CLOSE, close_payload(1001))
            await client.send(client_frame(CLOSE, close_payload(1001)))
            await stopping
            assert app.seen == ["begin a", "cancelled a", "closed"]
            assert not others()

    run(story())


def test_stop_does_not_wait_for_ever(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Stubborn(App):
        begun, released = False, asyncio.Event()

        async def message(self, connection: Connection, message: str | bytes) -> None:
            self.begun = True
            while not self.released.is_set():
                with suppress(asyncio.CancelledError):
                    await self.released.wait()

    async def story() -> None:
        app = Stubborn()
        app.released = asyncio.Event()
        async with (
            serving(app, close_timeout=0.3) as (server, address),
            await websocket(address) as client,
        ):
            await client.send(texts(["a"]))
            await eventually(lambda: app.begun)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await server.stop()  # the client does not answer the Close either
            assert loop.time() - began < 1.3 + 0.5
            app.released.set()
            await asyncio.wait(others())

    with caplog.at_level(logging.ERROR, "fastws"):
        run(story())
    assert "2 tasks of handlers did not end" in caplog.text
    caplog.clear()


def test_messages_wait_for_an_async_opened(run: Run) -> None:
    class Late(App):
        def __init__(self) -> None:
            self.gate = asyncio.Event()

        async def opened(self, connection: Connection, request: Request) -> None:
            await self.gate.wait()
            connection.send_nowait("opened")

        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.send_nowait(message)

    async def story() -> None:
        app = Late()
        async with serving(app, handler_queue=2) as (server, address):
            client = await websocket(address)
            await client.send(texts(NUMBERS))
            await eventually(lambda: server.engine.counters()["handler_queue_full"])
            app.gate.set()
            got = [(await client.frame())[1].decode() for _ in range(len(NUMBERS) + 1)]
            assert got == ["opened", *NUMBERS]
            client.sock.close()

    run(story())


def test_decorated_handlers_are_the_async_ones_that_they_are(run: Run) -> None:
    async def story() -> None:
        app = Timed()
        async with serving(app, handler_queue=2) as (server, address):
            async with await websocket(address) as client:
                await client.send(texts(NUMBERS))
                await client.frames(len(NUMBERS))
                assert server.engine.counters()["handler_queue_full"]
            await eventually(lambda: app.heard == ["opened", "closed"])

    run(story())


@pytest.mark.parametrize("limit", [0, 65_535])
def test_a_handler_queue_out_of_range_is_told(limit: int) -> None:
    with pytest.raises(ConfigError, match="handler_queue"):
        Server(App(), limits=Limits(handler_queue=limit))


# The decision on a handshake.


@pytest.mark.hostile("X03")
@pytest.mark.parametrize("door", [Door, SyncDoor, TimedDoor])
def test_a_decision_lets_in_or_refuses_or_fails(
    run: Run, caplog: pytest.LogCaptureFixture, door: type[Door]
) -> None:
    async def story() -> None:
        app = door()
        async with serving(app) as (server, address):
            async with await ask(address, "/yes", client_frame(TEXT, b"early")) as client:
                assert await client.head() == SWITCHED
                assert await client.frame() == (TEXT, b"early")
            for path, status in (("/no", 401), ("/raise", 500)):
                async with await ask(address, path, client_frame(TEXT, b"never")) as client:
                    answer = await client.response()
                    assert (answer.status, answer.headers["connection"]) == (status, "close")
                    assert ("www-authenticate" in answer.headers) == (status == 401)
                    assert await client.ended()
            await eventually(lambda: app.closed_ones == 1)
            await eventually(lambda: not server.engine.live)
            assert (app.opened_ones, app.closed_ones) == (1, 1)  # of those who were let in
            assert not others()

    with caplog.at_level(logging.ERROR, "fastws"):
        run(story())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    caplog.clear()


@pytest.mark.hostile("X03")
def test_a_decision_that_takes_too_long_is_503_and_cancelled(run: Run) -> None:
    async def story() -> None:
        files = open_files()
        app = Door()
        async with serving(app, handshake_timeout=0.4) as (server, address):
            loop = asyncio.get_running_loop()
            began = loop.time()
            async with await ask(address, "/slow") as client:
                answer = await client.response()
                assert (answer.status, answer.headers["connection"]) == (503, "close")
                assert 0.4 <= loop.time() - began < 3
                assert await client.ended()
            assert (app.begun, app.cancelled, app.opened_ones) == (1, 1, 0)
            assert server.engine.counters()["handshake_timeouts"] == 1
            await eventually(lambda: not server.engine.live)
            assert app.closed_ones == 0
            assert not others()
        assert open_files() == files

    run(story())


@pytest.mark.hostile("X03")
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_goes_cancels_the_decision(run: Run, leave: str) -> None:
    async def story() -> None:
        files = open_files()
        app = Door()
        async with serving(app) as (server, address):
            for n in range(1, 4):
                client = await ask(address, "/slow")
                await eventually(lambda n=n: app.begun == n)
                if leave == "reset":
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sock.close()
                await eventually(lambda n=n: app.cancelled == n)
            await eventually(lambda: server.engine.live == 0)
            assert server.engine.counters()["handshake_timeouts"] == 0
            assert app.closed_ones == 0
            assert not others()
        assert open_files() == files

    run(story())


@pytest.mark.hostile("X03")
def test_stop_answers_who_is_being_decided_on_and_cancels_the_decision(run: Run) -> None:
    async def story() -> None:
        app = Door()
        async with serving(app) as (server, address), await ask(address, "/slow") as client:
            await eventually(lambda: app.begun)
            stopping = asyncio.ensure_future(server.stop())
            assert (await client.response()).status == 503
            assert await client.ended()
            client.sock.close()
            await stopping
            assert (app.cancelled, app.closed_ones) == (1, 0)
            assert not others()

    run(story())
