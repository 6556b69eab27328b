"""Slow clients of the tick feed: how old what they get is, and how little they may take."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from handler_apps import eventually
from support import PATIENCE, Client, Site, balances

Run = Callable[[Any], Any]
SMALL = 4096  # a receive buffer that is full soon


async def sequence(client: Client, n: int) -> list[int]:
    return [json.loads(payload)["seq"] for _, payload in await client.frames(n)]


async def read_on(client: Client) -> None:
    while True:
        await client.more()
        client.buffer.clear()


def test_no_tick_is_older_than_the_limit_when_it_is_sent(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(rate=20_000, max_lag=0.25, fields="seq") as site,
            await site.websocket(receive_buffer=SMALL) as slow,
        ):
            seen: list[int] = []
            account: Any = {"dropped": 0}
            async with asyncio.timeout(PATIENCE):
                while not account["dropped"]:
                    seen += await sequence(slow, 1)
                    await asyncio.sleep(0.05)  # it takes little, and far below 2 MiB wait for it
                    (account,) = (await site.stats())["server"]["clients"]
                    assert account["lag"]["bytes"] < 2 << 20
            await site.http("POST", "/config", {"rate": 0})
            last = site.feed.server.topic("ticks").appended - 1
            while seen[-1] < last:
                seen += await sequence(slow, 1)
            assert all(after > before for before, after in pairwise(seen))
            assert account["dropped"] > 0

    run(story())


def test_the_policies_of_the_feed_follow_its_options(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1, max_lag=0.5, max_lag_bytes=300_000, min_rate=1000) as site:
            topic = site.feed.server.topic("ticks")

            def policy() -> tuple[str, float | None, int, int]:
                now = topic.options
                lag = now["max_lag"]
                return now["on_slow"], lag.seconds, lag.bytes, now["retention_bytes"]

            fixed_rate = ("latest", 0.5, 300_000, 400_000)
            assert policy() == fixed_rate
            await site.http("POST", "/config", {"rate": "max"})
            assert policy() == ("lossless", None, 256 << 10, 1 << 20)
            assert topic.options["min_rate"] == 1000
            await site.http("POST", "/config", {"rate": 2})
            assert policy() == fixed_rate

    run(story())


@pytest.mark.parametrize(("limit", "drops"), [(64 << 10, True), (32 << 20, False)])
def test_the_bytes_that_a_client_may_lag_are_an_option(run: Run, limit: int, drops: bool) -> None:
    """18 MB wait for a client that takes nothing: more than the default of 12 MiB."""

    async def story() -> None:
        async with (
            Site(rate=0, max_lag_bytes=limit) as site,
            await site.websocket(receive_buffer=SMALL) as slow,
        ):
            topic = site.feed.server.topic("ticks")
            await site.http("POST", "/config", {"rate": 1_000_000})
            await eventually(lambda: topic.appended > 320_000)
            await site.http("POST", "/config", {"rate": 0})
            server = (await site.stats())["server"]
            assert (server["dropped"] > 0) == drops
            assert balances(server)
            if not drops:
                assert server["pending"] > 200_000
                await slow.frames(topic.appended)

    run(story())


def test_who_holds_the_feed_and_takes_too_little_is_closed(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(rate="max", min_rate=1 << 20) as site,
            await site.websocket(receive_buffer=SMALL) as slow,
            await site.websocket() as other,
        ):
            reading = asyncio.ensure_future(read_on(other))
            async with asyncio.timeout(2 * PATIENCE):
                while site.feed.server.counters()["slow_closed"] == 0:
                    await slow.more()  # a little, ten times a second
                    slow.buffer.clear()
                    await asyncio.sleep(0.1)
            assert not reading.done()
            before = site.feed.server.topic("ticks").appended
            await eventually(lambda: site.feed.server.topic("ticks").appended > before + 100_000)
            reading.cancel()
            server = (await site.stats())["server"]
            assert balances(server)

    run(story())
