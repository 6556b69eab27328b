"""How far a subscriber may fall behind, what is kept for those that come back, what was. Layer 4.

Values without behaviour: the engine checks and applies them.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Lag:
    """The limits of a subscriber's lag; the one that is reached first counts.

    Args:
        bytes: of messages not sent yet, more than 0; None: what the topic retains.
        messages: not sent yet, more than 0; None: no limit.
        seconds: age of the oldest message not sent yet, counted from when the subscriber began to
            lag at the earliest, more than 0; None: no limit. Not for lossless ones: see `min_rate`.
    """

    bytes: int | None = None
    messages: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What a topic keeps though every subscriber has it; each limit bounds it.

    Without a limit nothing is kept. Memory is let go in pieces of about 1 to 64 KiB.

    Args:
        messages: the newest ones, more than 0; None: no such limit.
        bytes: of the newest ones, more than 0; None: no such limit.
        seconds: since they were published, more than 0; None: no such limit.
    """

    messages: int | None = None
    bytes: int | None = None
    seconds: float | None = None


class Message(NamedTuple):
    """A message that a topic keeps.

    Args:
        seq: its number in the topic, from 0.
        data: str for a TEXT message, bytes for a BINARY one.
    """

    seq: int
    data: str | bytes


class Position(NamedTuple):
    """Where a subscription begins: behind a message of a topic.

    Args:
        epoch: of the topic.
        seq: number of the last message before the first one that it gets; -1: it gets the first.
        recovered: whether that is where `since` asked for; None: nothing was asked for.
    """

    epoch: str
    seq: int
    recovered: bool | None
