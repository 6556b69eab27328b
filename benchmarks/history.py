"""What it costs to keep messages: `publish()` and memory, with and without history.

    make bench-c && python benchmarks/history.py [--rounds 7]
    python benchmarks/history.py --per-topic 100000      # more than the budget of all logs
    python benchmarks/history.py --quick

A server with --topics topics publishes --messages messages to them in turn, in bursts of 1,000; one
client is subscribed to all of them and has to get every message in the order of publishing. The
cases are measured in turns, each in a process of its own: without history, with history of
--per-topic messages, with `retain`, with keys, with keys and `retain`. Printed are the processor
time of `publish()`, that of all that the thread does (with the sends to the one client), and the
resident bytes in the end beyond those at the beginning, for each message that is kept as well.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from publisher import STAMP
from reading import READERS, Figures, asked, reading, spread
from serving import CLIENT_CORE, SERVER_CORE
from topics_loads import resident
from topics_wire import thread_ns

from fastws import App, Connection, History, Limits, Server
from fastws.http.request import Request

BURST = 1000
MIB = 1 << 20
CASES = ("none", "history", "retain", "keys", "keys+retain")
FRAME = 112  # bytes, with the header
KEYS_EACH = 10  # keys of a topic


class Keeper(App):
    """The server of one case."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.server = Server(self, limits=Limits(max_log_bytes=options.log_mib * MIB))
        kept: dict[str, Any] = {}
        if options.case == "history":
            kept["history"] = History(messages=options.per_topic)
        if "retain" in options.case:
            kept["retain"] = True
        self.topics = [
            self.server.topic(f"topic/{i:06d}", on_slow="lossless", **kept)
            for i in range(options.topics)
        ]
        self.came: asyncio.Event | None = None

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe it to everything."""
        for topic in self.topics:
            connection.subscribe(topic)
        assert self.came is not None
        self.came.set()

    async def publish(self, count: int, first: int) -> tuple[int, int]:
        """Publish so many; return the processor time of `publish()` and of everything."""
        keys = [f"K{n}" for n in range(KEYS_EACH)] if "keys" in self.options.case else [None]
        topics, spent, began = self.topics, 0, thread_ns()
        for start in range(first, first + count, BURST):
            numbers = range(start, start + BURST)
            made = [STAMP.pack(number, time.monotonic_ns()).ljust(110, b".") for number in numbers]
            targets = [topics[number % len(topics)].publish for number in numbers]
            under = [keys[number // len(topics) % len(keys)] for number in numbers]
            at = thread_ns()
            for publish, message, key in zip(targets, made, under, strict=True):
                publish(message, key=key)
            spent += thread_ns() - at
            await asyncio.sleep(0)  # it leaves in the flush; the rest, if any, with the next burst
        return spent, thread_ns() - began

    def figures(self, spent: int, cpu: int, before: int) -> Figures:
        """Return what is printed."""
        accounts = [topic.account() for topic in self.topics]
        grown = resident(None)["bytes"] - before
        kept = sum(len(topic.history()) for topic in self.topics[:10]) * len(self.topics) / 10
        return {
            "publish_ns": spent / self.options.messages,
            "cpu_ns": cpu / self.options.messages,
            "grown_mib": grown / MIB,
            "log_mib": sum(each["retained_bytes"] for each in accounts) / MIB,
            "kept": kept,
            "bytes_each": grown / kept if kept else float("nan"),
            "dropped": sum(each["dropped"] + each["conflated"] for each in accounts),
        }


async def keep(options: argparse.Namespace) -> None:
    """Be the server of one case: say the port, then the figures."""
    app = Keeper(options)
    app.came = asyncio.Event()
    ((_, port),) = app.server.listen("127.0.0.1", 0)
    app.server.start()
    print(port, flush=True)
    await app.came.wait()
    await app.publish(BURST, 0)  # what is made on demand is there
    before = resident(None)["bytes"]
    await app.publish(100 * BURST, BURST)  # memory is not fresh any more, where little is kept
    spent, cpu = await app.publish(options.messages, 101 * BURST)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps(app.figures(spent, cpu, before)), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    app.server.close()


def measure(options: argparse.Namespace, case: str) -> Figures:
    """Measure one case in a process of its own."""
    command = [sys.executable, __file__, "--case", case]
    for name in ("topics", "messages", "per_topic", "log_mib"):
        command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    with asked(command, SERVER_CORE) as server:
        port = int(server.line())
        with reading(options.readers, port, 1) as client:
            found = server.ask()
            got = client.ask()
    assert (got["missing"], got["ended"]) == (0, 0), got
    assert got["messages"] == options.messages + 101 * BURST, got
    return found


def report(options: argparse.Namespace, found: dict[str, list[Figures]]) -> None:
    """Print the figures of each case, and their ratio to those without history."""
    print(
        f"{options.topics:,} topics, {options.messages:,} messages of {FRAME - 2} bytes, one"
        f" subscriber; history of {options.per_topic:,} a topic; budget {options.log_mib} MiB"
    )
    for case, rows in found.items():
        print(case)
        for figure in rows[0]:
            line = f"  {figure:<11} {spread([row[figure] for row in rows])}"
            if figure in ("publish_ns", "cpu_ns") and case != "none":
                pairs = zip(rows, found["none"], strict=True)
                line += f"  x {spread([a[figure] / b[figure] for a, b in pairs])}"
            print(line)


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--topics", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--per-topic", type=int, default=100, help="messages of history")
    parser.add_argument("--log-mib", type=int, default=256, help="max_log_bytes")
    parser.add_argument("--quick", action="store_true", help="one round of 100,000 messages")
    parser.add_argument("--readers", type=Path, default=READERS, help="native/readers, compiled")
    parser.add_argument("--case", choices=CASES, help="be the server of that case")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.messages = 1, 100_000
    return options


def main() -> None:
    """Measure and print."""
    options = parsed()
    if options.case:
        asyncio.run(keep(options))
        return
    os.sched_setaffinity(0, {CLIENT_CORE})
    found: dict[str, list[Figures]] = {case: [] for case in CASES}
    for number in range(options.rounds):
        first = number % len(CASES)
        for case in (*CASES[first:], *CASES[:first]):
            found[case].append(measure(options, case))
            print(
                f"round {number + 1}/{options.rounds}, {case}: {found[case][-1]}", file=sys.stderr
            )
    report(options, found)


if __name__ == "__main__":
    main()
