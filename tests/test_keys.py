"""Messages with keys: a slow client gets the newest of each, a new one the retained ones."""

import json
from typing import Any

import pytest
from support import Peer, Rig, balances

import fastws
from fastws import Lag, Topic

KIB = 1024
MIB = 1024 * KIB


def quotes(rig: Rig, peer: Peer, last: str) -> list[tuple[str, int]]:
    """What arrives up to that text: keys and numbers."""
    got: list[tuple[str, int]] = []
    while not got or f"{got[-1][0]} {got[-1][1]}" != last:
        rig.until(lambda: peer.frames or (peer.read() and peer.frames))
        symbol, number = peer.frames.pop(0)[1].decode().split()[:2]
        got.append((symbol, int(number)))
    return got


def publish(topic: Topic, symbol: str, number: int) -> None:
    topic.publish(f"{symbol} {number} ".ljust(KIB, "."), key=symbol)


def test_a_slow_client_gets_the_newest_of_each_key(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", max_lag=Lag(bytes=64 * KIB))
    _, peer = rig.subscribed(topic, receive_buffer=4 * KIB)
    symbols = [f"S{n}" for n in range(20)]
    for number in range(2000):
        publish(topic, symbols[number % 20] if number > 50 else "RARE", number)
        if number % 20 == 0:
            rig.engine.turn()
    rig.engine.turn()
    got = quotes(rig, peer, "S19 1999")
    numbers = [number for _, number in got]
    assert numbers == sorted(numbers)
    newest = dict(got)
    assert newest == {"RARE": 50} | {symbols[n % 20]: n for n in range(1980, 2000)}
    account = topic.account()
    assert balances(account)
    assert account["conflated"] == 2000 - len(got) > 0
    assert account["dropped"] == account["pending"] == 0


def test_who_keeps_up_gets_every_message(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", max_lag=Lag(messages=100))
    connection, peer = rig.subscribed(topic)
    for number in range(50):
        publish(topic, f"S{number % 3}", number)
    assert [number for _, number in quotes(rig, peer, "S1 49")] == list(range(50))
    assert connection.account()["conflated"] == 0


def test_a_new_client_begins_with_the_retained_message_of_each_key(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", retain=True)
    for number in range(3000):
        publish(topic, f"S{number % 7}" if number >= 10 else f"OLD{number}", number)
    connection, peer = rig.connect()
    assert connection.subscribe(topic).recovered is None
    publish(topic, "LIVE", 0)
    got = quotes(rig, peer, "LIVE 0")
    assert got[:10] == [(f"OLD{n}", n) for n in range(10)]
    assert [number for _, number in got[10:-1]] == list(range(2993, 3000))
    assert balances(topic.account())


def test_a_message_without_a_key_is_one_of_its_own_kind(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", retain=True)
    publish(topic, "A", 1)
    for number in range(5):
        topic.publish(f"none {number}")
    publish(topic, "B", 1)
    connection, peer = rig.connect()
    connection.subscribe(topic)
    assert quotes(rig, peer, "B 1") == [("A", 1), ("none", 4), ("B", 1)]


def test_a_snapshot_has_the_newest_message_of_each_key(rig: Rig) -> None:
    topic = rig.engine.topic("t", retain=True)
    assert topic.snapshot() == {}
    for number in range(3000):
        publish(topic, f"S{number % 3}" if number >= 3 else f"OLD{number}", number)
    topic.publish("no key")
    found = topic.snapshot()
    assert list(found) == ["OLD0", "OLD1", "OLD2", "S0", "S1", "S2", ""]
    assert [message.seq for message in found.values()] == [0, 1, 2, 2997, 2998, 2999, 3000]
    assert found["S1"].data.split()[:2] == ["S1", "2998"]
    assert found[""].data == "no key"
    assert topic.retained == found[""]


def test_without_retain_there_is_no_snapshot(rig: Rig) -> None:
    topic = rig.engine.topic("t", history=fastws.History(messages=10))
    publish(topic, "A", 1)
    assert topic.snapshot() == {}


def test_publish_all_takes_one_key_for_all(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", retain=True)
    assert topic.publish_all(["a 1", "a 2", "a 3"], key="a") == 3
    publish(topic, "b", 1)
    connection, peer = rig.connect()
    connection.subscribe(topic)
    assert quotes(rig, peer, "b 1") == [("a", 3), ("b", 1)]


@pytest.mark.parametrize(
    ("key", "error"),
    [("", ValueError), ("x" * 256, ValueError), ("é" * 128, ValueError), (7, TypeError)],
)
def test_what_is_no_key_is_an_error(rig: Rig, key: Any, error: type[Exception]) -> None:
    topic = rig.engine.topic("t")
    with pytest.raises(error):
        topic.publish("x", key=key)
    assert topic.appended == 0
    topic.publish("x", key="é" * 127)


@pytest.mark.parametrize("on_slow", ["close", "drop_oldest", "lossless"])
def test_who_may_miss_nothing_begins_with_the_newest_message_alone(rig: Rig, on_slow: Any) -> None:
    topic = rig.engine.topic("t", retain=True)
    for number in range(3):
        publish(topic, f"S{number}", number)
    connection, peer = rig.connect()
    connection.subscribe(topic, on_slow=on_slow)
    for number in range(3, 13):
        publish(topic, "SAME", number)
    got = quotes(rig, peer, "SAME 12")
    assert got == [("S2", 2), *(("SAME", number) for number in range(3, 13))]
    assert connection.account()["conflated"] == 0


def test_a_snapshot_counts_only_what_it_has(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", retain=True)
    for number in range(5000):
        publish(topic, f"S{number % 4}", number)
    connection, _ = rig.connect()
    subscription = connection.subscribe(topic)
    assert subscription.account()["published"] == 4


def test_keys_without_end_are_bounded_by_the_budget() -> None:
    with Rig(max_log_bytes=2 * MIB) as rig:
        topic = rig.engine.topic("t", on_slow="latest", retain=True)
        for number in range(60_000):
            topic.publish("x", key=f"key {number}")
        assert topic.account()["retained_bytes"] <= 2 * MIB
        connection, peer = rig.connect()
        begins = connection.subscribe(topic).account()["published"]
        assert 1000 < begins < 60_000
        rig.until(lambda: peer.pull() and len(peer.frames) == begins)


def test_once_the_topic_has_keys_the_key_of_a_tick_is_its_symbol(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", max_lag=Lag(bytes=64 * KIB))
    rig.engine.start_source(topic, seed=1)
    _, peer = rig.subscribed(topic, receive_buffer=4 * KIB)
    publish(topic, "A", 1)
    rig.engine.set_rate(1_000_000)
    rig.until(lambda: topic.account()["pending"] > 100_000)
    rig.until(lambda: peer.pull() and topic.account()["conflated"] > 0)
    topic.configure(retain=True)
    connection, other = rig.connect()
    connection.subscribe(topic)
    rig.until(lambda: other.pull().frames and peer.pull().frames)
    rig.engine.set_rate(0)
    rig.engine.turn()
    newest = topic.snapshot()
    assert {"BTC", "ETH", "SOL", "DOGE", "XRP"} <= set(newest)
    for symbol in set(newest) - {"", "A"}:
        assert json.loads(newest[symbol].data)["symbol"] == symbol
    assert balances(topic.account())


@pytest.mark.parametrize("rate", [20_000, "max"])
def test_a_display_gets_the_newest_tick_of_each_symbol(rig: Rig, rate: Any) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    rig.engine.start_source(topic, seed=1, fields="seq")
    _, everything = rig.subscribed(topic)
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, max_rate=50)
    rig.engine.set_rate(rate)
    rig.until(lambda: everything.pull() and len(peer.pull().frames) > 100)
    rig.engine.set_rate(0)
    rig.until(lambda: everything.pull() and topic.account()["pending"] == 0)
    rig.until(lambda: len(peer.pull().frames) == subscription.account()["delivered"])
    others = topic.account()["delivered"] - len(peer.frames)
    rig.until(lambda: len(everything.pull().frames) == others)
    got = [json.loads(payload) for payload in peer.payloads]
    newest = {tick["symbol"]: tick["seq"] for tick in map(json.loads, everything.payloads)}
    seqs = [tick["seq"] for tick in got]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] == topic.seq
    assert {tick["symbol"]: tick["seq"] for tick in got} == newest
    account = subscription.account()
    assert balances(account)
    assert account["conflated"] == account["published"] - len(got)
