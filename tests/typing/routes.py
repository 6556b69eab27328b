"""Routes: the decorators keep the types of what they decorate."""

import asyncio
from typing import NoReturn

from fastws import App, Connection, Request, Response, serve

app = App()


@app.get("/price/{symbol}")
def price(request: Request, symbol: str) -> Response:
    return Response.json({"symbol": symbol, "all": request.query_all("n")})


@app.post("/orders")
async def order(request: Request) -> Response:
    return Response(201, request.body, [("Location", "/orders/1")], "application/json")


@app.route("/any", "PUT", "PATCH")
def change(request: Request) -> Response:
    return price(request, symbol=request.method)


@app.websocket("/prices/{symbol}")
async def prices(ws: Connection, symbol: str) -> None:
    await ws.send(symbol)


@app.websocket("/for-ever")
async def for_ever(ws: Connection) -> NoReturn:
    while True:
        await ws.send(await ws.recv())


async def main() -> None:
    async with serve(app, ["127.0.0.1", "::1"]) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
