"""A feed of lines on the running loop, whose source is a FIFO that the test writes to."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from support import CLOSE, PATIENCE, PING, TEXT, Client, Site, limited

from fastws import ServeOptions
from fastws.lines.config import LinesOptions
from fastws.lines.feed import LinesFeed
from fastws.ticks.config import FEED_LIMITS

OF_LINES = {"topic", "rate", "max_line", "last", "wait_for", "repeat", "keep_open"}


class LineSite(Site):
    """Like Site; `write` puts bytes into the source, `end` ends it."""

    def __init__(
        self,
        folder: Path,
        *,
        source: str = "",
        lines: Callable[[str], None] | None = None,
        **options: Any,
    ) -> None:
        self._path = source or str(folder / "fifo")
        if not source:
            os.mkfifo(self._path)
        own = {name: options.pop(name) for name in OF_LINES & options.keys()}
        usual = {"port": 0, "max_lag": 0, "min_rate": 0}
        self.feed: LinesFeed = LinesFeed(  # type: ignore[assignment]
            ServeOptions(**limited(usual | options, FEED_LIMITS)),
            LinesOptions(source=self._path, **own),
            lines,
        )
        self.addresses = self.feed.listen()
        self.port = self.addresses[0][1]
        self._sink = -1 if source else os.open(self._path, os.O_WRONLY)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.end()
        await super().__aexit__()

    async def write(self, data: bytes) -> None:
        """Write all of it, however long the source is not read."""
        async with asyncio.timeout(PATIENCE):
            await asyncio.to_thread(self._write, data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._sink, data) :]

    def end(self) -> None:
        if self._sink >= 0:
            os.close(self._sink)
            self._sink = -1

    async def finished(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.feed.finished()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110  # no event tells it
                await asyncio.sleep(0.005)


def numbered(n: int, size: int = 100) -> list[bytes]:
    """Lines that are all different, of so many bytes."""
    return [f"{i} ".ljust(size, "x").encode() for i in range(n)]


async def texts(client: Client, n: int) -> list[bytes]:
    """The payloads of the next n frames, all of them text."""
    found: list[bytes] = []
    while len(found) < n:
        opcode, payload = await client.frame()
        assert opcode in (TEXT, PING), (opcode, payload)
        if opcode == TEXT:
            found.append(payload)
    return found


async def until_close(client: Client) -> tuple[list[bytes], bytes]:
    """All texts up to the Close, and its payload."""
    found = []
    while (frame := await client.frame())[0] == TEXT:
        found.append(frame[1])
    assert frame[0] == CLOSE, frame
    return found, frame[1]
