"""The tick feed: what `fastws serve` serves (docs/protocol.md 1 and 2).

Layer 6. Puts the engine's source, the HTTP API and the clients' reports together; every
connection is subscribed to the topic `ticks` by connecting.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fastws._frame import Connection
from fastws.errors import HandshakeError
from fastws.feeds.feed import Feed
from fastws.feeds.page import page
from fastws.feeds.stats import (
    Shared,
    clients_wire,
    greatest_lag,
    last_client_wire,
    topics_wire,
)
from fastws.http.request import Request
from fastws.http.response import Response
from fastws.lag import Lag
from fastws.ticks.access import Access
from fastws.ticks.api import CORS_HEADERS, HttpApi
from fastws.ticks.changes import Changes
from fastws.ticks.config import FeedConfig, ServeOptions
from fastws.ticks.console import console_lines
from fastws.ticks.reports import ClientReports, Identify, Stats, parse_client_message

TOPIC = "ticks"
KIB, MIB = 1 << 10, 1 << 20
USUAL_LAG = 0.5  # seconds, at a fixed rate
SKIPPING = ("latest", "drop_oldest")
# The slowest client sets the pace, and a small log stays in the processor's cache.
MAX_RATE_OPTIONS = {
    "on_slow": "lossless",
    "max_lag": Lag(bytes=256 * KIB),
    "retention_bytes": 1 * MIB,
}
# Behind more than this a Close would come too late for the close time-out, to many clients at once.
LAST_LAG_BYTES = 256 * KIB


class TickFeed(Feed):
    """The feed and its server.

    Args:
        options: as `fastws serve` takes them.
        write_line: takes each line of the console, or None: it stays quiet.
    """

    def __init__(
        self, options: ServeOptions, write_line: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(options, TOPIC, page("ticks", TOPIC, CORS_HEADERS), write_line)
        self.config = options.feed()
        self.reports = ClientReports()
        self.ignored_messages = 0
        self._topic.configure(
            **self._fixed_rate_options(),
            history=options.kept(),
            retain=options.retain,
            content="json",
        )
        self._engine.start_source(
            self._topic,
            seed=secrets.randbits(64),
            format=self.config.format,
            fields=options.fields,
            late=options.late,
        )
        self._shared_stats = Shared(self.stats)
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
        self._ramp: asyncio.TimerHandle | None = None

    # Life.

    def start(self) -> None:
        """Begin to serve on the running loop."""
        super().start()
        self._set_rate()

    async def stop(self) -> None:
        """Stop the ticks, send what is on its way, close every client with 1001.

        Where slow clients skip ticks (`latest`, `drop_oldest`), one more than 256 KiB behind does
        so first, as it would when further behind at any time; what it missed is counted as dropped.
        """
        self._cancel_timers()
        if not self.server.ended:
            self._engine.set_rate(0)
            now = self._topic.options
            if now["on_slow"] in SKIPPING:
                last = min(now["max_lag"].bytes or LAST_LAG_BYTES, LAST_LAG_BYTES)
                self._topic.configure(max_lag=replace(now["max_lag"], bytes=last))
        await super().stop()

    def _cancel_timers(self) -> None:
        super()._cancel_timers()
        if self._ramp is not None:
            self._ramp.cancel()

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
        options = self._fixed_rate_options()
        if rate == "max" and self._options.on_slow in (None, "lossless"):
            options |= MAX_RATE_OPTIONS
        self._topic.configure(**options)

    def _fixed_rate_options(self) -> dict[str, Any]:
        """At a fixed rate a client that is too far behind jumps to the newest tick."""
        return self._options.topic_options("latest", USUAL_LAG)

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
        """Answer with the page, or a route of docs/protocol.md 2."""
        return self.page(request) or self._api.handle(request)

    def refuse(self, error: HandshakeError) -> Response:
        """Answer a refused request, readable across origins."""
        return self._api.refuse(error)

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe a new client to the ticks."""
        super().opened(connection, request)

    def _client_came(self, connection: Connection) -> None:
        connection.context = ""  # its client id, once it says one
        super()._client_came(connection)

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

    # What is shown.

    def _show_second(self) -> None:
        if self._write_line is None or not self._clients:
            return
        recent = self.reports.recent(_now_ms())
        second, lag = self._seconds, greatest_lag(self._engine)
        block = console_lines(
            self.config.rate, second.delivered, recent, second.dropped, lag, self._clients
        )
        for line in block:
            self._write_line(line)

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
            "lastClientUs": last_client_wire(self._engine),
            "topics": topics_wire(self._engine),
            "clients": clients_wire(self._engine),
            "changes": {"accepted": self._changes.accepted, "refused": self._changes.refused},
        }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
