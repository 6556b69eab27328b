"""The tick feed's configuration and the options of `fastws serve`."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import pytest

from fastws import Limits
from fastws.errors import ConfigError
from fastws.ticks.config import (
    FeedConfig,
    Rate,
    ServeOptions,
    check_rate,
    http_port_of_mode,
    parse_rate,
)


def refused_field(make: Callable[[], object]) -> str:
    """The field that a ConfigError names; its text must be one line that starts with it."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).startswith(f"{caught.value.field}: ")
    assert str(caught.value).isprintable()
    return caught.value.field


def test_default_config_golden_bytes() -> None:
    assert orjson.dumps(FeedConfig().to_wire()) == (
        b'{"rate":100,"rampEnabled":false,"rampPercent":10,"rampIntervalSec":5,"format":"json"}'
    )


def test_changes_make_a_new_configuration() -> None:
    before = FeedConfig()
    after = before.apply({"format": "binary", "rate": "max", "rampPercent": 2.5})
    assert before == FeedConfig()
    assert orjson.dumps(after.to_wire()) == (
        b'{"rate":"max","rampEnabled":false,"rampPercent":2.5,"rampIntervalSec":5,"format":"binary"}'
    )
    assert before.apply({}) == before
    assert after.apply(after.to_wire()) == after


def test_integral_floats_read_as_integers_on_the_wire() -> None:
    config = FeedConfig().apply({"rate": 1e6, "rampPercent": -10.0, "rampIntervalSec": 2.0})
    assert orjson.dumps(config.to_wire()) == (
        b'{"rate":1000000,"rampEnabled":false,"rampPercent":-10,"rampIntervalSec":2,"format":"json"}'
    )


@pytest.mark.parametrize(
    ("field", "good"),
    [
        ("rate", (0, 1, 100_000_000, "max")),
        ("rampEnabled", (True, False)),
        ("rampPercent", (-100, 0, 0.5, 1000)),
        ("rampIntervalSec", (0.1, 1, 86_400)),
        ("format", ("json", "binary")),
    ],
)
def test_values_within_range_are_taken(field: str, good: tuple[object, ...]) -> None:
    for value in good:
        assert FeedConfig().apply({field: value}).to_wire()[field] == value


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("rate", (-1, 100_000_001, 1.5, "100", "MAX", "", True, None, [], {}, math.nan, math.inf)),
        ("rampEnabled", (0, 1, "true", None, [])),
        ("rampPercent", (-100.1, 1000.1, True, "10", None, [], math.nan, math.inf, 10**400)),
        ("rampIntervalSec", (0, 0.099, 86_401, -1, True, "5", None, {}, math.nan, -math.inf)),
        ("format", ("JSON", "", "xml", 0, None, True, [], {})),
        ("rte", (1,)),
        ("ramp_enabled", (True,)),
    ],
)
def test_other_values_name_their_field_and_change_nothing(
    field: str, bad: tuple[object, ...]
) -> None:
    config = FeedConfig(rate=7)
    for value in bad:
        changes = {"rate": 9, field: value} if field != "rate" else {field: value}
        assert refused_field(partial(config.apply, changes)) == field
        assert config == FeedConfig(rate=7)


def test_an_unknown_name_is_safe_to_print() -> None:
    assert refused_field(lambda: FeedConfig().apply({"a\r\nb" + "c" * 100: 1})).startswith(
        "a\\r\\n"
    )


@pytest.mark.parametrize(
    ("rate", "percent", "expected"),
    [
        (100, 10, 110),
        (110, 10, 121),
        (121, 10, 133),
        (5, 10, 5),
        (0, 1000, 0),
        (100, -10, 90),
        (100, -100, 0),
        (100, 15, 114),  # in doubles 100 * 1.15 is below 115, as it was for every client so far
        (100_000_000, 1, 100_000_000),
        ("max", 10, "max"),
    ],
)
def test_ramp_steps(rate: Rate, percent: float, expected: Rate) -> None:
    assert FeedConfig(rate=rate, ramp_percent=percent).next_ramp_rate() == expected


