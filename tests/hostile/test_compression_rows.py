"""D, L05, L06: permessage-deflate, agreed on, declined, broken and abused (RFC 7692)."""

import functools
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers import Place, server
from surroundings import INSTRUMENTED
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Wire, close_payload, frame

MIB = 1 << 20
RSV1, RSV2 = 4, 2
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"
AGREED = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
PROSE = b"the quick brown fox jumps over the lazy dog, " * 20
TAIL = b"\x00\x00\xff\xff"


@pytest.fixture(scope="session")
def packers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """The servers of `packing`, started when first asked for."""
    with ExitStack() as stack:
        directory = tmp_path_factory.mktemp("packing")

        class Places(dict[str, Place]):
            def __missing__(self, where: str) -> Place:
                loop, transport = where.split("-")
                place = server("echo", loop, transport, directory, "--deflate")
                self[where] = stack.enter_context(place)
                return self[where]

        yield Places()


@pytest.fixture
def packing(packers: dict[str, Place], where: str) -> Iterator[Place]:
    """A running `examples/echo.py --deflate`; it goes on for its neighbour, whatever happens."""
    place = packers[where]
    place.settle()
    yield place
    place.clean_up()
    place.settle()


def pack(data: bytes, *, level: int = 6, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """The payload of one compressed message (RFC 7692 7.2.1)."""
    packer = zlib.compressobj(level, wbits=-15)
    packed = packer.compress(data) + packer.flush(flush)
    return packed.removesuffix(TAIL) if flush == zlib.Z_SYNC_FLUSH else packed + b"\x00"


def open_packed(place: Place, offer: str = OFFER) -> Wire:
    """A WebSocket on which compression was agreed on."""
    wire = place.dial()
    assert wire.handshake(offer)["sec-websocket-extensions"].startswith(AGREED)
    return wire


def next_message(wire: Wire) -> tuple[int, bytes, bool]:
    """The next frame inflated, and whether it was compressed."""
    while not wire.buffer:
        wire.more()
    packed = bool(wire.buffer[0] & 0x40)
    wire.buffer[0] &= 0xBF
    opcode, payload = wire.frame()
    if packed:
        assert opcode in (TEXT, BINARY), "a compressed control frame"
        payload = zlib.decompress(payload + TAIL + b"\x03\x00", wbits=-15)
    return opcode, payload, packed


def round_trip(wire: Wire, opcode: int, packed: bytes, expected: bytes) -> bool:
    """Send one compressed message and get it back; whether the answer was compressed."""
    wire.send(frame(opcode, packed, rsv=RSV1))
    found, payload, was_packed = next_message(wire)
    assert (found, payload == expected) == (opcode, True)
    return was_packed


@pytest.mark.hostile("D01")
def test_an_offer_is_accepted(packing: Place) -> None:
    assert packing.dial().handshake(OFFER)["sec-websocket-extensions"] == AGREED
    offer = f"{OFFER}; client_max_window_bits"
    assert packing.dial().handshake(offer)["sec-websocket-extensions"] == AGREED


def test_without_the_option_no_offer_is_accepted(echo: Place) -> None:
    wire = echo.dial()
    assert "sec-websocket-extensions" not in wire.handshake(OFFER)
    wire.round_trip(TEXT, PROSE)


@pytest.mark.hostile("D02")
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_compressed_message_is_answered_compressed(packing: Place, opcode: int) -> None:
    wire = open_packed(packing)
    assert round_trip(wire, opcode, pack(PROSE), PROSE)
    assert not round_trip(wire, opcode, pack(b"tiny"), b"tiny")


@pytest.mark.hostile("D03")
def test_20_messages_of_a_client_that_keeps_what_was_agreed_on(packing: Place) -> None:
    # It would keep its context; the answer says client_no_context_takeover, so it does not.
    wire = open_packed(packing)
    for i in range(20):
        assert round_trip(wire, TEXT, pack(PROSE + b"%d" % i), PROSE + b"%d" % i)


@pytest.mark.hostile("D04")
def test_compressed_fragments_around_a_ping(packing: Place) -> None:
    wire, packed = open_packed(packing), pack(PROSE)
    wire.send(frame(TEXT, packed[:10], rsv=RSV1, fin=False) + frame(PING, b"between"))
    wire.echoes(PONG, b"between")
    wire.send(frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, packed[10:]))
    assert next_message(wire) == (TEXT, PROSE, True)


@pytest.mark.hostile("D05")
def test_a_plain_message_after_compression_was_agreed_on(packing: Place) -> None:
    wire = open_packed(packing)
    wire.round_trip(TEXT, b"plain")
    wire.message(TEXT, PROSE)
    assert next_message(wire) == (TEXT, PROSE, True)
    assert round_trip(wire, TEXT, pack(PROSE), PROSE)


