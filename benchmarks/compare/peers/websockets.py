"""websockets under uvloop: `broadcast`, which encodes a message once; no compression, no pings."""

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.compare.peers.common import BACKLOG, Rooms, Source, options, until_ended


async def main() -> None:
    """Serve."""
    load = options()
    source = Source(load)
    rooms = Rooms[ServerConnection](source)

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        echo = load.echoes(connection.request.path)
        if not echo:
            rooms.join(connection)
        async for message in connection:
            if echo:
                await connection.send(message)
            else:
                source.told(message)

    async def publish() -> None:
        while True:
            await source.wait()
            for topic, message in source.burst():
                broadcast(rooms.of[topic], message.decode())

    async with serve(
        handle, "127.0.0.1", load.port, compression=None, ping_interval=None, backlog=BACKLOG
    ):
        publishing = None if load.echo else asyncio.create_task(publish())
        await until_ended()
        if publishing is not None:
            publishing.cancel()


if __name__ == "__main__":
    uvloop.run(main())
