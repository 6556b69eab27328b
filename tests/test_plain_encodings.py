"""Plain topics with an envelope, in batches, and of some keys only."""

import json
import struct
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from plain_site import PlainSite, Run, plain_site, position
from support import Client
from websockets.asyncio.client import ClientConnection

from fastws import History, Lag, Topic


async def first(ws: ClientConnection, *, may_skip: bool = False) -> Any:
    """What an envelope begins with: the position that the 101 has, or one that is as good."""
    said = json.loads(await ws.recv())
    epoch, seq = position(ws)
    assert said.pop("epoch") == epoch
    number = said.pop("seq")
    assert number == seq or (may_skip and number > seq)
    return said


def delivery(ws: ClientConnection) -> str | None:
    assert ws.response is not None
    return ws.response.headers.get("Fastws-Delivery")


def prices(site: PlainSite, **options: Any) -> Topic:
    """A topic with ten messages of two keys."""
    options = {"history": History(messages=100)} | options
    topic = site.server.topic("prices", **options)
    for n in range(10):
        topic.publish(str(n), key="ab"[n % 2])
    return topic


# Envelopes.


def test_an_envelope_tells_where_it_begins_and_numbers_what_follows(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = prices(site, content="json")
            async with site.connect("/topics/prices?envelope=1") as ws:
                assert delivery(ws) == "numbered"
                assert await first(ws) == {}
                topic.publish('{"p":1}', key="a")
                topic.publish("2")
                assert await ws.recv() == '{"seq":10,"key":"a","data":{"p":1}}'
                assert await ws.recv() == '{"seq":11,"data":2}'

    run(case())


@pytest.mark.parametrize(("seq", "recovered"), [(7, True), (9, True), (99, False)])
def test_with_since_it_tells_whether_it_has_recovered(run: Run, seq: int, recovered: bool) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = prices(site)
            target = f"/topics/prices?envelope=1&since={topic.epoch}:{seq}"
            async with site.connect(target) as ws:
                assert await first(ws) == {"recovered": recovered}
                topic.publish("live")
                expected = [*range(seq + 1, 10), 10] if recovered else [10]
                assert [json.loads(await ws.recv())["seq"] for _ in expected] == expected

    run(case())


def options() -> Iterator[str]:
    """Ways to ask that decide where a subscription begins."""
    policies = ("", "&onSlow=latest", "&onSlow=close", "&onSlow=drop_oldest")
    for parts in product(policies, ("", "&key=a", "&key=b"), ("", "&maxRate=10"), ("", "&batch=3")):
        yield "?envelope=1" + "".join(parts)


def test_the_101_and_the_first_message_agree_however_one_asks(run: Run) -> None:
    async def case() -> None:
        for kept in ({}, {"retain": True}, {"retain": True, "on_slow": "latest"}):
            async with plain_site() as site:
                topic = prices(site, history=History(messages=5), **kept)
                known = {"": None, f"&since={topic.epoch}:8": True, "&since=gone:8": False}
                for asked, (since, recovered) in product(options(), known.items()):
                    async with site.connect(f"/topics/prices{asked}{since}") as ws:
                        said = await first(ws, may_skip="key=" in asked and bool(recovered))
                        assert said.get("recovered") is recovered

    run(case())


async def gap_and_rest(client: Client, last: int) -> list[int]:
    """The numbers that come, those of gaps among them."""
    numbers: list[int] = []
    while not numbers or numbers[-1] != last:
        _, payload = await client.frame()
        said = json.loads(payload)
        if "gap" in said:
            begin, end = said["gap"]
            assert said["reason"] == "slow"
            numbers += range(begin, end + 1)
        elif "data" in said:
            numbers.append(said["seq"])
    return numbers


@pytest.mark.parametrize("policy", ["latest", "drop_oldest"])
def test_a_loss_is_told_where_it_happens(run: Run, policy: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("t", max_lag=Lag(bytes=32 << 10))
            target = f"/topics/t?envelope=1&onSlow={policy}"
            async with await site.client(target, receive_buffer=1 << 14) as client:
                topic.publish_all("x" * 1000 for _ in range(2000))
                topic.engine.flush()
                topic.publish_all("x" * 1000 for _ in range(2000))
                assert await gap_and_rest(client, 3999) == list(range(4000))

    run(case())


# Batches.


def test_a_batch_has_several_messages(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = prices(site, content="json")
            since = f"since={topic.epoch}:-1"
            async with site.connect(f"/topics/prices?batch=4&{since}") as ws:
                assert delivery(ws) is None
                sizes = [len(json.loads(await ws.recv())) for _ in range(3)]
                assert sizes == [4, 4, 2]
            async with site.connect(f"/topics/prices?batch=100&envelope=1&{since}&key=b") as ws:
                assert delivery(ws) == "numbered"
                await first(ws, may_skip=True)
                got: list[int] = []
                while len(got) < 5:
                    got += [each["seq"] for each in json.loads(await ws.recv())]
                assert got == [1, 3, 5, 7, 9]

    run(case())


def test_a_batch_of_binary_messages_has_sizes(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("t", history=History(messages=9), content="binary")
            topic.publish_all([b"a", b"bc"])
            async with site.connect(f"/topics/t?batch=9&since={topic.epoch}:-1&envelope=1") as ws:
                await first(ws)
                expected = struct.pack("<IQcIQ2s", 9, 0, b"a", 10, 1, b"bc")
                assert await ws.recv() == expected

    run(case())


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("envelope=0", "envelope must be 1"),
        ("envelope=", "envelope must be 1"),
        ("envelope=1&envelope=1", "envelope is there twice"),
        ("batch=0", "batch must be an integer from 1 to 1,024"),
        ("batch=1025", "batch must be an integer from 1 to 1,024"),
        ("batch=1.0", "batch must be an integer from 1 to 1,024"),
        ("batch=%D9%A1", "batch must be an integer from 1 to 1,024"),
        ("batch=1&batch=1", "batch is there twice"),
    ],
)
def test_what_is_out_of_range_is_refused(run: Run, query: str, body: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            site.kept("t")
            answer = await site.refused(f"/topics/t?{query}")
            assert (answer.status, answer.body.decode()) == (400, body)

    run(case())
