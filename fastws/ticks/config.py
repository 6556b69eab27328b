"""What can be set: the tick feed (docs/protocol.md 2, `/config`) and the options of `fastws serve`.

Frozen values that are valid from the moment they exist; a change is a new value.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal, get_args

from fastws.checks import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_text,
)
from fastws.errors import ConfigError, printable
from fastws.feeds.delivery import Delivery
from fastws.http.origin import origins_of
from fastws.server.limits import Limits

MAX_RATE = 100_000_000  # ticks a second
CONTROL_PANEL_PORT = 8081  # one existing control panel has it hard-coded
# Nobody has more to say to the feed: two messages when it opens, one a second.
FEED_LIMITS = Limits(
    max_message_size=16 * 1024,
    message_rate=100,
    byte_rate=64 * 1024,
    handshake_rate=1000,  # a program that opens a thousand at once; a fifth of a core
)
# Few digits: int() of thousands is slow.
_SPELT_RATE = re.compile(r"([0-9](?:_?[0-9]){0,17}(?:\.[0-9]{1,9})?)(?:[eE]([0-9]{1,2}))?([kKmM]?)")
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


Rate = int | Literal["max"]
Format = Literal["json", "binary"]
Loop = Literal["uvloop", "asyncio"]
Fields = Literal["base", "seq", "quote"]
Late = Literal["burst", "smooth", "skip"]
LogLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class FeedConfig:
    """The tick feed.

    Args:
        rate: ticks a second, 0 (nothing is sent) to 100,000,000, or "max".
        ramp_enabled: whether the rate changes by `ramp_percent` at each interval.
        ramp_percent: -100 to 1000.
        ramp_interval_sec: 0.1 to 86,400 seconds.
        format: "json" or "binary".

    Raises:
        ConfigError: wrong type or out of range; the field has its name on the wire.
    """

    rate: Rate = 100
    ramp_enabled: bool = False
    ramp_percent: float = 10
    ramp_interval_sec: float = 5
    format: Format = "json"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rate", check_rate(self.rate))
        check_flag("rampEnabled", self.ramp_enabled)
        percent = check_number("rampPercent", self.ramp_percent, -100, 1000)
        interval = check_number("rampIntervalSec", self.ramp_interval_sec, 0.1, 86_400)
        object.__setattr__(self, "ramp_percent", percent)
        object.__setattr__(self, "ramp_interval_sec", interval)
        check_choice("format", self.format, get_args(Format))

    def to_wire(self) -> dict[str, object]:
        """Return the object of `GET /config`, keys in the order of the contract."""
        return {wire: getattr(self, name) for wire, name in _WIRE_NAMES.items()}

    def apply(self, changes: Mapping[str, object]) -> "FeedConfig":
        """Return this configuration with `changes` (names on the wire) made, all or none.

        An unknown name is an error, not ignored: a misspelt one would otherwise change nothing
        and be answered like a success.

        Raises:
            ConfigError: unknown name, wrong type or out of range; names the field.
        """
        for wire in changes:
            if wire not in _WIRE_NAMES:
                raise ConfigError(printable(wire, 64), "no such setting")
        known: dict[str, object] = {_WIRE_NAMES[wire]: value for wire, value in changes.items()}
        return replace(self, **known)  # type: ignore[arg-type]

    def next_ramp_rate(self) -> Rate:
        """Return the rate after one ramp step: floor(rate * (1 + percent / 100)), at most MAX_RATE.

        In doubles, as the formula of the contract has always been computed; "max" stays.
        """
        if self.rate == "max":
            return "max"
        return min(MAX_RATE, math.floor(self.rate * (1 + self.ramp_percent / 100)))


_WIRE_NAMES = {
    "rate": "rate",
    "rampEnabled": "ramp_enabled",
    "rampPercent": "ramp_percent",
    "rampIntervalSec": "ramp_interval_sec",
    "format": "format",
}


@dataclass(frozen=True, slots=True)
class ServeOptions(Delivery):
    """The options of `fastws serve`; those of slow clients are the arguments of Delivery, too.

    Args:
        host: address or name to listen on.
        port: 0 (any free one) to 65,535; WebSocket and HTTP together.
        rate: as in FeedConfig.
        format: as in FeedConfig.
        loop: the event loop to run.
        http_port: a second port of the host, beside `unix` too, for panels that have one
            hard-coded, or None; 0: any free one.
        admin_token: secret that every change needs, visible ASCII, or None: changes are taken
            from this machine only.
        quiet: only warnings and errors are printed: no address, no console rows.
        log_level: the least of the log that is printed.
        fields: what a tick carries: "base" three fields, "seq" also seq and tsNs, "quote" also
            bid, ask and volume.
        unix: path of a Unix socket to listen on instead of host and port, or None.
        unix_mode: of its file, 0 to 0o777, or None: as the umask has it.
        allowed_origins: origins of web pages that may connect and change the feed, or patterns of
            them, as for `check_origin`; empty: all may connect.
        late: what becomes of ticks that are overdue: sent at once, at twice the rate, or skipped.
        deflate: whether clients that offer permessage-deflate get it.
        limits: what bounds the server; a client's message has 16 KiB.

    Raises:
        ConfigError: one clear line; the field is the argument's name.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    rate: Rate = 100
    format: Format = "json"
    loop: Loop = "uvloop"
    http_port: int | None = None
    admin_token: str | None = None
    quiet: bool = False
    log_level: LogLevel = "info"
    fields: Fields = "base"
    late: Late = "burst"
    unix: str | None = None
    unix_mode: int | None = None
    allowed_origins: tuple[str, ...] = ()
    deflate: bool = False
    limits: Limits = FEED_LIMITS

    def __post_init__(self) -> None:
        check_text("host", self.host)
        check_integer("port", self.port, 0, 65_535)
        object.__setattr__(self, "rate", check_rate(self.rate))
        check_choice("format", self.format, get_args(Format))
        check_choice("loop", self.loop, get_args(Loop))
        if self.http_port is not None:
            check_integer("http_port", self.http_port, 0, 65_535)
            if self.unix is None and self.http_port and self.http_port == self.port:
                raise ConfigError("http_port", "must differ from port, which serves HTTP already")
        if self.admin_token is not None:
            check_text("admin_token", self.admin_token)
        check_flag("quiet", self.quiet)
        check_choice("log_level", self.log_level, get_args(LogLevel))
        check_choice("fields", self.fields, get_args(Fields))
        check_choice("late", self.late, get_args(Late))
        if self.unix is not None and not self.unix.strip("\0"):
            raise ConfigError("unix", "must be a path")
        if self.unix_mode is not None and self.unix is None:
            raise ConfigError("unix_mode", "needs --unix")
        origins = origins_of("allowed_origin", self.allowed_origins)
        object.__setattr__(self, "allowed_origins", origins)
        check_flag("deflate", self.deflate)
        Delivery.__post_init__(self)  # super() cannot be used in a class with slots
        most = self.limits.max_log_bytes
        if most is not None and self.history_bytes > most:
            raise ConfigError("history_bytes", f"must not exceed --max-log-bytes, {most:,}")

    def feed(self) -> FeedConfig:
        """Return the configuration that the feed starts with."""
        return FeedConfig(rate=self.rate, format=self.format)


