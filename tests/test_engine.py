"""Limits and ends of an Engine without an event loop; descriptors and garbage."""

import asyncio
import gc
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import (
    PATIENCE,
    SWITCHED,
    TEXT,
    UPGRADE,
    Rig,
    client_frame,
    open_files,
)

from fastws import Connection, ConnectionClosed, Engine
from fastws.lag import Lag

# Time-outs and limits.


def test_silent_socket_is_cut_off_after_the_handshake_time_out() -> None:
    with Rig(handshake_timeout=0.1) as rig:
        peer = rig.dial(rig.listen(), socket.AF_INET)
        peer.send(UPGRADE[:-1])
        rig.until(lambda: peer.pull().ended)
        assert rig.opened == []
        assert rig.engine.counters()["handshake_timeouts"] == 1


@pytest.mark.slow
def test_idle_engine_does_not_forgive_its_first_client() -> None:
    """The time in which nobody was there to be looked at is no lateness of the engine."""
    with Rig(handshake_timeout=0.1) as rig:
        address = rig.listen()
        rig.engine.turn()
        time.sleep(1.5)  # idle, as in a loop to which nothing happens
        peer = rig.dial(address, socket.AF_INET)
        began = time.monotonic()
        rig.until(lambda: peer.pull().ended)
        assert time.monotonic() - began < 1.3


def test_head_past_the_limit_is_told_with_its_beginning() -> None:
    with Rig(head_limit=256) as rig:
        parts: list[bytes] = []

        def over(connection: Connection, part: bytes) -> None:
            parts.append(part)
            rig.engine.respond(connection, b"HTTP/1.1 431 x\r\n\r\n", keep_alive=False)

        rig.engine.on_head_limit = over
        peer = rig.dial(rig.listen(), socket.AF_INET)
        peer.send(b"GET / HTTP/1.1\r\n" + b"x" * 300)
        rig.until(lambda: parts)
        assert parts[0].startswith(b"GET / HTTP/1.1\r\nxxx")
        assert len(parts[0]) == 256


def test_respond_twice_raises() -> None:
    with Rig() as rig:
        rig.engine.on_head = lambda connection, _: rig.engine.respond(
            connection, b"HTTP/1.1 204 x\r\n\r\n", keep_alive=True
        )
        peer = rig.dial(rig.listen(), socket.AF_INET)
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        rig.until(lambda: rig.engine.connections)
        (connection,) = rig.engine.connections
        with pytest.raises(ConnectionClosed):
            rig.engine.respond(connection, b"again", keep_alive=True)
        with pytest.raises(ConnectionClosed):
            connection.send_nowait("not a WebSocket")


