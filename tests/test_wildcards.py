"""ws.subscribe_pattern("prices.*"): all topics whose names begin so, later ones too."""

import gc
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import eventually, serving, websocket
from support import TEXT, Peer, Rig, balances, message

from fastws import (
    App,
    Connection,
    ConnectionClosed,
    Gap,
    History,
    Lag,
    Request,
    Wildcard,
)
from fastws.errors import SubscriptionLimit

Run = Callable[[Any], Any]


def texts(rig: Rig, peer: Peer, n: int) -> list[str]:
    """The first n messages, and no more."""
    rig.until(lambda: len(peer.pull().payloads) >= n)
    rig.until(lambda: not rig.engine.turn())
    found = [payload.decode() for payload in peer.pull().payloads]
    assert len(found) == n, found
    peer.frames.clear()
    return found


def publish(rig: Rig, *names: str) -> None:
    """To each topic a message that says its name; nothing keeps the topics."""
    for name in names:
        rig.engine.topic(name).publish(name)


def rest(rig: Rig) -> None:
    rig.until(lambda: not rig.engine.turn())


# What matches.


def test_topics_that_are_there_and_those_made_later_come_in_the_order_of_publishing(
    rig: Rig,
) -> None:
    present = [rig.engine.topic(f"prices.{n}") for n in range(3)]
    others = rig.engine.topic("price"), rig.engine.topic("news")
    connection, peer = rig.connect()
    wildcard = connection.subscribe_pattern("prices.*")
    assert isinstance(wildcard, Wildcard)
    assert wildcard.active
    assert (wildcard.connection, wildcard.pattern) == (connection, "prices.*")
    names = ["prices.0", "news", "prices.9", "prices.1", "price", "prices.", "prices.9", "prices.0"]
    publish(rig, *names)
    assert texts(rig, peer, 6) == [name for name in names if name.startswith("prices.")]
    assert sorted(wildcard.topics) == ["prices.0", "prices.1", "prices.2"]
    assert all(topic.subscribers == 0 for topic in others)
    assert all(topic.subscribers == 1 for topic in present)


def test_a_star_alone_is_every_topic(rig: Rig) -> None:
    connection, peer = rig.connect()
    connection.subscribe_pattern("*")
    publish(rig, "a", "", "é", "x" * 1024)
    assert texts(rig, peer, 4) == ["a", "", "é", "x" * 1024]


@pytest.mark.parametrize("prefix", ["", "p", "é", "x" * 254, "x" * 255])
def test_prefixes_of_every_length(rig: Rig, prefix: str) -> None:
    connection, peer = rig.connect()
    wildcard = connection.subscribe_pattern(f"{prefix}*")
    publish(rig, prefix, f"{prefix}z", "other"[: 5 if prefix else 0])
    expected = [prefix, f"{prefix}z"] if prefix else ["", "z", ""]
    assert texts(rig, peer, len(expected)) == expected
    wildcard.unsubscribe()


@pytest.mark.parametrize("pattern", ["", "a", "a*b", "a*b*", "**", "*a*", "x" * 256 + "*"])
def test_what_is_no_pattern_is_refused(rig: Rig, pattern: str) -> None:
    connection, _peer = rig.connect()
    with pytest.raises(ValueError, match="pattern"):
        connection.subscribe_pattern(pattern)


def test_a_star_in_a_name_is_a_star(rig: Rig) -> None:
    connection, peer = rig.connect()
    kept = rig.engine.topic("ab")
    names = ["*", "a*", "a*b"]
    subscriptions = [connection.subscribe(name) for name in names]
    assert [subscription.topic.name for subscription in subscriptions] == names
    publish(rig, "*", "ab", "a*", "a*b")
    assert texts(rig, peer, 3) == names
    assert kept.subscribers == 0


def test_a_thousand_patterns_and_names_agree_with_what_begins_so(rig: Rig) -> None:
    chance = random.Random(5)
    several = [rig.connect() for _ in range(4)]
    asked: dict[Connection, set[str]] = {connection: set() for connection, _ in several}
    got: dict[Connection, list[str]] = {connection: [] for connection, _ in several}
    due: dict[Connection, list[str]] = {connection: [] for connection, _ in several}

    def name() -> str:
        return "".join(chance.choice("ab.") for _ in range(chance.randrange(6)))

    for _ in range(1000):
        connection, _ = chance.choice(several)
        prefix = name()
        if chance.random() < 0.5 and len(asked[connection]) < 60:
            connection.subscribe_pattern(f"{prefix}*")
            asked[connection].add(prefix)
        elif asked[connection] and chance.random() < 0.5:
            prefix = chance.choice(sorted(asked[connection]))
            connection.subscribe_pattern(f"{prefix}*").unsubscribe()
            asked[connection].discard(prefix)
        else:
            text = name()
            publish(rig, text)
            for each, prefixes in asked.items():
                if any(text.startswith(begin) for begin in prefixes):
                    due[each].append(text)
        rest(rig)
        for each, its_peer in several:
            its_peer.pull()
            got[each] += [payload.decode() for payload in its_peer.payloads]
            its_peer.frames.clear()
    rig.until(
        lambda: all(
            not its_peer.pull().payloads and rig.engine.account()["pending"] == 0
            for _, its_peer in several
        )
    )
    assert got == due
    assert sum(map(len, due.values())) > 200
    assert balances(rig.engine.account())