def test_rates_are_read_from_text() -> None:
    million = [" 1000000 ", "1_000_000", "1e6", "1E6", "10e5", "1M", "1m", "1000k", "1.0e6"]
    assert {parse_rate(text) for text in million} == {1_000_000}
    other = {"0": 0, "500k": 500_000, "1.5M": 1_500_000, "250_000": 250_000, "max": "max"}
    assert {text: parse_rate(text) for text in other} == other
    wrong = ["", "-1", "1.5", "MAX", "100000001", "101M", "1e9", "1e99", "1G", "k", "nan", "0x10"]
    for text in (*wrong, "1_", "_1", "1__0", "1,000", "1e", "1e-1", ".5M", "9" * 5000, "\u0663"):
        assert refused_field(partial(parse_rate, text)) == "rate"
    assert check_rate(3) == 3


def test_default_options_listen_on_loopback() -> None:
    options = ServeOptions()
    assert (options.host, options.port, options.http_port) == ("127.0.0.1", 8080, None)
    assert (options.loop, options.fields, options.late) == ("uvloop", "base", "burst")
    assert options.feed() == FeedConfig()
    assert ServeOptions(rate="max", format="binary").feed() == FeedConfig("max", format="binary")


@pytest.mark.parametrize(
    "options",
    [
        {"port": 0, "http_port": 0},
        {"host": "::1", "port": 65535, "http_port": 8081},
        {"admin_token": "s3cret", "quiet": True},
        {"loop": "asyncio", "fields": "seq", "late": "skip"},
        {"late": "smooth"},
        {"max_lag": 0, "min_rate": 0},
        {"max_lag": 0.001, "min_rate": 10**12},
        {"max_lag": 86_400},
        {"max_lag_bytes": 4096},
        {"max_lag_bytes": 2**40},
        {"allowed_origins": ("null", "https://example.com", "http://localhost:3000")},
        {"allowed_origins": ("tauri://localhost", "app://.", "http://[::1]:8000", "HTTPS://X.Y")},
        {"allowed_origins": ("http://a.example:443", "https://a.example:80")},
        {"allowed_origins": ("file://", "https://*.example.com", "http://*.localhost:*")},
        {"unix": "/s", "unix_mode": 0o660},
    ],
)
def test_good_options_are_taken(options: dict[str, Any]) -> None:
    made = ServeOptions(**options)
    assert {name: getattr(made, name) for name in options} == options


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("host", ("", "a b", "127.0.0.1\n", "h\0", 1, None)),
        ("port", (-1, 65536, "8080", 80.0, True, None)),
        ("rate", (-1, "fast", None)),
        ("format", ("xml", None)),
        ("loop", ("trio", None)),
        ("http_port", (-1, 65536, True, "8081", 8080)),
        ("admin_token", ("", "a b", "\r", "caf\xe9", 5)),
        ("quiet", (1, "yes", None)),
        ("fields", ("all", None)),
        ("late", ("drop", None)),
        ("max_lag", (-1, 1e-9, 86_401, float("nan"), True, "1")),
        ("max_lag_bytes", (0, -1, 4095, 2**40 + 1, 1e6, True, "12M", None)),
        ("min_rate", (-1, 10**12 + 1, 0.5, True, "1", None)),
    ],
)
def test_bad_options_are_one_clear_line(field: str, bad: tuple[object, ...]) -> None:
    for value in bad:
        options: dict[str, Any] = {field: value}
        assert refused_field(partial(ServeOptions, **options)) == field


