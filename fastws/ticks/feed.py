"""The tick feed: what `fastws serve` serves (docs/protocol.md 1 and 2).

Layer 6. Puts the engine's source, the HTTP API and the clients' reports together; every
connection is subscribed to the topic `ticks` by connecting.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import orjson

from fastws._frame import Connection
from fastws.errors import ConfigError, HandshakeError
from fastws.http.request import Request
from fastws.http.response import Response
from fastws.lag import Lag
from fastws.server.app import App
from fastws.server.server import Server
from fastws.ticks.access import Access
from fastws.ticks.api import HttpApi
from fastws.ticks.changes import Changes
from fastws.ticks.config import FeedConfig, ServeOptions
from fastws.ticks.console import console_lines
from fastws.ticks.reports import ClientReports, Identify, Stats, parse_client_message

if TYPE_CHECKING:
    from fastws._frame import ConnectionAccount, TopicAccount

TOPIC = "ticks"
LISTED = 20  # clients and topics in /stats
KIB, MIB = 1 << 10, 1 << 20
Policy = tuple[Literal["latest", "lossless"], Lag, int]  # on_slow, max_lag, retention_bytes
# The slowest client sets the pace, and a small log stays in the processor's cache.
MAX_RATE_POLICY: Policy = ("lossless", Lag(bytes=256 * KIB), 1 * MIB)
# Behind more than this a Close would come too late for the close time-out, to many clients at once.
LAST_LAG_BYTES = 256 * KIB


class TickFeed(App):
    """The feed and its server.

    Args:
        options: as `fastws serve` takes them.
        write_line: takes each line of the console, or None: it stays quiet.
    """

    def __init__(
        self, options: ServeOptions, write_line: Callable[[str], None] | None = None
    ) -> None:
        self.server = Server(
            self,
            origins=options.allowed_origins or None,
            limits=options.limits,
            deflate=options.deflate,
        )
        self.config = options.feed()
        self.reports = ClientReports()
        self.ignored_messages = 0
        self._options = options
        self._write_line = write_line
        self._engine = self.server.engine
        policy, max_lag, retention = self._fixed_rate_policy()
        self._topic = self._engine.topic(
            TOPIC,
            on_slow=policy,
            max_lag=max_lag,
            retention_bytes=retention,
            min_rate=options.min_rate,
        )
        self._engine.start_source(
            self._topic,
            seed=secrets.randbits(64),
            format=self.config.format,
            fields=options.fields,
            late=options.late,
        )
        self._shared_stats = _Shared(self.stats)
        self._changes = Changes()
        own_names = (options.host, socket.gethostname())
        self._api = HttpApi(
            lambda: self.config,
            self.set_config,
            self._shared_stats.get,
            self._clear_reports,
            Access(options.admin_token, options.allowed_origins, own_names),
            self._changes,
        )
        self._clients = 0
        self._seconds = _Seconds()
        self._second: asyncio.TimerHandle | None = None
        self._ramp: asyncio.TimerHandle | None = None

    # Life.

    def listen(self) -> list[tuple[str, int]]:
        """Bind the addresses of the options and return those of TCP; raises ConfigError."""
        bound: list[tuple[str, int]] = []
        if self._options.unix is not None:
            self.server.listen_unix(self._options.unix, self._options.unix_mode)
        else:
            bound += self.server.listen(self._options.host, self._options.port)
        if self._options.http_port is not None:
            try:
                bound += self.server.listen(self._options.host, self._options.http_port)
            except ConfigError as error:
                field = "http_port" if error.field == "port" else error.field
                raise ConfigError(field, error.message) from None
        return bound

    def start(self) -> None:
        """Begin to serve on the running loop."""
        self.server.start()
        self._set_rate()
        self._every_second()

    async def stop(self) -> None:
        """Stop the ticks, send what is on its way, close every client with 1001.

        At a fixed rate a client more than 256 KiB behind jumps to the newest tick first, as
        it would when further behind at any time (`latest`); what it missed is counted as dropped.
        """
        self._cancel_timers()
        if not self.server.ended:
            self._engine.set_rate(0)
            if self.config.rate != "max":
                _, max_lag, _ = self._fixed_rate_policy()
                assert max_lag.bytes is not None
                last = min(max_lag.bytes, LAST_LAG_BYTES)
                self._topic.configure(max_lag=replace(max_lag, bytes=last))
        await self.server.stop()

    def close(self) -> None:
        """Let go of everything at once."""
        self._cancel_timers()
        self.server.close()

    def _cancel_timers(self) -> None:
        for timer in (self._second, self._ramp):
            if timer is not None:
                timer.cancel()

    # Configuration.

    def set_config(self, config: FeedConfig) -> None:
        """Put a configuration in force at once, for everybody; what stays the same goes on."""
        before, self.config = self.config, config
        self._shared_stats.forget()
        if config.rate != before.rate:
            self._set_rate()
        self._engine.set_format(config.format)
        ramp = config.ramp_enabled, config.ramp_interval_sec
        if ramp != (before.ramp_enabled, before.ramp_interval_sec):
            self._schedule_ramp()

    def _set_rate(self) -> None:
        rate = self.config.rate
        self._engine.set_rate(rate)  # publishes what is due at the old one
        policy, max_lag, retention = MAX_RATE_POLICY if rate == "max" else self._fixed_rate_policy()
        self._topic.configure(on_slow=policy, max_lag=max_lag, retention_bytes=retention)

    def _fixed_rate_policy(self) -> Policy:
        """At a fixed rate a client that is too far behind jumps to the newest tick."""
        limit = self._options.max_lag_bytes
        max_lag = Lag(bytes=limit, seconds=self._options.max_lag or None)
        return "latest", max_lag, limit + limit // 3

    def _schedule_ramp(self) -> None:
        if self._ramp is not None:
            self._ramp.cancel()
            self._ramp = None
        if self.config.ramp_enabled:
            loop = asyncio.get_running_loop()
            self._ramp = loop.call_later(self.config.ramp_interval_sec, self._ramp_up)

    def _ramp_up(self) -> None:
        self.set_config(self.config.apply({"rate": self.config.next_ramp_rate()}))
        self._schedule_ramp()

    # The App of the server.

    def http(self, request: Request) -> Response:
        """Answer a route of docs/protocol.md 2."""
        return self._api.handle(request)

    def refuse(self, error: HandshakeError) -> Response:
        """Answer a refused request, readable across origins."""
        return self._api.refuse(error)

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe a new client to the ticks."""
        connection.context = ""  # its client id, once it says one
        connection.subscribe(self._topic)
        self._clients += 1

    def message(self, connection: Connection, message: str | bytes) -> None:
        """Take what a client says of itself; no reply is ever sent."""
        said = parse_client_message(message)
        match said:
            case Identify():
                connection.context = said.client_id
            case Stats():
                connection.context = connection.context or said.client_id
                self.reports.update(said, _now_ms())
            case None:
                self.ignored_messages += 1

    def closed(self, connection: Connection) -> None:
        """Hear that a client has gone."""
        self._clients -= 1

    # What is shown.

    def _every_second(self) -> None:
        dropped = self._topic.account()["dropped"]
        self._seconds.tick(self._topic.delivered, self._topic.appended, dropped)
        if self._write_line is not None and self._clients > 0:
            recent, second = self.reports.recent(_now_ms()), self._seconds
            lag = self._greatest_lag() if second.dropped else 0.0
            block = console_lines(self.config.rate, second.delivered, recent, second.dropped, lag)
            for line in block:
                self._write_line(line)
        self._second = asyncio.get_running_loop().call_later(1.0, self._every_second)

    def _greatest_lag(self) -> float:
        lags = (account["lag_seconds"] for _, account in self._engine.laggards(LISTED))
        return max(lags, default=0.0)

    def stats(self) -> dict[str, object]:
        """Return the object of `GET /stats`."""
        self.reports.expire(_now_ms())
        return {
            "serverRate": self._seconds.delivered,
            "targetRate": self.config.rate,
            "clients": self.reports.to_wire(),
            "server": self._server_stats(),
        }

    def _clear_reports(self) -> None:
        self.reports.clear()
        self._shared_stats.forget()

    def _server_stats(self) -> dict[str, object]:
        sums = self._engine.account()
        topics = self._engine.topic_accounts(LISTED)
        pacing = self._engine.pacing()
        return {
            **sums,
            "connections": self._clients,
            "ignoredMessages": self.ignored_messages,
            "pacing": {
                "rate": self._seconds.appended,
                "missed": pacing["missed"],
                "slopePpm": round(pacing["slope_ppm"], 3),
                "lagUs": pacing["lag_us"],
            },
            "topics": {name: _topic_wire(account) for name, account in topics.items()},
            "clients": [
                _client_wire(connection, account)
                for connection, account in self._engine.laggards(LISTED)
            ],
            "changes": {"accepted": self._changes.accepted, "refused": self._changes.refused},
        }


