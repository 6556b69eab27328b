"""Topics without an event loop: order, accounts, slow consumers, other threads."""

import time
from array import array
from collections.abc import Callable

import pytest
from support import CLOSE, TEXT, Rig, balances, close_payload, message, numbers

from fastws import ConnectionClosed, LogFull, Topic
from fastws.lag import Lag

KIB = 1024
SLOW = (CLOSE, close_payload(1013, "slow consumer"))
SMALL = 4096  # a receive buffer that is full soon


def publish_while_unread(rig: Rig, topic: Topic, n: int, first: int = 0) -> None:
    """Publish n messages, turning after each, so that policies act as they do in life."""
    for i in range(first, first + n):
        topic.publish(message(i))
        rig.engine.turn()


def test_every_subscriber_gets_what_is_published_from_then_on(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    topic.publish("before")
    _, first = rig.subscribed(topic)
    topic.publish("a")
    connection, second = rig.subscribed(topic)
    connection.subscribe(topic)  # idempotent
    topic.publish(b"b")
    topic.publish(b'{"c":1}', text=True)
    rig.until(lambda: len(first.pull().frames) == 3 and len(second.pull().frames) == 2)
    assert first.frames == [(1, b"a"), (2, b"b"), (1, b'{"c":1}')]
    assert second.frames == first.frames[1:]
    connection.unsubscribe(topic)
    connection.unsubscribe(topic)
    topic.publish("d")
    connection.send_nowait("last")
    rig.until(lambda: first.pull().frames[-1] == (1, b"d"))
    rig.until(lambda: second.pull().frames[-1] == (1, b"last"))
    assert (topic.subscribers, topic.appended, topic.delivered) == (1, 5, 6)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
def test_messages_of_every_size_arrive_whole(rig: Rig, size: int) -> None:
    topic = rig.engine.topic("t")
    _, peer = rig.subscribed(topic)
    payload = bytes(i % 251 for i in range(size))
    topic.publish(payload)
    topic.publish(payload + b"!")
    rig.until(lambda: len(peer.pull().frames) == 2)
    assert peer.payloads == [payload, payload + b"!"]


def test_publish_takes_no_other_types(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    for data in (None, 1, ["x"], array("B", b"x")):
        with pytest.raises(TypeError, match="bytes, str"):
            topic.publish(data)  # type: ignore[arg-type]
    with pytest.raises(UnicodeEncodeError):
        topic.publish("\ud800")
    assert topic.appended == 0


def test_topics_of_another_engine_are_refused(rig: Rig) -> None:
    with Rig() as other:
        connection, _ = other.connect()
        with pytest.raises(ValueError, match="another engine"):
            connection.subscribe(rig.engine.topic("t"))


def test_a_late_reader_sees_topics_and_direct_sends_in_the_order_of_publishing(rig: Rig) -> None:
    left, right = rig.engine.topic("left"), rig.engine.topic("right")
    connection, peer = rig.connect(receive_buffer=SMALL)
    connection.subscribe(left)
    connection.subscribe(right)
    only_left, other_peer = rig.connect()
    only_left.subscribe(left)
    ways: list[Callable[[str], None]] = [
        left.publish, right.publish, right.publish, connection.send_nowait,
        left.publish, left.publish,
    ]  # fmt: skip
    for i in range(1200):
        ways[i % len(ways)](message(i, 100 + i % 900))
        if i % 7 == 0:
            rig.engine.turn()
    account = connection.account()
    assert account["pending"] > 0, "the reader was to be late"
    assert balances(account)
    rig.until(lambda: len(peer.pull().frames) == 1200)
    rig.until(lambda: len(other_peer.pull().frames) == 600)
    assert numbers(peer) == list(range(1200))
    assert numbers(other_peer) == [i for i in range(1200) if ways[i % 6] == left.publish]


def test_a_burst_past_the_limit_is_offered_before_its_reader_counts_as_slow() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB)
        _, peer = rig.subscribed(topic)
        rig.engine.turn()
        for i in range(100):
            topic.publish(message(i, 1000))
        rig.until(lambda: len(peer.pull().frames) == 100)
        assert topic.account()["dropped"] == 0


def test_direct_sends_past_the_outbox_limit_raise() -> None:
    with Rig(outbox_limit=8 * KIB) as rig:
        connection, peer = rig.connect(receive_buffer=SMALL)
        sent = 0
        while rig.engine.buffered_bytes <= 8 * KIB:
            connection.send_nowait(message(sent))
            sent += 1
            rig.engine.turn()
        with pytest.raises(LogFull):
            connection.send_nowait(message(sent))
        assert 4 * KIB < connection.buffered_amount <= rig.engine.buffered_bytes <= 12.5 * KIB
        rig.until(lambda: len(peer.pull().frames) == sent)
        assert connection.buffered_amount == 0
        connection.send_nowait(message(sent))
        rig.until(lambda: len(peer.pull().frames) == sent + 1)
        assert numbers(peer) == list(range(sent + 1))


def test_a_large_publish_leaves_without_a_turn(rig: Rig) -> None:
    """256 KiB that wait are sent at once."""
    topic = rig.engine.topic("t")
    _, peer = rig.subscribed(topic)
    for i in range(300):
        topic.publish(message(i))
    assert peer.pull().frames
    rig.engine.flush()


def test_flush_sends_what_waits(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    _, peer = rig.subscribed(topic)
    topic.publish("x")
    assert topic.delivered == 0
    rig.engine.flush()
    assert topic.delivered == 1
    rig.until(lambda: peer.pull().frames == [(TEXT, b"x")])


def test_schedule_is_asked_once_until_the_next_turn(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    _, peer = rig.subscribed(topic)
    rig.until(lambda: not rig.engine.turn())
    asked: list[int] = []
    rig.engine.schedule = lambda: asked.append(1)
    for _ in range(5):
        topic.publish("x")
    assert len(asked) == 1
    rig.until(lambda: len(peer.pull().frames) == 5)
    topic.publish("x")
    assert len(asked) == 2


# Accounts.


def test_accounts_balance_at_every_step_of_a_stalled_and_a_dead_client(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(bytes=4096 * KIB), retention_bytes=4096 * KIB)
    _, healthy = rig.subscribed(topic)
    stalled, peer = rig.subscribed(topic, receive_buffer=SMALL)
    for i in range(1000):
        topic.publish(message(i))
        assert balances(topic.account())
        assert balances(stalled.account())
        rig.engine.turn()
        assert balances(topic.account())
        assert balances(stalled.account())
        healthy.pull()
    account = stalled.account()
    assert account["published"] == 1000
    assert 0 < account["delivered"] < 1000
    assert account["acknowledged"] <= account["delivered"]  # type: ignore[operator]
    assert account["pending"] == 1000 - account["delivered"]
    assert account["lag_bytes"] >= (account["pending"] - 1) * 1004
    assert account["lag_seconds"] >= 0
    assert rig.engine.laggards(1)[0][0] is stalled
    assert topic.account()["pending"] >= account["pending"]

    rig.until(lambda: balances(stalled.account()) and len(peer.pull().frames) >= 1000)
    rig.until(lambda: stalled.account()["acknowledged"] == 1000)
    assert stalled.account() == {
        "published": 1000, "delivered": 1000, "acknowledged": 1000, "dropped": 0,
        "conflated": 0, "pending": 0, "lag_bytes": 0, "lag_seconds": 0.0,
    }  # fmt: skip
    rig.until(lambda: topic.account()["acknowledged"] == 2000)

    publish_while_unread(rig, topic, 1000, first=1000)
    delivered = stalled.account()["delivered"]
    assert delivered < 2000
    peer.sock.close()
    rig.until(lambda: rig.closed)
    with pytest.raises(ConnectionClosed):
        stalled.account()
    rig.until(lambda: len(healthy.pull().frames) == 2000)
    rig.until(lambda: topic.account()["pending"] == 0)
    account_of_all = topic.account()
    assert balances(account_of_all)
    assert account_of_all["published"] == 4000
    assert account_of_all["delivered"] == 2000 + delivered
    assert account_of_all["dropped"] == 2000 - delivered
    assert account_of_all["subscribers"] == 1
    assert numbers(healthy) == list(range(2000))


def test_what_an_unsubscriber_had_pending_counts_as_dropped(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.subscribed(topic, receive_buffer=SMALL)
    publish_while_unread(rig, topic, 500)
    connection.unsubscribe(topic)
    assert balances(topic.account())
    assert topic.account()["dropped"] > 0
    connection.send_nowait("end")
    rig.until(lambda: peer.pull().frames[-1:] == [(TEXT, b"end")])
    account = topic.account()
    assert balances(account)
    assert account["pending"] == 0
    assert len(peer.frames) - 1 == account["delivered"]


def test_lists_are_as_long_as_asked_for_and_at_most_64(rig: Rig) -> None:
    topics = [rig.engine.topic(f"topic.{i}") for i in range(100)]
    for topic in topics[:3]:
        for _ in range(2):
            rig.subscribed(topic, receive_buffer=SMALL)
        for i in range(500):
            topic.publish(message(i))
    rig.until(lambda: not rig.engine.turn())
    for n, accounts, laggards in ((-1, 0, 0), (0, 0, 0), (1, 1, 1), (5, 5, 5), (1000, 64, 6)):
        assert len(rig.engine.topic_accounts(n)) == accounts
        assert len(rig.engine.laggards(n)) == laggards
    assert set(rig.engine.topic_accounts(3)) == {"topic.0", "topic.1", "topic.2"}


# Slow consumers.


def test_latest_jumps_to_the_newest_message_and_counts_what_it_dropped(rig: Rig) -> None:
    topic = rig.engine.topic(
        "t", on_slow="latest", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB
    )
    _, healthy = rig.subscribed(topic)
    slow, peer = rig.subscribed(topic, receive_buffer=SMALL)
    for i in range(1500):
        topic.publish(message(i))
        rig.engine.turn()
        healthy.pull()
        if i % 100 == 0:
            assert balances(topic.account())
            assert balances(slow.account())
    rig.until(lambda: peer.pull().frames and numbers(peer)[-1] == 1499)
    rig.until(lambda: len(healthy.pull().frames) == 1500)
    got = numbers(peer)
    assert got == sorted(set(got))
    account = slow.account()
    assert account["dropped"] == 1500 - len(got) > 0
    assert account["delivered"] == len(got)
    assert (account["pending"], account["conflated"]) == (0, 0)
    assert numbers(healthy) == list(range(1500))
    assert slow.is_open


def test_close_says_slow_consumer_behind_a_whole_frame(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB)
    _, healthy = rig.subscribed(topic)
    slow, peer = rig.subscribed(topic, receive_buffer=SMALL)
    for i in range(1500):
        topic.publish(message(i))
        rig.engine.turn()
        healthy.pull()
    rig.until(lambda: rig.engine.counters()["slow_closed"] == 1)
    rig.until(lambda: peer.pull().ended)
    assert peer.frames[-1] == SLOW
    assert numbers(peer) == list(range(len(peer.frames) - 1))
    assert topic.subscribers == 1
    peer.sock.close()
    rig.until(lambda: rig.closed)
    assert (slow.close_code, slow.reason) == (1013, "slow consumer")
    rig.until(lambda: len(healthy.pull().frames) == 1500)
    account = topic.account()
    assert balances(account)
    assert account["dropped"] == account["published"] - 1500 - (len(peer.frames) - 1) > 0


def test_lossless_holds_the_publisher_until_the_slowest_has_read(rig: Rig) -> None:
    topic = rig.engine.topic(
        "t", on_slow="lossless", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB
    )
    _, healthy = rig.subscribed(topic)
    slow, peer = rig.subscribed(topic, receive_buffer=SMALL)

    def publish_until_full(first: int) -> int:
        for i in range(first, first + 5000):
            try:
                topic.publish(message(i))
            except LogFull:
                return i
            rig.engine.turn()
            healthy.pull()
        raise AssertionError("it never was full")

    published = publish_until_full(0)
    assert slow.account()["lag_bytes"] <= 64 * KIB
    with pytest.raises(LogFull):
        topic.publish(message(published))
    rig.until(lambda: len(peer.pull().frames) == published)
    again = publish_until_full(published)
    assert again > published
    rig.until(lambda: len(peer.pull().frames) == again == len(healthy.pull().frames))
    assert numbers(peer) == numbers(healthy) == list(range(again))
    account = topic.account()
    assert balances(account)
    assert (account["dropped"], account["delivered"]) == (0, 2 * again)


def test_lossless_subscriber_that_takes_nothing_is_closed_after_max_stall() -> None:
    with Rig(max_stall=0.2) as rig:
        topic = rig.engine.topic(
            "t", on_slow="lossless", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB
        )
        _, healthy = rig.subscribed(topic)
        _, peer = rig.subscribed(topic, receive_buffer=SMALL)
        published = 0

        def held_no_more() -> bool:
            nonlocal published
            healthy.pull()
            try:
                topic.publish(message(published))
            except LogFull:
                return False
            published += 1
            return rig.engine.counters()["slow_closed"] == 1 and topic.subscribers == 1

        rig.until(held_no_more)
        rig.until(lambda: len(healthy.pull().frames) == published)
        rig.until(lambda: peer.pull().ended)
        assert peer.frames[-1] == SLOW
        assert numbers(peer) == list(range(len(peer.frames) - 1))
        assert balances(topic.account())


def test_another_policy_is_in_force_for_present_subscribers(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB)
    slow, peer = rig.subscribed(topic, receive_buffer=SMALL)
    topic.configure(on_slow="latest", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB)
    publish_while_unread(rig, topic, 1000)
    rig.until(lambda: peer.pull().frames and numbers(peer)[-1] == 999)
    assert slow.is_open
    assert slow.account()["dropped"] > 0


# The source.


def test_change_of_rate_misses_nothing_that_was_due(rig: Rig) -> None:
    topic = rig.engine.topic("ticks")
    rig.engine.start_source(topic, seed=1)
    rig.subscribed(topic)
    rig.engine.set_rate(100_000)
    rig.until(lambda: topic.appended > 0)
    before, began = topic.appended, time.monotonic()
    while time.monotonic() < began + 0.005:
        pass  # ticks fall due, and nobody turns
    rig.engine.set_rate(0)
    assert topic.appended >= before + 499
    assert rig.engine.pacing()["missed"] == 0
