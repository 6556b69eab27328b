"""on_gap: what a subscription loses is told at the end of the turn, with the reason."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import eventually, serving, websocket
from support import CLOSE, FAILED, PATIENCE, Peer, Rig, balances, message, numbers

from fastws import App, Connection, ConnectionClosed, Gap, Lag, Request, Subscription, Topic

Run = Callable[[Any], Any]


class Told:
    """What an on_gap was told."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.subscriptions: list[Subscription] = []

    def __call__(self, subscription: Subscription, gap: Gap) -> None:
        self.subscriptions.append(subscription)
        self.gaps.append(gap)


def latest(rig: Rig, messages: int = 10) -> Topic:
    return rig.engine.topic("t", on_slow="latest", max_lag=Lag(messages=messages))


def stalled(
    rig: Rig, topic: Topic, on_gap: Any, size: int = 1000
) -> tuple[Connection, Peer, Subscription]:
    """A subscriber that reads nothing, and whose socket has taken all that it will."""
    connection, peer = rig.connect(receive_buffer=4096)
    subscription = connection.subscribe(topic, on_gap=on_gap)
    topic.publish_all([message(n, size) for n in range(topic.appended, topic.appended + 200)])
    rig.until(lambda: subscription.account()["dropped"] > 0)
    return connection, peer, subscription


def missing(got: list[int], n: int) -> list[int]:
    return sorted(set(range(n)) - set(got))


def test_each_loss_is_told_and_together_they_are_what_did_not_come(rig: Rig) -> None:
    topic, told = latest(rig), Told()
    _connection, peer, subscription = stalled(rig, topic, told)
    for _ in range(3):
        known = len(told.gaps)
        topic.publish_all([message(n) for n in range(topic.appended, topic.appended + 100)])
        rig.until(lambda known=known: len(told.gaps) > known)
    rig.until(lambda: peer.pull() and subscription.account()["pending"] == 0)
    rig.until(lambda: len(peer.pull().payloads) == subscription.account()["delivered"])
    lost = [n for gap in told.gaps for n in range(gap.first, gap.last + 1)]
    assert len(told.gaps) > 1
    assert lost == missing(numbers(peer), topic.appended)
    assert sum(gap.count for gap in told.gaps) == len(lost) == subscription.account()["dropped"]
    assert {gap.reason for gap in told.gaps} == {"slow"}
    assert set(told.subscriptions) == {subscription}
    assert balances(subscription.account())


def test_a_gap_is_a_frozen_value() -> None:
    gap = Gap(1, 5, 4, "slow")
    assert gap == Gap(first=1, last=5, count=4, reason="slow")
    with pytest.raises(AttributeError):
        gap.first = 2  # type: ignore[misc]


def test_losses_of_one_turn_are_told_in_one_call_behind_the_flush(rig: Rig) -> None:
    topic, told = latest(rig), Told()
    stalled(rig, topic, told)
    before = len(told.gaps)
    for n in range(500):
        topic.publish(message(n))
    assert len(told.gaps) == before
    rig.until(lambda: len(told.gaps) > before)
    assert len(told.gaps) == before + 1
    assert told.gaps[-1].count > 400


def test_a_loss_outside_of_a_turn_asks_for_one() -> None:
    with Rig(max_log_bytes=100_000) as rig:
        topic, told = rig.engine.topic("t", on_slow="drop_oldest"), Told()
        connection, _peer = rig.connect()
        connection.subscribe(topic, on_gap=told)
        rig.until(lambda: not rig.engine.turn())
        asked: list[int] = []
        topic.publish_all([message(n) for n in range(200)])
        rig.engine.schedule = lambda: asked.append(1)
        rig.engine.flush()
        assert asked
        assert told.gaps == []
        rig.engine.turn(poll=False)
        assert [gap.reason for gap in told.gaps] == ["budget"]


def test_messages_that_were_excluded_do_not_count(rig: Rig) -> None:
    topic, told = latest(rig), Told()
    connection, _peer, _ = stalled(rig, topic, told)
    rig.until(lambda: not rig.engine.turn())
    before = len(told.gaps)
    for n in range(100):
        topic.publish(message(n), exclude=connection if n % 2 else None)
    rig.until(lambda: len(told.gaps) > before)
    gap = told.gaps[-1]
    assert gap.count < gap.last - gap.first
    assert 40 <= gap.count <= 60


def test_what_retention_takes_is_known_by_that(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(bytes=64 << 20), retention_bytes=64 << 20)
    told = Told()
    connection, _peer = rig.connect(receive_buffer=4096)
    connection.subscribe(topic, on_slow="drop_oldest", on_gap=told)
    topic.configure(max_lag=Lag(bytes=1 << 16), retention_bytes=1 << 16)
    subscription = connection.subscribe(topic, on_slow="drop_oldest", max_lag=Lag(bytes=1 << 16))
    del subscription
    connection.subscribe(topic, on_slow="drop_oldest", on_gap=told)
    while not told.gaps:
        topic.publish_all([b"x" * 10_000] * 100)
        rig.engine.flush()
        rig.engine.turn()
    assert {gap.reason for gap in told.gaps} == {"retention"}


