"""The console block of one second (docs/protocol.md 2). Layer 5."""

from collections.abc import Iterable

from fastws.errors import printable
from fastws.ticks.config import Rate
from fastws.ticks.reports import ClientReport, Number

MOST_ROWS = 20
LONGEST_NAME = 32  # characters


def console_lines(
    target_rate: Rate,
    server_rate: int,
    reports: Iterable[ClientReport],
    dropped: int = 0,
    lag: float = 0.0,
    connections: int | None = None,
) -> list[str]:
    """Return the console block of one second: the rates, then a row per report.

    A number that the client did not have is a dash. Names are what clients like: what is not
    printable is escaped, and they are cut. So are the rows, or one client could fill a disk.

    Args:
        target_rate: ticks a second to each client.
        server_rate: frames handed to the kernel in the second.
        reports: what clients reported; the first twenty have a row.
        dropped: frames left out in the second; where there were any, a last row says so.
        lag: seconds of the client that is furthest behind.
        connections: how many are open; a row behind those of the reports says it, with the lag.
    """
    target = target_rate if isinstance(target_rate, str) else f"{target_rate:,}/s"
    lines = [f"[Stats] Rate: {target} | Server actual: {server_rate:,}/s"]
    rows = list(reports)
    for report in rows[:MOST_ROWS]:
        stats = report.stats
        rate = "-" if stats.messages_per_sec is None else f"{round(stats.messages_per_sec):,}"
        name = _short(printable(stats.client_id))
        avg, p99 = _milliseconds(stats.avg_latency_ms), _milliseconds(stats.p99_latency_ms)
        lines.append(f"        {name:<12}: {rate:>8} msg/s, lat: {avg} avg / {p99} p99")
    if len(rows) > MOST_ROWS:
        lines.append(f"        and {len(rows) - MOST_ROWS:,} more (GET /stats has a hundred)")
    if connections is not None:
        lines.append(f"        connections : {connections:>8,}, lag: {lag:.1f}s at most")
    if dropped:
        lines.append(f"        dropped     : {dropped:>8,} msg/s")
    return lines


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _milliseconds(value: Number) -> str:
    return "-" if value is None else f"{value:.1f}ms"
