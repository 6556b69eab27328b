"""What an idle connection with a coroutine handler costs in Python objects."""

import asyncio
import gc
import socket
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from fastws import Connection, Limits, serve

Run = Callable[[Any], Any]

CONNECTIONS = 300
# Python's part of the 4,096 bytes that are allowed; the rest is for the core and the allocators.
MOST = 2900  # bytes
# The head of a browser's request.
HEAD = (
    b"GET /prices?symbol=BTC HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n"
    b"Pragma: no-cache\r\nCache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux)\r\n"
    b"Upgrade: websocket\r\nOrigin: http://127.0.0.1\r\nSec-WebSocket-Version: 13\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def wait_for_messages(ws: Connection) -> None:
    async for _ in ws:
        pass


async def dial(port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    peer = socket.socket()
    peer.setblocking(False)
    await loop.sock_connect(peer, ("127.0.0.1", port))
    await loop.sock_sendall(peer, HEAD)
    assert (await loop.sock_recv(peer, 4096)).startswith(b"HTTP/1.1 101 ")
    return peer


def traced() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the size of a Task changes by version")
def test_an_idle_connection_with_async_for_takes_little_memory(run: Run) -> None:
    async def case() -> float:
        async with serve(wait_for_messages, limits=Limits(ping_interval=0)) as server:
            port = server.sockets[0].getsockname()[1]
            peers = [await dial(port) for _ in range(20)]
            tracemalloc.start()
            try:
                before = traced()
                more = [await dial(port) for _ in range(CONNECTIONS)]
                of_peers = CONNECTIONS * sys.getsizeof(more[0])
                return (traced() - before - of_peers) / CONNECTIONS
            finally:
                tracemalloc.stop()
                for each in peers + more:
                    each.close()

    assert run(case()) < MOST


def test_the_fields_of_a_request_can_be_read_at_any_time(run: Run) -> None:
    async def case() -> None:
        found: list[object] = []

        async def handler(ws: Connection) -> None:
            request = ws.request
            found.append((request.path, request.query, request.headers["origin"]))
            found.append(request.values("sec-websocket-version"))
            found.append(request.raw_headers[:2])

        async with serve(handler) as server:
            peer = await dial(server.sockets[0].getsockname()[1])
            peer.close()
        assert found == [
            ("/prices", {"symbol": "BTC"}, "http://127.0.0.1"),
            ["13"],
            ((b"host", b"127.0.0.1"), (b"connection", b"Upgrade")),
        ]

    run(case())
