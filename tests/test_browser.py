"""A page in a real browser: headless Chromium, `new WebSocket` with a subprotocol."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browser import PATIENCE, browsing, in_a_browser

from fastws import App, Connection, Request, Response, serve

Run = Callable[[Any], Any]
pytestmark = in_a_browser

PAGE = """<!DOCTYPE html><title>chat</title><script>
const socket = new WebSocket(`ws://${location.host}/chat`, ["other", "chat"])
socket.onopen = () => socket.send(`speaks ${socket.protocol}`)
socket.onmessage = event => socket.send(`got ${event.data}`)
socket.onclose = event => fetch(`/closed?code=${event.code}&reason=${event.reason}`)
</script>"""


def test_a_page_that_asks_for_a_subprotocol_connects(run: Run, tmp_path: Path) -> None:
    app = App()

    async def story() -> None:
        heard: list[str | bytes] = []
        closed: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

        @app.get("/")
        def page(request: Request) -> Response:
            return Response(200, PAGE, content_type="text/html; charset=utf-8")

        @app.get("/closed")
        def note(request: Request) -> Response:
            closed.set_result(request.query)
            return Response(204)

        @app.websocket("/chat")
        async def chat(ws: Connection) -> None:
            heard.append(await ws.recv())
            await ws.send("hello")
            heard.append(await ws.recv())
            await ws.close(4000, "bye")

        async with serve(app, "127.0.0.1", 0, subprotocols=["chat"]) as server:
            port = server.sockets[0].getsockname()[1]
            async with browsing(f"http://127.0.0.1:{port}/", tmp_path / "profile"):
                async with asyncio.timeout(PATIENCE):
                    assert await closed == {"code": "4000", "reason": "bye"}
        assert heard == ["speaks chat", "got hello"]

    run(story())
