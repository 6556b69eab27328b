"""Starlette under granian, embedded in a uvloop: one runtime thread."""

import asyncio

import uvloop
from granian.constants import Interfaces
from granian.server.embed import Server

from benchmarks.compare.peers.asgi import application
from benchmarks.compare.peers.common import options, until_ended


async def main() -> None:
    """Serve."""
    load = options()
    server = Server(
        application(load),
        address="127.0.0.1",
        port=load.port,
        interface=Interfaces.ASGINL,
        log_enabled=False,
    )
    serving = asyncio.create_task(server.serve())
    await until_ended()
    server.stop()
    await serving


if __name__ == "__main__":
    uvloop.run(main())
