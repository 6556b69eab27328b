"""A client by hand: bytes, frames with masks, honest or not; what must come back, strictly.

Knows no fastws. Every wait is bounded. A server's frame is legal or an assertion fails: no mask,
no reserved bit, no fragment, a minimal length, a known opcode.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE = 20.0  # seconds after which a wait has failed
CLOSE_TIMEOUT = 5.0  # the server's, seconds
HANDSHAKE_TIMEOUT = 10.0

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KNOWN = (TEXT, BINARY, CLOSE, PING, PONG)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3, and its accept
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FIELDS = (
    "Host: localhost",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)


def request(
    *fields: str | bytes,
    line: str | bytes = "GET / HTTP/1.1",
    without: tuple[str, ...] = (),
    body: bytes = b"",
) -> bytes:
    """A request head: the usual upgrade, with more fields and without those named."""
    names = tuple(name.lower() + ":" for name in without)
    kept = [each for each in FIELDS if not each.lower().startswith(names or ("\0",))]
    lines = [x if isinstance(x, bytes) else x.encode() for x in (line, *kept, *fields)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def mask(payload: bytes, key: bytes) -> bytes:
    """RFC 6455 5.3."""
    n = len(payload)
    stream = int.from_bytes((key * (n // 4 + 1))[:n], "big")
    return (int.from_bytes(payload, "big") ^ stream).to_bytes(n, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = b"\x12\x34\x56\x78",
    length_bits: int | None = None,
    declared: int | None = None,
) -> bytes:
    """One frame as a client sends it.

    Args:
        opcode: 0 to 15.
        payload: unmasked.
        fin: the last one of its message.
        rsv: 4 is RSV1, 2 RSV2, 1 RSV3.
        key: the masking key; None: not masked.
        length_bits: 7, 16 or 64; by default as few as do.
        declared: the length that the header tells, if it is not the payload's.
    """
    n = len(payload) if declared is None else declared
    bits = length_bits or (7 if n < 126 else 16 if n < 65536 else 64)
    masked = 0x80 if key is not None else 0
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if bits == 7:
        head += bytes([masked | n])
    elif bits == 16:
        head += struct.pack(">BH", masked | 126, n)
    else:
        head += struct.pack(">BQ", masked | 127, n)
    return head + (payload if key is None else key + mask(payload, key))


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """RFC 6455 5.5.1."""
    return struct.pack(">H", code) + reason


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A client's socket. What is sent never waits for what is not read, nor the other way."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.ended = False  # the server has shut down its side
        self.refused = False  # the server takes no more
        self.reset = False  # it ended without an orderly end

    def close(self) -> None:
        """Close the client's end; idempotent."""
        self.sock.close()

    def fin(self) -> None:
        """Send no more, but read."""
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        """Send all of it, reading what comes meanwhile; stops where the server takes no more."""
        view, deadline = memoryview(data), time.monotonic() + PATIENCE
        while view and not self.refused:
            self._wait(select.POLLOUT | (0 if self.ended else select.POLLIN), deadline)
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                self.refused = True
            self._take()

    def send_blindly(self, data: bytes, settle: Callable[[], None]) -> int:
        """Send, and read nothing, until the server takes no more; how much it has taken.

        Args:
            data: what is sent.
            settle: returns when the server has seen what was sent so far.
        """
        sent = 0
        while sent < len(data):
            try:
                sent += self.sock.send(data[sent : sent + 65536])
            except BlockingIOError:
                settle()
                if not select.select([], [self.sock], [], 0)[1]:
                    break
        return sent

    def _wait(self, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.sock, events)
        left = deadline - time.monotonic()
        assert left > 0, f"nothing more came behind {bytes(self.buffer[:200])!r}"
        poll.poll(left * 1000)

    def _take(self) -> None:
        """Read what is there now."""
        while not self.ended:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except (ConnectionResetError, BrokenPipeError):
                self.ended = self.reset = True
                return
            self.ended = not data
            self.buffer += data

    def more(self, within: float = PATIENCE) -> None:
        """Wait for bytes or the end, at most that many seconds."""
        before, deadline = len(self.buffer), time.monotonic() + within
        self._take()
        while len(self.buffer) == before and not self.ended:
            self._wait(select.POLLIN, deadline)
            self._take()

    def ends(self, within: float = CLOSE_TIMEOUT, *, may_reset: bool = False) -> None:
        """The server closes without another byte, whatever we have not said yet."""
        while not self.ended:
            self.more(within)
            assert not self.buffer, f"more came: {bytes(self.buffer[:200])!r}"
        assert not self.buffer, f"more came: {bytes(self.buffer[:200])!r}"
        assert may_reset or not self.reset, "a reset instead of an orderly end"

    def _until(self, n: int) -> None:
        while len(self.buffer) < n:
            assert not self.ended, f"it ended behind {bytes(self.buffer[:200])!r}"
            self.more()

    def _cut(self, n: int) -> bytes:
        self._until(n)
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def is_open(self) -> bool:
        """Whether the server has not ended it yet; it must not have said anything."""
        self._take()
        assert not self.buffer, f"it said {bytes(self.buffer[:200])!r}"
        return not self.ended

    # HTTP.

    def head(self) -> bytes:
        """The bytes up to and including the blank line."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            self._until(len(self.buffer) + 1)
        return self._cut(end + 4)

    def answer(self) -> Answer:
        """The next HTTP answer, by its letter."""
        start, *lines = self.head()[:-4].decode("ascii").split("\r\n")
        version, status, phrase = start.split(" ", 2)
        assert version == "HTTP/1.1"
        assert phrase
        fields = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in fields}
        assert len(headers) == len(fields), f"a field came twice: {lines}"
        return Answer(int(status), headers, self._cut(int(headers.get("content-length", 0))))

    def switched(self) -> dict[str, str]:
        """The 101 and its fields, all of which the upgrade needs."""
        answer = self.answer()
        assert answer.status == 101, answer
        assert answer.headers["upgrade"].lower() == "websocket"
        assert answer.headers["connection"].lower() == "upgrade"
        assert answer.headers["sec-websocket-accept"] == ACCEPT
        assert "content-length" not in answer.headers  # RFC 9110 8.6
        return answer.headers

    def handshake(self, *fields: str) -> dict[str, str]:
        """Upgrade, and return the fields of the 101."""
        self.send(request(*fields))
        return self.switched()

    # WebSocket.

    def message(self, opcode: int, payload: bytes) -> None:
        """Send one message in one frame, with a mask of its own."""
        self.send(frame(opcode, payload, key=os.urandom(4)))

    def frame(self) -> tuple[int, bytes]:
        """The next frame, opcode and payload."""
        self._until(2)
        first, n = self.buffer[0], self.buffer[1]
        assert first >> 4 == 0b1000, f"neither whole nor plain: {first:#x}"
        assert first & 15 in KNOWN, f"opcode of {first:#x}"
        head = 2
        if n >= 126:
            head = 4 if n == 126 else 10
            self._until(head)
            n = int.from_bytes(self.buffer[2:head], "big")
            assert n >= (126 if head == 4 else 65536), "not the shortest length"
        assert head == 2 or first & 8 == 0, "a long control frame"
        assert n < 1 << 31, "a mask, or a length that nobody has sent"
        return first & 15, self._cut(head + n)[head:]

    def echoes(self, opcode: int, payload: bytes) -> None:
        """The next frame is exactly this one."""
        found = self.frame()
        # Not compared by assert: pytest would take minutes to explain a mebibyte.
        same = found == (opcode, payload)
        assert same, f"{found[0]}, {found[1][:80]!r} in place of {opcode}, {payload[:80]!r}"

    def round_trip(self, opcode: int, payload: bytes) -> None:
        """Send one message and get it back."""
        self.message(opcode, payload)
        self.echoes(opcode, payload)

    def fails(self, code: int, *, may_reset: bool = False) -> None:
        """Close with that code comes next, then the server closes, though we answer nothing.

        Args:
            code: exactly this one.
            may_reset: we were still sending, so that the end may be a reset; Close comes first.
        """
        opcode, payload = self.frame()
        found = int.from_bytes(payload[:2], "big")
        assert (opcode, found) == (CLOSE, code), f"opcode {opcode}, {payload[:80]!r}"
        payload[2:].decode()
        self.ends(may_reset=may_reset)

    def closes(self, payload: bytes) -> None:
        """Close with exactly that payload comes next, then the server closes (RFC 6455 7.1.1)."""
        self.echoes(CLOSE, payload)
        self.ends()
