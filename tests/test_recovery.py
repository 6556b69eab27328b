"""Subscriptions that begin in the past: positions, replay, the retained message, history."""

import random
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from support import Peer, Rig, balances

from fastws import Engine, Frame, History, Lag, Message, Position, Topic

KIB = 1024


def message(rig: Rig, peer: Peer) -> bytes:
    """Take the next message; the peer reads more only when it has none."""
    rig.until(lambda: peer.frames or (peer.read() and peer.frames))
    return peer.frames.pop(0)[1]


def texts(peer: Peer, rig: Rig, n: int) -> list[str]:
    """The next n messages."""
    got: list[str] = []
    while len(got) < n:
        got.append(message(rig, peer).decode())
    return got


def kept(rig: Rig, messages: int = 1000) -> Topic:
    return rig.engine.topic("t", history=History(messages=messages))


# Positions.


@pytest.mark.hostile("X49")
def test_what_came_after_a_position_is_replayed_then_it_goes_on(rig: Rig) -> None:
    topic = kept(rig)
    topic.publish_all([f"{n}" for n in range(10)])
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, since=(topic.epoch, 3))
    assert (subscription.recovered, subscription.seq) == (True, 3)
    topic.publish("10")
    assert texts(peer, rig, 7) == ["4", "5", "6", "7", "8", "9", "10"]
    assert (subscription.epoch, subscription.seq) == (topic.epoch, topic.seq) == (topic.epoch, 10)
    assert topic.account()["published"] == 7
    assert balances(topic.account())


def test_a_topic_says_where_a_subscription_would_begin(rig: Rig) -> None:
    topic = kept(rig)
    assert topic.position() == Position(topic.epoch, -1, None)
    topic.publish_all(["0", "1", "2"])
    assert topic.position() == (topic.epoch, 2, None)
    assert topic.position((topic.epoch, 0)) == (topic.epoch, 0, True)
    assert topic.position((topic.epoch, 7)) == (topic.epoch, 2, False)
    topic.configure(retain=True)
    assert topic.position(("gone", 0)) == (topic.epoch, 1, False)
    connection, peer = rig.connect()
    connection.send_nowait("hello")
    connection.subscribe(topic, since=(topic.epoch, 0))
    connection.send_nowait("bye")
    assert texts(peer, rig, 4) == ["hello", "1", "2", "bye"]


@pytest.mark.parametrize(("seq", "first"), [(-1, "0"), (8, "9"), (9, "live")])
def test_a_position_may_be_before_the_first_message_or_the_newest_one(
    rig: Rig, seq: int, first: str
) -> None:
    topic = kept(rig)
    topic.publish_all([f"{n}" for n in range(10)])
    connection, peer = rig.connect()
    assert connection.subscribe(topic, since=(topic.epoch, seq)).recovered
    topic.publish("live")
    assert texts(peer, rig, 1) == [first]


def no_epoch(topic: Topic) -> tuple[str, int]:
    return ("no such epoch, not even hex", topic.seq)


def ahead(topic: Topic) -> tuple[str, int]:
    return (topic.epoch, topic.seq + 1)


def below_all(topic: Topic) -> tuple[str, int]:
    return (topic.epoch, -2)


def above_all(topic: Topic) -> tuple[str, int]:
    return (topic.epoch, 10**30)


def long_ago(topic: Topic) -> tuple[str, int]:
    return (topic.epoch, 5)


def another_spelling(topic: Topic) -> tuple[str, int]:
    return (f"0{topic.epoch}", topic.seq)


@pytest.mark.parametrize(
    "position", [no_epoch, ahead, long_ago, below_all, above_all, another_spelling]
)
def test_without_what_follows_it_a_subscription_begins_now(
    rig: Rig, position: Callable[[Topic], tuple[str, int]]
) -> None:
    topic = kept(rig, messages=10)
    topic.publish_all([f"{n}" for n in range(5000)])
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, since=position(topic))
    assert (subscription.recovered, subscription.seq) == (False, 4999)
    topic.publish("live")
    assert texts(peer, rig, 1) == ["live"]


def test_who_asks_for_no_position_is_told_nothing_of_recovery(rig: Rig) -> None:
    topic = kept(rig)
    connection, _peer = rig.connect()
    assert connection.subscribe(topic).recovered is None


def test_a_topic_that_was_freed_and_made_again_is_another_one(rig: Rig) -> None:
    connection, _peer = rig.connect()
    topic = rig.engine.topic("t")
    topic.publish("before")
    position = (topic.epoch, topic.seq)
    del topic
    rig.until(lambda: not rig.engine.turn())
    topic = rig.engine.topic("t")
    topic.publish("after")
    assert topic.seq == position[1]
    assert connection.subscribe(topic, since=position).recovered is False


def test_a_position_of_another_engine_is_another_one(rig: Rig) -> None:
    other = Engine()
    position = (other.topic("t").epoch, -1)
    other.close()
    connection, _peer = rig.connect()
    assert connection.subscribe("t", since=position).recovered is False


@pytest.mark.parametrize(
    ("since", "error"),
    [
        ((5, 5), TypeError),
        (("x", "5"), TypeError),
        (("x", True), TypeError),
        (("x",), ValueError),
        (7, TypeError),
    ],
)
def test_what_is_no_position_is_an_error(rig: Rig, since: Any, error: type[Exception]) -> None:
    connection, _peer = rig.connect()
    with pytest.raises(error):
        connection.subscribe(kept(rig), since=since)
    assert kept(rig).subscribers == 0


