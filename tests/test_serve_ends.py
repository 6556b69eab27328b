"""Every way in which a server of `fastws.serve` ends; both loops."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from handler_apps import echo, echoed, eventually, idle, others, websocket, where
from support import PATIENCE
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from fastws import Connection, Server, serve

Run = Callable[[Any], Any]


def test_connections_are_the_open_ones(run: Run) -> None:
    async def case() -> None:
        async with serve(idle) as server:
            assert server.connections == []
            async with connect(*where(server)), connect(*where(server)) as client:
                await eventually(lambda: len(server.connections) == 2)
                assert all(each.is_open for each in server.connections)
                await client.close()
                await eventually(lambda: len(server.connections) == 1)
        assert server.connections == []

    run(case())


def test_stop_says_1001_to_handlers_and_clients_and_waits_for_the_handlers(run: Run) -> None:
    async def case() -> None:
        ends: list[str] = []

        async def handler(ws: Connection) -> None:
            async for _ in ws:
                pass
            await asyncio.sleep(0.01)
            ends.append(f"{ws.close_code}")

        server = await serve(handler)
        async with connect(*where(server)) as client:
            await eventually(lambda: server.connections)
            await asyncio.gather(server.stop(), client.wait_closed())
            assert client.close_code == 1001
        assert ends == ["1001"]
        assert not others()

    run(case())


def test_a_handler_that_never_ends_is_cancelled_at_the_end_of_the_grace(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        seen: list[str] = []

        async def handler(ws: Connection) -> None:
            seen.append("begun")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                seen.append("cleaned up")
                raise

        server = await serve(handler)
        client = await websocket(server.sockets[0].getsockname())
        async with client:
            await eventually(lambda: seen == ["begun"])
            began = asyncio.get_running_loop().time()
            await server.stop(grace=0.2)
            took = asyncio.get_running_loop().time() - began
        assert seen == ["begun", "cleaned up"]
        assert 0.2 <= took < 1.2
        assert not others()
        assert not caplog.records

    run(case())


def test_a_handler_that_is_not_done_when_cancelled_is_left_behind_and_said(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        gate = asyncio.Event()

        async def handler(ws: Connection) -> None:
            while not gate.is_set():
                with suppress(asyncio.CancelledError):
                    await gate.wait()

        server = await serve(handler)
        async with await websocket(server.sockets[0].getsockname()):
            await eventually(others)
            await server.stop(grace=0)
        (record,) = caplog.records
        assert record.getMessage().startswith("1 tasks of handlers did not end")
        gate.set()
        await eventually(lambda: not others())

    run(case())


def test_stop_with_a_grace_that_is_none_is_refused(run: Run) -> None:
    async def case() -> None:
        async with serve(echo) as server:
            for grace in (-1, float("nan")):
                with pytest.raises(ValueError, match="grace"):
                    await server.stop(grace=grace)
            assert await echoed(*where(server))

    run(case())


def test_a_handler_may_stop_the_server_and_goes_on_behind_it(run: Run) -> None:
    async def case() -> None:
        seen: list[object] = []
        server: Server

        async def handler(ws: Connection) -> None:
            async for message in ws:
                if message == "stop":
                    await server.stop()
                    seen.append(("stopped", ws.close_code, server.ended))

        async with serve(handler) as server:
            async with connect(*where(server)) as other, connect(*where(server)) as client:
                await client.send("stop")
                async with asyncio.timeout(PATIENCE):
                    await server.serve_forever()
                await asyncio.gather(client.wait_closed(), other.wait_closed())
                assert (client.close_code, other.close_code) == (1001, 1001)
            await eventually(lambda: seen == [("stopped", 1001, True)])

    run(case())


def test_close_cuts_off_at_once_and_cancels_the_handlers(run: Run) -> None:
    async def case() -> None:
        seen: list[str] = []

        async def handler(ws: Connection) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        server = await serve(handler)
        async with connect(*where(server)) as client:
            await eventually(lambda: server.connections and others())
            server.close()
            server.close()
            assert server.sockets == ()
            await server.wait_closed()
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            await eventually(lambda: seen == ["cancelled"])

    run(case())


def test_close_during_stop_ends_it_at_once(run: Run) -> None:
    async def case() -> None:
        server = await serve(idle)
        async with await websocket(server.sockets[0].getsockname()):
            await eventually(lambda: server.connections)
            stopping = asyncio.create_task(server.stop(grace=60))
            waiting = asyncio.create_task(server.wait_closed())
            await asyncio.sleep(0)
            server.close()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(stopping, waiting)

    run(case())


def test_serve_forever_ends_with_the_server(run: Run) -> None:
    async def case() -> None:
        for end in ("stop", "close"):
            async with serve(echo) as server:
                waiting = asyncio.create_task(server.serve_forever())
                assert await echoed(*where(server))
                assert not waiting.done()
                if end == "stop":
                    await server.stop()
                else:
                    server.close()
                async with asyncio.timeout(PATIENCE):
                    await waiting
                await server.serve_forever()  # it has ended

    run(case())


def test_a_cancelled_serve_forever_lets_async_with_stop_it(run: Run) -> None:
    async def case() -> None:
        started = asyncio.get_running_loop().create_future()

        async def main() -> None:
            async with serve(echo) as server:
                started.set_result(server)
                await server.serve_forever()

        task = asyncio.create_task(main())
        server = await started
        assert await echoed(*where(server))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.ended

    run(case())


def test_before_it_has_started_nothing_can_be_waited_for(run: Run) -> None:
    async def case() -> None:
        server = serve(echo)
        for wait in (server.serve_forever, server.wait_closed):
            with pytest.raises(RuntimeError, match="has not started"):
                await wait()
        await server.stop()
        assert server.ended
        with pytest.raises(RuntimeError, match="closed"):
            await server

    run(case())
