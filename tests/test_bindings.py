"""Connection and Engine without an event loop: messages, handlers, ends."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from support import (
    BINARY,
    CLOSE,
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

from fastws import Connection, ConnectionClosed

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
        connection.send_nowait("one")
        peer.send(client_frame(PING, b"hello"))
        connection.send_nowait("two")
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
        address = peer.sock.getsockname()
        peer.send(client_frame(CLOSE, sent))
        rig.until(lambda: peer.pull().ended)
        assert peer.frames == [(CLOSE, answered)]
        peer.sock.close()
        rig.until(lambda: rig.closed)
        assert rig.closed == [connection]
        assert (connection.close_code, connection.reason) == known
        assert not connection.is_open
        assert connection.remote_address == address


def test_close_of_ours_goes_behind_what_was_sent() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.subscribed(topic)
        topic.publish("published")
        connection.send_nowait("sent")
        connection.close(4000, "enough")
        topic.publish("too late")
        with pytest.raises(ConnectionClosed):
            connection.send_nowait("too late")
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
            connection.send_nowait("x")
        assert (caught.value.code, caught.value.reason) == (4000, "enough")


ILLEGAL = [-1, 0, 999, 1004, 1006, 1015, 2999, 5000, 65535, 65536 + 1000, 2**40]


@pytest.mark.parametrize("code", ILLEGAL)
def test_close_refuses_codes_that_must_not_be_sent(code: int) -> None:
    with Rig() as rig:
        connection, _ = rig.connect()
        with pytest.raises(ValueError, match=f"with code {code} .*3000-4999"):
            connection.close(code)
        with pytest.raises(ValueError, match=r"reason of 124 bytes.* at most 123"):
            connection.close(1000, "é" * 62)
        for reason in ("x", "x" * 124, "x" * 1_000_000):
            with pytest.raises(ValueError, match="1005 has none"):
                connection.close(1005, reason)
        with pytest.raises(TypeError, match=r"must be an integer, not 1000\.0"):
            connection.close(1000.0)  # type: ignore[arg-type]
        assert connection.is_open


def test_peer_that_vanishes_ends_with_1006() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        assert (connection.close_code, connection.reason) == (None, None)
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
        assert connection.remote_address == ("", 0)
        account = connection.account()
        assert (account["delivered"], account["acknowledged"]) == (1, None)


def test_client_role_masks_and_is_answered() -> None:
    with Rig() as server, Rig() as client:
        host, port = server.listen()
        heads: list[bytes] = []

        def opened(connection: Connection, head: bytes) -> None:
            heads.append(head)
            client.engine.upgrade(connection, b"")
            connection.send_nowait("from the client")

        client.engine.on_head = opened
        sock = socket.create_connection((host, port))
        sock.setblocking(False)
        mine = client.engine.attach(sock.detach(), UPGRADE)
        server.engine.on_message = lambda theirs, message: theirs.send_nowait(f"echo {message}")

        def both() -> list[str | bytes]:
            server.engine.turn()
            return client.messages

        client.until(both)
        assert heads == [SWITCHED]
        assert client.messages == ["echo from the client"]
        assert mine.remote_address == (host, port)


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


@pytest.mark.parametrize("hook", ["on_message", "on_close"])
def test_what_a_handler_cancelled_leaves_the_others_their_events(hook: str) -> None:
    with Rig() as rig:
        heard: list[Connection] = []

        def handler(connection: Connection, *_: object) -> None:
            heard.append(connection)
            raise asyncio.CancelledError

        setattr(rig.engine, hook, handler)
        for _, peer in [rig.connect() for _ in range(3)]:
            peer.send(client_frame(TEXT, b"x"))
            peer.sock.close()
        rig.until(lambda: len(heard) == 3)
        assert [type(error) for error in rig.errors] == [asyncio.CancelledError] * 3


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("hook", ["on_message", "on_close", "on_error"])
def test_an_interrupt_leaves_the_turn_behind_all_its_events(
    hook: str, interrupt: type[BaseException]
) -> None:
    with Rig() as rig:
        heard: list[object] = []

        def handler(*arguments: object) -> None:
            heard.append(arguments)
            raise interrupt

        if hook == "on_error":
            rig.engine.on_message = lambda *_: 1 // 0
        setattr(rig.engine, hook, handler)
        peers = [rig.connect()[1] for _ in range(3)]
        for peer in peers:
            peer.send(client_frame(TEXT, b"x"))
            peer.sock.close()
        while len(heard) < len(peers):
            with pytest.raises(interrupt):
                rig.until(lambda: False)
        rig.until(lambda: not rig.engine.connections)


def test_an_interrupt_leaves_a_close_of_the_engine_as_well() -> None:
    with Rig() as rig:

        def handler(*_: object) -> None:
            rig.engine.close()
            raise SystemExit

        rig.engine.on_message = handler
        _, peer = rig.connect()
        peer.send(client_frame(TEXT, b"x"))
        with pytest.raises(SystemExit):
            rig.until(lambda: False)
        assert rig.engine.live == 0
        assert peer.pull().ended


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
