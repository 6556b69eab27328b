"""What topics hold in memory: nothing that nobody needs, and all of them together a budget."""

import ctypes
import gc
import resource
from pathlib import Path

import pytest
from support import Peer, Rig, balances, message, numbers
from surroundings import INSTRUMENTED

from fastws import App, ConfigError, History, Lag, Limits, LogFull, Server, Topic
from fastws.server.memory import available_memory, memory_budget

KIB, MIB = 1 << 10, 1 << 20
SMALL = 4096  # a receive buffer that is full soon


def resident() -> int:
    """Bytes of this process in memory, without what Python and the allocator only keep."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def settle(rig: Rig) -> None:
    """Until there is nothing left to do."""
    rig.until(lambda: not rig.engine.turn())


def retained(topics: list[Topic]) -> int:
    return sum(topic.account()["retained_bytes"] for topic in topics)


def test_topics_without_subscribers_hold_nothing(rig: Rig) -> None:
    """One topic per room, 4 MB published to each, nobody subscribed, or not any more."""
    before, left = resident(), [rig.engine.topic(f"left.{i}") for i in range(50)]
    rooms = [rig.engine.topic(f"room.{i}", on_slow="latest") for i in range(50)]
    connection, _ = rig.connect(receive_buffer=SMALL)
    for topic in left:
        connection.subscribe(topic)
        topic.publish(bytes(100 * KIB))
    rig.engine.turn()
    assert retained(left) > 0
    for topic in left:
        connection.unsubscribe(topic)
    for topic in [*rooms, *left]:
        for _ in range(4000):
            topic.publish(bytes(1000))
        assert topic.account()["retained_bytes"] == 0
        assert topic.appended >= 4000
    settle(rig)
    assert INSTRUMENTED or resident() - before < 8 * MIB


def test_what_ten_thousand_topics_held_for_their_readers_goes_back(rig: Rig) -> None:
    n = 10_000
    connection, peer = rig.connect()

    def one_round() -> int:
        """What they hold at their busiest."""
        topics = [rig.engine.topic(f"user.{i:06d}") for i in range(n)]
        for topic in topics:
            connection.subscribe(topic)
            topic.publish(bytes(100))
        held = retained(topics)
        seen = len(peer.frames)
        rig.until(lambda: len(peer.pull().frames) == seen + n)
        assert retained(topics) == 0
        for topic in topics:
            assert balances(topic.account())
            connection.unsubscribe(topic)
        return held

    assert one_round() > 500 * KIB  # the rest was sent meanwhile
    settle(rig)
    peer.frames.clear()
    before = resident()
    for _ in range(3):
        one_round()
        settle(rig)
        peer.frames.clear()
    assert rig.engine.topic_accounts(64) == {}
    assert INSTRUMENTED or resident() - before < 2 * MIB


def test_a_topic_holds_what_its_slowest_reader_has_not_got(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    _, healthy = rig.subscribed(topic)
    slow, peer = rig.subscribed(topic, SMALL)
    for i in range(2000):
        topic.publish(message(i))
        rig.engine.turn()
        healthy.pull()
    lag = slow.account()["lag_bytes"]
    assert lag <= topic.account()["retained_bytes"] < lag + 128 * KIB
    rig.until(lambda: len(peer.pull().frames) == 2000)
    assert topic.account()["retained_bytes"] == 0


@pytest.mark.parametrize("many", [1, 30])
def test_a_burst_larger_than_the_retention_laps_nobody_who_keeps_up(rig: Rig, many: int) -> None:
    """Published in one handler: nothing of it can be sent before the handler is done."""
    topic = rig.engine.topic("t", max_lag=Lag(bytes=2 * KIB), retention_bytes=4 * KIB)
    listeners = [rig.subscribed(topic) for _ in range(many)]
    speaker, peer = rig.connect()
    burst = 60

    def speak(connection: object, _: str | bytes) -> None:
        assert connection is speaker
        for i in range(burst):
            topic.publish(message(i))
        assert topic.account()["retained_bytes"] == burst * 1004
        assert topic.account()["pending"] == burst * many

    rig.engine.on_message = speak
    peer.send(b"\x81\x80\0\0\0\0")
    rig.until(lambda: all(len(peer.pull().frames) == burst for _, peer in listeners))
    for connection, listener in listeners:
        assert numbers(listener) == list(range(burst))
        assert connection.account()["dropped"] == 0
    assert rig.engine.counters()["lapped"] == rig.engine.counters()["slow_closed"] == 0
    assert topic.account()["retained_bytes"] == 0
    assert not rig.errors


def test_history_keeps_the_newest_messages_within_its_limits(rig: Rig) -> None:
    some = rig.engine.topic("some", history=History(messages=50))
    limited = rig.engine.topic("limited", history=History(bytes=20 * KIB))
    both = rig.engine.topic("both", history=History(messages=5, bytes=1 * MIB))
    for i in range(5000):
        for topic in (some, limited, both):
            topic.publish(message(i))
    room = 64 * KIB  # memory goes in pieces
    assert 50 * 1004 <= some.account()["retained_bytes"] <= 50 * 1004 + room
    assert 20 * KIB <= limited.account()["retained_bytes"] <= 20 * KIB + room
    assert 5 * 1004 <= both.account()["retained_bytes"] <= 5 * 1004 + room


# The budget of all logs together.


def stalled(rig: Rig, topics: list[Topic]) -> Peer:
    """A client of all these topics that does not read."""
    connection, peer = rig.connect(receive_buffer=SMALL)
    for topic in topics:
        connection.subscribe(topic)
    return peer


def test_max_log_bytes_bounds_many_stalled_topics_together() -> None:
    with Rig(max_log_bytes=4 * MIB) as rig:
        topics = [rig.engine.topic(f"topic.{i}", on_slow="latest") for i in range(50)]
        peer = stalled(rig, topics)
        kept_up = rig.engine.topic("kept up")
        _, healthy = rig.subscribed(kept_up)
        most = 0
        for i in range(20_000):
            topics[i * 7 % 50].publish(message(i))
            if i % 20 == 0:
                kept_up.publish(message(i))
                rig.engine.turn()
                healthy.pull()
                most = max(most, retained([*topics, kept_up]))
        assert MIB < most <= 4 * MIB
        assert rig.engine.counters()["lapped"] > 0
        rig.until(lambda: len(healthy.pull().frames) == 1000)
        assert kept_up.account()["dropped"] == 0

        def drained() -> bool:
            peer.pull()
            return len(peer.frames) == sum(topic.delivered for topic in topics)

        rig.until(lambda: drained() and rig.engine.account()["pending"] == 0)
        for topic in topics:
            account = topic.account()
            assert balances(account)
            assert account["dropped"] > 0
            assert account["published"] == 400
        got = numbers(peer)
        assert got == sorted(set(got))
        assert set(range(19_950, 20_000)) <= set(got), "the newest of every topic"


def test_the_budget_never_takes_what_a_lossless_reader_needs() -> None:
    with Rig(max_log_bytes=2 * MIB) as rig:
        topics = [rig.engine.topic(f"topic.{i}", on_slow="lossless") for i in range(10)]
        peer = stalled(rig, topics)
        published = 0

        def takes_another() -> bool:
            try:
                topics[published % 10].publish(message(published))
            except LogFull:
                return False
            return True

        while takes_another():
            published += 1
            rig.engine.turn()
        for topic in topics:
            with pytest.raises(LogFull):
                topic.publish(bytes(128 * KIB))
        assert MIB // 2 < retained(topics) <= 2 * MIB
        rig.until(lambda: len(peer.pull().frames) == published)
        assert numbers(peer) == list(range(published))
        assert rig.engine.counters()["lapped"] == 0
        topics[0].publish(message(published))
        rig.until(lambda: len(peer.pull().frames) == published + 1)
        sums = rig.engine.account()
        assert balances(sums)
        assert (sums["dropped"], sums["delivered"]) == (0, published + 1)


def test_the_budget_takes_from_others_before_a_lossless_topic_is_full() -> None:
    with Rig(max_log_bytes=2 * MIB) as rig:
        history = rig.engine.topic("history", history=History(bytes=2 * MIB))
        latest = rig.engine.topic("latest", on_slow="latest")
        exact = rig.engine.topic("exact", on_slow="lossless")
        peer = stalled(rig, [latest, exact])
        for i in range(1500):
            history.publish(bytes(1000))
            latest.publish(message(i))
        rig.engine.turn()
        for i in range(700):
            exact.publish(message(2000 + i))
            rig.engine.turn()
        assert retained([history, latest, exact]) <= 2 * MIB
        rig.until(lambda: peer.pull().frames and numbers(peer)[-1] == 2699)
        assert [i for i in numbers(peer) if i >= 2000] == list(range(2000, 2700))
        assert exact.account()["dropped"] == 0
        assert latest.account()["dropped"] > 0
        assert balances(latest.account())


def test_a_message_larger_than_the_budget_is_refused() -> None:
    with Rig(max_log_bytes=1 * MIB) as rig:
        topic = rig.engine.topic("t")
        _, peer = rig.subscribed(topic)
        with pytest.raises(LogFull):
            topic.publish(bytes(1 * MIB))
        topic.publish(bytes(900 * KIB))
        rig.until(lambda: peer.pull().frames)
        assert len(peer.payloads[0]) == 900 * KIB


# How much there is.


@pytest.mark.parametrize(
    ("texts", "machine", "found"),
    [
        ([], 8000 * MIB, 8000 * MIB),
        (["max\n"], 8000 * MIB, 8000 * MIB),
        ([f"{512 * MIB}\n"], 8000 * MIB, 512 * MIB),
        (["max\n", f"{100 * MIB}\n"], 8000 * MIB, 100 * MIB),
        ([f"{2**63 - 4096}\n"], 8000 * MIB, 8000 * MIB),  # cgroup v1 without a limit
        ([f"{512 * MIB}\n"], 256 * MIB, 256 * MIB),
        (["", "x", "-1"], 256 * MIB, 256 * MIB),
    ],
)
def test_memory_is_the_least_of_the_machine_and_the_control_groups(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, texts: list[str], machine: int, found: int
) -> None:
    group = tmp_path / "missing"
    for i, text in enumerate(texts):
        group = group / str(i)
        group.mkdir(parents=True)
        (group / "memory.max").write_text(text)
    own = tmp_path / "own"
    own.write_text(f"0::/{group.relative_to(tmp_path)}\n")
    monkeypatch.setattr("fastws.server.memory.OWN_CGROUP", own)
    monkeypatch.setattr("fastws.server.memory.CGROUP_ROOT", tmp_path)
    known = {"SC_PHYS_PAGES": machine // 4096, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr("os.sysconf", known.__getitem__)
    assert available_memory() == found
    assert memory_budget("max_log_bytes", None) == min(256 * MIB, found // 8)


def test_a_budget_is_at_least_a_mebibyte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.server.memory.available_memory", lambda: 4 * MIB)
    assert memory_budget("max_log_bytes", None) == MIB
    assert memory_budget("max_log_bytes", MIB) == MIB
    assert memory_budget("max_log_bytes", 2**40) == 2**40
    for wrong in (0, MIB - 1, 2**62 + 1, True, 1.5e9, "1MiB"):
        with pytest.raises(ConfigError, match="max_log_bytes"):
            memory_budget("max_log_bytes", wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="max_log_bytes"):
            Server(App(), limits=Limits(max_log_bytes=wrong))  # type: ignore[arg-type]


def test_a_server_takes_its_budget() -> None:
    server = Server(App(), limits=Limits(max_log_bytes=MIB))
    topic = server.topic("t", history=History(bytes=8 * MIB))
    for _ in range(4000):
        topic.publish(bytes(1000))
    assert MIB // 2 < topic.account()["retained_bytes"] <= MIB
    server.close()
