"""Connection and Engine without an event loop: messages, handlers, ends."""

import asyncio
import gc
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    SWITCHED,
    TEXT,
    UPGRADE,
    Rig,
    client_frame,
    close_payload,
    open_files,
)

from fastws import Connection, ConnectionClosed, Engine

BYE = [(CLOSE, close_payload(1000))]

# Heads, messages, closes.


def test_messages_arrive_as_str_and_bytes() -> None:
    with Rig() as rig:
        _, peer = rig.connect()
        peer.send(client_frame(TEXT, "é".encode()) + client_frame(BINARY, b"\xff"))
        peer.send(client_frame(TEXT, b"a", fin=False) + client_frame(0, b"b"))
        rig.until(lambda: len(rig.messages) == 3)
        assert rig.messages == ["é", b"\xff", "ab"]


def test_ping_is_answered_between_messages() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        connection.send("one")
        peer.send(client_frame(PING, b"hello"))
        connection.send("two")
        rig.until(lambda: len(peer.pull().frames) == 3)
        assert (PONG, b"hello") in peer.frames
        assert peer.payloads == [b"one", b"two"]


@pytest.mark.parametrize(
    ("sent", "answered", "known"),
    [
        (close_payload(1000, "bye"), close_payload(1000, "bye"), (1000, "bye")),
        (close_payload(3999), close_payload(3999), (3999, "")),
        (b"", b"", (1005, "")),
    ],
)
def test_close_of_the_peer_is_echoed(sent: bytes, answered: bytes, known: tuple[int, str]) -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        peer.send(client_frame(CLOSE, sent))
        rig.until(lambda: peer.pull().ended)
        assert peer.frames == [(CLOSE, answered)]
        peer.sock.close()
        rig.until(lambda: rig.closed)
        assert rig.closed == [connection]
        assert (connection.close_code, connection.reason) == known
        assert not connection.is_open
        assert connection.remote == ("", 0)


def test_close_of_ours_goes_behind_what_was_sent() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.subscribed(topic)
        topic.publish("published")
        connection.send("sent")
        connection.close(4000, "enough")
        topic.publish("too late")
        with pytest.raises(ConnectionClosed):
            connection.send("too late")
        connection.close(4001)  # idempotent: the first one counts
        rig.until(lambda: len(peer.pull().frames) == 3)
        closing = (CLOSE, close_payload(4000, "enough"))
        assert peer.frames == [(TEXT, b"published"), (TEXT, b"sent"), closing]
        peer.send(client_frame(CLOSE, close_payload(4000, "enough")))
        rig.until(lambda: peer.pull().ended)
        peer.sock.close()
        rig.until(lambda: rig.closed)
        assert connection.close_code == 4000
        with pytest.raises(ConnectionClosed) as caught:
            connection.send("x")
        assert (caught.value.code, caught.value.reason) == (4000, "enough")


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, 65535])
def test_close_refuses_codes_that_must_not_be_sent(code: int) -> None:
    with Rig() as rig:
        connection, _ = rig.connect()
        with pytest.raises(ValueError, match="out of range"):
            connection.close(code)
        with pytest.raises(ValueError, match="out of range"):
            connection.close(1000, "x" * 124)
        assert connection.is_open


def test_peer_that_vanishes_ends_with_1006() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        peer.sock.close()
        rig.until(lambda: rig.closed)
        assert (connection.close_code, connection.reason) == (1006, "")


def test_abort_ends_it_without_a_word() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        connection.abort()
        rig.until(lambda: peer.pull().ended and rig.closed)
        assert peer.frames == []
        assert rig.closed == [connection]
        connection.abort()  # idempotent


def test_paused_connection_is_read_again_when_it_is_resumed() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        other, other_peer = rig.connect()
        connection.pause_reading()
        peer.send(client_frame(TEXT, b"later"))
        other_peer.send(client_frame(TEXT, b"now"))
        rig.until(lambda: rig.messages)
        assert rig.messages == ["now"]
        connection.resume_reading()
        rig.until(lambda: len(rig.messages) == 2)
        assert rig.messages == ["now", "later"]
        assert other.is_open


