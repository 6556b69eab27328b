"""The feed of lines: what `fastws serve --source` serves (docs/sources.md).

Layer 6. Puts the reader, the splitter and the topic together. While the topic takes no more, or
lines are not due yet, they wait here, and nothing is read.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastws._frame import Connection
from fastws.errors import ConnectionClosed, HandshakeError, LogFull, printable
from fastws.feeds.feed import Feed
from fastws.feeds.page import page
from fastws.feeds.stats import (
    Shared,
    clients_wire,
    greatest_lag,
    last_client_wire,
    topics_wire,
)
from fastws.http.origin import LOCAL_PAGES
from fastws.http.request import Request
from fastws.http.response import Response
from fastws.lines.api import LinesApi
from fastws.lines.config import STANDARD_INPUT, LinesOptions
from fastws.lines.reader import Reader, close_source, open_source
from fastws.lines.splitter import LineSplitter
from fastws.ticks.api import CORS_HEADERS
from fastws.ticks.config import ServeOptions

logger = logging.getLogger("fastws")

TICK = 0.001  # seconds, at least, until lines that wait for their time are due
LEAST_PROGRESS = 5.0  # seconds without any, after which the end waits for slow clients no longer


class LinesFeed(Feed):
    """The lines of a file or of standard input, each of them a text message.

    Args:
        options: as `fastws serve` takes them; those of ticks alone do not count.
        lines: the source, and how it is published.
        write_line: takes each line of the console, or None: it stays quiet.
        show_row: takes the row of a second, which may replace the one before it.

    Raises:
        ConfigError: the source cannot be read.
    """

    def __init__(
        self,
        options: ServeOptions,
        lines: LinesOptions,
        write_line: Callable[[str], None] | None = None,
        show_row: Callable[[str], None] | None = None,
    ) -> None:
        self.lines = lines
        self._fd: int | None = open_source(lines.source)
        standard = lines.source == STANDARD_INPUT
        self._name = "standard input" if standard else printable(lines.source)
        answer = page("lines", lines.topic, CORS_HEADERS)
        super().__init__(options, lines.topic, answer, write_line, LOCAL_PAGES)
        self._show_row = show_row or write_line
        self._topic.configure(
            **options.topic_options("lossless", usual_lag=0),
            history=options.kept(lines.last),
            retain=options.retain,
        )
        self.server.limit_log.leave_out("log_full")  # what holds the source
        self._api = LinesApi(Shared(self.stats).get)
        self._splitter = LineSplitter(lines.max_line)
        self._reader = Reader(self._fd, self._take, self._source_ended)
        self._waiting: list[bytes] = []  # read, not published
        self._published = self._due_from = 0  # lines; those of before the pace began
        self._due_since = 0.0
        self._state = "waiting"  # then reading, held (by the clients), ended
        self._again: asyncio.TimerHandle | asyncio.Task[None] | None = None
        self._finished = asyncio.Event()
        self._at_end = False
        self._lines_at_rewind = 0

    # Life.

    def start(self) -> None:
        """Begin to serve on the running loop, and to read, unless it waits for clients."""
        super().start()
        self._begin_if_due()

    def _begin_if_due(self) -> None:
        if self._state == "waiting" and self._all_clients >= self.lines.wait_for:
            self._state = "reading"
            self._due_since = time.monotonic()
            self._reader.resume()

    async def finished(self) -> None:
        """Wait for the end of the source and of what is on its way; for ever with `keep_open`."""
        await self._finished.wait()
        delivered, progress = -1, time.monotonic()
        while (account := self._topic.account())["pending"]:
            now = time.monotonic()
            if account["delivered"] > delivered:
                delivered, progress = account["delivered"], now
            elif now - progress > LEAST_PROGRESS:
                break
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Read no more, send what is on its way, close every client with 1001."""
        self._reader.pause()
        await self._stop("end of the source" if self._finished.is_set() else "")

    def close(self) -> None:
        """Let go of everything at once."""
        if self._fd is not None:
            self._reader.pause()
            close_source(self.lines.source, self._fd)
            self._fd = None
        super().close()

    def _cancel_timers(self) -> None:
        super()._cancel_timers()
        if self._again is not None:
            self._again.cancel()
            self._again = None

    # From the source to the topic.

    def _take(self, data: bytes) -> None:
        noted = self._splitter.not_utf8, self._splitter.cut
        self._waiting += self._splitter.feed(data)
        self._warn(*noted)
        self._publish()

    def _publish(self) -> None:
        """Publish of the waiting lines what is due and what the topic takes; go on accordingly."""
        if self._state == "held":  # _publish_next goes on
            return
        self._again = None
        due = self._waiting[: self._allowance()] if self.lines.rate != "max" else self._waiting
        held = False
        try:
            taken = self._topic.publish_all(due, text=True)
        except LogFull as full:
            taken, held = full.published, True
        if taken:
            self._published += taken
            del self._waiting[:taken]
        if self._waiting:
            self._state = "held" if held else "reading"
            self._reader.pause()
            loop = asyncio.get_running_loop()
            self._again = (
                loop.create_task(self._publish_next())
                if held
                else loop.call_later(self._pause(), self._publish)
            )
        elif self._at_end:
            self._end()
        else:
            self._state = "reading"
            self._reader.resume()

    async def _publish_next(self) -> None:
        """Publish the first of the waiting lines when the clients have made room, and go on."""
        try:
            await self._topic.publish_wait(self._waiting[0], text=True)
        except ConnectionClosed:  # the server ends
            return
        del self._waiting[0]
        self._published += 1
        self._due_since, self._due_from = time.monotonic(), self._published  # the pace begins anew
        self._state = "reading"
        self._publish()

    def _allowance(self) -> int:
        """How many of the waiting lines are due at the rate."""
        assert self.lines.rate != "max"
        due = int((time.monotonic() - self._due_since) * self.lines.rate)
        return max(0, due + 1 - (self._published - self._due_from))

    def _pause(self) -> float:
        """Seconds until the next line is due."""
        assert self.lines.rate != "max"  # then nothing waits but for room
        now = time.monotonic()
        next_due = self._due_since + (self._published - self._due_from) / self.lines.rate
        return max(TICK, next_due - now)

    def _source_ended(self, error: OSError | None) -> None:
        noted = self._splitter.not_utf8, self._splitter.cut
        self._waiting += self._splitter.finish()
        self._warn(*noted)
        if error is not None:
            logger.error("%s cannot be read: %s", self._name, error.strerror)
            self.status = 1
        if error is None and self.lines.repeat and self._rewind():
            self._publish()
            return
        self._at_end = True
        self._publish()

    def _rewind(self) -> bool:
        """Begin again, unless the file held no line."""
        if self._splitter.lines == self._lines_at_rewind:
            return False
        self._lines_at_rewind = self._splitter.lines
        return self._reader.rewind()

    def _end(self) -> None:
        self._state = "ended"
        if self._write_line is not None:
            self._write_line(f"end of {self._name}: {self._published:,} lines")
            if not self._all_clients:
                self._write_line("nobody was connected: see --wait-for and --keep-open")
        if not self.lines.keep_open:
            self._finished.set()

    def _warn(self, not_utf8: int, cut: int) -> None:
        """Say of the first line that is not UTF-8, or too long, which one it is."""
        splitter = self._splitter
        if splitter.not_utf8 and not not_utf8:
            logger.warning(
                "line %d is not UTF-8: sent with U+FFFD for what is not; others are counted",
                splitter.first_not_utf8,
            )
        if splitter.cut and not cut:
            logger.warning(
                "line %d is longer than %d bytes (--max-line) and was cut; others are counted",
                splitter.first_cut,
                self.lines.max_line,
            )

    # The App of the server.

    def http(self, request: Request) -> Response:
        """Answer with the page or the counts."""
        return self.page(request) or self._api.handle(request)

    def refuse(self, error: HandshakeError) -> Response:
        """Answer a refused request, readable across origins."""
        return self._api.refuse(error)

    def opened(self, connection: Connection, request: Request) -> None:
        """Give a new client the last lines, then all that follow."""
        super().opened(connection, request)

    def _client_came(self, connection: Connection) -> None:
        super()._client_came(connection)
        self._begin_if_due()

    def _subscribe(self, connection: Connection, own: dict[str, Any]) -> None:
        newest, last = self._topic.seq, max(self.lines.last, self._options.retain)
        since = (self._topic.epoch, newest - min(last, newest + 1))
        if not self._topic.position(since).recovered:  # age or the budget has taken some of them
            kept = self._topic.history(last)
            since = (self._topic.epoch, kept[0].seq - 1 if kept else newest)
        connection.subscribe(self._topic, since=since, **own)

    # What is shown.

    def _show_second(self) -> None:
        second = self._seconds
        if self._show_row is not None and (self._clients or second.appended):
            self._show_row(
                f"[Lines] {second.appended:,}/s | delivered: {second.delivered:,}/s | "
                f"connections: {self._clients:,} | lag: {greatest_lag(self._engine):.1f}s | "
                f"dropped: {second.dropped:,}/s | {self._state}"
            )

    def stats(self) -> dict[str, object]:
        """Return the object of `GET /stats`."""
        splitter = self._splitter
        return {
            "serverRate": self._seconds.delivered,
            "source": {
                "name": Path(self._name).name,  # others need not know the folder
                "topic": self.lines.topic,
                "state": self._state,
                "lines": splitter.lines,
                "published": self._published,
                "rate": self._seconds.appended,
                "notUtf8": splitter.not_utf8,
                "cut": splitter.cut,
            },
            "server": {
                **self._engine.account(),
                "connections": self._clients,
                "lastClientUs": last_client_wire(self._engine),
                "topics": topics_wire(self._engine),
                "clients": clients_wire(self._engine),
            },
        }

    def summary(self) -> str:
        """Return one line about the whole life."""
        splitter = self._splitter
        odd = [
            f"{splitter.not_utf8:,} not UTF-8 (the first: {splitter.first_not_utf8:,})"
            if splitter.not_utf8
            else "",
            f"{splitter.cut:,} cut (the first: {splitter.first_cut:,})" if splitter.cut else "",
        ]
        lines = ", ".join([f"{self._published:,} lines", *filter(None, odd)])
        return f"{lines}; {super().summary()}"
