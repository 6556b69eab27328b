"""The values of topics: options, messages, positions. Layer 4.

Values without behaviour: the engine checks and applies them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

MIB = 1 << 20


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


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that a subscription will never get: see `Connection.subscribe`.

    Args:
        first: number of the first one in the topic.
        last: number of the last one.
        count: how many of these were for it; less than `last - first + 1` where some were not, or
            where it got some in between.
        reason: "slow": it was past its `max_lag`; "retention": the topic had let them go, for
            `retention_bytes`; "budget": the same, for `max_log_bytes`. Of the first ones.
    """

    first: int
    last: int
    count: int
    reason: Literal["slow", "retention", "budget"]


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


# The options of a topic that was not given any, by name, as `Engine.topic` takes them.
TOPIC_DEFAULTS: Mapping[str, Any] = {
    "on_slow": "close",
    "max_lag": Lag(bytes=12 * MIB),
    "retention_bytes": 16 * MIB,
    "history": History(),
    "retain": False,
    "min_rate": 64 * 1024,
    "content": "text",
}


def merged_options(
    base: Mapping[str, Any],
    on_slow: str | None,
    max_lag: Lag | None,
    retention_bytes: int | None = None,
    history: History | None = None,
    retain: bool | None = None,
    min_rate: int | None = None,
    content: str | None = None,
) -> dict[str, Any]:
    """Return options by name: those given, else those of base."""
    given: dict[str, Any] = {
        "on_slow": on_slow,
        "max_lag": max_lag,
        "retention_bytes": retention_bytes,
        "history": history,
        "retain": retain,
        "min_rate": min_rate,
        "content": content,
    }
    merged = {name: base[name] if value is None else value for name, value in given.items()}
    if max_lag is None and merged["on_slow"] == "lossless":  # that of others is not for it
        merged["max_lag"] = replace(merged["max_lag"], seconds=None)
    return merged