@pytest.mark.hostile("D06")
@pytest.mark.parametrize("packed", [b"\x00", b"\x02\x00", b""])
def test_an_empty_compressed_message(packing: Place, packed: bytes) -> None:
    wire = open_packed(packing)
    assert not round_trip(wire, TEXT, packed, b"")
    assert not round_trip(wire, BINARY, packed, b"")


@pytest.mark.hostile("D07")
def test_a_block_with_bfinal(packing: Place) -> None:
    wire = open_packed(packing)
    for opcode in (TEXT, BINARY):
        round_trip(wire, opcode, pack(PROSE, flush=zlib.Z_FINISH), PROSE)
        twice = pack(PROSE, flush=zlib.Z_FINISH)[:-1] + pack(PROSE)
        round_trip(wire, opcode, twice, PROSE * 2)


@pytest.mark.hostile("D08")
def test_several_and_stored_blocks(packing: Place) -> None:
    wire = open_packed(packing)
    packer = zlib.compressobj(wbits=-15)
    blocks = [packer.compress(PROSE) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(5)]
    round_trip(wire, TEXT, b"".join(blocks).removesuffix(TAIL), PROSE * 5)
    round_trip(wire, TEXT, pack(PROSE * 100, level=0), PROSE * 100)


@pytest.mark.hostile("D20")
def test_rsv1_on_a_continuation_is_refused(packing: Place) -> None:
    wire, packed = open_packed(packing), pack(PROSE)
    wire.send(frame(TEXT, packed[:5], rsv=RSV1, fin=False))
    wire.send(frame(CONTINUATION, packed[5:], rsv=RSV1))
    wire.fails(1002)


@pytest.mark.hostile("D21")
@pytest.mark.parametrize("opcode", [PING, PONG])
def test_rsv1_on_a_ping_is_refused(packing: Place, opcode: int) -> None:
    wire = open_packed(packing)
    wire.send(frame(opcode, pack(b"x"), rsv=RSV1))
    wire.fails(1002)


@pytest.mark.hostile("D22")
def test_rsv1_on_a_close_is_refused(packing: Place) -> None:
    wire = open_packed(packing)
    wire.send(frame(CLOSE, close_payload(1000), rsv=RSV1))
    wire.fails(1002)


@pytest.mark.hostile("D27")
@pytest.mark.parametrize("rsv", [RSV2, 1, RSV1 | RSV2])
def test_rsv2_beside_rsv1_is_refused(packing: Place, rsv: int) -> None:
    wire = open_packed(packing)
    wire.send(frame(TEXT, pack(PROSE), rsv=rsv))
    wire.fails(1002)


@pytest.mark.hostile("D23")
@pytest.mark.parametrize("garbage", [b"\xff" * 4, b"\x07" * 100, b"\x00\x05\x00\xfa\xfeHello"])
def test_garbage_is_refused(packing: Place, garbage: bytes) -> None:
    wire = open_packed(packing)
    wire.send(frame(BINARY, garbage, rsv=RSV1))
    wire.fails(1007)


