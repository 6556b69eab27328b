"""Turns are bounded by time, whoever spends it; what is left over waits, in order."""

import asyncio
import logging
import random
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import connected, eventually, serving, texts, websocket
from support import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    UPGRADE,
    Rig,
    client_frame,
    close_payload,
)

from fastws import App, Connection, Request, Topic

Run = Callable[[Any], Any]
FLOOD = [str(i) for i in range(500)]


def work(seconds: float = 0.002) -> None:
    """Keep the processor, as a handler that computes something does."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class Slow(App):
    """Works for each number, and answers anything else with how many numbers there were before."""

    def __init__(self) -> None:
        self.numbers: list[str | bytes] = []
        self.ended: list[Connection] = []

    def message(self, connection: Connection, message: str | bytes) -> None:
        if message in FLOOD:
            self.number(connection, message)
        else:
            connection.send_nowait(str(len(self.numbers)))

    def number(self, connection: Connection, message: str | bytes) -> None:
        work()
        self.numbers.append(message)

    def closed(self, connection: Connection) -> None:
        self.ended.append(connection)


# Others.


@pytest.mark.parametrize("floods", [1, 8])
def test_a_flood_for_a_slow_handler_leaves_room_for_others(run: Run, floods: int) -> None:
    async def story() -> None:
        app = Slow()
        async with serving(app) as (_, address):
            flooding = [await websocket(address) for _ in range(floods)]
            asking = await websocket(address)
            for client in flooding:
                await client.send(texts(FLOOD[: 500 // floods]))
            await eventually(lambda: app.numbers)
            waited = []
            for _ in range(10):
                before = len(app.numbers)
                await asking.send(texts(["how many?"]))
                _, answer = await asking.frame()
                waited.append(int(answer) - before)
            assert max(waited[1:]) <= 12, waited  # the loop's rounds until it is read among them
            await asking.send(client_frame(PING, b"there?"))
            assert await asking.frame() == (PONG, b"there?")
            assert len(app.numbers) < 400
            await eventually(lambda: len(app.numbers) == 500 // floods * floods)
            if floods == 1:
                assert app.numbers == FLOOD
            for client in [*flooding, asking]:
                client.sock.close()

    run(story())


def test_the_loop_gets_control_between_the_portions(run: Run) -> None:
    async def story() -> None:
        app = Slow()
        async with serving(app) as (_, address), await websocket(address) as client:
            await client.send(texts(FLOOD[:100]))
            rounds = 0
            while len(app.numbers) < 100:
                await asyncio.sleep(0)
                rounds += len(app.numbers) > 0
            assert rounds >= 50

    run(story())


def test_the_ends_of_a_crowd_are_told_in_portions(run: Run) -> None:
    class Mourning(Slow):
        def closed(self, connection: Connection) -> None:
            work()
            super().closed(connection)

    async def story() -> None:
        app = Mourning()
        async with serving(app) as (_, address):
            crowd = [await websocket(address) for _ in range(50)]
            for client in crowd:
                client.sock.close()
            rounds = 0
            while len(app.ended) < 50:
                await asyncio.sleep(0)
                rounds += len(app.ended) > 0
            assert rounds >= 25
            assert len(set(app.ended)) == 50

    run(story())


def test_the_ends_that_were_not_told_are_told_when_the_engine_closes() -> None:
    with Rig() as rig:
        address = rig.listen()
        crowd = [rig.connect(address)[1] for _ in range(20)]

        def closed(connection: Connection) -> None:
            work()
            rig.closed.append(connection)

        rig.engine.on_close = closed
        for peer in crowd:
            peer.sock.close()
        rig.until(lambda: rig.closed)
        assert len(rig.closed) < 20
        rig.engine.close()
        assert len(set(rig.closed)) == len(rig.closed) == 20


def test_the_callbacks_of_topics_come_in_portions(rig: Rig) -> None:
    told: list[str] = []

    def first(topic: Topic) -> None:
        work()
        told.append(topic.name)

    connection, _ = rig.connect()
    for i in range(50):
        topic = rig.engine.topic(str(i))
        topic.on_first_subscriber = first
        connection.subscribe(topic)
    turns = 0
    while len(told) < 50:
        more = rig.engine.turn()
        assert more or len(told) == 50
        turns += 1
    assert turns >= 25
    assert len(set(told)) == 50


# What a handler does to a connection with a backlog.


def test_a_pause_within_a_backlog_holds_until_reading_is_resumed(run: Run) -> None:
    class Pausing(Slow):
        paused: Connection | None = None

        def number(self, connection: Connection, message: str | bytes) -> None:
            assert self.paused is None
            self.numbers.append(message)
            if message == "3":
                connection.pause_reading()
                self.paused = connection

    async def story() -> None:
        app = Pausing()
        async with serving(app) as (_, address), await websocket(address) as client:
            await client.send(texts(FLOOD))
            await eventually(lambda: app.paused)
            async with await websocket(address) as other:
                for _ in range(5):
                    await other.send(texts(["how many?"]))
                    assert await other.frame() == (TEXT, b"4")
            assert app.paused is not None
            app.paused.resume_reading()
            app.paused = None
            await eventually(lambda: len(app.numbers) == 500)
            assert app.numbers == FLOOD

    run(story())


@pytest.mark.parametrize("how", ["close", "abort", "raise"])
def test_behind_an_end_within_a_backlog_no_message_comes(
    run: Run, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Ending(Slow):
        def number(self, connection: Connection, message: str | bytes) -> None:
            super().number(connection, message)
            if message == "30":
                if how == "raise":
                    raise ZeroDivisionError
                getattr(connection, how)()

    async def story() -> None:
        app = Ending()
        async with serving(app) as (_, address), await websocket(address) as client:
            await client.send(texts(FLOOD))
            if how == "abort":
                assert await client.ended()
            else:
                close = close_payload(1011, "the handler failed")
                close = close if how == "raise" else close_payload(1000)
                assert await client.frame() == (CLOSE, close)
                await client.send(client_frame(CLOSE, close))
                assert await client.ended()
            await eventually(lambda: app.ended)
            assert app.numbers == FLOOD[:31]
            assert len(app.ended) == 1

    with caplog.at_level(logging.CRITICAL, "fastws"):
        run(story())


def test_the_backlog_of_a_peer_that_has_closed_is_handled_before_its_end_is_told(run: Run) -> None:
    async def story() -> None:
        app = Slow()
        async with serving(app) as (_, address), await websocket(address) as client:
            await client.send(texts(FLOOD[:100]) + client_frame(CLOSE, close_payload(1000)))
            await eventually(lambda: app.ended)
            assert app.numbers == FLOOD[:100]
            assert app.ended[0].close_code == 1000

    run(story())


def test_an_interrupt_within_a_backlog_loses_nothing() -> None:
    with Rig() as rig:
        numbers: list[str | bytes] = []

        def handle(_: Connection, message: str | bytes) -> None:
            numbers.append(message)
            work(0.0001)
            if message == "30":
                raise KeyboardInterrupt

        rig.engine.on_message = handle
        _, peer = rig.connect()
        peer.send(texts(FLOOD))
        with pytest.raises(KeyboardInterrupt):
            rig.until(lambda: len(numbers) == 500)
        assert len(numbers) < 500
        rig.until(lambda: len(numbers) == 500)
        assert numbers == FLOOD


# The end of all.


def test_closing_the_engine_within_a_backlog_ends_it() -> None:
    with Rig() as rig:
        numbers: list[str | bytes] = []

        def handle(_: Connection, message: str | bytes) -> None:
            numbers.append(message)
            if message == "30":
                rig.engine.close()

        rig.engine.on_message = handle
        _, peer = rig.connect()
        _, other = rig.connect()
        peer.send(texts(FLOOD))
        rig.until(lambda: other.pull().ended)
        assert numbers == FLOOD[:31]
        assert len(rig.closed) == 2
        assert rig.engine.turn() is False


def test_stopping_with_a_backlog_closes_everybody_with_1001(run: Run) -> None:
    async def story() -> None:
        app = Slow()
        async with serving(app) as (server, address):
            flooding, other = await websocket(address), await websocket(address)
            await flooding.send(texts(FLOOD))
            await eventually(lambda: app.numbers)
            stopping = asyncio.ensure_future(server.stop())
            for client in (flooding, other):
                assert await client.until(CLOSE) == close_payload(1001)
                await client.send(client_frame(CLOSE, close_payload(1001)))
                client.sock.close()
            await stopping
            assert app.numbers == FLOOD[: len(app.numbers)]
            assert len(app.numbers) < 100
            assert len(app.ended) == 2

    run(story())


# Heads.


class Careful(App):
    """Takes its time for everyone who comes in."""

    def __init__(self) -> None:
        self.let_in = 0

    def admit(self, connection: Connection, request: Request) -> None:
        work()
        self.let_in += 1

    def message(self, connection: Connection, message: str | bytes) -> None:
        connection.send_nowait(str(self.let_in))


def test_a_crowd_that_is_let_in_slowly_leaves_room_for_who_is_in(run: Run) -> None:
    async def story() -> None:
        app = Careful()
        async with serving(app) as (_, address):
            asking = await websocket(address)
            coming = [asyncio.ensure_future(websocket(address)) for _ in range(60)]
            waited = []
            while app.let_in < 61:
                before = app.let_in
                await asking.send(texts(["how many?"]))
                _, answer = await asking.frame()
                waited.append(int(answer) - before)
            assert max(waited) <= 8, waited
            for client in await asyncio.gather(*coming):
                client.sock.close()
            asking.sock.close()

    run(story())


# Answers.


def test_what_is_much_larger_than_what_came_in_does_not_pile_up(run: Run) -> None:
    """Twenty messages in 30 KiB; their answers, of 300 KiB each, wait until there is room."""
    block = random.Random(1).randbytes(1000)  # repeated: does not shrink in a window of 512 bytes
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = (packer.compress(block * 300) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    frame = bytearray(client_frame(BINARY, packed))
    frame[0] |= 0x40

    class Echo(App):
        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.send_nowait(message)

    async def story() -> None:
        async with serving(Echo(), deflate=True) as (server, address), connected(address) as client:
            offer = (
                b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n\r\n"
            )
            await client.send(UPGRADE.removesuffix(b"\r\n") + offer)
            assert b" 101 " in await client.head()
            await client.send(bytes(frame) * 20)
            for _ in range(20):
                assert await client.frame() == (BINARY, block * 300)
            assert server.engine.counters()["log_full"] == 0

    run(story())
