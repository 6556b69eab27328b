"""Result files of measurements (docs/protocol.md 3): objects, file names, efficiency and verdict.

Pure: numbers in, objects and bytes out. Rates are data messages a second over all connections,
latencies milliseconds; a number that is not known is None and null in the file.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast

import orjson

from fastws.ticks.config import Rate

KEEPING_UP = 95.0  # percent of the server's rate
PARTIAL = 50.0
HALF_OF_TARGET = 0.5


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """One row of a benchmark file.

    Args:
        mode: who measured, such as `native`.
        client_msg_per_sec: what arrived.
        server_actual_rate: what the server handed to the kernel meanwhile.
        total_messages: data messages of the measured time.
    """

    mode: str
    client_msg_per_sec: float
    server_actual_rate: float | None
    total_messages: int
    avg_latency_ms: float | None
    p99_latency_ms: float | None

    def to_wire(self) -> dict[str, object]:
        """Return the row, keys in the order of the contract."""
        return {
            "mode": self.mode,
            "clientMsgPerSec": _rate(self.client_msg_per_sec),
            "serverActualRate": _rate(self.server_actual_rate),
            "totalMessages": self.total_messages,
            "avgLatencyMs": _milliseconds(self.avg_latency_ms),
            "p99LatencyMs": _milliseconds(self.p99_latency_ms),
            "efficiency": efficiency(self.client_msg_per_sec, self.server_actual_rate),
        }


@dataclass(frozen=True, slots=True)
class ComparisonResult:
    """One row of a comparison file: browser-headless, tauri-rust, …, or a client's own name."""

    mode: str
    format: str | None
    client_rate: float
    server_rate: float | None
    avg_latency_ms: float | None

    def to_wire(self) -> dict[str, object]:
        """Return the row, keys in the order of the contract."""
        return {
            "mode": self.mode,
            "format": self.format,
            "clientRate": _rate(self.client_rate),
            "serverRate": _rate(self.server_rate),
            "avgLatencyMs": _milliseconds(self.avg_latency_ms),
        }


def benchmark(
    at: datetime, config: Mapping[str, object], results: Iterable[BenchmarkResult]
) -> dict[str, object]:
    """Return the object of a benchmark file.

    Args:
        at: when it was measured, with a time zone.
        config: what was measured and how; any JSON.
        results: the rows.
    """
    return {
        "timestamp": timestamp(at),
        "config": dict(config),
        "results": [result.to_wire() for result in results],
    }


def benchmark_name(at: datetime) -> str:
    """Return the file name, such as `benchmark-2026-02-01T12-34-56-789Z.json`."""
    return f"benchmark-{timestamp(at).replace(':', '-').replace('.', '-')}.json"


def comparison(
    at: datetime,
    server: str,
    target_rate: Rate | None,
    duration: float,
    results: Iterable[ComparisonResult],
) -> dict[str, object]:
    """Return the object of a comparison file.

    Args:
        at: when it was measured, with a time zone.
        server: which server was measured.
        target_rate: messages a second that it was told to send to each client.
        duration: seconds measured.
        results: the rows.
    """
    return {
        "timestamp": timestamp(at),
        "server": server,
        "targetRate": target_rate,
        "duration": round(duration, 3),
        "results": [result.to_wire() for result in results],
    }


def add_to_comparison(existing: bytes | None, new: Mapping[str, object]) -> dict[str, object]:
    """Return the comparison `new` with the rows of an existing file in front of its own.

    A row of the same mode and format gives way. A comparison is of one server at one rate:
    `existing` (None: there is none) must be of the same.

    Raises:
        ValueError: it is not, or is no comparison file.
    """
    if existing is None:
        return dict(new)
    try:
        old = orjson.loads(existing)
        same = all(old[key] == new[key] for key in ("server", "targetRate"))
        rows = {(row["mode"], row["format"]): row for row in [*old["results"], *_rows(new)]}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ValueError("the file to add to is no comparison file") from None
    if not same:
        raise ValueError("the file to add to compares another server or rate")
    return {**new, "results": list(rows.values())}


def comparison_name(at: datetime) -> str:
    """Return the file name, such as `comparison-2026-02-01.json`; the day is that of UTC."""
    return f"comparison-{timestamp(at)[:10]}.json"


def encode(result: Mapping[str, object]) -> bytes:
    """Return the bytes of a result file: indented JSON with a newline behind it."""
    return orjson.dumps(dict(result), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def timestamp(at: datetime) -> str:
    """Return the time as JavaScript's toISOString does: UTC, three digits of ms, Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def efficiency(client_rate: float, server_rate: float | None) -> float | None:
    """Return the client's rate in percent of the server's, to 0.01; None when there is none."""
    if server_rate is None or not server_rate > 0 or not math.isfinite(server_rate):
        return None
    return round(100 * client_rate / server_rate, 2)


def verdict(
    client_rate: float,
    server_rate: float | None,
    target_rate: float | None,
    published_rate: float | None = None,
    slow: Literal["Client", "Network"] = "Client",
) -> str | None:
    """Say who is the bottleneck, or None when the server's rate is not known.

    A server that published on time is no bottleneck, however little of it a client or a link
    took: then the client's rate counts in percent of what was published.

    Args:
        client_rate: mean of the measured time.
        server_rate: the same.
        target_rate: what the server was to send over all connections; None: as fast as it can.
        published_rate: what it published over all connections; None: not known, then what it
            handed to the kernel stands for it.
        slow: who is named when the server is not.
    """
    if server_rate is None or not math.isfinite(server_rate):
        return None
    published = server_rate if published_rate is None else published_rate
    if target_rate is not None and published < HALF_OF_TARGET * target_rate:
        return "Server bottleneck"
    percent = efficiency(client_rate, max(server_rate, published))
    if percent is None:
        return None
    if percent >= KEEPING_UP:
        return "Keeping up"
    return "Partial bottleneck" if percent >= PARTIAL else f"{slow} is bottleneck"


def _rows(result: Mapping[str, object]) -> list[dict[str, object]]:
    return cast(list[dict[str, object]], result["results"])


def _rate(value: float | None) -> int | None:
    return None if value is None or not math.isfinite(value) else round(value)


def _milliseconds(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 3)
