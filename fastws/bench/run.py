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
from typing import Literal

from fastws._frame import Connection
from fastws.bench.clients import TURN, CannotMeasure, Clients, message
from fastws.bench.measurement import BenchOptions, Measurement
from fastws.bench.meters import EchoMeter, Meter
from fastws.bench.probe import Probe, ServerStats, counted_between, rate_between
from fastws.bench.sockets import queues

__all__ = ["Bench", "CannotMeasure", "Progress", "is_steady"]

WINDOW = 0.25  # seconds
STEADY_WINDOWS = 4
STEADY_SPREAD = 0.10  # of their mean
STEADY_WAIT = 10.0  # seconds
REPORT_EVERY = 1.0  # seconds
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
            options.url, options.clients, self._begin, options.subprotocols, options.headers
        )
        self._engine = self._clients.engine
        self._meter = Meter(self._engine, any=options.any)
        if options.echo:
            self._meter = EchoMeter(self._engine, options.message, options.echo)
        self._stats: tuple[float, int] | None = None  # when last reported, and the frames then
        self._unread: list[float] = []  # bytes of a client, each 250 ms

    def interrupt(self) -> None:
        """Measure no further; safe in a signal handler. `run` returns what there is."""
        self._clients.interrupted = True

    def run(self) -> Measurement:
        """Connect, wait for a steady state, measure, close; once.

        Raises:
            CannotMeasure: a connection was refused, its handshake not answered with a 101, or more
                waits to be sent than the memory for it.
            KeyboardInterrupt: interrupted before measuring began.
        """
        try:
            self._progress("connecting", 0, self._options.clients)
            self._clients.connect(lambda n: self._progress("connecting", n, self._options.clients))
            warmup, steady = self._warm_up()
            before = self._probe()
            if self._clients.interrupted:
                raise KeyboardInterrupt
            measurement = self._measure(warmup, steady, before)
            self._progress("closing", 0, 0)
            self._clients.close()
        finally:
            self._clients.abort()
        return measurement

    def _begin(self, connection: Connection) -> None:
        """Say what a connection has to say, and count it."""
        options = self._options
        if not options.any:
            connection.send_nowait(message("identify", options.client_id))
        elif options.send is not None and not options.echo:
            connection.send_nowait(options.send)
        self._meter.take(connection)

    def _going_on(self) -> bool:
        return bool(self._clients.open) and not self._clients.interrupted

    def _window(self, until: float) -> float:
        """Receive for 250 ms, not beyond until (monotonic seconds); the frames a second."""
        began, before = time.monotonic(), self._meter.totals()[0]
        now, end = began, min(began + WINDOW, until)
        while now < end and self._going_on():
            self._clients.turn(0.0 if self._options.spin else min(TURN, end - now))
            now = time.monotonic()
        frames = self._meter.totals()[0]
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
        meter, clients, duration = self._meter, self._clients, self._options.duration
        self._progress("measuring", 0, duration)
        meter.record(True)
        counted = {connection: meter.of(connection) for connection in clients.open}
        at, first = datetime.now(UTC), meter.totals()
        began = now = time.monotonic()
        while now < began + duration and self._going_on():
            rate = self._window(began + duration)
            now = time.monotonic()
            self._note_unread()
            self._progress("measuring", now - began, duration, rate)
        last = meter.totals()
        counts = [(meter.of(peer), counted[peer]) for peer in clients.open]
        numbered = meter.numbered(clients.open)
        per_client = [after[0] - then[0] for after, then in counts]
        latency, failures = meter.times(), self._failures(per_client)
        meter.record(False)
        server = None if before is None else self._probe()
        return Measurement(
            options=self._options,
            at=at,
            warmup=warmup,
            steady=steady,
            seconds=now - began,
            frames=last[0] - first[0],
            bytes=last[1] - first[1],
            per_client=per_client,
            sampled=last[2] - first[2],
            latency=latency,
            gaps=sum(after[2] - then[2] for after, then in counts) if numbered else None,
            server=server,
            server_rate=rate_between(before, server),
            failures=failures,
            interrupted=clients.interrupted,
            ended=dict(clients.ended_codes),
            others=meter.others,
            published_rate=counted_between(before, server, "published"),
            dropped_rate=counted_between(before, server, "dropped"),
            unread=statistics.fmean(self._unread) if self._unread else None,
        )

    def _note_unread(self) -> None:
        """Look at what lies in the clients' sockets: a full one has a client that is too slow."""
        open_now = len(self._clients.open)
        found = queues(self._options.url.port) if 0 < open_now <= FEW else None
        if found is not None and found.unread is not None:
            self._unread.append(found.unread / open_now)

    def _failures(self, per_client: Sequence[int]) -> list[str]:
        ended, failures = self._clients.ended, self._meter.failures()
        if illegal := self._engine.counters()["protocol_errors"]:
            failures.append(f"connections that broke the protocol (RFC 6455): {illegal:,}")
        if ended:
            failures.append(f"connections that ended early: {len(ended):,}; client {ended[0]}")
        starved = per_client.count(0)
        if starved and (not self._options.any or starved == len(per_client)):  # else it may be so
            failures.append(f"clients that got no frame: {starved:,} of {len(per_client):,}")
        return failures

    def _probe(self) -> ServerStats | None:
        """Ask a tick server for its counts; receiving goes on."""
        if self._options.any:
            return None
        asked = Probe(self._options.url)
        asked.start()
        while asked.is_alive():
            self._clients.turn(TURN / 10)
        return asked.stats

    def _report_stats(self, now: float, frames: int) -> None:
        """Say `stats` once a second; latencies are null before measuring."""
        then, frames_then = self._stats or (now, frames)
        if self._stats is not None and now - then < REPORT_EVERY:
            return
        if self._stats is not None:
            latency = self._meter.times()
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
