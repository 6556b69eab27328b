"""K: the closing handshake, with every code, and peers that do not keep to it."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from servers import Place, server
from wire import (
    BINARY,
    CLOSE,
    CLOSE_TIMEOUT,
    CONTINUATION,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    close_payload,
    frame,
)

CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000,
         4999)  # fmt: skip
GOODBYE = frame(CLOSE, close_payload(1000))


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", marks=pytest.mark.hostile("K01"), id="empty"),
        *(
            pytest.param(close_payload(code), marks=pytest.mark.hostile(f"K{n:02}"), id=f"{code}")
            for n, code in enumerate(CODES, 2)
        ),
        pytest.param(
            close_payload(1000, b"x" * 123), marks=pytest.mark.hostile("K18"), id="123 bytes"
        ),
        pytest.param(
            close_payload(4321, "läuft \U0010ffff\0".encode()),
            marks=pytest.mark.hostile("K19"),
            id="any text",
        ),
    ],
)
def test_a_legal_close_is_echoed_and_tcp_closed(echo: Place, payload: bytes) -> None:
    wire = echo.open()
    wire.send(frame(CLOSE, payload))
    wire.closes(payload)
    wire = echo.open()
    echo.in_pieces(wire, frame(CLOSE, payload), 1, 1, 7, 200)
    wire.closes(payload)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        pytest.param(b"\x03", 1002, marks=pytest.mark.hostile("K30")),
        *(
            pytest.param(close_payload(bad), 1002, marks=pytest.mark.hostile(f"K{n}"))
            for n, bad in enumerate((0, 999, 1004, 1005, 1006, 1015), 31)
        ),
        *(
            pytest.param(close_payload(bad), 1002, marks=pytest.mark.hostile(f"K{n}"))
            for n, bad in enumerate((1016, 1100, 2000, 2999, 5000, 65535), 40)
        ),
        pytest.param(close_payload(1000, b"\xff"), 1007, marks=pytest.mark.hostile("K50")),
        pytest.param(close_payload(1000, b"ok \xe2\x82"), 1007, marks=pytest.mark.hostile("K51")),
        pytest.param(close_payload(1000, b"x" * 124), 1002, marks=pytest.mark.hostile("K52")),
    ],
    ids=lambda value: value[:4].hex() if isinstance(value, bytes) else None,
)
def test_an_illegal_close_fails(echo: Place, payload: bytes, code: int) -> None:
    wire = echo.open()
    wire.send(frame(CLOSE, payload))
    wire.fails(code)
    wire = echo.open()
    wire.send(frame(TEXT, b"good") + frame(CLOSE, payload) + frame(TEXT, b"never read"))
    wire.echoes(TEXT, b"good")
    wire.fails(code)


@pytest.mark.hostile("K60")
def test_data_behind_a_close_is_ignored(echo: Place) -> None:
    wire = echo.open()
    wire.send(GOODBYE + frame(TEXT, b"too late") + frame(PING, b"too") + frame(3, b"wrong too"))
    wire.closes(close_payload(1000))
    wire = echo.open()
    wire.send(GOODBYE)
    wire.echoes(CLOSE, close_payload(1000))
    wire.send(frame(TEXT, b"too late"))
    wire.ends()


@pytest.mark.hostile("K61")
def test_two_closes_have_one_answer(echo: Place) -> None:
    wire = echo.open()
    wire.send(GOODBYE + frame(CLOSE, close_payload(1001)))
    wire.closes(close_payload(1000))
    wire = echo.open()
    wire.send(frame(3))
    wire.send(GOODBYE)  # to a server that has failed the connection
    wire.fails(1002)


@pytest.mark.hostile("X70")
@pytest.mark.parametrize("bad", [frame(3), frame(TEXT, b"\xff"), GOODBYE], ids=bytes.hex)
def test_the_close_survives_what_a_client_sends_behind_it(echo: Place, bad: bytes) -> None:
    wire = echo.open()
    wire.sock.send(bad)
    for _ in range(12):  # 60 KB in all, not a byte read meanwhile
        echo.settle()
        wire.sock.send(bytes(5000))
    opcode, payload = wire.frame()
    assert (opcode, len(payload)) == (CLOSE, 2)
    wire.ends()  # no reset


@pytest.mark.hostile("X70")
def test_who_never_stops_sending_is_cut_off_all_the_same(echo: Place) -> None:
    wire = echo.open()
    wire.sock.send(frame(3))
    began = time.monotonic()
    while not wire.refused:
        wire.send(bytes(50_000))
        assert time.monotonic() - began < CLOSE_TIMEOUT
    wire.fails(1002, may_reset=True)
    assert echo.comes_to_rest()


@pytest.mark.hostile("K62")
def test_a_message_in_one_segment_with_close_is_answered_first(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(TEXT, b"one") + frame(PING, b"!") + frame(BINARY, b"x" * 70_000) + GOODBYE)
    found = [wire.frame() for _ in range(3)]
    assert (PONG, b"!") in found
    found.remove((PONG, b"!"))  # a control frame may overtake
    assert found == [(TEXT, b"one"), (BINARY, b"x" * 70_000)]
    wire.closes(close_payload(1000))


@pytest.mark.hostile("K63")
def test_a_close_inside_a_message_closes(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(TEXT, b"be", fin=False) + GOODBYE + frame(CONTINUATION, b"gun"))
    wire.closes(close_payload(1000))


@pytest.mark.hostile("K64")
def test_the_end_of_tcp_without_close_is_the_end(echo: Place) -> None:
    wire = echo.open()
    wire.fin()
    wire.ends()
    assert echo.comes_to_rest()
    wire = echo.open()
    wire.round_trip(TEXT, b"used before")
    wire.fin()
    wire.ends()
    assert echo.comes_to_rest()


@pytest.mark.hostile("K65")
def test_the_end_of_tcp_within_a_frame_is_the_end(echo: Place) -> None:
    data = frame(TEXT, b"x" * 200)
    for cut in (1, 2, 3, 4, 7, 8, 9, 150, len(data) - 1):
        wire = echo.open()
        wire.send(data[:cut])
        wire.fin()
        wire.ends()
    wire = echo.open()
    wire.send(frame(TEXT, b"half a message", fin=False))
    wire.fin()
    wire.ends()
    assert echo.comes_to_rest()


def silent_after_the_servers_close(place: Place) -> float:
    """Seconds that a server which stops waits for a client that does not answer its 1001."""
    with (
        TemporaryDirectory() as directory,
        server("echo", place.loop, place.transport, Path(directory)) as other,
    ):
        wire = other.open()
        other.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        opcode, payload = wire.frame()
        assert (opcode, payload[:2]) == (CLOSE, close_payload(1001))
        wire.ends(within=CLOSE_TIMEOUT + 2, may_reset=True)
        took = time.monotonic() - began
        assert other.process.wait(PATIENCE) == 0
        return took


@pytest.mark.timeout(180)
@pytest.mark.slow
@pytest.mark.hostile("K66")
def test_a_client_silent_after_our_close_is_cut_off_at_the_close_timeout(
    where: str, slowly: Callable[[Callable[[Place], object], str], float]
) -> None:
    took = slowly(silent_after_the_servers_close, where)
    assert CLOSE_TIMEOUT - 0.5 < took < CLOSE_TIMEOUT + 1.5


@pytest.mark.hostile("K66", "K67")
def test_a_client_that_never_closes_tcp_costs_no_descriptor(echo: Place) -> None:
    wires = [echo.open() for _ in range(4)]
    wires[0].send(GOODBYE)
    wires[0].closes(close_payload(1000))
    wires[1].send(frame(3))
    wires[1].fails(1002)
    wires[2].send(frame(CLOSE))
    wires[2].closes(b"")
    wires[3].send(b"\xff" * 100)
    wires[3].fails(1002)
    began = time.monotonic()
    assert echo.comes_to_rest()  # though all four are still open here
    assert time.monotonic() - began < CLOSE_TIMEOUT
