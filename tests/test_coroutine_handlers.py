"""Coroutine handlers: receiving, ends, being a task like any other; both loops."""

import asyncio
import contextvars
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from handler_apps import eventually, others, texts, websocket
from support import BINARY, CLOSE, FAILED, PATIENCE, TEXT, Client, client_frame, close_payload

from fastws import (
    Close,
    Connection,
    ConnectionClosedError,
    ConnectionClosedOK,
    Limits,
    Server,
    serve,
)

Run = Callable[[Any], Any]
Handler = Callable[[Connection], Any]


@asynccontextmanager
async def met(handler: Handler, **limits: Any) -> AsyncIterator[tuple[Server, Client]]:
    """A server with the handler, and a client of it."""
    async with (
        serve(handler, limits=Limits(**limits)) as server,
        await websocket(server.sockets[0].getsockname()) as client,
    ):
        yield server, client


class Notes(list[object]):
    """What handlers have to tell."""

    async def all(self, *expected: object) -> None:
        await eventually(lambda: len(self) >= len(expected))
        assert self == list(expected)


# Receiving.


def test_every_message_comes_in_order_whatever_its_size_and_kind(run: Run) -> None:
    async def case() -> None:
        got: list[str | bytes] = []

        async def handler(ws: Connection) -> None:
            async for message in ws:
                got.append(message)

        sizes = [1, 125, 126, 4096, 65535, 65536, 100_000, 0]
        sent: list[str | bytes] = []
        async with met(handler) as (_, client):
            for i, size in enumerate(sizes * 3):
                payload = bytes([97 + i]) * size
                opcode = TEXT if i % 2 else BINARY
                sent.append(payload.decode() if opcode == TEXT else payload)
                third = size // 3
                parts = [payload[:third], payload[third : 2 * third], payload[2 * third :]]
                if i % 3:
                    await client.send(client_frame(opcode, payload))
                else:
                    for part, kind, fin in zip(
                        parts, (opcode, 0, 0), (False, False, True), strict=True
                    ):
                        await client.send(client_frame(kind, part, fin=fin))
            await eventually(lambda: len(got) == len(sent))
        assert got == sent

    run(case())


@pytest.mark.parametrize("payload", [close_payload(1000), close_payload(1001, "bye"), b""])
def test_iterating_ends_where_the_client_has_closed_as_it_should(run: Run, payload: bytes) -> None:
    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            async for message in ws:
                notes.append(message)
            notes.append("behind the loop")
            with pytest.raises(ConnectionClosedOK) as caught:
                await ws.recv()
            assert caught.value.received == caught.value.sent == ws.close_received

        async with met(handler) as (_, client):
            await client.send(texts(["a"]) + client_frame(CLOSE, payload))
            assert await client.until(CLOSE) == payload
            await notes.all("a", "behind the loop")

    run(case())


def test_another_end_is_raised_with_both_close_frames(run: Run) -> None:
    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            with pytest.raises(ConnectionClosedError) as caught:  # noqa: PT012
                async for message in ws:
                    notes.append(message)
            error = caught.value
            notes.append((error.code, error.reason, error.received, error.sent))

        async with met(handler) as (_, client):
            await client.send(texts(["a"]) + client_frame(CLOSE, close_payload(4001, "no")))
            await client.until(CLOSE)
            await notes.all("a", (4001, "no", Close(4001, "no"), Close(4001, "no")))
        notes.clear()
        async with met(handler):
            await notes.all()  # the client is gone without a Close
        await notes.all((1006, "", None, None))
        notes.clear()
        async with met(handler) as (_, client):
            await client.send(client_frame(3))
            assert (await client.until(CLOSE))[:2] == close_payload(1002)
            await client.send(client_frame(CLOSE, close_payload(1002)))
            await eventually(lambda: notes)
            (note,) = notes
            assert isinstance(note, tuple)
            assert (note[0], note[3].code) == (1002, 1002)

    run(case())


def test_a_receive_that_runs_out_of_time_loses_nothing(run: Run) -> None:
    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ws.recv(), 0.001)
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001):
                        await ws.recv()
            notes.append("ready")
            async with asyncio.timeout(PATIENCE):
                notes.append(await ws.recv())
            notes.append(await asyncio.wait_for(ws.recv(), PATIENCE))

        async with met(handler) as (_, client):
            await notes.all("ready")
            await client.send(texts(["a", "b"]))
            await notes.all("ready", "a", "b")

    run(case())


def test_a_receive_may_be_a_task_and_be_cancelled_while_the_next_one_waits(run: Run) -> None:
    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            first = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            first.cancel()
            notes.append("cancelled")
            notes.append(await ws.recv())
            with pytest.raises(asyncio.CancelledError):
                await first
            notes.append(await asyncio.create_task(ws.recv()))

        async with met(handler) as (_, client):
            await notes.all("cancelled")
            await client.send(texts(["a", "b"]))
            await notes.all("cancelled", "a", "b")

    run(case())


