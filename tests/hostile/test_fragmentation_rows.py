"""G: messages in fragments, whole or broken, and those that never end."""

import pytest
from servers import Place
from surroundings import INSTRUMENTED
from wire import BINARY, CONTINUATION, PING, PONG, TEXT, Wire, frame

MIB = 1 << 20


def fragments(opcode: int, *pieces: bytes) -> bytes:
    """One message in as many fragments."""
    last = len(pieces) - 1
    return b"".join(
        frame(CONTINUATION if i else opcode, piece, fin=i == last) for i, piece in enumerate(pieces)
    )


@pytest.mark.hostile("G01")
def test_two_fragments_are_one_message(echo: Place) -> None:
    wire = echo.open()
    wire.send(fragments(TEXT, b"one ", b"message"))
    wire.echoes(TEXT, b"one message")
    wire.send(fragments(BINARY, b"x" * 70_000, b"y" * 70_000))
    wire.echoes(BINARY, b"x" * 70_000 + b"y" * 70_000)


@pytest.mark.hostile("G02")
def test_three_fragments_each_read_alone_are_one_message(echo: Place) -> None:
    wire = echo.open()
    for opcode in (TEXT, BINARY):
        for piece, start, fin in ((b"a", opcode, False), (b"b", 0, False), (b"c", 0, True)):
            wire.send(frame(start, piece, fin=fin))
            echo.settle()
        wire.echoes(opcode, b"abc")


@pytest.mark.hostile("G03")
@pytest.mark.parametrize("pieces", [(b"", b""), (b"", b"x", b""), (b"", b"", b"x"), (b"x", b"")])
def test_empty_fragments_are_legal(echo: Place, pieces: tuple[bytes, ...]) -> None:
    wire = echo.open()
    for opcode in (TEXT, BINARY):
        wire.send(fragments(opcode, *pieces))
        wire.echoes(opcode, b"".join(pieces))


@pytest.mark.hostile("G04")
def test_fragments_of_messages_back_to_back_do_not_mix(echo: Place) -> None:
    wire = echo.open()
    wire.send(b"".join(fragments(TEXT, b"%d" % i, b"-", b"%d" % i) for i in range(100)))
    for i in range(100):
        wire.echoes(TEXT, b"%d-%d" % (i, i))


@pytest.mark.hostile("G05")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_2000_fragments_of_one_byte_are_one_message(echo: Place, opcode: int) -> None:
    wire = echo.open()
    wire.send(fragments(opcode, *[b"x"] * 2000))
    wire.echoes(opcode, b"x" * 2000)


@pytest.mark.hostile("G06")
def test_a_ping_between_fragments_is_answered_before_the_message_is_whole(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(TEXT, b"be", fin=False) + frame(PING, b"now"))
    wire.echoes(PONG, b"now")
    wire.send(frame(CONTINUATION, b"gun"))
    wire.echoes(TEXT, b"begun")


@pytest.mark.hostile("G07")
def test_pongs_between_fragments_are_passed_over(echo: Place) -> None:
    wire = echo.open()
    pong = frame(PONG, b"unasked")
    wire.send(frame(TEXT, b"a", fin=False) + pong + frame(0, b"b", fin=False) + pong)
    wire.send(frame(CONTINUATION, b"c"))
    wire.echoes(TEXT, b"abc")


@pytest.mark.hostile("G08")
def test_pings_in_one_segment_with_fragments_are_answered_first(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(BINARY, b"a", fin=False) + frame(PING, b"1") + frame(0, b"b", fin=False))
    wire.send(frame(PING, b"2") + frame(CONTINUATION, b"c") + frame(TEXT, b"next"))
    wire.echoes(PONG, b"1")
    wire.echoes(PONG, b"2")
    wire.echoes(BINARY, b"abc")
    wire.echoes(TEXT, b"next")


BEGIN = frame(TEXT, b"begin", fin=False)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        pytest.param(b"", frame(0, b"no start"), marks=pytest.mark.hostile("G20")),
        pytest.param(b"", frame(0, b"", fin=False), marks=pytest.mark.hostile("G21")),
        pytest.param(
            BEGIN + frame(0, b" end"), frame(0, b"more"), marks=pytest.mark.hostile("G22")
        ),
        pytest.param(BEGIN, frame(TEXT, b"new"), marks=pytest.mark.hostile("G23")),
        pytest.param(BEGIN, frame(BINARY, b"", fin=False), marks=pytest.mark.hostile("G24")),
        pytest.param(BEGIN, frame(3, b"?"), marks=pytest.mark.hostile("G25")),
        pytest.param(BEGIN, frame(11, b"?"), marks=pytest.mark.hostile("G25")),
    ],
    ids=bytes.hex,
)
def test_a_fragment_out_of_order_fails(echo: Place, good: bytes, bad: bytes) -> None:
    for together in (True, False):
        wire = echo.open()
        wire.send(good)
        if not together:
            echo.settle()
        wire.send(bad)
        if good.endswith(frame(0, b" end")):
            wire.echoes(TEXT, b"begin end")
        wire.fails(1002)


def never_ends(echo: Place, wire: Wire, data: bytes) -> int:
    """How many bytes of memory a message costs that is failed with 1009."""
    before = echo.rss_bytes()
    wire.send(data)
    after = echo.rss_bytes()
    wire.fails(1009, may_reset=True)
    return after - before


@pytest.mark.hostile("G30")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_150_000_empty_fragments_fail_with_1009_at_no_cost(echo: Place, opcode: int) -> None:
    data = frame(opcode, fin=False) + frame(CONTINUATION, fin=False) * 150_000
    grown = never_ends(echo, echo.open(), data)
    assert INSTRUMENTED or grown < MIB


@pytest.mark.hostile("G31")
@pytest.mark.parametrize("size", [100, 4096, 65536, MIB])
def test_endless_fragments_fail_with_1009_at_the_limit(echo: Place, size: int) -> None:
    piece = bytes(size)
    data = frame(BINARY, piece, fin=False) + frame(0, piece, fin=False) * (3 * MIB // size)
    grown = never_ends(echo, echo.open(), data)
    assert INSTRUMENTED or grown < 3 * MIB  # the limit is 1 MiB, and a buffer grows in steps
