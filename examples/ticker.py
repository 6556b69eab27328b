"""A ticker without a handler: clients subscribe by the path, and come back where they were.

`python ticker.py` serves ws://127.0.0.1:8080/topics/prices to any WebSocket client.
`python ticker.py follow URL` prints it, also when the server was away in between. Without a query
it gets each price, with `?onSlow=latest&maxRate=5` the newest one five times a second.
"""

import asyncio
import json
import random
import sys

import fastws


def allowed(request: fastws.Request, topic: str) -> bool | None:
    """Let a client have every topic that exists, but those of the staff."""
    return False if topic.startswith("staff") else None


async def serve(port: int = 8080) -> None:
    """Publish twenty prices a second until Ctrl-C."""
    app = fastws.App()
    app.plain_topics(allowed)
    async with fastws.serve(app, "127.0.0.1", port) as server:
        prices = server.topic("prices", history=fastws.History(messages=10_000), retain=True)
        server.topic("staff", retain=True)
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        price = 50_000.0
        while True:
            price *= random.uniform(0.999, 1.001)
            prices.publish(json.dumps({"symbol": "BTC", "price": round(price, 2)}))
            await asyncio.sleep(0.05)


async def follow(url: str = "ws://127.0.0.1:8080/topics/prices") -> None:
    """Print what comes, connection after connection."""
    async for ws in fastws.connect(url):
        if ws.recovered is False:
            print("some prices are lost", flush=True)
        try:
            async for message in ws:
                print(ws.position, message, flush=True)
        except fastws.ConnectionClosed as closed:
            print(f"connecting again: {closed}", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["follow"]:
        fastws.run(follow(*sys.argv[2:]))
    else:
        fastws.run(serve(*map(int, sys.argv[1:])))
