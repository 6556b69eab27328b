"""Coroutine handlers: receiving by `recv` and `async for`; both loops."""

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from handler_apps import Notes, eventually, met, others, texts
from support import (
    BINARY,
    CLOSE,
    PATIENCE,
    TEXT,
    client_frame,
    close_payload,
)

from fastws import (
    Close,
    Connection,
    ConnectionClosedError,
    ConnectionClosedOK,
)

Run = Callable[[Any], Any]


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
            client.sock.close()
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
            client.sock.close()
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
            client.sock.close()
            await eventually(lambda: not others())
        assert got == sent

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
