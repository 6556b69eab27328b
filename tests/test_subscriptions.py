"""Subscriptions: one connection and one topic, their options, their end and their account."""

import gc
import random
import threading
from collections.abc import Callable

import pytest
from support import TEXT, Rig, balances, message, numbers

from fastws import ConnectionClosed, Lag, LogFull, Subscription

KIB = 1024
SMALL = 4096  # a receive buffer that is full soon


def elsewhere(work: Callable[[], object]) -> None:
    """Do it in another thread, to its end."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


# One object, its options and its end.


def test_a_subscription_that_nobody_refers_to_leaves_no_object_behind(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connections = [rig.connect()[0] for _ in range(10)]
    gc.collect()
    before = len(gc.get_objects())
    for connection in connections:
        connection.subscribe(topic)
    gc.collect()
    assert len(gc.get_objects()) - before < len(connections)


def test_subscribing_again_returns_the_same_subscription(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic)
    assert isinstance(subscription, Subscription)
    assert subscription.connection is connection
    assert subscription.topic is topic
    assert connection.subscribe(topic) is subscription
    assert connection.subscribe("t") is subscription
    assert connection.subscribe(topic, on_slow="latest") is subscription
    topic.publish("x")
    rig.until(lambda: peer.pull().frames)
    assert peer.frames == [(TEXT, b"x")]
    assert topic.subscribers == 1


@pytest.mark.hostile("X62")
def test_subscribing_a_thousand_times_is_one_delivery_and_an_unknown_one_ends_nothing(
    rig: Rig,
) -> None:
    topic, other = rig.engine.topic("t"), rig.engine.topic("other")
    connection, peer = rig.connect()
    for _ in range(1000):
        connection.subscribe(topic)
    for _ in range(2):
        connection.unsubscribe(other)
    topic.publish("once")
    rig.until(lambda: peer.pull().frames)
    assert peer.frames == [(TEXT, b"once")]
    for _ in range(1000):
        connection.unsubscribe(topic)
    assert (topic.subscribers, other.subscribers) == (0, 0)


def test_a_subscription_that_nobody_refers_to_goes_on(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    connection.subscribe(topic, on_slow="latest")
    topic.publish("x")
    rig.until(lambda: peer.pull().frames)
    again = connection.subscribe(topic, on_slow="latest")
    assert again.active
    assert again.account()["delivered"] == 1


def test_a_name_subscribes_to_the_topic_of_that_name(rig: Rig) -> None:
    rig.engine.topics("room.*", on_slow="latest")
    connection, peer = rig.connect()
    subscription = connection.subscribe("room.1")
    assert subscription.topic is rig.engine.topic("room.1")
    assert (subscription.topic.name, subscription.on_slow) == ("room.1", "latest")
    rig.engine.topic("room.1").publish("x")
    rig.until(lambda: peer.pull().frames)
    for wrong in (None, 1, b"room.1"):
        with pytest.raises(TypeError):
            connection.subscribe(wrong)  # type: ignore[arg-type]


def test_only_a_binding_of_the_engine_is_a_subscription() -> None:
    with pytest.raises(TypeError, match=r"made by Connection\.subscribe"):
        Subscription()


def test_the_options_are_those_of_the_last_call_and_else_the_topics(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", max_lag=Lag(bytes=64 * KIB))
    connection, _ = rig.connect()
    subscription = connection.subscribe(topic)
    assert (subscription.on_slow, subscription.max_lag) == ("latest", Lag(bytes=64 * KIB))
    connection.subscribe(topic, on_slow="close", max_lag=Lag(messages=10))
    assert subscription.on_slow == "close"
    assert subscription.max_lag == Lag(messages=10, bytes=topic.options["retention_bytes"])
    topic.configure(on_slow="lossless")
    assert subscription.on_slow == "close"
    connection.subscribe(topic, max_lag=Lag(bytes=1 * KIB))
    assert (subscription.on_slow, subscription.max_lag) == ("lossless", Lag(bytes=1 * KIB))
    connection.subscribe(topic)
    assert (subscription.on_slow, subscription.max_lag) == ("lossless", Lag(bytes=64 * KIB))


def test_options_out_of_range_are_refused_and_change_nothing(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB)
    connection, _ = rig.connect()
    with pytest.raises(ValueError, match="must not exceed retention_bytes"):
        connection.subscribe(topic, max_lag=Lag(bytes=129 * KIB))
    assert topic.subscribers == 0
    subscription = connection.subscribe(topic, on_slow="latest")
    with pytest.raises(ValueError, match="on_slow must be one of"):
        connection.subscribe(topic, on_slow="never")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a Lag"):
        connection.subscribe(topic, max_lag=1)  # type: ignore[arg-type]
    assert subscription.on_slow == "latest"


def test_a_policy_of_its_own_beats_the_topics(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(bytes=64 * KIB), retention_bytes=256 * KIB)
    closed, closed_peer = rig.connect(receive_buffer=SMALL)
    jumping, jumping_peer = rig.connect(receive_buffer=SMALL)
    closed.subscribe(topic)
    own = jumping.subscribe(topic, on_slow="latest")
    for i in range(1000):
        topic.publish(message(i))
        rig.engine.turn()
        assert balances(own.account())
    rig.until(lambda: jumping_peer.pull().frames and numbers(jumping_peer)[-1] == 999)
    rig.until(lambda: closed_peer.pull().ended)
    assert not closed.is_open
    assert rig.engine.counters()["slow_closed"] == 1
    account = own.account()
    assert account["dropped"] == 1000 - len(jumping_peer.frames) > 0
    assert account["delivered"] == len(jumping_peer.frames)
    assert balances(topic.account())


def test_a_limit_in_messages_counts_where_bytes_are_few(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    strict, strict_peer = rig.connect(receive_buffer=SMALL)
    lenient, lenient_peer = rig.connect(receive_buffer=SMALL)
    strict.subscribe(topic, max_lag=Lag(messages=100))
    lenient.subscribe(topic)
    for i in range(500):
        topic.publish(message(i))
        rig.engine.turn()
    rig.until(lambda: strict_peer.pull().frames and numbers(strict_peer)[-1] == 499)
    rig.until(lambda: len(lenient_peer.pull().frames) == 500)
    assert strict.account()["dropped"] == 500 - len(strict_peer.frames) > 0
    assert lenient.account()["dropped"] == 0


def test_a_lossless_subscription_holds_the_publisher_of_any_topic(rig: Rig) -> None:
    topic = rig.engine.topic(
        "t", on_slow="latest", max_lag=Lag(bytes=64 * KIB), retention_bytes=128 * KIB
    )
    connection, peer = rig.connect(receive_buffer=SMALL)
    subscription = connection.subscribe(topic, on_slow="lossless")

    def publish_until_full(first: int) -> int:
        for i in range(first, first + 5000):
            try:
                topic.publish(message(i))
            except LogFull:
                return i
            rig.engine.turn()
        raise AssertionError("it never was full")

    held = publish_until_full(0)
    rig.until(lambda: len(peer.pull().frames) == held)
    assert numbers(peer) == list(range(held))
    again = publish_until_full(held)
    connection.subscribe(topic)  # "latest", as the topic has it
    for i in range(again, again + 500):
        topic.publish(message(i))
        rig.engine.turn()
    rig.until(lambda: numbers(peer.pull())[-1] == again + 499)
    assert subscription.account()["dropped"] > 0
    assert balances(subscription.account())


def test_unsubscribing_ends_a_subscription_and_the_next_one_is_another(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    first = connection.subscribe(topic)
    topic.publish("a")
    rig.until(lambda: peer.pull().frames)
    first.unsubscribe()
    first.unsubscribe()
    assert not first.active
    for look in (first.account, lambda: first.on_slow, lambda: first.max_lag):
        with pytest.raises(ConnectionClosed, match="has ended"):
            look()
    topic.publish("missed")
    second = connection.subscribe(topic)
    assert second is not first
    assert (first.active, second.active) == (False, True)
    first.unsubscribe()  # it has ended: the other one goes on
    topic.publish("b")
    rig.until(lambda: len(peer.pull().frames) == 2)
    assert peer.payloads == [b"a", b"b"]
    assert second.account()["published"] == 1
    account = topic.account()
    assert (account["published"], account["delivered"], account["appended"]) == (2, 2, 3)


@pytest.mark.parametrize("end", ["connection", "peer", "topic", "engine"])
def test_a_subscription_ends_with_its_connection_topic_or_engine(end: str) -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.connect()
        subscription = connection.subscribe(topic)
        assert subscription.active
        ends: dict[str, Callable[[], object]] = {
            "connection": connection.abort,
            "peer": peer.sock.close,
            "topic": topic.close,
            "engine": rig.engine.close,
        }
        ends[end]()
        if end != "engine":
            rig.until(lambda: not subscription.active)
        assert not subscription.active
        subscription.unsubscribe()
        with pytest.raises(ConnectionClosed):
            subscription.account()
        with pytest.raises(ConnectionClosed):
            connection.subscribe(topic)


# From another thread.


def test_subscriptions_are_begun_and_ended_from_another_thread(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    made: list[Subscription] = []

    def begin() -> None:
        made.append(connection.subscribe(topic, on_slow="latest"))
        made.append(connection.subscribe(topic, on_slow="latest"))
        topic.publish("a")

    elsewhere(begin)
    rig.until(lambda: peer.pull().frames)
    subscription = made[0]
    assert made[1] is subscription
    assert subscription.active
    assert subscription.on_slow == "latest"
    assert connection.subscribe(topic, on_slow="latest") is subscription
    assert subscription.account()["delivered"] == 1
    elsewhere(subscription.unsubscribe)
    rig.until(lambda: topic.subscribers == 0)
    assert not subscription.active


def test_another_threads_subscription_is_active_though_an_ended_one_is_remembered(
    rig: Rig,
) -> None:
    topic = rig.engine.topic("t")
    connection, _ = rig.connect()
    ended = connection.subscribe(topic)
    ended.unsubscribe()
    made: list[Subscription] = []
    elsewhere(lambda: made.append(connection.subscribe(topic)))
    rig.until(lambda: topic.subscribers == 1)
    assert made[0].active
    assert connection.subscribe(topic) is made[0]
    made[0].unsubscribe()
    assert topic.subscribers == 0


def test_an_ended_subscription_does_not_end_the_next_one_from_another_thread(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, _ = rig.connect()
    ended = connection.subscribe(topic)
    ended.unsubscribe()
    current = connection.subscribe(topic)
    elsewhere(ended.unsubscribe)
    rig.engine.turn()
    assert current.active
    elsewhere(current.unsubscribe)
    rig.until(lambda: not current.active)


def test_a_closed_topics_subscription_does_not_stand_for_the_next_topics(rig: Rig) -> None:
    connection, _ = rig.connect()
    kept: list[Subscription] = []
    for _ in range(20):  # memory of a closed topic is soon another's
        topic = rig.engine.topic("t")
        elsewhere(lambda topic=topic: kept.append(connection.subscribe(topic)))
        assert kept[-1].topic is topic
        topic.close()
        rig.engine.turn()
    assert not any(subscription.active for subscription in kept)


def test_another_thread_needs_the_topic_not_its_name(rig: Rig) -> None:
    connection, _ = rig.connect()
    with pytest.raises(RuntimeError, match="thread"):
        elsewhere(lambda: connection.subscribe("t"))


# Order, and many.


@pytest.mark.parametrize("seed", range(3))
def test_two_hundred_topics_and_direct_sends_keep_the_order_of_publishing(seed: int) -> None:
    chance = random.Random(seed)
    with Rig(outbox_limit=64 * KIB * KIB) as rig:
        connection, peer = rig.connect(receive_buffer=SMALL if seed else 0)
        topics = [rig.engine.topic(f"topic.{i}") for i in range(200)]
        for topic in topics:
            connection.subscribe(topic)
        ways: list[Callable[[str], None]] = [topic.publish for topic in topics]
        ways += [connection.send_nowait] * 20
        n = 6000
        for i in range(n):
            size = chance.choice([10, 10, 100, 100, 100, 900, 4000])
            if i % 97 == 0:
                size = chance.choice([65_535, 65_536, 70_000])
            chance.choice(ways)(message(i, size))
            if chance.random() < 0.2:
                rig.engine.turn()
            if i // 500 % 2 and chance.random() < 0.3:
                peer.read()  # and in between it reads nothing for a while
            if i % 500 == 0:
                assert balances(connection.account())
        assert connection.account()["pending"] > 0, "the reader was to be late"
        rig.until(lambda: len(peer.pull().frames) == n)
        assert numbers(peer) == list(range(n))
        sums = rig.engine.account()
        assert balances(sums)
        assert (sums["dropped"], sums["pending"]) == (0, 0)
        assert connection.account()["delivered"] == sums["delivered"]


def test_thousands_of_subscriptions_of_one_connection_come_and_go(rig: Rig) -> None:
    n = 5000
    chance = random.Random(1)
    connection, peer = rig.connect()
    topics = [rig.engine.topic(f"topic.{i}") for i in range(n)]
    subscriptions = [connection.subscribe(topic) for topic in topics]
    assert all(subscription.active for subscription in subscriptions)
    leaving = set(chance.sample(range(n), n // 2))
    for i, topic in enumerate(topics):
        topic.publish(message(i, 20))
    for i in leaving:  # with a message pending
        subscriptions[i].unsubscribe()
    staying = [i for i in range(n) if i not in leaving]
    rig.until(lambda: len(peer.pull().frames) == len(staying))
    assert numbers(peer) == staying
    assert [subscription.active for subscription in subscriptions] == [
        i not in leaving for i in range(n)
    ]
    assert [topic.subscribers for topic in topics] == [int(i not in leaving) for i in range(n)]
    account = connection.account()
    assert balances(account)
    assert (account["delivered"], account["dropped"]) == (len(staying), len(leaving))
    for topic in topics:
        connection.unsubscribe(topic)
    for i in range(n):
        topics[i].publish("nobody")
        connection.subscribe(topics[i])
    for i in range(n):
        topics[i].publish(message(i, 20))
    rig.until(lambda: len(peer.pull().frames) == len(staying) + n)
    assert numbers(peer)[len(staying) :] == list(range(n))
    assert balances(rig.engine.account())
    peer.sock.close()
    rig.until(lambda: rig.closed)
    assert sum(topic.subscribers for topic in topics) == 0


def test_an_age_is_not_for_a_lossless_subscription(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", max_lag=Lag(bytes=1 * KIB, seconds=0.5))
    connection, _ = rig.connect()
    subscription = connection.subscribe(topic, on_slow="lossless")  # the topic's goes
    assert subscription.max_lag == Lag(bytes=1 * KIB)
    with pytest.raises(ValueError, match="not for a lossless topic"):
        connection.subscribe(topic, on_slow="lossless", max_lag=Lag(seconds=1))
    connection.subscribe(topic, max_lag=Lag(seconds=1))
    assert subscription.max_lag.seconds == 1
    topic.configure(on_slow="lossless")
    assert topic.options["max_lag"] == Lag(bytes=1 * KIB)


def test_a_subscriber_jumps_when_what_it_lacks_is_old(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", max_lag=Lag(seconds=0.3))
    connection, peer = rig.connect(receive_buffer=SMALL)
    subscription = connection.subscribe(topic)
    n = 0
    while not subscription.account()["dropped"]:
        topic.publish(message(n))
        n += 1
        rig.engine.turn(0.005)
        assert n < 10_000
    assert subscription.account()["lag_bytes"] < 1000 * KIB
    topic.publish(message(n))
    rig.until(lambda: peer.pull().frames and numbers(peer)[-1] == n)
    account = subscription.account()
    assert account["dropped"] == n + 1 - len(peer.frames)
    assert balances(account)