def test_what_the_budget_takes_is_known_by_that() -> None:
    with Rig(max_log_bytes=1 << 20) as rig:
        topic = rig.engine.topic(
            "t", on_slow="drop_oldest", max_lag=Lag(bytes=64 << 20), retention_bytes=64 << 20
        )
        told = Told()
        connection, _peer = rig.connect(receive_buffer=4096)
        connection.subscribe(topic, on_gap=told)
        while not told.gaps:
            topic.publish_all([b"x" * 10_000] * 20)
            rig.engine.turn()
        assert {gap.reason for gap in told.gaps} == {"budget"}
        assert rig.engine.counters()["lapped"] > 0


def test_who_keeps_up_is_told_of_nothing(rig: Rig) -> None:
    topic, told = latest(rig), Told()
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, on_gap=told)
    for n in range(200):
        topic.publish_all([message(n) for n in range(10 * n, 10 * n + 10)])
        rig.until(lambda: peer.pull() and subscription.account()["pending"] == 0)
    assert numbers(peer.pull()) == list(range(2000))
    assert told.gaps == []


# The life of a subscription.


@pytest.mark.parametrize("end", ["unsubscribe", "abort", "topic", "close"])
def test_the_end_of_a_subscription_is_no_gap_and_its_callback_goes(rig: Rig, end: str) -> None:
    topic, told = latest(rig), Told()
    connection, _peer, subscription = stalled(rig, topic, told)
    rig.until(lambda: not rig.engine.turn())
    gone = weakref.ref(told)
    before = len(told.gaps)
    for n in range(500):
        topic.publish(message(n))
    rig.engine.flush()
    if end == "unsubscribe":
        subscription.unsubscribe()
    elif end == "abort":
        connection.abort()
    elif end == "topic":
        topic.close()
    else:
        rig.engine.close()
    if end != "close":
        rig.engine.turn()
    assert len(told.gaps) == before
    del told
    gc.collect()
    assert gone() is None


def test_the_last_call_says_who_is_told(rig: Rig) -> None:
    topic, first, second = latest(rig), Told(), Told()
    connection, _peer, subscription = stalled(rig, topic, first)
    rig.until(lambda: not rig.engine.turn())
    known = len(first.gaps)
    assert connection.subscribe(topic, on_gap=second) is subscription
    topic.publish_all([message(n) for n in range(500)])
    rig.until(lambda: second.gaps)
    assert len(first.gaps) == known
    connection.subscribe(topic)
    known = len(second.gaps)
    dropped = subscription.account()["dropped"]
    topic.publish_all([message(n) for n in range(500)])
    rig.until(lambda: subscription.account()["dropped"] > dropped)
    rig.until(lambda: not rig.engine.turn())
    assert (len(first.gaps) > 0, len(second.gaps)) == (True, known)


def test_a_subscription_that_nobody_keeps_is_told_of_all_the_same(rig: Rig) -> None:
    topic, told = latest(rig), Told()
    _, _peer, subscription = stalled(rig, topic, told)
    told.subscriptions.clear()
    del subscription
    gc.collect()
    topic.publish_all([message(n) for n in range(500)])
    rig.until(lambda: told.subscriptions)
    assert told.subscriptions[0].topic is topic
    assert told.subscriptions[0].active


def test_a_subscription_begun_from_another_thread_is_told_of(rig: Rig) -> None:
    topic, told = latest(rig), Told()
    connection, _peer = rig.connect(receive_buffer=4096)
    rig.engine.turn()
    thread = threading.Thread(target=lambda: connection.subscribe(topic, on_gap=told))
    thread.start()
    thread.join()
    rig.until(lambda: topic.subscribers)
    while not told.gaps:
        topic.publish_all([message(n) for n in range(20)])
        rig.engine.turn()
    assert told.subscriptions[0].connection is connection


def test_one_that_was_refused_lets_go_of_its_callback(rig: Rig) -> None:
    topic, told = latest(rig), Told()
    connection, _peer = rig.connect()
    connection.close()
    gone = weakref.ref(told)
    with pytest.raises(ConnectionClosed):
        connection.subscribe(topic, on_gap=told)
    thread = threading.Thread(
        target=lambda on_gap: connection.subscribe(topic, on_gap=on_gap), args=(told,)
    )
    thread.start()
    thread.join()
    refused = rig.engine.counters()["staged_refused"]
    rig.until(lambda: rig.engine.counters()["staged_refused"] > refused)
    del told, thread
    rig.engine.turn()
    gc.collect()
    assert gone() is None


