"""R: resets, crowds, idle and slow peers, mutated streams; the others are served meanwhile."""

import random
import socket
import statistics
import struct
import time
from collections.abc import Callable

import pytest
from servers import Place
from surroundings import INSTRUMENTED
from wire import BINARY, CONTINUATION, PATIENCE, PING, PONG, TEXT, Wire, frame, request

MIB = 1 << 20
AT_ONCE = 0.1  # seconds, within which others are answered


def reset(wire: Wire) -> None:
    """End it as a process that is killed does, or harder: with an RST."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wire.close()


def others_are_served(place: Place) -> None:
    """Somebody else gets an answer at once, in the median of eleven."""
    wire = place.open()
    took = []
    for i in range(11):
        began = time.monotonic()
        wire.round_trip(TEXT, b"%d" % i)
        took.append(time.monotonic() - began)
    assert INSTRUMENTED or statistics.median(took) < AT_ONCE
    wire.close()


def before_the_handshake(place: Place) -> None:
    reset(place.dial())


def in_the_handshake(place: Place) -> None:
    wire = place.dial()
    wire.send(request()[:60])
    reset(wire)


def with_the_answer_on_its_way(place: Place) -> None:
    wire = place.dial()
    wire.send(request())
    reset(wire)


def after_the_handshake(place: Place) -> None:
    reset(place.open())


def in_a_frame(place: Place) -> None:
    wire = place.open()
    wire.send(frame(BINARY, bytes(100_000))[:50_000])
    reset(wire)


def in_a_fragmented_message(place: Place) -> None:
    wire = place.open()
    wire.send(frame(BINARY, bytes(100_000), fin=False))
    reset(wire)


def while_it_writes(place: Place) -> None:
    wire = place.open()
    for _ in range(3):
        wire.sock.send(frame(BINARY, bytes(60_000)))
    reset(wire)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(before_the_handshake, marks=pytest.mark.hostile("R02")),
        pytest.param(in_the_handshake, marks=pytest.mark.hostile("R02")),
        pytest.param(with_the_answer_on_its_way, marks=pytest.mark.hostile("R02", "X02")),
        pytest.param(after_the_handshake, marks=pytest.mark.hostile("R01")),
        pytest.param(in_a_frame, marks=pytest.mark.hostile("R03")),
        pytest.param(in_a_fragmented_message, marks=pytest.mark.hostile("R04")),
        pytest.param(while_it_writes, marks=pytest.mark.hostile("R05")),
    ],
)
def test_resets_leave_nothing_behind(echo: Place, moment: Callable[[Place], None]) -> None:
    for _ in range(50):
        moment(echo)
    others_are_served(echo)
    echo.clean_up()
    assert echo.comes_to_rest(), "descriptors are left open"


@pytest.mark.hostile("R06")
def test_an_echo_client_that_never_reads_is_held_and_holds_nobody(echo: Place) -> None:
    echo.settle()
    before = echo.rss_bytes()
    wire = echo.open()
    message = frame(BINARY, bytes(16_000))
    taken = wire.send_blindly(message * (64 * MIB // len(message)), echo.settle)
    assert taken < 32 * MIB, "what it sends is taken without end"
    others_are_served(echo)
    assert INSTRUMENTED or echo.rss_bytes() - before < 8 * MIB


@pytest.mark.hostile("R06")
def test_requests_of_a_client_that_never_reads_are_held_and_hold_nobody(serve: Place) -> None:
    wire, neighbour = serve.dial(receive_buffer=4096), serve.dial()
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    asked = b"GET /stats HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 2000)

    def ask_too() -> None:
        """As often as the server may have answered the other one, for it takes turns."""
        neighbour.send(asked * 200)
        assert all(neighbour.answer().status == 200 for _ in range(200))

    taken = wire.send_blindly(asked * 6000, ask_too)
    assert taken < 3000 * len(asked), "requests are taken without end"
    ask_too()
    wire.send(asked[taken % len(asked) :])
    for _ in range(taken // len(asked) + 1):
        assert wire.answer().status == 200


@pytest.mark.hostile("R07")
def test_three_hundred_are_all_open_and_answered(echo: Place) -> None:
    wires = [echo.open() for _ in range(300)]
    for i, wire in enumerate(wires):
        wire.message(BINARY, b"%d" % i)
    for i, wire in enumerate(wires):
        wire.echoes(BINARY, b"%d" % i)


@pytest.mark.hostile("R08")
def test_a_thousand_connect_before_any_is_answered(echo: Place) -> None:
    wires = [echo.dial() for _ in range(1000)]
    for wire in wires:
        wire.send(request())
    for wire in wires:
        wire.switched()


@pytest.mark.hostile("R09")
def test_idle_connections_cost_the_others_nothing(echo: Place) -> None:
    for _ in range(300):
        echo.dial()
    others_are_served(echo)


@pytest.mark.hostile("R11")
def test_half_requests_cost_the_others_nothing(echo: Place) -> None:
    for i in range(300):
        echo.dial().send(request()[: 1 + i % (len(request()) - 1)])
    others_are_served(echo)


@pytest.mark.hostile("R12")
def test_half_frames_cost_the_others_nothing(echo: Place) -> None:
    whole = frame(BINARY, bytes(200))
    wires = [echo.open() for _ in range(200)]
    for i, wire in enumerate(wires):
        wire.send(whole[: 1 + i])
    others_are_served(echo)
    for i, wire in enumerate(wires):
        wire.send(whole[1 + i :])
        wire.echoes(BINARY, bytes(200))


def mutated(rng: random.Random) -> bytes:
    """A conversation with a few bytes changed, doubled, lost, or cut."""
    parts = [
        request(),
        frame(TEXT, b"hello"),
        frame(PING, b"ping"),
        frame(BINARY, rng.randbytes(rng.choice([0, 125, 126, 70_000])), fin=False),
        frame(CONTINUATION, b"end"),
        frame(8, b"\x03\xe8bye"),
    ]
    data = bytearray(b"".join(parts))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(len(request()) + 40)
        match rng.randrange(4):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + 1] = rng.randbytes(rng.randint(0, 3))
            case 2:
                del data[at : at + rng.randint(1, 20)]
            case _:
                data[at:at] = data[at : at + rng.randint(1, 50)]
    return bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data)


@pytest.mark.hostile("R10")
def test_mutated_conversations_get_legal_answers(echo: Place) -> None:
    rng = random.Random(1010)
    for i in range(300):
        wire = echo.dial()
        wire.send(mutated(rng))
        if rng.random() < 0.2:
            reset(wire)
            continue
        if not wire.refused:
            try:
                wire.fin()
            except OSError:  # it has been reset
                wire.refused = True
        while not wire.ended:
            wire.more()
        legal(wire, i)
    others_are_served(echo)


def legal(wire: Wire, i: int) -> None:
    """All that came is an HTTP answer, then whole frames if that was a 101."""
    if not wire.buffer:
        return
    while True:
        answer = wire.answer()
        if answer.status == 101 or not wire.buffer:
            break
    assert answer.status in (101, 400, 404, 405, 414, 426, 431, 501, 505), (i, answer)
    closed = False
    while wire.buffer:
        if wire.reset and not whole(wire):
            return
        opcode, _ = wire.frame()
        assert not closed, f"{i}: opcode {opcode} behind a Close"
        closed = opcode == 8


def whole(wire: Wire) -> bool:
    """Whether a whole frame is there; a reset may have cut the last one."""
    data = wire.buffer
    if len(data) < 2:
        return False
    n = data[1]
    head = 2 if n < 126 else 4 if n == 126 else 10
    n = n if n < 126 else int.from_bytes(data[2:head], "big")
    return len(data) >= head + n


@pytest.mark.hostile("R13")
def test_an_urgent_byte_crashes_nothing(echo: Place) -> None:
    """It is no part of the stream (SO_OOBINLINE is off), or it is: then the frame is broken."""
    if echo.transport == "unix":
        pytest.skip("Unix sockets have no urgent data here")
    wire = echo.open()
    wire.sock.send(b"!", socket.MSG_OOB)
    wire.round_trip(TEXT, b"behind it")
    wire.sock.send(frame(TEXT, b"half of it")[:8], socket.MSG_OOB)
    wire.fin()
    while not wire.ended:
        wire.more()
    others_are_served(echo)


@pytest.mark.hostile("C06", "R06")
def test_pings_beside_a_reader_that_stops_and_goes_on(echo: Place) -> None:
    wire = echo.open()
    message = frame(BINARY, bytes(30_000))
    taken = wire.send_blindly(message * 2000, echo.settle)
    whole_ones = taken // len(message)
    wire.send((message * 2000)[taken : (whole_ones + 1) * len(message)] + frame(PING, b"end"))
    got, deadline = 0, time.monotonic() + PATIENCE
    while got < whole_ones + 1:
        assert time.monotonic() < deadline
        opcode, payload = wire.frame()
        if opcode == BINARY:
            assert len(payload) == 30_000
            got += 1
        else:
            assert (opcode, payload) == (PONG, b"end")
