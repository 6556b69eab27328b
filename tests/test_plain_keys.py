"""Plain topics: the messages of some keys only, at some rate."""

from typing import Any

import pytest
from plain_site import PlainSite, Run, counts, plain_site, position

from fastws import History, Topic


def prices(site: PlainSite, **options: Any) -> Topic:
    """A topic with ten messages of two keys."""
    topic = site.server.topic("prices", history=History(messages=100), **options)
    for n in range(10):
        topic.publish(str(n), key="ab"[n % 2])
    return topic


def test_a_client_gets_the_keys_that_it_names(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = prices(site)
            target = f"/topics/prices?key=b&key=gr%C3%BC%C3%9F&since={topic.epoch}:3"
            async with site.connect(target) as ws:
                assert not counts(ws)
                topic.publish("x")
                topic.publish("y", key="grüß")
                assert [await ws.recv() for _ in range(4)] == ["5", "7", "9", "y"]
            async with site.connect("/topics/prices?key=&key=a") as ws:
                topic.publish("1", key="b")
                topic.publish("2")
                topic.publish("3", key="a")
                assert [await ws.recv(), await ws.recv()] == ["2", "3"]

    run(case())


@pytest.mark.parametrize("policy", ["close", "latest", "drop_oldest"])
def test_the_retained_message_is_that_of_its_keys_and_the_position_is_before_it(
    run: Run, policy: str
) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = prices(site, retain=True)
            async with site.connect(f"/topics/prices?key=a&onSlow={policy}") as ws:
                assert position(ws) == (topic.epoch, 7)
                assert await ws.recv() == "8"

    run(case())


def test_with_a_rate_and_keys_the_newest_of_each_comes(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = prices(site, retain=True)
            async with site.connect("/topics/prices?key=a&onSlow=latest&maxRate=20") as ws:
                assert await ws.recv() == "8"
                for n in range(1000):
                    topic.publish(f"{n}", key="ab"[n % 2])
                got = [await ws.recv()]
                while got[-1] != "998":
                    got.append(await ws.recv())
                assert len(got) <= 3

    run(case())


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("key=" + "%C3%BC" * 128, "a key has at most 255 bytes"),
        ("&".join(f"key={n}" for n in range(65)), "at most 64 keys"),
    ],
)
def test_too_long_and_too_many_keys_are_refused(run: Run, query: str, body: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.kept("t")
            answer = await site.refused(f"/topics/t?{query}")
            assert (answer.status, answer.body.decode()) == (400, body)
            assert topic.subscribers == 0

    run(case())


def test_the_same_key_counts_once(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = prices(site)
            query = "&".join(["key=a"] * 100)
            async with site.connect(f"/topics/prices?{query}&since={topic.epoch}:7") as ws:
                assert await ws.recv() == "8"

    run(case())
