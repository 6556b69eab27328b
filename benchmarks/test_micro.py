"""What one tick and one publish cost (pytest-benchmark): `make bench`.

Every figure is for LOOP operations; the extra column `ns_each` is one of them. Publishing is
measured by itself: what waits is sent, untimed, between two rounds, and never reaches the 256 KiB
at which a publish would send at once.
"""

import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastws import Connection, Engine, Topic
from fastws._ticks import Ticks

LOOP = 1000
ROUNDS = 50
PAYLOAD = b"x" * 100
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def per_operation(benchmark: Any) -> None:
    benchmark.extra_info["ns_each"] = round(benchmark.stats.stats.median * 1e9 / LOOP, 1)


@pytest.mark.parametrize("fields", ["base", "seq", "quote"])
@pytest.mark.parametrize("format", ["json", "binary"])
def test_a_tick_generated_and_framed(benchmark: Any, format: Any, fields: Any) -> None:
    ticks = Ticks(seed=1, format=format, fields=fields)
    now = time.time_ns()
    ticks.spin(100_000, now)
    benchmark.pedantic(ticks.spin, args=(LOOP, now), rounds=20 * ROUNDS, warmup_rounds=ROUNDS)
    per_operation(benchmark)


class Audience:
    """An engine with subscribers in a process of their own, which read and throw away."""

    def __init__(self, subscribers: int) -> None:
        need = 2 * subscribers + 1000
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < subscribers + 1000:
            pytest.skip(f"{subscribers} sockets need a higher limit of open files than {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(need, hard), hard))
        self.engine = Engine(max_connections=subscribers + 1)
        self.topic = self.engine.topic("t", on_slow="latest")
        self.engine.on_head = self._open
        self.joined = 0
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.setblocking(False)
        self.listener = listener
        self.child = os.fork()
        if self.child == 0:
            read_for_ever(listener.getsockname()[1], subscribers)
        self.engine.listen(listener.fileno())
        while self.joined < subscribers:
            self.engine.turn(0.1)

    def _open(self, connection: Connection, _head: bytes) -> None:
        self.engine.upgrade(connection, SWITCHING)
        connection.subscribe(self.topic)
        self.joined += 1

    def settle(self) -> None:
        """Send everything that waits."""
        while self.engine.turn(0) or self.topic.account()["pending"]:
            self.engine.turn(0.001)

    def close(self) -> None:
        self.engine.close()
        self.listener.close()
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)


def read_for_ever(port: int, connections: int) -> None:
    """Connect that often and drain; the parent ends this process."""
    try:
        engine = Engine(max_connections=connections + 1)

        def head(connection: Connection, _head: bytes) -> None:
            engine.upgrade(connection, b"")
            engine.meter(connection)

        engine.on_head = head
        request = b"GET / HTTP/1.1\r\n\r\n"
        for i in range(connections):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setblocking(False)
            engine.attach(sock.detach(), request)
            if i % 64 == 0:
                engine.turn(0)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            engine.turn(0.1)
    finally:
        os._exit(0)


@pytest.fixture(params=[1, 10_000], ids=["1-subscriber", "10000-subscribers"])
def audience(request: pytest.FixtureRequest) -> Iterator[Audience]:
    audience = Audience(request.param)
    yield audience
    audience.close()


def publish_many(topic: Topic) -> None:
    publish = topic.publish
    for _ in range(LOOP):
        publish(PAYLOAD)


@pytest.mark.timeout(300)
def test_publish_100_bytes(benchmark: Any, audience: Audience) -> None:
    benchmark.pedantic(
        publish_many,
        setup=lambda: (audience.settle(), ((audience.topic,), {}))[1],
        rounds=ROUNDS,
        warmup_rounds=2,
    )
    per_operation(benchmark)
