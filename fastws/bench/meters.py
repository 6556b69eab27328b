"""What the load client counts of its connections: ticks, any messages, or echoes. Layer 6.

Ticks and any messages are counted by the engine, without Python. Echoes are messages that a handler
here answers with the next one, so that each has a round trip.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress

from fastws._frame import Connection, Engine, Frame
from fastws.bench.measurement import Latency
from fastws.bench.numbers import Counts
from fastws.errors import ConnectionClosed

STEPS = 5  # bits of a round trip that are kept: 32 steps to each power of two


class Meter:
    """Counts the ticks of an engine's connections, and checks one in 61.

    `others`: messages that are not counted, because they are no echoes.

    Args:
        engine: in the client role.
        any: its messages are any, and none is looked into.
    """

    others = 0

    def __init__(self, engine: Engine, *, any: bool = False) -> None:
        self._engine = engine
        self._any = any

    def take(self, connection: Connection) -> None:
        """Count this connection, too."""
        self._engine.meter(connection, any=self._any)

    def totals(self) -> tuple[int, int, int]:
        """Return (messages, bytes, messages looked into) over all connections."""
        found = self._engine.metered()
        return found["frames"], found["bytes"], found["sampled"]

    def of(self, connection: Connection) -> Counts:
        """Return what was counted of one."""
        return Counts(*self._engine.metered_of(connection))

    def numbered(self, connections: Iterable[Connection]) -> bool:
        """Whether the ticks carry seq."""
        return any(map(self._engine.numbered, connections))

    def record(self, recording: bool) -> None:
        """Begin to record times anew, or stop."""
        self._engine.record_latency(recording)

    def times(self) -> Latency | None:
        """Return the latencies of ticks, or the gaps between any messages; None: there are none."""
        found = self._engine.metered()["latency_ms"]
        if not found["n"]:
            return None
        return Latency(found["mean"], found["p50"], found["p99"], found["max"])

    def missed(self) -> int:
        """Return how many numbers have not come, from the first one of each connection on."""
        return self._engine.metered()["missed"]

    def failures(self) -> list[str]:
        """Return what was wrong with the messages, one line each."""
        found, failures = self._engine.metered(), []
        if found["bad"]:
            failures.append(f"bad frames: {found['bad']:,}; the first: {found['first_error']}")
        if found["duplicates"]:
            failures.append(f"ticks that came twice: {found['duplicates']:,}")
        if found["reordered"]:
            failures.append(f"ticks that came behind later ones: {found['reordered']:,}")
        return failures


class EchoMeter(Meter):
    """Keeps messages in flight on each connection: an answer is followed by the next message.

    Args:
        engine: in the client role.
        message: what is sent, and comes back.
        in_flight: how many of it at a time.
    """

    def __init__(self, engine: Engine, message: str | bytes, in_flight: int) -> None:
        super().__init__(engine, any=True)
        self._message, self._frame = message, Frame(message)
        self._in_flight = in_flight
        self._sent: dict[Connection, deque[int]] = {}
        self._counts: Counter[Connection] = Counter()
        self._total = 0
        self._times: Counter[int] | None = None  # ns, rounded down, while they are recorded

    def take(self, connection: Connection) -> None:
        """Send the first messages."""
        self._sent[connection] = deque()
        connection.on_message = self._answered
        for _ in range(self._in_flight):
            self._send(connection, time.perf_counter_ns())

    def _send(self, connection: Connection, now: int) -> None:
        self._sent[connection].append(now)
        with suppress(ConnectionClosed):
            connection.send_nowait(self._frame)

    def _answered(self, connection: Connection, message: str | bytes) -> None:
        now, sent = time.perf_counter_ns(), self._sent[connection]
        if not sent or message != self._message:
            self.others += 1
            return
        if self._times is not None:
            self._times[rounded(now - sent[0])] += 1
        sent.popleft()
        self._total += 1
        self._counts[connection] += 1
        self._send(connection, now)

    def totals(self) -> tuple[int, int, int]:
        """Return (answers, their bytes, answers that were compared)."""
        return self._total, self._total * self._size, self._total

    def of(self, connection: Connection) -> Counts:
        """Return the answers of one, and their bytes."""
        n = self._counts[connection]
        return Counts(n, n * self._size)

    def numbered(self, connections: Iterable[Connection]) -> bool:
        """Answers carry no seq."""
        return False

    def record(self, recording: bool) -> None:
        """Begin to record round trips anew, or stop."""
        self._times = Counter() if recording else None

    def times(self) -> Latency | None:
        """Return the round trips; None: there are none."""
        counts = self._times
        if not counts:
            return None
        n = counts.total()
        mean = sum(ns * count for ns, count in counts.items()) / n
        return Latency(*(ns / 1e6 for ns in (mean, *quantiles(counts, 0.5, 0.99, 1.0))))

    def failures(self) -> list[str]:
        """What is no echo may be what the server says besides."""
        return []

    @property
    def _size(self) -> int:
        return len(self._frame)  # as the server sends it: without a key


def rounded(ns: int) -> int:
    """Return a time with its first bits only, at most 3.2 % below it."""
    shift = max(0, ns.bit_length() - STEPS - 1)
    return ns >> shift << shift


def quantiles(counts: Counter[int], *shares: float) -> list[int]:
    """Return the least values that those shares of the samples do not exceed."""
    wanted = [max(1, share * counts.total()) for share in shares]
    found: list[int] = []
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        while len(found) < len(wanted) and seen >= wanted[len(found)]:
            found.append(value)
    return found
