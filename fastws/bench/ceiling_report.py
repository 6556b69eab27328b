"""How a ceiling is told: lines, its JSON, the rows of result files. Layer 6."""

from fastws.bench.ceiling import Ceiling
from fastws.bench.results import (
    BenchmarkResult,
    ComparisonResult,
    benchmark,
    comparison,
    timestamp,
)
from fastws.bench.verdict import Trial

REASONS = {
    "client": "limited by client",
    "server": "limited by server: a native sink gets little more from it",
    "network": "limited by network: the receive window was open, the bytes waited to be sent",
    "generator": "limited by generator: ticks were late well below the server's capacity",
    None: "nothing limited it up to the highest rate",
}


def summary(found: Ceiling) -> list[str]:
    """Return the lines of the result."""
    low = found.found.low
    if low is None:
        trials = found.found.trials
        why = f": {trials[-1].why} at {trials[-1].rate:,}/s" if trials else ""
        return [_line("ceiling", f"not known{why}"), *_capacity(found), *_ending(found)]
    clients = found.options.clients
    each = f" ({low.rate:,}/s to each of {clients:,})" if clients > 1 else ""
    lines = [
        _line("client", f"{found.client_id}, {found.options.format}"),
        _line("ceiling", f"{found.rate:,}/s{each} {interval(found)}"),
        _line("confirmed", confirmation(found)),
        _line("saturated", _rate(found.found.saturated_rate)),
        _line("p99", "not reported" if low.p99_ms is None else f"{low.p99_ms:.3g} ms"),
        _line("verdict", REASONS[found.limited_by]),
        *_capacity(found),
    ]
    if found.found.high is not None:
        lines.append(_line("above it", f"at {found.found.high.rate:,}/s: {found.found.high.why}"))
    return [*lines, *_ending(found)]


def interval(found: Ceiling) -> str:
    """Say between which rates the ceiling lies."""
    high, clients = found.found.high, found.options.clients
    if high is None:
        return "[no rate was too high]"
    return f"[{found.rate:,}-{high.rate * clients:,}]"


def confirmation(found: Ceiling) -> str:
    """Say how long the ceiling was held."""
    low = found.found.low
    if low is None or not found.found.confirmed:
        return "NO: there was no time for a long trial"
    return f"for {low.seconds:.0f} s, server at {100 * low.server_cpu:.0f} % of a core"


def trial_line(trial: Trial) -> str:
    """Return a line for one trial."""
    p99 = "" if trial.p99_ms is None else f", p99 {trial.p99_ms:.3g} ms"
    return f"{trial.rate:>12,}/s {trial.judgement}: {trial.why}{p99} ({trial.seconds:.1f} s)"


def ceiling_object(found: Ceiling) -> dict[str, object]:
    """Return the object of `--json`; rates are over all connections, those of trials of each."""
    low, high = found.found.low, found.found.high
    options = found.options
    return {
        "timestamp": timestamp(found.at),
        "client": found.client_id,
        "format": options.format,
        "clients": options.clients,
        "precisionPercent": options.precision,
        "sloP99Ms": options.slo_p99_ms,
        "ceiling": None if low is None else found.rate,
        "above": None if high is None else high.rate * options.clients,
        "confirmed": found.found.confirmed,
        "saturatedRate": _rounded(found.found.saturated_rate),
        "p99LatencyMs": None if low is None else low.p99_ms,
        "limitedBy": None if low is None else found.limited_by,
        "serverCapacity": _rounded(found.capacity),
        "serverCapacityCpu": found.capacity_cpu and round(found.capacity_cpu, 3),
        "headroom": None if found.headroom is None else round(found.headroom, 2),
        "seconds": round(found.seconds, 1),
        "interrupted": found.interrupted,
        "curve": [_trial_object(each) for each in found.points],
        "trials": [_trial_object(each) for each in found.found.trials],
    }


def benchmark_object(found: Ceiling) -> dict[str, object]:
    """Return the object of a benchmark file: one row, the trial at the ceiling."""
    low, options = found.found.low, found.options
    config = {"format": options.format, "clients": options.clients, "ceiling": found.rate}
    if low is None:
        return benchmark(found.at, config, [])
    row = BenchmarkResult(
        mode=found.client_id,
        client_msg_per_sec=low.client_rate,
        server_actual_rate=low.published_rate,
        total_messages=round(low.client_rate * low.seconds),
        avg_latency_ms=None,
        p99_latency_ms=low.p99_ms,
    )
    return benchmark(found.at, config | {"rate": low.rate, "duration": low.seconds}, [row])


def comparison_object(found: Ceiling) -> dict[str, object]:
    """Return the object of a comparison file: one row, the trial at the ceiling."""
    low = found.found.low
    if low is None:
        return comparison(found.at, "fastws", None, 0.0, [])
    row = ComparisonResult(
        mode=found.client_id,
        format=found.options.format,
        client_rate=low.client_rate,
        server_rate=low.published_rate,
        avg_latency_ms=None,
    )
    return comparison(found.at, "fastws", "max", low.seconds, [row])


def _trial_object(trial: Trial) -> dict[str, object]:
    return {
        "rate": trial.rate,
        "seconds": round(trial.seconds, 2),
        "judgement": trial.judgement,
        "why": trial.why,
        "publishedRate": round(trial.published_rate),
        "clientRate": round(trial.client_rate),
        "backlogSlope": round(trial.slope),
        "unsentSlope": round(trial.unsent_slope),
        "dropped": trial.dropped,
        "p99LatencyMs": trial.p99_ms,
        "windowLimited": None if trial.window_limited is None else round(trial.window_limited, 3),
        "unreadShare": None if trial.unread_share is None else round(trial.unread_share, 3),
        "socketBytes": _rounded(trial.waiting),
        "serverCpu": round(trial.server_cpu, 3),
    }


def _capacity(found: Ceiling) -> list[str]:
    if found.capacity is None:
        return [_line("server", "not calibrated")]
    headroom = "" if found.headroom is None else f", headroom {found.headroom:.1f}"
    return [_line("server", f"{found.capacity:,.0f}/s to a native sink{headroom}")]


def _ending(found: Ceiling) -> list[str]:
    said = f"{found.seconds:.0f} s of {found.options.budget:.0f}"
    return [_line("took", said + (", interrupted" if found.interrupted else ""))]


def _line(name: str, text: str) -> str:
    return f"{name:<11} {text}"


def _rate(value: float | None) -> str:
    return "not reached" if value is None else f"{value:,.0f}/s in overload"


def _rounded(value: float | None) -> int | None:
    return None if value is None else round(value)
