"""What can be awaited of a connection: room, its end, a pong. Layer 6.

Knows connections and futures. The engine tells it what happens; nothing is polled.
"""

import asyncio
import os
import time
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any

from fastws._frame import Connection, Topic, closed_error
from fastws.server.publishers import Payload, Publishers

Waiter = asyncio.Future[None]


class Closing(Coroutine[Any, Any, None]):
    """What `Connection.close` returns; to await it is to wait for the connection's end.

    A coroutine, so that a task can be made of it, which need not be awaited.
    """

    __slots__ = ("_connection", "_waiting", "_waits")

    def __init__(self, waits: "Waits", connection: Connection) -> None:
        self._waits = waits
        self._connection = connection
        self._waiting: Coroutine[Any, Any, None] | None = None

    def _wait(self) -> Coroutine[Any, Any, None]:
        if self._waiting is None:
            self._waiting = self._waits.ended(self._connection)
        return self._waiting

    def __await__(self) -> Generator[Any, Any, None]:
        return self._wait().__await__()

    def send(self, value: Any) -> Any:
        """Begin, or go on, to wait."""
        return self._wait().send(value)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """Raise an exception where it waits."""
        return self._wait().throw(kind if value is None else value)

    def close(self) -> None:
        """Wait no more."""
        if self._waiting is not None:
            self._waiting.close()


class Waits:
    """Who waits for something of the connections of one engine."""

    def __init__(self) -> None:
        self._room: dict[Connection, deque[Waiter]] = {}
        self._drains: dict[Connection, list[Waiter]] = {}
        self._ends: dict[Connection, list[Waiter]] = {}
        self._pings: dict[Connection, dict[bytes, asyncio.Future[float]]] = {}
        self.publishers = Publishers()

    # Room.

    async def send(self, connection: Connection, data: str | bytes) -> None:
        """Send once there is room, after those who asked before."""
        await self._wait_for_room(connection)
        try:
            connection.send_nowait(data)
        finally:
            self._next(connection)

    async def drain(self, connection: Connection) -> None:
        """Return when at most a quarter of the high mark is waiting."""
        if not connection.is_open:
            raise closed_error(connection)
        if connection.buffered_amount:
            connection.notify_room()
            await self._wait_among(self._drains, connection)
            if not connection.is_open:
                raise closed_error(connection)

    async def _wait_for_room(self, connection: Connection) -> None:
        if not connection.is_open:
            raise closed_error(connection)
        queue = self._room.setdefault(connection, deque())
        waiter: Waiter = asyncio.get_running_loop().create_future()
        queue.append(waiter)
        if not connection.crowded:
            connection.crowded = True
            connection.notify_room()
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter in queue:
                queue.remove(waiter)
            elif not waiter.cancelled():
                self._next(connection)  # it had been called
            raise

    async def _wait_among(
        self, waiters: dict[Connection, list[Waiter]], connection: Connection
    ) -> None:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        waiting = waiters.setdefault(connection, [])
        waiting.append(waiter)
        try:
            await waiter
        finally:
            if not waiter.done() or waiter.cancelled():
                waiting.remove(waiter)

    def on_room(self, connection: Connection) -> None:
        """Hear from the engine that at most a quarter of the high mark is waiting."""
        for waiter in self._drains.pop(connection, ()):
            if not waiter.done():
                waiter.set_result(None)
        self._call(connection)

    def _call(self, connection: Connection) -> None:
        """Call the next one who waits to send."""
        queue = self._room.get(connection, ())
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._room.pop(connection, None)
        connection.crowded = False

    def _next(self, connection: Connection) -> None:
        """Call the next one who waits for room, or ask to be told."""
        if connection not in self._room or not connection.is_open:
            return
        if self._room[connection] and connection.is_full:
            connection.notify_room()
        else:
            self._call(connection)

    # Room in topics.

    def publish(
        self, topic: Topic, data: Payload, key: str | None, text: bool, exclude: Connection | None
    ) -> Coroutine[Any, Any, None]:
        """Publish once there is room, after those who asked before."""
        return self.publishers.publish(topic, data, key, text, exclude)

    def topics_closed(self) -> None:
        """Hear that the engine has been closed."""
        self.publishers.on_close()

    # Ends.

    async def ended(self, connection: Connection) -> None:
        """Return when the connection has ended."""
        if connection.reason is None:
            await self._wait_among(self._ends, connection)

    def closing(self, connection: Connection) -> Closing:
        """Return what `Connection.close` returns."""
        return Closing(self, connection)

    def on_close(self, connection: Connection) -> None:
        """Hear from the engine that a connection has ended."""
        for waiter in self._ends.pop(connection, ()):
            if not waiter.done():
                waiter.set_result(None)
        lost = (
            *self._room.pop(connection, ()),
            *self._drains.pop(connection, ()),
            *self._pings.pop(connection, {}).values(),
        )
        for each in lost:
            if not each.done():
                each.set_exception(closed_error(connection))

    # Pings.

    async def ping(self, connection: Connection, data: bytes | None) -> float:
        """Send a ping and return the seconds until its pong."""
        if not connection.is_open:
            raise closed_error(connection)
        payload = os.urandom(4) if data is None else data
        waiting = self._pings.setdefault(connection, {})
        if payload in waiting:
            raise ValueError("a ping with that payload is waiting for its pong")
        connection.send_ping(payload)
        began = time.monotonic()
        waiter: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        waiting[payload] = waiter
        try:
            return await waiter - began
        finally:
            waiting.pop(payload, None)

    def on_pong(self, connection: Connection, payload: bytes) -> None:
        """Hear of a pong; it answers the pings before its own as well (RFC 6455 5.5.3)."""
        waiting = self._pings.get(connection, {})
        if payload not in waiting:
            return
        now = time.monotonic()
        for sent, waiter in list(waiting.items()):
            del waiting[sent]
            if not waiter.done():
                waiter.set_result(now)
            if sent == payload:
                return