class _Shared:
    """JSON that many may ask for at a time: made anew as long as that takes a quarter of the time.

    Beyond that the last one serves for a moment, at most a second.
    """

    SHARE = 0.25
    AT_ONCE = 0.02  # seconds of work before anything is shared

    def __init__(self, make: Callable[[], Mapping[str, object]]) -> None:
        self._make = make
        self._made: orjson.Fragment | None = None
        self._credit = self.AT_ONCE  # seconds; negative: it is shared until that has come back
        self._at = time.monotonic()

    def get(self) -> orjson.Fragment:
        """Return it, for orjson to embed."""
        begun = time.monotonic()
        self._credit = min(self.AT_ONCE, self._credit + self.SHARE * (begun - self._at))
        self._at = begun
        if self._made is None or self._credit > 0:
            self._made = orjson.Fragment(orjson.dumps(self._make()))
            self._credit = max(-self.SHARE, self._credit - (time.monotonic() - begun))
        return self._made

    def forget(self) -> None:
        """Make it anew when it is asked for: what it tells has been changed on purpose."""
        self._made = None


class _Seconds:
    """Counts of the last full second, from counters that only grow."""

    def __init__(self) -> None:
        self.delivered = 0
        self.appended = 0
        self.dropped = 0
        self._last = (time.monotonic(), 0, 0, 0)

    def tick(self, delivered: int, appended: int, dropped: int) -> None:
        now = time.monotonic()
        then, delivered_then, appended_then, dropped_then = self._last
        seconds = max(now - then, 1e-9)
        self.delivered = round((delivered - delivered_then) / seconds)
        self.appended = round((appended - appended_then) / seconds)
        self.dropped = round((dropped - dropped_then) / seconds)
        self._last = (now, delivered, appended, dropped)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _topic_wire(account: "TopicAccount") -> dict[str, object]:
    wire: dict[str, object] = {**account}
    del wire["appended"]
    wire["retainedBytes"] = wire.pop("retained_bytes")
    return wire


def _client_wire(connection: Connection, account: "ConnectionAccount") -> dict[str, object]:
    host, port = connection.remote_address
    wire: dict[str, object] = {
        "clientId": connection.context or "",
        "remote": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        **account,
    }
    lag_bytes, lag_seconds = wire.pop("lag_bytes"), wire.pop("lag_seconds")
    wire["lag"] = {"messages": account["pending"], "bytes": lag_bytes, "seconds": lag_seconds}
    return wire
