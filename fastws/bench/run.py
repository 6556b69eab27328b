"""The load client behind `fastws bench`: waits for a steady state, measures, judges.

Layer 6. Python drives the engine's turns and does arithmetic four times a second; the frames are
counted and checked below. Only the first connection reports `stats` (docs/protocol.md 1), with the
sums of all, so that the server sees one row with the whole rate; every connection says who it is.
"""

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from fastws._frame import Connection
from fastws.bench.clients import TURN, CannotMeasure, Clients, message
from fastws.bench.group import Group
from fastws.bench.measurement import LEAST_SLOW_RATE, BenchOptions, Measurement
from fastws.bench.meters import EchoMeter, Meter
from fastws.bench.probe import Probe, ServerStats, counted_between, rate_between
from fastws.bench.sockets import queues

__all__ = ["Bench", "CannotMeasure", "Progress", "is_steady"]

WINDOW = 0.25  # seconds
STEADY_WINDOWS = 4
STEADY_SPREAD = 0.10  # of their mean
STEADY_WAIT = 10.0  # seconds
REPORT_EVERY = 1.0  # seconds
SLOW_BUFFER = 32 * 1024  # bytes asked for a slow client's socket; Linux makes it 64 KiB
SLOW_TURN = 0.005  # seconds
SLOW_CONSUMER = 1013  # the close code
FEW = 1000  # connections; the sockets of more are not listed, which takes milliseconds

