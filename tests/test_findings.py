"""What a reader of the whole found once, and what must not come back."""

import os
import select
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from support import (
    BINARY,
    CLOSE,
    PATIENCE,
    TEXT,
    UPGRADE,
    Peer,
    Rig,
    client_frame,
    close_payload,
    message,
)

from fastws import App, Connection, HandshakeError, Limits, Request, Response, Server
from fastws.cli.console import Console

ROOT = Path(__file__).resolve().parent.parent


def test_messages_back_to_back_each_have_their_own_time() -> None:
    with Rig(message_timeout=0.6, ping_interval=0) as rig:
        connection, peer = rig.connect()
        frame = client_frame(TEXT, b"x" * 40)
        peer.send(frame[:20])
        until = time.monotonic() + 1.5
        while time.monotonic() < until:  # no read ever ends between two messages
            rig.engine.turn(0.1)
            peer.send(frame[20:] + frame[:20])
        rig.engine.turn(0.05)
        assert connection.is_open
        rig.until(lambda: rig.closed)
        assert rig.engine.counters()["message_timeouts"] == 1


def test_who_is_not_read_is_not_timed() -> None:
    with Rig(ping_interval=0.3, pong_timeout=0.3, message_timeout=0.3) as rig:
        connection, peer = rig.connect()
        peer.send(client_frame(TEXT, b"half")[:-1])
        rig.engine.turn(0.05)
        connection.pause_reading()
        until = time.monotonic() + 2
        while time.monotonic() < until:
            rig.engine.turn(0.1)
        assert connection.is_open
        assert rig.engine.counters()["ping_timeouts"] == 0


def test_a_mute_peer_has_the_pong_time_once() -> None:
    with Rig(ping_interval=0.3, pong_timeout=1.0) as rig:
        began = time.monotonic()
        rig.connect()
        rig.until(lambda: rig.closed)
        assert rig.engine.counters()["ping_timeouts"] == 1
        assert rig.engine.counters()["pings"] == 1
        assert 1.1 < time.monotonic() - began < PATIENCE


def test_a_crowd_at_once_fills_the_places_before_it_is_refused() -> None:
    server = Server(App(), limits=Limits(max_connections=5))
    crowd: list[socket.socket] = []
    try:
        listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        listener.setblocking(False)
        for _ in range(12):
            sock = socket.create_connection(listener.getsockname())
            sock.sendall(UPGRADE)
            crowd.append(sock)
        server.engine.listen(listener.fileno())
        answers: list[bytes] = []
        waiting = list(crowd)
        deadline = time.monotonic() + PATIENCE
        while len(answers) < 12 and time.monotonic() < deadline:
            server.engine.turn(0.01)
            ready, _, _ = select.select(waiting, [], [], 0)
            for sock in ready:
                answers.append(sock.recv(12))
                waiting.remove(sock)
        assert sorted(answers) == [b"HTTP/1.1 101"] * 5 + [b"HTTP/1.1 503"] * 7
    finally:
        server.close()
        for sock in (listener, *crowd):
            sock.close()


def test_what_was_confirmed_is_remembered_after_the_close() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, peer = rig.subscribed(topic)
        for i in range(20):
            topic.publish(message(i))
        connection.close(1001)
        rig.until(lambda: peer.pull().frames and peer.frames[-1][0] == CLOSE)
        peer.send(client_frame(CLOSE, close_payload(1001)))
        rig.until(lambda: rig.closed or (peer.pull().ended and peer.sock.close()))
        account = topic.account()
        assert (account["delivered"], account["acknowledged"]) == (20, 20)


def test_a_handlers_burst_waits_for_the_end_of_its_turn() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        _, peer = rig.subscribed(topic)

        def answer(connection: Connection, text: str | bytes) -> None:
            if text == "big":
                for _ in range(300):
                    topic.publish("x" * 1000)
            connection.send_nowait(f"re {text!s}")

        rig.engine.on_message = answer
        peer.send(
            client_frame(TEXT, b"big")
            + client_frame(TEXT, b"two")
            + client_frame(CLOSE, close_payload(1000))
        )
        rig.until(lambda: peer.pull().frames and peer.frames[-1][0] == CLOSE)
        assert not rig.errors
        assert [text for text in peer.payloads if text.startswith(b"re")] == [b"re big", b"re two"]


