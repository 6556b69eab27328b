"""The C parser and message layer against others: a plain reference here, and `websockets`."""

import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from native_builds import built
from thorough import EXAMPLES, THOROUGH
from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.protocol import OPEN, SERVER, Protocol

pytestmark = pytest.mark.timeout(0 if EXAMPLES else 300)  # the reader is built first

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
OPCODES = (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
VALID_CODES = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
WIDE = 1 << 19  # more than any wire here

Message = tuple[int, int, bytes]  # opcode, close code or 0, payload or reason
Verdict = tuple[list[Message], int]  # the code that the peer is failed with, or 0


class Failure(Exception):
    """The peer is failed with a close code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


# The reference: RFC 6455 5.2 to 5.6, 7.4 and 8.1 by the letter, slow, over a whole input.


@dataclass
class Reference:
    """What a server makes of bytes that a client sent."""

    wire: bytes
    max_message_size: int = WIDE
    max_fragments: int = WIDE
    messages: list[Message] = field(default_factory=list)
    opcode: int = 0
    parts: list[bytes] = field(default_factory=list)

    def read(self) -> Verdict:
        try:
            while self.wire and not (self.messages and self.messages[-1][0] == CLOSE):
                if not self.take_frame():
                    break
        except Failure as failure:
            return self.messages, failure.code
        return self.messages, 0

    def check(self, holds: bool, code: int = 1002) -> None:
        if not holds:
            raise Failure(code)

    def take_frame(self) -> bool:
        """Take one frame; False when it is not whole."""
        head = self.wire
        opcode, fin = head[0] & 15, head[0] >= 128
        self.check(opcode in OPCODES and not head[0] & 0x70 and (fin or opcode < CLOSE))
        if len(head) < 2:
            return False
        n, size = head[1] & 127, 2
        self.check(head[1] >= 128 and (n < 126 or opcode < CLOSE))
        if n > 125:
            more, least = (2, 126) if n == 126 else (8, 65536)
            given, size = head[2 : 2 + more], 2 + more
            # The least and the most that it can be yet, in its shortest form, below 2^63.
            low, high = (int.from_bytes(given.ljust(more, fill)) for fill in (b"\0", b"\xff"))
            self.check(high >= least and low < 1 << 63)
            n = low
        if len(head) < size + 4:
            return False
        if opcode < CLOSE:
            self.begin_frame(opcode, n)
        key, there = head[size : size + 4], head[size + 4 : size + 4 + n]
        payload = bytes(byte ^ key[i % 4] for i, byte in enumerate(there))
        whole = len(there) == n
        if opcode < CLOSE:
            self.take_payload(payload, whole and fin)
        elif whole:
            self.take_control(opcode, payload)
        self.wire = head[size + 4 + n :]
        return whole

    def begin_frame(self, opcode: int, n: int) -> None:
        self.check((opcode == CONTINUATION) == bool(self.parts))
        self.check(len(self.parts) < self.max_fragments, 1009)
        self.check(n + sum(map(len, self.parts)) <= self.max_message_size, 1009)
        self.opcode = opcode or self.opcode

    def take_payload(self, payload: bytes, whole: bool) -> None:
        self.parts.append(payload)
        message = b"".join(self.parts)
        self.check(self.opcode == BINARY or is_utf8(message, whole), 1007)
        if whole:
            self.messages.append((self.opcode, 0, message))
            self.parts = []

    def take_control(self, opcode: int, payload: bytes) -> None:
        code = 0
        if opcode == CLOSE:
            self.check(len(payload) != 1)
            code = int.from_bytes(payload[:2]) if payload else 1005
            payload = payload[2:]
            self.check(code in VALID_CODES or self.wire[1] & 127 == 0)
            self.check(is_utf8(payload, True), 1007)
        self.messages.append((opcode, code, payload))


def is_utf8(data: bytes, whole: bool) -> bool:
    """Whether data is UTF-8, or could yet become it when it is not whole."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return not whole and error.reason == "unexpected end of data"
    return True


# The C reader, as a process that answers.


class Reader:
    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1
        )

    def read(
        self,
        wire: bytes,
        sizes: bytes = b"",
        max_message_size: int = WIDE,
        max_fragments: int = WIDE,
    ) -> Verdict:
        assert self.process.stdin
        assert self.process.stdout
        turns = (sizes or b"\0") * 16
        request = struct.pack("=III", max_message_size, max_fragments, len(wire))
        self.process.stdin.write(request + turns[:16] + wire)
        self.process.stdin.flush()
        messages = []
        while True:
            head = self.process.stdout.read(7)
            assert len(head) == 7, "the reader ended"
            opcode, code, n = struct.unpack("=BHI", head)
            if opcode == 0xFF:
                return messages, code
            messages.append((opcode, code, self.process.stdout.read(n)))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    found = Reader(built("sanitized", tmp_path_factory, "reader") / "reader")
    with found.process:
        yield found
        assert found.process.stdin
        found.process.stdin.close()
        assert found.process.wait() == 0


