"""What a feed shows of its server: counts by the second, accounts in JSON (docs/protocol.md 2).

Layer 6. Knows the accounts of the engine and the clock; neither requests nor the loop.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from fastws._frame import Connection, Engine
from fastws.errors import host_and_port

if TYPE_CHECKING:
    from fastws._frame import LaggardAccount, TopicAccount

LISTED = 20  # clients and topics in /stats


class Shared:
    """JSON that many may ask for at a time: made anew as long as that takes a quarter of the time.

    Beyond that the last one serves for a moment, at most a second.
    """

    SHARE = 0.25
    AT_ONCE = 0.02  # seconds of work before anything is shared

    def __init__(self, make: Callable[[], Mapping[str, object]]) -> None:
        self._make = make
        self._made: orjson.Fragment | None = None
        self._credit = self.AT_ONCE  # seconds; negative: it is shared until that has come back
        self._at = time.monotonic()

    def get(self) -> orjson.Fragment:
        """Return it, for orjson to embed."""
        begun = time.monotonic()
        self._credit = min(self.AT_ONCE, self._credit + self.SHARE * (begun - self._at))
        self._at = begun
        if self._made is None or self._credit > 0:
            self._made = orjson.Fragment(orjson.dumps(self._make()))
            self._credit = max(-self.SHARE, self._credit - (time.monotonic() - begun))
        return self._made

    def forget(self) -> None:
        """Make it anew when it is asked for: what it tells has been changed on purpose."""
        self._made = None


class Seconds:
    """Counts of the last full second, from counters that only grow."""

    def __init__(self) -> None:
        self.delivered = 0
        self.appended = 0
        self.dropped = 0
        self._last = (time.monotonic(), 0, 0, 0)

    def tick(self, delivered: int, appended: int, dropped: int) -> None:
        """Take the counters as they are now."""
        now = time.monotonic()
        then, delivered_then, appended_then, dropped_then = self._last
        seconds = max(now - then, 1e-9)
        self.delivered = round((delivered - delivered_then) / seconds)
        self.appended = round((appended - appended_then) / seconds)
        self.dropped = round((dropped - dropped_then) / seconds)
        self._last = (now, delivered, appended, dropped)


def greatest_lag(engine: Engine) -> float:
    """Return the seconds of the client that is furthest behind."""
    lags = (account["lag_seconds"] for _, account in engine.laggards(LISTED))
    return max(lags, default=0.0)


def topics_wire(engine: Engine) -> dict[str, object]:
    """Return `topics` of `GET /stats`."""
    accounts = engine.topic_accounts(LISTED)
    return {name: _topic_wire(account) for name, account in accounts.items()}


def clients_wire(engine: Engine) -> list[dict[str, object]]:
    """Return the list `clients` of `GET /stats`: those furthest behind."""
    return [_client_wire(client, account) for client, account in engine.laggards(LISTED)]


def last_client_wire(engine: Engine) -> dict[str, object]:
    """Return `lastClientUs` of `GET /stats`: from publish to the last client."""
    return {**engine.latency()}


def _topic_wire(account: "TopicAccount") -> dict[str, object]:
    wire: dict[str, object] = {**account}
    del wire["appended"]
    wire["retainedBytes"] = wire.pop("retained_bytes")
    return wire


def _client_wire(connection: Connection, account: "LaggardAccount") -> dict[str, object]:
    wire: dict[str, object] = {
        "clientId": connection.context or "",
        "remote": host_and_port(connection.remote_address),
        **account,
    }
    lag_bytes, lag_seconds = wire.pop("lag_bytes"), wire.pop("lag_seconds")
    why = wire.pop("why")
    wire["lag"] = {"messages": account["pending"], "bytes": lag_bytes, "seconds": lag_seconds}
    wire["why"] = why
    return wire
