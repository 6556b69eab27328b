"""Result files: golden bytes of docs/protocol.md 3, efficiency and verdict at their borders."""

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

import orjson
import pytest

from fastws.bench.results import (
    BenchmarkResult,
    ComparisonResult,
    add_to_comparison,
    benchmark,
    benchmark_name,
    comparison,
    comparison_name,
    efficiency,
    encode,
    timestamp,
    verdict,
)

AT = datetime(2026, 2, 1, 12, 34, 56, 789_999, UTC)
NATIVE = BenchmarkResult("native", 186_000.4, 186_001.0, 930_002, 0.21234, 0.9)
RUST = ComparisonResult("tauri-rust", "json", 999_998.2, 1_000_000.0, 0.1)


def test_benchmark_file_golden_bytes() -> None:
    written = orjson.dumps(orjson.loads(encode(benchmark(AT, {"clients": 1}, [NATIVE]))))
    assert written == (
        b'{"timestamp":"2026-02-01T12:34:56.789Z","config":{"clients":1},"results":[{"mode":"native",'
        b'"clientMsgPerSec":186000,"serverActualRate":186001,"totalMessages":930002,'
        b'"avgLatencyMs":0.212,"p99LatencyMs":0.9,"efficiency":100.0}]}'
    )


def test_comparison_file_golden_bytes() -> None:
    written = encode(comparison(AT, "fastws", 1_000_000, 5.00049, [RUST]))
    assert orjson.dumps(orjson.loads(written)) == (
        b'{"timestamp":"2026-02-01T12:34:56.789Z","server":"fastws","targetRate":1000000,'
        b'"duration":5.0,"results":[{"mode":"tauri-rust","format":"json","clientRate":999998,'
        b'"serverRate":1000000,"avgLatencyMs":0.1}]}'
    )
    assert written.endswith(b"}\n")


def test_file_names_are_those_of_the_contract() -> None:
    assert benchmark_name(AT) == "benchmark-2026-02-01T12-34-56-789Z.json"
    assert comparison_name(AT) == "comparison-2026-02-01.json"


def test_times_are_utc_wherever_they_were_taken() -> None:
    elsewhere = datetime(2026, 2, 1, 1, 0, tzinfo=timezone(timedelta(hours=5)))
    assert timestamp(elsewhere) == "2026-01-31T20:00:00.000Z"
    assert comparison_name(elsewhere) == "comparison-2026-01-31.json"


def test_a_row_is_added_to_a_comparison_and_replaces_its_like() -> None:
    old = encode(comparison(AT, "fastws", 100, 5, [RUST, replace(RUST, mode="node-ws")]))
    new = comparison(AT, "fastws", 100, 5, [replace(RUST, client_rate=7.0)])
    assert add_to_comparison(None, new) == new
    rows = orjson.loads(encode(add_to_comparison(old, new)))["results"]
    assert [(row["mode"], row["clientRate"]) for row in rows] == [
        ("tauri-rust", 7),
        ("node-ws", 999998),
    ]


@pytest.mark.parametrize(
    ("existing", "said"),
    [
        (b"", "no comparison file"),
        (b"[]", "no comparison file"),
        (b'{"server":"fastws","targetRate":100,"results":[1]}', "no comparison file"),
        (b'{"server":"fastws","targetRate":7,"results":[]}', "another server or rate"),
    ],
)
def test_a_file_of_something_else_is_not_added_to(existing: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        add_to_comparison(existing, comparison(AT, "fastws", 100, 5, [RUST]))


@pytest.mark.parametrize("unknown", [None, math.nan, math.inf])
def test_what_is_not_known_is_null_in_the_file(unknown: float | None) -> None:
    row = BenchmarkResult("native", 5.0, unknown, 25, unknown, unknown).to_wire()
    assert [key for key, value in row.items() if value is None] == [
        "serverActualRate",
        "avgLatencyMs",
        "p99LatencyMs",
        "efficiency",
    ]


@pytest.mark.parametrize(
    ("client", "server", "percent"),
    [(95.0, 100.0, 95.0), (1.0, 3.0, 33.33), (0.0, 1.0, 0.0), (1.0, 0.0, None), (1.0, None, None)],
)
def test_efficiency_is_client_rate_in_percent_of_server_rate(
    client: float, server: float | None, percent: float | None
) -> None:
    assert efficiency(client, server) == percent


@pytest.mark.parametrize(
    ("client", "server", "target", "said"),
    [
        (95.0, 100.0, None, "Keeping up"),
        (94.99, 100.0, None, "Partial bottleneck"),
        (50.0, 100.0, 100.0, "Partial bottleneck"),
        (49.99, 100.0, 200.0, "Client is bottleneck"),
        (49.0, 49.0, 100.0, "Server bottleneck"),
        (50.0, 50.0, 100.0, "Keeping up"),
        (0.0, 0.0, 100.0, "Server bottleneck"),
        (0.0, 0.0, 0.0, None),
        (5.0, None, 100.0, None),
        (5.0, math.nan, 100.0, None),
    ],
)
def test_verdict_changes_at_the_borders_of_the_contract(
    client: float, server: float | None, target: float | None, said: str | None
) -> None:
    assert verdict(client, server, target) == said


@pytest.mark.parametrize(
    ("client", "server", "published", "slow", "said"),
    [
        # 1,000,000/s published on time, of which a link of 5 MB/s takes 84,000.
        (84_000.0, 84_000.0, 1_000_000.0, "Network", "Network is bottleneck"),
        (84_000.0, 84_000.0, 1_000_000.0, "Client", "Client is bottleneck"),
        (700_000.0, 700_000.0, 1_000_000.0, "Network", "Partial bottleneck"),
        (980_000.0, 980_000.0, 1_000_000.0, "Network", "Keeping up"),
        (490_000.0, 490_000.0, 490_000.0, "Client", "Server bottleneck"),
        (84_000.0, 84_000.0, None, "Client", "Server bottleneck"),
    ],
)
def test_the_server_is_named_only_when_it_published_too_little(
    client: float,
    server: float,
    published: float | None,
    slow: Literal["Client", "Network"],
    said: str,
) -> None:
    assert verdict(client, server, 1_000_000.0, published, slow) == said
