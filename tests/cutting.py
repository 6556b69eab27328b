"""Connections that are cut anywhere, in the middle of frames too."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

import pytest


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts that fail are repeated at once."""

    def delays() -> Iterator[float]:
        while True:
            yield 0.001

    monkeypatch.setattr("fastws.client.connect.reconnect_delays", delays)


class Relay:
    """Passes bytes on between a client and a server, and cuts off both, so many times."""

    def __init__(self, port: int, draw: random.Random, cuts: int) -> None:
        self._port = port
        self._draw = draw
        self.cuts = 0
        self.left = cuts
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> "Relay":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        upward = asyncio.create_task(self._pass(reader, up_writer, 1 << 60))
        most = self._draw.choice([250, 400, 2000, 20_000]) if self.left > 0 else 1 << 60
        await self._pass(up_reader, writer, self._draw.randrange(most))
        self.left -= 1
        self.cuts += 1
        upward.cancel()
        for each in (writer, up_writer):
            each.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, n: int
    ) -> None:
        with suppress(ConnectionError):
            while n and (data := await reader.read(min(n, 1 << 14))):
                writer.write(data)
                await writer.drain()
                n -= len(data)


def url_of(port: int, name: str, query: str = "") -> str:
    return f"ws://127.0.0.1:{port}/topics/{name}{query}"