def test_a_second_receive_at_once_is_an_error_and_harms_nobody(run: Run) -> None:
    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            async def second() -> None:
                with pytest.raises(RuntimeError, match="another coroutine waits"):
                    await ws.recv()
                notes.append("refused")

            task = asyncio.create_task(second())
            async for message in ws:
                notes.append(message)
            await task
            notes.append("ended")

        async with met(handler) as (_, client):
            await notes.all("refused")
            await client.send(texts(["a"]) + client_frame(CLOSE, close_payload(1000)))
            await notes.all("refused", "a", "ended")

    run(case())


def test_a_full_queue_stops_the_reading_and_loses_nothing(run: Run) -> None:
    async def case() -> None:
        gate, got = asyncio.Event(), Notes()

        async def handler(ws: Connection) -> None:
            await gate.wait()
            async for message in ws:
                got.append(message)

        async with met(handler, handler_queue=4) as (server, client):
            sent = [f"{i}" for i in range(1000)]
            await client.send(texts(sent))
            await eventually(lambda: server.counters()["handler_queue_full"])
            (ws,) = server.connections
            assert len(ws.session.inbox) == 4
            gate.set()
            await got.all(*sent)

    run(case())


def test_one_who_closes_wakes_who_receives(run: Run) -> None:
    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            async def receive() -> None:
                async for _ in ws:
                    pass
                notes.append("woken")

            task = asyncio.create_task(receive())
            await asyncio.sleep(0)
            await ws.close(1001, "enough")
            notes.append((ws.close_sent, ws.close_received))
            await ws.close()  # once more is nothing
            await task

        async with met(handler) as (_, client):
            assert await client.until(CLOSE) == close_payload(1001, "enough")
            await client.send(client_frame(CLOSE, close_payload(1001)))
            await eventually(lambda: len(notes) == 2)
            assert set(notes) == {"woken", (Close(1001, "enough"), Close(1001, ""))}

    run(case())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_interrupts_the_receiver_each_message_comes_once_and_in_order(
    run: Run, seed: int
) -> None:
    async def case() -> None:
        chance, got = random.Random(seed), Notes()

        async def handler(ws: Connection) -> None:
            with suppress(ConnectionClosedOK):
                while True:
                    await receive(ws)

        async def receive(ws: Connection) -> None:
            way = chance.randrange(5)
            if way == 0:
                got.append(await ws.recv())
            elif way == 1:
                async for message in ws:
                    got.append(message)
                    if chance.random() < 0.3:
                        return
                await ws.recv()  # raises
            elif way == 2:
                with suppress(TimeoutError):
                    async with asyncio.timeout(chance.choice([0, 0.0005])):
                        got.append(await ws.recv())
            elif way == 3:
                task = asyncio.create_task(ws.recv())
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                if task.cancel():
                    with suppress(asyncio.CancelledError):
                        got.append(await task)
                else:
                    got.append(task.result())
            else:
                await asyncio.sleep(chance.choice([0, 0.0005]))

        async with met(handler, handler_queue=chance.choice([1, 2, 16])) as (_, client):
            sent = [f"{i}" for i in range(300)]
            numbers = iter(sent)
            while portion := list(itertools.islice(numbers, chance.randrange(1, 40))):
                await client.send(texts(portion))
                await asyncio.sleep(chance.choice([0, 0.001]))
            await client.send(client_frame(CLOSE, close_payload(1000)))
            await client.until(CLOSE)
            await eventually(lambda: not others())
        assert got == sent

    run(case())


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


def test_eager_tasks_change_nothing(run: Run) -> None:
    factory = getattr(asyncio, "eager_task_factory", None)
    if factory is None:
        pytest.skip("this Python has no eager tasks")

    async def case() -> None:
        asyncio.get_running_loop().set_task_factory(factory)

        async def handler(ws: Connection) -> None:
            if ws.request.path == "/":
                async for message in ws:
                    await asyncio.create_task(ws.send(message))

        async with met(handler) as (_, client):
            for i in range(5):
                await client.send(texts([f"{i}"]))
                assert await client.until(TEXT) == b"%d" % i
            await client.send(client_frame(CLOSE, close_payload(1000)))
            assert await client.until(CLOSE) == close_payload(1000)

    run(case())


@pytest.mark.parametrize("first", [False, True])
def test_a_handler_that_cancels_itself_is_cancelled_at_its_next_receive(
    run: Run, first: bool
) -> None:
    async def case() -> None:
        notes = Notes()

        async def handler(ws: Connection) -> None:
            if not first:
                notes.append(await ws.recv())
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ws.recv()
            task.uncancel()
            notes.append("cancelled")
            notes.append(await ws.recv())

        async with met(handler) as (_, client):
            if not first:
                await client.send(texts(["a"]))
                await notes.all("a", "cancelled")
            await eventually(lambda: "cancelled" in notes)
            await client.send(texts(["b"]))
            await eventually(lambda: notes[-2:] == ["cancelled", "b"])

    run(case())