def test_a_subscription_that_has_begun_cannot_begin_in_the_past(rig: Rig) -> None:
    topic = kept(rig)
    connection, _peer = rig.subscribed(topic)
    with pytest.raises(ValueError, match="has begun"):
        connection.subscribe(topic, since=(topic.epoch, -1))
    connection.unsubscribe(topic)
    assert connection.subscribe(topic, since=(topic.epoch, -1)).recovered


def test_another_thread_may_begin_in_the_past(rig: Rig) -> None:
    topic = kept(rig)
    topic.publish_all(["0", "1", "2"])
    connection, peer = rig.connect()
    made = []
    position = (topic.epoch, 0)
    thread = threading.Thread(
        target=lambda: made.append(connection.subscribe(topic, since=position))
    )
    thread.start()
    thread.join()
    assert texts(peer, rig, 2) == ["1", "2"]
    assert made[0].recovered is True


def test_a_history_larger_than_the_lag_is_replayed_to_a_slow_reader(rig: Rig) -> None:
    topic = rig.engine.topic(
        "t", history=History(messages=3000), max_lag=Lag(bytes=64 * KIB), on_slow="latest"
    )
    topic.publish_all([f"{n:06}" + "x" * KIB for n in range(3000)])
    connection, peer = rig.connect(receive_buffer=4 * KIB)
    subscription = connection.subscribe(topic, since=(topic.epoch, -1))
    rig.until(lambda: subscription.account()["lag_bytes"] > 0 and not rig.engine.turn())
    assert [int(text[:6]) for text in texts(peer, rig, 3000)] == list(range(3000))
    assert topic.account()["dropped"] == 0


def test_a_client_that_is_cut_off_anywhere_misses_nothing_and_gets_nothing_twice(rig: Rig) -> None:
    """What was handed to a kernel may be lost with the connection: the client knows its place."""
    topic = kept(rig, messages=100_000)
    draw = random.Random(12)
    got: list[int] = []
    published = 0
    for _ in range(150):
        connection, peer = rig.connect(receive_buffer=4 * KIB)
        position = (topic.epoch, len(got) - 1)
        assert connection.subscribe(topic, since=position).recovered
        for _ in range(draw.randrange(4)):
            n = draw.randrange(60)
            topic.publish_all([f"{number:09}" * 20 for number in range(published, published + n)])
            published += n
            for _ in range(draw.randrange(40)):
                if len(got) < published:
                    got.append(int(message(rig, peer)[:9]))
        if draw.randrange(2):
            connection.abort()
        peer.sock.close()
    connection, peer = rig.connect()
    connection.subscribe(topic, since=(topic.epoch, len(got) - 1))
    got += [int(text[:9]) for text in texts(peer, rig, published - len(got))]
    assert got == list(range(published))
    assert balances(topic.account())


# The retained message, and history.


@pytest.mark.hostile("X49")
def test_a_new_subscriber_gets_the_retained_message_first(rig: Rig) -> None:
    topic = rig.engine.topic("t", retain=True)
    assert topic.retained is None
    topic.publish("old")
    topic.publish("new")
    assert topic.retained == Message(1, "new")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic)
    assert (subscription.recovered, subscription.seq) == (None, 0)
    topic.publish("newer")
    assert texts(peer, rig, 2) == ["new", "newer"]
    again, peer = rig.connect()
    assert again.subscribe(topic, since=("gone", 7)).recovered is False
    assert texts(peer, rig, 1) == ["newer"]
    topic.configure(retain=False)
    assert topic.retained is None


def test_history_says_what_is_kept(rig: Rig) -> None:
    topic = kept(rig, messages=3)
    assert topic.history() == []
    topic.publish("text")
    topic.publish(b"bytes")
    topic.publish(b"text as bytes", text=True)
    topic.publish(Frame("a frame"))
    kept_now = [Message(1, b"bytes"), Message(2, "text as bytes"), Message(3, "a frame")]
    assert topic.history() == kept_now
    assert topic.history(2) == kept_now[1:]
    assert topic.history(0) == []
    assert topic.history(10**30) == kept_now
    with pytest.raises(ValueError, match="negative"):
        topic.history(-1)
    assert rig.engine.topic("none").history() == []


# The policy that drops the oldest.


def test_drop_oldest_keeps_as_much_as_the_lag_allows(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="drop_oldest", max_lag=Lag(bytes=64 * KIB))
    _, peer = rig.subscribed(topic, receive_buffer=4 * KIB)
    for n in range(8000):
        topic.publish(f"{n:06}" + "x" * 994)
        if n % 10 == 0:
            rig.engine.turn()
    rig.engine.turn()
    got = [int(message(rig, peer)[:6])]
    while got[-1] < 7999:
        got.append(int(message(rig, peer)[:6]))
    assert got == sorted(set(got))
    account = topic.account()
    assert account["dropped"] == 8000 - len(got) > 0
    assert balances(account)
    jumps = [place for place, (n, later) in enumerate(pairwise(got)) if later > n + 1]
    newest = got[jumps[-1] + 1 :]
    assert newest == list(range(newest[0], 8000))
    assert 50 <= len(newest) <= 70
