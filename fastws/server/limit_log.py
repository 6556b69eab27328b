"""What limits were met, said in the log. Layer 6. Knows counters by name, and the loop."""

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger("fastws")

HTTP_LIMITS = ("http_403", "http_413", "http_414", "http_431")  # refusals that are counted


class LimitLog:
    """Says in the log, once a second at most, which limits of the engine were met."""

    NAMES = (
        "refused",
        "address_refused",
        "accept_failures",
        "handshake_timeouts",
        "keep_alive_timeouts",
        "close_timeouts",
        "ping_timeouts",
        "message_timeouts",
        "write_timeouts",
        "unread_ends",
        "slow_closed",
        "handler_queue_full",
        "protocol_errors",
        "staged_refused",
        "log_full",
        "lapped",
        "buffered_closed",
        *HTTP_LIMITS,
    )

    def __init__(self, counters: Callable[[], dict[str, int]]) -> None:
        self._counters = counters
        self._seen = dict.fromkeys(self.NAMES, 0)
        self._timer: asyncio.TimerHandle | None = None

    def leave_out(self, name: str) -> None:
        """Do not say of this limit that it was met: it is how the program works."""
        self._seen.pop(name, None)

    def start(self) -> None:
        """Look at the counters now and once a second."""
        counters = self._counters()
        met = [
            f"{name} {counters[name] - self._seen[name]}"
            for name in self._seen
            if counters[name] > self._seen[name]
        ]
        if met:
            logger.warning("limits met in the last second: %s", ", ".join(met))
        self._seen = {name: counters[name] for name in self._seen}
        self._timer = asyncio.get_running_loop().call_later(1.0, self.start)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
