"""News that nobody misses: a client that comes back gets what it has not had yet.

ws://127.0.0.1:8080/ begins now. Its first message is its position,
{"epoch": ..., "seq": 40, "recovered": null}: the news that follow are 41, 42, ... A client that
lost its connection comes back with what it has: ws://127.0.0.1:8080/?epoch=...&seq=57. Where
`recovered` is false, it has missed something.
"""

import asyncio
import itertools
import json
import sys

import fastws


async def follow(ws: fastws.Connection) -> None:
    """Tell where the client is, then send what follows."""
    news = ws.engine.topic("news")
    try:
        since = (ws.request.query["epoch"], int(ws.request.query["seq"]))
        begins = news.position(since)
    except (KeyError, ValueError):
        since, begins = None, news.position()
    ws.send_nowait(json.dumps(begins._asdict()))
    ws.subscribe(news, since=since)
    await ws.wait_closed()


async def main(port: int = 8080) -> None:
    """Publish news twenty times a second until Ctrl-C."""
    async with fastws.serve(follow, "127.0.0.1", port) as server:
        news = server.topic("news", history=fastws.History(messages=10_000))
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        for number in itertools.count():
            news.publish(f"news {number}")
            await asyncio.sleep(0.05)


if __name__ == "__main__":
    fastws.run(main(*map(int, sys.argv[1:])))
