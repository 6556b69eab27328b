"""Plain topics: any WebSocket client gets the messages of /topics/{topic}, as published."""

import asyncio
import threading
from itertools import count
from pathlib import Path

import aiohttp
import pytest
from handler_apps import eventually
from line_site import LineSite, numbered
from plain_site import PlainSite, Run, counts, plain_site, position
from support import CLOSE, TEXT, Site, client_frame, close_payload
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK

from fastws import (
    History,
    Lag,
    Limits,
)


def test_a_client_gets_each_message_as_it_was_published(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("prices", history=History(messages=10))
            topic.publish("before")
            async with site.connect("/topics/prices") as ws:
                assert position(ws) == (topic.epoch, 0)
                topic.publish("text")
                topic.publish(b"\x00\xff")
                topic.publish("")
                assert [await ws.recv() for _ in range(3)] == ["text", b"\x00\xff", ""]

    run(case())


def test_aiohttp_gets_them_too_compressed_and_with_a_subprotocol(run: Run) -> None:
    async def case() -> None:
        options = {"deflate": True, "subprotocols": ["live"]}
        async with plain_site(options=options) as site, aiohttp.ClientSession() as session:
            topic = site.server.topic("prices", history=History(messages=10))
            topic.publish_all(["a" * 1000, b"b" * 1000])
            url = site.url(f"/topics/prices?since={topic.epoch}:-1")
            async with session.ws_connect(url, protocols=["live"], compress=15) as ws:
                assert ws.protocol == "live"
                assert ws.compress == 15
                assert await ws.receive_str() == "a" * 1000
                assert await ws.receive_bytes() == b"b" * 1000
                await asyncio.to_thread(topic.publish, "c")
                assert await ws.receive_str() == "c"

    run(case())


@pytest.mark.parametrize(("seq", "first"), [(-1, "0"), (3, "4"), (9, "live")])
def test_since_replays_what_came_after_a_position(run: Run, seq: int, first: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("news", history=History(messages=100))
            topic.publish_all(str(n) for n in range(10))
            async with site.connect(f"/topics/news?since={topic.epoch}:{seq}") as ws:
                assert position(ws) == (topic.epoch, seq)
                topic.publish("live")
                assert await ws.recv() == first

    run(case())


@pytest.mark.parametrize("since", ["gone:3", "{epoch}:99", "{epoch}:9999999999999999999"])
def test_a_position_that_is_gone_begins_now_and_the_101_says_where(run: Run, since: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("news", history=History(messages=100))
            topic.publish_all(["0", "1", "2"])
            target = "/topics/news?since=" + since.format(epoch=topic.epoch)
            async with site.connect(target) as ws:
                assert position(ws) == (topic.epoch, 2)
                topic.publish("3")
                assert await ws.recv() == "3"

    run(case())


def test_the_retained_message_comes_first_and_the_position_is_before_it(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("price", retain=True)
            topic.publish_all(["0", "1"])
            async with site.connect("/topics/price") as ws:
                assert position(ws) == (topic.epoch, 0)
                assert await ws.recv() == "1"

    run(case())


def test_with_keys_who_asks_for_the_latest_begins_with_the_newest_of_each(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("price", retain=True)
            for n, key in enumerate("abab"):
                topic.publish(f"{key}{n}", key=key)
            async with site.connect("/topics/price?onSlow=latest") as ws:
                assert position(ws) == (topic.epoch, 1)
                assert [await ws.recv(), await ws.recv()] == ["a2", "b3"]
            async with site.connect("/topics/price?onSlow=close") as ws:
                assert position(ws) == (topic.epoch, 2)
                assert await ws.recv() == "b3"

    run(case())


def test_nothing_is_lost_or_doubled_between_the_position_and_the_first_message(run: Run) -> None:
    """While another thread publishes without a pause."""

    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("numbers", history=History(messages=200))
            done = threading.Event()

            def publish() -> None:
                for n in count():
                    topic.publish(str(n))
                    if done.wait(0.0005):
                        return

            thread = threading.Thread(target=publish)
            thread.start()
            try:
                await asyncio.gather(*[follow(site, n) for n in range(12)])
            finally:
                done.set()
                thread.join()

    async def follow(site: PlainSite, n: int) -> None:
        # Half of them come back, to a position that may be gone by then.
        async with site.connect("/topics/numbers") as ws:
            epoch, seq = position(ws)
            got = [int(await ws.recv()) for _ in range(n)]
            assert got == list(range(seq + 1, seq + 1 + n))
        async with site.connect(f"/topics/numbers?since={epoch}:{seq + n}") as ws:
            _, begins = position(ws)
            assert begins >= seq + n
            got = [int(await ws.recv()) for _ in range(5)]
            assert got == list(range(begins + 1, begins + 6))

    run(case())


# Slow clients.


async def flood(site: PlainSite, target: str) -> tuple[list[int], bytes | None]:
    """Publish far more than a client takes that does not read: what it gets, and a Close."""
    topic = site.server.topic("slow", max_lag=Lag(bytes=32 << 10))
    async with await site.client(target, receive_buffer=1 << 14) as client:
        for n in range(2000):
            topic.publish(f"{n} ".ljust(1000, "."))
            if n % 20 == 0:
                await asyncio.sleep(0)
        got: list[int] = []
        while not got or got[-1] != 1999:
            opcode, payload = await client.frame()
            if opcode == CLOSE:
                return got, payload
            got.append(int(payload.split(b" ")[0]))
        return got, None


def test_who_is_slow_is_closed_with_1013(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            got, close = await flood(site, "/topics/slow")
            assert close == close_payload(1013, "slow consumer")
            assert got == list(range(len(got)))

    run(case())


@pytest.mark.parametrize("policy", ["latest", "drop_oldest"])
def test_who_asks_for_it_goes_on_with_newer_ones(run: Run, policy: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            got, close = await flood(site, f"/topics/slow?onSlow={policy}")
            assert close is None
            assert got[-1] == 1999
            assert len(got) < 2000
            assert got == sorted(set(got))

    run(case())


def test_the_101_says_whether_every_message_comes(run: Run) -> None:
    async def case() -> None:
        async with plain_site(lossless=True) as site:
            topic = site.kept("t")
            site.server.topic("newest", on_slow="latest")
            site.server.topic("held", on_slow="lossless")
            asked = {
                "t": True,
                "newest": False,
                "held": False,  # the program may change its policy any time
                "t?onSlow=latest": False,
                "t?onSlow=drop_oldest": False,
                "newest?onSlow=close": True,
                "t?onSlow=lossless": True,
            }
            for target, every in asked.items():
                async with site.connect(f"/topics/{target}") as ws:
                    assert counts(ws) == every, target
            # Who was told so keeps the policy.
            async with await site.client("/topics/t", receive_buffer=1 << 14) as client:
                topic.configure(on_slow="latest", max_lag=Lag(bytes=32 << 10))
                topic.publish_all([b"x" * 1000] * 16_000)
                assert (await client.until(CLOSE))[:2] == close_payload(1013)

    run(case())


# Rates.


def test_with_a_rate_who_asks_for_the_latest_gets_fewer_and_the_newest(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("t", retain=True)
            topic.publish("first")
            async with site.connect("/topics/t?onSlow=latest&maxRate=5") as ws:
                assert position(ws) == (topic.epoch, -1)
                assert await ws.recv() == "first"
                topic.publish_all(str(n) for n in range(1000))
                got = [await ws.recv()]
                while got[-1] != "999":
                    got.append(await ws.recv())
                assert len(got) <= 3

    run(case())


def test_with_a_rate_who_asks_for_nothing_else_gets_every_message(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.kept("t")
            async with site.connect("/topics/t?maxRate=1000") as ws:
                assert counts(ws)
                expected = []
                for n in range(100):
                    topic.publish_all([str(2 * n), str(2 * n + 1)])
                    expected += [str(2 * n), str(2 * n + 1)]
                    await asyncio.sleep(0)
                assert [await ws.recv() for _ in expected] == expected

    run(case())


# What a client says, and the end.


def test_what_a_client_sends_is_ignored_and_counted(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.kept("t")
            async with site.connect("/topics/t") as ws:
                for message in ("a", b"b", ""):
                    await ws.send(message)
                await (await ws.ping())
                assert site.server.counters()["ignored_messages"] == 3
                topic.publish("on")
                assert await ws.recv() == "on"

    run(case())


def test_its_message_rate_counts(run: Run) -> None:
    async def case() -> None:
        options = {"limits": Limits(message_rate=5)}
        async with plain_site(options=options) as site:
            site.kept("t")
            async with await site.client("/topics/t") as client:
                await client.send(client_frame(TEXT, b"x") * 20)
                await eventually(lambda: site.server.counters()["message_rate_paused"])
                assert site.server.counters()["ignored_messages"] < 20

    run(case())


def test_the_end_of_the_topic_is_1001(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic, other = site.kept("t"), site.kept("u")
            async with site.connect("/topics/t") as ws, site.connect("/topics/u") as spared:
                topic.close()
                with pytest.raises(ConnectionClosedOK, match="the topic is closed"):
                    await ws.recv()
                assert ws.close_code == 1001
                other.publish("on")
                assert await spared.recv() == "on"
            assert (await site.refused("/topics/t")).status == 404

    run(case())


def test_the_end_of_the_server_is_1001(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            site.kept("t")
            async with await site.client("/topics/t") as client:
                stopping = asyncio.create_task(site.server.stop())
                assert (await client.until(CLOSE))[:2] == close_payload(1001)
                await client.send(client_frame(CLOSE, close_payload(1001)))
                await stopping

    run(case())


# `fastws serve`.


def test_the_ticks_are_a_plain_topic_and_its_clients_are_counted(run: Run) -> None:
    async def case() -> None:
        async with Site(rate=1000) as site:
            async with connect(f"ws://127.0.0.1:{site.port}/topics/ticks") as ws:
                assert '"symbol":' in str(await ws.recv())
                assert not counts(ws)
                assert (await site.stats())["server"]["connections"] == 1
            await site.stats_when(lambda stats: stats["server"]["connections"] == 0)
            url = f"ws://127.0.0.1:{site.port}/topics/ticks?onSlow=close"
            async with connect(url) as ws:
                assert counts(ws)

    run(case())


def test_lines_are_a_plain_topic_and_wait_for_its_clients(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        async with LineSite(tmp_path, topic="log", wait_for=1) as site:
            lines = numbered(100)
            await site.write(b"\n".join([*lines, b""]))
            async with connect(f"ws://127.0.0.1:{site.port}/topics/log") as ws:
                assert [str(await ws.recv()).encode() for _ in lines] == lines
                assert site.feed.stats()["server"]["connections"] == 1  # type: ignore[index]

    run(case())
