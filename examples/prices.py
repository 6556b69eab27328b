"""Market data: a topic for each symbol, and the last price by HTTP.

ws://127.0.0.1:8080/prices/BTC sends each price of BTC; http://127.0.0.1:8080/prices/BTC is the last
one. A client that cannot follow jumps to the newest price.
"""

import asyncio
import json
import random
import sys
import time

import fastws

app = fastws.App()
last = {"BTC": 50_000.0, "ETH": 3_000.0, "SOL": 100.0}


def quote(symbol: str) -> str:
    """The last price of a symbol, in JSON."""
    return json.dumps({"symbol": symbol, "price": round(last[symbol], 2), "time": time.time()})


@app.get("/prices/{symbol}")
def last_price(request: fastws.Request, symbol: str) -> fastws.Response:
    """Answer with one price."""
    if symbol not in last:
        return fastws.Response(404, "no such symbol\n")
    return fastws.Response(200, quote(symbol), content_type="application/json")


@app.websocket("/prices/{symbol}")
async def follow(ws: fastws.Connection, symbol: str) -> None:
    """Send the last price and all that follow."""
    if symbol not in last:
        await ws.close(1008, "no such symbol")
        return
    ws.subscribe(f"prices/{symbol}")
    await ws.send(quote(symbol))  # nothing is published between these two lines
    async for _ in ws:
        pass  # the client has nothing to say


async def main(port: int = 8080) -> None:
    """Publish a hundred new prices a second until Ctrl-C."""
    async with fastws.serve(app, "127.0.0.1", port) as server:
        topics = {each: server.topic(f"prices/{each}", on_slow="latest") for each in last}
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        while True:
            symbol = random.choice(list(last))
            last[symbol] *= random.uniform(0.999, 1.001)
            topics[symbol].publish(quote(symbol))
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    fastws.run(main(*map(int, sys.argv[1:])))