# More than one of a connection.


def test_patterns_that_overlap_and_a_name_give_each_message_once(rig: Rig) -> None:
    connection, peer = rig.connect()
    broad, narrow = connection.subscribe_pattern("a.*"), connection.subscribe_pattern("a.b.*")
    kept = [rig.engine.topic(name) for name in ("a.b.c", "a.x")]
    explicit = connection.subscribe("a.b.c")
    publish(rig, "a.b.c", "a.b.d", "a.x")
    assert texts(rig, peer, 3) == ["a.b.c", "a.b.d", "a.x"]
    assert broad.topics == ["a.x"]
    assert explicit.active
    explicit.unsubscribe()
    publish(rig, "a.b.c")
    assert texts(rig, peer, 1) == ["a.b.c"]
    assert not explicit.active
    narrow.unsubscribe()
    publish(rig, "a.b.c")
    assert texts(rig, peer, 1) == ["a.b.c"]
    broad.unsubscribe()
    publish(rig, "a.b.c")
    assert texts(rig, peer, 0) == []
    assert [topic.subscribers for topic in kept] == [0, 0]
    assert not broad.active
    assert not narrow.active


def test_the_explicit_one_has_its_own_options_and_the_longest_pattern_of_several(rig: Rig) -> None:
    topic = rig.engine.topic("a.b.c")
    connection, _peer = rig.connect()
    seen: list[str] = []

    def policy() -> str:
        return connection.subscribe(topic).on_slow

    connection.subscribe_pattern("a.*", on_slow="latest")
    connection.subscribe_pattern("a.b.*", on_slow="drop_oldest")
    explicit = connection.subscribe(topic, on_slow="latest", max_lag=Lag(messages=3))
    assert explicit.on_slow == "latest"
    connection.subscribe_pattern("a.b*", on_slow="lossless")
    assert explicit.on_slow == "latest"
    assert explicit.max_lag.messages == 3
    explicit.unsubscribe()
    seen.append(policy())
    assert seen == ["close"]


def test_unsubscribing_twice_or_when_it_has_ended_does_nothing(rig: Rig) -> None:
    connection, _peer = rig.connect()
    wildcard = connection.subscribe_pattern("a*")
    wildcard.unsubscribe()
    again = connection.subscribe_pattern("a*")
    wildcard.unsubscribe()
    assert again.active
    assert connection.subscribe_pattern("a*") is again
    connection.abort()
    rig.until(lambda: rig.closed)
    assert not again.active
    assert again.topics == []
    again.unsubscribe()
    with pytest.raises(ConnectionClosed):
        connection.subscribe_pattern("a*")


def test_there_are_at_most_64_of_a_connection(rig: Rig) -> None:
    connection, _peer = rig.connect()
    for n in range(64):
        connection.subscribe_pattern(f"{n}.*")
    connection.subscribe_pattern("0.*")
    with pytest.raises(SubscriptionLimit, match="64"):
        connection.subscribe_pattern("more*")


def test_topics_of_a_wildcard_do_not_count_in_max_subscriptions() -> None:
    with Rig(max_subscriptions=3) as rig:
        kept = [rig.engine.topic(f"a.{n}") for n in range(10)]
        connection, _peer = rig.connect()
        wildcard = connection.subscribe_pattern("a.*")
        for n in range(3):
            connection.subscribe(f"b.{n}")
        with pytest.raises(SubscriptionLimit):
            connection.subscribe("c")
        assert len(wildcard.topics) == len(kept)


# Options and losses.


