"""`connect` of a plain topic with an envelope: the numbers of the messages are the position.

Connections are cut anywhere. 100 cuts for each way to ask, or as many as FASTWS_EXAMPLES says.
"""

import asyncio
import json
import random
import struct
from contextlib import suppress
from typing import Any

import pytest
from cutting import Relay, at_once, url_of
from handler_apps import eventually
from plain_site import Run, plain_site
from support import PATIENCE
from thorough import EXAMPLES

from fastws import ConfigError, Connection, ConnectionClosed, Gap, History, Lag, Topic, connect
from fastws.client.place import with_since

__all__ = ["at_once"]
CUTS = EXAMPLES or 100


def numbers_of(message: Any, *, batched: bool) -> list[int]:
    """The numbers of the messages in one WebSocket message."""
    if isinstance(message, bytes):
        found = []
        while message:
            (n,) = struct.unpack_from("<I", message) if batched else (len(message),)
            message = message[4 * batched :]
            found.append(struct.unpack_from("<Q", message)[0])
            message = message[n:]
        return found
    said = json.loads(message)
    return [each["seq"] for each in (said if isinstance(said, list) else [said])]


class Follower:
    """Notes the numbers that a program has received, and whether it was told to have them all."""

    def __init__(self, *, batched: bool) -> None:
        self.got: list[int] = []
        self.recovered: list[bool | None] = []
        self._batched = batched

    async def follow(self, url: str, relay: Relay, draw: random.Random) -> None:
        async for ws in connect(url):
            self.recovered.append(ws.recovered)
            patience = draw.choice([0, 1, 5, 1 << 60])
            with suppress(ConnectionClosed):
                began = False
                async for message in ws:
                    if began:
                        self.got += numbers_of(message, batched=self._batched)
                        assert ws.position is not None
                        assert ws.position[1] == self.got[-1]
                    began = True
                    if relay.cuts >= CUTS and len(self.got) > 100:
                        return
                    patience -= 1
                    if patience < 0:
                        break


async def publish(topic: Topic, follower: Follower, payload: str | bytes) -> None:
    """Publish to two keys, but not more than the history holds for the follower."""
    while True:
        if not follower.got or topic.seq - follower.got[-1] < 5000:
            topic.publish(payload, key="a")
            topic.publish(payload, key="b")
        await asyncio.sleep(0.0005)


@pytest.mark.parametrize(
    ("query", "payload", "step"),
    [
        ("envelope=1", "text", 1),
        ("envelope=1&batch=5", "text", 1),
        ("envelope=1&key=a", "text", 2),
        ("envelope=1&key=b&batch=3&onSlow=close", "text", 2),
        ("envelope=1", b"binary", 1),
        ("envelope=1&batch=5&key=a", b"binary", 2),
    ],
)
def test_connections_that_are_cut_anywhere_lose_and_double_nothing(
    run: Run, query: str, payload: str | bytes, step: int
) -> None:
    draw = random.Random(query)

    async def case() -> None:
        async with plain_site() as site, Relay(site.address[1], draw, CUTS) as relay:
            topic = site.server.topic("news", history=History(messages=100_000))
            follower = Follower(batched="batch" in query)
            publishing = asyncio.create_task(publish(topic, follower, payload))
            await follower.follow(url_of(relay.port, "news", f"?{query}"), relay, draw)
            publishing.cancel()
            got = follower.got
            assert got == list(range(got[0], got[-1] + 1, step))
            assert follower.recovered[0] is None
            assert all(follower.recovered[1:])

    run(case())


# Gaps.


async def gaps_and_numbers(ws: Connection, last: int) -> list[int]:
    """The numbers that a program hears of, one way or the other."""
    numbers: list[int] = []
    async for message in ws:
        if isinstance(message, Gap):
            assert (message.reason, message.count) == ("slow", message.last - message.first + 1)
            assert ws.position is not None
            assert ws.position[1] == message.last
            numbers += range(message.first, message.last + 1)
        else:
            numbers += numbers_of(message, batched=True)
        if numbers[-1] >= last:
            break
    return numbers


@pytest.mark.parametrize("query", ["", "&batch=7"])
def test_losses_come_among_the_messages(run: Run, query: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("t", max_lag=Lag(bytes=32 << 10), content="json")
            url = site.url(f"/topics/t?envelope=1&onSlow=drop_oldest{query}")
            async with connect(url, gaps=True) as ws:
                assert json.loads(await ws.recv())["seq"] == -1
                blob = json.dumps("x" * 4000)
                for _ in range(20):  # what the kernels hold is less
                    topic.publish_all([blob] * 200)
                    topic.engine.flush()
                    await asyncio.sleep(0)
                await eventually(lambda: topic.account()["dropped"])
                assert await gaps_and_numbers(ws, 3999) == list(range(4000))

    run(case())


def test_gaps_need_an_envelope() -> None:
    for url in ("ws://x/topics/t", "ws://x/topics/t?envelope=0"):
        with pytest.raises(ConfigError, match="gaps: needs envelope=1"):
            connect(url, gaps=True)
    with pytest.raises(ConfigError, match="gaps: must be true or false"):
        connect("ws://x/topics/t?envelope=1", gaps="yes")  # type: ignore[arg-type]


def test_without_a_position_the_one_of_the_url_is_asked_for_once(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("t", history=History(messages=100))
            topic.publish_all(["0", "1", "2"])
            seen: list[bool | None] = []
            url = url_of(site.address[1], "t", f"?since={topic.epoch}:-1&batch=1")
            async with asyncio.timeout(PATIENCE):
                async for ws in connect(url):
                    seen.append(ws.recovered)
                    assert ws.position is None
                    if len(seen) == 2:
                        topic.publish("3")
                        assert await ws.recv() == '["3"]'
                        break
                    assert [await ws.recv() for _ in range(3)] == ['["0"]', '["1"]', '["2"]']
            assert seen == [True, None]

    run(case())


@pytest.mark.parametrize(
    ("target", "position", "asked"),
    [
        ("/t", None, "/t"),
        ("/t?since=a:1", None, "/t"),
        ("/t?since=a:1", ("a", 2), "/t?since=a:2"),
        ("/t?a%26b=%31&since=a:1&flag&%73ince=b:1", ("a", 2), "/t?a%26b=%31&flag&since=a:2"),
    ],
)
def test_the_other_options_of_the_url_stay_as_they_are_written(
    target: str, position: tuple[str, int] | None, asked: str
) -> None:
    assert with_since(target, position) == asked
