"""A client: once, by hand, and one that connects again."""

import asyncio

from fastws import ConnectionClosed, Limits, connect


async def once() -> str | bytes:
    async with connect("ws://localhost:8080", subprotocols=["chat"]) as ws:
        await ws.send("hello")
        return await ws.recv()


async def by_hand() -> None:
    ws = await connect("ws://localhost:8080", headers={"X-A": "1"}, limits=Limits())
    await ws.close(1001, "enough")


async def again() -> None:
    async for ws in connect("ws://localhost:8080", stale_timeout=10):
        try:
            async for message in ws:
                print(message)
        except ConnectionClosed:
            continue


if __name__ == "__main__":
    asyncio.run(once())
