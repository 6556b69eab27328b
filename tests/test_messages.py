"""What clients say, the registry of their reports, and the console block."""

import orjson
import pytest

from fastws.ticks.console import console_lines
from fastws.ticks.reports import ClientReports, Identify, Stats, parse_client_message

STATS = Stats("tauri-rust", 186000, 1860000, 0.2, 0.0)
HOUR_MS = 3_600_000


def test_identify_is_read() -> None:
    text = '{"type":"identify","clientId":"tauri-rust"}'
    assert parse_client_message(text) == Identify("tauri-rust")
    assert parse_client_message(text.encode()) == Identify("tauri-rust")


def test_stats_are_read() -> None:
    assert (
        parse_client_message(
            '{"type":"stats","clientId":"tauri-rust","messagesPerSec":186000,"totalMessages":1860000,'
            '"avgLatencyMs":0.2,"p99LatencyMs":0.0}'
        )
        == STATS
    )


def test_numbers_may_be_null_or_missing() -> None:
    assert parse_client_message(
        '{"type":"stats","clientId":"b","messagesPerSec":null,"avgLatencyMs":-0.5,"lastSeq":[]}'
    ) == Stats("b", None, None, -0.5, None)


@pytest.mark.parametrize("text", ["null", "NaN", '"5"', "true", "[1]", "{}", "1e300", "9" * 30])
def test_a_number_of_another_kind_is_ignored_unless_null(text: str) -> None:
    message = parse_client_message(f'{{"type":"stats","clientId":"b","messagesPerSec":{text}}}')
    assert message == (Stats("b", None, None, None, None) if text == "null" else None)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "hello",
        "[]",
        "null",
        "5",
        '"identify"',
        "{}",
        "{",
        '{"type":"identify"}',
        '{"clientId":"a"}',
        '{"type":"identify","clientId":""}',
        '{"type":"identify","clientId":null}',
        '{"type":"identify","clientId":5}',
        '{"type":"identify","clientId":"\\ud800"}',
        '{"type":["identify"],"clientId":"a"}',
        '{"type":{},"clientId":"a"}',
        '{"type":"Identify","clientId":"a"}',
        '{"type":"subscribe","clientId":"a","topics":[]}',
        b'{"type":"identify","clientId":"\xff"}',
        b"\0",
        "\ud800",
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_everything_else_is_ignored(data: bytes | str) -> None:
    assert parse_client_message(data) is None


def test_client_ids_are_cut_at_128_characters() -> None:
    message = parse_client_message(orjson.dumps({"type": "identify", "clientId": "é" * 200}))
    assert message == Identify("é" * 128)


def test_report_rows_golden_bytes() -> None:
    reports = ClientReports()
    reports.update(STATS, 1769951234567)
    reports.update(Stats("b", None, None, None, None), 1769951234568)
    assert orjson.dumps(reports.to_wire()) == (
        b'{"tauri-rust":{"clientId":"tauri-rust","lastUpdate":1769951234567,'
        b'"messagesPerSec":186000,"totalMessages":1860000,"avgLatencyMs":0.2,"p99LatencyMs":0.0},'
        b'"b":{"clientId":"b","lastUpdate":1769951234568,'
        b'"messagesPerSec":null,"totalMessages":null,"avgLatencyMs":null,"p99LatencyMs":null}}'
    )


def test_a_new_report_replaces_the_old_one_in_its_place() -> None:
    reports = ClientReports()
    for client_id, now_ms in (("a", 1), ("b", 2), ("a", 3)):
        reports.update(Stats(client_id, now_ms, None, None, None), now_ms)
    assert [(row["clientId"], row["lastUpdate"]) for row in reports.to_wire().values()] == [
        ("a", 3),
        ("b", 2),
    ]
    reports.clear()
    assert reports.to_wire() == {}
    assert len(reports) == 0


def test_rows_idle_for_an_hour_go() -> None:
    reports = ClientReports()
    reports.update(Stats("a", 1, 1, 1, 1), 0)
    reports.update(Stats("b", 1, 1, 1, 1), 1)
    reports.expire(HOUR_MS)
    assert list(reports.to_wire()) == ["a", "b"]
    reports.expire(HOUR_MS + 1)
    assert list(reports.to_wire()) == ["b"]
    reports.update(Stats("c", 1, 1, 1, 1), 2 * HOUR_MS)
    assert list(reports.to_wire()) == ["c"]


def test_the_row_longest_unheard_of_makes_room() -> None:
    reports = ClientReports()
    for number in range(1000):
        reports.update(Stats(f"c{number}", 1, 1, 1, 1), number)
    reports.update(Stats("c0", 2, 2, 2, 2), 1000)
    reports.update(Stats("new", 1, 1, 1, 1), 1001)
    assert len(reports) == 1000
    assert "c0" in reports.to_wire()
    assert "c1" not in reports.to_wire()
    assert list(reports.to_wire()) == ["c0", *(f"c{n}" for n in range(902, 1000)), "new"]


def test_recent_means_five_seconds() -> None:
    reports = ClientReports()
    for client_id, now_ms in (("a", 1000), ("b", 1001), ("c", 6000)):
        reports.update(Stats(client_id, 1, 1, 1, 1), now_ms)
    assert [row.stats.client_id for row in reports.recent(6001)] == ["b", "c"]
    assert [row.stats.client_id for row in reports.recent(6001, within_ms=1)] == ["c"]


def test_console_block_golden_lines() -> None:
    reports = ClientReports()
    reports.update(Stats("tauri-rust", 499998, 5_000_000, 0.1, 0.9), 0)
    assert console_lines(500_000, 499_998, reports.recent(0)) == [
        "[Stats] Rate: 500,000/s | Server actual: 499,998/s",
        "        tauri-rust  :  499,998 msg/s, lat: 0.1ms avg / 0.9ms p99",
    ]


def test_console_block_ends_with_what_was_dropped() -> None:
    assert console_lines(1_000_000, 84_000, [], 916_000, 0.46) == [
        "[Stats] Rate: 1,000,000/s | Server actual: 84,000/s",
        "        dropped     :  916,000 msg/s",
    ]


def test_console_block_says_the_connections_behind_the_reports() -> None:
    assert console_lines(1_000_000, 84_000, [], 916_000, 0.46, 1234) == [
        "[Stats] Rate: 1,000,000/s | Server actual: 84,000/s",
        "        connections :    1,234, lag: 0.5s at most",
        "        dropped     :  916,000 msg/s",
    ]


def test_console_survives_odd_reports() -> None:
    reports = ClientReports()
    reports.update(Stats("a-name-longer-than-twelve", 1234567.8, 1, None, 12.34), 0)
    reports.update(Stats("\x1b[31m\n", None, None, None, None), 0)
    assert console_lines("max", 0, reports.recent(0)) == [
        "[Stats] Rate: max | Server actual: 0/s",
        "        a-name-longer-than-twelve: 1,234,568 msg/s, lat: - avg / 12.3ms p99",
        "        \\x1b[31m\\n  :        - msg/s, lat: - avg / - p99",
    ]
