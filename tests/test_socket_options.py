"""The options of a connection's socket at the server."""

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect

from fastws import Connection, serve

Run = Callable[[Any], Any]

TCP_NOTSENT_LOWAT = 25  # linux/tcp.h; the module socket has it not


async def wait_for_messages(ws: Connection) -> None:
    async for _ in ws:
        pass


def accepted_from(address: tuple[str, int]) -> socket.socket:
    """A copy of this process's socket whose peer has that address."""
    for name in os.listdir("/proc/self/fd"):
        try:
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        try:
            if copy.getpeername()[:2] == address[:2]:
                return copy
        except OSError:
            pass
        copy.close()
    raise AssertionError(f"no socket has the peer {address}")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_messages_leave_at_once_and_the_kernel_holds_little(run: Run, host: str) -> None:
    async def case() -> None:
        async with serve(wait_for_messages, host) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(
                f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"
            ) as peer:
                with accepted_from(peer.local_address) as accepted:
                    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
                    assert accepted.getsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT) == 16384

    run(case())
