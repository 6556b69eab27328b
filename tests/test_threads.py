"""An engine beside other threads: commands are staged in order, all else is refused."""

import threading
import time
from collections.abc import Callable

import pytest
from support import CLOSE, PATIENCE, Peer, Rig, balances, close_payload, message, numbers

from fastws import Connection, LogFull
from fastws.lag import Lag

KIB = 1024


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_messages_published_in_another_thread_arrive_in_order(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.subscribed(topic)

    def elsewhere() -> None:
        for i in range(2000):
            if i % 5 == 0:
                connection.send_nowait(message(i, 100))
            else:
                topic.publish(message(i, 100))

    thread = in_thread(elsewhere)
    rig.until(lambda: len(peer.pull().frames) == 2000)
    thread.join()
    assert numbers(peer) == list(range(2000))
    assert balances(topic.account())


def test_publish_in_another_thread_wakes_a_sleeping_engine(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.subscribed(topic)
    rig.until(lambda: not rig.engine.turn())
    began = time.monotonic()
    for i in range(20):
        go = threading.Event()

        def elsewhere(go: threading.Event = go, i: int = i) -> None:
            go.wait()
            topic.publish(message(i))

        thread = in_thread(elsewhere)
        go.set()
        while len(peer.pull().frames) <= i:
            rig.engine.turn(PATIENCE)
        thread.join()
    assert time.monotonic() - began < PATIENCE
    assert connection.is_open


def test_subscribe_and_close_in_another_thread_keep_their_order(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.connect()

    def elsewhere() -> None:
        topic.publish("before")
        connection.subscribe(topic)
        topic.publish("inside")
        connection.unsubscribe(topic)
        topic.publish("after")
        connection.subscribe(topic)
        topic.publish("again")
        connection.close(4000)
        topic.publish("too late")

    thread = in_thread(elsewhere)
    rig.until(lambda: peer.pull().frames[-1:] == [(CLOSE, close_payload(4000))])
    thread.join()
    # Leaving drops what had not left yet.
    assert [p for p in peer.payloads if p != b"inside"] == [b"again"]


def test_staging_is_bounded(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    rig.engine.turn()

    def elsewhere() -> None:
        for _ in range(15):
            topic.publish(bytes(KIB * KIB // 4))
        with pytest.raises(LogFull):
            topic.publish(bytes(KIB * KIB // 4))

    in_thread(elsewhere).join()
    while rig.engine.turn():
        pass
    assert topic.appended == 15


def test_threads_publish_while_clients_come_and_go(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    rounds = threading.Semaphore(0)
    stop = threading.Event()

    def elsewhere() -> None:
        while rounds.acquire() and not stop.is_set():
            for i in range(50):
                topic.publish(message(i, 200))

    rig.engine.turn()
    threads = [in_thread(elsewhere) for _ in range(2)]
    peers: list[tuple[Connection, Peer]] = []
    try:
        for i in range(60):
            rounds.release(2)  # as many messages on a slow machine as on a fast one
            peers.append(rig.subscribed(topic))
            if i % 3 == 0:
                connection, peer = peers.pop(0)
                if i % 2:
                    connection.close()
                peer.sock.close()
            for _, peer in peers:
                peer.pull()
    finally:
        stop.set()
        rounds.release(2)
        for thread in threads:
            thread.join()

    def drained() -> bool:
        for _, peer in peers:
            peer.pull()
        return topic.account()["pending"] == 0

    rig.until(drained)
    assert not rig.errors
    assert balances(topic.account())
    assert topic.subscribers == len(peers)


def test_methods_other_than_commands_raise_in_another_thread() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, _ = rig.subscribed(topic)
        subscription = connection.subscribe(topic)
        engine = rig.engine
        calls: list[Callable[[], object]] = [
            engine.fileno, engine.flush, engine.close, engine.counters, engine.pacing,
            lambda: engine.listen(0), lambda: engine.topic("new"), lambda: engine.laggards(1),
            lambda: engine.set_rate(1), lambda: engine.set_format("json"), topic.account,
            lambda: topic.configure(on_slow="close", max_lag=Lag(bytes=1), retention_bytes=1),
            topic.close, lambda: topic.epoch, lambda: setattr(topic, "on_first_subscriber", print),
            lambda: engine.topics("new*"), engine.account, lambda: engine.topic_accounts(1),
            subscription.account, lambda: subscription.active, lambda: subscription.on_slow,
            connection.account, connection.abort, connection.pause_reading,
            connection.resume_reading, lambda: engine.meter(connection),
            lambda: engine.upgrade(connection, b""), lambda: engine.expect_body(connection, 1),
            lambda: engine.respond(connection, b"", keep_alive=True),
        ]  # fmt: skip
        refused: list[str] = []

        def elsewhere() -> None:
            for call in calls:
                with pytest.raises(RuntimeError, match="thread") as caught:
                    call()
                refused.append(str(caught.value))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(refused) == len(calls)
        assert connection.is_open


# One driver.


def refused_in_thread(*calls: Callable[[], object]) -> list[str]:
    """What each call says in a thread called "second", where it must fail."""
    said: list[str] = []

    def elsewhere() -> None:
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                said.append(str(error))

    thread = threading.Thread(target=elsewhere, name="second")
    thread.start()
    thread.join()
    assert len(said) == len(calls)
    return said


def test_a_turn_in_a_second_thread_is_refused_and_names_the_first(rig: Rig) -> None:
    connection, peer = rig.connect()
    (said,) = refused_in_thread(rig.engine.turn)
    assert threading.current_thread().name in said
    assert "call_soon_threadsafe" in said
    connection.send_nowait("here")
    rig.until(lambda: peer.pull().payloads == [b"here"])


def test_a_second_thread_is_refused_while_the_first_waits_in_a_turn(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.subscribed(topic)
    began, refused = threading.Event(), list[str]()

    def elsewhere() -> None:
        began.wait()
        calls: list[Callable[[], object]] = [
            rig.engine.turn, lambda: rig.engine.turn(1.0), rig.engine.close, rig.engine.flush
        ]  # fmt: skip
        for call in calls * 50:
            try:
                call()
            except RuntimeError as error:
                refused.append(str(error))
        topic.publish("done")  # wakes the first

    thread = in_thread(elsewhere)
    began.set()
    while not peer.pull().payloads:
        rig.engine.turn(PATIENCE)
    thread.join()
    assert len(refused) == 200
    assert connection.is_open


def test_turns_race_for_an_engine_that_nobody_drives_and_one_thread_wins() -> None:
    with Rig() as rig:
        rig.listen()
        barrier, drove, refused = threading.Barrier(8), list[str](), list[str]()
        ended = threading.Event()

        def elsewhere() -> None:
            barrier.wait()
            try:
                for _ in range(20):
                    rig.engine.turn(0.001)
                drove.append(threading.current_thread().name)
            except RuntimeError:
                refused.append(threading.current_thread().name)
            if len(drove) + len(refused) == 8:
                ended.set()
            ended.wait(PATIENCE)  # whoever ended before would leave the engine to another one

        threads = [in_thread(elsewhere) for _ in range(8)]
        for thread in threads:
            thread.join()
        assert (len(drove), len(refused)) == (1, 7)


def test_once_the_driver_has_ended_the_next_one_drives() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        first: list[Peer] = []
        in_thread(lambda: first.append(rig.subscribed(topic)[1])).join()
        topic.publish("staged, for nobody drives")
        rig.until(lambda: first[0].pull().payloads)  # from here on this one does
        assert not rig.engine.foreign
        refused_in_thread(rig.engine.turn, rig.engine.close)
        _, second = rig.subscribed(topic)
        topic.publish("on")
        rig.until(lambda: second.pull().payloads == [b"on"])


def test_an_engine_whose_driver_has_ended_may_be_closed_by_anyone() -> None:
    with Rig() as rig:
        in_thread(rig.connect).join()
        in_thread(rig.engine.close).join()
        assert rig.engine.live == 0
        assert len(rig.closed) == 1
        assert rig.engine.turn() is False


def test_a_thread_whose_number_was_used_before_is_not_taken_for_the_one_that_has_ended() -> None:
    with Rig() as rig:
        identities, refused = set[int](), list[str]()

        def turn() -> None:
            try:
                rig.engine.turn()
            except RuntimeError as error:
                refused.append(str(error))

        def drive() -> None:
            identities.add(threading.get_ident())
            rig.engine.turn()
            in_thread(turn).join()

        for i in range(20):  # the C library gives the next thread the same stack, and so its number
            thread = threading.Thread(target=drive, name=f"driver {i}")
            thread.start()
            thread.join()
        assert len(identities) < 20
        assert [f", driver {i}, " in said for i, said in enumerate(refused)] == [True] * 20
