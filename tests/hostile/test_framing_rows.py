"""E and F: frames of every length come back exactly; what is no legal frame fails with its code."""

import random

import pytest
from servers import Place
from surroundings import INSTRUMENTED
from wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    frame,
    request,
)

LENGTHS = (0, 1, 125, 126, 127, 128, 65535, 65536, 65537, 1 << 20)


def noise(n: int) -> bytes:
    return random.Random(n).randbytes(n)


@pytest.mark.hostile("E01")
@pytest.mark.parametrize("n", LENGTHS)
def test_text_of_every_length_comes_back(echo: Place, n: int) -> None:
    echo.open().round_trip(TEXT, ("aé€𐍈" * n).encode()[:n].decode(errors="ignore").encode())
    echo.open().round_trip(TEXT, b"x" * n)


@pytest.mark.hostile("E02")
def test_binary_of_every_length_comes_back_on_one_connection(echo: Place) -> None:
    wire = echo.open()
    for n in LENGTHS:
        wire.round_trip(BINARY, noise(n))


@pytest.mark.hostile("E03")
def test_300_pipelined_messages_come_back_in_order(echo: Place) -> None:
    wire = echo.open()
    messages = [(TEXT if i % 2 else BINARY, b"%d " % i * (i % 40)) for i in range(300)]
    wire.send(b"".join(frame(opcode, payload) for opcode, payload in messages))
    for opcode, payload in messages:
        wire.echoes(opcode, payload)


@pytest.mark.hostile("E04")
def test_a_message_byte_by_byte_comes_back(echo: Place) -> None:
    wire = echo.open()
    for n in (0, 5, 130):
        echo.in_pieces(wire, frame(BINARY, noise(n)), 1)
        wire.echoes(BINARY, noise(n))


@pytest.mark.hostile("E05")
def test_odd_cuts_do_not_show(echo: Place) -> None:
    wire, draw = echo.open(), random.Random(5)
    messages = [noise(draw.choice((0, 3, 125, 126, 200, 65535, 65536))) for _ in range(30)]
    data = b"".join(frame(BINARY, each, key=draw.randbytes(4)) for each in messages)
    cuts = [draw.choice((1, 2, 3, 5, 7, 1460, 4096, 65537)) for _ in range(400)]
    echo.in_pieces(wire, data, *cuts, 65537)
    for each in messages:
        wire.echoes(BINARY, each)


@pytest.mark.hostile("E06")
def test_every_kind_of_mask_is_taken_off(echo: Place) -> None:
    wire = echo.open()
    payload = noise(67)
    keys = [bytes(4), b"\xff" * 4, b"\x80\x00\x00\x00", b"\x00\x00\x00\x01"]
    keys += [bytes([0] * i + [byte] + [0] * (3 - i)) for i in range(4) for byte in range(256)]
    wire.send(b"".join(frame(BINARY, payload, key=key) for key in keys))
    for _ in keys:
        wire.echoes(BINARY, payload)


@pytest.mark.hostile("E07")
def test_lengths_0_to_300_come_back(echo: Place) -> None:
    wire = echo.open()
    wire.send(b"".join(frame(BINARY, noise(n)) for n in range(301)))
    for n in range(301):
        wire.echoes(BINARY, noise(n))


@pytest.mark.hostile("E08")
@pytest.mark.parametrize("n", [5, 126, 65536])
def test_every_cut_of_a_header_is_good(echo: Place, n: int) -> None:
    wire = echo.open()
    data = frame(BINARY, noise(n))
    head = len(data) - n
    for cut in range(1, head + 1):
        echo.in_pieces(wire, data, cut, len(data))
        wire.echoes(BINARY, noise(n))


@pytest.mark.hostile("E09")
def test_a_mebibyte_in_small_segments_comes_back(echo: Place) -> None:
    wire = echo.open()
    data = frame(BINARY, noise(1 << 20))
    for at in range(0, len(data), 1460):
        wire.send(data[at : at + 1460])
    wire.echoes(BINARY, noise(1 << 20))


def fails_alone_and_behind_a_message(echo: Place, bad: bytes, code: int = 1002) -> None:
    """The frame fails the connection, be it the first, or behind a good one or cut in two."""
    wire = echo.open()
    wire.send(bad)
    wire.fails(code)
    wire = echo.open()
    wire.send(frame(TEXT, b"good") + bad + frame(TEXT, b"never read"))
    wire.echoes(TEXT, b"good")
    wire.fails(code)
    wire = echo.open()
    echo.in_pieces(wire, bad, 1, len(bad))
    wire.fails(code)


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        pytest.param(TEXT, b"hello", marks=pytest.mark.hostile("F01")),
        pytest.param(BINARY, b"", marks=pytest.mark.hostile("F01")),
        pytest.param(PING, b"hello", marks=pytest.mark.hostile("F02")),
        pytest.param(PONG, b"", marks=pytest.mark.hostile("F02")),
        pytest.param(CLOSE, b"\x03\xe8", marks=pytest.mark.hostile("F02")),
    ],
)
def test_an_unmasked_frame_fails(echo: Place, opcode: int, payload: bytes) -> None:
    fails_alone_and_behind_a_message(echo, frame(opcode, payload, key=None))


