"""fastws: a callback of the loop publishes a burst, the engine's next turn sends it.

The next burst waits until the kernel has the last one for every client, so that a flush holds one
burst; with --free it does not wait.
"""

import asyncio

import uvloop

from benchmarks.compare.peers.common import Options, Source, options, until_ended
from fastws import App, Connection, Limits, Request, Server


class Compared(App):
    """Sends messages back, or publishes them to everybody."""

    def __init__(self, load: Options) -> None:
        self.load = load
        self.source = Source(load)
        self.server = Server(self, limits=Limits(ping_interval=0))
        self.topics = {name: self.server.topic(name) for name in self.source.topics}
        self.last = self.topics[self.source.topics[0]]  # published to
        self._running = False

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe a client."""
        connection.context = self.load.echoes(request.path)
        if not connection.context:
            for topic in self.topics.values():
                connection.subscribe(topic)
            self.source.joined()
            self._start()

    def message(self, connection: Connection, message: str | bytes) -> None:
        """Send it back, or take what it permits."""
        if connection.context:
            connection.send_nowait(message)
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
            # A connection gets what was published in that order, across topics: who has the last
            # message has all.
            if self.load.free or self.last.delivered == self.last.appended * self.source.clients:
                for name, message in self.source.burst():
                    self.last = self.topics[name]
                    self.last.publish(message, text=True)
            self._start()


async def main() -> None:
    """Serve."""
    load = options()
    app = Compared(load)
    app.server.listen("127.0.0.1", load.port)
    app.server.start()
    await until_ended()
    app.source.stop()
    app.server.close()


if __name__ == "__main__":
    uvloop.run(main())
