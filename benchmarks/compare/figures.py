"""Statistics: the ratio of each row to the reference within a round, its median and spread."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.compare.load import Measured


@dataclass(frozen=True, slots=True)
class Sample:
    """What one round found of one row in one cell."""

    peer: str
    cell: str
    round: int
    measured: Measured | None
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Entry:
    """A row in a cell.

    Args:
        rounds: that were measured.
        value: in the unit of the cell's kind.
        ratio: to the reference in the same round; None: there is no such round.
        server_ns: processor time of the server for a frame.
        client_busy: share of its core that the load client used.
        frames_per_segment: how many frames left in one send.
        p99: of a latency or a pause, in µs.
        failures: of rounds that were not measured.
    """

    peer: str
    cell: str
    rounds: int
    value: Spread | None
    ratio: Spread | None
    server_ns: Spread | None
    client_busy: Spread | None
    frames_per_segment: Spread | None
    p99: Spread | None
    failures: tuple[str, ...]


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return median, least and most; None of nothing."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Spread(statistics.median(found), min(found), max(found))


def ratios(samples: list[Sample], peer: str, cell: str, reference: str) -> list[float]:
    """Return the ratio of each round in which both were measured."""
    rates = {
        (sample.peer, sample.round): sample.measured.value
        for sample in samples
        if sample.cell == cell and sample.measured is not None
    }
    return [
        rate / rates[reference, number]
        for (name, number), rate in rates.items()
        if name == peer and (reference, number) in rates
    ]


def entry(samples: list[Sample], peer: str, cell: str, reference: str) -> Entry:
    """Return what the rounds say of a row in a cell."""
    own = [sample for sample in samples if (sample.peer, sample.cell) == (peer, cell)]
    good = [sample.measured for sample in own if sample.measured is not None]
    return Entry(
        peer,
        cell,
        len(good),
        spread(each.value for each in good),
        spread(ratios(samples, peer, cell, reference)),
        spread(each.server_ns for each in good),
        spread(each.client_busy for each in good),
        spread(each.frames_per_segment for each in good),
        spread(each.p99 for each in good),
        tuple(sorted({sample.failure for sample in own if sample.failure})),
    )
