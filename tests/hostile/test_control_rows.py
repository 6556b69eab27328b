"""C: pings are answered, in order, at no cost; pongs that nobody asked for are passed over."""

import socket

import pytest
from servers import Place
from surroundings import INSTRUMENTED
from wire import PING, PONG, TEXT, frame


@pytest.mark.hostile("C01")
def test_an_empty_ping_is_answered_by_an_empty_pong(echo: Place) -> None:
    wire = echo.open()
    wire.message(PING, b"")
    wire.echoes(PONG, b"")


@pytest.mark.hostile("C02")
def test_a_ping_of_125_bytes_comes_back_byte_by_byte_equal(echo: Place) -> None:
    wire = echo.open()
    for payload in (bytes(range(125)), bytes(range(131, 256)), b"\xff" * 125):
        wire.message(PING, payload)
        wire.echoes(PONG, payload)


@pytest.mark.hostile("C03")
def test_a_ping_byte_by_byte_is_answered(echo: Place) -> None:
    wire = echo.open()
    echo.in_pieces(wire, frame(PING, b"slowly does it"), 1)
    wire.echoes(PONG, b"slowly does it")


@pytest.mark.hostile("C04")
def test_ten_pings_at_once_are_answered_in_order(echo: Place) -> None:
    wire = echo.open()
    wire.send(b"".join(frame(PING, b"%d" % i) for i in range(10)))
    for i in range(10):
        wire.echoes(PONG, b"%d" % i)


@pytest.mark.hostile("C05")
def test_unsolicited_pongs_are_passed_over(echo: Place) -> None:
    wire = echo.open()
    wire.send(b"".join(frame(PONG, b"x" * n) for n in (0, 1, 125)) + frame(TEXT, b"and then"))
    wire.echoes(TEXT, b"and then")


@pytest.mark.hostile("C06")
def test_20_000_pings_whose_answers_nobody_reads_cost_no_memory(echo: Place) -> None:
    pings = b"".join(frame(PING, b"%120d" % i) for i in range(20_000))
    wire = echo.dial()
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.handshake()
    before = echo.rss_bytes()
    sent = wire.send_blindly(pings, echo.settle)
    assert INSTRUMENTED or echo.rss_bytes() - before < 1 << 20
    wire.send(pings[sent:])  # and now it reads
    last = -1
    while last < 19_999:
        opcode, payload = wire.frame()
        assert opcode == PONG
        assert int(payload) > last  # RFC 6455 5.5.3: those in between may be left out
        last = int(payload)
    wire.round_trip(TEXT, b"nothing is left over")
