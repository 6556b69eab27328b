"""The Starlette application of the uvicorn and granian rows: one `send_text` to each client."""

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from benchmarks.compare.peers.common import Options, Rooms, Source


class Room:
    """The clients, and what publishes to them."""

    def __init__(self, load: Options) -> None:
        self._load = load
        self._source: Source | None = None
        self._rooms: Rooms[WebSocket] | None = None
        self._publishing: asyncio.Task[None] | None = None

    async def handle(self, websocket: WebSocket) -> None:
        """Serve a client."""
        await websocket.accept()
        source = self._source or self._start()
        echo = self._load.echoes(websocket.url.path)
        if not echo:
            self._rooms.join(websocket)
        try:
            while True:
                text = await websocket.receive_text()
                if echo:
                    await websocket.send_text(text)
                else:
                    source.told(text)
        except WebSocketDisconnect:
            pass

    def _start(self) -> Source:
        self._source = source = Source(self._load)
        self._rooms = Rooms(source)
        if not self._load.echo:
            self._publishing = asyncio.create_task(self._publish(source))
        return source

    async def _publish(self, source: Source) -> None:
        while True:
            await source.wait()
            for topic, message in source.burst():
                text = message.decode()
                for client in self._rooms.of[topic]:
                    await client.send_text(text)


def application(load: Options) -> Any:
    """Return the ASGI application."""
    return Starlette(routes=[WebSocketRoute("/{path:path}", Room(load).handle)])
