"""What every feed of `fastws serve` has: a server, a topic that clients get by connecting, a page.

Layer 6. Knows the server and what is counted of it; not what is published.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastws._frame import Connection
from fastws.errors import ConfigError, HandshakeError
from fastws.feeds.stats import Seconds
from fastws.http.request import Request
from fastws.http.response import Response
from fastws.lag import Lag
from fastws.server.app import App
from fastws.server.plain import PlainTopics
from fastws.server.server import Server
from fastws.ticks.config import ServeOptions

if TYPE_CHECKING:
    from fastws._frame import OnSlow

PAGE_PATH = "/"
# What a client may ask for by its query, ?onSlow=latest: each of them spares the others.
POLICIES: dict[str, "OnSlow"] = {
    "latest": "latest", "drop_oldest": "drop_oldest", "close": "close"
}  # fmt: skip
OWN_LAG = Lag(bytes=256 * 1024, seconds=0.5)  # of a client that has asked for a policy


class Feed(App):
    """A feed and its server; a subclass publishes to its topic.

    Args:
        options: where to listen, and what bounds the server.
        topic: its name; every client is subscribed to it by connecting, on any path but those of
            plain topics.
        page: the answer to `GET /`.
        origins: of web pages that may connect where the options name none; None: all.
        write_line: takes each line of the console, or None: it stays quiet.
    """

    def __init__(
        self,
        options: ServeOptions,
        topic: str,
        page: Response,
        write_line: Callable[[str], None] | None = None,
        origins: Collection[str] | None = None,
    ) -> None:
        self._options = options
        self._add_plain(
            PlainTopics(max_lag=self._own_lag(), came=self._client_came, went=self._client_went)
        )
        self.server = Server(
            self,
            origins=options.allowed_origins or origins,
            limits=options.limits,
            deflate=options.deflate,
        )
        self.status = 0  # of the process, at the end
        self._page = page
        self._write_line = write_line
        self._engine = self.server.engine
        self._topic = self._engine.topic(topic)
        self._clients = self._most_clients = self._all_clients = 0
        self._seconds = Seconds()
        self._second: asyncio.TimerHandle | None = None
        self._stopping = False
        self._began = time.monotonic()
        self._sums = self._engine.account()

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
        self._began = time.monotonic()
        self._every_second()

    async def finished(self) -> None:
        """Wait until there is nothing more to serve; here: for ever."""
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Send what is on its way, close every client with 1001, end the server."""
        await self._stop("")

    async def _stop(self, reason: str) -> None:
        self._cancel_timers()
        self._stopping = True
        await self.server.stop(reason=reason)

    def close(self) -> None:
        """Let go of everything at once."""
        self._cancel_timers()
        self.server.close()

    def _cancel_timers(self) -> None:
        if self._second is not None:
            self._second.cancel()

    # The App of the server.

    def page(self, request: Request) -> Response | None:
        """Return the page if that is what is asked for."""
        asked = request.path == PAGE_PATH and request.method in ("GET", "HEAD")
        return self._page if asked else None

    def admit(self, connection: Connection, request: Request) -> None:
        """Refuse a policy that there is not."""
        asked = _asked_policy(request)
        if asked is not None and asked not in POLICIES:
            raise HandshakeError(400, f"onSlow must be one of {', '.join(POLICIES)}")

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe a new client, with the policy that it asks for."""
        asked = _asked_policy(request)
        own = {} if asked is None else {"on_slow": POLICIES[asked], "max_lag": self._own_lag()}
        self._subscribe(connection, own)
        self._client_came(connection)

    def _client_came(self, connection: Connection) -> None:
        self._clients += 1
        self._all_clients += 1
        self._most_clients = max(self._most_clients, self._clients)

    def _own_lag(self) -> Lag:
        assert OWN_LAG.bytes is not None
        return replace(OWN_LAG, bytes=min(OWN_LAG.bytes, self._options.max_lag_bytes))

    def _subscribe(self, connection: Connection, own: dict[str, Any]) -> None:
        connection.subscribe(self._topic, **own)

    def closed(self, connection: Connection) -> None:
        """Hear that a client has gone."""
        self._client_went(connection)

    def _client_went(self, connection: Connection) -> None:
        self._clients -= 1
        if self._stopping:  # the last one leaves the sums of the whole life
            self._sums = self._engine.account()

    # What is shown.

    def _every_second(self) -> None:
        self._sums = self._engine.account()
        dropped = self._topic.account()["dropped"]
        self._seconds.tick(self._topic.delivered, self._topic.appended, dropped)
        self._show_second()
        self._second = asyncio.get_running_loop().call_later(1.0, self._every_second)

    def _show_second(self) -> None:
        """Print the rows of the last second."""

    def summary(self) -> str:
        """Return one line about the whole life."""
        seconds = time.monotonic() - self._began
        lost = self._sums["dropped"] + self._sums["pending"]
        return (
            f"connections: {self._all_clients:,}, {self._most_clients:,} at once at most, "
            f"in {seconds:,.1f}s: {self._sums['delivered']:,} messages delivered, {lost:,} dropped"
        )


def _asked_policy(request: Request) -> str | None:
    # A query is parsed where there is one to look at: handshakes come by the thousands.
    return request.query.get("onSlow") if "onSlow=" in request.target else None
