"""fastws with an `async def` callback: sends messages back."""

import uvloop

from benchmarks.compare.peers.common import options, until_ended
from fastws import App, Connection, Limits, serve


class Echo(App):
    """Sends messages back."""

    async def message(self, connection: Connection, message: str | bytes) -> None:
        """Send it back, and wait where the client is full."""
        await connection.send(message)


async def main() -> None:
    """Serve."""
    load = options()
    async with serve(Echo(), "127.0.0.1", load.port, limits=Limits(ping_interval=0)):
        await until_ended()


if __name__ == "__main__":
    uvloop.run(main())
