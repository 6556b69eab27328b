"""Thousands of subscribers that read nothing: what they do to the publisher, to others, to memory.

    make bench-c && python benchmarks/crowd.py [--rounds 5] [--seconds 5]
    python benchmarks/crowd.py --policy lossless --policy close
    python benchmarks/crowd.py --quick

publisher.py publishes --rate messages a second to one topic that --healthy clients take. A round
measures the server without and with --stalled further subscribers in a process of their own, with
small receive buffers, in turns first. Compared are, within a round, the processor time of
`publish()` for a message, that of a flush, that of all that the server's thread does for a message,
and the p99 of the healthy ones. Memory stands beside the formula

    stalled x (connection + subscription + rest of a half-sent frame) + what the log may retain

and beside what the kernel holds for the sockets of both ends. Under `close` and `lossless` the
crowd does not stay. For these the time from its coming until it is gone is one measurement.

The server sends no pings and has no write time-out, or the crowd would be closed for that.
"""

import argparse
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from reading import READERS, Asked, Figures, publishing, reading, spread
from serving import CLIENT_CORE
from topics_wire import raise_file_limit

CONNECTION, SUBSCRIPTION = 1020, 135  # bytes, of docs/measured.md
MIB = 1 << 20
RETENTION = 16 * MIB  # `retention_bytes`, the default of a topic
STAY = ("latest", "drop_oldest")  # policies under which the crowd stays
COMPARED = {  # figure: its name
    "publish_ns": "publish(), ns a message",
    "flush_us": "a flush, µs",
    "cpu_ns": "all of the thread, ns a message",
    "p99_ms": "p99 of the healthy ones, ms",
}


class Round:
    """A server with its healthy clients."""

    def __init__(self, options: argparse.Namespace, server: Asked, port: int, fast: Asked) -> None:
        self.options, self.server, self.port, self.fast = options, server, port, fast

    def measure(self, seconds: float) -> Figures:
        """Return what server and healthy clients say about that time."""
        self.server.ask()
        self.fast.ask()
        time.sleep(seconds)
        return self.fast.ask() | self.server.ask()

    def crowd(self) -> object:
        """What opens the stalled ones."""
        options = ("--read-rate", 0, "--receive-buffer", self.options.receive_buffer)
        return reading(self.options.readers, self.port, self.options.stalled, *options)

    def gone(self) -> None:
        """Wait until only the healthy ones are there."""
        until = time.monotonic() + 30
        while self.server.ask()["connections"] > self.options.healthy:
            assert time.monotonic() < until, "the crowd does not go"
            time.sleep(0.2)

    def compare(self, crowd_first: bool) -> tuple[Figures, Figures]:
        """Measure without and with the crowd."""
        found: dict[bool, Figures] = {}
        for beside in (crowd_first, not crowd_first):
            with self.crowd() if beside else nullcontext():  # type: ignore[attr-defined]
                time.sleep(self.options.settle if beside else 0.5)
                found[beside] = self.measure(self.options.seconds)
            self.gone()
        return found[False], found[True]

    def watch(self) -> tuple[Figures, Figures, float]:
        """Measure without the crowd, and then from its coming on; with the time it took to come."""
        alone = self.measure(self.options.seconds)
        self.server.ask()
        self.fast.ask()
        began = time.monotonic()
        with self.crowd():  # type: ignore[attr-defined]
            came = time.monotonic() - began
            time.sleep(self.options.watch)
            found = self.fast.ask() | self.server.ask()
        self.gone()
        return alone, found, came


def compare(options: argparse.Namespace, policy: str) -> bool:
    """Measure a policy under which the crowd stays; print it."""
    pairs: list[tuple[Figures, Figures]] = []
    before: list[int] = []
    for number in range(options.rounds):
        with served(options, policy) as round_:
            before.append(round_.server.ask()["resident"])
            pairs.append(round_.compare(crowd_first=number % 2 == 1))
    alone, beside = ([pair[i] for pair in pairs] for i in (0, 1))
    print(
        f"{policy}: {options.rate:,}/s, {options.stalled:,} stalled, {options.healthy} healthy,"
        f" SO_RCVBUF {options.receive_buffer}, {options.rounds} rounds"
    )
    for figure, name in COMPARED.items():
        ratios = [b[figure] / a[figure] for a, b in pairs]
        print(
            f"  {name:<33} {spread([row[figure] for row in alone])} without,"
            f" {spread([row[figure] for row in beside])} with: x {spread(ratios)}"
        )
    grown = [row["resident"] - at for row, at in zip(beside, before, strict=True)]
    print_memory(options, beside, grown)
    stayed = min(row["connections"] for row in beside) - options.healthy
    ok = verdict(alone + beside)
    print(f"  {stayed:,} stalled ones were there; counters {beside[-1]['counters']}")
    return ok and stayed == options.stalled


