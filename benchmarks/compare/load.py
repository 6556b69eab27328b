"""The load: opens WebSockets, hands them to the C client, which compares every byte.

It knows no server. A fan-out is paced by credit: `go N` over the first connection lets the server
publish N messages (native/load.c).
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare.cells import Cell, Kind
from benchmarks.compare.messages import (
    client_frame_size,
    client_stream,
    frame_size,
    ring_size,
    server_stream,
)

PROGRAMS = Path(__file__).resolve().parent.parent.parent / "build/release"
BATCH = 64  # handshakes at once
FIRST = 200  # connections that are open before memory is looked at
PATIENCE = 20.0  # seconds
QUIET = "/quiet"  # a connection that is not subscribed: the server echoes its messages
HEAD = (
    "GET {} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455 1.3


class BadStream(Exception):
    """The server sent something else than it must, or nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement.

    Args:
        value: in the unit of the cell's kind.
        server_ns: processor time of the server for a frame.
        client_busy: share of its core that the load client used.
        frames_per_segment: 1: each frame was a send of its own; more: several were one send.
        p99: of a latency or a pause, in µs.
    """

    value: float
    server_ns: float | None = None
    client_busy: float | None = None
    frames_per_segment: float | None = None
    p99: float | None = None


def measure(cell: Cell, port: int, pid: int, warmup: float, seconds: float) -> Measured:
    """Put a load on a server.

    Raises:
        BadStream: a frame was wrong, or none came.
    """
    if cell.kind is Kind.IDLE:
        return measured_memory(cell, port, pid)
    times = ["--warmup", str(warmup), "--seconds", str(seconds)]
    if cell.kind is Kind.STORM:
        return measured_storm(cell, port, times, warmup + seconds)
    with connected(cell.clients, port) as sockets, probe_of(cell, port) as probe:
        options = [*options_of(cell), *times, "--pid", str(pid)]
        for fd in probe:
            options += ["--probe", str(fd)]
        fds = (*sockets, *probe)
        found = answer_of(
            "load", [*options, *map(str, sockets)], fds, streams(cell), warmup + seconds
        )
    return measured_of(cell, found)


def options_of(cell: Cell) -> list[str]:
    """Return what load.c is told of a cell."""
    modes = {Kind.LATENCY: "latency", Kind.ECHO: "echo"}
    numbers = {
        "frame": frame_size(cell.size),
        "ring": ring_size(cell.size),
        "window": cell.window,
        "burst": cell.burst,
        "in-flight": cell.in_flight,
    }
    if sends(cell):
        numbers["sent-frame"] = client_frame_size(cell.size)
    found = ["--mode", modes.get(cell.kind, "fan")]
    for name, number in numbers.items():
        found += [f"--{name}", str(number)]
    return found


def sends(cell: Cell) -> bool:
    """Return whether the load client sends messages of the ring."""
    return cell.kind in (Kind.ECHO, Kind.PAUSE)


def streams(cell: Cell) -> bytes:
    """Return what load.c reads."""
    return server_stream(cell.size) + (client_stream(cell.size) if sends(cell) else b"")


def measured_of(cell: Cell, found: dict[str, Any]) -> Measured:
    """Return what load.c has found."""
    facts = {name: found[name] for name in ("server_ns", "client_busy", "frames_per_segment")}
    if cell.kind in (Kind.RATE, Kind.ECHO):
        return Measured(found["frames_per_s"], **facts)
    name, figure = ("latency", "median_us") if cell.kind is Kind.LATENCY else ("probe", "most_us")
    if name not in found:
        raise BadStream(f"no {name} was measured in time")
    return Measured(found[name][figure], p99=found[name]["p99_us"], **facts)


def answer_of(
    program: str, options: list[str], fds: tuple[int, ...], stdin: bytes, seconds: float
) -> dict[str, Any]:
    """Run a program of benchmarks/native; return the line of JSON that it prints."""
    try:
        done = subprocess.run(
            [str(PROGRAMS / program), *options],
            input=stdin,
            capture_output=True,
            pass_fds=fds,
            timeout=seconds + PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise BadStream(f"{program} did not end") from error
    if done.returncode:
        raise BadStream(done.stderr.decode().strip() or f"{program} left with {done.returncode}")
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def measured_storm(cell: Cell, port: int, times: list[str], seconds: float) -> Measured:
    """Measure handshakes; a server that is to open so many in all has opened some before."""
    options = ["--port", str(port), "--at-once", str(cell.clients)]
    if cell.total:
        with connected(FIRST, port):
            found = answer_of("storm", [*options, "--total", str(cell.total)], (), b"", seconds)
    else:
        found = answer_of("storm", [*options, *times], (), b"", seconds)
    return Measured(found["handshakes_per_s"], client_busy=found["client_busy"])


def measured_memory(cell: Cell, port: int, pid: int) -> Measured:
    """Measure what the resident memory grows by for each further connection."""
    with connected(FIRST, port):
        before = resident(pid)
        with connected(cell.clients, port):
            return Measured((resident(pid) - before) / cell.clients)


def resident(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def probe_of(cell: Cell, port: int) -> Iterator[list[int]]:
    """Open the connection beside the fan-out, where the cell has one."""
    if cell.kind is not Kind.PAUSE:
        yield []
        return
    with connected(1, port, QUIET) as probe:
        yield probe


@contextmanager
def connected(count: int, port: int, path: str = "/") -> Iterator[list[int]]:
    """Open so many WebSockets; yields their descriptors, which do not block."""
    opened: list[socket.socket] = []
    try:
        for first in range(0, count, BATCH):
            batch = [dial(port) for _ in range(min(BATCH, count - first))]
            opened += batch
            for each in batch:
                each.sendall(HEAD.format(path).encode())
            for each in batch:
                check_upgraded(each)
                each.setblocking(False)
        yield [each.fileno() for each in opened]
    finally:
        for each in opened:
            each.close()


def dial(port: int) -> socket.socket:
    """Connect."""
    opened = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def check_upgraded(opened: socket.socket) -> None:
    """Read the answer to the handshake.

    Raises:
        BadStream: it is not the one that the request asks for.
    """
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
    if rest:
        raise BadStream("the server sent something that nobody permitted")
