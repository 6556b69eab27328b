"""The columns: one base cell, and one factor varied at a time around it."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

WINDOW_BYTES = 256 * 1024  # that may be on their way to one client
WINDOW_LEAST, WINDOW_MOST = 8, 2048  # messages


class Kind(StrEnum):
    """What is measured in a cell."""

    RATE = "frames/s"
    LATENCY = "µs to the last client"
    ECHO = "echoes/s"
    IDLE = "bytes a connection"
    STORM = "handshakes/s"
    PAUSE = "longest wait, µs"

    @property
    def more_is_better(self) -> bool:
        """Whether a ratio above 1 is good."""
        return self in (Kind.RATE, Kind.ECHO, Kind.STORM)

    @property
    def fans_out(self) -> bool:
        """Whether a message goes to all clients."""
        return self in (Kind.RATE, Kind.LATENCY, Kind.PAUSE)


@dataclass(frozen=True, slots=True)
class Cell:
    """A load.

    Args:
        name: how `--cells` and the table call it.
        kind: what is measured.
        size: bytes of a message.
        clients: connections; each is subscribed to all topics.
        burst: messages that are published at once, before the server's loop goes on.
        free: a burst need not wait until the last one has been sent.
        topics: message i of a fan-out goes to topic i modulo this.
        in_flight: of an echo: messages of each client on their way.
        total: of a storm: connections that are opened, and stay; 0: each is reset at once.
    """

    name: str
    kind: Kind = Kind.RATE
    size: int = 110
    clients: int = 100
    burst: int = 1
    free: bool = False
    topics: int = 1
    in_flight: int = 1
    total: int = 0

    @property
    def window(self) -> int:
        """How many messages may be published before the slowest client has had them."""
        count = min(max(WINDOW_BYTES // self.size, WINDOW_LEAST), WINDOW_MOST)
        return max(2, math.ceil(count / self.burst)) * self.burst

    @property
    def said(self) -> str:
        """The load in words."""
        what = f"{self.size:,} B, {self.clients:,} client" + "s" * (self.clients > 1)
        if self.kind is Kind.IDLE:
            return f"{self.clients:,} connections that say nothing"
        if self.kind is Kind.STORM and self.total:
            return f"{self.total:,} handshakes, {self.clients} at a time, all stay open"
        if self.kind is Kind.STORM:
            return f"{self.clients} handshakes at a time, each connection is reset"
        if self.kind is Kind.ECHO:
            return f"{what}, echo, {self.in_flight} in flight"
        if self.topics > 1:
            what += f", {self.topics} subscriptions each"
        if self.kind is Kind.LATENCY:
            return f"{what}, from the request to publish to the last client"
        if self.free:
            return f"{what}, as many at once as the credit allows"
        what += f", {self.burst} published at once" if self.burst > 1 else ", one frame a flush"
        if self.kind is Kind.PAUSE:
            return f"{what}; an echo on a connection beside them, its longest round trip"
        return what


FREE = 512  # messages of a burst that is as large as the credit
BASE = Cell("base")
CELLS = (
    BASE,
    replace(BASE, name="free", burst=FREE, free=True),
    replace(BASE, name="burst-32", burst=32),
    replace(BASE, name="55-B", size=55),
    replace(BASE, name="1-KiB", size=1024),
    replace(BASE, name="16-KiB", size=16 * 1024),
    replace(BASE, name="64-KiB", size=64 * 1024),
    replace(BASE, name="1-client", clients=1),
    replace(BASE, name="10-clients", clients=10),
    replace(BASE, name="1000-clients", clients=1000),
    replace(BASE, name="free-1-client", burst=FREE, free=True, clients=1),
    replace(BASE, name="burst-32-1-client", burst=32, clients=1),
    replace(BASE, name="subs-100", topics=100, burst=100),
    replace(BASE, name="subs-500", topics=500, burst=500),
    replace(BASE, name="latency-100", kind=Kind.LATENCY),
    replace(BASE, name="latency-1000", kind=Kind.LATENCY, clients=1000),
    replace(BASE, name="latency-5000", kind=Kind.LATENCY, clients=5000),
    replace(BASE, name="echo-1", kind=Kind.ECHO, in_flight=1),
    replace(BASE, name="echo-8", kind=Kind.ECHO, in_flight=8),
    replace(BASE, name="pause", kind=Kind.PAUSE, clients=1000),
    replace(BASE, name="storm", kind=Kind.STORM, clients=64),
    replace(BASE, name="open-1", kind=Kind.STORM, clients=1, total=5000),
    replace(BASE, name="open-500", kind=Kind.STORM, clients=500, total=5000),
    replace(BASE, name="idle", kind=Kind.IDLE, clients=5000),
)
QUICK = "base,free,burst-32,1000-clients,subs-100,latency-1000,echo-1,storm"


def chosen(names: str | None) -> list[Cell]:
    """Return the cells that a comma-separated list names; all without one.

    Raises:
        ValueError: a name is unknown.
    """
    return [cell for cell in CELLS if cell.name in picked(names, [cell.name for cell in CELLS])]


def picked(names: str | None, known: list[str]) -> list[str]:
    """Return what of `known` a comma-separated list names; all without a list.

    Raises:
        ValueError: a name is unknown.
    """
    if names is None:
        return known
    asked = [name.strip() for name in names.split(",") if name.strip()]
    for name in asked:
        if name not in known:
            raise ValueError(f"{name} is unknown; there are {', '.join(known)}")
    return [name for name in known if name in asked]
