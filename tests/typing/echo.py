"""An echo, and what a coroutine handler may ask of its connection."""

import asyncio

import fastws


async def handler(ws: fastws.Connection) -> None:
    print(ws.request.path, ws.request.query.get("n"), ws.request.headers["host"], ws.subprotocol)
    host, port = ws.remote_address
    print(host.upper(), port + 1)
    async for message in ws:
        await ws.send(message)
        print(message.upper() if isinstance(message, str) else message.hex())
    seconds: float = await ws.ping()
    print(seconds)


async def careful(ws: fastws.Connection) -> None:
    try:
        async with asyncio.timeout(1):
            first = await ws.recv()
        both = await asyncio.gather(ws.send(first), ws.send(b"more"))
        print(both)
        task: asyncio.Task[str | bytes] = asyncio.create_task(ws.recv())
        print(await asyncio.wait_for(task, 1))
        await ws.drain()
        ws.send_nowait(memoryview(b"payload"))
    except fastws.LogFull:
        pass
    except fastws.ConnectionClosedOK as error:
        print(error.code, error.received and error.received.reason)
    except fastws.ConnectionClosed as error:
        print(error.sent)
    finally:
        ws.close(1001, "enough")
        await ws.close()


async def main() -> None:
    limits = fastws.Limits(max_message_size=1 << 16, ping_interval=0)
    async with fastws.serve(handler, "127.0.0.1", 8080, limits=limits) as server:
        await server.serve_forever()
    server = await fastws.serve(careful, None, 0, subprotocols=["chat"])
    for sock in server.sockets:
        print(sock.getsockname())
    await server.stop(grace=1.5)


if __name__ == "__main__":
    asyncio.run(main())