def test_options_are_merged_with_those_of_each_topic(rig: Rig) -> None:
    for name, options in {
        "a.1": {},
        "a.2": {"on_slow": "latest", "max_lag": Lag(messages=9)},
    }.items():
        rig.engine.topic(
            name, retention_bytes=1 << 20, **{"max_lag": Lag(bytes=1 << 20), **options}
        )
    gaps: dict[str, Gap] = {}
    connection, _peer = rig.connect(receive_buffer=4096)
    connection.subscribe_pattern(
        "a.*",
        on_slow="drop_oldest",
        max_lag=Lag(messages=5),
        on_gap=lambda subscription, gap: gaps.update({subscription.topic.name: gap}),
    )
    for name in ("a.1", "a.2"):
        rig.engine.topic(name).publish_all([message(n) for n in range(100)])
    rig.until(lambda: len(gaps) == 2)
    assert {gap.reason for gap in gaps.values()} == {"slow"}
    assert gaps["a.2"].last == 94


def test_the_callback_goes_with_the_wildcard_not_with_one_of_its_topics(rig: Rig) -> None:
    gaps: list[str] = []
    connection, _peer = rig.connect(receive_buffer=4096)
    wildcard = connection.subscribe_pattern(
        "a.*",
        on_slow="latest",
        max_lag=Lag(messages=5),
        on_gap=lambda subscription, gap: gaps.append(subscription.topic.name),
    )
    first, second = rig.engine.topic("a.1"), rig.engine.topic("a.2")
    first.close()
    rest(rig)
    second.publish_all([message(n) for n in range(200)])
    rig.until(lambda: gaps)
    assert set(gaps) == {"a.2"}
    wildcard.unsubscribe()
    rest(rig)
    assert second.subscribers == 0


def test_keys_are_for_each_topic_and_explicit_ones_begin_anew_with_others(rig: Rig) -> None:
    connection, peer = rig.connect()
    kept = [rig.engine.topic(f"a.{n}") for n in range(2)]
    connection.subscribe_pattern("a.*", keys=["x"])
    narrow = connection.subscribe_pattern("a.0*", keys=["x", "y"])
    explicit = connection.subscribe("a.1", keys=["z"])
    assert explicit.active
    for key in "xyz":
        for topic in kept:
            topic.publish(f"{topic.name} {key}", key=key)
    assert texts(rig, peer, 3) == ["a.0 x", "a.0 y", "a.1 z"]
    explicit.unsubscribe()
    narrow.unsubscribe()
    for key in "xyz":
        for topic in kept:
            topic.publish(f"{topic.name} {key}", key=key)
    assert texts(rig, peer, 2) == ["a.0 x", "a.1 x"]


def test_an_explicit_one_may_go_back_where_a_pattern_has_begun(rig: Rig) -> None:
    topic = rig.engine.topic("a.1", history=History(messages=10))
    topic.publish_all(["0", "1", "2"])
    connection, peer = rig.connect()
    connection.subscribe_pattern("a.*")
    subscription = connection.subscribe(topic, since=(topic.epoch, 0))
    assert subscription.recovered
    topic.publish("3")
    assert texts(rig, peer, 3) == ["1", "2", "3"]


def test_max_rate_is_for_each_topic(rig: Rig) -> None:
    connection, peer = rig.connect()
    connection.subscribe_pattern("a.*", on_slow="latest", max_rate=2)
    kept = rig.engine.topic("a.1")
    kept.publish("0")
    rig.until(lambda: peer.pull().payloads)
    for n in range(1, 20):
        kept.publish(f"{n}")
        rig.engine.turn()
    rig.until(lambda: b"19" in peer.pull().payloads)
    assert peer.payloads == [b"0", b"19"]


def test_a_rate_is_not_for_a_lossless_pattern(rig: Rig) -> None:
    connection, _peer = rig.connect()
    with pytest.raises(ValueError, match="max_rate is not for a lossless"):
        connection.subscribe_pattern("a.*", on_slow="lossless", max_rate=2)


# The life of topics.


def test_a_topic_that_only_wildcards_have_is_freed_and_made_again(rig: Rig) -> None:
    connection, peer = rig.connect()
    wildcard = connection.subscribe_pattern("user.*")
    epochs = []
    for _ in range(3):
        topic = rig.engine.topic("user.1")
        topic.publish("hello")
        epochs.append(topic.epoch)
        del topic
        assert texts(rig, peer, 1) == ["hello"]
        assert wildcard.topics == []
    assert len(set(epochs)) == 3


def test_thousands_of_names_in_turn_leave_nothing(rig: Rig) -> None:
    connection, peer = rig.connect()
    wildcard = connection.subscribe_pattern("user.*")
    for n in range(3000):
        publish(rig, f"user.{n}")
        if n % 100 == 99:
            rig.until(lambda: len(peer.pull().payloads) >= 100)
            peer.frames.clear()
    rest(rig)
    assert wildcard.topics == []
    assert rig.engine.topic_accounts(64) == {}
    account = rig.engine.account()
    assert (account["delivered"], account["pending"], account["dropped"]) == (3000, 0, 0)


