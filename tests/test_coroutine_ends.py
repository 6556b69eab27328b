"""Coroutine handlers and what surrounds them: ends, contexts, the loop; both loops."""

import asyncio
import contextvars
import socket
from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import eventually
from support import PATIENCE, UPGRADE
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import fastws
from fastws import Connection, Server, serve

Run = Callable[[Any], Any]


def dial(server: Server) -> connect:
    """A client of websockets."""
    return connect(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")


def test_messages_that_wait_survive_the_end_of_their_connection(run: Run) -> None:
    async def story() -> None:
        got: list[str | bytes] = []
        going, done = asyncio.Event(), asyncio.Event()

        async def handler(ws: Connection) -> None:
            got.append(await ws.recv())
            await going.wait()
            async for message in ws:
                got.append(message)
            done.set()

        async with serve(handler, "127.0.0.1", 0) as server, dial(server) as client:
            for i in range(14):
                await client.send(str(i))
            await client.close()
            await eventually(lambda: not server.engine.live)
            going.set()
            async with asyncio.timeout(PATIENCE):
                await done.wait()
        assert got == [str(i) for i in range(14)]

    run(story())


def test_a_handler_does_not_give_its_context_to_others(run: Run) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def story() -> None:
        seen: list[str] = []
        both = asyncio.Event()

        async def handler(ws: Connection) -> None:
            seen.append(user.get())
            if len(seen) == 2:
                both.set()
                return
            await asyncio.sleep(0.01)  # resumed by the loop, in the context of its task
            user.set("somebody")
            other.sendall(UPGRADE)  # so that the turn for this send hears of the other client
            await ws.send("hello")
            await ws.recv()

        async with serve(handler, "127.0.0.1", 0) as server:
            with socket.create_connection(server.sockets[0].getsockname()) as other:
                async with dial(server) as client, asyncio.timeout(PATIENCE):
                    assert await client.recv() == "hello"
                    await both.wait()
        assert seen == ["nobody"] * 2

    run(story())


def test_a_sleep_of_nothing_lets_others_run(run: Run) -> None:
    async def story() -> None:
        order: list[str] = []

        async def handler(ws: Connection) -> None:
            async for _ in ws:
                asyncio.get_running_loop().call_soon(order.append, "other")
                await asyncio.sleep(0)
                order.append("handler")
                await ws.send("done")

        async with serve(handler, "127.0.0.1", 0) as server, dial(server) as client:
            for _ in range(3):
                await client.send("go")
                assert await client.recv() == "done"
        assert order == ["other", "handler"] * 3

    run(story())


def test_a_handler_that_is_cancelled_leaves_no_open_connection(run: Run) -> None:
    async def story() -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def handler(ws: Connection) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.append(task)
            await ws.send("hello")
            await ws.recv()

        async with serve(handler, "127.0.0.1", 0) as server, dial(server) as client:
            assert await client.recv() == "hello"
            tasks[0].cancel()
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1011

    run(story())


def test_each_receive_behind_the_end_raises_an_exception_of_its_own(run: Run) -> None:
    async def story() -> None:
        errors: list[BaseException] = []
        done = asyncio.Event()

        async def handler(ws: Connection) -> None:
            for _ in range(3):
                try:
                    await ws.recv()
                except fastws.ConnectionClosed as error:
                    errors.append(error)
            done.set()

        async with serve(handler, "127.0.0.1", 0) as server:
            async with dial(server):
                await eventually(lambda: server.connections)
            await done.wait()
        assert len(set(map(id, errors))) == 3
        assert {str(error) for error in errors} == {"1000"}

    run(story())


def test_a_close_can_be_a_task(run: Run) -> None:
    async def story() -> None:
        async def handler(ws: Connection) -> None:
            await asyncio.create_task(ws.close(4000, "bye"))

        async with serve(handler, "127.0.0.1", 0) as server, dial(server) as client:
            with pytest.raises(ConnectionClosed) as caught:
                await client.recv()
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 4000

    run(story())
