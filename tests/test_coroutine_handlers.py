"""Coroutine handlers: ends, being a task like any other; both loops."""

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from handler_apps import Notes, eventually, met, texts, websocket
from support import (
    CLOSE,
    FAILED,
    PATIENCE,
    TEXT,
    client_frame,
    close_payload,
)

from fastws import (
    Connection,
    ConnectionClosedError,
    ConnectionClosedOK,
    serve,
)

Run = Callable[[Any], Any]


# A task like any other, although it runs inside the engine's turn.


def test_a_handler_is_a_task_with_a_context_of_its_own(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            mine = asyncio.current_task()
            variable.set(str(id(ws)))
            async for message in ws:
                assert asyncio.current_task() is mine
                assert variable.get() == str(id(ws))
                async with asyncio.TaskGroup() as group:
                    child = group.create_task(asyncio.sleep(0, variable.get()))
                assert child.result() == variable.get()
                async with asyncio.timeout(PATIENCE):
                    await asyncio.get_running_loop().run_in_executor(None, ws.is_open.__bool__)
                notes.append(message)

        async with serve(handler) as server:
            address = server.sockets[0].getsockname()
            async with await websocket(address) as one, await websocket(address) as two:
                for i in range(10):
                    await one.send(texts([f"{i}"]))
                    await two.send(texts([f"{i}"]))
                await eventually(lambda: len(notes) == 20)
        assert variable.get() == "none"

    run(case())


def test_a_handler_that_times_out_goes_on(run: Run) -> None:
    async def case() -> None:
        async def handler(ws: Connection) -> None:
            async for message in ws:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await asyncio.Event().wait()
                await ws.send(message)

        async with met(handler) as (_, client):
            for i in range(3):
                await client.send(texts([f"{i}"]))
                assert await client.until(TEXT) == b"%d" % i

    run(case())


def test_an_endless_handler_holds_nobody_else(run: Run) -> None:
    async def case() -> None:
        async def handler(ws: Connection) -> None:
            async for message in ws:
                while message == "loop":  # noqa: ASYNC110  # it is to turn the loop
                    await asyncio.sleep(0)
                await ws.send(message)

        async with met(handler) as (server, client):
            await client.send(texts(["loop"]))
            async with await websocket(server.sockets[0].getsockname()) as other:
                for i in range(20):
                    await other.send(texts([f"{i}"]))
                    assert await other.until(TEXT) == b"%d" % i
            await server.stop(grace=0)

    run(case())


# Ends.


def test_a_handler_that_returns_ends_with_1000(run: Run) -> None:
    async def case() -> None:
        async def handler(ws: Connection) -> None:
            await ws.send("bye")

        async with met(handler) as (_, client):
            assert await client.until(TEXT) == b"bye"
            assert await client.until(CLOSE) == close_payload(1000)

    run(case())


def test_a_handler_that_raises_is_logged_and_ends_with_1011_alone(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        async def handler(ws: Connection) -> None:
            async for message in ws:
                if message == "close and raise":
                    ws.close(4000)
                if "raise" in str(message):
                    raise ZeroDivisionError(message)
                await ws.send(message)

        async with met(handler) as (server, client):
            address = server.sockets[0].getsockname()
            async with await websocket(address) as one, await websocket(address) as two:
                await one.send(texts(["raise"]))
                assert await one.until(CLOSE) == FAILED
                await two.send(texts(["close and raise"]))
                assert await two.until(CLOSE) == close_payload(4000)
                await client.send(texts(["still here"]))
                assert await client.until(TEXT) == b"still here"
                await eventually(lambda: len(caplog.records) == 2)
        for record in caplog.records:
            assert record.exc_info is not None
            assert record.exc_info[0] is ZeroDivisionError

    run(case())


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_goes_cancels_nothing_and_is_heard_of_at_the_next_call(
    run: Run, leave: str
) -> None:
    async def case() -> None:
        gate, notes = asyncio.Event(), Notes()

        async def handler(ws: Connection) -> None:
            await gate.wait()
            kind = ConnectionClosedOK if leave == "close" else ConnectionClosedError
            for call in (lambda: ws.send("x"), ws.recv, ws.drain, ws.ping):
                with pytest.raises(kind) as caught:
                    await call()
                notes.append(caught.value.code)
            await ws.close()
            await ws.wait_closed()
            notes.append("ended")

        async with met(handler) as (server, client):
            await eventually(lambda: server.connections)
            if leave == "close":
                await client.send(client_frame(CLOSE, close_payload(1000)))
                await client.until(CLOSE)
            client.sock.close()
            await eventually(lambda: not server.engine.connections)
            gate.set()
            code = 1000 if leave == "close" else 1006
            await notes.all(code, code, code, code, "ended")

    run(case())


def test_what_ends_the_program_leaves_the_loop(run: Run) -> None:
    async def case() -> None:
        begun = asyncio.Event()

        async def handler(ws: Connection) -> None:
            begun.set()
            raise SystemExit(await ws.recv())

        async with met(handler) as (server, client):
            await begun.wait()
            await client.send(texts(["3"]))
            async with asyncio.timeout(PATIENCE):
                await server.wait_closed()

    with pytest.raises(SystemExit, match="3"):
        run(case())


def test_a_coroutine_of_an_end_waited_for_in_vain_leaves_nothing(run: Run) -> None:
    async def handler(ws: Connection) -> None:
        await ws.wait_closed()

    async def case() -> None:
        async with met(handler) as (server, _):
            await eventually(lambda: server.connections)
            (ws,) = server.connections
            for _ in range(100):
                with suppress(TimeoutError):
                    await asyncio.wait_for(ws.wait_closed(), 0)
            task = asyncio.create_task(ws.wait_closed())
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            (waiting,) = ws.engine.waits._ends.values()
            assert len(waiting) == 1  # that of the handler

    run(case())
