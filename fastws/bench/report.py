"""How a measurement is told: the lines of `fastws bench` and its result files. Layer 6."""

from typing import Literal

from fastws.bench.measurement import Latency, Measurement
from fastws.bench.numbers import Numbers
from fastws.bench.results import (
    BenchmarkResult,
    ComparisonResult,
    benchmark,
    comparison,
    efficiency,
    verdict,
)

FULL = 16_384  # bytes unread in a client's socket, on average


def summary(measured: Measurement) -> list[str]:
    """Return the lines of the result."""
    rows = rows_of_any(measured) if measured.options.any else rows_of_ticks(measured)
    lines = [f"{name:<11} {text}" for name, text in rows]
    if measured.failures:
        return [*lines, *(f"{'FAILED':<11} {failure}" for failure in measured.failures)]
    looked = f"{measured.sampled:,} frames looked into"
    if measured.options.any:
        looked = "legal frames"
    return [*lines, f"{'checks':<11} passed; {looked}"]


def rows_of_any(measured: Measurement) -> list[tuple[str, str]]:
    """Return names and texts for a server of any messages."""
    echo, seconds = measured.options.echo, measured.seconds or 1
    least, median, most = (n / seconds for n in measured.spread)
    found = measured.latency
    times = (
        "not known"
        if found is None
        else (f"p50 {found.p50:.3f}  p99 {found.p99:.3f}  max {found.max:.3f} ms")
    )
    if echo:
        times += f" ({echo} in flight on each connection)"
    ended = [f"{n:,} with {code}" for code, n in sorted(measured.ended.items())]
    rows = [
        ("measured", f"{measured.seconds:.2f} s {how_steady(measured)}"),
        ("clients", clients(measured)),
        ("messages", f"{measured.frames_per_s:,.0f}/s ({measured.frames:,})"),
        ("bytes", f"{measured.bytes_per_s / 1e6:,.1f} MB/s"),
        ("per client", f"min {least:,.1f}  median {median:,.1f}  max {most:,.1f} messages/s"),
        ("round trip" if echo else "spacing", times),
        ("closed", ", ".join(ended) or "none ended early"),
    ]
    rows += rows_of_slow(measured)
    if measured.others:
        rows.append(("others", f"{measured.others:,} messages that are no echo"))
    return rows


def rows_of_ticks(measured: Measurement) -> list[tuple[str, str]]:
    """Return names and texts for a tick server."""
    least, median, most = measured.spread
    return [
        ("measured", f"{measured.seconds:.2f} s {how_steady(measured)}"),
        ("clients", clients(measured)),
        ("frames", f"{measured.frames_per_s:,.0f}/s ({measured.frames:,})"),
        ("bytes", f"{measured.bytes_per_s / 1e6:,.1f} MB/s"),
        ("per client", f"min {least:,}  median {median:,.0f}  max {most:,} frames"),
        ("latency", latency(measured)),
        ("gaps", gaps(measured.numbers)),
        *rows_of_slow(measured),
        ("server", server(measured)),
        ("dropped", dropped(measured)),
        ("lag", lag(measured)),
        ("verdict", judgement(measured)),
    ]


def how_steady(measured: Measurement) -> str:
    """Say whether it was steady before, and whether it was cut short."""
    said = "steady" if measured.steady else "NOT steady"
    interrupted = ", interrupted" if measured.interrupted else ""
    return f"({said} after {measured.warmup:.1f} s{interrupted})"


def latency(measured: Measurement) -> str:
    """Say how late the frames came."""
    return age(measured.latency, measured.numbers)


def age(found: Latency | None, numbers: Numbers | None) -> str:
    """Say how old ticks were when they came."""
    if found is None:
        return "not known"
    if numbers is None:
        return f"p50 {found.p50:.1f}  p99 {found.p99:.1f}  max {found.max:.1f} ms (from ts: ±1 ms)"
    return f"p50 {found.p50:.3f}  p99 {found.p99:.3f}  max {found.max:.3f} ms (from tsNs)"


def gaps(numbers: Numbers | None) -> str:
    """Say which ticks did not come."""
    return "not known: ticks carry no seq" if numbers is None else str(numbers)


def clients(measured: Measurement) -> str:
    """Say how many connections there are, and which of them are slow."""
    options = measured.options
    if not options.slow:
        return f"{options.clients:,}"
    share = f", {options.slow_rate}" if options.slow_rate.percent else ""
    return (
        f"{options.fast:,}, and {options.slow:,} slow ones that read "
        f"{measured.slow_bytes_per_s or 0:,} bytes/s each{share}"
    )


def rows_of_slow(measured: Measurement) -> list[tuple[str, str]]:
    """Return names and texts for the slow connections."""
    slow = measured.slow
    if slow is None:
        return []
    least, median, most = slow.spread
    rows = [("slow frames", f"min {least:,}  median {median:,.0f}  max {most:,} of a client")]
    if slow.ended:
        codes = ", ".join(f"{n:,} with {code}" for code, n in sorted(slow.ended.items()))
        rows.append(("slow closed", codes))
    if measured.options.any:
        return rows
    return [*rows, ("slow age", age(slow.latency, slow.numbers)), ("slow gaps", gaps(slow.numbers))]


