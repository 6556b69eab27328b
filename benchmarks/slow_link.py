"""How old are the ticks that a client behind a slow link gets, and who made them old?

    python benchmarks/slow_link.py [--link 200000] [--seconds 30] [--max-lag 0.5]

`fastws serve --rate 20000`, a proxy that passes so many bytes a second, and a client behind it;
then the rate falls from 50,000 to 1,000 a second. The proxy and the kernel hold bytes too, which
leave in order: a tick was handed over when `delivered` of `GET /stats` (taken every 20 ms) first
counted it. Prints for each part the age of the ticks at the client and, of that, how long they had
waited in the server; leaves with status 1 when more than one in a thousand waited there for more
than `--goal` seconds. The longest wait is that of a tick whose first bytes had left: when a socket
is full in the middle of a frame, the rest leaves first when it has room, however old it is.
"""

import argparse
import os
import re
import select
import socket
import struct
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

from serving import CLIENT_CORE, Served, open_websocket, serve

CHUNK = 16384
LOOK = 0.02  # seconds between two looks at `delivered`
PARTS = [("20,000/s", 20_000), ("50,000/s", 50_000), ("from 50,000 to 1,000/s", 1000)]


def forward(source: socket.socket, sink: socket.socket, rate: int) -> None:
    """Pass on what comes, at most so many bytes a second, until either side ends."""
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
            time.sleep(len(data) / rate)
    except OSError:
        pass
    finally:
        sink.close()


@contextmanager
def slow_link(port: int, rate: int) -> Iterator[int]:
    """Listen for one client of that port; yield the port that it connects to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=forward, args=(near, far, 10**9), daemon=True).start()
            forward(far, near, rate)

        threading.Thread(target=run, daemon=True).start()
        yield listener.getsockname()[1]


class Delivered:
    """When the server had handed over how many ticks."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self.times: list[float] = []
        self.counts: list[int] = []

    def look(self) -> None:
        """Ask."""
        count = self._server.ask("GET", "/stats")["server"]["delivered"]
        self.times.append(time.time())
        self.counts.append(count)

    def handed_over(self, number: int) -> float | None:
        """Return when that tick, counted from 1, was first seen handed over; None: not yet."""
        at = bisect_left(self.counts, number)
        return self.times[at] if at < len(self.times) else None


class Client:
    """Reads ticks; notes the due time of each, and when it came."""

    def __init__(self, port: int) -> None:
        self.sock, self._rest = open_websocket(port)
        self.sock.settimeout(10)
        self.due: list[float] = []
        self.came: list[float] = []

    def read(self) -> None:
        """Take what has come."""
        data = self._rest + self.sock.recv(1 << 16)
        assert len(data) > len(self._rest), "the server ended the connection"
        at, now = 0, time.time()
        while len(data) - at >= 2:
            n, header = data[at + 1], 2
            if n == 126:
                if len(data) - at < 4:
                    break
                n, header = struct.unpack_from(">H", data, at + 2)[0], 4
            if len(data) - at < header + n:
                break
            found = re.search(rb'"ts":(\d+)', data[at + header : at + header + n])
            if found is not None:  # else a ping
                self.due.append(int(found[1]) / 1000)
                self.came.append(now)
            at += header + n
        self._rest = data[at:]

    def watch(self, delivered: Delivered, seconds: float) -> None:
        """Read, and look at the server, for that long."""
        until = time.monotonic() + seconds
        look_at = 0.0
        while (now := time.monotonic()) < until:
            if now >= look_at:
                delivered.look()
                look_at = now + LOOK
            if select.select([self.sock], [], [], LOOK)[0]:
                self.read()


def report(name: str, client: Client, delivered: Delivered, first: int) -> float:
    """Print a row about the ticks from that one on; return the p99.9 of the waits in the server."""
    ages, waits = [], []
    for i in range(first, len(client.due)):
        handed_over = delivered.handed_over(i + 1)
        if handed_over is None:
            break
        ages.append(client.came[i] - client.due[i])
        waits.append(handed_over - client.due[i])
    ages.sort()
    waits.sort()
    high = waits[int(len(waits) * 0.999)]
    print(
        f"{name:<28} {len(ages):>8} {ages[len(ages) // 2]:>8.2f} {ages[-1]:>8.2f} "
        f"{waits[len(waits) // 2]:>8.2f} {high:>8.2f} {waits[-1]:>8.2f}",
        flush=True,
    )
    return high


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--link", type=int, default=200_000, help="bytes a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each part")
    parser.add_argument("--max-lag", default="0.5", help="of fastws serve")
    parser.add_argument("--goal", type=float, default=1.0, help="seconds in the server")
    options = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    print(
        f"{'seconds':<28} {'ticks':>8} {'age p50':>8} {'max':>8} {'wait p50':>8} {'p99.9':>8} "
        f"{'max':>8}"
    )
    with (
        serve("--rate", "0", "--max-lag", options.max_lag) as server,
        slow_link(server.port, options.link) as port,
    ):
        client, delivered = Client(port), Delivered(server)
        worst = 0.0
        for name, rate in PARTS:
            server.ask("POST", "/config", {"rate": rate})
            first = len(client.due)
            client.watch(delivered, options.seconds)
            worst = max(worst, report(name, client, delivered, first))
        client.sock.close()
    return 1 if worst > options.goal else 0


if __name__ == "__main__":
    sys.exit(main())
