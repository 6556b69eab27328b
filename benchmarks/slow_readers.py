"""Fast clients beside slow ones under `latest` with keys: what each kind gets, and how old it is.

    make bench-c && python benchmarks/slow_readers.py [--rounds 7] [--seconds 10]
    python benchmarks/slow_readers.py --rounds 1 --minutes 10      # and then the memory over time
    python benchmarks/slow_readers.py --quick                      # 20 s; for what works

One server (publisher.py) publishes --rate messages a second with --keys keys to one topic. --fast
clients take all that comes. A round measures them alone and beside --slow further ones, which read
--share of the rate; rounds take turns in which comes first. Server and clients have a core each,
the fast and the slow clients a process each. The fast ones have to get every number. The age of
what the slow ones read must be at most (receive buffer + LOWAT) / read rate + --allowed: the two
places behind the server's decision. The receive buffer is the one that the kernel states. Leaves
with status 1 where a promise is not kept.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from reading import READERS, Asked, Figures, publishing, reading, spread
from serving import CLIENT_CORE
from topics_wire import raise_file_limit

LOWAT = 16_384  # `notsent_lowat`, the default of the engine
MIB = 1 << 20


@dataclass
class Measured:
    """What was measured."""

    ratios: list[float] = field(default_factory=list)
    alone: list[Figures] = field(default_factory=list)
    beside: list[Figures] = field(default_factory=list)
    slow: list[Figures] = field(default_factory=list)
    servers: list[Figures] = field(default_factory=list)
    memory: list[Figures] = field(default_factory=list)  # once a second


class Run:
    """One server with its fast clients."""

    def __init__(self, options: argparse.Namespace, server: Asked, port: int, fast: Asked) -> None:
        self.options, self.server, self.port, self.fast = options, server, port, fast
        self.read_rate = round(options.rate * options.share * (options.size + 2))  # bytes/s
        self.measured = Measured()

    @contextmanager
    def slow_ones(self) -> Iterator[Asked]:
        """Let the slow ones come, and wait until what they read is as old as it gets."""
        options = ("--read-rate", self.read_rate, "--receive-buffer", self.options.receive_buffer)
        with reading(self.options.readers, self.port, self.options.slow, *options) as slow:
            buffer = slow.ask()["receive_buffer"]
            time.sleep(self.bound(buffer) * 1.5)
            slow.ask()
            yield slow

    def bound(self, receive_buffer: int) -> float:
        """Return the greatest age that the slow ones may see, seconds."""
        return (receive_buffer + LOWAT) / self.read_rate + self.options.allowed

    def measure(self, seconds: float) -> Figures:
        """Return what the fast ones got in that time."""
        self.server.ask()
        self.fast.ask()
        time.sleep(seconds)
        found = self.fast.ask()
        self.measured.servers.append(self.server.ask())
        return found

    def round(self, slow_first: bool) -> None:
        """Measure both."""
        found: dict[bool, Figures] = {}
        for beside in (slow_first, not slow_first):
            with self.slow_ones() if beside else nullcontext() as slow:
                found[beside] = self.measure(self.options.seconds)
                if slow is not None:
                    self.measured.slow.append(slow.ask())
            time.sleep(1)  # the ends of the slow ones have been noticed
        self.measured.alone.append(found[False])
        self.measured.beside.append(found[True])
        self.measured.ratios.append(found[True]["p99_ms"] / found[False]["p99_ms"])

    def long(self, minutes: float) -> None:
        """Note the memory once a second, beside slow ones."""
        with self.slow_ones() as slow:
            self.server.ask()
            self.fast.ask()
            until = time.monotonic() + minutes * 60
            while time.monotonic() < until:
                time.sleep(1)
                self.measured.memory.append(self.server.ask())
            self.measured.beside.append(self.fast.ask())
            self.measured.slow.append(slow.ask())


def report(run: Run) -> bool:
    """Print it all; return whether every promise was kept."""
    found, options = run.measured, run.options
    fast = found.alone + found.beside
    missing = sum(each["missing"] for each in fast)
    ended = sum(each["ended"] for each in fast)
    bound = run.bound(found.slow[0]["receive_buffer"])
    oldest = max(each["max_ms"] for each in found.slow) / 1e3
    ages = {part: spread([row[part] / 1e3 for row in found.slow]) for part in ("p50_ms", "p99_ms")}
    print(
        f"{options.rate:,}/s, {options.keys} keys, {options.size} bytes; {options.fast} fast and"
        f" {options.slow} slow clients, which read {run.read_rate:,} bytes/s each"
    )
    for name, each in (("alone", found.alone), ("beside", found.beside)):
        p50, p99 = (spread([row[part] for row in each]) for part in ("p50_ms", "p99_ms"))
        print(f"fast, {name:<7} p50 {p50} ms, p99 {p99} ms")
    print(f"p99 beside over p99 alone, in one round: {spread(found.ratios)}; goal 1.2")
    print(
        f"fast ones got {sum(row['messages'] for row in fast):,}, missing {missing}, ended {ended}"
    )
    print(
        f"age of what the slow ones read: p50 {ages['p50_ms']}, p99 {ages['p99_ms']}, at most"
        f" {oldest:.3f} s;"
        f" bound ({found.slow[0]['receive_buffer']} + {LOWAT}) / {run.read_rate:,}"
        f" + {options.allowed} = {bound:.3f} s"
    )
    share = [row["bytes"] / row["seconds"] / options.slow / run.read_rate for row in found.slow]
    print(
        f"the slow ones read {spread(share)} of their rate; the server's core was busy"
        f" {spread([row['busy'] for row in found.servers])}"
    )
    balanced = all(row["balanced"] for row in found.servers + found.memory)
    says = "balances" if balanced else "DOES NOT BALANCE"
    print(f"the account {says}: {found.servers[-1]['account']}")
    report_memory(found.memory or found.servers)
    return missing == 0 and ended == 0 and balanced and oldest <= bound


def report_memory(rows: list[Figures]) -> None:
    """Print the first and the last tenth, and the most."""
    tenth = max(1, len(rows) // 10)
    for name, unit in (("resident", MIB), ("log", MIB), ("kernel", MIB)):
        values = [
            (row["account"]["retained_bytes"] if name == "log" else row[name]) / unit
            for row in rows
        ]
        print(
            f"{name:<9} MiB: first tenth {spread(values[:tenth])}, last {spread(values[-tenth:])},"
            f" most {max(values):.3f}"
        )


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=0, help="beside slow ones, at the end")
    parser.add_argument("--quick", action="store_true", help="one round of 5 s")
    parser.add_argument("--rate", type=int, default=10_000, help="messages a second")
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--size", type=int, default=110, help="bytes of a message")
    parser.add_argument("--fast", type=int, default=500)
    parser.add_argument("--slow", type=int, default=500)
    parser.add_argument("--share", type=float, default=0.01, help="of the rate that slow ones read")
    parser.add_argument("--receive-buffer", type=int, default=4096, help="SO_RCVBUF of slow ones")
    parser.add_argument("--allowed", type=float, default=0.1, help="seconds in the server: max_lag")
    parser.add_argument("--readers", type=Path, default=READERS, help="native/readers, compiled")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 5.0
    return options


def main() -> int:
    """Measure and print."""
    options = parsed()
    raise_file_limit()
    os.sched_setaffinity(0, {CLIENT_CORE})
    publisher = ("--rate", options.rate, "--keys", options.keys, "--size", options.size)
    lag = ("--max-lag-seconds", options.allowed)
    with (
        publishing(sys.executable, *map(str, publisher + lag)) as (server, port),
        reading(options.readers, port, options.fast) as fast,
    ):
        run = Run(options, server, port, fast)
        time.sleep(2)
        for number in range(options.rounds):
            run.round(slow_first=number % 2 == 1)
        if options.minutes:
            run.long(options.minutes)
        return 0 if report(run) else 1


if __name__ == "__main__":
    sys.exit(main())
