"""socketify, which is uWebSockets: one topic; a timer of libuv's loop publishes a burst.

Not the message handler: what it sends to other clients is a call each, because its own socket has
the cork. libuv's loop runs by itself, because the loop that socketify wraps around it polls
without waiting. libuv may run the timer several times in a round: then a call holds several bursts.
"""

import os
import signal
from typing import Any

from socketify import App, AppListenOptions, OpCode

from benchmarks.compare.peers.common import Source, options

ROOM = 1 << 30  # bytes that may wait for a client
TOPIC = "load"


def main() -> None:
    """Serve."""
    load = options()
    source = Source(load)
    app = App()
    timers: list[Any] = []  # the running one, or it would be collected

    def step() -> None:
        timers.clear()
        if source.due:
            for message in source.burst():
                app.publish(TOPIC, message, OpCode.TEXT)
            start()

    def start() -> None:
        if not timers and source.due:
            timers.append(app.loop.set_timeout(0, lambda _: step(), None))

    def opened(websocket: Any) -> None:
        if not load.echo:
            websocket.subscribe(TOPIC)
            source.joined()
            start()

    def message(websocket: Any, text: Any, opcode: Any) -> None:
        if load.echo:
            websocket.send(text, opcode)
            return
        source.told(text)
        start()

    handlers = {"open": opened, "message": message, "max_backpressure": ROOM, "idle_timeout": 0}
    app.ws("/*", {**handlers, "max_payload_length": 1 << 20, "compression": 0})
    app.listen(AppListenOptions(port=load.port, host="127.0.0.1"), lambda _: None)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    app.loop.uv_loop.run()


if __name__ == "__main__":
    main()