def test_a_turn_without_poll_sends_and_leaves_the_sockets_alone(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    _, peer = rig.subscribed(topic)
    rig.until(lambda: not rig.engine.turn())
    peer.send(client_frame(TEXT, b"asked"))
    topic.publish("x")
    for _ in range(10):
        rig.engine.turn(poll=False)
    assert rig.messages == []
    rig.until(lambda: peer.pull().frames)
    assert peer.payloads == [b"x"]
    rig.until(lambda: rig.messages)
    assert rig.messages == ["asked"]


# Ends.


def test_use_after_close_raises() -> None:
    rig = Rig()
    with rig:
        topic = rig.engine.topic("t")
        connection, _ = rig.subscribed(topic)
    engine = rig.engine
    calls: list[Callable[[], object]] = [
        engine.fileno, engine.flush, engine.counters, engine.pacing, engine.metered,
        lambda: engine.listen(0), lambda: engine.unlisten(0), lambda: engine.attach(0, b"x"),
        lambda: engine.topic("new"), lambda: engine.topics("new*"), engine.account,
        lambda: engine.topic_accounts(1), lambda: engine.laggards(1), lambda: engine.set_rate(1),
        lambda: engine.set_format("json"), lambda: engine.record_latency(True),
        lambda: engine.start_source(topic, seed=1),
        topic.account, lambda: topic.subscribers, lambda: topic.delivered, lambda: topic.appended,
        lambda: topic.configure(on_slow="close", max_lag=Lag(bytes=1), retention_bytes=1),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(RuntimeError, match="closed"):
            call()
    calls = [
        lambda: topic.publish("x"), lambda: connection.send_nowait("x"),
        lambda: connection.subscribe(topic), lambda: connection.unsubscribe(topic),
        connection.account, connection.pause_reading, connection.resume_reading,
        lambda: engine.respond(connection, b"x", keep_alive=True),
        lambda: engine.upgrade(connection, b"x"), lambda: engine.expect_body(connection, 1),
        lambda: engine.meter(connection),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ConnectionClosed):
            call()
    connection.close()
    assert engine.turn(1.0) is False
    assert (engine.live, engine.connections) == (0, [])
    assert not connection.is_open
    assert (connection.buffered_amount, engine.metered_of(connection)) == (0, (0,) * 6)
    connection.abort()
    engine.close()


def test_close_ends_every_connection_that_anybody_holds() -> None:
    near, far = socket.socketpair()
    spare, other = socket.socketpair()
    near.setblocking(False)
    found: list[Connection] = []

    def closed(connection: Connection) -> None:
        rig.closed.append(connection)
        found.extend([*rig.engine.all_connections(), *rig.engine.connections])
        with pytest.raises(RuntimeError, match="closing"):
            rig.engine.attach(spare.fileno(), b"")

    with far, spare, other, Rig() as rig:
        rig.engine.on_close = closed
        address = rig.listen()
        held = [rig.connect(address)[0], rig.connect(address)[0]]
        held.append(rig.engine.attach(near.detach(), b"GET / HTTP/1.1\r\n\r\n"))
        rig.dial(address, socket.AF_INET)  # and does not say a word
        rig.until(lambda: rig.engine.live == 4)
        held += set(rig.engine.all_connections()) - set(held)
        held[0].abort()
        rig.engine.close()
    assert len(held) == 4
    assert (set(rig.closed), len(rig.closed), found) == (set(held), 4, [])
    for connection in held:
        assert not connection.is_open
        with pytest.raises(ConnectionClosed):
            connection.pause_reading()


def test_descriptors_return_when_connections_end_and_when_the_engine_closes() -> None:
    before = open_files()
    with Rig() as rig:
        rig.listen()
        with_engine = open_files()
        for _ in range(50):
            connection, peer = rig.connect()
            connection.close()
            rig.until(lambda: peer.pull().frames)  # noqa: B023
            peer.sock.close()
        rig.until(lambda: rig.engine.live == 0)
        assert open_files() == with_engine
        for _ in range(50):
            rig.connect()
        assert open_files() == with_engine + 100
    assert open_files() == before


@pytest.mark.hostile("X29")
def test_a_connection_that_nobody_holds_is_not_collected_while_it_lives() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        connection.context = {"name": "kept"}
        connection.subscribe(rig.engine.topic("t"))
        number = connection.id
        del connection
        rig.opened.clear()
        gc.collect()
        heard: list[tuple[int, object]] = []
        rig.engine.on_message = lambda found, message: heard.append((found.id, found.context))
        peer.send(client_frame(TEXT, b"hello"))
        rig.until(lambda: heard)
        assert heard == [(number, {"name": "kept"})]
        rig.engine.topic("t").publish(b"news")
        rig.until(lambda: peer.pull().payloads == [b"news"])


def forgotten_engine() -> tuple[socket.socket, socket.socket]:
    """A listener and a client of an engine that nobody holds any more, open and subscribed."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    engine = Engine()
    engine.listen(listener.fileno())

    def head(connection: Connection, _: bytes) -> None:
        engine.upgrade(connection, SWITCHED)
        connection.context = (engine, connection)  # a circle, as owners make them
        connection.subscribe(engine.topic("t"))

    engine.on_head = head
    client = socket.create_connection(listener.getsockname())
    client.sendall(UPGRADE)
    while not engine.connections:
        engine.turn(1.0)
    engine.topic("t").publish("never flushed")
    return listener, client


@pytest.mark.hostile("X29")
def test_garbage_collection_of_an_engine_closes_its_connections() -> None:
    gc.collect()
    before = open_files()
    listener, client = forgotten_engine()
    with listener, client:
        gc.collect()
        client.settimeout(PATIENCE)
        while client.recv(65536):
            pass
    assert open_files() == before


def test_a_thousand_engines_live_on_one_loop(run: Callable[[Any], Any]) -> None:
    before = open_files()

    async def story() -> None:
        loop = asyncio.get_running_loop()
        engines = []
        for _ in range(1000):
            engine = Engine()
            loop.add_reader(engine.fileno(), engine.turn)
            engine.topic("t").publish("x")
            engines.append(engine)
        await asyncio.sleep(0)
        assert open_files() >= before + 3000
        for engine in engines:
            loop.remove_reader(engine.fileno())
            engine.close()

    run(story())
    assert open_files() <= before + 8  # the loop's own
