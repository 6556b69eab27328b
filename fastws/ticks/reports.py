"""What clients say of themselves (docs/protocol.md 1), and `clients` of 2. Layer 5."""

from dataclasses import dataclass
from itertools import islice
from typing import cast

import orjson

MAX_CLIENT_ID = 128  # characters
MAX_REPORTS = 1000
SHOWN_REPORTS = 100  # in one answer
SHOWN_BYTES = 32 * 1024  # about so many, for names may be long, and nobody has to read it
ROW_BYTES = 160  # of JSON, without the name, which stands there twice
REPORT_IDLE_MS = 3_600_000
RECENT_MS = 5_000

Number = int | float | None

_LARGEST = 2**53  # beyond it JSON numbers are not exact, and nobody counts that far
_UNUSABLE = object()


@dataclass(frozen=True, slots=True)
class Identify:
    """`{"type":"identify"}`: who is on this connection."""

    client_id: str


@dataclass(frozen=True, slots=True)
class Stats:
    """`{"type":"stats"}`: what a client measured; None where it had no number (a NaN)."""

    client_id: str
    messages_per_sec: Number
    total_messages: Number
    avg_latency_ms: Number
    p99_latency_ms: Number


def parse_client_message(data: bytes | str) -> Identify | Stats | None:
    """Return what a client said, or None for what is to be ignored (and counted).

    `clientId` must be a non-empty string and is cut at 128 characters. Numbers may be null or
    missing, both read as None; beyond 2**53 the message is ignored. Unknown keys are no harm.
    """
    try:
        message = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(message, dict):
        return None
    client_id = message.get("clientId")
    if not isinstance(client_id, str) or not client_id:
        return None
    client_id = client_id[:MAX_CLIENT_ID]
    match message.get("type"):
        case "identify":
            return Identify(client_id)
        case "stats":
            return _parse_stats(client_id, message)
    return None


@dataclass(frozen=True, slots=True)
class ClientReport:
    """The newest stats of one client; `last_update` in ms since the epoch, `order` of arrival."""

    stats: Stats
    last_update: int
    order: int

    def to_wire(self) -> dict[str, object]:
        """Return one row of `clients` in `GET /stats`."""
        return {
            "clientId": self.stats.client_id,
            "lastUpdate": self.last_update,
            "messagesPerSec": self.stats.messages_per_sec,
            "totalMessages": self.stats.total_messages,
            "avgLatencyMs": self.stats.avg_latency_ms,
            "p99LatencyMs": self.stats.p99_latency_ms,
        }


class ClientReports:
    """The newest report of each client: at most 1000, none older than an hour.

    Times are milliseconds since the Unix epoch. Rows are kept by age, so that every operation on
    behalf of one message is O(1), and shown in the order in which clients first reported.
    """

    def __init__(self) -> None:
        self._by_age: dict[str, ClientReport] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._by_age)

    def update(self, stats: Stats, now_ms: int) -> None:
        """Take the report of a client; beyond 1000 rows the one longest unheard of goes."""
        before = self._by_age.pop(stats.client_id, None)
        if before is None:
            self._arrivals += 1
        order = self._arrivals if before is None else before.order
        self._by_age[stats.client_id] = ClientReport(stats, now_ms, order)
        if len(self._by_age) > MAX_REPORTS:
            del self._by_age[next(iter(self._by_age))]
        self.expire(now_ms)

    def expire(self, now_ms: int) -> None:
        """Drop the rows of clients not heard of for an hour."""
        while self._by_age:
            client_id, oldest = next(iter(self._by_age.items()))
            if now_ms - oldest.last_update <= REPORT_IDLE_MS:
                return
            del self._by_age[client_id]

    def recent(self, now_ms: int, within_ms: int = RECENT_MS) -> list[ClientReport]:
        """Return the reports of the last `within_ms` milliseconds."""
        return [row for row in self._rows() if now_ms - row.last_update <= within_ms]

    def to_wire(self) -> dict[str, dict[str, object]]:
        """Return `clients` of `GET /stats`: rows by client id, of the 100 heard of last.

        Fewer where their names are so long that the answer would have more than 32 KiB. Call
        `expire` before.
        """
        newest, left = [], SHOWN_BYTES
        for row in islice(reversed(self._by_age.values()), SHOWN_REPORTS):
            left -= ROW_BYTES + 2 * len(orjson.dumps(row.stats.client_id))
            if left < 0:
                break
            newest.append(row)
        rows = sorted(newest, key=lambda row: row.order)
        return {row.stats.client_id: row.to_wire() for row in rows}

    def clear(self) -> None:
        """Forget every report."""
        self._by_age.clear()

    def _rows(self) -> list[ClientReport]:
        return sorted(self._by_age.values(), key=lambda row: row.order)


def _parse_stats(client_id: str, message: dict[str, object]) -> Stats | None:
    names = ("messagesPerSec", "totalMessages", "avgLatencyMs", "p99LatencyMs")
    numbers = [_number(message.get(name)) for name in names]
    if _UNUSABLE in numbers:
        return None
    return Stats(client_id, *cast(list[Number], numbers))


def _number(value: object) -> object:
    """Return a number or null as it is, `_UNUSABLE` for anything else; a bool is no number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _UNUSABLE
    return value if abs(value) <= _LARGEST else _UNUSABLE
