"""Coroutines that wait to publish: by topic, first come, first served. Layer 6.

Knows topics and futures. The engine tells when a topic has room again; nothing is polled.
"""

import asyncio
from collections import OrderedDict
from contextlib import suppress

from fastws._frame import Connection, Frame, Topic
from fastws.errors import ConnectionClosed, LogFull

Payload = str | bytes | bytearray | memoryview | Frame


class _Publisher:
    """Somebody who waits; of a topic's publishers the first one is called when there is room."""

    def __init__(self, data: Payload) -> None:
        self.data = data
        self.called: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def call(self) -> None:
        if not self.called.done():
            self.called.set_result(None)


Queue = OrderedDict[_Publisher, None]


class Publishers:
    """Who waits to publish, of one engine."""

    def __init__(self) -> None:
        self._queues: dict[Topic, Queue] = {}

    async def publish(
        self, topic: Topic, data: Payload, key: str | None, text: bool, exclude: Connection | None
    ) -> None:
        """Publish once there is room, after those who asked before."""
        publisher = _Publisher(data)
        queue = self._queues.setdefault(topic, OrderedDict())
        queue[publisher] = None
        try:
            if len(queue) == 1:
                topic.crowded = True
                topic.notify_room(data)
            await publisher.called
            while not topic.offer(data, key=key, text=text, exclude=exclude):
                publisher.called = asyncio.get_running_loop().create_future()
                topic.notify_room(data)
                await publisher.called
        finally:
            self._leave(topic, queue, publisher)

    def _leave(self, topic: Topic, queue: Queue, publisher: _Publisher) -> None:
        was_first = next(iter(queue)) is publisher
        del queue[publisher]
        if not queue:
            topic.crowded = False
            del self._queues[topic]
        elif was_first:
            following = next(iter(queue))
            try:
                topic.notify_room(following.data)
            except (ConnectionClosed, RuntimeError):  # closed; some may have come since it said so
                self.on_close(topic)
            except (LogFull, TypeError, ValueError):  # it has grown, or was released, meanwhile
                following.call()  # it finds that out itself

    def on_room(self, topic: Topic) -> None:
        """Hear from the engine that there is room for the first one's message."""
        if topic in self._queues:
            next(iter(self._queues[topic])).call()

    def on_close(self, topic: Topic | None = None) -> None:
        """Hear that a topic has been closed; None: the engine, and all of them."""
        topics = list(self._queues) if topic is None else [topic]
        for each in topics:
            for publisher in self._queues.get(each, ()):
                if not publisher.called.done():
                    with suppress(RuntimeError):  # the loop has ended, and nobody waits
                        publisher.called.set_exception(
                            ConnectionClosed(1006, "the topic is closed")
                        )
