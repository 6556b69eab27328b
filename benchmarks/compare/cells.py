"""The columns: one base cell, and one factor varied at a time around it."""

import math
from dataclasses import dataclass, replace

WINDOW_BYTES = 256 * 1024  # that may be on their way to one client
WINDOW_LEAST, WINDOW_MOST = 8, 1024  # messages


@dataclass(frozen=True, slots=True)
class Cell:
    """A load.

    Args:
        name: how `--cells` and the table call it.
        size: bytes of a message.
        clients: connections, all subscribed to one topic.
        burst: messages that are published at once, before the server's loop goes on.
        in_flight: 0: a fan-out; else messages of each client on their way in an echo.
    """

    name: str
    size: int = 110
    clients: int = 100
    burst: int = 1
    in_flight: int = 0

    @property
    def echo(self) -> bool:
        """Whether every client gets its own messages back."""
        return self.in_flight > 0

    @property
    def window(self) -> int:
        """How many messages may be published before the slowest client has had them."""
        count = min(max(WINDOW_BYTES // self.size, WINDOW_LEAST), WINDOW_MOST)
        return max(2, math.ceil(count / self.burst)) * self.burst

    @property
    def said(self) -> str:
        """The load in words."""
        what = f"{self.size:,} B, {self.clients:,} client" + "s" * (self.clients > 1)
        if self.echo:
            return f"{what}, echo, {self.in_flight} in flight"
        return f"{what}, {self.burst} published at once"


BASE = Cell("base")
CELLS = (
    BASE,
    replace(BASE, name="burst-32", burst=32),
    replace(BASE, name="1-KiB", size=1024),
    replace(BASE, name="16-KiB", size=16 * 1024),
    replace(BASE, name="1-client", clients=1),
    replace(BASE, name="10-clients", clients=10),
    replace(BASE, name="1000-clients", clients=1000),
    replace(BASE, name="echo-1", in_flight=1),
    replace(BASE, name="echo-8", in_flight=8),
)


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
