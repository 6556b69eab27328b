"""The Close frames of both sides: `close_received`, `close_sent`, `closed_by_peer`."""

from typing import Any

import pytest
from support import CLOSE, TEXT, Peer, Rig, client_frame, close_payload

from fastws import Close, Connection


def frames(connection: Connection) -> tuple[Close | None, Close | None, bool | None]:
    return connection.close_received, connection.close_sent, connection.closed_by_peer


def end(rig: Rig, peer: Peer) -> None:
    rig.until(lambda: peer.pull().ended)
    peer.sock.close()
    rig.until(lambda: rig.closed)


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        (close_payload(1000, "bye"), Close(1000, "bye")),
        (close_payload(4999, "é" * 61), Close(4999, "é" * 61)),
        (close_payload(3000), Close(3000, "")),
        (b"", Close(1005, "")),
    ],
)
def test_the_close_of_the_peer_and_its_echo(sent: bytes, known: Close) -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        assert frames(connection) == (None, None, None)
        peer.send(client_frame(CLOSE, sent))
        rig.until(lambda: peer.pull().frames)
        assert frames(connection) == (known, known, True)
        end(rig, peer)
        assert frames(connection) == (known, known, True)
        assert (connection.close_code, connection.reason) == known


def test_our_close_and_the_answer() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        connection.close(4000, "enough")
        assert frames(connection) == (None, None, None)  # it has not left
        rig.until(lambda: peer.pull().frames)
        assert frames(connection) == (None, Close(4000, "enough"), False)
        peer.send(client_frame(CLOSE, close_payload(4001, "as you like")))
        end(rig, peer)
        both = (Close(4001, "as you like"), Close(4000, "enough"), False)
        assert frames(connection) == both
        assert (connection.close_code, connection.reason) == both[0]


def test_on_close_finds_both() -> None:
    with Rig() as rig:
        found: list[Any] = []
        rig.engine.on_close = lambda connection: found.append(frames(connection))
        _, peer = rig.connect()
        peer.send(client_frame(CLOSE, close_payload(1001)))
        rig.until(lambda: peer.pull().ended)
        peer.sock.close()
        rig.until(lambda: found)
        assert found == [(Close(1001, ""), Close(1001, ""), True)]


def test_a_broken_frame_is_answered_by_a_close_of_ours() -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        peer.send(client_frame(TEXT, b"\xc0"))
        end(rig, peer)
        assert frames(connection) == (None, Close(1007, ""), False)


@pytest.mark.parametrize("aborted", [False, True])
def test_without_a_close_there_is_none(aborted: bool) -> None:
    with Rig() as rig:
        connection, peer = rig.connect()
        if aborted:
            connection.abort()
        else:
            peer.sock.close()
        rig.until(lambda: rig.closed)
        assert frames(connection) == (None, None, None)
        assert connection.close_code == 1006


def test_a_close_behind_what_cannot_leave_was_not_sent() -> None:
    with Rig(outbox_limit=64 << 20) as rig:
        connection, _ = rig.connect(receive_buffer=4096)
        connection.send(bytes(32 << 20))
        connection.close(1000, "never seen")
        for _ in range(20):
            rig.engine.turn()
        assert frames(connection) == (None, None, None)
        connection.abort()
        rig.until(lambda: rig.closed)
        assert frames(connection) == (None, None, None)
        assert (connection.close_code, connection.reason) == (1000, "never seen")
