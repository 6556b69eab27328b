"""A page in headless Chromium, asked by the DevTools protocol.

`python tests/browser.py URL FILE [SECONDS]` takes a picture of a page, as those in docs/ are made.
"""

import asyncio
import base64
import json
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from surroundings import INSTRUMENTED

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome-stable"))), None
)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run", "--remote-debugging-port=0",
)  # fmt: skip
PATIENCE = 60.0  # seconds; a browser is slow to start on a machine that is busy

no_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
instrumented = pytest.mark.skipif(INSTRUMENTED, reason="Chromium would be instrumented as well")
in_a_browser = [no_browser, instrumented]


class Page:
    """A page that is open: asked for values, and for a picture."""

    def __init__(self, socket: websockets.ClientConnection) -> None:
        self._socket = socket
        self._calls = 0
        self.complaints: list[str] = []  # of the console: errors, violations of the policy

    async def call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters}
        await self._socket.send(json.dumps(message))
        while (answer := json.loads(await self._socket.recv())).get("id") != self._calls:
            self._hear(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _hear(self, event: Any) -> None:
        if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
            self.complaints.append(event["params"]["entry"]["text"])
        elif event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(event["params"]["exceptionDetails"]))

    async def value(self, expression: str) -> Any:
        """What an expression of JavaScript is."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """Wait until it is true; its value."""
        value = None
        try:
            async with asyncio.timeout(PATIENCE):
                while not (value := await self.value(expression)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            shown = await self.value("document.body.innerText")
            raise AssertionError(f"never: {expression}; the page: {shown[:2000]}") from None
        return value

    async def picture(self) -> bytes:
        """What it looks like, a PNG."""
        answer = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


@asynccontextmanager
async def browsing(url: str, profile: Path, *flags: str) -> AsyncIterator[Page]:
    """Chromium on a page, with a profile of its own."""
    process = await asyncio.create_subprocess_exec(
        str(CHROMIUM),
        *FLAGS,
        *flags,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            debugger = await address_of(process)
        async with websockets.connect(debugger, max_size=None) as socket:
            page = Page(socket)
            target = await page.call("Target.createTarget", url="about:blank")
            attached = debugger.split("/devtools")[0] + "/devtools/page/" + target["targetId"]
        async with websockets.connect(attached, max_size=None) as socket:
            page = Page(socket)
            for domain in ("Runtime", "Log", "Page"):
                await page.call(f"{domain}.enable")
            await page.call("Page.navigate", url=url)
            await page.until("location.protocol == 'http:' && document.readyState == 'complete'")
            yield page
    finally:
        process.terminate()
        await process.wait()


async def address_of(process: asyncio.subprocess.Process) -> str:
    """Where the debugger listens, as Chromium says it; the rest it says is read and forgotten."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if line.startswith("DevTools listening on "):
            return line.split()[-1]
    raise AssertionError("Chromium ended")


async def take_picture(url: str, file: str, seconds: str = "0") -> None:
    """Open a page, let it run, and save what it looks like."""
    with tempfile.TemporaryDirectory() as profile:
        async with browsing(url, Path(profile), "--window-size=1000,620") as page:
            await asyncio.sleep(float(seconds))
            picture = await page.picture()
    await asyncio.to_thread(Path(file).write_bytes, picture)


if __name__ == "__main__":
    asyncio.run(take_picture(*sys.argv[1:]))
