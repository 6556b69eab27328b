"""Handlers that keep their client's messages waiting: what the engine does meanwhile."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets
from handler_apps import eventually, serving, texts, websocket
from support import CLOSE, PATIENCE, PING, PONG, client_frame, close_payload

from fastws import App, Connection, Request

Run = Callable[[Any], Any]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """The log, from errors up."""
    with caplog.at_level(logging.ERROR, "fastws"):
        yield caplog
    caplog.clear()


def url_of(address: Any) -> str:
    return "ws://{}:{}".format(*address)


class Ticker(App):
    """What everybody writes first: `opened` never returns."""

    heard = 0

    async def opened(self, connection: Connection, request: Request) -> None:
        while connection.is_open:
            connection.send_nowait("tick")
            await asyncio.sleep(0.05)

    async def message(self, connection: Connection, message: str | bytes) -> None:
        self.heard += 1


def test_pings_and_a_close_are_answered_while_opened_never_returns_and_the_queue_is_full(
    run: Run,
) -> None:
    async def story() -> None:
        app = Ticker()
        async with serving(app) as (server, address):
            async with websockets.connect(
                url_of(address), ping_interval=None, max_queue=None
            ) as client:
                for i in range(40):
                    await client.send(str(i))
                for _ in range(2):
                    pong = await client.ping()
                    await asyncio.wait_for(pong, PATIENCE)
                assert server.counters()["handler_queue_full"] == 1
                assert await client.recv() == "tick"
                assert app.heard == 0  # behind the Close `opened` may return, and they are heard
            assert client.close_code == 1000
            await eventually(lambda: server.engine.live == 0)

    run(story())


def test_no_message_comes_behind_pause_reading(run: Run) -> None:
    class Pausing(App):
        heard = 0

        def message(self, connection: Connection, message: str | bytes) -> None:
            self.heard += 1
            if self.heard == 3:
                connection.pause_reading()
            if message == "last":
                connection.close(1000)

    async def story() -> None:
        app = Pausing()
        async with (
            serving(app) as (server, address),
            websockets.connect(url_of(address), ping_interval=None, max_queue=None) as client,
        ):
            for i in range(500):
                await client.send(str(i))
            await eventually(lambda: app.heard == 3)
            await asyncio.wait_for(await client.ping(), PATIENCE)  # behind all of them
            assert app.heard == 3
            (connection,) = server.connections
            connection.resume_reading()
            await client.send("last")
            await client.wait_closed()
            assert app.heard == 501

    run(story())


# What is said of it.


class Endless(App):
    """What many write first: a loop in `opened`, or in `message`."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.heard: list[str | bytes] = []

    async def opened(self, connection: Connection, request: Request) -> None:
        while self.where == "opened":
            connection.send_nowait("tick")
            await asyncio.sleep(0.01)

    async def message(self, connection: Connection, message: str | bytes) -> None:
        self.heard.append(message)
        if self.where == "message":
            await asyncio.Event().wait()


@pytest.mark.hostile("X27")
@pytest.mark.parametrize("where", ["opened", "message"])
def test_an_endless_handler_that_keeps_messages_waiting_is_said_once(
    run: Run, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    for name in ("OPENING", "PATIENCE"):
        monkeypatch.setattr(f"fastws.server.workers.{name}", 0.05)

    async def story() -> None:
        app = Endless(where)
        async with serving(app) as (server, address):
            first, second = await websocket(address), await websocket(address)
            for client in (first, second):
                await client.send(texts(["a", "b"]) + client_frame(PING, b"there?"))
                assert await client.until(PONG) == b"there?"  # the engine's, in any case
            await eventually(lambda: logged.records)
            await asyncio.sleep(0.2)  # more would be said in that time
            assert len(app.heard) == (0 if where == "opened" else 2)
            await first.send(client_frame(CLOSE, close_payload(1000)))
            assert await first.until(CLOSE) == close_payload(1000)
            await eventually(lambda: server.engine.live == 1)
            for client in (first, second):
                client.sock.close()
            await eventually(lambda: server.engine.live == 0)

    with logged.at_level(logging.WARNING, "fastws"):
        run(story())
    (record,) = logged.records
    assert record.getMessage().startswith(f"Endless.{where} has run for 0.05 s, for the WebSocket")
    assert "asyncio.create_task" in record.getMessage()
    assert re.search(r" of 127\.0\.0\.1:\d{4,5}, ", record.getMessage())


def test_slow_handlers_that_come_to_an_end_are_not_complained_of(
    run: Run, logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.server.workers.PATIENCE", 0.4)

    class Slow(App):
        async def message(self, connection: Connection, message: str | bytes) -> None:
            await asyncio.sleep(0.04)
            connection.send_nowait(message)

    async def story() -> None:
        async with serving(Slow()) as (_, address), await websocket(address) as client:
            await client.send(texts(["x"] * 20))
            await client.frames(20)

    with logged.at_level(logging.WARNING, "fastws"):
        run(story())
    assert not logged.records
