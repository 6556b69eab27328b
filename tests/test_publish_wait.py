"""await topic.publish_wait(): published at once where there is room, else when there is again."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import eventually, others, serving, websocket
from support import PATIENCE, TEXT, Client, Rig

from fastws import App, Connection, ConnectionClosed, Lag, LogFull, Request, Server, Topic

Run = Callable[[Any], Any]
KIB = 1 << 10
PIECE = "x" * 1000


class Feed(App):
    """Its clients get the topic."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = {"on_slow": "lossless", "max_lag": Lag(bytes=100 * KIB), **options}

    def opened(self, connection: Connection, request: Request) -> None:
        connection.subscribe("t")


class Story:
    """A server with a client that reads nothing until it is told to."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server = server
        self.client = client
        self.topic = server.topic("t")

    async def fill(self) -> int:
        """Publish until the topic takes no more; how many."""
        n, last = 0, -1
        while n != last:  # what the kernel takes makes room
            last = n
            while self.topic.offer(f"{n} {PIECE}"):
                n += 1
            for _ in range(5):
                await asyncio.sleep(0)
        return n

    async def numbers(self, n: int) -> list[int]:
        """Those of the next n messages."""
        got: list[int] = []
        while len(got) < n:
            opcode, payload = await self.client.frame()
            if opcode == TEXT:
                got.append(int(payload.split()[0]))
        return got


def story(run: Run, tell: Callable[[Story], Any], **options: Any) -> None:
    async def told() -> None:
        app = Feed(**options.pop("topic", {}))
        async with serving(app, **options) as (server, address):
            server.topic("t", **app.options)
            async with await websocket(address) as client:
                await eventually(lambda: server.topic("t").subscribers)
                async with asyncio.timeout(PATIENCE):
                    await tell(Story(server, client))

    run(told())


def started(*publishers: Any) -> list[asyncio.Task[None]]:
    return [asyncio.get_running_loop().create_task(each) for each in publishers]


# Where there is room.


def test_with_room_it_is_published_at_the_call_without_a_task_or_a_future(run: Run) -> None:
    async def tell(at: Story) -> None:
        awaitable = at.topic.publish_wait("0 first")
        assert at.topic.appended == 1
        assert awaitable is at.topic.publish_wait("1 second")
        with pytest.raises(StopIteration):
            awaitable.send(None)
        await awaitable
        assert await at.numbers(2) == [0, 1]

    story(run, tell)


def test_a_task_may_be_made_of_it(run: Run) -> None:
    async def tell(at: Story) -> None:
        await asyncio.gather(*started(*[at.topic.publish_wait(f"{n} x") for n in range(10)]))
        assert await at.numbers(10) == list(range(10))

    story(run, tell)


def test_key_text_and_exclude_are_those_of_publish(run: Run) -> None:
    async def tell(at: Story) -> None:
        (connection,) = at.server.connections
        await at.topic.publish_wait(b"0 x", key="k", text=True)
        await at.topic.publish_wait("1 x", exclude=connection)
        await at.topic.publish_wait("2 x")
        assert await at.numbers(2) == [0, 2]

    story(run, tell, topic={"on_slow": "latest"})


# Without room.


def test_without_room_it_waits_until_the_reader_has_taken_some(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        (task,) = started(at.topic.publish_wait(f"{n} {PIECE}"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done()
        assert at.topic.appended == n
        assert await at.numbers(n + 1) == list(range(n + 1))
        await task

    story(run, tell)


def test_a_producer_without_an_end_loses_nothing_and_holds_nothing_up(run: Run) -> None:
    async def produce(topic: Topic) -> None:
        for n in range(20_000):
            await topic.publish_wait(f"{n} {PIECE}")

    async def tell(at: Story) -> None:
        (task,) = started(produce(at.topic))
        assert await at.numbers(20_000) == list(range(20_000))
        await task
        account = at.topic.account()
        assert (account["dropped"], account["delivered"]) == (0, 20_000)
        assert at.server.counters()["log_full"] == 0

    story(run, tell)


def test_first_come_first_served(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        tasks = started(*[at.topic.publish_wait(f"{n + i} {PIECE}") for i in range(50)])
        assert await at.numbers(n + 50) == list(range(n + 50))
        await asyncio.gather(*tasks)
        assert not at.topic.crowded
        assert at.topic.publish_wait(f"{n + 50} {PIECE}") is at.topic.publish_wait("x")

    story(run, tell)


def test_nobody_overtakes_who_waits(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        (large,) = started(at.topic.publish_wait(f"{n} {PIECE * 50}"))
        await asyncio.sleep(0)
        (small,) = started(at.topic.publish_wait(f"{n + 1} {PIECE}"))
        assert await at.numbers(n + 2) == list(range(n + 2))
        await asyncio.gather(large, small)

    story(run, tell)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_cancelled_while_it_waits_it_is_not_published(run: Run, which: int) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        tasks = started(*[at.topic.publish_wait(f"{n + i} {PIECE}") for i in range(3)])
        await asyncio.sleep(0)
        tasks[which].cancel()
        expected = [*range(n), *(n + i for i in range(3) if i != which)]
        assert await at.numbers(n + 2) == expected
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in done].count(True) == 1
        assert at.topic.appended == n + 2

    story(run, tell)


def test_cancelled_when_it_has_been_called_it_is_not_published_and_the_next_one_is(
    run: Run,
) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        tasks = started(*[at.topic.publish_wait(f"{n + i} {PIECE}") for i in range(2)])
        await asyncio.sleep(0)
        told = at.server.engine.on_topic_room

        def cancel_first(topic: Topic) -> None:
            told(topic)
            tasks[0].cancel()

        at.server.engine.on_topic_room = cancel_first
        assert await at.numbers(n + 1) == [*range(n), n + 1]
        await tasks[1]
        assert tasks[0].cancelled()

    story(run, tell)


def test_a_held_topic_is_not_polled(run: Run) -> None:
    async def tell(at: Story) -> None:
        at.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        n = await at.fill()
        (task,) = started(at.topic.publish_wait(f"{n} {PIECE}"))
        spent = time.thread_time()
        await asyncio.sleep(0.3)
        assert time.thread_time() - spent < 0.1
        assert not task.done()
        task.cancel()

    story(run, tell)


# The limits.


def test_a_message_past_max_lag_goes_when_nobody_is_behind(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        (task,) = started(at.topic.publish_wait(f"{n} {PIECE * 300}"))
        assert await at.numbers(n + 1) == list(range(n + 1))
        await task

    story(run, tell)


def test_a_message_larger_than_the_budget_fails_at_once(run: Run) -> None:
    async def tell(at: Story) -> None:
        with pytest.raises(LogFull, match="max_log_bytes"):
            at.topic.publish_wait("x" * (2048 * KIB))
        with pytest.raises(LogFull):
            at.topic.notify_room(b"x" * (2048 * KIB))

    story(run, tell, max_log_bytes=1024 * KIB)


def test_another_topic_that_holds_the_budget_is_waited_for(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        other = at.server.topic("other")
        (task,) = started(other.publish_wait("y" * (200 * KIB)))
        await asyncio.sleep(0)
        assert not task.done()
        assert not other.offer("y" * (200 * KIB))
        await at.numbers(n)
        await task
        assert other.appended == 1

    wide = {"max_lag": Lag(bytes=16 << 20)}
    story(run, tell, topic=wide, max_log_bytes=1024 * KIB)


# The end.


def test_the_end_of_the_topic_ends_the_waiting(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        tasks = started(*[at.topic.publish_wait(f"{n} {PIECE}") for _ in range(3)])
        await asyncio.sleep(0)
        at.topic.close()
        for task in tasks:
            with pytest.raises(ConnectionClosed, match="topic is closed"):
                await task
        with pytest.raises(ConnectionClosed):
            at.topic.publish_wait("more")

    story(run, tell)


def test_who_begins_to_wait_while_the_topic_closes_is_told_too(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        first = started(at.topic.publish_wait(f"{n} {PIECE}"))
        await asyncio.sleep(0)
        others = started(*[at.topic.publish_wait(f"{n} {PIECE}") for _ in range(2)])
        at.topic.close()  # these two run when it is closed, before the first one is woken
        for task in (*first, *others):
            with pytest.raises(ConnectionClosed, match="topic is closed"):
                await task

    story(run, tell)


def test_the_end_of_the_server_ends_the_waiting(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        tasks = started(*[at.topic.publish_wait(f"{n} {PIECE}") for _ in range(3)])
        await asyncio.sleep(0)
        at.server.close()
        for task in tasks:
            with pytest.raises(ConnectionClosed, match="closed"):
                await task
        with pytest.raises(RuntimeError, match="closed"):
            at.topic.publish_wait("more")

    story(run, tell)


def test_the_end_of_the_reader_lets_who_waits_publish(run: Run) -> None:
    async def tell(at: Story) -> None:
        n = await at.fill()
        tasks = started(*[at.topic.publish_wait(f"{n} {PIECE}") for _ in range(3)])
        await asyncio.sleep(0)
        at.client.sock.close()
        await asyncio.gather(*tasks)
        assert at.topic.appended == n + 3

    story(run, tell)


def test_nothing_is_left_of_those_who_waited(run: Run) -> None:
    async def tell(at: Story) -> None:
        before = len(others())
        n = await at.fill()
        tasks = started(*[at.topic.publish_wait(f"{n} {PIECE}") for _ in range(3)])
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await at.numbers(n)
        await eventually(lambda: not at.topic.crowded)
        del tasks, task
        gc.collect()
        assert len(others()) == before
        assert at.server.engine.waits.publishers._queues == {}

    story(run, tell)


# Others than the loop.


def test_in_another_thread_it_is_an_error(run: Run) -> None:
    async def tell(at: Story) -> None:
        errors: list[Exception] = []

        def publish() -> None:
            try:
                at.topic.publish_wait("x")
            except RuntimeError as error:
                errors.append(error)

        thread = threading.Thread(target=publish)
        thread.start()
        thread.join()
        assert "another thread" in str(errors[0])
        assert at.topic.appended == 0

    story(run, tell)


def test_an_engine_by_hand_has_nobody_to_wait(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    with pytest.raises(RuntimeError, match="awaited"):
        topic.publish_wait("x")
    told: list[Topic] = []
    rig.engine.on_topic_room = told.append
    topic.notify_room("x")
    assert told == []
    rig.engine.turn()
    assert told == [topic]
    rig.engine.turn()
    assert told == [topic]
    assert topic.offer("x")


def test_what_is_no_message_is_refused_at_the_call(run: Run) -> None:
    async def tell(at: Story) -> None:
        with pytest.raises(TypeError):
            at.topic.publish_wait(5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="key"):
            at.topic.publish_wait("x", key="")
        assert at.topic.appended == 0

    story(run, tell)