def server(measured: Measurement) -> str:
    """Say what the server said of itself."""
    if measured.server_rate is None:
        return "rate not known: no /stats"
    target = measured.target_rate
    told = "not known" if target is None else f"{target:,}/s each" if target != "max" else "max"
    return f"{measured.server_rate:,.0f}/s, target {told}"


def dropped(measured: Measurement) -> str:
    """Say what the server left out for clients or links that were too slow."""
    rate, share = measured.dropped_rate, dropped_percent(measured)
    if rate is None:
        return "not known"
    return f"{rate:,.0f}/s" + (f" ({share:.0f} % of what was published)" if share else "")


def dropped_percent(measured: Measurement) -> float:
    """Return what was dropped in percent of what was published; 0 where it is not known.

    Beside slow clients it is not known whose it was.
    """
    if measured.slow is not None:
        return 0
    return 100 * (measured.dropped_rate or 0) / (measured.published_rate or 1)


def lag(measured: Measurement) -> str:
    """Say how far behind the slowest connection is at the end."""
    seconds = None if measured.server is None else measured.server.lag
    return "not known" if seconds is None else f"{seconds:.3f} s, the furthest behind"


def judgement(measured: Measurement) -> str:
    """Say who is the bottleneck.

    A client whose socket is full does not read fast enough; with an empty one it waits for the
    network. Where the sockets are not known, the client is named.
    """
    rates = measured.frames_per_s, measured.server_rate
    waits = measured.unread is not None and measured.unread < FULL
    slow: Literal["Client", "Network"] = "Network" if waits else "Client"
    said = verdict(*rates, measured.target_over_all, measured.published_rate, slow)
    percent = efficiency(*rates)
    if said is None or percent is None:
        return said or "none"
    share = dropped_percent(measured)
    lost = f"; {share:.0f} % of what was published was dropped" if share else ""
    if measured.numbers is not None and measured.numbers.missed:
        lost += f"; {measured.numbers.missed:,} ticks missed"
    whose = "what was published for them" if measured.slow is not None else "the server's rate"
    return f"{said} ({percent:g} % of {whose}{lost})"


def benchmark_object(measured: Measurement) -> dict[str, object]:
    """Return the object of a benchmark file; its config is the server's and that of the run."""
    asked = measured.options
    found = delay(measured)
    result = BenchmarkResult(
        mode=asked.client_id,
        client_msg_per_sec=measured.frames_per_s,
        server_actual_rate=measured.server_rate,
        total_messages=measured.frames,
        avg_latency_ms=None if found is None else found.mean,
        p99_latency_ms=None if found is None else found.p99,
    )
    config = {
        **(measured.server.config if measured.server is not None else {}),
        "clients": asked.clients,
        "duration": asked.duration,
        "warmup": asked.warmup,
        "host": asked.url.host,
        "port": asked.url.port,
        "target": asked.url.target,
        "publishedRate": _whole(measured.published_rate),
        "droppedRate": _whole(measured.dropped_rate),
        "verdict": judgement(measured),
        "policy": asked.policy,
        "missed": None if measured.numbers is None else measured.numbers.to_wire(),
        "ageMs": _age(measured.latency) if not asked.any else None,
        "slow": _slow(measured),
    }
    return benchmark(measured.at, config, [result])


def comparison_object(measured: Measurement) -> dict[str, object]:
    """Return the object of a comparison file with the one row of this run."""
    asked, seen = measured.options, measured.server
    format_ = seen.config.get("format") if seen is not None else None
    is_fastws = seen is not None and seen.delivered is not None
    result = ComparisonResult(
        mode=asked.client_id,
        format=format_ if isinstance(format_, str) else None,
        client_rate=measured.frames_per_s,
        server_rate=measured.server_rate,
        avg_latency_ms=None if (found := delay(measured)) is None else found.mean,
    )
    name = "fastws" if is_fastws else f"{asked.url.host}:{asked.url.port}"
    return comparison(measured.at, name, measured.target_rate, asked.duration, [result])


def delay(measured: Measurement) -> Latency | None:
    """Return latencies or round trips; the time between any messages is neither."""
    return None if measured.options.any and not measured.options.echo else measured.latency


def _whole(rate: float | None) -> int | None:
    return None if rate is None else round(rate)


def _age(found: Latency | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {"p50": round(found.p50, 3), "p99": round(found.p99, 3), "max": round(found.max, 3)}


def _slow(measured: Measurement) -> dict[str, object] | None:
    """Return what a result file says of the slow clients."""
    slow = measured.slow
    if slow is None:
        return None
    least, median, most = slow.spread
    return {
        "clients": measured.options.slow,
        "bytesPerSec": measured.slow_bytes_per_s,
        "frames": {"min": least, "median": median, "max": most},
        "missed": None if slow.numbers is None else slow.numbers.to_wire(),
        "ageMs": None if measured.options.any else _age(slow.latency),
    }
