"""What the servers in Python share: their options, and when to publish what.

    python -m benchmarks.compare.peers.NAME --port P --clients N [--size S] [--burst B] [--echo]

Serves 127.0.0.1:P until a signal, or for an hour at most. With --echo every message goes back.
Otherwise `go N` of a client permits N further messages of the ring, and as soon as all clients are
there each goes to all of them, so many at once as --burst says.
"""

import argparse
import asyncio
import signal
from dataclasses import dataclass

from benchmarks.compare.messages import messages

LONGEST = 3600  # seconds, after which a forgotten server ends


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    port: int
    clients: int
    size: int
    burst: int
    echo: bool


def options() -> Options:
    """Read the command line; the alarm is set."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--size", type=int, default=110)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--echo", action="store_true")
    found = Options(**vars(parser.parse_args()))
    signal.alarm(LONGEST)
    return found


class Source:
    """The messages of a load, and how many of them may go now."""

    def __init__(self, load: Options) -> None:
        self._load = load
        self._ring = messages(load.size)
        self._next = 0
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

    def burst(self) -> list[bytes]:
        """Take the messages of a burst."""
        self._credit -= self._load.burst
        taken = []
        for _ in range(self._load.burst):
            taken.append(self._ring[self._next])
            self._next = (self._next + 1) % len(self._ring)
        return taken

    def _look(self) -> None:
        if self.due:
            self._wanted.set()


async def until_ended() -> None:
    """Wait for SIGINT or SIGTERM."""
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