def test_what_holds_a_topic_otherwise_holds_it_here(rig: Rig) -> None:
    connection, peer = rig.connect()
    wildcard = connection.subscribe_pattern("a.*")
    rig.engine.topic("a.kept", history=History(messages=5))
    rig.engine.topics("a.h*", history=History(messages=5))
    reference = rig.engine.topic("a.referred")
    publish(rig, "a.kept", "a.history", "a.referred", "a.gone")
    assert len(texts(rig, peer, 4)) == 4
    assert sorted(wildcard.topics) == ["a.history", "a.kept", "a.referred"]
    del reference
    gc.collect()
    rest(rig)
    assert sorted(wildcard.topics) == ["a.history", "a.kept"]


def test_a_slow_one_keeps_its_topic_until_it_has_everything(rig: Rig) -> None:
    connection, peer = rig.connect(receive_buffer=4096)
    wildcard = connection.subscribe_pattern("a.*")
    rig.engine.topic("a.1").publish_all([message(n) for n in range(500)])
    rest(rig)
    assert wildcard.topics == ["a.1"]
    rig.until(lambda: len(peer.pull().payloads) == 500)
    rest(rig)
    assert wildcard.topics == []


def test_a_closed_topic_is_had_again_when_it_is_made_again(rig: Rig) -> None:
    connection, peer = rig.connect()
    connection.subscribe_pattern("a.*")
    for text in ("1", "2"):
        topic = rig.engine.topic("a.1", on_slow="latest")
        topic.publish(text)
        assert texts(rig, peer, 1) == [text]
        topic.close()


def test_retained_messages_come_first(rig: Rig) -> None:
    for n in range(3):
        rig.engine.topic(f"a.{n}", retain=True).publish(f"{n}")
    connection, peer = rig.connect()
    connection.send_nowait("hello")
    connection.subscribe_pattern("a.*")
    found = texts(rig, peer, 4)
    assert found[0] == "hello"
    assert sorted(found[1:]) == ["0", "1", "2"]


def test_a_topic_hears_of_wildcards_as_of_others(rig: Rig) -> None:
    told: list[str] = []
    topic = rig.engine.topic("a.1")
    topic.on_first_subscriber = lambda _: told.append("first")
    topic.on_last_subscriber = lambda _: told.append("last")
    connection, _peer = rig.connect()
    wildcard = connection.subscribe_pattern("a.*")
    rig.engine.turn()
    wildcard.unsubscribe()
    rig.engine.turn()
    assert told == ["first", "last"]


def test_the_end_of_the_connection_ends_it(rig: Rig) -> None:
    topic = rig.engine.topic("a.1")
    connection, peer = rig.connect()
    connection.subscribe_pattern("a.*")
    connection.close()
    made = rig.engine.topic("a.2")
    assert made.subscribers == 0
    rig.until(lambda: peer.pull().frames)
    rig.until(lambda: topic.subscribers == 0)
    peer.sock.close()
    rig.until(lambda: rig.closed)


# Other threads, and the server.


def in_thread(call: Callable[[], object]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def test_any_thread_may_subscribe_and_unsubscribe(rig: Rig) -> None:
    topic = rig.engine.topic("a.1")
    connection, peer = rig.connect()
    rig.engine.turn()
    found: list[Wildcard] = []
    in_thread(lambda: found.append(connection.subscribe_pattern("a.*")))
    rig.until(lambda: topic.subscribers)
    assert found[0].active
    publish(rig, "a.1", "a.2")
    assert texts(rig, peer, 2) == ["a.1", "a.2"]
    subscription = connection.subscribe(topic)
    in_thread(subscription.unsubscribe)
    rig.engine.turn()
    publish(rig, "a.1")
    assert texts(rig, peer, 1) == ["a.1"]
    assert not subscription.active
    in_thread(found[0].unsubscribe)
    rig.until(lambda: not topic.subscribers)
    assert not found[0].active


class Watch(App):
    """Its clients get all prices."""

    def opened(self, connection: Connection, request: Request) -> None:
        connection.subscribe_pattern("prices.*")


def test_a_server_sends_what_matches(run: Run) -> None:
    async def story() -> None:
        async with serving(Watch()) as (server, address), await websocket(address) as client:
            await eventually(lambda: server.connections)
            for n in range(100):
                server.topic(f"prices.{n % 7}").publish(f"{n}")
            for n in range(100):
                assert await client.frame() == (TEXT, str(n).encode())

    run(story())