Phase = Literal["connecting", "warming up", "measuring", "closing"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is: `done` of `total` connections or seconds, and the rate just now."""

    phase: Phase
    done: float
    total: float
    frames_per_s: float


class Bench:
    """One run.

    Args:
        options: what to measure.
        report: called when a phase begins and about four times a second.
    """

    def __init__(
        self, options: BenchOptions, report: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self._options = options
        self._report = report
        self._clients = Clients(
            options.asked_url, options.fast, self._begin, options.subprotocols, options.headers
        )
        self._engine = self._clients.engine
        self._meter = Meter(self._engine, any=options.any)
        if options.echo:
            self._meter = EchoMeter(self._engine, options.message, options.echo)
        self._fast = Group(self._clients, self._meter)
        self._slow: Group | None = None
        self._slow_bytes = 0  # a second, of each
        self._stats: tuple[float, int] | None = None  # when last reported, and the frames then
        self._unread: list[float] = []  # bytes of a client, each 250 ms

    def interrupt(self) -> None:
        """Measure no further; safe in a signal handler. `run` returns what there is."""
        for group in self._groups():
            group.clients.interrupted = True

    def run(self) -> Measurement:
        """Connect, wait for a steady state, measure, close; once.

        Raises:
            CannotMeasure: a connection was refused, its handshake not answered with a 101, or more
                waits to be sent than the memory for it.
            KeyboardInterrupt: interrupted before measuring began.
        """
        try:
            self._progress("connecting", 0, self._options.clients)
            self._connect()
            warmup, steady = self._warm_up()
            before = self._probe()
            if self._clients.interrupted:
                raise KeyboardInterrupt
            measurement = self._measure(warmup, steady, before)
            self._progress("closing", 0, 0)
            for group in self._groups():
                group.clients.close()
        finally:
            for group in self._groups():
                group.clients.abort()
        return measurement

    def _groups(self) -> list[Group]:
        return [self._fast] if self._slow is None else [self._fast, self._slow]

    def _connect(self) -> None:
        """Open the fast connections, then the slow ones, which read in an engine of their own."""
        options, opened = self._options, 0

        def progress(n: int) -> None:
            self._progress("connecting", opened + n, options.clients)

        if options.fast:
            self._clients.connect(progress)
        if options.slow:
            opened = options.fast
            self._slow_bytes = self._bytes_of_slow()
            self._slow = self._slow_group()
            self._slow.clients.connect(progress)

    def _bytes_of_slow(self) -> int:
        """Return how many bytes a second a slow client reads; of the feed, that is a share."""
        rate = self._options.slow_rate
        if not rate.percent:
            return round(rate.amount)
        self._progress("warming up", 0, 0)
        self._warm_up()
        began, before = time.monotonic(), self._meter.totals()[1]
        for _ in range(STEADY_WINDOWS):
            self._window(time.monotonic() + WINDOW)
        received = self._meter.totals()[1] - before
        per_client = received / (time.monotonic() - began) / self._options.fast
        return max(LEAST_SLOW_RATE, round(per_client * rate.amount / 100))

    def _slow_group(self) -> Group:
        options = self._options
        meters: list[Meter] = []
        clients = Clients(
            options.asked_url,
            options.slow,
            lambda connection: self._begin(connection, meters[0]),
            options.subprotocols,
            options.headers,
            byte_rate=self._slow_bytes,
            receive_buffer=SLOW_BUFFER,
            beside=lambda: self._clients.turn(0.0),
        )
        meters.append(Meter(clients.engine, any=options.any))
        return Group(clients, meters[0])

    def _turn(self, timeout: float) -> None:
        """Receive; the slow ones are looked at every few milliseconds, which is enough for them."""
        if self._slow is None:
            self._clients.turn(timeout)
            return
        if self._options.fast:
            self._clients.turn(min(timeout, SLOW_TURN))
        self._slow.clients.turn(0.0 if self._options.fast else timeout)

    def _begin(self, connection: Connection, meter: Meter | None = None) -> None:
        """Say what a connection has to say, and count it."""
        options = self._options
        if not options.any:
            connection.send_nowait(message("identify", options.client_id))
        elif options.send is not None and not options.echo:
            connection.send_nowait(options.send)
        (meter or self._meter).take(connection)

    def _going_on(self) -> bool:
        clients = [group.clients for group in self._groups()]
        return any(each.open for each in clients) and not self._clients.interrupted

    def _frames(self) -> int:
        """Return the frames of all connections."""
        return sum(group.meter.totals()[0] for group in self._groups())

    def _window(self, until: float) -> float:
        """Receive for 250 ms, not beyond until (monotonic seconds); the frames a second."""
        began, before = time.monotonic(), self._frames()
        now, end = began, min(began + WINDOW, until)
        while now < end and self._going_on():
            self._turn(0.0 if self._options.spin else min(TURN, end - now))
            now = time.monotonic()
        frames = self._frames()
        if not self._options.any:
            self._report_stats(now, frames)
        return (frames - before) / max(now - began, 1e-9)

    def _warm_up(self) -> tuple[float, bool]:
        """Receive until the rate is steady; the seconds it took, and whether it is."""
        began, least = time.monotonic(), self._options.warmup
        longest = max(STEADY_WAIT, least)
        rates: deque[float] = deque(maxlen=STEADY_WINDOWS)
        self._progress("warming up", 0, least)
        while True:
            rates.append(self._window(began + longest))
            elapsed = time.monotonic() - began
            steady = is_steady(rates, self._options.clients)
            if (steady and elapsed >= least) or elapsed >= longest or not self._going_on():
                return elapsed, steady
            self._progress("warming up", elapsed, least, rates[-1])

    def _measure(self, warmup: float, steady: bool, before: ServerStats | None) -> Measurement:
        clients, duration = self._clients, self._options.duration
        self._progress("measuring", 0, duration)
        for group in self._groups():
            group.begin()
        at = datetime.now(UTC)
        began = now = time.monotonic()
        while now < began + duration and self._going_on():
            rate = self._window(began + duration)
            now = time.monotonic()
            self._note_unread()
            self._progress("measuring", now - began, duration, rate)
        fast = self._fast.end()
        slow = None if self._slow is None else self._slow.end()
        server = None if before is None else self._probe()
        return Measurement(
            options=self._options,
            at=at,
            warmup=warmup,
            steady=steady,
            seconds=now - began,
            frames=fast.frames,
            bytes=fast.bytes,
            per_client=fast.per_client,
            sampled=fast.sampled,
            latency=fast.latency,
            numbers=fast.numbers,
            server=server,
            failures=self._failures(fast.per_client, server),
            interrupted=clients.interrupted,
            ended=dict(clients.ended_codes),
            others=self._meter.others,
            unread=statistics.fmean(self._unread) if self._unread else None,
            slow=slow,
            slow_bytes_per_s=self._slow_bytes or None,
            **self._rates(before, server),
        )

    def _rates(self, before: ServerStats | None, server: ServerStats | None) -> dict[str, Any]:
        """Return what the server counted a second.

        Of the clients that are not slow it is known what was published for them, not what was
        delivered: their share of the connections, of which a policy may have closed some.
        """
        published = counted_between(before, server, "published")
        delivered = rate_between(before, server)
        if self._slow is not None:
            seen = [each.connections for each in (before, server) if each and each.connections]
            share = self._options.fast / statistics.fmean(seen or [self._options.clients])
            published = delivered = None if published is None else published * share
        return {
            "server_rate": delivered,
            "published_rate": published,
            "dropped_rate": counted_between(before, server, "dropped"),
        }

    def _note_unread(self) -> None:
        """Look at what lies in the clients' sockets: a full one has a client that is too slow."""
        open_now = len(self._clients.open) if self._slow is None else 0  # the sockets of all
        found = queues(self._options.url.port) if 0 < open_now <= FEW else None
        if found is not None and found.unread is not None:
            self._unread.append(found.unread / open_now)

    def _failures(self, per_client: Sequence[int], server: ServerStats | None) -> list[str]:
        failures: list[str] = []
        for group in self._groups():
            whose = "slow " if group is self._slow else ""
            failures += [f"{whose}{each}" for each in group.meter.failures()]
            if illegal := group.clients.engine.counters()["protocol_errors"]:
                failures.append(
                    f"{whose}connections that broke the protocol (RFC 6455): {illegal:,}"
                )
            if (ended := group.clients.ended) and not self._closed_as_asked(group):
                failures.append(
                    f"{whose}connections that ended early: {len(ended):,}; client {ended[0]}"
                )
        missed = sum(group.meter.missed() for group in self._groups())
        if missed and server is not None and server.dropped == 0 and not server.conflated:
            failures.append(f"ticks that did not come though the server dropped none: {missed:,}")
        starved = per_client.count(0)
        if starved and (not self._options.any or starved == len(per_client)):  # else it may be so
            failures.append(f"clients that got no frame: {starved:,} of {len(per_client):,}")
        return failures

    def _closed_as_asked(self, group: Group) -> bool:
        """Whether the connections that ended are slow ones, closed by the policy of that name."""
        return (
            group is self._slow
            and self._options.policy == "close"
            and group.clients.ended_codes.keys() == {SLOW_CONSUMER}
        )

    def _probe(self) -> ServerStats | None:
        """Ask a tick server for its counts; receiving goes on."""
        if self._options.any:
            return None
        asked = Probe(self._options.url)
        asked.start()
        while asked.is_alive():
            self._turn(TURN / 10)
        return asked.stats

    def _report_stats(self, now: float, frames: int) -> None:
        """Say `stats` once a second; latencies are null before measuring."""
        then, frames_then = self._stats or (now, frames)
        if self._stats is not None and now - then < REPORT_EVERY:
            return
        if self._stats is not None:
            latency = self._meter.times() if self._options.fast else None
            stats = {
                "messagesPerSec": round((frames - frames_then) / (now - then)),
                "totalMessages": frames,
                "avgLatencyMs": None if latency is None else round(latency.mean, 3),
                "p99LatencyMs": None if latency is None else round(latency.p99, 3),
            }
            self._clients.report(message("stats", self._options.client_id, stats))
        self._stats = (now, frames)

    def _progress(self, phase: Phase, done: float, total: float, frames_per_s: float = 0.0) -> None:
        self._report(Progress(phase, min(done, total), total, frames_per_s))


def is_steady(rates: Sequence[float], clients: int) -> bool:
    """Whether four windows differ by less than 10 % of their mean, and something came in each.

    One frame more or less for each client is no difference: it depends on when a window began.
    """
    if len(rates) < STEADY_WINDOWS or not min(rates) > 0:
        return False
    spread = max(rates) - min(rates)
    return spread < STEADY_SPREAD * statistics.fmean(rates) or spread < 1.1 * clients / WINDOW
