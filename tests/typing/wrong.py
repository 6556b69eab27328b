"""What a type checker must refuse: each line with an ignore would be an error without it."""

import fastws
from fastws import App, Connection, Request, Response

app = App()


@app.get("/")  # type: ignore[type-var]
def no_response(request: Request) -> str:
    return ""


@app.websocket("/")  # type: ignore[type-var]
def not_async(ws: Connection) -> None:
    """A WebSocket handler is async."""


@app.websocket("/x")  # type: ignore[type-var]
async def takes_a_request(request: Request) -> None:
    """It takes a connection."""


@app.post("/x")  # type: ignore[type-var]
def takes_a_connection(ws: Connection) -> Response:
    return Response()


async def handler(ws: Connection) -> None:
    ws.send("forgotten")  # type: ignore[unused-coroutine]
    await ws.send(3)  # type: ignore[arg-type]
    ws.subscribe("x", on_slow="never")  # type: ignore[arg-type]
    print(ws.request.nothing)  # type: ignore[attr-defined]


def plain(ws: Connection) -> None:
    """Not async."""


fastws.serve(plain)  # type: ignore[arg-type]
fastws.serve(handler, 8080)  # type: ignore[arg-type]
