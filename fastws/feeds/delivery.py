"""What a feed does for clients that are slow, and for those that come later. Layer 5.

Values that are valid from the moment they exist, and the options of a topic that follow from them.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastws.checks import check_choice, check_flag, check_integer, check_number
from fastws.errors import ConfigError
from fastws.lag import History, Lag

OnSlow = Literal["latest", "drop_oldest", "close", "lossless"]
MOST_SECONDS = 86_400
MOST_BYTES = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How the messages of a feed reach its clients.

    Args:
        on_slow: what becomes of a client past a limit of its lag, as `Engine.topic` has it; None:
            what suits the feed.
        max_lag: seconds that a message may be old when it is sent, 0 to 86,400; 0: no limit; None:
            what suits the feed. Not for lossless clients.
        max_lag_bytes: bytes of messages that a client may have yet to get, 4,096 to 2^40;
            `max_log_bytes` bounds them too.
        max_lag_messages: messages of them, 0 to 10^12; 0: no limit. Not for lossless clients.
        min_rate: bytes a second, 0 to 10^12, that a lossless client takes while it holds the feed,
            else it is closed with 1013; 0: no minimum.
        history: messages that are kept though every client has them, 0 to 10^9; 0: no such limit.
        history_bytes: bytes of them, 0 to 2^40; 0: no such limit.
        history_seconds: their age, 0 to 86,400; 0: no such limit. Without a limit nothing is kept.
        retain: whether the newest message is kept, and is the first one that a new client gets.

    Raises:
        ConfigError: one clear line; the field is the argument's name.
    """

    on_slow: OnSlow | None = None
    max_lag: float | None = None
    max_lag_bytes: int = 12 << 20
    max_lag_messages: int = 0
    min_rate: int = 1 << 20
    history: int = 0
    history_bytes: int = 0
    history_seconds: float = 0
    retain: bool = False

    def __post_init__(self) -> None:
        if self.on_slow is not None:
            check_choice("on_slow", self.on_slow, get_args(OnSlow))
        if self.max_lag is not None:
            _check_seconds("max_lag", self.max_lag)
        check_integer("max_lag_bytes", self.max_lag_bytes, 4096, MOST_BYTES)
        check_integer("max_lag_messages", self.max_lag_messages, 0, 10**12)
        check_integer("min_rate", self.min_rate, 0, 10**12)
        check_integer("history", self.history, 0, 10**9)
        check_integer("history_bytes", self.history_bytes, 0, MOST_BYTES)
        _check_seconds("history_seconds", self.history_seconds)
        check_flag("retain", self.retain)
        if self.on_slow == "lossless":
            self.check_lossless()

    def check_lossless(self) -> None:
        """Refuse limits that lossless clients cannot have; raises ConfigError."""
        for name in ("max_lag", "max_lag_messages"):
            if getattr(self, name):
                raise ConfigError(
                    name,
                    "is not for lossless clients, which skip nothing: --max-lag-bytes bounds how "
                    "far behind one may be, --min-rate how slow while it holds the feed",
                )

    def topic_options(self, usual: OnSlow, usual_lag: float) -> dict[str, Any]:
        """Return the options of a topic for slow clients, by name.

        Args:
            usual: the policy where none is set.
            usual_lag: seconds, where none are set; 0: no limit.
        """
        on_slow = self.on_slow or usual
        seconds = usual_lag if self.max_lag is None else self.max_lag
        messages = self.max_lag_messages
        if on_slow == "lossless":
            seconds = messages = 0
        limit = self.max_lag_bytes
        return {
            "on_slow": on_slow,
            "max_lag": Lag(bytes=limit, messages=messages or None, seconds=seconds or None),
            "retention_bytes": limit + limit // 3,
            "min_rate": self.min_rate,
        }

    def kept(self, last: int = 0) -> History:
        """Return the history of a topic.

        Args:
            last: messages of it that every new client gets.
        """
        messages, others = self.history, self.history_bytes or self.history_seconds
        if messages or not others:
            messages = max(messages, last)
        return History(
            messages=messages or None,
            bytes=self.history_bytes or None,
            seconds=self.history_seconds or None,
        )


def _check_seconds(field: str, value: object) -> None:
    if 0 < check_number(field, value, 0, MOST_SECONDS) < 0.001:
        raise ConfigError(field, "must be 0 or from 0.001")
