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
                connection.send(message(i, 100))
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
    rig.engine.turn()
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
