"""Judges one trial, and says who limits a client: numbers in, a verdict out. Layer 5.

TCP loses nothing, so a client that is too slow shows as a backlog that grows. A trial is good when
the backlog stays flat and nothing is dropped, bad when it does not, and invalid when it says
nothing about the client: the generator was late, or a connection ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

Judgement = Literal["good", "bad", "invalid"]
Party = Literal["client", "server", "network", "generator"]
Point = tuple[float, float]  # seconds, messages

LATE = 0.01  # of the target: the generator was late when it published so much less
LATE_BY = 0.03  # seconds: a short trial may end in a pause of that length
GRAIN = 2  # messages of a client in a trial: so many more or less depend on when it was counted
ENOUGH_REPORTS = 3
PAUSE = 0.06  # seconds: a client that stopped so long before its last report has no backlog yet
WINDOW_LIMITED = 0.1  # of the time; above it the receiver's window held the sender
FULL = 16_384  # bytes in the sockets of a client; the server keeps so many unsent (NOTSENT_LOWAT)
UNSENT = 0.5  # of the backlog's growth; above it the ticks wait in the server
UNREAD_SHARE = 0.25  # of what waits in sockets; above it the client's program does not read
NEAR_CAPACITY = 0.8  # of the calibrated server
AS_BUSY = 0.4  # of the processor time that it had then; with that much it was not starved


@dataclass(frozen=True, slots=True)
class Report:
    """What a client reported: `at` (wall clock, s), messages since it began, p99 of latency."""

    at: float
    total: float
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """The server's counters and its clients' sockets at one time; sums over all clients.

    Args:
        at: wall clock, seconds.
        published: messages for clients: those delivered, dropped and pending.
        delivered: messages handed to the kernel.
        acknowledged: messages that the client's kernel has.
        dropped: messages left out.
        missed: ticks that the generator left out.
        connections: clients that are connected.
        unacknowledged: bytes in the server's sockets; None: not known.
        unread: bytes in the client's sockets, None where they are on another host or not known.
        window_limited: seconds that the receive window held the sender; None: not known.
        server_cpu: seconds of processor time of the server.
        report: the client's newest report.
    """

    at: float
    published: int
    delivered: int
    acknowledged: int
    dropped: int = 0
    missed: int = 0
    connections: int = 1
    unacknowledged: int | None = None
    unread: int | None = None
    window_limited: float | None = None
    server_cpu: float = 0.0
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a good trial keeps.

    Args:
        clients: connections that the rate goes to.
        tolerance: slope of the backlog that counts as flat, as a share of the rate.
        slo_p99_ms: objective for the client's p99, or None.
        frame_bytes: size of a message on the wire, to read bytes in sockets as messages.
    """

    clients: int = 1
    tolerance: float = 0.0125
    slo_p99_ms: float | None = None
    frame_bytes: float = 58.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate, tried. Rates are messages a second; `rate` is of one client, the others of all.

    Args:
        rate: what the server was told to send to each client.
        seconds: length of the window that was judged.
        judgement: good, bad or invalid.
        why: one clause.
        published_rate: what the server published.
        client_rate: what the client took.
        slope: growth of the backlog.
        unsent_slope: growth of what of it is in the server, sent to no socket.
        dropped: messages left out in the window.
        p99_ms: median of the p99 that the client reported; None: it reported none.
        window_limited: share of the time that the receive window held the sender; None: not known.
        unread_share: part of the bytes in sockets that the client's kernel holds; None: not known.
        waiting: bytes in the sockets of a client, in the second half; None: not known.
        server_cpu: processor time of the server per second.
        elapsed: seconds spent, with draining and settling.
    """

    rate: int
    seconds: float
    judgement: Judgement
    why: str = ""
    published_rate: float = 0.0
    client_rate: float = 0.0
    slope: float = 0.0
    unsent_slope: float = 0.0
    dropped: int = 0
    p99_ms: float | None = None
    window_limited: float | None = None
    unread_share: float | None = None
    waiting: float | None = None
    server_cpu: float = 0.0
    elapsed: float = 0.0


def judge(rate: int, samples: Sequence[Sample], limits: Limits, elapsed: float = 0.0) -> Trial:
    """Judge the samples of one trial; two at least, in the order of time."""
    first, last = samples[0], samples[-1]
    seconds = max(last.at - first.at, 1e-9)
    published = [(each.at, float(each.published)) for each in samples]
    received = received_points(samples, limits.frame_bytes)
    backlog = [(at, _value_at(published, at) - total) for at, total in received]
    p99 = _median([each.p99_ms for each in reports_of(samples) if each.p99_ms is not None])
    unsent = [(each.at, float(each.published - each.delivered)) for each in samples]
    trial = Trial(
        rate=rate,
        seconds=seconds,
        judgement="good",
        published_rate=slope(published),
        client_rate=max(0.0, slope(received)),
        slope=slope(backlog),
        unsent_slope=slope(unsent),
        dropped=last.dropped - first.dropped,
        p99_ms=p99,
        window_limited=_share(first.window_limited, last.window_limited, seconds),
        unread_share=_unread_share(samples),
        waiting=_waiting(samples, limits.clients),
        server_cpu=(last.server_cpu - first.server_cpu) / seconds,
        elapsed=elapsed or seconds,
    )
    judgement, why = _judge(trial, samples, limits, received)
    return replace(trial, judgement=judgement, why=why)


def _judge(
    trial: Trial, samples: Sequence[Sample], limits: Limits, received: Sequence[Point]
) -> tuple[Judgement, str]:
    target, p99 = trial.rate * limits.clients, trial.p99_ms
    if odd := next((each for each in samples if each.connections != limits.clients), None):
        return "invalid", f"{odd.connections:,} clients were connected, not {limits.clients:,}"
    if missed := max(0, samples[-1].missed - samples[0].missed):
        return "invalid", f"the generator left out {missed:,} ticks"
    grain = GRAIN * limits.clients / trial.seconds
    late = max(LATE, LATE_BY / trial.seconds) * target
    if target - trial.published_rate > max(late, grain):
        return "invalid", f"the generator was late: {trial.published_rate:,.0f}/s published"
    if trial.dropped:
        return "bad", f"{trial.dropped:,} messages dropped"
    span = max(received[-1][0] - received[0][0], 1e-9)
    if trial.slope > max(limits.tolerance * target, PAUSE * target / span, grain):
        return "bad", f"the backlog grew by {trial.slope:,.0f} messages a second"
    if limits.slo_p99_ms is not None and p99 is not None and p99 > limits.slo_p99_ms:
        return "bad", f"p99 of {p99:.3g} ms"
    return "good", "the backlog stayed flat"


def received_points(samples: Sequence[Sample], frame_bytes: float) -> list[Point]:
    """Return what the client had received over time, from the best source that there is.

    Its own count, when it reported three times; else what its kernel has acknowledged less what
    is unread, from the sockets; else what the server knows to be acknowledged.
    """
    reports = reports_of(samples)
    if len(reports) >= ENOUGH_REPORTS:
        return [(each.at, each.total) for each in reports]
    return [(each.at, _received(each, frame_bytes)) for each in samples]


def _received(sample: Sample, frame_bytes: float) -> float:
    if sample.unacknowledged is None:
        return float(sample.acknowledged)
    waiting = sample.unacknowledged + (sample.unread or 0)
    return sample.delivered - waiting / frame_bytes


def reports_of(samples: Sequence[Sample]) -> list[Report]:
    """Return the different reports that arrived in the window, oldest first."""
    found = {
        each.report.at: each.report
        for each in samples
        if each.report is not None and each.report.at >= samples[0].at
    }
    return [found[at] for at in sorted(found)]


def limited_by(
    above: Trial | None, clients: int, capacity: float | None, capacity_cpu: float | None = None
) -> Party | None:
    """Say who kept the client from a higher rate.

    A server that publishes late is at its limit near its capacity, which is that of a native
    sink on the same cores, or when it got about as much processor time as with that; else
    something kept the generator from its core. A
    server that publishes on time, but leaves sockets empty while ticks wait in it, cannot send
    more.

    Args:
        above: the trial just above the ceiling, or None: no rate was too high.
        clients: connections.
        capacity: messages a second of the server to a native sink; None: not known.
        capacity_cpu: processor time of the server per second then; None: not known.
    """
    if above is None:
        return None
    if above.judgement == "invalid":
        near = capacity is not None and above.rate * clients > NEAR_CAPACITY * capacity
        busy = capacity_cpu is not None and above.server_cpu >= AS_BUSY * capacity_cpu > 0
        return "server" if near or busy else "generator"
    has_unsent = above.unsent_slope > UNSENT * above.slope  # dropped ones, too
    if has_unsent and above.waiting is not None and above.waiting < FULL:
        return "server"
    waits_in_client = above.unread_share is None or above.unread_share > UNREAD_SHARE
    held_by_window = above.window_limited is None or above.window_limited > WINDOW_LIMITED
    return "client" if waits_in_client or held_by_window else "network"


def slope(points: Sequence[Point]) -> float:
    """Return the slope of the least-squares line through the points; 0 with fewer than two."""
    if len(points) < 2:
        return 0.0
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    if not spread:
        return 0.0
    return sum((x - x_mean) * (y - y_mean) for x, y in points) / spread


def _value_at(points: Sequence[Point], at: float) -> float:
    """Return the value at a time, on the line between the points around it or beyond the ends."""
    (x0, y0), (x1, y1) = points[-2:]
    for left, right in pairwise(points):
        if at <= right[0]:
            (x0, y0), (x1, y1) = left, right
            break
    return y1 if x1 == x0 else y0 + (y1 - y0) * (at - x0) / (x1 - x0)


def _median(values: list[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None


def _share(first: float | None, last: float | None, seconds: float) -> float | None:
    return None if first is None or last is None else max(0.0, min(1.0, (last - first) / seconds))


def _waiting(samples: Sequence[Sample], clients: int) -> float | None:
    half = samples[len(samples) // 2 :]
    if any(each.unacknowledged is None for each in half):
        return None
    return sum((s.unacknowledged or 0) + (s.unread or 0) for s in half) / len(half) / clients


def _unread_share(samples: Sequence[Sample]) -> float | None:
    """Return which part of the bytes in sockets the client's kernel held in the second half."""
    half = samples[len(samples) // 2 :]
    if any(each.unread is None or each.unacknowledged is None for each in half):
        return None
    unread = sum(each.unread or 0 for each in half)
    waiting = unread + sum(each.unacknowledged or 0 for each in half)
    return unread / waiting if waiting else None
