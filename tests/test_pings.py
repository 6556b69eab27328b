"""Pings of the program (`send_ping`, `on_pong`), and of the engine."""

import threading
from typing import Any

import pytest
from support import CLOSE, PING, PONG, Peer, Rig, client_frame, close_payload

from fastws import Close, Connection, ConnectionClosed, LogFull


def told(rig: Rig) -> list[tuple[Connection, bytes]]:
    """What `on_pong` is called with."""
    found: list[tuple[Connection, bytes]] = []
    rig.engine.on_pong = lambda connection, payload: found.append((connection, payload))
    return found


def pong(peer: Peer, *payloads: bytes) -> None:
    peer.send(b"".join(client_frame(PONG, payload) for payload in payloads))


@pytest.mark.parametrize("payload", [b"", b"x", b"\x00\xff", b"x" * 125])
def test_a_pong_is_told_with_its_payload(payload: bytes) -> None:
    with Rig() as rig:
        found = told(rig)
        connection, peer = rig.connect()
        pong(peer, b"unasked", payload)
        peer.send(client_frame(1, b"first"))
        rig.until(lambda: rig.messages)
        connection.send_ping(payload)
        rig.until(lambda: peer.pull().frames)
        assert peer.frames == [(PING, payload)]
        pong(peer, payload, payload)
        peer.send(client_frame(1, b"behind"))
        rig.until(lambda: len(rig.messages) == 2)
        assert found == [(connection, payload)]


def test_pongs_come_until_the_latest_ping_is_answered() -> None:
    with Rig() as rig:
        found = told(rig)
        connection, peer = rig.connect()
        for payload in (b"1", b"2", b"3"):
            connection.send_ping(payload)
        rig.until(lambda: len(peer.pull().frames) == 3)
        pong(peer, b"1", b"3", b"2")
        rig.until(lambda: len(found) == 2)
        assert [payload for _, payload in found] == [b"1", b"3"]


def test_the_engines_own_pings_stay_its_own() -> None:
    with Rig(ping_interval=0.2, pong_timeout=5) as rig:
        found = told(rig)
        connection, peer = rig.connect()
        rig.until(lambda: peer.pull().frames)
        ((opcode, own),) = peer.frames
        assert (opcode, len(own)) == (PING, 4)
        connection.send_ping(b"mine")
        pong(peer, own, b"mine")
        rig.until(lambda: found)
        assert found == [(connection, b"mine")]


def test_what_cannot_be_a_ping_is_refused() -> None:
    with Rig() as rig:
        connection, _ = rig.connect()
        with pytest.raises(ValueError, match=r"at most 125 bytes, not 126"):
            connection.send_ping(bytes(126))
        wrong: Any = "text"
        with pytest.raises(TypeError):
            connection.send_ping(wrong)
        connection.close()
        with pytest.raises(ConnectionClosed):
            connection.send_ping(b"late")


def test_pings_to_a_peer_that_does_not_read_are_bounded() -> None:
    with Rig(outbox_limit=8192) as rig:
        connection, _ = rig.connect()
        while rig.engine.buffered_bytes <= 8192:
            connection.send_ping(b"there?")
        with pytest.raises(LogFull):
            connection.send_ping(b"there?")
        assert rig.engine.buffered_bytes < 3 * 8192


def test_another_thread_may_ping() -> None:
    with Rig() as rig:
        found = told(rig)
        connection, peer = rig.connect()
        thread = threading.Thread(target=connection.send_ping, args=(b"from afar",))
        thread.start()
        thread.join()
        rig.until(lambda: peer.pull().frames)
        pong(peer, b"from afar")
        rig.until(lambda: found)
        assert found == [(connection, b"from afar")]


def test_on_pong_that_raises_is_reported() -> None:
    with Rig() as rig:
        rig.engine.on_pong = lambda *_: 1 // 0
        connection, peer = rig.connect()
        connection.send_ping(b"x")
        pong(peer, b"x")
        rig.until(lambda: rig.errors)
        assert isinstance(rig.errors[0], ZeroDivisionError)


def test_without_on_pong_a_pong_is_nothing() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        connection.send_ping(b"x")
        pong(peer, b"x")
        peer.send(client_frame(1, b"behind"))
        rig.until(lambda: rig.messages)
        assert connection.is_open


@pytest.mark.hostile("R20", "R21")
def test_a_peer_that_does_not_answer_is_told_1011_and_cut_off() -> None:
    with Rig(ping_interval=0.2, pong_timeout=0.3, close_timeout=60) as rig:
        connection, peer = rig.connect()
        rig.until(lambda: rig.closed)
        rig.until(lambda: peer.pull().ended)
        assert [opcode for opcode, _ in peer.frames] == [PING, CLOSE]
        assert peer.frames[1][1] == close_payload(1011, "ping timeout")
        assert connection.close_sent == Close(1011, "ping timeout")
        assert connection.close_received is None
        assert connection.closed_by_peer is False
        assert (connection.close_code, connection.reason) == (1006, "")  # none was received
        assert rig.engine.counters()["ping_timeouts"] == 1
