"""Topics: named and configured ones, their options, their end, weak references, history."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from support import Rig, balances, message, numbers

from fastws import ConnectionClosed, Engine, History, Lag, Server, Topic
from fastws.server.app import App

KIB = 1024
OPTIONS: dict[str, Any] = {
    "on_slow": "latest",
    "max_lag": Lag(bytes=64 * KIB, messages=100, seconds=0.25),
    "retention_bytes": 128 * KIB,
    "history": History(messages=10, bytes=1 * KIB, seconds=60.0),
    "retain": True,
    "min_rate": 0,
    "content": "json",
}
DEFAULTS = {
    "on_slow": "close",
    "max_lag": Lag(bytes=12 * KIB * KIB),
    "retention_bytes": 16 * KIB * KIB,
    "history": History(),
    "retain": False,
    "min_rate": 64 * KIB,
    "content": "text",
}


def settle(rig: Rig) -> None:
    """Until there is nothing left to do: what nothing needs is freed in a turn."""
    rig.until(lambda: not rig.engine.turn())


# Options.


def test_a_topic_has_the_defaults_or_what_it_was_configured_with(rig: Rig) -> None:
    assert rig.engine.topic("plain").options == DEFAULTS
    assert rig.engine.topic("own", **OPTIONS).options == OPTIONS
    partly = rig.engine.topic("partly", max_lag=Lag(messages=5))
    assert partly.options == DEFAULTS | {
        "max_lag": Lag(bytes=16 * KIB * KIB, messages=5)  # at most what is retained
    }


def test_the_longest_matching_pattern_gives_a_named_topic_its_options(rig: Rig) -> None:
    engine = rig.engine
    before = engine.topic("room.before")
    engine.topics("*", on_slow="lossless")
    engine.topics("room.*", on_slow="latest")
    engine.topics("room.vip.*", max_lag=Lag(bytes=1 * KIB))
    engine.topics("room.é*", history=History(messages=1))
    slow = {
        name: engine.topic(name).options["on_slow"]
        for name in ("x", "room", "room.", "room.1", "room.vip.1")
    }
    assert slow == {
        "x": "lossless", "room": "lossless", "room.": "latest", "room.1": "latest",
        "room.vip.1": "close",
    }  # fmt: skip
    assert engine.topic("room.vip.1").options["max_lag"] == Lag(bytes=1 * KIB)
    assert engine.topic("room.é1").options["history"] == History(messages=1)
    assert before.options == DEFAULTS
    assert engine.topic("room.before") is before
    engine.topics("room.*", on_slow="close")  # for those made from now on
    assert engine.topic("room.2").options["on_slow"] == "close"


def test_options_add_to_those_of_the_pattern(rig: Rig) -> None:
    rig.engine.topics("room.*", on_slow="latest")
    topic = rig.engine.topic("room.1", history=History(messages=3))
    assert topic.options == DEFAULTS | {"on_slow": "latest", "history": History(messages=3)}


@pytest.mark.parametrize("pattern", ["", "room", "*room", "r*m", "room.**", "room*x"])
def test_a_pattern_is_a_beginning_and_one_star(rig: Rig, pattern: str) -> None:
    with pytest.raises(ValueError, match="beginning of names and one"):
        rig.engine.topics(pattern)


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"on_slow": "drop"}, ValueError, "on_slow must be one of close, latest, lossless"),
    ({"on_slow": 1}, TypeError, "str"),
    ({"max_lag": 1000}, TypeError, "max_lag must be a Lag"),
    ({"history": 10}, TypeError, "history a History"),
    ({"max_lag": Lag(bytes=2 * KIB), "retention_bytes": 1 * KIB}, ValueError, "must not exceed"),
    ({"retention_bytes": 0}, ValueError, "retention_bytes must be 1 to"),
    ({"retention_bytes": "many"}, ValueError, "retention_bytes must be"),
    ({"min_rate": -1}, ValueError, "min_rate must be 1 to"),
    ({"min_rate": 0.5}, ValueError, "min_rate must be 1 to"),
    ({"on_slow": "lossless", "max_lag": Lag(seconds=1)}, ValueError, "not for a lossless topic"),
    *(
        ({option: kind(**{limit: value})}, ValueError, rf"{kind.__name__}\.{limit} must be")
        for option, kind, limits in (
            ("max_lag", Lag, ("bytes", "messages", "seconds")),
            ("history", History, ("bytes", "messages", "seconds")),
        )
        for limit in limits
        for value in (0, -1, 1e-10, 2**63, 10**400, float("nan"), float("inf"), True, "1", [])
    ),
]


@pytest.mark.parametrize(("options", "error", "why"), WRONG, ids=lambda value: str(value)[:60])
def test_options_out_of_range_are_refused(
    rig: Rig, options: dict[str, Any], error: type[Exception], why: str
) -> None:
    topic = rig.engine.topic("there", on_slow="latest")
    made: list[Callable[[], object]] = [
        lambda: rig.engine.topic("new", **options),
        lambda: rig.engine.topics("new*", **options),
        lambda: topic.configure(**options),
    ]
    for make in made:
        with pytest.raises(error, match=why):
            make()
    assert topic.options == DEFAULTS | {"on_slow": "latest"}
    assert rig.engine.topic("new").options == DEFAULTS


def test_names_are_text_of_at_most_1024_bytes(rig: Rig) -> None:
    longest = "é" * 512
    for name in ("", "a", "a\0b", "a b/*", longest):
        topic = rig.engine.topic(name)
        assert topic.name == name
        assert rig.engine.topic(name) is topic
    assert rig.engine.topic("a\0c") is not rig.engine.topic("a\0b")
    with pytest.raises(ValueError, match="at most 1024 bytes, not 1025"):
        rig.engine.topic(longest + "x")
    with pytest.raises(UnicodeEncodeError):
        rig.engine.topic("\ud800")
    for wrong in (None, 1, b"t", ["t"]):
        with pytest.raises(TypeError):
            rig.engine.topic(wrong)  # type: ignore[arg-type]


# Configured topics.


def test_asking_again_gives_the_same_topic_and_other_options_are_an_error(rig: Rig) -> None:
    engine = rig.engine
    topic = engine.topic("t", **OPTIONS)
    assert engine.topic("t") is topic
    assert engine.topic("t", **OPTIONS) is topic
    for other in ({"on_slow": "close"}, {"retention_bytes": 256 * KIB}, {"history": History()}):
        with pytest.raises(ValueError, match="'t' was configured with ") as refused:
            engine.topic("t", **OPTIONS | other)
        ((name, value),) = other.items()
        present = OPTIONS[name]
        assert f"with {name}={present!r}, and is now asked for with {name}={value!r}:" in str(
            refused.value
        )
    assert topic.options == OPTIONS


def test_a_named_topic_may_be_configured_later_and_then_stays(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    epoch = topic.epoch
    assert rig.engine.topic("t", on_slow="latest") is topic
    del topic
    settle(rig)
    assert rig.engine.topic("t").epoch == epoch
    assert rig.engine.topic("t").options["on_slow"] == "latest"


@pytest.mark.parametrize("how", ["options", "configure", "on_first", "on_last"])
def test_a_configured_topic_stays_without_references_or_subscribers(rig: Rig, how: str) -> None:
    topic = rig.engine.topic("t", **({"on_slow": "latest"} if how == "options" else {}))
    epoch, options = topic.epoch, topic.options
    if how == "configure":
        topic.configure()
    elif how == "on_first":
        topic.on_first_subscriber = print
    elif how == "on_last":
        topic.on_last_subscriber = print
    topic.publish("x")
    connection, _ = rig.subscribed(topic)
    connection.unsubscribe(topic)
    del topic
    settle(rig)
    again = rig.engine.topic("t")
    assert (again.epoch, again.appended, again.options) == (epoch, 1, options)


def test_configure_changes_what_is_named_and_leaves_the_rest(rig: Rig) -> None:
    topic = rig.engine.topic("t", **OPTIONS)
    topic.configure(on_slow="close", history=History())
    assert topic.options == OPTIONS | {"on_slow": "close", "history": History()}
    with pytest.raises(ValueError, match="must not exceed"):
        topic.configure(retention_bytes=1 * KIB)
    assert rig.engine.topic("t", **topic.options) is topic


def test_closing_a_topic_ends_its_subscriptions_and_frees_the_name(rig: Rig) -> None:
    topic = rig.engine.topic("t", **OPTIONS)
    epoch = topic.epoch
    connection, peer = rig.subscribed(topic)
    topic.publish("never")
    topic.close()
    topic.close()
    assert topic.name == ""
    refused: list[Callable[[], object]] = [
        lambda: topic.publish("x"), lambda: topic.publish("x", exclude=connection),
        lambda: topic.subscribers, lambda: topic.epoch, lambda: topic.options, topic.account,
        topic.configure, lambda: connection.subscribe(topic),
        lambda: connection.subscribe(topic, on_slow="latest"),
        lambda: setattr(topic, "on_first_subscriber", print),
    ]  # fmt: skip
    for call in refused:
        with pytest.raises(ConnectionClosed, match="the topic is closed"):
            call()
    sums = rig.engine.account()
    assert (sums["published"], sums["dropped"], sums["pending"]) == (1, 1, 0)
    again = rig.engine.topic("t")
    assert again is not topic
    assert again.epoch != epoch
    assert again.options == DEFAULTS
    assert (again.subscribers, again.appended) == (0, 0)
    connection.subscribe(again)
    again.publish("x")
    rig.until(lambda: peer.pull().frames)
    assert peer.payloads == [b"x"]


# Topics that are only named.


def test_a_named_topic_goes_when_nothing_needs_it_and_the_next_one_is_another(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    epoch = topic.epoch
    topic.publish("x")
    settle(rig)
    assert rig.engine.topic("t") is topic
    del topic
    settle(rig)
    assert rig.engine.topic_accounts(64) == {}
    again = rig.engine.topic("t")
    assert again.epoch != epoch
    assert again.appended == 0


def test_a_named_topic_with_a_subscriber_needs_no_reference(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    epoch, gone = topic.epoch, weakref.ref(topic)
    _, peer = rig.subscribed(topic)
    del topic
    settle(rig)
    assert gone() is None
    again = rig.engine.topic("t")
    assert (again.epoch, again.subscribers) == (epoch, 1)
    again.publish("x")
    del again
    rig.until(lambda: peer.pull().frames)
    rig.engine.topic("t").publish("y")  # published, and let go of at once
    rig.until(lambda: len(peer.pull().frames) == 2)
    assert rig.engine.topic("t").epoch == epoch
    peer.sock.close()
    rig.until(lambda: rig.closed)
    settle(rig)
    assert rig.engine.topic("t").epoch != epoch


def test_every_incarnation_and_every_engine_has_epochs_of_its_own() -> None:
    epochs: set[int] = set()
    for _ in range(5):
        with Rig() as rig:
            for _ in range(20):
                epochs |= {rig.engine.topic(name).epoch for name in "abc"}
                settle(rig)
    assert len(epochs) == 5 * 20 * 3


def test_messages_that_nobody_gets_leave_nothing_but_history_does(rig: Rig) -> None:
    rig.engine.topics("kept.*", history=History(messages=3))
    epochs = {}
    for name in ("kept.1", "plain"):
        topic = rig.engine.topic(name)
        epochs[name] = topic.epoch
        connection, peer = rig.subscribed(topic)
        for i in range(20):
            topic.publish(message(i))
        rig.until(lambda peer=peer: len(peer.pull().frames) == 20)
        assert numbers(peer) == list(range(20))
        connection.unsubscribe(topic)
        del topic
        settle(rig)
    kept = rig.engine.topic("kept.1")
    assert kept.epoch == epochs["kept.1"]
    assert kept.appended == 20
    assert kept.account()["retained_bytes"] >= 3 * 1000
    assert balances(kept.account())
    assert rig.engine.topic("plain").epoch != epochs["plain"]
    kept.configure(history=History())
    assert kept.account()["retained_bytes"] == 0


def test_a_reference_may_be_dropped_in_another_thread(rig: Rig) -> None:
    rig.engine.turn()
    for _ in range(50):
        held = [rig.engine.topic(f"topic.{i}") for i in range(20)]
        epochs = [topic.epoch for topic in held]
        names = weakref.WeakSet(held)

        def drop(held: list[Topic] = held) -> None:
            while held:
                held.pop().publish("x")

        thread = threading.Thread(target=drop)
        thread.start()
        while thread.is_alive():
            rig.engine.turn()
        thread.join()
        settle(rig)
        assert len(names) == 0
        assert rig.engine.topic_accounts(64) == {}
        for i, epoch in enumerate(epochs):
            assert rig.engine.topic(f"topic.{i}").epoch != epoch


# Weak references, and the end of the engine.


def test_topics_connections_and_subscriptions_can_be_kept_in_weak_sets(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    connection, peer = rig.connect()
    subscription = connection.subscribe(topic)
    things: tuple[Any, ...] = (topic, connection, subscription)
    kept: weakref.WeakSet[Any] = weakref.WeakSet(things)
    facts = weakref.WeakKeyDictionary({connection: "somebody", topic: "something"})
    ended: list[str] = []
    weakref.finalize(connection, ended.append, "connection")
    assert all(thing in kept for thing in things)
    del things
    peer.sock.close()
    rig.until(lambda: rig.closed)
    rig.opened.clear()
    rig.closed.clear()
    assert not subscription.active
    assert set(kept) == {topic, connection, subscription}
    del subscription, connection
    gc.collect()
    assert ended == ["connection"]
    assert set(kept) == {topic}  # the engine holds what is configured
    topic.close()
    del topic
    gc.collect()
    assert len(kept) == len(facts) == 0


def test_what_an_engine_made_outlives_its_end() -> None:
    with Rig() as rig:
        named, configured = rig.engine.topic("a"), rig.engine.topic("b", on_slow="latest")
        connection, _ = rig.connect()
        subscription = connection.subscribe(named)
        closed = rig.engine.topic("c")
        closed.close()
        unseen = rig.engine.topic("d")
    for topic in (named, configured, closed):
        assert topic.name == ""
        with pytest.raises(ConnectionClosed):
            topic.publish("x")
        for look in (topic.account, topic.configure, lambda topic=topic: topic.epoch):
            with pytest.raises(RuntimeError, match="the engine is closed"):
                look()
        topic.close()
    assert not subscription.active
    with pytest.raises(RuntimeError, match="the engine is closed"):
        named.engine.topic("a")
    with pytest.raises(RuntimeError, match="the engine is closed"):
        named.engine.topics("a*")
    with pytest.raises(ConnectionClosed):
        connection.subscribe(named)
    del rig, unseen, named, configured, topic
    gc.collect()


def test_an_engine_that_was_never_closed_goes_with_its_topics() -> None:
    for _ in range(3):
        engine = Engine()
        engine.on_close = lambda _, engine=engine: None  # a circle, as an owner's handlers make it
        topics = [engine.topic(f"topic.{i}") for i in range(10)]
        topics[0].on_first_subscriber = lambda _, topics=topics: topics
        gone = weakref.WeakSet(topics)
        topics[1].publish("x")
        del engine, topics
        gc.collect()
        assert len(gone) == 0


def test_a_server_hands_topics_on(run: Callable[[Any], Any]) -> None:
    async def story() -> None:
        server = Server(App())
        server.topics("room.*", on_slow="latest")
        topic = server.topic("room.1")
        assert topic.options["on_slow"] == "latest"
        assert server.topic("room.1") is server.engine.topic("room.1") is topic
        assert server.topic("own", **OPTIONS).options == OPTIONS
        server.close()
        with pytest.raises(RuntimeError):
            server.topic("room.1")

    run(story())
