"""`await ws.send()` to a client that does not read: it waits, in order, and harms nobody."""

import asyncio
import resource
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from handler_apps import eventually, texts, websocket
from support import BINARY, CLOSE, PATIENCE, PONG, TEXT, Client, client_frame, close_payload

from fastws import Connection, ConnectionClosedError, Limits, LogFull, Server, serve

Run = Callable[[Any], Any]
MARK = 16 << 10
CHUNK = b"x" * (64 << 10)


@asynccontextmanager
async def idle(**limits: Any) -> AsyncIterator[tuple[Server, Connection, Client]]:
    """A server, a connection that nobody receives from, and its client, which reads when asked."""

    async def handler(ws: Connection) -> None:
        await ws.wait_closed()

    async with (
        serve(handler, limits=Limits(high_mark=MARK, **limits)) as server,
        await websocket(server.sockets[0].getsockname()) as client,
    ):
        await eventually(lambda: server.connections)
        yield server, server.connections[0], client


async def fill(ws: Connection) -> int:
    """Send until the connection is full; how many bytes."""
    n = 0
    while not ws.is_full:
        await ws.send(CHUNK)
        n += len(CHUNK)
        await asyncio.sleep(0)
    return n


async def blocked(ws: Connection, message: str) -> asyncio.Task[None]:
    """A task that waits to send."""
    task = asyncio.create_task(ws.send(message))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def read_to(client: Client, message: bytes) -> list[bytes]:
    """The text messages up to and including that one."""
    found: list[bytes] = []
    while message not in found:
        opcode, payload = await client.frame()
        if opcode == TEXT:
            found.append(payload)
    return found


@pytest.mark.slow
def test_a_client_that_reads_nothing_costs_no_memory_and_disturbs_nobody(run: Run) -> None:
    async def case() -> None:
        sent, total = 0, 64 << 20

        async def handler(ws: Connection) -> None:
            nonlocal sent
            async for message in ws:
                if message != "all of it":
                    await ws.send(message)
                    continue
                while sent < total:
                    await ws.send(CHUNK)
                    sent += len(CHUNK)

        async with serve(handler) as server:
            address = server.sockets[0].getsockname()
            async with await websocket(address) as slow, await websocket(address) as quick:
                await slow.send(texts(["all of it"]))
                await eventually(lambda: any(each.is_full for each in server.connections))
                most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                held = sent
                for i in range(200):
                    await quick.send(texts([f"{i}"]))
                    assert await quick.until(TEXT) == b"%d" % i
                assert sent == held  # it waits, however often the loop comes round
                assert server.engine.buffered_bytes < 1 << 20
                received = 0
                while received < total:
                    opcode, payload = await slow.frame()
                    assert (opcode, len(payload)) == (BINARY, len(CHUNK))
                    received += len(payload)
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most
                assert grown < 8 << 10  # KiB

    run(case())


