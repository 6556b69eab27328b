"""fastws with a coroutine for each connection: `async for message in ws` sends them back."""

import uvloop

from benchmarks.compare.peers.common import options, until_ended
from fastws import Connection, Limits, serve


async def echo(ws: Connection) -> None:
    """Send messages back, and wait where the client is full."""
    async for message in ws:
        await ws.send(message)


async def main() -> None:
    """Serve."""
    load = options()
    async with serve(echo, "127.0.0.1", load.port, limits=Limits(ping_interval=0)):
        await until_ended()


if __name__ == "__main__":
    uvloop.run(main())