# Callbacks that do more.


def test_callbacks_are_bounded_in_time_and_go_on_in_the_next_turn(rig: Rig) -> None:
    topic = latest(rig)
    told: list[int] = []

    def slow(subscription: Subscription, _gap: Gap) -> None:
        told.append(subscription.connection.id)
        threading.Event().wait(0.002)

    several = [stalled(rig, topic, slow)[0] for _ in range(3)]
    rig.until(lambda: not rig.engine.turn())
    told.clear()
    topic.publish_all([message(n) for n in range(500)])
    seen: list[int] = []
    while len(told) < 3:
        rig.engine.turn()
        seen.append(len(told))
    assert seen[-3:] == [1, 2, 3]
    assert sorted(told) == sorted(connection.id for connection in several)


def test_a_callback_may_send_unsubscribe_and_publish(rig: Rig) -> None:
    topic = latest(rig)
    gaps: list[Gap] = []

    def tell(subscription: Subscription, gap: Gap) -> None:
        gaps.append(gap)
        subscription.connection.send_nowait(f"gap {gap.first} {gap.last}")
        topic.publish(message(0))
        subscription.unsubscribe()

    connection, peer = rig.connect(receive_buffer=4096)
    subscription = connection.subscribe(topic, on_gap=tell)
    topic.publish_all([message(n) for n in range(200)])
    rig.until(lambda: gaps)
    assert not subscription.active
    rig.until(lambda: peer.pull() and b"gap" in peer.payloads[-1])
    topic.publish_all([message(n) for n in range(500)])
    rig.until(lambda: not rig.engine.turn())
    assert len(gaps) == 1


def test_a_callback_that_raises_ends_its_connection_and_no_other(rig: Rig) -> None:
    topic, told = latest(rig), Told()

    def fail(_subscription: Subscription, _gap: Gap) -> None:
        raise ValueError("lost")

    rig.engine.on_error = None
    stalled(rig, topic, told)
    connection, _peer = rig.connect(receive_buffer=4096)
    connection.subscribe(topic, on_gap=fail)
    rig.until(lambda: topic.publish_all([message(1)] * 100) and connection in rig.closed)
    told.gaps.clear()
    topic.publish_all([message(n) for n in range(500)])
    rig.until(lambda: told.gaps)


def test_an_interrupt_leaves_the_turn_at_its_end(rig: Rig) -> None:
    topic = latest(rig)

    def interrupt(_subscription: Subscription, _gap: Gap) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stalled(rig, topic, interrupt)


async def never(_subscription: Subscription, _gap: Gap) -> None:
    raise AssertionError("nobody awaits this")


@pytest.mark.parametrize(("callback", "why"), [(never, "plain function"), (5, "function, not 5")])
def test_what_cannot_be_called_is_refused_at_once(rig: Rig, callback: Any, why: str) -> None:
    topic = latest(rig)
    connection, _peer = rig.connect()
    with pytest.raises(TypeError, match=why):
        connection.subscribe(topic, on_gap=callback)
    assert topic.subscribers == 0


# On a server.


class Board(App):
    """Tells what its clients lose, or fails at it."""

    def __init__(self, fails: bool) -> None:
        super().__init__()
        self.fails = fails
        self.gaps: list[Gap] = []

    def opened(self, connection: Connection, request: Request) -> None:
        topic = connection.engine.topic("t", on_slow="latest", max_lag=Lag(messages=10))
        connection.subscribe(topic, on_gap=self.told)

    def told(self, _subscription: Subscription, gap: Gap) -> None:
        self.gaps.append(gap)
        if self.fails:
            raise ZeroDivisionError


async def publish_until(topic: Topic, condition: Callable[[], object]) -> None:
    """Publish, and let the loop turn, until it holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            topic.publish_all([b"x" * 10_000] * 100)
            await asyncio.sleep(0)


def test_a_server_tells_of_losses(run: Run) -> None:
    async def story() -> None:
        board = Board(fails=False)
        async with serving(board) as (server, address), await websocket(address):
            await eventually(lambda: server.connections)
            await publish_until(server.topic("t"), lambda: board.gaps)
            assert server.connections

    run(story())


def test_a_server_logs_what_a_callback_raises_by_name_and_says_1011(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        board = Board(fails=True)
        async with serving(board) as (server, address), await websocket(address) as client:
            await eventually(lambda: server.connections)
            await publish_until(server.topic("t"), lambda: caplog.records)
            while (frame := await client.frame())[0] != CLOSE:
                pass
            assert frame == (CLOSE, FAILED)

    run(story())
    record = caplog.records[0]
    assert "Board.told" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
