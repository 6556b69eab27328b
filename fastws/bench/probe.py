"""What the server under load says of itself: GET /stats and /config beside the WebSocket.

Layer 6. Knows HTTP only; a server without these routes is no error.
"""

import http.client
import threading
import time
from dataclasses import dataclass
from typing import Literal, cast

import orjson

from fastws.client.url import Url
from fastws.ticks.config import Rate

TIMEOUT = 2.0  # seconds
MAX_BODY = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class ServerStats:
    """What a server said of itself, at time `at` (monotonic seconds).

    `delivered`: frames it has handed to the kernel since its start, None where it only says
    `rate`, those of its last second; both over all its connections. `target`: ticks a
    second that it is told to send to each client. `config`: its GET /config. `published`:
    frames for all connections since its start, also those that were `dropped`, or `conflated` (left
    out for newer ones of the same key); `lag`: seconds
    of the connection that is furthest behind; `connections`: how many there are; None: it does not
    say.
    """

    at: float
    delivered: int | None
    rate: float | None
    target: Rate | None
    config: dict[str, object]
    published: int | None = None
    dropped: int | None = None
    lag: float | None = None
    conflated: int | None = None
    connections: int | None = None


def rate_between(before: ServerStats | None, after: ServerStats | None) -> float | None:
    """Return the frames a second that the server sent between two probes, None if it is not known.

    From its counter, or else the mean of the rates that it said.
    """
    if before is None or after is None:
        return None
    delivered = counted_between(before, after, "delivered")
    if delivered is not None:
        return delivered
    if before.rate is None or after.rate is None:
        return None
    return (before.rate + after.rate) / 2


def counted_between(
    before: ServerStats | None,
    after: ServerStats | None,
    name: Literal["published", "delivered", "dropped"],
) -> float | None:
    """Return by how many a second a counter grew between two probes, None if it is not known."""
    if before is None or after is None:
        return None
    first, last = getattr(before, name), getattr(after, name)
    if first is None or last is None:
        return None
    return float(last - first) / max(after.at - before.at, 1e-9)


class Probe(threading.Thread):
    """Asks the server in a thread: receiving goes on; `stats` is set when it has ended."""

    def __init__(self, url: Url) -> None:
        super().__init__(daemon=True)
        self._url = url
        self.stats: ServerStats | None = None

    def run(self) -> None:
        """Ask the server."""
        self.stats = probe(self._url)


def probe(url: Url) -> ServerStats | None:
    """Ask the server; None when it has no /stats or does not answer within seconds."""
    connection = http.client.HTTPConnection(url.host, url.port, timeout=TIMEOUT)
    try:
        stats = _get(connection, "/stats")
        at = time.monotonic()
        config = _get(connection, "/config")
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return None if stats is None else _stats_of(at, stats, config or {})


def _stats_of(at: float, stats: dict[str, object], config: dict[str, object]) -> ServerStats:
    server = stats.get("server")
    account = server if isinstance(server, dict) else {}
    rate, target = stats.get("serverRate"), stats.get("targetRate")
    return ServerStats(
        at=at,
        delivered=_count(account, "delivered"),
        rate=rate if isinstance(rate, int | float) else None,
        target=target if isinstance(target, int) or target == "max" else None,
        config=config,
        published=_count(account, "published"),
        dropped=_count(account, "dropped"),
        lag=_lag(account),
        conflated=_count(account, "conflated"),
        connections=_count(account, "connections"),
    )


def _count(account: dict[str, object], name: str) -> int | None:
    found = account.get(name)
    return found if isinstance(found, int) else None


def _lag(account: dict[str, object]) -> float | None:
    """Return the seconds of the row of `clients` that lags most."""
    try:
        rows = cast(list[dict[str, dict[str, float]]], account["clients"])
        return max((float(row["lag"]["seconds"]) for row in rows), default=0.0)
    except (KeyError, TypeError, ValueError):
        return None


def _get(connection: http.client.HTTPConnection, path: str) -> dict[str, object] | None:
    """Return the JSON object at path, None when there is none."""
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read(MAX_BODY)
    found = orjson.loads(body) if response.status == 200 else None
    return found if isinstance(found, dict) else None
