"""What can be sent and published: kinds of payloads, many messages at once, one to many."""

import threading
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import BINARY, TEXT, Peer, Rig

from fastws import Connection, ConnectionClosed, Frame, Lag, LogFull, Topic, broadcast

KIB = 1 << 10
GRID = memoryview(bytes(range(16))).cast("B", (4, 4))
KINDS = [
    pytest.param(b"bytes", (BINARY, b"bytes"), id="bytes"),
    pytest.param("é", (TEXT, b"\xc3\xa9"), id="str"),
    pytest.param(bytearray(b"array"), (BINARY, b"array"), id="bytearray"),
    pytest.param(bytearray(), (BINARY, b""), id="empty"),
    pytest.param(memoryview(b"-view-")[1:-1], (BINARY, b"view"), id="memoryview"),
    pytest.param(memoryview(array("H", [513])), (BINARY, b"\x01\x02"), id="of shorts"),
    pytest.param(GRID, (BINARY, bytes(range(16))), id="of two dimensions"),
    pytest.param(Frame("é"), (TEXT, b"\xc3\xa9"), id="frame of text"),
    pytest.param(Frame(b"x" * 70_000), (BINARY, b"x" * 70_000), id="large frame"),
    pytest.param(Frame(bytearray(b"a")), (BINARY, b"a"), id="frame of a bytearray"),
]
WAYS: list[Callable[[Connection, Topic, Any], object]] = [
    lambda connection, _, data: connection.send_nowait(data),
    lambda _, topic, data: topic.publish(data),
    lambda _, topic, data: topic.publish_all([data]),
    lambda connection, _, data: broadcast([connection], data),
]
IDS = ["send", "publish", "publish_all", "broadcast"]


def got(rig: Rig, peer: Peer, n: int = 1) -> list[tuple[int, bytes]]:
    rig.until(lambda: len(peer.pull().frames) == n)
    return peer.frames


@pytest.mark.parametrize("way", WAYS, ids=IDS)
@pytest.mark.parametrize(("data", "frame"), KINDS)
def test_every_kind_arrives(way: Any, data: Any, frame: tuple[int, bytes]) -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.subscribed(topic)
        way(connection, topic, data)
        assert got(rig, peer) == [frame]


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_other_kinds_are_refused(way: Any) -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.subscribed(topic)
        for data in (None, 1, [b"x"], array("B", b"x"), object()):
            with pytest.raises(TypeError, match="bytes, str, bytearray, memoryview or Frame"):
                way(connection, topic, data)
        with pytest.raises(ValueError, match="masked Frame"):
            way(connection, topic, Frame(b"x", masking_key=b"abcd"))
        for view in (memoryview(b"abcdef")[::2], memoryview(b"abc")[::-1]):
            with pytest.raises(ValueError, match="contiguous"):
                way(connection, topic, view)
        way(connection, topic, "fine")
        assert got(rig, peer) == [(TEXT, b"fine")]


@pytest.mark.parametrize("way", WAYS, ids=IDS)
def test_a_bytearray_is_free_again_behind_the_call(way: Any) -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.subscribed(topic)
        data = bytearray(b"before")
        way(connection, topic, data)
        data[:] = b"and then something longer"
        assert got(rig, peer) == [(BINARY, b"before")]


def test_text_makes_text_of_bytes() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.subscribed(topic)
        topic.publish(bytearray(b"1"), text=True)
        topic.publish_all([b"2", memoryview(b"3")], text=True)
        broadcast([connection], b"4", text=True)
        assert got(rig, peer, 4) == [(TEXT, b"%d" % i) for i in (1, 2, 3, 4)]


# Many messages, one call.


def test_many_messages_arrive_in_order() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        _, peer = rig.subscribed(topic)
        assert topic.publish_all([]) == 0
        assert topic.publish_all(str(i) for i in range(50_000)) == 50_000  # past 256 KiB
        rig.until(lambda: len(peer.pull().frames) == 50_000)
        assert peer.payloads == [b"%d" % i for i in range(50_000)]


