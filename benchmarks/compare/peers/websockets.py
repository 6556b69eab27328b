"""websockets under uvloop: `broadcast`, which encodes a message once; no compression, no pings."""

import asyncio

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.compare.peers.common import Source, options, until_ended


async def main() -> None:
    """Serve."""
    load = options()
    source = Source(load)
    clients: set[ServerConnection] = set()

    async def handle(connection: ServerConnection) -> None:
        clients.add(connection)
        source.joined()
        async for message in connection:
            if load.echo:
                await connection.send(message)
            else:
                source.told(message)

    async def publish() -> None:
        while True:
            await source.wait()
            for message in source.burst():
                broadcast(clients, message.decode())

    async with serve(handle, "127.0.0.1", load.port, compression=None, ping_interval=None):
        publishing = None if load.echo else asyncio.create_task(publish())
        await until_ended()
        if publishing is not None:
            publishing.cancel()


if __name__ == "__main__":
    uvloop.run(main())
