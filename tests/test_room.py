"""Room for direct sends: `is_full`, `notify_room` and `on_room`."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import serving, websocket
from support import PATIENCE, Peer, Rig

from fastws import App, Connection, ConnectionClosed, Engine, Request

Run = Callable[[Any], Any]
KIB = 1 << 10
SMALL = 4096  # a receive buffer that is full soon
PIECE = b"x" * 1000


def told(rig: Rig) -> list[Connection]:
    """Those that `on_room` is called with."""
    found: list[Connection] = []
    rig.engine.on_room = found.append
    return found


def fill(rig: Rig) -> tuple[Connection, Peer, int]:
    """A connection that is full, its peer, and the messages that were sent."""
    connection, peer = rig.connect(receive_buffer=SMALL)
    sent = 0
    while not connection.is_full:
        connection.send(PIECE)
        sent += 1
        rig.engine.turn()
    return connection, peer, sent


def test_a_full_connection_is_told_of_room_once() -> None:
    with Rig(high_mark=16 * KIB) as rig:
        found = told(rig)
        connection, peer, sent = fill(rig)
        assert connection.buffered_amount > 8 * KIB
        connection.notify_room()
        connection.notify_room()
        for _ in range(20):
            rig.engine.turn()
        assert found == []
        rig.until(lambda: peer.pull() and found)
        assert found == [connection]
        assert connection.buffered_amount <= 4 * KIB
        assert not connection.is_full
        rig.until(lambda: len(peer.pull().frames) == sent)
        rig.until(lambda: not rig.engine.turn())
        assert found == [connection]


def test_a_connection_with_room_is_told_in_the_next_turn() -> None:
    with Rig() as rig:
        scheduled: list[bool] = []
        found = told(rig)
        connection, _ = rig.connect()
        rig.until(lambda: not rig.engine.turn())
        rig.engine.schedule = lambda: scheduled.append(True)
        assert not connection.is_full
        connection.notify_room()
        assert (found, scheduled) == ([], [True])
        assert rig.engine.turn(poll=False) is False
        assert found == [connection]


def test_a_handler_may_ask_again_and_send() -> None:
    with Rig(high_mark=16 * KIB) as rig:
        rooms, sent = 0, 0

        def send_on(connection: Connection) -> None:
            nonlocal rooms, sent
            rooms += 1
            while not connection.is_full and sent < 1000:
                connection.send(PIECE)
                sent += 1
            if sent < 1000:
                connection.notify_room()

        rig.engine.on_room = send_on
        connection, peer = rig.connect(receive_buffer=SMALL)
        connection.notify_room()
        rig.until(lambda: len(peer.pull().frames) == 1000)
        assert rooms > 10
        assert peer.payloads == [PIECE] * 1000


def test_one_that_ends_is_told_of_by_on_close_only() -> None:
    with Rig(high_mark=16 * KIB) as rig:
        found = told(rig)
        connection, _, _ = fill(rig)
        connection.notify_room()
        connection.abort()
        connection.notify_room()  # it is dead, and on_close has still to be called
        rig.until(lambda: rig.closed)
        again, _ = rig.connect()
        rig.until(lambda: not rig.engine.turn())
        assert again.id & 0xFFFFFFFF == connection.id & 0xFFFFFFFF, "it was to take the slot"
        assert found == []
        assert not connection.is_full
        with pytest.raises(ConnectionClosed):
            connection.notify_room()


def test_on_room_that_raises_is_reported() -> None:
    with Rig() as rig:
        rig.engine.on_room = lambda _: 1 // 0
        connections = [rig.connect()[0] for _ in range(3)]
        for connection in connections:
            connection.notify_room()
        rig.until(lambda: len(rig.errors) == 3)
        assert {type(error) for error in rig.errors} == {ZeroDivisionError}


def test_without_on_room_nothing_happens() -> None:
    with Rig() as rig:
        connection, _ = rig.connect()
        connection.notify_room()
        rig.until(lambda: not rig.engine.turn())
        assert connection.is_open


def test_the_engine_may_be_closed_in_on_room() -> None:
    with Rig() as rig:
        rig.engine.on_room = lambda _: rig.engine.close()
        for connection in [rig.connect()[0] for _ in range(3)]:
            connection.notify_room()
        rig.until(lambda: len(rig.closed) == 3)
        assert rig.engine.live == 0


def test_slow_handlers_of_room_share_turns_with_messages() -> None:
    with Rig() as rig:
        found: list[Connection] = []

        def slow(connection: Connection) -> None:
            found.append(connection)
            began = time.perf_counter()
            while time.perf_counter() < began + 0.0003:
                pass

        rig.engine.on_room = slow
        connections = [rig.connect()[0] for _ in range(20)]
        rig.until(lambda: not rig.engine.turn())
        for connection in connections:
            connection.notify_room()
        rig.engine.turn()
        assert 0 < len(found) < 20
        rig.until(lambda: len(found) == 20)
        assert found == connections


@pytest.mark.parametrize("wrong", [{"high_mark": 2 << 20}, {"high_mark": 9, "outbox_limit": 8}])
def test_a_high_mark_past_the_outbox_limit_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="high_mark must not exceed outbox_limit"):
        Engine(**wrong)


def test_the_high_mark_is_the_outbox_limit_where_that_is_less() -> None:
    with Rig(outbox_limit=8 * KIB) as rig:
        connection, _, _ = fill(rig)
        assert connection.buffered_amount > 4 * KIB


def test_a_task_waits_for_room_in_a_loop(run: Run) -> None:
    class Talker(App):
        waiter: asyncio.Future[None] | None = None
        sent = waits = 0

        def opened(self, connection: Connection, request: Request) -> None:
            connection.context = asyncio.create_task(self.talk(connection))

        async def talk(self, connection: Connection) -> None:
            for _ in range(2000):
                while connection.is_full:
                    self.waiter = asyncio.get_running_loop().create_future()
                    connection.notify_room()
                    await self.waiter
                    self.waits += 1
                connection.send(PIECE)
                self.sent += 1

        def room(self, connection: Connection) -> None:
            assert self.waiter is not None
            self.waiter.set_result(None)

    async def story() -> None:
        app = Talker()
        async with serving(app) as (server, address):
            server.engine.on_room = app.room
            async with await websocket(address) as client:
                got = 0
                async with asyncio.timeout(PATIENCE):
                    while got < 2000:
                        frames = await client.frames(1)
                        assert {payload for _, payload in frames} == {PIECE}
                        got += len(frames)
            assert app.sent == 2000
            assert app.waits > 0

    run(story())
