"""Subscriptions to some keys of a topic: what they get, what was never published to them."""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import websockets.asyncio.client
from support import PATIENCE, Peer, Rig, balances

import fastws
from fastws import History, Lag, LogFull, Topic
from fastws._frame import deflate_available

KIB = 1024
SYMBOLS = ("BTC", "ETH", "SOL", "DOGE", "XRP")


def publish(topic: Topic, number: int, size: int = 0, **options: Any) -> str:
    """Message `number`, of the symbols by turns; its key."""
    symbol = SYMBOLS[number % 5]
    topic.publish(f"{symbol} {number} ".ljust(size, "."), key=symbol, **options)
    return symbol


def numbers(peer: Peer, symbols: tuple[str, ...]) -> list[int]:
    """Of the messages received, all of these symbols."""
    pairs = [payload.decode().split()[:2] for payload in peer.payloads]
    assert {symbol for symbol, _ in pairs} <= set(symbols)
    return [int(number) for _, number in pairs]


def take(rig: Rig, peer: Peer, symbols: tuple[str, ...], last: int) -> list[int]:
    """What arrives of these symbols up to that number."""
    rig.until(lambda: peer.pull() and (numbers(peer, symbols) or [-1])[-1] >= last)
    return numbers(peer, symbols)


def test_only_messages_of_its_keys_arrive_and_count(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, keys=["SOL", "BTC"])
    _, everything = rig.subscribed(topic)
    assert subscription.keys == ("SOL", "BTC")
    for number in range(100):
        publish(topic, number)
    assert take(rig, peer, ("BTC", "SOL"), 97) == [n for n in range(100) if n % 5 in (0, 2)]
    assert len(take(rig, everything, SYMBOLS, 99)) == 100
    account = subscription.account()
    assert (account["published"], account["delivered"]) == (40, 40)
    assert balances(account)
    assert topic.account()["published"] == 140
    assert balances(topic.account())


def test_a_client_without_news_is_not_sent_to(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, keys=("NONE", "YET"))
    sends = rig.engine.counters()["sends"]
    for number in range(100):
        publish(topic, number)
        rig.engine.turn()
    assert rig.engine.counters()["sends"] == sends
    assert subscription.account()["published"] == 0
    assert subscription.account()["lag_bytes"] == 0
    assert topic.account()["retained_bytes"] == 0  # nobody needs them
    topic.publish("NONE 100", key="NONE")
    assert take(rig, peer, ("NONE",), 100) == [100]


