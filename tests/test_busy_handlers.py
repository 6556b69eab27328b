"""Handlers that keep their client's messages waiting: what the engine does meanwhile."""

import asyncio
from collections.abc import Callable
from typing import Any

import websockets
from handler_apps import eventually, serving
from support import PATIENCE

from fastws import App, Connection, Request

Run = Callable[[Any], Any]


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
            assert client.close_code == 1000
            assert app.heard == 0
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