# What clients send.

TEXTS = st.text(max_size=40).map(str.encode)
ODD_TEXTS = st.sampled_from(
    [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xf0\x9f"]
)
PAYLOADS = st.one_of(
    TEXTS,
    ODD_TEXTS,
    st.binary(max_size=40),
    st.integers(120, 130).map(bytes),
    st.sampled_from([65535, 65536]).map(bytes),
)
CODES = st.one_of(st.sampled_from([1000, 1001, 1005, 1014, 1015, 2999, 4999]), st.integers(0, 5001))
CLOSES = st.one_of(
    st.just(b""),
    st.binary(max_size=4),
    st.tuples(CODES, st.one_of(TEXTS, ODD_TEXTS)).map(lambda it: struct.pack(">H", it[0]) + it[1]),
)
KEYS = st.one_of(st.just(bytes(4)), st.binary(min_size=4, max_size=4))


@dataclass
class Sent:
    """A frame; `form` is how many bytes say its length: 0 the fewest, 2 or 8."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    key: bytes | None = bytes(4)
    form: int = 0

    def encode(self) -> bytes:
        n = len(self.payload)
        form = self.form or (0 if n < 126 else 2 if n < 65536 else 8)
        form = 8 if form == 2 and n > 65535 else form
        small = {0: n, 2: 126, 8: 127}[form]
        head = bytes([self.fin << 7 | self.rsv << 4 | self.opcode, small])
        if self.key is None:
            return head + n.to_bytes(form) + self.payload if form else head + self.payload
        masked = bytes(byte ^ self.key[i % 4] for i, byte in enumerate(self.payload))
        length = n.to_bytes(form) if form else b""
        return bytes([head[0], small | 128]) + length + self.key + masked


def frames(opcodes: tuple[int, ...] = OPCODES) -> st.SearchStrategy[Sent]:
    """Frames that are mostly legal one by one, if not in their order."""
    return st.sampled_from(opcodes).flatmap(
        lambda opcode: st.builds(
            Sent,
            st.just(opcode),
            CLOSES if opcode == CLOSE else TEXTS if opcode > CLOSE else PAYLOADS,
            fin=st.just(True) if opcode >= CLOSE else st.booleans(),
            key=KEYS,
        )
    )


MESSAGES = st.lists(frames((TEXT, BINARY, PING, PONG)).map(lambda it: whole(it)), max_size=3)
ODD_FRAMES = st.builds(
    Sent,
    st.integers(0, 15),
    PAYLOADS,
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 1, 2, 4]),
    key=st.one_of(KEYS, st.none()),
    form=st.sampled_from([0, 0, 2, 8]),
)


def whole(sent: Sent) -> Sent:
    sent.fin = True
    return sent


@st.composite
def fragmented(draw: st.DrawFn) -> list[Sent]:
    """A message in fragments cut anywhere, with control frames between them."""
    payload = draw(PAYLOADS)
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    opcode, sent = draw(st.sampled_from([TEXT, BINARY])), []
    for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True):
        sent.append(Sent(opcode, payload[start:end], fin=False, key=draw(KEYS)))
        sent += draw(st.lists(frames((PING, PONG)), max_size=1))
        opcode = CONTINUATION
    next(it for it in reversed(sent) if it.opcode < CLOSE).fin = draw(st.booleans())
    return sent


SEQUENCES = st.lists(
    st.one_of(MESSAGES, fragmented(), st.lists(frames(), max_size=2)), max_size=4
).map(lambda lists: [sent for some in lists for sent in some])


def wire_of(sent: list[Sent]) -> bytes:
    return b"".join(one.encode() for one in sent)


@THOROUGH
@given(
    sent=SEQUENCES,
    odd=st.lists(ODD_FRAMES, max_size=1),
    rest=st.binary(max_size=12),
    sizes=st.binary(max_size=16),
    size=st.integers(0, 300) | st.just(WIDE),
    fragments=st.integers(1, 6) | st.just(WIDE),
)
@example([Sent(BINARY, bytes(126))], [], b"", b"\1", 126, 1)
@example([Sent(BINARY, bytes(127))], [], b"", b"\1", 126, 1)
def test_c_reader_tells_what_the_reference_tells(
    reader: Reader,
    sent: list[Sent],
    odd: list[Sent],
    rest: bytes,
    sizes: bytes,
    size: int,
    fragments: int,
) -> None:
    wire = wire_of(sent + odd) + rest
    expected = Reference(wire, size, fragments).read()
    assert reader.read(wire, sizes, size, fragments) == expected


@THOROUGH
@given(wire=st.binary(max_size=200), sizes=st.binary(max_size=16), size=st.integers(0, 300))
def test_c_reader_tells_of_any_bytes_what_the_reference_tells(
    reader: Reader, wire: bytes, sizes: bytes, size: int
) -> None:
    assert reader.read(wire, sizes, size, 3) == Reference(wire, size, 3).read()


# `websockets`, whose sans-I/O protocol hands out frames; joining and UTF-8 are its caller's.


def websockets_reads(wire: bytes, max_size: int | None) -> Verdict:
    protocol = Protocol(SERVER, state=OPEN, max_size=max_size)
    protocol.receive_data(wire)
    messages: list[Message] = []
    opcode, parts = 0, b""
    frames: list[Any] = protocol.events_received()
    for frame in frames:
        if frame.opcode < CLOSE:
            opcode, parts = int(frame.opcode) or opcode, parts + bytes(frame.data)
            if opcode == TEXT and not is_utf8(parts, frame.fin):
                return messages, 1007
            if frame.fin:
                messages.append((opcode, 0, parts))
                parts = b""
        elif frame.opcode == CLOSE:
            assert protocol.close_rcvd is not None
            messages.append((CLOSE, int(protocol.close_rcvd.code), bytes(frame.data[2:])))
        else:
            messages.append((int(frame.opcode), 0, bytes(frame.data)))
    failure = protocol.parser_exc
    if isinstance(failure, ProtocolError):
        return messages, 1002
    if isinstance(failure, PayloadTooBig):
        return messages, 1009
    return messages, 1007 if isinstance(failure, UnicodeDecodeError) else 0


def disagreement(sent: list[Sent]) -> str:
    """Why `websockets` may say something else of these frames; "" when it may not."""
    inside = False
    for one in sent:
        if one.form and (len(one.payload) < 126 or (one.form == 8 and len(one.payload) < 65536)):
            return "it takes lengths that are not in their shortest form (RFC 6455 5.2)"
        if one.opcode == CLOSE and inside:
            return "it refuses a Close inside a message, which may come at any time (5.4)"
        if one.opcode == CLOSE and len(one.payload) > 2 and not is_utf8(one.payload[2:], True):
            return "it looks at the reason before the code: 1007 where both are bad, not 1002"
        if one.opcode < CLOSE:
            inside = not one.fin
    return ""


@THOROUGH
@given(sent=SEQUENCES, odd=st.lists(ODD_FRAMES, max_size=1), sizes=st.binary(max_size=16))
def test_websockets_and_the_c_reader_agree(
    reader: Reader, sent: list[Sent], odd: list[Sent], sizes: bytes
) -> None:
    assume(not disagreement(sent + odd))
    wire = wire_of(sent + odd)
    assert reader.read(wire, sizes) == websockets_reads(wire, None)


@THOROUGH
@given(
    sent=SEQUENCES,
    size=st.integers(1, 200),
)
def test_websockets_and_the_c_reader_have_the_same_limit(
    reader: Reader, sent: list[Sent], size: int
) -> None:
    # Data only: it holds control frames, too, against what is left of the limit.
    data = [one for one in sent if one.opcode < CLOSE]
    wire = wire_of(data)
    verdict = reader.read(wire, b"\7", size)
    assume(verdict[1] != 1002)  # a frame out of order and too large: it says 1009
    assert verdict == websockets_reads(wire, size)
