"""Does a server with little memory outlive clients that do the worst that every limit allows?

    python benchmarks/small_memory.py [--limit-mib 256] [--seconds 15] [--case worst]

The server (small_memory_server.py) runs in a memory control group of its own, which the kernel
kills when it takes more; that needs root and version 1 or 2 of control groups. In each case ten
clients measure echoes, first alone, then beside the crowd:

  worst     2,000 connections: messages of 1 MiB that lack their last byte; echoes that are never
            read; requests behind one another whose answers are never read; heads and bodies that
            lack their end
  stalled   10,000 subscribers of one topic that never read, 1 MB published to it a second
  topics    1,000 topics with one subscriber each that never reads, a third of them lossless

Prints for each whether the server lives, its largest resident size, what it refused by counter, and
the p99 of the echoes, alone and beside. Status 1: it died, or an account does not balance.
"""

import argparse
import http.client
import json
import multiprocessing
import os
import re
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from serving import CLIENT_CORE, SERVER_CORE

from fastws.client.handshake import build_request, new_key

SERVER = Path(__file__).resolve().parent / "small_memory_server.py"
CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))
LIMITS = ("memory.limit_in_bytes", "memory.max")
HEALTHY = 10
CASES = {  # topics, messages every 10 ms
    "worst": (0, 0),
    "stalled": (0, 10),
    "topics": (1000, 100),
}


class Small:
    """The running server."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        self.process = process
        self.port = int(process.stdout.readline())

    def facts(self) -> Any:
        """Return its counters, accounts and connections."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            client.request("GET", "/counters")
            return json.loads(client.getresponse().read())
        finally:
            client.close()

    def most_resident_mib(self) -> float:
        """Return VmHWM."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", text)
        return 0.0 if found is None else int(found[1]) / 1024


@contextmanager
def cgroup(limit_mib: int) -> Iterator[Path]:
    """Make a memory control group with that limit."""
    for root in CGROUPS:
        group = root / f"fastws-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            for name in LIMITS:
                if (group / name).exists():
                    (group / name).write_text(str(limit_mib << 20))
                    yield group
                    return
        finally:
            time.sleep(0.2)  # the kernel lets go of the last process a moment after its end
            with suppress(OSError):
                group.rmdir()
    raise SystemExit("small_memory: no memory control group can be made here; it needs root")


@contextmanager
def serve(limit_mib: int, topics: int, each: int) -> Iterator[Small]:
    """Run the server in a group of its own, on its core."""
    with cgroup(limit_mib) as group:

        def enter() -> None:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            os.sched_setaffinity(0, {SERVER_CORE})

        process = subprocess.Popen(
            [sys.executable, str(SERVER), "--topics", str(topics), "--each", str(each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=enter,
        )
        try:
            yield Small(process)
        finally:
            process.kill()
            process.communicate()


# The crowd, in a process of its own.


def dial(port: int) -> socket.socket:
    """Connect, with a receive buffer that is full soon."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


def upgrade(port: int, path: str = "/") -> bytes:
    """Return a request that opens a WebSocket."""
    return build_request("127.0.0.1", port, path, new_key())


def worst(port: int) -> list[tuple[bytes, bytes]]:
    """What each of the 2,000 says at first, and then again and again."""
    mib = 1 << 20
    part = b"\x82\xff" + mib.to_bytes(8, "big") + bytes(4) + bytes(mib - 1)
    echoes = b"\x81\x81\0\0\0\0a" * 5000
    stats = b"GET /counters HTTP/1.1\r\nHost: a\r\n\r\n" * 500
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"y" * 8000 + b"\r\nZ: " + b"z" * 8000
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n" + bytes(65535)
    opened = upgrade(port)
    kinds = [(opened + part, b""), (opened, echoes), (stats, stats), (head, b""), (body, b"")]
    return [kinds[i % len(kinds)] for i in range(2000)]


def sayings(case: str, port: int) -> list[tuple[bytes, bytes]]:
    """What each connection says at first, and then again and again."""
    if case == "worst":
        return worst(port)
    if case == "stalled":
        return [(upgrade(port, "/feed"), b"")] * 10_000
    return [(upgrade(port, f"/topic/{i}"), b"") for i in range(1000)]


def crowd(case: str, port: int, seconds: float) -> None:
    """Say it all, as far as the server takes it, and read nothing."""
    os.sched_setaffinity(0, {CLIENT_CORE})
    deadline = time.monotonic() + seconds
    held: list[tuple[socket.socket, memoryview, bytes]] = []
    for i, (first, again) in enumerate(sayings(case, port)):
        with suppress(OSError):
            held.append((dial(port), memoryview(first), again))
        if i % 100 == 99:
            held = said(held)
    while time.monotonic() < deadline:
        held = said(held)
        time.sleep(0.02)


def said(
    held: list[tuple[socket.socket, memoryview, bytes]],
) -> list[tuple[socket.socket, memoryview, bytes]]:
    """Send on each what its socket takes; return those that live."""
    living = []
    for sock, left, again in held:
        try:
            if left:
                left = left[sock.send(left[:65536]) :]
            elif again:
                left = memoryview(again)
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            continue
        living.append((sock, left, again))
    return living


# Those that measure.


def healthy(port: int) -> socket.socket:
    """Open a WebSocket."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    sock.sendall(upgrade(port))
    received = b""
    while b"\r\n\r\n" not in received:
        part = sock.recv(1)
        assert part, "the server let no healthy client in"
        received += part
    return sock


def echoes(socks: list[socket.socket], seconds: float) -> float:
    """Return the p99 of echoes that are asked for one after the other, ms."""
    took = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for sock in socks:
            began = time.perf_counter()
            sock.sendall(b"\x81\x85\0\0\0\0hello")
            ready, _, _ = select.select([sock], [], [], 30)
            if not ready or not sock.recv(100):
                return float("inf")
            took.append(time.perf_counter() - began)
        time.sleep(0.01)
    took.sort()
    return took[len(took) * 99 // 100] * 1000


def measure(case: str, limit_mib: int, seconds: float) -> bool:
    """Measure one case; print it. False: the server did not stand it."""
    with serve(limit_mib, *CASES[case]) as server:
        socks = [healthy(server.port) for _ in range(HEALTHY)]
        alone = echoes(socks, 3)
        others = multiprocessing.Process(target=crowd, args=(case, server.port, seconds))
        others.start()
        time.sleep(seconds / 3)  # the crowd has come
        try:
            beside = echoes(socks, seconds / 2)
            facts = server.facts()
        except OSError:
            beside, facts = float("inf"), None
        resident = server.most_resident_mib()
        others.terminate()
        others.join()
        alive = server.process.poll() is None and facts is not None
    print(f"{case}: {'alive' if alive else 'DEAD'}, at most {resident:.0f} MiB resident")
    print(f"  p99 of an echo: {alone:.2f} ms alone, {beside:.2f} ms beside the crowd")
    if facts is None:
        return False
    counted = {name: n for name, n in facts["counters"].items() if n and name not in ("sends",)}
    print(f"  {facts['connections']} connections, LogFull {facts['refused']}, counters {counted}")
    account = facts["account"]
    rest = sum(account[name] for name in ("delivered", "conflated", "dropped", "pending"))
    return alive and account["published"] == rest


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit-mib", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--case", choices=list(CASES), action="append")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CLIENT_CORE})
    cases = options.case or list(CASES)
    stood = [measure(case, options.limit_mib, options.seconds) for case in cases]
    sys.exit(0 if all(stood) else 1)


if __name__ == "__main__":
    main()
