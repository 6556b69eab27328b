"""Updates a second of each key in a browser's page that asks for 60 Hz, and the age of the data.

    python benchmarks/page_rates.py [--seconds 10] [--rounds 3] [--feed ticks] [--client plain]

Two feeds: `ticks`, `fastws serve` at 1,000,000/s with 5 symbols, and `keys`, a Python program
(publisher.py) that publishes 100,000/s under 100 keys. A page in a headless Chromium
(tests/browser.py) reads each of them in two ways, in turns: `plain`, a plain topic with
`?onSlow=latest&maxRate=60`, and `part1`, the path `/` without options, as clients that know nothing
of topics do. It parses each message and counts updates by key. The age is the time from a message's
`ts` until the page has parsed it.

The server has one core, Chromium the other. Leaves with status 1 where a key of a `plain` client
has fewer than --goal updates a second.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from publisher import TOPIC
from reading import publishing, spread
from serving import CLIENT_CORE, serve

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from browser import browsing

PATHS = {"plain": "/topics/{topic}?onSlow=latest&maxRate={rate}", "part1": "/"}
SETTLE = 2.0  # seconds before each measurement
# A page that drowns in messages answers no question, so that it measures and ends by itself. One
# age in 64 is noted where there are many.
SCRIPT = """
(() => {
  let keys = {}, ages = [], n = 0, begun = false, at = performance.now() + %(settle)d;
  const socket = new WebSocket(`ws://${location.host}%(path)s`);
  const end = closed => {
    const seconds = (performance.now() - at) / 1000;
    const rates = Object.values(keys).map(n => n / seconds).sort((a, b) => a - b);
    ages.sort((a, b) => a - b);
    const age = part => ages[Math.min(ages.length - 1, Math.floor(part * ages.length))] ?? null;
    window.figures ??= {seconds, messages: n, rates, closed,
                        p50: age(0.5), p99: age(0.99), most: age(1)};
  };
  socket.onclose = event => end(event.code);
  socket.onmessage = event => {
    const message = JSON.parse(event.data), now = performance.now();
    const key = message.symbol ?? message.key;
    if (now < at)
      return;
    if (!begun) {
      begun = true;
      at = now;
    }
    if (now > at + %(length)d) {
      end(null);
      socket.onmessage = null;
      socket.close();
      return;
    }
    keys[key] = (keys[key] ?? 0) + 1;
    if (n++ %% 64 == 0 || n < 4096)
      ages.push(performance.timeOrigin + now - message.ts);
  };
})()
"""


@contextmanager
def feed(name: str, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Run a server; yield its address and the name of its topic."""
    if name == "ticks":
        with serve("--rate", str(options.ticks_rate)) as server:
            yield f"127.0.0.1:{server.port}", "ticks"
        return
    words = ["--rate", str(options.keys_rate), "--keys", str(options.keys), "--json"]
    # As the tick feed: a client is at most half a second behind.
    words += ["--every", "0.002", "--on-slow", "latest", "--max-lag-seconds", "0.5"]
    with publishing(sys.executable, *words) as (_, port):
        yield f"127.0.0.1:{port}", TOPIC


async def measure(address: str, path: str, seconds: float) -> dict[str, Any]:
    """Open a page, let it read, and return its figures."""
    with tempfile.TemporaryDirectory() as profile:
        pinned = ("--disable-backgrounding-occluded-windows", "--disable-renderer-backgrounding")
        async with browsing(f"http://{address}/healthz", Path(profile), *pinned) as page:
            words = {"path": path, "settle": SETTLE * 1000, "length": seconds * 1000}
            await page.value(SCRIPT % words)
            return dict(await page.until("window.figures"))


def shown(name: str, rows: list[dict[str, Any]]) -> str:
    """Return a line about the rounds of one client."""
    least = spread([row["rates"][0] if row["rates"] else 0.0 for row in rows])
    middle = spread([statistics.median(row["rates"] or [0.0]) for row in rows])
    most = spread([row["rates"][-1] if row["rates"] else 0.0 for row in rows])
    age = ", ".join(
        f"{part} {spread([row[part] for row in rows if row[part] is not None])}"
        for part in ("p50", "p99", "most")
    )
    closed = {row["closed"] for row in rows}
    return (
        f"{name}: {min(len(row['rates']) for row in rows)} keys; updates a second of a key: least"
        f" {least}, median {middle}, most {most}; messages/s"
        f" {spread([row['messages'] / row['seconds'] for row in rows])}; age, ms: {age}; closed"
        f" {closed}"
    )


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--feed", action="append", choices=["ticks", "keys"], help="default: both")
    parser.add_argument("--client", action="append", choices=PATHS, help="default: both")
    parser.add_argument("--rate", type=int, default=60, help="maxRate that the page asks for")
    parser.add_argument("--ticks-rate", type=int, default=1_000_000)
    parser.add_argument("--keys-rate", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--goal", type=float, default=59, help="updates a second of each key")
    options = parser.parse_args()
    options.feed = options.feed or ["ticks", "keys"]
    options.client = options.client or list(PATHS)
    return options


async def main() -> int:
    """Measure and print."""
    options = parsed()
    held = True
    for name in options.feed:
        found: dict[str, list[dict[str, Any]]] = {client: [] for client in options.client}
        with feed(name, options) as (address, topic):
            for number in range(options.rounds):
                turn = options.client[:: -1 if number % 2 else 1]
                for client in turn:
                    path = PATHS[client].format(topic=topic, rate=options.rate)
                    found[client].append(await measure(address, path, options.seconds))
        for client, rows in found.items():
            print(shown(f"{name}, {client}", rows), flush=True)
            if client == "plain":
                held &= all(row["rates"] and row["rates"][0] >= options.goal for row in rows)
    return 0 if held else 1


if __name__ == "__main__":
    os.sched_setaffinity(0, {CLIENT_CORE})
    sys.exit(asyncio.run(main()))
