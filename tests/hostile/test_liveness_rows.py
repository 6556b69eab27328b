"""R20, R21, X03, X46, X47: silent, unanswering and barely reading peers, by short times.

Engines of this process, over real sockets; tests/native does the same by a clock of its own.
"""

import time
from contextlib import suppress

import pytest
from support import PING, PONG, UPGRADE, Rig, client_frame

from fastws import Connection, ConnectionClosed

KIB = 1024


@pytest.mark.hostile("R20", "R21")
def test_a_silent_peer_is_pinged_and_let_go_as_1006() -> None:
    with Rig(ping_interval=0.4, pong_timeout=0.4) as rig:
        silent, silent_peer = rig.connect()
        lively, lively_peer = rig.connect()
        began = time.monotonic()

        def answer() -> bool:
            lively_peer.pull()
            for opcode, payload in lively_peer.frames:
                assert opcode == PING
                lively_peer.send(client_frame(PONG, payload))
            lively_peer.frames.clear()
            return silent in rig.closed

        rig.until(answer)
        assert 0.5 < time.monotonic() - began < 4
        assert silent.close_code == 1006
        assert silent_peer.pull().frames[0][0] == PING
        assert lively.is_open


@pytest.mark.hostile("X47")
def test_a_peer_that_takes_nothing_is_let_go_though_data_waits() -> None:
    with Rig(write_timeout=0.5, ping_interval=0) as rig:
        stuck, _ = rig.connect(receive_buffer=4096)
        other, peer = rig.connect()
        for _ in range(20):
            stuck.send_nowait(bytes(20 * KIB))
        other.send_nowait("hello")
        rig.until(lambda: stuck in rig.closed)
        assert stuck.close_code == 1006
        assert other.is_open
        assert peer.pull().payloads == [b"hello"]


@pytest.mark.hostile("X46")
def test_a_reader_of_a_byte_now_and_then_is_let_go() -> None:
    with Rig(write_timeout=0.5, ping_interval=0) as rig:
        slow, peer = rig.connect(receive_buffer=4096)
        for _ in range(20):
            slow.send_nowait(bytes(20 * KIB))

        def sip() -> bool:
            with suppress(BlockingIOError, ConnectionResetError):
                peer.sock.recv(1)
            return slow in rig.closed

        rig.until(sip)
        assert slow.close_code == 1006


@pytest.mark.hostile("X03")
def test_a_handshake_whose_decision_takes_too_long_is_let_go() -> None:
    with Rig(handshake_timeout=0.5) as rig:
        waiting: list[Connection] = []
        rig.engine.on_head = lambda connection, _: waiting.append(connection)
        peer = rig.dial(rig.listen(), 2)
        peer.send(UPGRADE)
        rig.until(lambda: waiting)
        rig.until(lambda: waiting[0] in rig.closed)
        with pytest.raises(ConnectionClosed):
            rig.engine.upgrade(waiting[0], b"too late")
        rig.until(lambda: peer.pull().ended)


@pytest.mark.hostile("X03")
def test_a_client_that_goes_while_it_is_decided_on_leaves_nothing() -> None:
    with Rig(handshake_timeout=0.5) as rig:
        waiting: list[Connection] = []
        rig.engine.on_head = lambda connection, _: waiting.append(connection)
        peer = rig.dial(rig.listen(), 2)
        peer.send(UPGRADE)
        rig.until(lambda: waiting)
        peer.sock.close()
        rig.until(lambda: waiting[0] in rig.closed)
        assert rig.engine.live == 0
