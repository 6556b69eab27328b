"""Starlette under uvicorn: uvloop, its sans-I/O WebSockets, no compression, no pings, no log."""

import uvicorn

from benchmarks.compare.peers.asgi import application
from benchmarks.compare.peers.common import options


def main() -> None:
    """Serve."""
    load = options()
    uvicorn.run(
        application(load),
        host="127.0.0.1",
        port=load.port,
        loop="uvloop",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,
        log_level="error",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
