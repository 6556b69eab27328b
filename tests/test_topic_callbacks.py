"""on_first_subscriber and on_last_subscriber: for sources that run only while they are wanted."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import eventually, serving, websocket
from support import TEXT, Rig, client_frame

from fastws import App, Connection, Lag, Request, Topic

Run = Callable[[Any], Any]


class Told:
    """What a topic's callbacks were told, in order."""

    def __init__(self, topic: Topic) -> None:
        self.news: list[str] = []
        topic.on_first_subscriber = lambda topic: self.news.append(f"first of {topic.name}")
        topic.on_last_subscriber = lambda topic: self.news.append(f"last of {topic.name}")


def test_each_transition_is_told_once_and_in_a_turn(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    told = Told(topic)
    connections = [rig.connect()[0] for _ in range(3)]
    assert told.news == []
    for connection in connections:
        connection.subscribe(topic)
        connection.subscribe(topic)
    assert told.news == []
    rig.engine.turn()
    assert told.news == ["first of t"]
    connections[0].unsubscribe(topic)
    connections[1].unsubscribe(topic)
    rig.engine.turn()
    assert told.news == ["first of t"]
    connections[2].unsubscribe(topic)
    connections[2].unsubscribe(topic)
    rig.engine.turn()
    rig.engine.turn()
    assert told.news == ["first of t", "last of t"]
    connections[0].subscribe(topic)
    rig.engine.turn()
    assert told.news == ["first of t", "last of t", "first of t"]


def test_what_is_as_it_was_at_the_end_of_a_turn_is_no_news(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    told = Told(topic)
    connection, _ = rig.connect()
    connection.subscribe(topic)
    connection.unsubscribe(topic)
    rig.engine.turn()
    assert told.news == []
    connection.subscribe(topic)
    rig.engine.turn()
    connection.unsubscribe(topic)
    connection.subscribe(topic)
    rig.engine.turn()
    assert told.news == ["first of t"]


@pytest.mark.parametrize("end", ["peer", "abort", "close", "slow"])
def test_the_last_subscriber_is_missed_however_its_connection_ends(rig: Rig, end: str) -> None:
    topic = rig.engine.topic("t")
    told = Told(topic)
    connection, peer = rig.subscribed(topic, 4096)
    rig.until(lambda: told.news)
    if end == "peer":
        peer.sock.close()
    elif end == "abort":
        connection.abort()
    elif end == "close":
        connection.close()
    else:
        connection.subscribe(topic, max_lag=Lag(messages=1))
        for _ in range(300):
            topic.publish(bytes(1000))
            rig.engine.turn()
        rig.until(lambda: peer.pull().ended)
    rig.until(lambda: len(told.news) == 2)
    assert told.news == ["first of t", "last of t"]


def test_subscribers_of_another_thread_are_told_of_in_the_turn(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    told = Told(topic)
    connection, _ = rig.connect()

    async def elsewhere() -> None:
        await asyncio.to_thread(connection.subscribe, topic)
        assert told.news == []
        rig.engine.turn()
        assert told.news == ["first of t"]
        await asyncio.to_thread(connection.unsubscribe, topic)
        rig.engine.turn()

    asyncio.run(elsewhere())
    assert told.news == ["first of t", "last of t"]


def test_a_subscriber_from_before_the_callbacks_is_no_news_but_its_end_is(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, _ = rig.subscribed(topic)
    told = Told(topic)
    rig.engine.turn()
    connection.unsubscribe(topic)
    rig.engine.turn()
    assert told.news == ["last of t"]


def test_the_second_callback_takes_no_news_from_the_first(rig: Rig) -> None:
    news: list[str] = []
    topic = rig.engine.topic("t")
    connection, _ = rig.connect()
    topic.on_first_subscriber = lambda _: news.append("first")
    connection.subscribe(topic)
    topic.on_last_subscriber = lambda _: news.append("last")
    rig.engine.turn()
    assert news == ["first"]


def test_callbacks_are_read_back_replaced_and_taken_away(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    assert topic.on_first_subscriber is None
    assert topic.on_last_subscriber is None
    told = Told(topic)
    connection, _ = rig.connect()
    topic.on_first_subscriber = None
    assert topic.on_first_subscriber is None
    connection.subscribe(topic)
    rig.engine.turn()
    assert told.news == []
    topic.on_last_subscriber = None
    connection.unsubscribe(topic)
    rig.engine.turn()
    assert told.news == []


def test_a_callback_may_publish_subscribe_and_close(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    other = rig.engine.topic("other")
    connection, peer = rig.connect()

    def first(topic: Topic) -> None:
        topic.publish("welcome")
        connection.subscribe(other)

    def last(topic: Topic) -> None:
        topic.close()
        other.publish("closed")

    topic.on_first_subscriber, topic.on_last_subscriber = first, last
    connection.subscribe(topic)
    rig.until(lambda: peer.pull().frames)
    assert peer.payloads == [b"welcome"]
    connection.unsubscribe(topic)
    rig.until(lambda: len(peer.pull().frames) == 2)
    assert topic.name == ""
    assert rig.engine.topic("t") is not topic


def test_a_callback_may_close_the_engine() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        topic.on_first_subscriber = lambda topic: topic.engine.close()
        connection, _ = rig.subscribed(topic)
        rig.until(lambda: topic.name == "")
        assert rig.closed == [connection]


def test_what_a_callback_raises_goes_to_on_topic_error_and_hurts_no_other(rig: Rig) -> None:
    errors: list[tuple[str, type[BaseException]]] = []
    rig.engine.on_topic_error = lambda topic, error: errors.append((topic.name, type(error)))
    topics = [rig.engine.topic(name) for name in "abc"]
    told = [Told(topic) for topic in topics]

    def fails(_: Topic) -> None:
        raise ZeroDivisionError

    topics[1].on_first_subscriber = fails
    connection, peer = rig.connect()
    for topic in topics:
        connection.subscribe(topic)
        topic.publish("x")
    rig.until(lambda: len(peer.pull().frames) == 3)
    assert errors == [("b", ZeroDivisionError)]
    assert [one.news for one in told] == [["first of a"], [], ["first of c"]]
    connection.unsubscribe(topics[1])
    rig.engine.turn()
    assert told[1].news == ["last of b"]


def test_an_interrupt_in_a_callback_leaves_the_turn_at_its_end(rig: Rig) -> None:
    topics = [rig.engine.topic(name) for name in "ab"]
    told = Told(topics[0])

    def interrupted(_: Topic) -> None:
        raise KeyboardInterrupt

    topics[1].on_first_subscriber = interrupted
    connection, _ = rig.connect()
    for topic in topics:
        connection.subscribe(topic)
    with pytest.raises(KeyboardInterrupt):
        rig.engine.turn()
    assert told.news == ["first of a"]
    rig.engine.turn()


class Rooms(App):
    """A room for each path, and a source that runs while somebody is in it."""

    def __init__(self) -> None:
        self.sources: dict[str, asyncio.Task[None]] = {}
        self.started: list[str] = []
        self.topics: set[Topic] = set()

    def opened(self, connection: Connection, request: Request) -> None:
        topic = connection.engine.topic(request.path)
        if topic not in self.topics:
            self.topics.add(topic)
            topic.on_first_subscriber, topic.on_last_subscriber = self.start, self.stop
        connection.subscribe(topic)

    def start(self, topic: Topic) -> None:
        self.started.append(topic.name)
        self.sources[topic.name] = asyncio.get_running_loop().create_task(self.fill(topic))

    def stop(self, topic: Topic) -> None:
        self.sources.pop(topic.name).cancel()

    async def fill(self, topic: Topic) -> None:
        while True:
            topic.publish("tick")
            await asyncio.sleep(0)


def test_a_source_runs_while_somebody_listens(run: Run) -> None:
    async def story() -> None:
        app = Rooms()
        async with serving(app) as (_, address):
            for round_ in range(3):
                first, second = await websocket(address), await websocket(address)
                assert await first.frame() == (TEXT, b"tick")
                assert await second.frame() == (TEXT, b"tick")
                assert list(app.sources) == ["/"]
                first.sock.close()
                await second.frames(10)
                second.sock.close()
                await eventually(lambda: not app.sources)
                assert app.started == ["/"] * (round_ + 1)

    run(story())


def test_a_server_logs_what_a_callback_raises_and_goes_on(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    class Fails(Rooms):
        def start(self, topic: Topic) -> None:
            raise ZeroDivisionError

        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.send_nowait(message)

        stop = start

    async def story() -> None:
        async with serving(Fails()) as (_, address), await websocket(address) as client:
            await client.send(client_frame(TEXT, b"still there"))
            assert await client.frame() == (TEXT, b"still there")
            await eventually(lambda: caplog.records)

    run(story())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "topic /: a callback raised"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
