"""L: messages at and past the limit of 1 MiB, which the header alone decides."""

import os

import pytest
from servers import Place
from surroundings import INSTRUMENTED
from wire import BINARY, CONTINUATION, PING, PONG, TEXT, frame

MIB = 1 << 20
LIMIT = MIB  # the default of max_message_size


@pytest.mark.hostile("L01")
def test_a_message_of_exactly_the_limit_is_echoed(echo: Place) -> None:
    wire = echo.open()
    payload = os.urandom(LIMIT)
    wire.round_trip(BINARY, payload)
    wire.round_trip(TEXT, b"x" * LIMIT)
    wire.send(frame(BINARY, payload[: LIMIT // 3], fin=False))
    wire.send(frame(CONTINUATION, payload[LIMIT // 3 : -1], fin=False))
    wire.send(frame(CONTINUATION, payload[-1:]))
    wire.echoes(BINARY, payload)


@pytest.mark.hostile("L02")
@pytest.mark.parametrize("declared", [LIMIT + 1, 1 << 31, 1 << 32, 1 << 62])
def test_a_header_past_the_limit_fails_before_any_payload(echo: Place, declared: int) -> None:
    before = echo.rss_bytes()
    wire = echo.open()
    wire.send(frame(BINARY, declared=declared))
    wire.fails(1009)
    assert INSTRUMENTED or echo.rss_bytes() - before < MIB


@pytest.mark.hostile("L02")
def test_a_header_past_the_limit_fails_with_its_first_byte_of_payload_cut(echo: Place) -> None:
    wire = echo.open()
    echo.in_pieces(wire, frame(BINARY, b"x", declared=LIMIT + 1), 1)
    wire.fails(1009, may_reset=True)


@pytest.mark.hostile("L03")
def test_a_whole_message_past_the_limit_fails(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(BINARY, bytes(LIMIT + 1)))
    wire.fails(1009, may_reset=True)


@pytest.mark.hostile("L04")
def test_fragments_past_the_limit_fail_at_the_header_that_passes_it(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(TEXT, b"x" * (LIMIT - 10), fin=False))
    wire.send(frame(PING, b"between"))
    wire.echoes(PONG, b"between")
    wire.send(frame(CONTINUATION, b"x" * 10, fin=False))
    wire.send(frame(PING, b"at the limit"))
    wire.echoes(PONG, b"at the limit")
    wire.send(frame(CONTINUATION, declared=1))
    wire.fails(1009)


@pytest.mark.hostile("L04")
def test_lengths_of_fragments_do_not_overflow_together(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(BINARY, b"xx", fin=False))
    wire.send(frame(CONTINUATION, declared=(1 << 63) - 1))
    wire.fails(1009)


@pytest.mark.hostile("L07")
def test_a_neighbour_in_the_middle_of_a_message_is_unharmed(echo: Place) -> None:
    payload = os.urandom(LIMIT)
    neighbour = echo.open()
    neighbour.send(frame(BINARY, payload[: LIMIT // 2], fin=False))
    for _ in range(5):
        wire = echo.open()
        wire.send(frame(BINARY, bytes(LIMIT + 1)))
        wire.fails(1009, may_reset=True)
    neighbour.send(frame(CONTINUATION, payload[LIMIT // 2 :]))
    neighbour.echoes(BINARY, payload)