def test_unix_sockets_serve_too(tmp_path: Path) -> None:
    with Rig() as rig:
        path = rig.listen(str(tmp_path / "s"), socket.AF_UNIX)
        connection, peer = rig.connect(path, socket.AF_UNIX)
        topic = rig.engine.topic("t")
        connection.subscribe(topic)
        topic.publish("x")
        rig.until(lambda: peer.pull().frames)
        assert connection.remote == ("", 0)
        account = connection.account()
        assert (account["delivered"], account["acknowledged"]) == (1, None)


def test_client_role_masks_and_is_answered() -> None:
    with Rig() as server, Rig() as client:
        host, port = server.listen()
        heads: list[bytes] = []

        def opened(connection: Connection, head: bytes) -> None:
            heads.append(head)
            connection.upgrade(b"")
            connection.send("from the client")

        client.engine.on_head = opened
        sock = socket.create_connection((host, port))
        sock.setblocking(False)
        mine = client.engine.attach(sock.detach(), UPGRADE)
        server.engine.on_message = lambda theirs, message: theirs.send(f"echo {message}")

        def both() -> list[str | bytes]:
            server.engine.turn()
            return client.messages

        client.until(both)
        assert heads == [SWITCHED]
        assert client.messages == ["echo from the client"]
        assert mine.remote == (host, port)


# Handlers that misbehave.


def test_handler_that_raises_is_reported_and_hurts_nobody_else() -> None:
    with Rig() as rig:
        heard: list[str | bytes] = []

        def handler(_: Connection, message: str | bytes) -> None:
            heard.append(message)
            if message == "bad":
                raise ZeroDivisionError

        rig.engine.on_message = handler
        _, first = rig.connect()
        _, second = rig.connect()
        first.send(client_frame(TEXT, b"bad") + client_frame(TEXT, b"good"))
        second.send(client_frame(TEXT, b"good"))
        rig.until(lambda: len(heard) == 3)
        assert [type(error) for error in rig.errors] == [ZeroDivisionError]


def test_without_on_error_a_handler_that_raises_ends_the_connection() -> None:
    with Rig() as rig:
        rig.engine.on_error = None
        rig.engine.on_message = lambda *_: 1 // 0
        _, peer = rig.connect()
        _, other = rig.connect()
        peer.send(client_frame(TEXT, b"x"))
        rig.until(lambda: peer.pull().ended)
        assert not other.pull().ended


def test_on_close_that_raises_is_reported() -> None:
    with Rig() as rig:
        rig.engine.on_close = lambda _: 1 // 0
        connection, _ = rig.connect()
        connection.abort()
        rig.until(lambda: rig.errors)
        assert isinstance(rig.errors[0], ZeroDivisionError)


def test_turn_inside_a_handler_does_nothing() -> None:
    with Rig() as rig:
        answers: list[bool] = []
        rig.engine.on_message = lambda *_: answers.append(rig.engine.turn(5.0))
        _, peer = rig.connect()
        began = time.monotonic()
        peer.send(client_frame(TEXT, b"x"))
        rig.until(lambda: answers)
        assert answers == [False]
        assert time.monotonic() - began < 4


@pytest.mark.parametrize("event", ["on_head", "on_message", "on_close"])
def test_close_inside_a_handler_ends_the_turn(event: str) -> None:
    files = open_files()
    with Rig() as rig:
        _, peer = rig.connect()
        _, other = rig.connect()

        def close(*_: Any) -> None:
            rig.engine.close()
            rig.engine.close()

        setattr(rig.engine, event, close)
        if event == "on_head":
            rig.dial(peer.sock.getpeername(), socket.AF_INET).send(UPGRADE)
        elif event == "on_message":
            peer.send(client_frame(TEXT, b"x") * 3)
        else:
            peer.sock.close()
        rig.until(lambda: other.pull().ended)
        assert rig.engine.live == 0
        assert rig.engine.turn(1.0) is False
    assert open_files() == files


