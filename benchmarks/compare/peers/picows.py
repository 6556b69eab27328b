"""picows under uvloop: it has no topics, so that a message is a `send` to each client.

Its transports are those of aiofastnet, which picows prefers.
"""

import asyncio

import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from benchmarks.compare.peers.common import BACKLOG, Rooms, Source, options, until_ended

TEXT = WSMsgType.TEXT


async def main(aiofastnet: bool = True) -> None:
    """Serve; without aiofastnet the transports are uvloop's."""
    load = options()
    source = Source(load)
    rooms = Rooms[WSTransport](source)

    class Client(WSListener):
        def __init__(self, echo: bool) -> None:
            self.echo = echo

        def on_ws_connected(self, transport: WSTransport) -> None:
            if not self.echo:
                rooms.join(transport)

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type != TEXT:
                transport.disconnect()
            elif self.echo:
                transport.send(TEXT, frame.get_payload_as_memoryview())
            else:
                source.told(frame.get_payload_as_bytes())

    async def publish() -> None:
        while True:
            await source.wait()
            for topic, message in source.burst():
                for client in rooms.of[topic]:
                    client.send(TEXT, message)

    def listener(request: WSUpgradeRequest) -> WSListener:
        return Client(load.echoes(request.path.decode()))

    server = await ws_create_server(
        listener, "127.0.0.1", load.port, use_aiofastnet=aiofastnet, backlog=BACKLOG
    )
    publishing = None if load.echo else asyncio.create_task(publish())
    await until_ended()
    server.close()
    if publishing is not None:
        publishing.cancel()


if __name__ == "__main__":
    uvloop.run(main())
