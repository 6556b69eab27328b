"""socketify, which is uWebSockets: its own topics; a burst is published before a round of libuv.

Not from a message handler, which holds the cork of its own socket, so that what it publishes is a
call each; nor from a timer of libuv, which may run several times in a round, so that a call would
hold several bursts. libuv's loop runs by itself, because the loop that socketify wraps around it
polls without waiting.
"""

import os
import signal
from typing import Any

from socketify import App, AppListenOptions, OpCode

from benchmarks.compare.peers.common import Source, options

ROOM = 1 << 30  # bytes that may wait for a client


def main() -> None:
    """Serve."""
    load = options()
    source = Source(load)
    app = App()
    loop = app.loop.uv_loop

    def upgrade(response: Any, request: Any, context: Any) -> None:
        names = ("key", "protocol", "extensions")
        key, protocol, extensions = (request.get_header(f"sec-websocket-{it}") for it in names)
        echo = load.echoes(request.get_url())
        response.upgrade(key, protocol, extensions, context, "echo" if echo else "subscribed")

    def opened(websocket: Any) -> None:
        if websocket.get_user_data() == "subscribed":
            for topic in source.topics:
                websocket.subscribe(topic)
            source.joined()

    def message(websocket: Any, text: Any, opcode: Any) -> None:
        if websocket.get_user_data() == "echo":
            websocket.send(text, opcode)
        else:
            source.told(text)

    handlers = {"upgrade": upgrade, "open": opened, "message": message, "idle_timeout": 0}
    limits = {"max_backpressure": ROOM, "max_payload_length": 1 << 20, "compression": 0}
    app.ws("/*", {**handlers, **limits})
    app.listen(AppListenOptions(port=load.port, host="127.0.0.1"), lambda _: None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    while True:
        if source.due:
            for topic, text in source.burst():
                app.publish(topic, text, OpCode.TEXT)
            loop.run_nowait()
        else:
            loop.run_once()


if __name__ == "__main__":
    main()
