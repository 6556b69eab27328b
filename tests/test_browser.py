"""A page in a real browser: headless Chromium, `new WebSocket` with a subprotocol."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from surroundings import INSTRUMENTED

from fastws import App, Connection, Request, Response, serve

Run = Callable[[Any], Any]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome-stable"))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
)  # fmt: skip
PATIENCE = 60.0  # seconds; a browser is slow to start on a machine that is busy

PAGE = """<!DOCTYPE html><title>chat</title><script>
const socket = new WebSocket(`ws://${location.host}/chat`, ["other", "chat"])
socket.onopen = () => socket.send(`speaks ${socket.protocol}`)
socket.onmessage = event => socket.send(`got ${event.data}`)
socket.onclose = event => fetch(`/closed?code=${event.code}&reason=${event.reason}`)
</script>"""


@asynccontextmanager
async def browsing(url: str, profile: Path) -> AsyncIterator[None]:
    """Chromium on a page, with a profile of its own."""
    browser = await asyncio.create_subprocess_exec(
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={profile}",
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        browser.terminate()
        await browser.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.skipif(INSTRUMENTED, reason="Chromium would be instrumented as well")
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
