"""What the server of `topics.py` does for the section pace: a coroutine that publishes on time.

Its watcher is woken by a timerfd every millisecond (asyncio's and libuv's own timers round to
milliseconds) and notes how late it runs. Under asyncio's loop the selector notes how much processor
time the thread took from one wait for events to the next.
"""

import asyncio
import ctypes
import math
import os
import selectors
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from topics_wire import PAYLOAD_SIZE, Json, thread_ns

TICK_NS = 1_000_000
BURST = 1000  # messages of the other thread between two looks at the clock
PAUSE = 0.0002  # seconds that it waits when it may not stage more, or none is due


class WatchedSelector(selectors.EpollSelector):
    """Notes the processor time between two waits while `rounds` is a list."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds: list[int] | None = None
        self._woken = thread_ns()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events."""
        if self.rounds is not None:
            self.rounds.append(thread_ns() - self._woken)
        try:
            return super().select(timeout)
        finally:
            self._woken = thread_ns()


def watched_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of asyncio with that selector."""
    return asyncio.SelectorEventLoop(WatchedSelector())


class Watcher:
    """Notes how late the loop comes to what is due every millisecond."""

    def __init__(self) -> None:
        self.late: list[int] = []  # ns
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0, os.strerror(ctypes.get_errno())
        self._due = time.monotonic_ns() + TICK_NS
        # struct itimerspec: the interval, then the first expiry, each in seconds and nanoseconds.
        times = (ctypes.c_long * 4)(0, TICK_NS, *divmod(self._due, 10**9))
        absolute = 1  # TFD_TIMER_ABSTIME
        assert libc.timerfd_settime(self._fd, absolute, times, None) == 0
        asyncio.get_running_loop().add_reader(self._fd, self._woken)

    def _woken(self) -> None:
        self.late.append(time.monotonic_ns() - self._due)
        self._due += TICK_NS * int.from_bytes(os.read(self._fd, 8), "little")

    def close(self) -> None:
        """Watch no more."""
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


class Beside:
    """What other threads do meanwhile.

    Args:
        busy: whether one computes.
        topic: where one publishes.
        count: messages that it publishes, at most; 0: there is none.
        rate: of them a second; 0: as fast as it can.
    """

    def __init__(self, busy: bool, topic: Any, count: int, rate: int) -> None:
        self.published = self.refused = 0
        self.seconds = 0.0
        self._stop = threading.Event()
        targets: list[Callable[[], None]] = [self._spin] if busy else []
        if count:
            targets.append(partial(self._publish, topic, count, rate))
        self._threads = [threading.Thread(target=each, daemon=True) for each in targets]
        for each in self._threads:
            each.start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            sum(range(1000))

    def _publish(self, topic: Any, count: int, rate: int) -> None:
        from fastws import LogFull

        message, began = b"." * PAYLOAD_SIZE, time.monotonic()
        while self.published < count and not self._stop.is_set():
            due = BURST if rate == 0 else int((time.monotonic() - began) * rate) - self.published
            try:
                for _ in range(min(due, BURST, count - self.published)):
                    topic.publish(message)
                    self.published += 1
            except LogFull:
                self.refused += 1
                time.sleep(PAUSE)
            if due < BURST:
                time.sleep(PAUSE)
        self.seconds = time.monotonic() - began

    async def stop(self) -> None:
        """End them."""
        self._stop.set()
        for each in self._threads:
            await asyncio.to_thread(each.join)


async def pace(
    app: Any, seconds: float, rate: int, busy: bool, outside: int, outside_rate: int
) -> Json:
    """Publish to all clients so many times a second, at absolute times.

    Args:
        app: the Bench of `topics_server.py`.
        seconds: how long.
        rate: messages a second.
        busy: whether a Python thread computes meanwhile.
        outside: messages that another thread publishes to another topic, at most.
        outside_rate: of them a second; 0: as fast as it can.
    """
    topic, other = app.engine.topic("pace"), app.engine.topic("outside", on_slow="latest")
    for client in app.clients:
        client.subscribe(topic)
    for client in app.outside:
        client.subscribe(other)
    await asyncio.sleep(0.2)
    selector = getattr(asyncio.get_running_loop(), "_selector", None)
    watcher, beside = Watcher(), Beside(busy, other, outside, outside_rate)
    rounds: list[int] = []
    if isinstance(selector, WatchedSelector):
        selector.rounds = rounds
    published: list[int] = []
    cpu, began = thread_ns(), time.monotonic()
    # A step that is late is made up for at once.
    while (at := time.monotonic()) < began + seconds and len(published) < rate * seconds:
        published.append(time.monotonic_ns())
        topic.publish(app.messages.next())
        await asyncio.sleep(max(0.0, began + len(published) / rate - time.monotonic()))
    elapsed, cpu = at - began, thread_ns() - cpu
    if isinstance(selector, WatchedSelector):
        selector.rounds = None
    watcher.close()
    await beside.stop()
    return {
        "steps_per_s": len(published) / max(elapsed, seconds),
        "published": published,
        "cpu": cpu / 1e9 / elapsed,
        "late_ms": quantiles(watcher.late),
        "round_ms": quantiles(rounds),
        "outside_per_s": beside.published / beside.seconds if beside.seconds else 0,
    }


def quantiles(nanoseconds: Sequence[int]) -> dict[str, float] | None:
    """Return the median, the 99th percentile and the largest in milliseconds."""
    if not nanoseconds:
        return None
    ordered = sorted(nanoseconds)

    def at(part: float) -> float:
        return ordered[max(0, math.ceil(part * len(ordered)) - 1)] / 1e6

    return {"p50": at(0.5), "p99": at(0.99), "max": ordered[-1] / 1e6}


PACE: dict[str, Callable[..., Any]] = {"pace": pace}
