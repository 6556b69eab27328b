"""publish(exclude=…): a room without its speaker. Who gets what, and that accounts stay exact."""

import random
import threading

import pytest
from support import Peer, Rig, balances, message, numbers

from fastws import Connection, ConnectionClosed, Lag, Topic

KIB = 1024
SMALL = 4096  # a receive buffer that is full soon


Member = tuple[Connection, Peer]


def room_of(rig: Rig, topic: Topic, n: int, receive_buffer: int = 0) -> list[Member]:
    return [rig.subscribed(topic, receive_buffer) for _ in range(n)]


def test_everybody_but_the_speaker_gets_what_is_said(rig: Rig) -> None:
    room = rig.engine.topic("room")
    members = room_of(rig, room, 5)
    said = 200
    for i in range(said):
        speaker, _ = members[i % 5]
        room.publish(message(i, 50), exclude=speaker)
        if i % 3 == 0:
            rig.engine.turn()
            assert balances(room.account())
    rig.until(lambda: all(len(peer.pull().frames) == said * 4 // 5 for _, peer in members))
    for turn, (connection, peer) in enumerate(members):
        assert numbers(peer) == [i for i in range(said) if i % 5 != turn]
        account = connection.subscribe(room).account()
        assert balances(account)
        assert account["published"] == account["delivered"] == said * 4 // 5
    account_of_all = room.account()
    assert account_of_all["published"] == account_of_all["delivered"] == said * 4
    assert account_of_all["appended"] == said
    assert account_of_all["retained_bytes"] == 0


def test_what_is_kept_from_its_only_subscriber_is_pending_to_nobody(rig: Rig) -> None:
    room = rig.engine.topic("room")
    connection, peer = rig.subscribed(room)
    for i in range(10):
        room.publish(message(i), exclude=connection)
    account = connection.subscribe(room).account()
    assert (account["published"], account["pending"]) == (0, 0)
    rig.until(lambda: not rig.engine.turn())
    assert room.account()["retained_bytes"] == 0
    room.publish("to all")
    rig.until(lambda: peer.pull().frames)
    assert peer.payloads == [b"to all"]
    assert room.account()["published"] == 1


def test_excluding_who_is_not_subscribed_keeps_it_from_nobody(rig: Rig) -> None:
    room = rig.engine.topic("room")
    _, peer = rig.subscribed(room)
    stranger, stranger_peer = rig.connect()
    gone, _ = rig.subscribed(room)
    gone.abort()
    rig.until(lambda: rig.closed)
    room.publish("a", exclude=stranger)
    room.publish("b", exclude=gone)
    stranger.subscribe(room)
    room.publish("c", exclude=gone)
    rig.until(lambda: len(peer.pull().frames) == 3 and stranger_peer.pull().frames)
    assert peer.payloads == [b"a", b"b", b"c"]
    assert stranger_peer.payloads == [b"c"]
    assert balances(room.account())


def test_a_connection_of_another_engine_cannot_be_excluded(rig: Rig) -> None:
    room = rig.engine.topic("room")
    with Rig() as other:
        foreign, _ = other.connect()
        with pytest.raises(ValueError, match="another engine"):
            room.publish("x", exclude=foreign)
    with pytest.raises(TypeError):
        room.publish("x", exclude=1)  # type: ignore[arg-type]
    assert room.appended == 0
    connection, _ = rig.subscribed(room)
    room.close()
    with pytest.raises(ConnectionClosed):
        room.publish("x", exclude=connection)


def test_the_speaker_is_excluded_from_another_thread_too(rig: Rig) -> None:
    room = rig.engine.topic("room")
    members = room_of(rig, room, 3)

    def speak() -> None:
        for i in range(300):
            room.publish(message(i, 50), exclude=members[i % 3][0])

    thread = threading.Thread(target=speak)
    thread.start()
    rig.until(lambda: all(len(peer.pull().frames) == 200 for _, peer in members))
    thread.join()
    for turn, (connection, peer) in enumerate(members):
        assert numbers(peer) == [i for i in range(300) if i % 3 != turn]
        assert connection.subscribe(room).account()["published"] == 200
    assert balances(room.account())


def test_an_excluded_message_does_not_come_back_after_subscribing_anew(rig: Rig) -> None:
    room = rig.engine.topic("room")
    connection, peer = rig.subscribed(room)
    listener, listener_peer = rig.subscribed(room)
    room.publish("a", exclude=connection)
    connection.unsubscribe(room)
    connection.subscribe(room)
    room.publish("b", exclude=listener)
    room.publish("c")
    rig.until(lambda: len(peer.pull().frames) == 2 and len(listener_peer.pull().frames) == 2)
    assert peer.payloads == [b"b", b"c"]
    assert listener_peer.payloads == [b"a", b"c"]
    assert listener.account()["published"] == 2
    assert balances(room.account())


@pytest.mark.parametrize("seed", range(4))
def test_members_that_stall_while_they_speak_get_the_rest_in_order(rig: Rig, seed: int) -> None:
    """Nothing is lost while all is retained, whoever spoke and whoever did not read meanwhile."""
    chance = random.Random(seed)
    room, aside = rig.engine.topic("room"), rig.engine.topic("aside")
    members = room_of(rig, room, 4, SMALL)
    for connection, _ in members[:2]:
        connection.subscribe(aside)
    expected: list[list[int]] = [[] for _ in members]
    for i in range(1500):
        topic = aside if chance.random() < 0.2 else room
        speaker = chance.choice([0, 0, 0, 1, 2, None])
        excluded = None if speaker is None else members[speaker][0]
        size = chance.choice([20, 200, 1000, 20_000 if i % 50 == 0 else 30])
        topic.publish(message(i, size), exclude=excluded)
        for place, (connection, _) in enumerate(members):
            if place != speaker and (topic is room or place < 2):
                expected[place].append(i)
            assert connection.account()["published"] == len(expected[place])
        if chance.random() < 0.3:
            rig.engine.turn()
            chance.choice(members)[1].read()
        assert balances(room.account())
    for connection, _ in members:
        assert balances(connection.account())
    for (_, peer), wanted in zip(members, expected, strict=True):
        rig.until(lambda peer=peer, wanted=wanted: len(peer.pull().frames) == len(wanted))
        assert numbers(peer) == wanted
    for topic, listeners in ((room, 4), (aside, 2)):
        account = topic.account()
        assert balances(account)
        assert (account["pending"], account["dropped"]) == (0, 0)
        assert account["retained_bytes"] == 0
        assert account["published"] < account["appended"] * listeners


def test_who_jumps_is_not_counted_for_what_it_was_not_to_get(rig: Rig) -> None:
    room = rig.engine.topic(
        "room", on_slow="latest", max_lag=Lag(bytes=32 * KIB), retention_bytes=64 * KIB
    )
    speaker, peer = rig.subscribed(room, SMALL)
    _, listener = rig.subscribed(room)
    for i in range(1201):
        room.publish(message(i), exclude=speaker if i % 2 else None)
        rig.engine.turn()
        listener.pull()
        assert balances(room.account())
    rig.until(lambda: peer.pull().frames and numbers(peer)[-1] == 1200)
    rig.until(lambda: len(listener.pull().frames) == 1201)
    account = speaker.account()
    assert all(number % 2 == 0 for number in numbers(peer))
    assert account["published"] == 601
    assert account["delivered"] == len(peer.frames)
    assert account["dropped"] == 601 - len(peer.frames) > 0


def test_what_a_stalled_speaker_says_itself_does_not_count_against_it(rig: Rig) -> None:
    room = rig.engine.topic("room")
    speaker, peer = rig.connect(receive_buffer=SMALL)
    subscription = speaker.subscribe(room, max_lag=Lag(messages=1000))
    for i in range(200):
        room.publish(message(i))
        rig.engine.turn()
    pending = subscription.account()["pending"]
    assert pending > 0, "it was to stall"
    for _ in range(1500):
        room.publish("mine", exclude=speaker)
        rig.engine.turn()
    assert subscription.account()["pending"] == pending
    rig.until(lambda: len(peer.pull().frames) == 200)
    assert numbers(peer) == list(range(200))
    assert speaker.is_open


def test_large_messages_are_kept_from_the_speaker_as_small_ones_are(rig: Rig) -> None:
    room = rig.engine.topic("room")
    connection, peer = rig.subscribed(room)
    _, listener = rig.subscribed(room)
    sizes = [0, 1, 125, 126, 65_535, 65_536, 300_000]
    for size in sizes:
        room.publish(bytes(size), exclude=connection)
        room.publish(bytes(size))
    rig.until(lambda: len(listener.pull().frames) == 2 * len(sizes))
    rig.until(lambda: len(peer.pull().frames) == len(sizes))
    assert [len(payload) for payload in peer.payloads] == sizes
    assert balances(room.account())
