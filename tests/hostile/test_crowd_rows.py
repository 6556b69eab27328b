"""Crowds of 10,000 clients, which live in processes of their own (crowd.py)."""

import asyncio
import gc
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from crowd import Crowd
from servers import Place, server
from surroundings import INSTRUMENTED
from wire import BINARY, TEXT, frame, request

from fastws import App, Connection, Engine, Request, Server, Topic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MIB = 1 << 20
MANY = 10_000
STATS = b"GET /stats HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """An echo server that these tests have to themselves."""
    with server("echo", "uvloop", "tcp4", tmp_path) as place:
        place.settle()
        yield place


@pytest.fixture
def crowd(place: Place) -> Iterator[Crowd]:
    """Clients of the echo server."""
    assert isinstance(place.address, tuple)
    with Crowd(*place.address) as crowd:
        yield crowd


def slowest_answer(place: Place, until: Callable[[], bool]) -> float:
    """Echo with somebody else until then; the longest that one answer took, seconds."""
    wire, longest = place.open(), 0.0
    while not until():
        began = time.monotonic()
        wire.round_trip(TEXT, b"still there?")
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.01)
    wire.close()
    return longest


@pytest.mark.hostile("X21")
def test_ten_thousand_that_declare_a_message_and_send_nothing_cost_nothing(
    place: Place, crowd: Crowd
) -> None:
    crowd.do("open", n=MANY)
    place.settle()
    idle = place.rss_bytes()
    crowd.do("send", data=frame(BINARY, declared=MIB).hex())
    place.settle()
    place.settle()
    each = (place.rss_bytes() - idle) / MANY
    print(f"{each:.0f} bytes each on top of an idle one")
    assert INSTRUMENTED or each < 1024


@pytest.mark.hostile("X21")
def test_the_first_byte_of_each_fragment_is_what_memory_follows(place: Place, crowd: Crowd) -> None:
    crowd.do("open", n=1000)
    place.settle()
    idle = place.rss_bytes()
    crowd.do("send", data=frame(BINARY, b"x", fin=False).hex())
    crowd.do("send", data=frame(0, b"yz", declared=MIB - 1, fin=False).hex())
    place.settle()
    assert INSTRUMENTED or (place.rss_bytes() - idle) / 1000 < 4096


@pytest.mark.hostile("X43")
def test_ten_thousand_come_a_thousand_a_second(place: Place, crowd: Crowd) -> None:
    crowd.begin("open", n=MANY, per_second=1000)
    longest = slowest_answer(place, crowd.ready)
    took = crowd.result()
    print(took, f"others waited {longest:.3f} s at most")
    assert took["open"] == MANY
    assert INSTRUMENTED or took["p99"] < 1


@pytest.mark.hostile("X24", "X42")
def test_ten_thousand_break_off_and_are_all_back_in_ten_seconds(place: Place, crowd: Crowd) -> None:
    """More than wait in the queue of the listening socket come at a time."""
    crowd.do("open", n=MANY)
    for _ in range(2):
        crowd.do("reset")
        crowd.begin("open", n=MANY, unanswered=MANY)
        longest = slowest_answer(place, crowd.ready)
        took = crowd.result()
        print(took, f"others waited {longest:.3f} s at most")
        assert took["open"] == MANY
        assert INSTRUMENTED or took["seconds"] < 10
    crowd.do("reset")


def unmasked(payload: bytes) -> bytes:
    """The frame as a server sends it."""
    return frame(BINARY, payload, key=None)


class News(App):
    """Whoever comes first gets the news; the others only come."""

    def __init__(self) -> None:
        self.topic: Topic | None = None

    def opened(self, connection: Connection, request: Request) -> None:
        if self.topic is None:
            self.topic = connection.engine.topic("news")
            connection.subscribe(self.topic)


async def slowest_broadcast(
    topic: Topic, reader: asyncio.StreamReader, until: Callable[[], bool]
) -> tuple[float, float]:
    """Publish every 10 ms until then: the longest way of one to its reader, in seconds.

    Counted from when it was due, on the clock, and in time that this thread had a processor.
    """
    longest = longest_used = 0.0
    while not until():
        due, used = time.monotonic() + 0.01, time.thread_time()
        await asyncio.sleep(0.01)
        topic.publish(b"news")
        assert await reader.readexactly(6) == unmasked(b"news")
        longest = max(longest, time.monotonic() - due)
        longest_used = max(longest_used, time.thread_time() - used)
    return longest, longest_used


@pytest.mark.hostile("X42")
def test_broadcasts_leave_in_time_while_ten_thousand_come_back(
    run: Callable[[Coroutine[Any, Any, None]], None],
) -> None:
    app = News()
    server = Server(app)
    address = server.listen("127.0.0.1", 0)[0]

    async def storm() -> None:
        server.start()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(request())
        await reader.readuntil(b"\r\n\r\n")
        assert app.topic is not None
        try:
            with Crowd(*address) as crowd:
                for _ in range(3):
                    crowd.begin("open", n=MANY, unanswered=MANY)
                    longest, used = await slowest_broadcast(app.topic, reader, crowd.ready)
                    print(crowd.result(), f"a broadcast took {longest:.3f} s, {used:.3f} of work")
                    assert INSTRUMENTED or used < 0.1
                    assert INSTRUMENTED or longest < 2
                    crowd.do("reset")
        finally:
            writer.close()
            await server.stop()

    gc.collect()
    gc.freeze()  # The tests' own heap, which a collection walks for 0.1 s, is no server's.
    try:
        run(storm())
    finally:
        gc.unfreeze()


class Hall:
    """An engine that this process drives, and a crowd that listens to one topic."""

    def __init__(self, n: int, on_slow: str = "close") -> None:
        self.engine = Engine(max_connections=n + 10, ping_interval=0)
        self.topic: Topic = self.engine.topic("t", on_slow=on_slow)  # type: ignore[arg-type]
        self.engine.on_head = self._on_head
        self.engine.on_message = lambda connection, message: connection.send_nowait(message)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=65535)
        self._listener.setblocking(False)
        self.engine.listen(self._listener.fileno())
        self.address: tuple[str, int] = self._listener.getsockname()

    def _on_head(self, connection: Connection, _head: bytes) -> None:
        self.engine.upgrade(connection, SWITCHED)
        connection.subscribe(self.topic)

    def turn_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 120
        while not condition():
            assert time.monotonic() < deadline
            self.engine.turn(0.01)

    def close(self) -> None:
        self.engine.close()
        self._listener.close()


@pytest.fixture
def hall() -> Iterator[Hall]:
    hall = Hall(MANY)
    yield hall
    hall.close()


@pytest.mark.hostile("X63")
@pytest.mark.parametrize(
    ("clients", "size"), [(MANY, 0), (MANY, 125), (MANY, 16_384), (2_000, MIB)]
)
def test_messages_of_any_size_reach_a_crowd_whole(hall: Hall, clients: int, size: int) -> None:
    payload = bytes(i % 251 for i in range(size))
    with Crowd(*hall.address) as crowd:
        crowd.begin("open", n=clients)
        hall.turn_until(crowd.ready)
        assert crowd.result()["open"] == clients
        crowd.begin("expect", data=unmasked(payload).hex(), times=2, patience=110)
        hall.topic.publish(payload)
        hall.topic.publish(payload)
        hall.turn_until(crowd.ready)
        crowd.result()
        hall.turn_until(lambda: hall.topic.account()["pending"] == 0)
        assert hall.topic.delivered == 2 * clients


@pytest.mark.hostile("X41", "X66")
def test_a_storm_for_a_crowd_is_bounded_and_the_server_answers(tmp_path: Path) -> None:
    """100,000 ticks a second for 10,000 clients, a hundred times what can be delivered here."""
    with server("serve", "uvloop", "tcp4", tmp_path, "--rate", "100000") as place:
        assert isinstance(place.address, tuple)
        with Crowd(*place.address) as crowd:
            crowd.do("open", n=MANY, patience=120)
            crowd.begin("drain", seconds=8)
            longest = longest_used = 0.0
            while not crowd.ready():
                began, used = time.monotonic(), place.cpu_seconds()
                assert place.ask(STATS).status == 200
                longest = max(longest, time.monotonic() - began)
                longest_used = max(longest_used, place.cpu_seconds() - used)
                time.sleep(0.1)
            print(crowd.result(), f"an answer took {longest:.3f} s, {longest_used:.3f} of work")
            print(f"{place.rss_bytes() / MIB:.0f} MiB")
            assert INSTRUMENTED or place.rss_bytes() < 200 * MIB
            # Beside a crowd on the same processors: of the time that the server was given.
            assert INSTRUMENTED or longest_used < 0.1
            assert INSTRUMENTED or longest < 2
            crowd.do("reset")