@pytest.mark.hostile("D24")
def test_what_is_cut_off_is_refused(packing: Place) -> None:
    packed = pack(PROSE, level=0)  # a stored block tells how long it is
    for n in (2, 4, 5, len(packed) // 2, len(packed) - 1):
        wire = open_packed(packing)
        wire.send(frame(TEXT, packed[:n], rsv=RSV1))
        wire.fails(1007)


@pytest.mark.hostile("D25")
@pytest.mark.parametrize("text", [b"\xc3\x28", PROSE + b"\xff", PROSE + "é".encode()[:1]])
def test_bad_utf8_once_inflated_is_refused(packing: Place, text: bytes) -> None:
    wire = open_packed(packing)
    wire.send(frame(TEXT, pack(text), rsv=RSV1))
    wire.fails(1007)
    assert round_trip(open_packed(packing), BINARY, pack(text), text) == (len(text) > 64)


@pytest.mark.hostile("D26")
def test_a_back_reference_to_before_the_message_is_refused(packing: Place) -> None:
    packer = zlib.compressobj(wbits=-15, zdict=PROSE)
    packed = (packer.compress(PROSE) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
    wire = open_packed(packing)
    round_trip(wire, TEXT, pack(PROSE), PROSE)  # nothing of it is left
    wire.send(frame(TEXT, packed, rsv=RSV1))
    wire.fails(1007)


MALFORMED = (
    "server_no_context_takeover=1",
    "client_no_context_takeover=",
    "server_no_context_takeover; server_no_context_takeover",
    "server_max_window_bits",
    "server_max_window_bits=7",
    "server_max_window_bits=16",
    "server_max_window_bits=09",
    "server_max_window_bits=10; server_max_window_bits=10",
    "client_max_window_bits=99999999999999999999",
    "client_max_window_bits=x",
    "constructor",
    'client_max_window_bits="1\\5',
)


@pytest.mark.hostile("D30")
@pytest.mark.parametrize("parameters", MALFORMED)
def test_a_malformed_offer_is_declined(packing: Place, parameters: str) -> None:
    wire = packing.dial()
    assert "sec-websocket-extensions" not in wire.handshake(f"{OFFER}; {parameters}")
    wire.round_trip(TEXT, PROSE)
    wire.send(frame(TEXT, pack(PROSE), rsv=RSV1))
    wire.fails(1002)


@pytest.mark.hostile("D31")
def test_a_second_offer_is_the_fallback(packing: Place) -> None:
    for first in ("server_max_window_bits=8", "server_max_window_bits=7", "unheard_of=1"):
        wire = open_packed(packing, f"{OFFER}; {first}, permessage-deflate")
        assert round_trip(wire, TEXT, pack(PROSE), PROSE)
    open_packed(packing, "Sec-WebSocket-Extensions: x-other; a=b, permessage-deflate")


@pytest.mark.hostile("D32")
def test_a_window_of_9_bits_is_kept_to(packing: Place) -> None:
    wire = packing.dial()
    agreed = wire.handshake(f"{OFFER}; server_max_window_bits=9")["sec-websocket-extensions"]
    assert agreed == f"{AGREED}; server_max_window_bits=9"
    data = b"".join(b"%d, " % (i * i) for i in range(300)) * 4
    wire.send(frame(TEXT, data))
    while not wire.buffer:
        wire.more()
    assert wire.buffer[0] == 0x80 | RSV1 << 4 | TEXT
    wire.buffer[0] &= 0xBF
    left, back, small = wire.frame()[1], b"", zlib.decompressobj(wbits=-9)
    while left:  # in small pieces: only the window reaches back
        back += small.decompress(left, 64)
        left = small.unconsumed_tail
    back += small.decompress(TAIL)
    assert back == data


@pytest.mark.hostile("D33")
def test_no_context_takeover_is_kept_to(packing: Place) -> None:
    offer = f"{OFFER}; server_no_context_takeover; client_no_context_takeover"
    wire = packing.dial()
    assert wire.handshake(offer)["sec-websocket-extensions"] == AGREED
    for _ in range(3):  # each answer is inflated by itself
        assert round_trip(wire, TEXT, pack(PROSE), PROSE)


def peak_bytes(place: Place) -> int:
    """The most memory that was resident since `forget_peak`."""
    status = Path(f"/proc/{place.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def forget_peak(place: Place) -> None:
    Path(f"/proc/{place.process.pid}/clear_refs").write_text("5")


def refused_within_twice_the_limit(place: Place, wire: Wire, message: bytes) -> None:
    """1009, and never more memory than twice max_message_size."""
    forget_peak(place)
    before = place.rss_bytes()
    wire.send(message)
    wire.fails(1009, may_reset=True)
    assert INSTRUMENTED or peak_bytes(place) - before < 2 * MIB


@functools.cache
def bomb() -> bytes:
    """256 MiB of zeros in one message."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = b"".join(packer.compress(bytes(MIB)) for _ in range(256))
    return (packed + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


@pytest.mark.hostile("D40")
def test_a_bomb_of_256_mib_is_refused_within_twice_the_limit(packing: Place) -> None:
    round_trip(open_packed(packing), TEXT, pack(PROSE), PROSE)
    refused_within_twice_the_limit(packing, open_packed(packing), frame(BINARY, bomb(), rsv=RSV1))


@pytest.mark.hostile("L05")
def test_one_byte_past_the_limit_once_inflated_is_refused(packing: Place) -> None:
    wire = open_packed(packing)
    assert round_trip(wire, BINARY, pack(bytes(MIB)), bytes(MIB))
    refused_within_twice_the_limit(packing, wire, frame(BINARY, pack(bytes(MIB + 1)), rsv=RSV1))


@pytest.mark.hostile("L06")
def test_one_byte_past_the_limit_in_compressed_fragments_is_refused(packing: Place) -> None:
    packed = pack(bytes(MIB + 1))
    pieces = [packed[at : at + 100] for at in range(0, len(packed), 100)]
    message = frame(BINARY, pieces[0], rsv=RSV1, fin=False)
    message += b"".join(frame(CONTINUATION, piece, fin=False) for piece in pieces[1:-1])
    message += frame(CONTINUATION, pieces[-1])
    refused_within_twice_the_limit(packing, open_packed(packing), message)