def test_messages_without_a_key_are_those_of_the_empty_one(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    keyed, keyed_peer = rig.connect()
    plain, plain_peer = rig.connect()
    keyed.subscribe(topic, keys=["BTC"])
    assert plain.subscribe(topic, keys=["", "BTC"]).keys == ("", "BTC")
    topic.publish("plain 1")
    publish(topic, 5)
    publish(topic, 6)
    topic.publish("plain 7")
    assert take(rig, plain_peer, ("plain", "BTC"), 7) == [1, 5, 7]
    assert take(rig, keyed_peer, ("BTC",), 5) == [5]


@pytest.mark.parametrize("on_slow", ["latest", "drop_oldest"])
def test_a_slow_client_loses_only_what_it_wanted(rig: Rig, on_slow: Any) -> None:
    topic = rig.engine.topic("t", on_slow=on_slow, max_lag=Lag(bytes=64 * KIB))
    connection, peer = rig.connect(receive_buffer=4 * KIB)
    gaps: list[fastws.Gap] = []
    wanted = ("ETH", "DOGE")
    subscription = connection.subscribe(topic, keys=wanted, on_gap=lambda _, gap: gaps.append(gap))
    for number in range(3000):
        publish(topic, number, KIB)
        if number % 20 == 0:
            rig.engine.turn()
    got = take(rig, peer, wanted, 2998)
    assert got == sorted(set(got))
    assert len(got) < 600
    account = subscription.account()
    assert account["published"] == 1200
    assert account["delivered"] == len(got)
    assert account["conflated"] + account["dropped"] == 1200 - len(got)
    assert account["pending"] == 0
    assert sum(gap.count for gap in gaps) == account["dropped"]
    assert (account["dropped"] == 0) == (on_slow == "latest")
    assert balances(topic.account())
    if on_slow == "latest":
        assert got[-2:] == [2996, 2998]


def test_messages_of_other_keys_are_no_lag(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(messages=10))
    connection, peer = rig.connect(receive_buffer=4 * KIB)
    subscription = connection.subscribe(topic, keys=["BTC"])
    publish(topic, 0, 4 << 20)  # more than the kernel takes
    rig.until(lambda: connection.account()["pending"] == 1)
    for number in range(1, 50):  # nine of them are its own
        publish(topic, number)
    for _ in range(10):
        rig.engine.turn(0.1)
    assert subscription.active
    assert take(rig, peer, ("BTC",), 45) == list(range(0, 50, 5))


def test_one_that_is_too_slow_is_closed(rig: Rig) -> None:
    topic = rig.engine.topic("t", max_lag=Lag(messages=10))
    connection, _ = rig.connect(receive_buffer=4 * KIB)
    connection.subscribe(topic, keys=["BTC"])
    publish(topic, 0, 4 << 20)
    rig.until(lambda: connection.account()["pending"] == 1)
    for number in range(1, 60):  # eleven
        publish(topic, number)
    rig.until(lambda: rig.engine.counters()["slow_closed"] == 1)
    account = topic.account()
    assert (account["published"], account["subscribers"]) == (12, 0)
    assert balances(account)


def test_a_lossless_one_holds_the_publisher(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="lossless", max_lag=Lag(bytes=64 * KIB))
    connection, peer = rig.connect(receive_buffer=4 * KIB)
    subscription = connection.subscribe(topic, keys=["BTC"])
    number = 0
    while number < 10_000:
        try:
            publish(topic, number, KIB)
            number += 1
        except LogFull:
            rig.engine.turn()
            peer.read()
    last = number - 5
    assert take(rig, peer, ("BTC",), last) == list(range(0, number, 5))
    assert subscription.account()["delivered"] == number // 5


def test_since_replays_its_keys_exactly_once(rig: Rig) -> None:
    topic = rig.engine.topic("t", history=History(messages=10_000))
    expected: list[int] = []
    got: list[int] = []
    place = (topic.epoch, -1)
    rng = random.Random(5)
    number = 0
    for _ in range(40):
        connection, peer = rig.connect()
        subscription = connection.subscribe(topic, since=place, keys=["ETH", "XRP"])
        assert subscription.recovered is True
        for _ in range(rng.randrange(60)):
            if publish(topic, number) in ("ETH", "XRP"):
                expected.append(number)
            number += 1
            if rng.random() < 0.2:
                rig.engine.turn()
        rig.until(lambda: not topic.account()["pending"])
        place = (subscription.epoch, subscription.seq)
        subscription.unsubscribe()
        rig.until(lambda: peer.pull() and len(got) + len(peer.payloads) >= len(expected))  # noqa: B023
        got += numbers(peer, ("ETH", "XRP"))
    assert got == expected
    assert balances(topic.account())


def test_a_new_client_begins_with_the_retained_messages_of_its_keys(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest", retain=True)
    for number in range(3000):
        publish(topic, number if number < 5 else number - number % 5)  # later BTC alone
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, keys=["BTC", "SOL", "NEW"])
    assert subscription.account()["published"] == 2
    publish(topic, 3000)
    topic.publish("NEW 3001", key="NEW")
    # The retained BTC was left out for the newer one before it could be sent.
    assert take(rig, peer, ("BTC", "SOL", "NEW"), 3001) == [2, 3000, 3001]
    account = subscription.account()
    assert (account["delivered"], account["conflated"]) == (3, 1)
    assert balances(topic.account())


def test_an_excluded_message_of_another_key_counts_once(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, keys=["BTC"])
    for number in range(100):
        publish(topic, number, exclude=connection if number % 2 else None)
    assert take(rig, peer, ("BTC",), 90) == list(range(0, 100, 10))
    assert subscription.account()["published"] == 10
    assert balances(topic.account())


@pytest.mark.parametrize("end", ["unsubscribe", "abort", "close_topic", "peer"])
def test_what_waits_is_dropped_at_its_end(rig: Rig, end: str) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    connection, peer = rig.connect(receive_buffer=4 * KIB)
    subscription = connection.subscribe(topic, keys=["BTC", "ETH"])
    for number in range(5000):
        publish(topic, number, KIB)
    rig.engine.turn()
    assert subscription.account()["published"] == 2000
    assert subscription.account()["pending"] > 0
    before = rig.engine.account()
    if end == "unsubscribe":
        subscription.unsubscribe()
    elif end == "abort":
        connection.abort()
    elif end == "close_topic":
        topic.close()
    else:
        peer.sock.close()
    if end in ("abort", "peer"):
        rig.until(lambda: connection in rig.closed)
    after = rig.engine.account()
    assert before["published"] == after["published"] == 2000
    assert balances(after)
    assert after["dropped"] > before["dropped"]
    connection_ended = end in ("abort", "peer")
    assert after["pending"] == 0 or not connection_ended  # a half-sent message leaves whole


def test_a_topic_whose_filters_are_gone_goes_too(rig: Rig) -> None:
    connection, _ = rig.connect()
    connection.subscribe("t", keys=[f"K{n}" for n in range(64)])
    rig.engine.turn()
    topic = rig.engine.find_topic("t")
    assert topic is not None
    connection.unsubscribe(topic)
    del topic
    rig.engine.turn()
    assert rig.engine.find_topic("t") is None


def test_other_keys_need_another_subscription(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, keys=["BTC", "ETH"])
    assert connection.subscribe(topic, keys=["ETH", "BTC", "ETH"], on_slow="latest") is subscription
    assert subscription.on_slow == "latest"
    for keys in (["BTC"], ["BTC", "ETH", "SOL"], None):
        with pytest.raises(ValueError, match="unsubscribe first"):
            connection.subscribe(topic, keys=keys)
    assert subscription.keys == ("BTC", "ETH")
    subscription.unsubscribe()
    again = connection.subscribe(topic)
    assert again.keys is None
    with pytest.raises(ValueError, match="unsubscribe first"):
        connection.subscribe(topic, keys=["BTC"])
    publish(topic, 3)
    assert take(rig, peer, ("DOGE",), 3) == [3]


@pytest.mark.parametrize("keys", [[], [f"{n}" for n in range(65)], ["x" * 256], ["ü" * 128]])
def test_keys_out_of_range_are_refused(rig: Rig, keys: list[str]) -> None:
    connection, _ = rig.connect()
    with pytest.raises(ValueError, match="key"):
        connection.subscribe("t", keys=keys)


@pytest.mark.parametrize("keys", ["BTC", b"BTC", [b"BTC"], [1], 5])
def test_keys_of_another_type_are_refused(rig: Rig, keys: Any) -> None:
    connection, _ = rig.connect()
    with pytest.raises(TypeError):
        connection.subscribe("t", keys=keys)


def test_as_many_and_as_long_as_may_be(rig: Rig) -> None:
    keys = [f"{n:03}" + "k" * 252 for n in range(64)]
    connection, peer = rig.connect()
    subscription = connection.subscribe("t", keys=keys)
    assert subscription.keys == tuple(keys)
    for number, key in enumerate([*keys, "another"]):
        subscription.topic.publish(f"key {number}", key=key)
    assert take(rig, peer, ("key",), 63) == list(range(64))


def test_keys_are_staged_from_another_thread(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()
    found: list[fastws.Subscription] = []
    keys = ["SOL", "ETH"]

    def subscribe() -> None:
        found.append(connection.subscribe(topic, keys=keys))
        keys.clear()

    thread = threading.Thread(target=subscribe)
    thread.start()
    thread.join()
    rig.engine.turn()
    assert found[0].keys == ("SOL", "ETH")
    for number in range(10):
        publish(topic, number)
    assert take(rig, peer, ("SOL", "ETH"), 7) == [1, 2, 6, 7]
    thread = threading.Thread(target=lambda: connection.subscribe(topic, keys=["BTC"]))
    thread.start()
    thread.join()
    refused = rig.engine.counters()["staged_refused"]
    rig.engine.turn()
    assert rig.engine.counters()["staged_refused"] == refused + 1
    assert found[0].keys == ("SOL", "ETH")


def test_max_rate_holds_its_keys_back(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic, keys=["BTC", "ETH"], max_rate=20)
    for number in range(1000):
        publish(topic, number)
        if number % 10 == 0:
            rig.engine.turn()
            peer.read()
    got = take(rig, peer, ("BTC", "ETH"), 996)
    assert got[-2:] == [995, 996]
    account = subscription.account()
    assert account["published"] == 400
    assert account["conflated"] == 400 - len(got) > 0
    assert balances(account)


async def two_topics_and_two_clients() -> tuple[list[str], list[str]]:
    """What a client with keys of two topics gets, and one without any, over a server."""
    subscribed = asyncio.Queue[None]()

    async def handler(ws: fastws.Connection) -> None:
        some = {"keys": ["BTC", "XRP"]} if ws.request.path == "/some" else {}
        ws.subscribe("left", **some)
        ws.subscribe("right", **some)
        subscribed.put_nowait(None)
        await ws.wait_closed()

    async with fastws.serve(handler, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        async with (
            fastws.connect(f"ws://{host}:{port}/some") as some,
            fastws.connect(f"ws://{host}:{port}/all") as all_of_them,
        ):
            for _ in range(2):
                await asyncio.wait_for(subscribed.get(), PATIENCE)
            for number in range(200):
                topic = server.topic("left" if number % 3 else "right")
                publish(topic, number)
                if number % 20 == 0:
                    await asyncio.sleep(0)
            expected = [n for n in range(200) if n % 5 in (0, 4)]
            received = [await asyncio.wait_for(some.recv(), PATIENCE) for _ in expected]
            everything = [await asyncio.wait_for(all_of_them.recv(), PATIENCE) for _ in range(200)]
    return [str(message) for message in received], [str(message) for message in everything]


def test_the_order_across_topics_holds_with_keys(run: Callable[[Any], Any]) -> None:
    received, everything = run(two_topics_and_two_clients())
    assert received == [text for text in everything if text.split()[0] in ("BTC", "XRP")]
    assert [int(text.split()[1]) for text in everything] == list(range(200))


async def over_compressed_connections() -> list[str]:
    subscribed = asyncio.Event()

    async def handler(ws: fastws.Connection) -> None:
        ws.subscribe("t", keys=["SOL"])
        subscribed.set()
        await ws.wait_closed()

    async with fastws.serve(handler, "127.0.0.1", 0, deflate=True) as server:
        host, port = server.sockets[0].getsockname()[:2]
        async with websockets.asyncio.client.connect(f"ws://{host}:{port}/") as ws:
            await subscribed.wait()
            for number in range(500):
                publish(server.topic("t"), number, KIB)
            received = [str(await asyncio.wait_for(ws.recv(), PATIENCE)) for _ in range(100)]
        assert server.engine.counters()["deflated"] >= 100
    return received


@pytest.mark.skipif(not deflate_available(), reason="built without zlib")
def test_compressed_messages_are_filtered_as_well(run: Callable[[Any], Any]) -> None:
    received = run(over_compressed_connections())
    assert [int(text.split()[1]) for text in received] == list(range(2, 500, 5))