def test_subscribing_and_closing_inside_handlers_is_safe() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        everybody = [rig.connect() for _ in range(8)]

        def handler(connection: Connection, message: str | bytes) -> None:
            for other, _ in everybody:
                if other is not connection and other.is_open:
                    other.subscribe(topic)
            topic.publish(message)
            connection.unsubscribe(topic)
            connection.close(1000)

        rig.engine.on_message = handler
        for i, (_, peer) in enumerate(everybody):
            peer.send(client_frame(TEXT, b"%d" % i))
        rig.until(lambda: all(peer.pull().frames[-1:] == BYE for _, peer in everybody))
        assert topic.subscribers == 0


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
            connection.respond(b"HTTP/1.1 431 x\r\n\r\n", keep_alive=False)

        rig.engine.on_head_limit = over
        peer = rig.dial(rig.listen(), socket.AF_INET)
        peer.send(b"GET / HTTP/1.1\r\n" + b"x" * 300)
        rig.until(lambda: parts)
        assert parts[0].startswith(b"GET / HTTP/1.1\r\nxxx")
        assert len(parts[0]) == 256


def test_respond_twice_raises() -> None:
    with Rig() as rig:
        rig.engine.on_head = lambda connection, _: connection.respond(
            b"HTTP/1.1 204 x\r\n\r\n", keep_alive=True
        )
        peer = rig.dial(rig.listen(), socket.AF_INET)
        peer.send(b"GET / HTTP/1.1\r\n\r\n")
        rig.until(lambda: rig.engine.connections)
        (connection,) = rig.engine.connections
        with pytest.raises(ConnectionClosed):
            connection.respond(b"again", keep_alive=True)
        with pytest.raises(ConnectionClosed):
            connection.send("not a WebSocket")


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
        lambda: engine.topic("new"), lambda: engine.laggards(1), lambda: engine.set_rate(1),
        lambda: engine.set_format("json"), lambda: engine.record_latency(True),
        lambda: engine.start_source(topic, seed=1),
        topic.account, lambda: topic.subscribers, lambda: topic.delivered, lambda: topic.appended,
        lambda: topic.set_policy("close", max_lag_bytes=1, retention_bytes=1),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(RuntimeError, match="closed"):
            call()
    calls = [
        lambda: topic.publish("x"), lambda: connection.send("x"), lambda: connection.close(),
        lambda: connection.subscribe(topic), lambda: connection.unsubscribe(topic),
        connection.account, connection.pause_reading, connection.resume_reading, connection.meter,
        lambda: connection.respond(b"x", keep_alive=True), lambda: connection.upgrade(b"x"),
        lambda: connection.expect_body(1),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ConnectionClosed):
            call()
    assert engine.turn(1.0) is False
    assert (engine.live, engine.connections, engine.over_limit) == (0, [], False)
    assert not connection.is_open
    assert (connection.buffered_amount, connection.metered) == (0, (0, 0, 0))
    connection.abort()
    engine.close()


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


def forgotten_engine() -> tuple[socket.socket, socket.socket]:
    """A listener and a client of an engine that nobody holds any more, open and subscribed."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    engine = Engine()
    engine.listen(listener.fileno())

    def head(connection: Connection, _: bytes) -> None:
        connection.upgrade(SWITCHED)
        connection.state = (engine, connection)  # a circle, as owners make them
        connection.subscribe(engine.topic("t"))

    engine.on_head = head
    client = socket.create_connection(listener.getsockname())
    client.sendall(UPGRADE)
    while not engine.connections:
        engine.turn(1.0)
    engine.topic("t").publish("never flushed")
    return listener, client


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


def test_methods_other_than_commands_raise_in_another_thread() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, _ = rig.subscribed(topic)
        engine = rig.engine
        calls: list[Callable[[], object]] = [
            engine.fileno, engine.flush, engine.close, engine.counters, engine.pacing,
            lambda: engine.listen(0), lambda: engine.topic("new"), lambda: engine.laggards(1),
            lambda: engine.set_rate(1), lambda: engine.set_format("json"), topic.account,
            lambda: topic.set_policy("close", max_lag_bytes=1, retention_bytes=1),
            connection.account, connection.abort, connection.pause_reading,
            connection.resume_reading, connection.meter, lambda: connection.upgrade(b""),
            lambda: connection.respond(b"", keep_alive=True), lambda: connection.expect_body(1),
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
