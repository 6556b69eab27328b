"""Topics: rooms, and what is published to all."""

import asyncio

from fastws import Connection, History, Lag, LogFull, Server, Topic, broadcast, serve


class Chat:
    """Holds the server, so that its handler is a method."""

    def __init__(self) -> None:
        self.server: Server = serve(self.handle)
        self.server.topics("room/*", on_slow="close", max_lag=Lag(messages=100))

    async def handle(self, ws: Connection) -> None:
        room: Topic = self.server.topic(f"room/{ws.request.query['room']}")
        subscription = ws.subscribe(room, on_slow="latest")
        async for message in ws:
            try:
                room.publish(message, exclude=ws)
            except LogFull:
                break
        subscription.unsubscribe()
        print(subscription.account()["delivered"] + 1)

    def announce(self, text: str) -> int:
        news = self.server.topic("news", history=History(messages=10))
        for slow in broadcast(self.server.connections, text):
            slow.close(1013, "too slow")
        return news.publish_all([text, text.encode()]) + 1


async def main() -> None:
    chat = Chat()
    async with chat.server:
        chat.announce("hello")
        await chat.server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
