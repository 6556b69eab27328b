"""fastws: one topic; a callback of the loop publishes a burst, the engine's next turn sends it.

The next burst waits until the kernel has the last one for every client: a flush holds one burst.
"""

import asyncio

import uvloop

from benchmarks.compare.peers.common import Options, Source, options, until_ended
from fastws import App, Connection, Request, Server


class Compared(App):
    """Sends messages back, or publishes them to everybody."""

    def __init__(self, load: Options) -> None:
        self.load = load
        self.source = Source(load)
        self.server = Server(self, ping_interval=0)
        self.topic = self.server.topic("load")
        self._running = False

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe a client."""
        if not self.load.echo:
            connection.subscribe(self.topic)
            self.source.joined()
            self._start()

    def message(self, connection: Connection, message: str | bytes) -> None:
        """Send it back, or take what it permits."""
        if self.load.echo:
            connection.send(message)
            return
        self.source.told(message)
        self._start()

    def _start(self) -> None:
        if not self._running:
            self._running = True
            asyncio.get_running_loop().call_soon(self._step)

    def _step(self) -> None:
        self._running = False
        if self.source.due:
            if self.topic.delivered == self.topic.appended * self.source.clients:
                for message in self.source.burst():
                    self.topic.publish(message, text=True)
            self._start()


async def main() -> None:
    """Serve."""
    load = options()
    app = Compared(load)
    app.server.listen("127.0.0.1", load.port)
    app.server.start()
    await until_ended()
    app.server.close()


if __name__ == "__main__":
    uvloop.run(main())
