"""A log tail: follows a file, also when it is rotated or truncated; `python logtail.py FILE`."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator

import fastws

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><pre></pre><script>
const lines = [], ws = new WebSocket(location.href.replace("http", "ws") + "lines");
ws.onmessage = event => { lines.push(event.data); if (lines.length > 500) lines.shift(); };
ws.onclose = event => lines.push("closed: " + event.code);
setInterval(() => { document.querySelector("pre").textContent = lines.join("\\n"); }, 100);
</script>"""
app = fastws.App()


@app.get("/")
def page(request: fastws.Request) -> fastws.Response:
    """Answer a browser."""
    return fastws.Response(200, PAGE, content_type="text/html; charset=utf-8")


@app.websocket("/lines")
async def follow(ws: fastws.Connection) -> None:
    """Send all lines from now on; a client that is too slow jumps to the newest one."""
    ws.subscribe("lines", on_slow="latest")
    await ws.wait_closed()


async def appended(path: str) -> AsyncIterator[list[str]]:
    """Lines as they are appended; behind a rotation or a truncation the file is begun again."""
    fd, rest, again = os.open(path, os.O_RDONLY), b"", False
    at = os.lseek(fd, 0, os.SEEK_END)
    while True:
        with contextlib.suppress(FileNotFoundError):  # in the middle of a rotation
            again = os.stat(path).st_ino != os.fstat(fd).st_ino or os.stat(path).st_size < at
        data = os.read(fd, 1 << 16)
        *lines, rest = (rest + data).split(b"\n")
        yield [line.decode(errors="replace") for line in lines]
        if again and not data:
            os.close(fd)
            fd, rest = os.open(path, os.O_RDONLY), b""
        at = os.lseek(fd, 0, os.SEEK_CUR)
        await asyncio.sleep(0 if data or again else 0.1)


async def main(path: str, port: str = "8080") -> None:
    """Publish what is appended to the file until Ctrl-C."""
    async with fastws.serve(app, "127.0.0.1", int(port), origins=[]) as server:  # own page only
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        async for lines in appended(path):
            server.topic("lines").publish_all(lines)


if __name__ == "__main__":
    fastws.run(main(*sys.argv[1:])) if sys.argv[1:] else sys.exit(__doc__)
