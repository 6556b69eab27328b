"""What can be set: the tick feed (docs/protocol.md 2, `/config`) and the options of `fastws serve`.

Frozen values that are valid from the moment they exist; a change is a new value.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast, get_args

from fastws.errors import ConfigError, printable
from fastws.timeouts import Timeouts

MAX_RATE = 100_000_000  # ticks a second
CONTROL_PANEL_PORT = 8081  # one existing control panel has it hard-coded
LEAST_BUDGET = 1 << 20

# As browsers send it (RFC 6454 6.2): no path, and no port that is the default of its scheme.
_ORIGIN = re.compile(
    r"null|(?!http:.*:80$|https:.*:443$)[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:\d{1,5})?",
    re.ASCII | re.IGNORECASE,
)

Rate = int | Literal["max"]
Format = Literal["json", "binary"]
Loop = Literal["uvloop", "asyncio"]
Fields = Literal["base", "seq"]
Late = Literal["burst", "smooth", "skip"]


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
        _check_flag("rampEnabled", self.ramp_enabled)
        percent = _check_number("rampPercent", self.ramp_percent, -100, 1000)
        interval = _check_number("rampIntervalSec", self.ramp_interval_sec, 0.1, 86_400)
        object.__setattr__(self, "ramp_percent", percent)
        object.__setattr__(self, "ramp_interval_sec", interval)
        _check_choice("format", self.format, get_args(Format))

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
class ServeOptions:
    """The options of `fastws serve`.

    Args:
        host: address or name to listen on.
        port: 0 (any free one) to 65,535; WebSocket and HTTP together.
        rate: as in FeedConfig.
        format: as in FeedConfig.
        loop: the event loop to run.
        http_port: a second port of the host, beside `unix` too, for panels that have one
            hard-coded, or None; 0: any free one.
        max_connections: 1 to 10,000,000, or None: what the limit of open files allows; more than
            that is lowered to it, with a warning in the log.
        admin_token: secret for changes from elsewhere, visible ASCII, or None: they are refused.
        quiet: only errors are printed: no address, no console rows.
        fields: what a tick carries: "base" three fields, "seq" also seq and tsNs.
        unix: path of a Unix socket to listen on instead of host and port, or None.
        max_per_address: connections of one address, 0 to 10,000,000; 0: no limit.
        allowed_origins: origins of web pages that may connect, each `null` or
            `scheme://host[:port]`; empty: all.
        late: what becomes of ticks that are overdue: sent at once, at twice the rate, or skipped.
        deflate: whether clients that offer permessage-deflate get it.
        max_log_bytes: bytes of memory for the logs of all topics, 1 MiB up, or None: the smaller
            of 256 MiB and an eighth of the memory that there is.
        max_lag: seconds that a tick may be old when it is sent, 0 to 86,400, else its client jumps
            to the newest one; 0: no limit. Not at rate "max".
        max_lag_bytes: bytes of ticks that a client may have yet to get, 4,096 to 2^40, else it
            jumps likewise; `max_log_bytes` bounds them too. Not at rate "max".
        min_rate: bytes a second, 0 to 10^12, that a client takes at rate "max" while it holds the
            feed, else it is closed with 1013; 0: no minimum.
        max_buffered_bytes: bytes of memory for all else that waits: what is to be sent to one
            client alone, messages and requests that are not whole; 1 MiB up, or None: likewise.
        timeouts: how long what may take, and how often clients are pinged.
        max_message_size: bytes of a client's message, 0 to 2^63 - 1.

    Raises:
        ConfigError: one clear line; the field is the argument's name.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    rate: Rate = 100
    format: Format = "json"
    loop: Loop = "uvloop"
    http_port: int | None = None
    max_connections: int | None = None
    admin_token: str | None = None
    quiet: bool = False
    fields: Fields = "base"
    late: Late = "burst"
    unix: str | None = None
    max_per_address: int = 0
    allowed_origins: tuple[str, ...] = ()
    deflate: bool = False
    max_log_bytes: int | None = None
    max_lag: float = 0.5
    max_lag_bytes: int = 12 << 20
    min_rate: int = 1 << 20
    max_buffered_bytes: int | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_message_size: int = 16 * 1024

    def __post_init__(self) -> None:
        _check_text("host", self.host)
        check_integer("port", self.port, 0, 65_535)
        object.__setattr__(self, "rate", check_rate(self.rate))
        _check_choice("format", self.format, get_args(Format))
        _check_choice("loop", self.loop, get_args(Loop))
        if self.http_port is not None:
            check_integer("http_port", self.http_port, 0, 65_535)
            if self.unix is None and self.http_port and self.http_port == self.port:
                raise ConfigError("http_port", "must differ from port, which serves HTTP already")
        if self.max_connections is not None:
            check_integer("max_connections", self.max_connections, 1, 10_000_000)
        if self.admin_token is not None:
            _check_text("admin_token", self.admin_token)
        _check_flag("quiet", self.quiet)
        _check_choice("fields", self.fields, get_args(Fields))
        _check_choice("late", self.late, get_args(Late))
        if self.unix is not None and not self.unix.strip("\0"):
            raise ConfigError("unix", "must be a path")
        check_integer("max_per_address", self.max_per_address, 0, 10_000_000)
        origins = origins_of("allowed_origin", self.allowed_origins)
        object.__setattr__(self, "allowed_origins", origins)
        _check_flag("deflate", self.deflate)
        if self.max_log_bytes is not None:
            check_budget("max_log_bytes", self.max_log_bytes)
        if 0 < _check_number("max_lag", self.max_lag, 0, 86_400) < 0.001:
            raise ConfigError("max_lag", "must be 0 or from 0.001")
        check_integer("max_lag_bytes", self.max_lag_bytes, 4096, 2**40)
        check_integer("min_rate", self.min_rate, 0, 10**12)
        if self.max_buffered_bytes is not None:
            check_budget("max_buffered_bytes", self.max_buffered_bytes)
        check_integer("max_message_size", self.max_message_size, 0, 2**63 - 1)

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

    Raises:
        ConfigError: field "rate".
    """
    plain = text.strip().replace("_", "")
    # Nine digits spell any rate; int() of thousands is slow and raises.
    is_number = plain.isascii() and plain.isdigit() and len(plain) <= 18
    return check_rate(int(plain) if is_number else plain)


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


def check_integer(field: str, value: object, low: int, high: int) -> None:
    """Refuse what is no integer from low to high."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(field, f"must be an integer from {low:,} to {high:,}")


def check_budget(field: str, value: object) -> None:
    """Refuse what is no budget of memory: an integer of bytes, 1 MiB up."""
    check_integer(field, value, LEAST_BUDGET, 2**62)


def _check_number(field: str, value: object, low: float, high: float) -> float:
    """Return `value`; an integral float as int, so that 10.0 reads 10 on the wire."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    number = cast(float, value)
    if not good or not low <= number <= high:  # a NaN compares false
        raise ConfigError(field, f"must be a number from {low:,} to {high:,}")
    return int(number) if number == int(number) else number


def _check_flag(field: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(field, "must be true or false")


def _check_choice(field: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ConfigError(field, f"must be one of {', '.join(choices)}")


def origins_of(field: str, values: object) -> tuple[str, ...]:
    """Refuse what no browser would send as an Origin, and one text in place of several."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ConfigError(field, f"must be a list of origins, such as [{values!r}]")
    origins = tuple(values)
    for value in origins:
        if not isinstance(value, str) or not _ORIGIN.fullmatch(value):
            raise ConfigError(field, "must be null or scheme://host[:port], without a path")
    return origins


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str) or not value or not all("!" <= char <= "~" for char in value):
        raise ConfigError(field, "must be visible ASCII without blanks")
