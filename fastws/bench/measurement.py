"""What a run of the load client was asked for, and what it measured. Layer 6."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fastws.bench.probe import ServerStats
from fastws.client.url import Url
from fastws.errors import ConfigError
from fastws.ticks.config import Rate


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure.

    Args:
        url: where the server is.
        clients: connections, 1 to 1,000,000.
        duration: seconds measured, 0.1 to 86,400.
        warmup: least seconds before that, 0 to 86,400; a steady state takes a second at least.
        client_id: what each connection says it is; not empty, and UTF-8 can encode it.
        spin: never sleep, so that the server wakes nobody; takes a whole core.

    Raises:
        ConfigError: one of them is out of range, or client_id is not as above.
    """

    url: Url
    clients: int = 1
    duration: float = 5.0
    warmup: float = 1.0
    client_id: str = "native"
    spin: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.clients <= 1_000_000:
            raise ConfigError("clients", "must be from 1 to 1,000,000")
        for field, least in (("duration", 0.1), ("warmup", 0)):
            if not least <= getattr(self, field) <= 86_400:  # a NaN compares false
                raise ConfigError(field, f"must be from {least} to 86,400 seconds")
        if not self.client_id:
            raise ConfigError("client_id", "must not be empty")
        try:
            self.client_id.encode()
        except UnicodeEncodeError:  # an argument's other bytes come as surrogates
            raise ConfigError("client_id", "must be UTF-8") from None


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a tick's time stamp to its arrival, over the frames looked into."""

    mean: float
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured.

    `frames`, `bytes` (headers included) and `per_client` (frames of each that is still
    connected) are those of the measured time. `gaps` is None when ticks carry no seq, `latency`
    when no tick was looked into. `failures` are the checks that failed in the whole run, one line
    each. `target_rate`: ticks a second that the server is told to send to each client.
    `published_rate` and `dropped_rate`: frames a second for all connections, as the server counts
    them. `unread`: mean bytes of a client's socket that it had still to read. None: not known.
    """

    options: BenchOptions
    at: datetime
    warmup: float
    steady: bool
    seconds: float
    frames: int
    bytes: int
    per_client: Sequence[int]
    sampled: int
    latency: Latency | None
    gaps: int | None
    server: ServerStats | None
    server_rate: float | None
    failures: Sequence[str]
    interrupted: bool
    published_rate: float | None = None
    dropped_rate: float | None = None
    unread: float | None = None

    @property
    def frames_per_s(self) -> float:
        """Data frames a second over all connections."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    @property
    def bytes_per_s(self) -> float:
        """Bytes of them a second, headers included."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def spread(self) -> tuple[int, float, int]:
        """Least, median and most frames of one client."""
        counts = self.per_client or (0,)
        return min(counts), statistics.median(counts), max(counts)

    @property
    def target_rate(self) -> Rate | None:
        """Ticks a second that the server is told to send to each client."""
        return None if self.server is None else self.server.target

    @property
    def target_over_all(self) -> float | None:
        """The same over all clients of this run; None when it is no number."""
        target = self.target_rate
        return target * self.options.clients if isinstance(target, int) else None