def print_memory(options: argparse.Namespace, beside: list[Figures], grown: list[int]) -> None:
    """Print what the server has grown by, the formula, and what the kernel holds."""
    each = CONNECTION + SUBSCRIPTION + options.size + 4
    formula = options.stalled * each + RETENTION
    retained = [row["account"]["retained_bytes"] / MIB for row in beside]
    kernel = [row["kernel"] / options.stalled / 1024 for row in beside]
    print(
        f"  resident memory grew by {spread([n / MIB for n in grown])} MiB; formula"
        f" {options.stalled:,} x {each} + {RETENTION // MIB} MiB = {formula / MIB:.1f} MiB; the log"
        f" retains {spread(retained)} MiB; kernel {spread(kernel)} KiB a stalled connection"
    )


def watch(options: argparse.Namespace, policy: str) -> bool:
    """Measure a policy under which the crowd goes; print it."""
    with served(options, policy) as round_:
        alone, beside, came = round_.watch()
    print(
        f"{policy}: {options.stalled:,} stalled ones came within {came:.1f} s; {options.watch:g} s"
        f" later {beside['connections'] - options.healthy:,} were there,"
        f" {beside['counters'].get('slow_closed', 0):,} closed for it"
    )
    for name, row in (("without", alone), ("with", beside)):
        print(
            f"  {name:<8} {row['published'] / row['seconds']:>9,.0f}/s published,"
            f" {row['refused']} times LogFull, took nothing for {row['held']:.3f} s at most;"
            f" publish() {row['publish_ns']:.0f} ns; healthy ones: p99 {row['p99_ms']:.2f} ms,"
            f" longest {row['max_ms']:.1f} ms, missing {row['missing']}, ended {row['ended']}"
        )
    return verdict([alone, beside])


def verdict(rows: list[Figures]) -> bool:
    """Return whether the healthy ones missed nothing and every account balanced; print it."""
    missing, ended = (sum(row[part] for row in rows) for part in ("missing", "ended"))
    balanced = all(row["balanced"] for row in rows)
    print(
        f"  healthy ones got {sum(row['messages'] for row in rows):,}, missing {missing}, ended"
        f" {ended}; the account {'balances' if balanced else 'DOES NOT BALANCE'}"
    )
    return missing == 0 and ended == 0 and balanced


class served:
    """A server with that policy and its healthy clients, which are ready."""

    def __init__(self, options: argparse.Namespace, policy: str) -> None:
        command = ("--rate", options.rate, "--every", options.every, "--size", options.size)
        words = map(str, (*command, "--on-slow", policy))
        self._options, self._server = options, publishing(sys.executable, *words)

    def __enter__(self) -> Round:
        server, port = self._server.__enter__()
        self._fast = reading(self._options.readers, port, self._options.healthy)
        fast = self._fast.__enter__()
        time.sleep(2)
        return Round(self._options, server, port, fast)

    def __exit__(self, *error: object) -> None:
        self._fast.__exit__(None, None, None)
        self._server.__exit__(None, None, None)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    policies = (*STAY, "close", "lossless")
    parser.add_argument("--policy", action="append", choices=policies, help="default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--settle", type=float, default=3, help="seconds before it, with the crowd")
    parser.add_argument("--watch", type=float, default=15, help="seconds of close and lossless")
    parser.add_argument("--quick", action="store_true", help="one round, 1,000 stalled ones")
    parser.add_argument("--rate", type=int, default=100_000, help="messages a second")
    parser.add_argument("--every", type=float, default=0.001, help="seconds between two bursts")
    parser.add_argument("--size", type=int, default=110, help="bytes of a message")
    parser.add_argument("--healthy", type=int, default=10)
    parser.add_argument("--stalled", type=int, default=10_000)
    parser.add_argument("--receive-buffer", type=int, default=4096, help="SO_RCVBUF of the crowd")
    parser.add_argument("--readers", type=Path, default=READERS, help="native/readers, compiled")
    options = parser.parse_args()
    options.policy = options.policy or list(policies)
    if options.quick:
        options.rounds, options.stalled, options.seconds, options.watch = 1, 1000, 3.0, 8.0
    return options


def main() -> int:
    """Measure and print."""
    options = parsed()
    raise_file_limit()
    os.sched_setaffinity(0, {CLIENT_CORE})
    kept = [(compare if name in STAY else watch)(options, name) for name in options.policy]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