def test_publish_all_stops_where_a_lossless_topic_is_full() -> None:
    with Rig() as rig:
        lag = Lag(bytes=64 * KIB)
        topic = rig.engine.topic("t", on_slow="lossless", max_lag=lag, retention_bytes=64 * KIB)
        _, peer = rig.subscribed(topic, receive_buffer=4096)
        messages = [str(i).ljust(1000) for i in range(5000)]
        taken: list[int] = []

        def publish_on() -> bool:
            try:
                taken.append(topic.publish_all(messages[sum(taken) :]))
            except LogFull as full:
                taken.append(full.published)
            return sum(taken) == len(messages)

        assert not publish_on()
        rig.until(lambda: peer.pull() and publish_on())
        rig.until(lambda: len(peer.pull().frames) == len(messages))
        assert peer.payloads == [message.encode() for message in messages]
        assert topic.account()["dropped"] == 0
        assert max(taken) < 100


def test_one_message_is_not_many() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        for one in ("text", b"bytes", bytearray(b"x"), memoryview(b"x")):
            with pytest.raises(TypeError, match="publish takes one"):
                topic.publish_all(one)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            topic.publish_all(None)  # type: ignore[arg-type]
        assert topic.appended == 0


def test_an_iterator_that_closes_the_topic_is_told() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")

        def messages() -> Iterator[str]:
            yield "one"
            topic.close()
            yield "two"

        with pytest.raises(ConnectionClosed, match="the topic is closed"):
            topic.publish_all(messages())


def test_an_iterator_that_raises_has_published_what_came_before() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        _, peer = rig.subscribed(topic)

        def messages() -> Iterator[str]:
            yield "one"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            topic.publish_all(messages())
        assert got(rig, peer) == [(TEXT, b"one")]


def test_another_thread_publishes_many() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        _, peer = rig.subscribed(topic)
        thread = threading.Thread(target=topic.publish_all, args=([b"x"] * 1000,))
        thread.start()
        thread.join()
        assert got(rig, peer, 1000) == [(BINARY, b"x")] * 1000


# One message, many connections.


def test_a_broadcast_passes_over_who_is_closed_and_returns_who_is_full() -> None:
    with Rig(outbox_limit=64 * KIB) as rig:
        everybody = [rig.connect(receive_buffer=4096) for _ in range(6)]
        connections = [connection for connection, _ in everybody]
        connections[1].close()
        connections[2].abort()
        connections[3].abort()
        rig.until(lambda: len(rig.closed) == 2)
        with pytest.raises(LogFull):
            fill(connections[0])
        assert broadcast(iter(connections), "news") == [connections[0]]
        for _, peer in everybody[4:]:
            assert got(rig, peer) == [(TEXT, b"news")]


def fill(connection: Connection) -> None:
    while True:
        connection.send_nowait(bytes(8 * KIB))


def test_a_broadcast_asks_for_a_turn_once() -> None:
    with Rig() as rig:
        scheduled: list[bool] = []
        connections = [rig.connect()[0] for _ in range(3)]
        rig.until(lambda: not rig.engine.turn())
        rig.engine.schedule = lambda: scheduled.append(True)
        assert broadcast(connections, b"x") == []
        assert scheduled == [True]
        assert broadcast([], b"x") == []


def test_a_broadcast_reaches_connections_of_several_engines() -> None:
    with Rig() as one, Rig() as two:
        first, first_peer = one.connect()
        second, second_peer = two.connect()
        assert broadcast([first, second], "both") == []
        assert got(one, first_peer) == got(two, second_peer) == [(TEXT, b"both")]


def test_another_thread_broadcasts() -> None:
    with Rig() as rig:
        everybody = [rig.connect() for _ in range(3)]
        refused: list[list[Connection]] = []
        connections = [connection for connection, _ in everybody]
        thread = threading.Thread(target=lambda: refused.append(broadcast(connections, b"far")))
        thread.start()
        thread.join()
        assert refused == [[]]
        for _, peer in everybody:
            assert got(rig, peer) == [(BINARY, b"far")]


@pytest.mark.parametrize("wrong", [None, 1, "x"])
def test_a_broadcast_takes_connections_only(wrong: Any) -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        with pytest.raises(TypeError):
            broadcast([connection, wrong], b"x")
        assert got(rig, peer) == [(BINARY, b"x")]  # it came before
