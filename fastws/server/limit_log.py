"""What limits were met, said in the log. Layer 6. Knows counters by name, and the loop."""

import asyncio
import logging
from collections.abc import Callable

logger = logging.getLogger("fastws")

HTTP_LIMITS = ("http_403", "http_413", "http_414", "http_431")  # refusals that are counted


# Counters of one option each, whose name says more.
OPTIONS = {
    "address_refused": "max_per_address",
    "handshakes_refused": "handshake_rate",
    "message_rate_paused": "message_rate",
    "byte_rate_paused": "byte_rate",
    "handshake_timeouts": "handshake_timeout",
    "keep_alive_timeouts": "keep_alive_timeout",
    "close_timeouts": "close_timeout",
    "ping_timeouts": "pong_timeout",
    "message_timeouts": "message_timeout",
    "write_timeouts": "write_timeout",
    "handler_queue_full": "handler_queue",
    "subscriptions_refused": "max_subscriptions",
    "lapped": "max_log_bytes",
    "buffered_closed": "max_buffered_bytes",
}
# What is said of an address the first time: many clients may share it.
FIRST_TIME = {
    "address_refused": "%s has as many connections as max_per_address allows: more get 429",
    "handshakes_refused": "%s has sent more requests in a second than handshake_rate allows: "
    "more get 429",
}
BEHIND_IT = "if it is a proxy, or many share it, raise that limit or add it to exempt_addresses"


class LimitLog:
    """Says in the log, once a second at most, which limits of the engine were met, and by whom.

    Args:
        counters: gives what was counted, by name.
        met_last: gives the address that met a limit last, by the counter; not of every limit.
    """

    NAMES = (
        "refused",
        "address_refused",
        "handshakes_refused",
        "message_rate_paused",
        "byte_rate_paused",
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
        "subscriptions_refused",
        "topics_refused",
        "lapped",
        "buffered_closed",
        *HTTP_LIMITS,
    )

    def __init__(
        self, counters: Callable[[], dict[str, int]], met_last: Callable[[], dict[str, str]]
    ) -> None:
        self._counters = counters
        self._met_last = met_last
        self._seen = dict.fromkeys(self.NAMES, 0)
        self._timer: asyncio.TimerHandle | None = None

    def leave_out(self, name: str) -> None:
        """Do not say of this limit that it was met: it is how the program works."""
        self._seen.pop(name, None)

    def start(self) -> None:
        """Look at the counters now and once a second."""
        counters = self._counters()
        met = {
            name: counters[name] - self._seen[name]
            for name in self._seen
            if counters[name] > self._seen[name]
        }
        if met:
            self._tell(met)
        self._seen = {name: counters[name] for name in self._seen}
        self._timer = asyncio.get_running_loop().call_later(1.0, self.start)

    def _tell(self, met: dict[str, int]) -> None:
        addresses = self._met_last()
        for name in met.keys() & FIRST_TIME.keys():
            if self._seen[name] == 0:
                logger.warning(f"{FIRST_TIME[name]}; {BEHIND_IT}", addresses[name])
        said = []
        for name, times in met.items():
            parts = [OPTIONS.get(name, ""), addresses.get(name, "")]
            where = ", last: ".join(part for part in parts if part)
            said.append(f"{name} {times} ({where})" if where else f"{name} {times}")
        logger.warning("limits met in the last second: %s", ", ".join(said))

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
