"""Plain topics with `envelope=1` and `batch=n` in the query, and a client that comes back."""

import json

import pytest
from plain_site import Run, plain_site, position

from fastws import Gap, History, connect


@pytest.mark.parametrize("deflate", [False, True])
def test_an_envelope_begins_where_the_101_says(run: Run, deflate: bool) -> None:
    async def case() -> None:
        async with plain_site(options={"deflate": deflate}) as site:
            topic = site.server.topic("prices", content="json", history=History(messages=10))
            topic.publish_all(["0", "1", "2"])
            since = f"?envelope=1&since={topic.epoch}:0"
            async with site.connect(f"/topics/prices{since}") as ws:
                assert position(ws) == (topic.epoch, 0)
                topic.publish("3", key="BTC")
                assert [json.loads(await ws.recv()) for _ in range(4)] == [
                    {"epoch": topic.epoch, "seq": 0, "recovered": True},
                    {"seq": 1, "data": 1},
                    {"seq": 2, "data": 2},
                    {"seq": 3, "key": "BTC", "data": 3},
                ]

    run(case())


def test_a_batch_holds_as_many_as_wait(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("prices")
            async with site.connect("/topics/prices?batch=2") as ws:
                topic.publish_all(["a", "b", "c"])
                assert [await ws.recv() for _ in range(2)] == ['["a","b"]', '["c"]']

    run(case())


def test_a_client_that_comes_back_goes_on_behind_its_last_message(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic("prices", content="json", history=History(messages=100))
            got: list[int] = []
            async for ws in connect(site.url("/topics/prices?envelope=1"), gaps=True):
                if not got:
                    topic.publish_all([f"{n}" for n in range(5)])
                async for message in ws:
                    assert not isinstance(message, Gap)
                    said = json.loads(message)
                    if "data" in said:
                        got.append(said["data"])
                    if got[-1:] == [4]:  # it is cut off, and misses some
                        for connection in list(site.server.engine.connections):
                            connection.abort()
                        topic.publish_all([f"{n}" for n in range(5, 9)])
                    if got[-1:] == [8]:
                        break
                if got[-1:] == [8]:
                    break
            assert got == list(range(9))

    run(case())