def test_an_engine_that_closes_takes_no_newcomers() -> None:
    with Rig() as rig:
        rig.connect()
        left, right = socket.socketpair()
        refused: list[Exception] = []

        def reconnect(_: Connection) -> None:
            try:
                rig.engine.attach(left.fileno(), b"GET / HTTP/1.1\r\n\r\n")
            except RuntimeError as error:
                refused.append(error)

        rig.engine.on_close = reconnect
        rig.engine.close()
        assert len(refused) == 1
        left.close()
        right.close()


def test_a_turn_never_raises_even_when_its_error_handler_does() -> None:
    with Rig() as rig:
        _, first = rig.connect()
        _, second = rig.connect()

        def bad(*_: object) -> None:
            raise ZeroDivisionError

        rig.engine.on_message = bad
        rig.engine.on_error = bad
        first.send(client_frame(TEXT, b"a"))
        second.send(client_frame(TEXT, b"b"))
        rig.until(lambda: len(rig.closed) == 2)


def test_compressed_messages_of_one_turn_are_bounded_in_memory() -> None:
    raw = zlib.compressobj(wbits=-15)
    data = (raw.compress(bytes(1 << 20)) + raw.flush(zlib.Z_SYNC_FLUSH))[:-4]
    frame = bytearray(client_frame(BINARY, data))
    frame[0] |= 0x40  # RSV1
    with Rig() as rig:
        peers: list[Peer] = []
        address = rig.listen()
        rig.engine.on_head = lambda c, _: rig.engine.upgrade(c, b"", window_bits=15)
        for _ in range(4):
            peers.append(rig.dial(address, socket.AF_INET))
            peers[-1].send(UPGRADE + bytes(frame) * 20)
        sizes: list[int] = []
        rig.engine.on_message = lambda _, message: sizes.append(len(message))
        most, before = 0, 0
        deadline = time.monotonic() + PATIENCE
        while len(sizes) < 80 and time.monotonic() < deadline:
            rig.engine.turn(0.01)
            most = max(most, len(sizes) - before)
            before = len(sizes)
        assert sizes == [1 << 20] * 80
        assert most <= 2


class Refusing(App):
    def http(self, request: Request) -> Response:
        raise HandshakeError(403, "No")


@pytest.mark.parametrize("body", [b"", b"hi"])
def test_a_refusal_is_the_same_with_and_without_a_body(body: bytes) -> None:
    server = Server(Refusing())
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        server.engine.listen(listener.fileno())
        with socket.create_connection(listener.getsockname()) as client:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
            client.sendall(head % len(body) + body)
            client.setblocking(False)
            deadline = time.monotonic() + PATIENCE
            while not select.select([client], [], [], 0)[0] and time.monotonic() < deadline:
                server.engine.turn(0.01)
            assert client.recv(100).startswith(b"HTTP/1.1 403 ")
    finally:
        listener.close()
        server.close()


def test_a_pipe_that_is_full_stops_nobody() -> None:
    code = (
        "from fastws.cli.console import Console\n"
        "c = Console()\n"
        "for i in range(100000): c.write('x' * 100)\n"
        "c.close()\n"
    )
    read_end, write_end = os.pipe()  # nobody reads
    process = subprocess.Popen([sys.executable, "-c", code], stdout=write_end, cwd=ROOT)
    os.close(write_end)
    try:
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        os.close(read_end)


def test_a_console_writes_what_it_was_given_in_order(capfd: pytest.CaptureFixture[str]) -> None:
    console = Console()
    for i in range(100):
        console.write(str(i))
    console.close()
    assert capfd.readouterr().out.split() == [str(i) for i in range(100)]
