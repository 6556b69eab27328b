"""A server that sends one frame per flush: the counterpart of `bare.py --mode single`.

Accepts N WebSocket clients, prints its port, then publishes a tick and flushes, again and again,
for S seconds: one system call for each client and tick, as the counter shows. Prints one JSON
line: frames (whole, over all clients), sends, seconds, frames_per_s, sends_per_frame.
"""

import argparse
import json
import socket
import time

from fastws import Connection, Engine, Topic
from fastws._ticks import Ticks
from fastws.http.head import parse_request
from fastws.http.upgrade import check_upgrade, switching_protocols
from fastws.lag import Lag

POLL_EVERY = 16  # ticks; an event loop would poll when it has nothing else to do


def payloads(count: int) -> list[bytes]:
    """Return `count` JSON ticks without their frame headers."""
    frames = Ticks(seed=1).frames(count, time.time_ns())
    cut: list[bytes] = []
    at = 0
    while at < len(frames):
        size = frames[at + 1]  # below 126, so that the header has two bytes (RFC 6455 5.2)
        cut.append(frames[at + 2 : at + 2 + size])
        at += 2 + size
    return cut


def fan_out(engine: Engine, topic: Topic, seconds: float) -> dict[str, float]:
    """Publish and flush, tick by tick."""
    ticks = payloads(4096)
    delivered, sends = topic.delivered, engine.counters()["sends"]
    began = now = time.monotonic()
    i = 0
    while now < began + seconds and topic.subscribers:
        topic.publish(ticks[i % 4096], text=True)
        i += 1
        # As the turns that a publish schedules in an event loop: most make no epoll_wait.
        while engine.turn(0, poll=i % POLL_EVERY == 0):
            pass
        now = time.monotonic()
    frames = topic.delivered - delivered
    sends = engine.counters()["sends"] - sends
    return {
        "frames": frames,
        "sends": sends,
        "seconds": now - began,
        "frames_per_s": frames / (now - began),
        "sends_per_frame": sends / max(frames, 1),
    }


def main() -> None:
    """Serve one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    engine = Engine(max_connections=arguments.clients)
    topic = engine.topic("ticks", on_slow="latest", max_lag=Lag(bytes=8 << 20))

    def head(connection: Connection, request: bytes) -> None:
        answer = switching_protocols(check_upgrade(parse_request(request)))
        engine.upgrade(connection, answer)
        connection.subscribe(topic)

    engine.on_head = head
    with socket.create_server(("127.0.0.1", arguments.port), backlog=1024) as listener:
        listener.setblocking(False)
        engine.listen(listener.fileno())
        print(listener.getsockname()[1], flush=True)
        deadline = time.monotonic() + 30
        while topic.subscribers < arguments.clients and time.monotonic() < deadline:
            engine.turn(0.1)
        print(json.dumps(fan_out(engine, topic, arguments.seconds)), flush=True)
        engine.close()


if __name__ == "__main__":
    main()
