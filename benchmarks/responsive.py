"""Does a server under full load still answer, and stop, at once?

    python benchmarks/responsive.py [--clients 1,100,1000] [--rates max,1000000] [--rounds 5]

Each round starts `fastws serve` on one core and `fastws bench` on the other, and while that takes
all it can get, measures on connections of its own, from the other core too:

  GET /stats     connect to the last byte of the answer
  handshake      connect to the last byte of the 101 of a WebSocket
  Ctrl-C, port   SIGINT until the port refuses a connection (tried every 2 ms)
  Ctrl-C, Close  SIGINT until a Close with 1001 has arrived at a client that came just before
  Ctrl-C, exit   SIGINT until the process has ended: every closing handshake, by the crowd's core

A Close goes behind what was published, of which a client of the crowd may have 12 MiB to come; one
that came just before has in front of it what was published since, in turns with the others (at a
fixed rate that the cores cannot keep up with, that is the most of it; inf: it was cut off). The
arrival is the kernel's time stamp of the segment, so that it does not matter when this program
gets to read it. Prints a table in milliseconds; leaves with status 1 when the median of
anything but the exit is above the goal.
"""

import argparse
import math
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from serving import CLIENT_CORE, FASTWS, Served, end, open_websocket, serve

GOAL_MS = 50.0
EXIT = "Ctrl-C, exit"  # shown, not judged: it is the crowd that takes the time
CLOSE_1001 = b"\x88\x02\x03\xe9"  # RFC 6455 5.5.1, 7.4.1; the last frame of a connection
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
PATIENCE = 30.0  # seconds
CROWD_SECONDS = 120  # the longest that a crowd stays
WARM_UP = 1.0
PAUSE = 0.01  # seconds between two samples
PROBE = 0.002  # and between two looks at the port

Samples = dict[str, list[float]]  # milliseconds


class Observer(threading.Thread):
    """A WebSocket client, just come, that notes when its Close arrived."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.closed_at = math.inf  # seconds since the epoch
        self._socket, _ = open_websocket(port)
        stamp(self._socket)

    def run(self) -> None:
        """Read up to the Close or the end."""
        room = memoryview(bytearray(1 << 20))
        tail = b""
        with self._socket, suppress(ConnectionResetError):
            while tail != CLOSE_1001:
                n, ancillary, _, _ = self._socket.recvmsg_into([room], 64)
                if n == 0:
                    return
                tail = (tail + bytes(room[max(n - 4, 0) : n]))[-4:]
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
            self.closed_at = seconds + nanoseconds / 1e9


def stamp(sock: socket.socket) -> None:
    """Have the kernel note when segments arrive."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


@contextmanager
def crowd(server: Served, clients: int) -> Iterator[None]:
    """Let that many clients take the feed; they are there, and warm."""
    command = [*FASTWS, "bench", f"ws://127.0.0.1:{server.port}"]
    command += ["--clients", str(clients), "--duration", str(CROWD_SECONDS)]
    taking = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while server.ask("GET", "/stats")["server"]["connections"] < clients:
            assert time.monotonic() < deadline, "the crowd did not come"
            assert taking.poll() is None, "the crowd has gone"
            time.sleep(0.05)
        time.sleep(WARM_UP)
        yield
    finally:
        end(taking)


def sample(server: Served, count: int, found: Samples) -> float:
    """Measure requests and handshakes in turns; return the frames/s that the server says."""
    rates: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        stats = server.ask("GET", "/stats")
        note(found, "GET /stats", time.perf_counter() - began)
        rates.append(stats["serverRate"])
        began = time.perf_counter()
        connection, _ = open_websocket(server.port)
        note(found, "handshake", time.perf_counter() - began)
        connection.close()
        time.sleep(PAUSE)
    return statistics.median(rates)


def interrupt(server: Served, found: Samples) -> None:
    """Press Ctrl-C and measure the reaction and the end."""
    observer = Observer(server.port)
    observer.start()
    began, began_at = time.perf_counter(), time.time()
    server.process.send_signal(signal.SIGINT)
    wait_until_refused(server.port)
    note(found, "Ctrl-C, port", time.perf_counter() - began)
    observer.join(PATIENCE)
    note(found, "Ctrl-C, Close", observer.closed_at - began_at)
    assert server.process.wait(PATIENCE) == 0, server.process.returncode
    note(found, EXIT, time.perf_counter() - began)


def wait_until_refused(port: int) -> None:
    """Return as soon as nobody listens there any more."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        except (ConnectionRefusedError, ConnectionResetError):  # reset: it was closed meanwhile
            return
        time.sleep(PROBE)
    sys.exit("responsive: the port is still open")


def note(found: Samples, what: str, seconds: float) -> None:
    """Add a sample."""
    found.setdefault(what, []).append(seconds * 1000)


def report(rate: str, clients: int, frames_per_s: float, found: Samples) -> list[str]:
    """Print the rows of one load; return what misses the goal."""
    missed = []
    for what, samples in found.items():
        ordered = sorted(samples)
        median, p95 = statistics.median(ordered), ordered[math.ceil(0.95 * len(ordered)) - 1]
        print(
            f"{rate:>8}  {clients:>7}  {frames_per_s:>12,.0f}  {what:<13}  {len(ordered):>7}"
            f"  {median:>6.1f}  {p95:>6.1f}  {ordered[-1]:>6.1f}",
            flush=True,
        )
        if what != EXIT and median > GOAL_MS:
            missed.append(f"{what} at {rate} with {clients} clients: {median:.1f} ms")
    return missed


def main() -> None:
    """Measure all loads; judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", default="1,100,1000", help="numbers of clients")
    parser.add_argument("--rates", default="max,1000000", help="of `fastws serve`")
    parser.add_argument("--rounds", type=int, default=5, help="servers for each load")
    parser.add_argument("--samples", type=int, default=20, help="of each request in a round")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    # The kernel stamps nothing before a while after the first socket that asks for it.
    stamping = socket.socket()
    stamp(stamping)
    print("    rate  clients      frames/s  ms             samples  median     p95     max")
    missed: list[str] = []
    for rate in arguments.rates.split(","):
        for clients in map(int, arguments.clients.split(",")):
            found: Samples = {}
            rates = []
            for _ in range(arguments.rounds):
                with serve("--rate", rate) as server, crowd(server, clients):
                    rates.append(sample(server, arguments.samples, found))
                    interrupt(server, found)
            missed += report(rate, clients, statistics.median(rates), found)
    stamping.close()
    if missed:
        sys.exit(f"above {GOAL_MS:.0f} ms in the median: " + "; ".join(missed))
    print(f"every median is within {GOAL_MS:.0f} ms (the exit is not judged)")


if __name__ == "__main__":
    main()
