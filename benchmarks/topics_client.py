"""The load client of `topics.py`: many WebSockets in one thread that reads and counts bytes.

It knows neither fastws nor what is measured. One buffer takes what all connections receive; the
messages have one size, so that bytes are frames. With `check` every frame is parsed.
"""

import json
import select
import socket
import time
from collections.abc import Iterator

from topics_wire import FRAME_SIZE, HEADER, Json, command_frame, counter_of, frames

PATIENCE = 120.0  # seconds without a byte
BUFFER = 256 * 1024
BATCH = 64  # handshakes at once
REQUEST = (
    "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Crowd:
    """Clients of one server, and the control connection to it.

    Args:
        port: the server's, on 127.0.0.1.
        check: parse every frame and look at the order of the counters.
        stamp: note when each message has arrived at the last client (`arrived`); every client
            gets every message.
    """

    def __init__(self, port: int, *, check: bool = False, stamp: int = 0) -> None:
        self._port = port
        self._check = check
        self._epoll = select.epoll()
        self._buffer = bytearray(BUFFER)
        self._sockets: dict[int, socket.socket] = {}
        self._data: dict[int, bytearray] = {}  # of the checked mode: frames that are not whole
        self._last: dict[int, int] = {}  # and the counter of the last frame
        self._silent: list[socket.socket] = []  # those that do not read
        self._counts: dict[int, int] = {}  # bytes of those that are stamped
        self.arrived = [0] * stamp  # by message: time.monotonic_ns() at the last client
        self.total = 0  # bytes received
        self.expected = 0
        self.closed = 0  # connections that the server has ended
        self.misplaced = 0  # frames with a lower counter than the one before (checked mode)
        self._replies: list[Json] = []
        self._control_data = bytearray()
        self._control = _handshake([self._connect(0)], "/control")[0]
        self._epoll.register(self._control, select.EPOLLIN)

    def close(self) -> None:
        """Close every socket."""
        for each in (*self._sockets.values(), *self._silent, self._control):
            each.close()
        self._epoll.close()

    def connect(
        self, count: int, path: str = "/", *, receive_buffer: int = 0, reads: bool = True
    ) -> None:
        """Open that many more connections.

        Args:
            count: of connections.
            path: tells the server what they are for.
            receive_buffer: SO_RCVBUF; 0: what the kernel chooses.
            reads: whether they ever read behind the handshake.
        """
        for first in range(0, count, BATCH):
            batch = [self._connect(receive_buffer) for _ in range(min(BATCH, count - first))]
            for each in _handshake(batch, path):
                if not reads:
                    self._silent.append(each)
                    continue
                each.setblocking(False)
                self._sockets[each.fileno()] = each
                self._epoll.register(each, select.EPOLLIN)
                if self._check:
                    self._data[each.fileno()] = bytearray()
                    self._last[each.fileno()] = 0
                elif self.arrived and path == "/":
                    self._counts[each.fileno()] = 0

    def _connect(self, receive_buffer: int) -> socket.socket:
        opened = socket.socket()
        if receive_buffer:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        opened.settimeout(PATIENCE)
        opened.connect(("127.0.0.1", self._port))
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    @property
    def stamped(self) -> int:
        """Bytes of the connections that are stamped."""
        return sum(self._counts.values())

    def tell(self, name: str, **arguments: object) -> None:
        """Give the server a command that it does not answer."""
        self._control.sendall(command_frame(name, arguments))

    def ask(self, name: str, **arguments: object) -> Json:
        """Give the server a command, and read what comes until it has answered."""
        self.tell(name, **arguments)
        for _ in self._reading():
            if self._replies:
                return self._replies.pop(0)
        raise AssertionError("unreachable")

    def take(self, count: int) -> None:
        """Read that many bytes more than were asked for until now."""
        self.expected += count
        if self.total >= self.expected:
            return
        for _ in self._reading():
            if self.total >= self.expected:
                return

    def settle(self, quiet: float = 0.3, longest: float = 30.0) -> None:
        """Read until nothing has come for `quiet` seconds, or for `longest` seconds."""
        until = time.monotonic() + longest
        while time.monotonic() < until and self._pump(quiet):
            pass
        self.expected = self.total

    def _reading(self) -> Iterator[None]:
        while self._pump(PATIENCE):
            yield
        raise SystemExit(f"topics: nothing came for {PATIENCE:.0f} s")

    def _pump(self, timeout: float) -> bool:
        """Read once from whoever has something; False: nobody had, for that long."""
        events = self._epoll.poll(timeout)
        control = self._control.fileno()
        buffer, sockets = self._buffer, self._sockets
        for fd, _ in events:
            if fd == control:
                self._hear()
                continue
            try:
                n = sockets[fd].recv_into(buffer)
            except ConnectionResetError:
                n = 0
            if n == 0:
                self.closed += 1
                self._epoll.unregister(fd)
                sockets.pop(fd).close()
                continue
            self.total += n
            if self._check:
                self._look(fd, n)
            elif self.arrived:
                self._stamp(fd, n)
        return bool(events)

    def _hear(self) -> None:
        self._control_data += self._control.recv(1 << 16) or self._lost()
        for payload in frames(self._control_data):
            self._replies.append(json.loads(payload))

    def _lost(self) -> bytes:
        raise SystemExit("topics: the server closed the control connection")

    def _stamp(self, fd: int, n: int) -> None:
        before = self._counts.get(fd)
        if before is None:
            return
        self._counts[fd] = after = before + n
        first, end = before // FRAME_SIZE, min(after // FRAME_SIZE, len(self.arrived))
        # Time only rises: what stays is the arrival at the last client.
        self.arrived[first:end] = [time.monotonic_ns()] * (end - first)

    def _look(self, fd: int, n: int) -> None:
        data, last = self._data[fd], self._last[fd]
        data += memoryview(self._buffer)[:n]
        assert len(data) < 2 or data[:2] == HEADER, f"no header of a message: {bytes(data[:2])!r}"
        for payload in frames(data):
            counter = counter_of(payload)
            self.misplaced += counter <= last
            last = counter
        self._last[fd] = last


def _handshake(opened: list[socket.socket], path: str) -> list[socket.socket]:
    request = REQUEST.format(path).encode()
    for each in opened:
        each.sendall(request)
    for each in opened:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = each.recv(4096)
            assert part, f"the server refused {path}: {head!r}"
            head += part
        assert head.startswith(b"HTTP/1.1 101 "), head
    return opened
