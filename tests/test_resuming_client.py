"""`connect` of a plain topic comes back where the program was: nothing is lost, nothing doubled.

Connections are cut anywhere, in the middle of frames too; servers are started again; histories are
too short. 300 cuts, or as many as FASTWS_EXAMPLES says.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cutting import Relay, at_once, url_of
from handler_apps import eventually
from plain_site import PlainSite, Run, plain_site
from support import PATIENCE
from thorough import EXAMPLES

from fastws import (
    App,
    Connection,
    ConnectionClosed,
    History,
    Request,
    Server,
    Topic,
    connect,
    serve,
)
from fastws.http.upgrade import accept_key

__all__ = ["at_once"]
CUTS = EXAMPLES or 300


def said(topic: Topic) -> str:
    """The next message: its epoch and number, some of them large."""
    number = topic.seq + 1
    size = 5000 if number % 50 == 0 else 20
    return f"{topic.epoch} {number} ".ljust(size, ".")


@asynccontextmanager
async def publishing(
    topic: Topic, pause: float = 0.0005, behind: "Follower | None" = None
) -> AsyncIterator[None]:
    """Publish for as long as the block runs, but not further ahead of a follower than 5,000."""

    async def publish() -> None:
        while True:
            if behind is None or not behind.got or topic.seq - behind.got[-1][1] < 5000:
                topic.publish(said(topic))
                topic.publish(said(topic))
            await asyncio.sleep(pause)

    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        task.cancel()


class Follower:
    """A program that notes what it receives, and checks that nothing else was possible."""

    def __init__(self) -> None:
        self.position: tuple[str, int] | None = None
        self.got: list[tuple[str, int]] = []
        self.recovered: list[bool | None] = []

    def begin(self, ws: Connection) -> None:
        """Look at where a connection begins."""
        assert ws.position is not None
        assert ws.recovered == (None if self.position is None else ws.position == self.position)
        self.recovered.append(ws.recovered)
        self.position = ws.position

    def take(self, ws: Connection, message: str | bytes) -> None:
        """Take the message behind the last one."""
        assert isinstance(message, str)
        assert self.position is not None
        epoch, number = message.split(" ")[:2]
        assert (epoch, int(number)) == (self.position[0], self.position[1] + 1)
        self.position = (epoch, int(number))
        assert ws.position == self.position
        self.got.append(self.position)

    def has(self, epoch: str, n: int) -> bool:
        """Whether the last n messages, and one more, are of one topic."""
        return len(self.got) > n and self.got[-1 - n][0] == epoch

    async def follow(self, url: str, until: Any, draw: random.Random, **options: Any) -> None:
        """Come back again and again; sometimes go before everything was received."""
        async for ws in connect(url, **options):
            self.begin(ws)
            patience = draw.choice([0, 1, 20, 1 << 60])
            with suppress(ConnectionClosed):
                async for message in ws:
                    self.take(ws, message)
                    if until():
                        return
                    patience -= 1
                    if patience < 0:
                        break


def test_connections_that_are_cut_anywhere_lose_and_double_nothing(run: Run) -> None:
    draw = random.Random(1)

    async def case() -> None:
        async with plain_site() as site, Relay(site.address[1], draw, CUTS) as relay:
            topic = site.server.topic("news", history=History(messages=100_000))
            follower = Follower()
            done = lambda: relay.cuts >= CUTS and follower.got[-1][1] >= 1000  # noqa: E731
            async with publishing(topic, behind=follower):
                await follower.follow(url_of(relay.port, "news"), done, draw)
            numbers = [number for _, number in follower.got]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert follower.recovered[0] is None
            assert all(follower.recovered[1:])

    run(case())


def test_a_history_that_is_too_short_is_told(run: Run) -> None:
    draw = random.Random(2)

    async def case() -> None:
        async with plain_site() as site, Relay(site.address[1], draw, CUTS) as relay:
            topic = site.server.topic("news", history=History(messages=2), retain=True)
            follower = Follower()
            async with publishing(topic, 0):
                await follower.follow(
                    url_of(relay.port, "news"), lambda: relay.cuts >= CUTS // 3, draw
                )
            assert False in follower.recovered
            numbers = [number for _, number in follower.got]
            assert numbers == sorted(set(numbers))

    run(case())


def test_servers_that_are_started_again_are_told_apart(run: Run, tmp_path: Path) -> None:
    draw = random.Random(3)
    path = str(tmp_path / "socket")
    follower = Follower()
    restarts = 0

    async def serve_again() -> None:
        nonlocal restarts
        while True:
            async with server_at(path) as server:
                topic = server.topic("news", history=History(messages=1_000_000))
                async with publishing(topic, 0):
                    await eventually(partial(follower.has, topic.epoch, draw.randrange(100)))
                    if draw.randrange(2):
                        server.close()
            restarts += 1

    async def case() -> None:
        serving = asyncio.create_task(serve_again())
        try:
            await follower.follow("ws://x/topics/news", lambda: restarts >= 20, draw, unix=path)
        finally:
            serving.cancel()
            await asyncio.wait([serving])
        epochs = dict.fromkeys(epoch for epoch, _ in follower.got)
        assert len(epochs) == 21
        assert follower.recovered.count(False) == 20

    run(case())


def server_at(path: str) -> Server:
    app = App()
    app.plain_topics()
    return serve(app, unix=path)


async def seen_by(site: PlainSite, path: str, n: int, **options: Any) -> None:
    """Connect n times, and receive one message each time."""
    async for ws in connect(site.url(path), **options):
        await ws.recv()
        n -= 1
        if n == 0:
            return


@pytest.mark.parametrize("asked", ["?onSlow=latest", "?onSlow=drop_oldest"])
def test_a_position_that_nobody_can_know_is_not_guessed(run: Run, asked: str) -> None:
    async def case() -> None:
        seen: list[str] = []
        options = {"process_request": lambda request: seen.append(request.target)}
        async with plain_site(options=options) as site:
            topic = site.server.topic("t", history=History(messages=100))
            async with publishing(topic):
                await seen_by(site, f"/topics/t{asked}", 3)
            assert seen == [f"/topics/t{asked}"] * 3

    run(case())


def test_what_waits_in_the_queue_does_not_count(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("t", history=History(messages=100))
            connections = aiter(connect(site.url("/topics/t")))
            ws = await anext(connections)
            topic.publish_all([str(n) for n in range(10)])
            await eventually(lambda: ws.session.inbox.received == 10)
            assert ws.position == (topic.epoch, -1)
            assert await ws.recv() == "0"
            assert ws.position == (topic.epoch, 0)
            ws = await anext(connections)
            assert ws.recovered
            assert [await ws.recv() for _ in range(9)] == [str(n) for n in range(1, 10)]
            await ws.close()

    run(case())


def test_a_receive_that_is_cancelled_takes_nothing(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.kept("t")
            ws = await connect(site.url("/topics/t"))
            receiving = asyncio.create_task(ws.recv())
            await asyncio.sleep(0)
            receiving.cancel()
            topic.publish("0")
            await asyncio.wait([receiving])
            await eventually(lambda: ws.session.inbox.received == 1)
            assert ws.position == (topic.epoch, -1)
            assert await ws.recv() == "0"
            assert ws.position == (topic.epoch, 0)
            await ws.close()

    run(case())


def test_the_url_may_have_a_position_which_is_replaced(run: Run) -> None:
    async def case() -> None:
        seen: list[Request] = []
        options = {"process_request": seen.append}
        async with plain_site(options=options, query=["token"]) as site:
            topic = site.server.topic("t", history=History(messages=100))
            topic.publish_all(["0", "1", "2"])
            recovered = []
            url = site.url(f"/topics/t?since={topic.epoch}:0&token=%26&onSlow=close")
            async for ws in connect(url):
                recovered.append(ws.recovered)
                await ws.recv()
                if len(recovered) == 2:
                    break
            assert recovered == [True, True]
            assert [request.query["since"] for request in seen] == [
                f"{topic.epoch}:0",
                f"{topic.epoch}:1",
            ]
            assert seen[1].query["token"] == "&"

    run(case())


# Servers of others.

BAD = [
    "",
    "Fastws-Position: 1a\r\nFastws-Delivery: every-message\r\n",
    "Fastws-Position: a:1\r\nFastws-Position: a:1\r\nFastws-Delivery: every-message\r\n",
    "Fastws-Position: a:1, b:2\r\nFastws-Delivery: every-message\r\n",
    "Fastws-Position: a:-7\r\nFastws-Delivery: every-message\r\n",
    "Fastws-Position: a:1\r\n",
    "Fastws-Position: a:1\r\nFastws-Delivery: some\r\n",
    "Fastws-Position: a:1\r\nFastws-Delivery: every-message\r\nFastws-Delivery: numbered\r\n",
    "Fastws-Delivery: every-message\r\n",
]


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        *[(bad, "") for bad in BAD],
        ("Fastws-Position: a&x=1#%:41\r\nFastws-Delivery: every-message\r\n", "a%26x%3D1%23%25:42"),
    ],
)
def test_what_a_server_says_is_checked(run: Run, fields: str, since: str) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head.split(" ")[1])
        key = head.partition("Sec-WebSocket-Key: ")[2].split("\r\n")[0]
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept_key(key)}\r\n{fields}\r\n".encode()
        )
        writer.write(b"\x81\x01x\x88\x02\x03\xe8")
        await writer.drain()
        writer.close()

    async def case() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(PATIENCE):
            async for ws in connect(f"ws://127.0.0.1:{port}/t?a=b"):
                assert [message async for message in ws] == ["x"]
                if len(asked) == 2:
                    break
        server.close()
        assert asked == ["/t?a=b", "/t?a=b" + (f"&since={since}" if since else "")]

    run(case())
