"""aiohttp under uvloop: one `send_str` to each client, no compression, no access log."""

import asyncio

import uvloop
from aiohttp import WSMsgType, web

from benchmarks.compare.peers.common import BACKLOG, Rooms, Source, options, until_ended


async def main() -> None:
    """Serve."""
    load = options()
    source = Source(load)
    rooms = Rooms[web.WebSocketResponse](source)

    async def handle(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse(compress=False)
        await response.prepare(request)
        echo = load.echoes(request.path)
        if not echo:
            rooms.join(response)
        async for message in response:
            if message.type != WSMsgType.TEXT:
                break
            if echo:
                await response.send_str(message.data)
            else:
                source.told(message.data)
        return response

    async def publish() -> None:
        while True:
            await source.wait()
            for topic, message in source.burst():
                text = message.decode()
                for client in rooms.of[topic]:
                    await client.send_str(text)

    app = web.Application()
    app.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", load.port, shutdown_timeout=0.1, backlog=BACKLOG)
    await site.start()
    publishing = None if load.echo else asyncio.create_task(publish())
    await until_ended()
    if publishing is not None:
        publishing.cancel()


if __name__ == "__main__":
    uvloop.run(main())
