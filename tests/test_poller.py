"""What becomes of an engine whose poller fails: something else has closed its descriptor."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import eventually
from support import Rig

from fastws import Connection, serve

Run = Callable[[Any], Any]


def break_poller(fd: int) -> None:
    """Put another file in the place of the epoll descriptor."""
    with open(os.devnull, "rb") as other:
        os.dup2(other.fileno(), fd)


@pytest.mark.parametrize("timeout", [0.0, 0.01])
def test_a_turn_says_that_the_poller_has_failed(timeout: float) -> None:
    with Rig() as rig:
        rig.connect()
        break_poller(rig.engine.fileno())
        for _ in range(2):
            with pytest.raises(OSError, match="Invalid argument"):
                rig.engine.turn(timeout)


def test_a_server_tells_the_loop_once_and_takes_no_more_turns(run: Run) -> None:
    async def idle(ws: Connection) -> None:
        await ws.wait_closed()

    async def case() -> None:
        told: list[object] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(context.get("exception")))
        server = serve(idle)
        await server
        loop.remove_reader(server.engine.fileno())
        break_poller(server.engine.fileno())
        server.engine.topic("news")  # asks for a turn, which need not look at the sockets
        server._driver._ready()  # as the loop does when there are events
        await eventually(lambda: told)
        for _ in range(20):
            await asyncio.sleep(0)
        assert [type(each) for each in told] == [OSError]
        loop.set_exception_handler(None)
        server.close()

    run(case())
