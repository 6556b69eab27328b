"""A subscription with a max_rate: how often it is sent to, what it gets, what it counts."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support import PATIENCE, Rig, balances

import fastws


def test_the_newest_of_each_key_at_that_rate(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, max_rate=50)
    assert subscription.max_rate == 50
    began, number = time.monotonic(), 0
    while time.monotonic() - began < 1:
        number += 1
        topic.publish(f"{number % 3} {number}", key=str(number % 3))
        rig.engine.turn(0.0001)
        peer.read()
    rig.until(lambda: subscription.account()["pending"] == 0)
    rig.until(lambda: peer.read() or True)
    got = [tuple(map(int, payload.decode().split())) for _, payload in peer.frames]
    newest = dict(got)
    assert newest == {n % 3: n for n in range(number - 2, number + 1)}  # what came last arrives
    assert [n for _, n in got] == sorted(n for _, n in got)
    times = Counter(key for key, _ in got)
    assert all(25 <= count <= 53 for count in times.values())  # 50 a second and the first, the last
    account = subscription.account()
    assert balances(account)
    assert account["dropped"] == 0
    assert account["conflated"] == number - len(got)


def test_others_get_every_message_at_once(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    limited, _ = rig.connect()
    limited.subscribe(topic, max_rate=0.1)
    _, peer = rig.subscribed(topic)
    for number in range(1000):
        topic.publish(str(number))
    rig.until(lambda: peer.read() is None or len(peer.frames) == 1000)
    assert balances(topic.account())


def test_with_another_policy_nothing_is_left_out(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, max_rate=100)
    bursts = 0
    for number in range(300):
        topic.publish(str(number))
        rig.engine.turn(0.0005)
        before = len(peer.frames)
        peer.read()
        bursts += len(peer.frames) > before
    rig.until(lambda: peer.read() is None or len(peer.frames) == 300)
    assert [payload for _, payload in peer.frames] == [b"%d" % n for n in range(300)]
    assert bursts < 100
    assert subscription.account()["delivered"] == 300


def test_what_waits_leaves_before_a_close(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    connection.subscribe(topic, max_rate=0.1)
    topic.publish("first")
    rig.until(lambda: peer.read() is None or peer.frames)
    topic.publish("last")
    rig.engine.turn()
    assert connection.account()["pending"] == 1
    connection.close()
    rig.until(lambda: peer.read() is None or len(peer.frames) == 3)
    assert peer.frames[1][1] == b"last"


def test_an_unsubscribed_one_counts_what_waits_as_dropped(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, _ = rig.connect()
    subscription = connection.subscribe(topic, max_rate=0.1)
    for _ in range(3):
        topic.publish("x")
        rig.engine.turn()
    subscription.unsubscribe()
    rig.engine.turn()
    account = topic.account()
    assert balances(account)
    assert (account["delivered"], account["dropped"], account["pending"]) == (1, 2, 0)


def test_it_can_be_changed_and_taken_away(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, max_rate=0.1)
    assert connection.subscribe(topic) is subscription
    assert subscription.max_rate is None
    for number in range(3):
        topic.publish(str(number))
    rig.until(lambda: peer.read() is None or len(peer.frames) == 3)


@pytest.mark.parametrize("rate", [0, 0.05, -1, 1001, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused(rig: Rig, rate: float) -> None:
    connection, _ = rig.connect()
    with pytest.raises(ValueError, match=r"max_rate must be 0\.1 to 1000 a second"):
        connection.subscribe("t", max_rate=rate)


@pytest.mark.parametrize("rate", ["60", True])
def test_a_rate_of_another_type_is_refused(rig: Rig, rate: Any) -> None:
    connection, _ = rig.connect()
    with pytest.raises(TypeError, match="max_rate must be a number"):
        connection.subscribe("t", max_rate=rate)


def test_a_lossless_subscription_has_none(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="lossless")
    connection, _ = rig.connect()
    with pytest.raises(ValueError, match="max_rate is not for a lossless subscription"):
        connection.subscribe(topic, max_rate=60)


async def wait_for_the_second() -> float:
    """How long the second of two messages took, with nothing else to wake the engine."""
    subscribed = asyncio.Event()

    async def handler(ws: fastws.Connection) -> None:
        ws.subscribe("t", max_rate=20)
        subscribed.set()
        await ws.wait_closed()

    async with fastws.serve(handler, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        async with fastws.connect(f"ws://{host}:{port}/") as ws:
            topic = server.topic("t")
            await subscribed.wait()
            topic.publish("first")
            assert await asyncio.wait_for(ws.recv(), PATIENCE) == "first"
            topic.publish("second")
            began = time.monotonic()
            assert await asyncio.wait_for(ws.recv(), PATIENCE) == "second"
            return time.monotonic() - began


def test_the_engine_s_timer_sends_what_waits(run: Callable[[Any], Any]) -> None:
    assert run(wait_for_the_second()) > 0.01
