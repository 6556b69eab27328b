"""What is noticed while a client is not read from: it is reset, it hangs up, it says Close."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from handler_apps import ask, connected, eventually, serving, texts, websocket
from support import CLOSE, PATIENCE, SWITCHED, TEXT, UPGRADE, Client, client_frame, close_payload

from fastws import App, Connection, Request

Run = Callable[[Any], Any]
SMALL = 4096  # a receive buffer that is full soon


@pytest.fixture
def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """One loop: what is shown here is the engine's, and takes its time."""
    return uvloop.new_event_loop


class Watched(App):
    """Says when it has begun, and when its client is gone."""

    def __init__(self) -> None:
        self.begun, self.gone = asyncio.Event(), asyncio.Event()
        self.cancelled = False
        self.code = 0
        self.seen: list[str | bytes] = []

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    def closed(self, connection: Connection) -> None:
        self.code = connection.close_code
        self.gone.set()


class Paused(Watched):
    def opened(self, connection: Connection, request: Request) -> None:
        self.connection = connection
        connection.pause_reading()
        self.begun.set()

    def message(self, connection: Connection, message: str | bytes) -> None:
        self.seen.append(message)


class Queue(Watched):
    async def message(self, connection: Connection, message: str | bytes) -> None:
        await self.wait()


class Outbox(Watched):
    def opened(self, connection: Connection, request: Request) -> None:
        while connection.buffered_amount < 1 << 20:
            connection.send_nowait(bytes(1 << 16))
        self.begun.set()


class Undecided(Watched):
    async def admit(self, connection: Connection, request: Request) -> None:
        await self.wait()


def reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sock.close()


def close(client: Client) -> None:
    client.sock.close()


def shut_down(client: Client) -> None:
    client.sock.shutdown(socket.SHUT_WR)


async def small(address: Any) -> Client:
    """A client that takes next to nothing."""
    client = connected(address)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    await client.send(UPGRADE)
    while len(client.buffer) < len(SWITCHED):
        client.buffer += await asyncio.get_running_loop().sock_recv(client.sock, len(SWITCHED))
    return client


@pytest.mark.parametrize("leave", [reset, close, shut_down])
@pytest.mark.parametrize("kind", [Paused, Queue, Outbox, Undecided])
def test_who_goes_while_it_is_not_read_from_is_gone_soon(
    run: Run, kind: type[Watched], leave: Callable[[Client], None]
) -> None:
    async def story() -> None:
        app = kind()
        async with serving(app) as (server, address), asyncio.timeout(PATIENCE):
            if kind is Undecided:
                client = await ask(address, "/")
            else:
                client = await (small if kind is Outbox else websocket)(address)
                await client.send(texts(["m"] * 20))
            await app.begun.wait()
            if kind is Queue:
                while not server.counters()["handler_queue_full"]:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            leave(client)
            if kind is Undecided:  # it was not opened, so it is not closed
                await eventually(lambda: not server.engine.live)
            else:
                await app.gone.wait()
                assert app.code == 1006
            assert not server.engine.live
            if kind in (Queue, Undecided):
                while not app.cancelled:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            client.sock.close()

    run(story())


@pytest.mark.parametrize("kind", [Paused, Queue])
def test_a_close_that_lies_unread_is_answered(run: Run, kind: type[Watched]) -> None:
    async def story() -> None:
        app = kind()
        async with serving(app) as (_, address), await websocket(address) as client:
            await client.send(texts(["m"] * 40))
            await client.send(client_frame(CLOSE, close_payload(4000, "enough")))
            assert await client.frame() == (CLOSE, close_payload(4000, "enough"))
            assert await client.ended()
            client.sock.close()
            async with asyncio.timeout(PATIENCE):
                await app.gone.wait()
            assert app.code == 4000
            assert app.seen == []

    run(story())


def test_what_was_said_before_the_end_is_heard_when_reading_goes_on_at_once(run: Run) -> None:
    async def story() -> None:
        app = Paused()
        async with serving(app) as (_, address), asyncio.timeout(PATIENCE):
            client = await websocket(address)
            await app.begun.wait()
            await client.send(client_frame(TEXT, b"one") + client_frame(TEXT, b"two"))
            client.sock.close()
            await asyncio.sleep(0.1)  # it has come, as far as the kernel
            app.connection.resume_reading()
            await app.gone.wait()
            assert app.seen == ["one", "two"]

    run(story())
