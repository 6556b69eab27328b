"""The load client: many WebSockets in one thread that compares every byte with what must come.

It knows no server. A fan-out is paced by credit: `go N` over the first connection lets the server
publish N messages, and more is given as soon as the slowest client has half of them. A server that
takes no credit (the bare loop) is paced by its sockets.
"""

import os
import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.cells import Cell
from benchmarks.compare.messages import client_stream, command, frame_size, server_stream

BUFFER = 256 * 1024
BATCH = 64  # handshakes at once
PATIENCE = 10.0  # seconds without a byte
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3


class BadStream(Exception):
    """The server sent something else than it must, or nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement."""

    frames_per_s: float
    server_ns: float  # processor time of the server for a frame
    client_busy: float  # share of its core that the load client used


class Load:
    """The clients of one server."""

    def __init__(self, cell: Cell, port: int) -> None:
        self._cell = cell
        self._frame = frame_size(cell.size)
        ring = server_stream(cell.size)
        self._period = len(ring)
        # So long that whatever one call receives is one piece, wherever it begins.
        self._expected = ring + ring * (BUFFER // len(ring)) + ring[: BUFFER % len(ring)]
        self._buffer = bytearray(BUFFER)
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._got: dict[int, int] = {}  # bytes of each client
        self._total = 0
        self._behind = 0  # clients that have not got to the threshold
        self._threshold = 0  # bytes
        self._connect(port)

    def close(self) -> None:
        """Close every socket."""
        for each in self._sockets.values():
            each.close()
        self._epoll.close()

    def measure(self, warmup: float, seconds: float, pid: int) -> Measured:
        """Run the load; the frames of the warm-up are checked but not counted.

        Raises:
            BadStream: a frame was wrong, or none came for 10 s.
        """
        self._begin()
        self._run(warmup)
        began, total, busy, used = time.monotonic(), self._total, time.process_time(), cpu(pid)
        self._run(seconds)
        took = time.monotonic() - began
        frames = (self._total - total) / self._frame
        if frames < 1:
            raise BadStream("not one frame came")
        return Measured(
            frames / took, (cpu(pid) - used) / frames, (time.process_time() - busy) / took
        )

    def _begin(self) -> None:
        cell = self._cell
        if not cell.echo:
            self._control = next(iter(self._sockets.values()))
            self._give(cell.window)
            return
        self._sent = client_stream(cell.size)
        self._sent_frame = len(self._sent) * self._frame // self._period
        self._asked = dict.fromkeys(self._sockets, 0)
        for fd in self._sockets:
            self._ask(fd, cell.in_flight)

    def _run(self, seconds: float) -> None:
        until = heard = time.monotonic()
        until += seconds
        turn = self._turn_of_echo if self._cell.echo else self._turn_of_fan_out
        while (now := time.monotonic()) < until:
            events = self._epoll.poll(0.1)
            if events:
                heard = now
                turn(events)
            elif now - heard > PATIENCE:
                raise BadStream(f"nothing came for {PATIENCE:.0f} s")

    def _turn_of_fan_out(self, events: list[tuple[int, int]]) -> None:
        threshold, got = self._threshold, self._got
        for fd, _ in events:
            before = got[fd]
            if before < threshold <= before + self._receive(fd):
                self._behind -= 1
        if self._behind == 0:
            self._give(self._cell.window // 2 // self._cell.burst * self._cell.burst)

    def _turn_of_echo(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            self._receive(fd)
            whole = self._got[fd] // self._frame
            more = whole + self._cell.in_flight - self._asked[fd]
            if more:
                self._ask(fd, more)

    def _ask(self, fd: int, count: int) -> None:
        frame = self._sent_frame
        at = self._asked[fd] * frame % len(self._sent)
        piece = self._sent[at : at + count * frame]
        rest = count * frame - len(piece)
        self._sockets[fd].sendall(piece + self._sent[:rest] if rest else piece)
        self._asked[fd] += count

    def _give(self, count: int) -> None:
        """Let the server publish so many more; the next time when half of them are everywhere."""
        self._control.sendall(command(f"go {count}"))
        granted = self._threshold + count * self._frame
        if self._threshold == 0:
            granted //= 2
        self._threshold = granted
        self._behind = sum(got < granted for got in self._got.values())

    def _receive(self, fd: int) -> int:
        try:
            n = self._sockets[fd].recv_into(self._buffer)
        except BlockingIOError:
            return 0
        except ConnectionResetError:
            n = 0
        if n == 0:
            raise BadStream("the server closed a connection")
        self._check(fd, memoryview(self._buffer)[:n])
        return n

    def _check(self, fd: int, received: memoryview) -> None:
        at = self._got[fd]
        if not self._expected.startswith(received, at % self._period):
            frame = at // self._frame
            raise BadStream(f"frame {frame:,} of a client, or one soon after it, is wrong")
        self._got[fd] = at + len(received)
        self._total += len(received)

    def _connect(self, port: int) -> None:
        for first in range(0, self._cell.clients, BATCH):
            opened = [dial(port) for _ in range(min(BATCH, self._cell.clients - first))]
            for each in opened:
                each.sendall(REQUEST)
            for each in opened:
                rest = upgraded(each)
                each.setblocking(False)
                self._sockets[each.fileno()] = each
                self._got[each.fileno()] = 0
                self._check(each.fileno(), memoryview(rest))
                self._epoll.register(each, select.EPOLLIN)


def dial(port: int) -> socket.socket:
    """Connect."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def upgraded(opened: socket.socket) -> bytes:
    """Read the answer to the handshake; return what came behind it."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = opened.recv(4096)
        if not part:
            raise BadStream("the server closed a connection instead of upgrading it")
        head += part
    head, _, rest = head.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 ") or ACCEPT not in head:
        raise BadStream(f"the server refused: {head[:100]!r}")
    if b"sec-websocket-extensions" in head.lower():
        raise BadStream("the server chose an extension that nobody offered")
    return rest


def cpu(pid: int) -> int:
    """Return the processor time of a process, all its threads, in nanoseconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
