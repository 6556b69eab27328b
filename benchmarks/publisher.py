"""The server of slow_readers.py, crowd.py and page_rates.py: publishes at a rate.

    python benchmarks/publisher.py --rate 10000 --keys 100 --on-slow latest --max-lag-seconds 0.1

Every WebSocket is subscribed to one topic, `data`, which is a plain topic as well. A message begins
with its number and with the time when it was made (u64 each, CLOCK_MONOTONIC); with --json it is
`{"key":…,"seq":…,"ts":…}`. Every --every seconds those that are due are made, then published, then
flushed, and each of the three is timed on its own, in processor time of the thread. For a line of
standard input it prints one line of JSON about the time since the last one; it ends with standard
input.
"""

import argparse
import asyncio
import json
import os
import struct
import sys
import time
from pathlib import Path
from typing import Any

from topics_loads import resident_bytes
from topics_pace import quantiles
from topics_wire import raise_file_limit, thread_ns

from fastws import App, Connection, History, Lag, Limits, LogFull, Server
from fastws.http.request import Request

STAMP = struct.Struct("<QQ")
TOPIC = "data"


class Publisher(App):
    """Subscribes all that come, and publishes to them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        limits = Limits(max_connections=15_000, ping_interval=0, write_timeout=0)
        self.server = Server(self, limits=limits)
        lag = Lag(
            bytes=options.max_lag_bytes,
            messages=options.max_lag_messages,
            seconds=options.max_lag_seconds,
        )
        history = History(messages=options.history or None)
        self.topic = self.server.topic(
            TOPIC, on_slow=options.on_slow, max_lag=lag, history=history, retain=options.retain
        )
        self.plain_topics()
        self.keys = [f"K{n:03d}" for n in range(options.keys)]
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """Begin to count anew."""
        self.began, self.cpu_ns = time.monotonic(), thread_ns()
        self.published = self.refused = self.publish_ns = 0
        self.flushes: list[int] = []
        self.held = 0.0  # the longest time for which the topic took nothing, seconds
        self.took_at = self.began

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe it."""
        connection.subscribe(self.topic)

    # Publishing.

    async def publish(self) -> None:
        """Publish what is due, again and again; what the topic refuses is not tried again."""
        options = self.options
        due, at = 0.0, time.monotonic()
        while True:
            now = time.monotonic()
            # What a pause has left over is not made up for in one burst.
            due += min(now - at, 10 * options.every) * options.rate
            at = now
            count = int(due)
            due -= count
            if count:
                self._burst(self._made(count))
            await asyncio.sleep(max(0.0, at + options.every - time.monotonic()))

    def _made(self, count: int) -> list[tuple[str | None, bytes | str]]:
        made: list[tuple[str | None, bytes | str]] = []
        size, keys = self.options.size, self.keys
        for number in range(self.number, self.number + count):
            key = keys[number % len(keys)] if keys else None
            if self.options.json:
                ts = time.time() * 1000
                made.append((key, f'{{"key":"{key}","seq":{number},"ts":{ts:.3f}}}'))
            else:
                stamp = STAMP.pack(number, time.monotonic_ns())
                made.append((key, stamp.ljust(size, b".")))
        return made

    def _burst(self, made: list[tuple[str | None, bytes | str]]) -> None:
        publish, taken = self.topic.publish, 0
        began = thread_ns()
        try:
            for key, message in made:
                publish(message, key=key)
                taken += 1
        except LogFull:
            self.refused += 1
        published = thread_ns()
        self.server.engine.flush()
        self.flushes.append(thread_ns() - published)
        self.publish_ns += published - began
        self.number += taken
        self.published += taken
        if taken:
            now = time.monotonic()
            self.held = max(self.held, now - self.took_at)
            self.took_at = now

    # What it took.

    def report(self) -> dict[str, Any]:
        """Return the figures since the last report."""
        seconds, cpu = time.monotonic() - self.began, thread_ns() - self.cpu_ns
        account = self.topic.account()
        settled = sum(account[part] for part in ("delivered", "conflated", "dropped", "pending"))  # type: ignore[literal-required]
        found = {
            "seconds": seconds,
            "published": self.published,
            "refused": self.refused,
            "held": max(self.held, time.monotonic() - self.took_at),
            "publish_ns": self.publish_ns / max(1, self.published),
            "flush_us": sum(self.flushes) / max(1, len(self.flushes)) / 1e3,
            "flush_ms": quantiles(self.flushes),
            "cpu_ns": cpu / max(1, self.published),  # all that the thread does
            "busy": cpu / 1e9 / seconds,
            "account": dict(account),
            "balanced": account["published"] == settled,
            "resident": resident_bytes(),
            "connections": len(self.server.engine.connections),
            "counters": {name: n for name, n in self.server.counters().items() if n},
            "kernel": kernel_bytes(),
        }
        self.begin()
        return found


def kernel_bytes() -> int:
    """Return what the sockets of this network namespace hold in the kernel, both ends."""
    text = Path("/proc/net/sockstat").read_text()
    pages = next(line.split() for line in text.splitlines() if line.startswith("TCP:"))
    return int(pages[pages.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")


async def main() -> None:
    """Serve until standard input ends."""
    raise_file_limit()
    app = Publisher(arguments())
    ((_, port),) = app.server.listen("127.0.0.1", 0)
    app.server.start()
    publishing = asyncio.create_task(app.publish())
    print(f"ws://127.0.0.1:{port}", flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(app.report()), flush=True)
    publishing.cancel()
    app.server.close()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=10_000, help="messages a second")
    parser.add_argument("--every", type=float, default=0.01, help="seconds between two bursts")
    parser.add_argument("--size", type=int, default=110, help="bytes of a message")
    parser.add_argument("--keys", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--on-slow", default="latest")
    parser.add_argument("--max-lag-bytes", type=int)
    parser.add_argument("--max-lag-messages", type=int)
    parser.add_argument("--max-lag-seconds", type=float)
    parser.add_argument("--history", type=int, default=0, help="messages")
    parser.add_argument("--retain", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
