"""How many topics one connection is subscribed to."""

import asyncio

import pytest
from plain_site import Run
from websockets.asyncio.client import connect

from fastws import Connection, Limits, SubscriptionLimit, serve


@pytest.mark.hostile("X61")
def test_a_connection_has_a_limit_of_subscriptions(run: Run) -> None:
    async def case() -> None:
        refused: list[str] = []

        async def handler(ws: Connection) -> None:
            for name in "abc":
                try:
                    ws.subscribe(name)
                except SubscriptionLimit as error:
                    refused.append(f"{name}: {error}")
            ws.subscribe("a", on_slow="latest")  # it has begun
            ws.unsubscribe(ws.engine.topic("a"))
            ws.subscribe("c")
            topic = ws.engine.topic("d")
            await asyncio.to_thread(ws.subscribe, topic)
            await ws.send("done")

        limits = Limits(max_subscriptions=2)
        async with serve(handler, "127.0.0.1", 0, limits=limits) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/") as ws:
                assert await ws.recv() == "done"
            assert refused == ["c: the connection has max_subscriptions subscriptions already"]
            counters = server.counters()
            assert (counters["subscriptions_refused"], counters["staged_refused"]) == (2, 1)

    run(case())
