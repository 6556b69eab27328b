"""What the servers in Python share: their options, and when to publish what.

    python -m benchmarks.compare.peers.NAME --port P --clients N [--size S] [--burst B] [--free]
        [--topics K] [--echo]

Serves 127.0.0.1:P until a signal, or for an hour at most. With --echo every message goes back, and
nobody is subscribed. Otherwise each client is subscribed to K topics; `go N` of a client permits N
further messages of the ring, and as soon as all clients are there message i goes to topic i modulo
K, so many at once as --burst says. A client that asks for /quiet is not subscribed, and gets its
own messages back.
"""

import argparse
import asyncio
import signal
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks.compare.messages import messages

QUIET = "/quiet"
BACKLOG = 4096  # clients that may wait to be accepted: those of a cell connect at once
LONGEST = 3600  # seconds, after which a forgotten server ends


Client = TypeVar("Client")


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    port: int
    clients: int
    size: int
    burst: int
    free: bool
    topics: int
    echo: bool

    def echoes(self, path: str) -> bool:
        """Return whether a client that asks for `path` gets its own messages back."""
        return self.echo or path == QUIET


def options() -> Options:
    """Read the command line; the alarm is set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--size", type=int, default=110)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--free", action="store_true", help="bursts need not wait for the last one")
    parser.add_argument("--topics", type=int, default=1)
    parser.add_argument("--echo", action="store_true")
    found = Options(**vars(parser.parse_args()))
    signal.alarm(LONGEST)
    return found


class Rooms(Generic[Client]):
    """The topics of a library that has none: a set of clients each."""

    def __init__(self, source: "Source") -> None:
        self._source = source
        self.of: dict[str, set[Client]] = {topic: set() for topic in source.topics}

    def join(self, client: Client) -> None:
        """Subscribe a client to all of them."""
        for clients in self.of.values():
            clients.add(client)
        self._source.joined()


class Source:
    """The messages of a load, and how many of them may go now."""

    def __init__(self, load: Options) -> None:
        self._load = load
        self._ring = messages(load.size)
        self._next = 0
        self.topics = [f"topic/{number}" for number in range(load.topics)]
        self._credit = 0
        self.clients = 0
        self._wanted = asyncio.Event()

    def joined(self) -> None:
        """Count a client in."""
        self.clients += 1
        self._look()

    def told(self, text: str | bytes) -> None:
        """Take `go N`."""
        self._credit += int(text[3:])
        self._look()

    def stop(self) -> None:
        """Permit nothing more."""
        self._credit = 0

    @property
    def due(self) -> bool:
        """Whether a burst may go."""
        return self.clients == self._load.clients and self._credit >= self._load.burst

    async def wait(self) -> None:
        """Let the loop run once, and until a burst may go."""
        await asyncio.sleep(0)
        while not self.due:
            self._wanted.clear()
            await self._wanted.wait()

    def burst(self) -> list[tuple[str, bytes]]:
        """Take the messages of a burst, each with its topic."""
        self._credit -= self._load.burst
        taken = range(self._next, self._next + self._load.burst)
        self._next = taken.stop
        topics, ring = self.topics, self._ring
        return [(topics[i % len(topics)], ring[i % len(ring)]) for i in taken]

    def _look(self) -> None:
        if self.due:
            self._wanted.set()


async def until_ended() -> None:
    """Wait for SIGINT or SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