def test_below_the_mark_a_send_is_done_without_a_round_of_the_loop(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            for i in range(3):
                with pytest.raises(StopIteration):
                    ws.send(f"{i}").send(None)
                assert await client.until(TEXT) == b"%d" % i
            await asyncio.create_task(ws.send("in a task"))
            await asyncio.gather(ws.send("a"), ws.send("b"))
            assert await read_to(client, b"b") == [b"in a task", b"a", b"b"]

    run(case())


def test_who_waits_first_sends_first(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            await fill(ws)
            tasks = [await blocked(ws, f"{i}") for i in range(50)]
            found = await read_to(client, b"49")
            await asyncio.gather(*tasks)
            assert found == [b"%d" % i for i in range(50)]
            assert not ws.crowded

    run(case())


def test_one_that_comes_while_others_wait_stands_behind_them(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            await fill(ws)
            big = "y" * MARK * 2
            tasks = [await blocked(ws, big), await blocked(ws, big), await blocked(ws, "third")]
            while not tasks[0].done():
                await client.frame()
            tasks.append(asyncio.create_task(ws.send("last")))
            found = await read_to(client, b"last")
            await asyncio.gather(*tasks)
            assert found[-2:] == [b"third", b"last"]

    run(case())


def test_one_that_is_cancelled_while_it_waits_is_not_sent_and_the_next_is(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            await fill(ws)
            tasks = [await blocked(ws, f"{i}") for i in range(6)]
            for i in (0, 2, 5):
                tasks[i].cancel()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.send("too late"), 0.001)
            found = await read_to(client, b"4")
            await asyncio.gather(*tasks, return_exceptions=True)
            assert found == [b"1", b"3", b"4"]
            await ws.send("more")
            assert await client.until(TEXT) == b"more"

    run(case())


def test_one_that_is_cancelled_when_its_turn_has_come_leaves_it_to_the_next(run: Run) -> None:
    async def case() -> None:
        async with idle() as (server, ws, client):
            await fill(ws)
            first, second = await blocked(ws, "first"), await blocked(ws, "second")
            on_room = server.engine.on_room

            def room(connection: Connection) -> None:
                on_room(connection)
                first.cancel()

            server.engine.on_room = room
            assert await read_to(client, b"second") == [b"second"]
            await second
            assert first.cancelled()

    run(case())


def test_a_forgotten_await_is_a_warning_and_sends_nothing(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            await fill(ws)
            with pytest.warns(RuntimeWarning, match="never awaited"):
                ws.send("forgotten")  # type: ignore[unused-coroutine]
            task = await blocked(ws, "kept in mind")
            assert await read_to(client, b"kept in mind") == [b"kept in mind"]
            await task

    run(case())


@pytest.mark.parametrize("end", ["reset", "abort", "close"])
def test_the_end_of_the_connection_is_raised_by_all_who_wait(run: Run, end: str) -> None:
    async def case() -> None:
        async with idle(close_timeout=0.1) as (_, ws, client):
            await fill(ws)
            tasks = [await blocked(ws, "a"), await blocked(ws, "b")]
            tasks += [asyncio.create_task(wait()) for wait in (ws.drain, ws.ping)]
            await asyncio.sleep(0)
            if end == "reset":
                client.sock.close()
            elif end == "abort":
                ws.abort()
            else:
                ws.close(4000)
            async with asyncio.timeout(PATIENCE):
                results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(each) for each in results] == [ConnectionClosedError] * 4
            with pytest.raises(ConnectionClosedError):
                await ws.send("c")

    run(case())


def test_drain_waits_until_little_is_waiting(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            await ws.drain()
            await fill(ws)
            task = asyncio.create_task(ws.drain())
            await asyncio.sleep(0)
            assert not task.done()
            while not task.done():
                await client.more()
            assert ws.buffered_amount <= MARK // 4
            assert ws.engine.waits._drains == {}

    run(case())


def test_drain_behind_senders_waits_for_what_they_send_as_well(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            await fill(ws)
            seen: list[int] = []

            async def drain() -> None:
                await ws.drain()
                seen.append(ws.buffered_amount)

            sender = await blocked(ws, "y" * (MARK * 3 // 4))
            draining = asyncio.create_task(drain())
            await asyncio.sleep(0)
            while not (sender.done() and draining.done()):
                await client.more()
            assert seen[0] <= MARK // 4

    run(case())


def test_send_nowait_is_taken_above_the_mark_and_refused_at_the_limit(run: Run) -> None:
    async def case() -> None:
        async with idle(outbox_limit=1 << 20) as (_, ws, client):
            await fill(ws)
            ws.send_nowait("above the mark")
            while ws.buffered_amount + len(CHUNK) < 1 << 20:
                ws.send_nowait(CHUNK)
            with pytest.raises(LogFull):
                ws.send_nowait(CHUNK * 2)
            assert ws.is_open
            await client.send(client_frame(CLOSE, close_payload(1000)))
            assert await client.until(CLOSE) == close_payload(1000)

    run(case())


# ping()


def test_a_ping_tells_the_seconds_until_its_pong(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            for data in (b"", b"mine", b"y" * 125, None):
                task = asyncio.create_task(ws.ping(data))
                opcode, payload = await client.frame()
                assert opcode == 9
                assert data in (payload, None)
                await client.send(client_frame(PONG, b"another") + client_frame(PONG, payload))
                async with asyncio.timeout(PATIENCE):
                    assert 0 < await task < PATIENCE

    run(case())


def test_the_latest_pong_answers_the_pings_before_it(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            tasks = [asyncio.create_task(ws.ping(b"%d" % i)) for i in range(4)]
            assert [payload for _, payload in await client.frames(4)] == [b"0", b"1", b"2", b"3"]
            await client.send(client_frame(PONG, b"2"))
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks[:3])
            assert not tasks[3].done()
            await client.send(client_frame(PONG, b"3"))
            await tasks[3]

    run(case())


def test_what_cannot_be_a_ping_is_refused(run: Run) -> None:
    async def case() -> None:
        async with idle() as (_, ws, client):
            with pytest.raises(TypeError):
                await ws.ping("text")  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="125"):
                await ws.ping(b"y" * 126)
            task = asyncio.create_task(ws.ping(b"twice"))
            await client.frame()
            with pytest.raises(ValueError, match="waiting for its pong"):
                await ws.ping(b"twice")
            task.cancel()
            await asyncio.wait([task])
            again = asyncio.create_task(ws.ping(b"twice"))
            await client.frame()
            await client.send(client_frame(PONG, b"twice"))
            assert await again > 0

    run(case())