@pytest.mark.parametrize(
    ("opcode", "rsv"),
    [
        pytest.param(TEXT, 4, marks=pytest.mark.hostile("F03")),
        pytest.param(BINARY, 4, marks=pytest.mark.hostile("F03")),
        pytest.param(TEXT, 2, marks=pytest.mark.hostile("F04")),
        pytest.param(BINARY, 1, marks=pytest.mark.hostile("F05")),
        pytest.param(TEXT, 7, marks=pytest.mark.hostile("F05")),
        pytest.param(PING, 4, marks=pytest.mark.hostile("F06")),
        pytest.param(PING, 2, marks=pytest.mark.hostile("F06")),
        pytest.param(PONG, 1, marks=pytest.mark.hostile("F06")),
        pytest.param(CLOSE, 4, marks=pytest.mark.hostile("F07")),
        pytest.param(CLOSE, 3, marks=pytest.mark.hostile("F07")),
    ],
)
def test_a_reserved_bit_fails(echo: Place, opcode: int, rsv: int) -> None:
    payload = b"\x03\xe8" if opcode == CLOSE else b"hello"
    fails_alone_and_behind_a_message(echo, frame(opcode, payload, rsv=rsv))


RESERVED = dict(zip((3, 4, 5, 6, 7, 11, 12, 13, 14, 15), range(10, 20), strict=True))


@pytest.mark.parametrize(
    "opcode",
    [pytest.param(opcode, marks=pytest.mark.hostile(f"F{n}")) for opcode, n in RESERVED.items()],
)
def test_a_reserved_opcode_fails(echo: Place, opcode: int) -> None:
    for payload in (b"", b"hello"):
        fails_alone_and_behind_a_message(echo, frame(opcode, payload))


@pytest.mark.hostile("F20")
def test_messages_before_a_bad_opcode_are_delivered_first(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(TEXT, b"one") + frame(BINARY, b"two") + frame(3, b"x") + frame(TEXT, b"no"))
    wire.echoes(TEXT, b"one")
    wire.echoes(BINARY, b"two")
    wire.fails(1002)


@pytest.mark.parametrize(
    ("opcode", "declared", "code"),
    [
        pytest.param(BINARY, (1 << 63) + 5, 1002, marks=pytest.mark.hostile("F21")),
        pytest.param(BINARY, (1 << 64) - 1, 1002, marks=pytest.mark.hostile("F21")),
        pytest.param(BINARY, (1 << 63) - 1, 1009, marks=pytest.mark.hostile("F22")),
        pytest.param(CONTINUATION, (1 << 62) + 1, 1009, marks=pytest.mark.hostile("F23")),
        pytest.param(CONTINUATION, (1 << 63) - 1, 1009, marks=pytest.mark.hostile("F23")),
    ],
)
def test_an_absurd_length_fails_at_the_header_without_memory(
    echo: Place, opcode: int, declared: int, code: int
) -> None:
    before = echo.rss_bytes()
    wire = echo.open()
    if opcode == CONTINUATION:
        wire.send(frame(BINARY, b"begin", fin=False))
    wire.send(frame(opcode, declared=declared, length_bits=64))
    wire.fails(code)
    assert INSTRUMENTED or echo.rss_bytes() - before < 1 << 20


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(frame(PING, b"x" * 126), marks=pytest.mark.hostile("F24")),
        pytest.param(frame(PONG, b"x" * 65536), marks=pytest.mark.hostile("F25")),
        pytest.param(frame(PING, b"hi", length_bits=16), marks=pytest.mark.hostile("F25")),
        pytest.param(frame(PING, b"hi", length_bits=64), marks=pytest.mark.hostile("F26")),
        pytest.param(frame(PING, b"hi", fin=False), marks=pytest.mark.hostile("F27")),
        pytest.param(frame(PONG, b"", fin=False), marks=pytest.mark.hostile("F27")),
        pytest.param(frame(CLOSE, b"\x03\xe8", fin=False), marks=pytest.mark.hostile("F28")),
    ],
    ids=lambda bad: bad[:4].hex(),
)
def test_a_long_or_fragmented_control_frame_fails(echo: Place, bad: bytes) -> None:
    fails_alone_and_behind_a_message(echo, bad)


@pytest.mark.parametrize(
    ("n", "bits"),
    [
        pytest.param(0, 16, marks=pytest.mark.hostile("F30")),
        pytest.param(125, 16, marks=pytest.mark.hostile("F30")),
        pytest.param(5, 64, marks=pytest.mark.hostile("F31")),
        pytest.param(126, 64, marks=pytest.mark.hostile("F31")),
        pytest.param(65535, 64, marks=pytest.mark.hostile("F31")),
    ],
)
def test_a_length_longer_than_need_be_fails(echo: Place, n: int, bits: int) -> None:
    fails_alone_and_behind_a_message(echo, frame(BINARY, b"x" * n, length_bits=bits))


@pytest.mark.hostile("F32")
def test_http_on_an_open_websocket_fails(echo: Place) -> None:
    fails_alone_and_behind_a_message(echo, request())
    fails_alone_and_behind_a_message(echo, b"POST /config HTTP/1.1\r\nHost: localhost\r\n\r\n{}")
