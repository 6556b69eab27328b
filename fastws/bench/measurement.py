"""What a run of the load client was asked for, and what it measured. Layer 6."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fastws._frame import Frame
from fastws.bench.numbers import Numbers
from fastws.bench.probe import ServerStats
from fastws.client.url import Url
from fastws.errors import ConfigError, printable
from fastws.http.fields import encode_fields, is_token
from fastws.ticks.config import Rate

ECHOED = 100 * "x"
MOST_IN_FLIGHT = 1000
MOST_BYTES_IN_FLIGHT = 1 << 20
LEAST_SLOW_RATE = 1000  # bytes a second
HANDSHAKE_FIELDS = ("host", "upgrade", "connection", "content-length", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class SlowRate:
    """How fast slow clients read.

    Args:
        amount: bytes a second, or percent.
        percent: whether it is percent of what a client that is not slow gets.
    """

    amount: float = 1.0
    percent: bool = True

    def __str__(self) -> str:
        return f"{self.amount:g} % of the feed" if self.percent else f"{self.amount:,.0f} bytes/s"


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
        any: the messages are any, not ticks: they are counted, and checked as frames.
        send: with `any`, what each connection says when it is open, or nothing.
        echo: with `any`, how many messages each connection keeps in flight to a server that sends
            them back, 1 to 1,000, and 1 MiB of frames; 0: it is not that. They are `send`, else
            100 characters.
        subprotocols: that are asked for.
        headers: more fields of the request.
        policy: the policy that each connection asks for by `?onSlow=`, or None.
        slow: how many of the connections read slowly.
        slow_rate: how slowly.

    Raises:
        ConfigError: one of them is out of range, or not as above.
    """

    url: Url
    clients: int = 1
    duration: float = 5.0
    warmup: float = 1.0
    client_id: str = "native"
    spin: bool = False
    any: bool = False
    send: str | bytes | None = None
    echo: int = 0
    subprotocols: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    policy: str | None = None
    slow: int = 0
    slow_rate: SlowRate = SlowRate()

    def __post_init__(self) -> None:
        self._check_run()
        self._check_talk()
        self._check_slow()

    def _check_run(self) -> None:
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

    def _check_talk(self) -> None:
        if not self.any and (self.send is not None or self.echo):
            raise ConfigError(
                "any", "is needed for what is sent: a tick server is only listened to"
            )
        if not 0 <= self.echo <= MOST_IN_FLIGHT:
            raise ConfigError("echo", f"must be from 1 to {MOST_IN_FLIGHT:,}")
        if isinstance(self.send, str):
            try:
                self.send.encode()
            except UnicodeEncodeError:
                raise ConfigError("send", "must be UTF-8; --send-file takes any bytes") from None
        if self.echo and self.echo * len(Frame(self.message)) > MOST_BYTES_IN_FLIGHT:
            raise ConfigError("echo", "must not keep more than 1 MiB in flight on a connection")
        for name, _ in self.headers:
            low = name.lower()
            if low in HANDSHAKE_FIELDS or low.startswith("sec-websocket-"):
                raise ConfigError("header", f"{name} belongs to the handshake")
        if not all(is_token(name.encode("latin-1", "replace")) for name in self.subprotocols):
            raise ConfigError("subprotocol", "must be a token (RFC 6455 4.1)")
        try:
            encode_fields(self.headers)
        except ValueError as error:
            raise ConfigError("header", printable(str(error))) from None

    def _check_slow(self) -> None:
        if self.policy is not None and "onSlow=" in self.url.target:
            raise ConfigError("policy", "stands in the URL already, as onSlow=")
        if not 0 <= self.slow <= self.clients:
            raise ConfigError("slow", f"must be from 0 to {self.clients:,}, the number of clients")
        rate = self.slow_rate
        if rate.percent and not 0 < rate.amount <= 100:
            raise ConfigError("slow_rate", "must be more than 0 % and at most 100 %")
        if not rate.percent and not LEAST_SLOW_RATE <= rate.amount <= 2**34:
            raise ConfigError("slow_rate", f"must be from {LEAST_SLOW_RATE:,} bytes a second")
        if self.slow and self.echo:
            raise ConfigError("slow", "is for what a server pushes; an echo comes when it is asked")
        if self.slow == self.clients and rate.percent:
            raise ConfigError(
                "slow_rate", "in percent needs a client that is not slow, which measures the feed"
            )

    @property
    def fast(self) -> int:
        """Connections that are not slow."""
        return self.clients - self.slow

    @property
    def asked_url(self) -> Url:
        """Where to connect to, with the policy."""
        if self.policy is None:
            return self.url
        mark = "&" if "?" in self.url.target else "?"
        return replace(self.url, target=f"{self.url.target}{mark}onSlow={self.policy}")

    @property
    def message(self) -> str | bytes:
        """What is echoed."""
        return ECHOED if self.send is None else self.send


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from a tick's time stamp to its arrival, over the frames looked into."""

    mean: float
    p50: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class GroupMeasurement:
    """What was measured of connections that are treated alike, by the names of Measurement."""

    frames: int
    bytes: int
    per_client: Sequence[int]
    sampled: int
    latency: Latency | None
    numbers: Numbers | None
    ended: Mapping[int, int]

    @property
    def spread(self) -> tuple[int, float, int]:
        """Least, median and most frames of one client."""
        return spread(self.per_client)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured.

    All figures are of the connections that are not slow; those of the others are in `slow`, which
    read `slow_bytes_per_s` each; None: there are none.
    `frames`, `bytes` (headers included) and `per_client` (frames of each that is still
    connected) are those of the measured time. `latency` is for any messages the time from one to
    the next, and for echoes the round trip. `ended`: connections by the close code with which they
    ended early. `others`: messages that are no echo. `numbers` is None when ticks carry no seq,
    `latency` when no tick was looked into. `failures` are the checks that failed in the whole run,
    one line each. `target_rate`: ticks a second that the server is told to send to each client.
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
    numbers: Numbers | None
    server: ServerStats | None
    server_rate: float | None
    failures: Sequence[str]
    interrupted: bool
    ended: Mapping[int, int] = dataclasses.field(default_factory=dict)
    others: int = 0
    published_rate: float | None = None
    dropped_rate: float | None = None
    unread: float | None = None
    slow: GroupMeasurement | None = None
    slow_bytes_per_s: int | None = None

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
        return spread(self.per_client)

    @property
    def target_rate(self) -> Rate | None:
        """Ticks a second that the server is told to send to each client."""
        return None if self.server is None else self.server.target

    @property
    def target_over_all(self) -> float | None:
        """The same over all clients that are not slow; None when it is no number."""
        target = self.target_rate
        return target * self.options.fast if isinstance(target, int) else None


def spread(per_client: Sequence[int]) -> tuple[int, float, int]:
    """Return the least, the median and the most of them."""
    counts = per_client or (0,)
    return min(counts), statistics.median(counts), max(counts)