def check_rate(value: object) -> Rate:
    """Return `value` as a rate.

    An integral float counts as an integer, for JSON has but one type of number.

    Raises:
        ConfigError: field "rate".
    """
    if value == "max":
        return "max"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RATE:
        raise ConfigError("rate", f'must be an integer from 0 to {MAX_RATE:,} or "max"')
    return value


def parse_rate(text: str) -> Rate:
    """Return the rate that a command line or an environment variable spells.

    An integer, which may be written as 250_000, 1e6, 500k or 1.5M; or max.

    Raises:
        ConfigError: field "rate".
    """
    plain = text.strip()
    if plain == "max":
        return "max"
    match = _SPELT_RATE.fullmatch(plain)
    if match is not None:
        digits, exponent, unit = match.groups()
        rate = Fraction(digits.replace("_", "")) * 10 ** int(exponent or 0) * _UNITS[unit.lower()]
        if rate.denominator == 1 and rate <= MAX_RATE:
            return int(rate)
    raise ConfigError(
        "rate",
        f"must be max or an integer from 0 to {MAX_RATE:,}, such as 250_000, 1e6, 500k or 1.5M, "
        f"not {printable(text, 32)!r}",
    )


def http_port_of_mode(environ: Mapping[str, str]) -> int | None:
    """Return the extra HTTP port that `SERVER_MODE` in `environ` asks for, or None.

    `ws` opens 8081 as well; `uws`, or nothing, is the default layout.

    Raises:
        ConfigError: any other mode.
    """
    mode = environ.get("SERVER_MODE", "")
    if mode not in ("", "ws", "uws"):
        raise ConfigError("SERVER_MODE", "must be ws or uws")
    return CONTROL_PANEL_PORT if mode == "ws" else None
