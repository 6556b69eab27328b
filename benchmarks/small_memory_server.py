"""The server of `small_memory.py`: an echo, topics that are published to, and its counters as JSON.

Path `/feed` subscribes to one topic, `/topic/N` to topic N. `GET /counters` is answered with the
counters of the server and the sums of its accounts.
"""

import argparse
import asyncio
import sys
from contextlib import suppress

from fastws import App, Connection, Limits, LogFull, Response, Server
from fastws.http.request import Request

MESSAGE = b"x" * 1000
EVERY = 0.01  # seconds between two portions of publishing
POLICIES = ("close", "latest", "lossless")


class Small(App):
    """What is served."""

    def __init__(self, topics: int) -> None:
        self.server = Server(self, limits=Limits(max_connections=15_000))
        self.feed = self.server.topic("feed", on_slow="latest")
        self.topics = [
            self.server.topic(f"topic/{i}", on_slow=POLICIES[i % 3])  # type: ignore[arg-type]
            for i in range(topics)
        ]
        self.refused = 0  # calls that raised LogFull

    def http(self, request: Request) -> Response:
        """Answer with the counters."""
        found = {
            "counters": self.server.counters(),
            "account": self.server.engine.account(),
            "connections": len(self.server.engine.connections),
            "refused": self.refused,
        }
        return Response.json(found)

    def opened(self, connection: Connection, request: Request) -> None:
        """Subscribe to what the path says."""
        if request.path != "/":
            connection.subscribe(request.path[1:])

    def message(self, connection: Connection, message: str | bytes) -> None:
        """Echo."""
        with suppress(LogFull):
            connection.send_nowait(message)
            return
        self.refused += 1

    async def publish(self, each: int) -> None:
        """Publish `each` messages to the feed, and as many to the topics in turn, every 10 ms."""
        turn = 0
        while True:
            for _ in range(each):
                topics = [self.feed]
                if self.topics:
                    topics.append(self.topics[turn % len(self.topics)])
                    turn += 1
                for topic in topics:
                    try:
                        topic.publish(MESSAGE)
                    except LogFull:
                        self.refused += 1
            await asyncio.sleep(EVERY)


async def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=0)
    parser.add_argument("--each", type=int, default=0, help="messages every 10 ms")
    options = parser.parse_args()
    app = Small(options.topics)
    ((_, port),) = app.server.listen("127.0.0.1", 0)
    app.server.start()
    publishing = asyncio.create_task(app.publish(options.each))
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    publishing.cancel()
    app.server.close()


if __name__ == "__main__":
    asyncio.run(main())