@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("max_connections", (0, -1, 10_000_001, True, "9")),
        ("max_per_address", (-1, 2**32, True)),
        ("handshake_rate", (-1, 1_000_001, 1.5, None)),
        ("exempt_addresses", ("10.0.0.0/8", 5, ["localhost"], [""], [b"\x7f"], ["::/0"] * 17)),
        ("message_rate", (-1, 1_000_001, None)),
        ("byte_rate", (-1, 2**34 + 1, None)),
        ("max_message_size", (-1, 2**63, 1.5, None)),
        ("max_fragments", (0, 2**32)),
        ("max_head_size", (255, 65_537)),
        ("max_head_line", (63, 65_537)),
        ("max_head_fields", (0, 10_001)),
        ("max_body_size", (-1, 2**30 + 1)),
        ("handler_queue", (0, 65_535, True)),
        ("high_mark", (0, 2**32, (1 << 20) + 1)),
        ("outbox_limit", (0, 2**32)),
        ("max_log_bytes", (0, -1, (1 << 20) - 1, 2**62 + 1, 2e6, True, "256M")),
        ("max_buffered_bytes", (0, -1, (1 << 20) - 1, 2**62 + 1, 2e6, True, "256M")),
    ],
)
def test_limits_out_of_range_are_one_clear_line(field: str, bad: tuple[object, ...]) -> None:
    for value in bad:
        options: dict[str, Any] = {field: value}
        assert refused_field(partial(Limits, **options)) == field


@pytest.mark.parametrize("network", ["::ffff:10.0.0.0/8", "::ffff:0:0/96", "::/1", "::fffe:0:0/95"])
def test_an_ipv6_network_that_has_all_of_ipv4_is_refused(network: str) -> None:
    with pytest.raises(ConfigError, match=r"has all of IPv4; write IPv4 networks as 10\.0\.0\.0/8"):
        Limits(exempt_addresses=(network,))


@pytest.mark.parametrize("network", ["::/0", "::ffff:10.0.0.0/104", "8000::/1", "::/95"])
def test_other_ipv6_networks_are_taken(network: str) -> None:
    assert len(Limits(exempt_addresses=(network,)).of_engine()["exempt"]) == 1


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_connections": 1, "max_log_bytes": 1 << 20, "max_buffered_bytes": 1 << 20},
        {"max_message_size": 0, "max_body_size": 0, "high_mark": 1, "outbox_limit": 1},
        {"max_head_size": 65_536, "max_head_line": 65_536, "handler_queue": 65_534},
    ],
)
def test_good_limits_are_taken(limits: dict[str, Any]) -> None:
    made = Limits(**limits)
    assert {name: getattr(made, name) for name in limits} == limits


@pytest.mark.parametrize(
    "origin",
    [
        "", "*", "example.com", "localhost:3000", "https://", "https://example.com/",
        "https://example.com/app", "https://example.com?", "https://example.com#", "https://*",
        "https://a.*.example.com", "https://*.", "https://*example.com", "*://example.com",
        "https://example.com:*1", "https://*:*", "file:///", "file://*", "http://*.a.example:80",
        "https://me@example.com", "https://a.example,https://b.example",
        "https://example.com:", "https://example.com:x", "http://a.example:80", "http://[::1]:80",
        "https://a.example:443", "HTTPS://a.example:443", "https://a b", "https://caf\xe9.example",
        "//example.com", "null ", 5,
    ],
)  # fmt: skip
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    good = "https://example.com"
    options = partial(ServeOptions, allowed_origins=(good, origin))
    assert refused_field(options) == "allowed_origin"


def test_server_mode_decides_the_second_port() -> None:
    modes: list[dict[str, str]] = [{}, {"SERVER_MODE": ""}, {"SERVER_MODE": "uws"}]
    assert [http_port_of_mode(mode) for mode in modes] == [None, None, None]
    assert http_port_of_mode({"SERVER_MODE": "ws", "OTHER": "1"}) == 8081
    for mode in ("WS", "http", "both"):
        environ = {"SERVER_MODE": mode}
        assert refused_field(partial(http_port_of_mode, environ)) == "SERVER_MODE"
