"""X44, X45, X61: slow subscribers under each policy, and topics without end."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from handler_apps import eventually
from support import Peer, Rig, balances, message, numbers
from websockets.asyncio.client import ClientConnection, connect

from fastws import Connection, Gap, Lag, Limits, Topic, serve

KIB = 1024
MIB = 1024 * KIB
BURST = 100
Run = Callable[[Any], Any]


def publish(rig: Rig, topic: Topic, others: list[Peer]) -> None:
    """Publish a burst, and let those read who do."""
    first = topic.appended
    topic.publish_all([message(n) for n in range(first, first + BURST)])
    rig.until(lambda: all(len(peer.pull().payloads) == first + BURST for peer in others))


@pytest.mark.hostile("X44")
@pytest.mark.parametrize("policy", ["latest", "drop_oldest"])
def test_what_a_slow_one_misses_is_counted_and_told_and_others_get_all(
    rig: Rig, policy: Literal["latest", "drop_oldest"]
) -> None:
    topic = rig.engine.topic("t", on_slow=policy, max_lag=Lag(messages=50))
    others = [rig.subscribed(topic)[1] for _ in range(3)]
    connection, slow = rig.connect(receive_buffer=4 * KIB)
    gaps: list[Gap] = []
    subscription = connection.subscribe(topic, on_gap=lambda _, gap: gaps.append(gap))
    while len(gaps) < 3:
        publish(rig, topic, others)
        for _ in range(20):  # and it reads a little now and then
            slow.read()
            rig.engine.turn()
    rig.until(lambda: slow.pull() and subscription.account()["pending"] == 0)
    rig.until(lambda: len(slow.pull().payloads) == subscription.account()["delivered"])
    got, told = numbers(slow), [n for gap in gaps for n in range(gap.first, gap.last + 1)]
    assert got == sorted(set(got))
    assert got[-1] == topic.appended - 1
    assert sorted(got + told) == list(range(topic.appended))
    assert subscription.account()["dropped"] == topic.account()["dropped"] == len(told)
    assert [numbers(peer) for peer in others] == [list(range(topic.appended))] * 3
    assert balances(topic.account())


@pytest.mark.hostile("X45")
def test_one_past_the_limit_is_closed_and_cut_off_and_nobody_waits() -> None:
    with Rig(close_timeout=0.2) as rig:
        topic = rig.engine.topic("t", on_slow="close", max_lag=Lag(bytes=64 * KIB))
        others = [rig.subscribed(topic)[1] for _ in range(3)]
        connection, slow = rig.subscribed(topic, receive_buffer=4 * KIB)
        while connection.is_open:
            publish(rig, topic, others)  # it is never refused
        publish(rig, topic, others)
        assert rig.engine.counters()["slow_closed"] == 1
        assert connection.account()["dropped"] > 0
        rig.until(lambda: rig.closed == [connection])  # though it reads nothing
        assert rig.engine.counters()["close_timeouts"] == 1
        assert rig.engine.live == 3
        got = numbers(slow.pull())
        assert slow.ended
        assert got == list(range(len(got)))
        assert [numbers(peer) for peer in others] == [list(range(topic.appended))] * 3
        assert balances(topic.account())


def resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.hostile("X61")
def test_topics_that_one_client_names_end_with_its_subscriptions(run: Run) -> None:
    async def handler(ws: Connection) -> None:
        last: Topic | None = None
        async for name in ws:
            if last is not None:
                ws.unsubscribe(last)
            last = ws.subscribe(str(name)).topic
            last.publish(name)

    async def name_topics(ws: ClientConnection, first: int, last: int) -> None:
        for start in range(first, last, BURST):
            names = [f"room {n}" for n in range(start, start + BURST)]
            for name in names:
                await ws.send(name)
                assert await ws.recv() == name

    async def case() -> None:
        limits = Limits(max_subscriptions=1)
        async with serve(handler, "127.0.0.1", 0, limits=limits) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}", compression=None) as ws:
                await name_topics(ws, 0, 1000)
                before = resident()
                await name_topics(ws, 1000, 6000)
                assert resident() - before < MIB
                assert len(server.engine.topic_accounts(20)) <= 2
            await eventually(lambda: server.engine.topic_accounts(20) == {})

    run(case())
