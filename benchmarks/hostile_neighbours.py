"""How long does a client wait beside others that send the dearest things there are?

    python benchmarks/hostile_neighbours.py [--seconds 3] [--case heads] [--goal 10]

Each case starts a server on one core (`fastws serve` at rate 0, or `examples/echo.py`), and on the
other one a process whose connections send as fast as they can what costs the server most for its
size, while a client of this program pings. Prints the ping's milliseconds alone and beside them,
and the server's share of its core; leaves with status 1 when a p99 is above the goal.
"""

import argparse
import os
import random
import selectors
import signal
import socket
import statistics
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from serving import CLIENT_CORE, open_websocket, serve, started

ECHO = str(Path(__file__).resolve().parent.parent / "examples/echo.py")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, PING = 1, 2, 9
PAUSE = 0.003  # seconds between two pings
SETTLE = 0.5  # and before the first one that counts


@dataclass(frozen=True)
class Case:
    """What so many connections send to a server of that kind."""

    name: str
    connections: int
    data: bytes
    options: tuple[str, ...] = ()
    echo: bool = False
    heads: bool = False  # data is a whole request, and each needs a connection of its own
    fields: str = ""  # of the handshake


def head(target: str = "/", fields: str = "") -> bytes:
    """Return an upgrade request."""
    return (
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{fields}\r\n"
    ).encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, deflated: bool = False) -> bytes:
    """Return a client's frame, with a masking key of zeros."""
    n = len(payload)
    size = (
        bytes([0x80 | n])
        if n < 126
        else b"\xfe" + n.to_bytes(2, "big")
        if n < 65536
        else b"\xff" + n.to_bytes(8, "big")
    )
    return bytes([fin << 7 | deflated << 6 | opcode]) + size + bytes(4) + payload


def deflated(raw: bytes) -> bytes:
    """Return a compressed message (RFC 7692 7.2.1)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return frame(
        BINARY, (packer.compress(raw) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4], deflated=True
    )


def cases() -> list[Case]:
    """Return what is measured."""
    elements = "a," * 4000
    extensions = f"Sec-WebSocket-Extensions: {elements}\r\n"
    objects = b"[" + b'{"a":{}},' * 1820 + b"0]"  # just below 16 KiB
    block = random.Random(1).randbytes(1000)  # repeated: does not shrink in a window of 512 bytes
    path = head("/" + "%41" * 2600).replace(b"Upgrade: w", b"X: w")  # plain HTTP
    fragments = frame(BINARY, b"x", fin=False) + frame(0, b"x", fin=False) * 9000 + frame(0)
    mib = 1 << 20
    return [
        Case("heads, query of 8 KiB", 64, head("/?" + "a&" * 4000), heads=True),
        Case("heads, path of 8 KiB", 64, path, heads=True),
        Case("heads, 64 fields", 64, head(fields="A: b\r\n" * 58), heads=True),
        Case("heads, lists of 8 KiB", 64, head(fields=f"Connection: {elements}\r\n"), heads=True),
        Case("heads, extensions", 64, head(fields=extensions), ("--deflate",), heads=True),
        Case("messages of 16 KiB", 8, frame(TEXT, objects)),
        Case("messages, empty", 32, frame(TEXT) * 10_000),
        Case("pings", 32, frame(PING) * 10_000),
        Case("fragments", 32, fragments),
        Case("echo, empty messages", 32, frame(TEXT) * 10_000, echo=True),
        Case("echo, compressed, does not shrink", 8, deflated((block * 1049)[:mib]),
             ("--deflate",), echo=True,
             fields="Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n"),
        Case("echo, compressed, shrinks", 8, deflated(bytes(mib)), ("--deflate",), echo=True,
             fields="Sec-WebSocket-Extensions: permessage-deflate\r\n"),
    ]  # fmt: skip


class Attacker:
    """One connection that sends its data again and again, and reads whatever comes."""

    def __init__(self, case: Case, port: int) -> None:
        self._case, self._port = case, port
        self.connect()

    def connect(self) -> None:
        """Begin anew."""
        self.sock = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        if not self._case.heads:
            self.sock.sendall(head(fields=self._case.fields))
            assert b" 101 " in self.sock.recv(4096)
        self.sock.setblocking(False)
        self._sent = 0

    def go_on(self, events: int) -> bool:
        """Send and read a piece. False: it has ended."""
        data = self._case.data
        with suppress(BlockingIOError):
            if events & selectors.EVENT_READ and (not self.sock.recv(1 << 18) or self._case.heads):
                return False
        with suppress(BlockingIOError):
            if events & selectors.EVENT_WRITE and self._sent < len(data):
                self._sent += self.sock.send(data[self._sent : self._sent + (1 << 18)])
                if not self._case.heads:
                    self._sent %= len(data)
        return True


def attack(case: Case, port: int) -> None:
    """Send for ever."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    os.nice(10)  # not it is measured
    selector = selectors.DefaultSelector()
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    for _ in range(case.connections):
        one = Attacker(case, port)
        selector.register(one.sock, both, one)
    while True:
        for key, events in selector.select():
            one = key.data
            try:
                lasts = one.go_on(events)
            except ConnectionError:
                lasts = False
            if not lasts:
                selector.unregister(one.sock)
                one.sock.close()
                one.connect()
                selector.register(one.sock, both, one)


@contextmanager
def attacked(case: Case, port: int) -> Iterator[None]:
    """Let a process send all that."""
    pid = os.fork()
    if pid == 0:
        try:
            attack(case, port)
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the process that sends has ended"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def pings(sock: socket.socket, seconds: float) -> list[float]:
    """Return how long each took, in milliseconds, in order of size."""
    took = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        sock.sendall(frame(PING, b"x"))
        assert sock.recv(100) == b"\x8a\x01x"
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(PAUSE)
    return sorted(took)


def processor_seconds(pid: int) -> float:
    """Return what a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(case: Case, seconds: float) -> float:
    """Measure one case and print its row; return the p99."""
    echo = [sys.executable, ECHO, "--port", "0", *case.options]
    with started(echo) if case.echo else serve("--rate", "0", *case.options) as server:
        sock, _ = open_websocket(server.port)
        sock.settimeout(60)
        with sock:
            alone = statistics.median(pings(sock, 0.5))
            with attacked(case, server.port):
                time.sleep(SETTLE)
                used, began = processor_seconds(server.pid), time.perf_counter()
                took = pings(sock, seconds)
                share = (processor_seconds(server.pid) - used) / (time.perf_counter() - began)
    p50, p99 = statistics.median(took), took[int(len(took) * 0.99)]
    print(
        f"{case.name:<34} {case.connections:>5} {alone:>8.2f} {p50:>8.2f} {p99:>8.2f} "
        f"{took[-1]:>8.2f} {share:>6.0%}",
        flush=True,
    )
    return p99


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case")
    parser.add_argument("--case", default="", help="only those whose name begins with it")
    parser.add_argument("--goal", type=float, default=10.0, help="ms, of the p99")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    print(
        f"{'ping, ms, beside':<34} {'conns':>5} {'alone':>8} {'p50':>8} {'p99':>8} {'max':>8} "
        f"{'cpu':>6}"
    )
    chosen = [case for case in cases() if case.name.startswith(options.case)]
    worst = max(measure(case, options.seconds) for case in chosen)
    return 1 if worst > options.goal else 0


if __name__ == "__main__":
    sys.exit(main())
