"""`fastws.run`: a program from its start to Ctrl-C. Layer 6."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal, TypeVar

import uvloop

from fastws.checks import check_choice
from fastws.server.server import Server
from fastws.server.streams import open_standard_streams

T = TypeVar("T")
Loop = Literal["uvloop", "asyncio"]
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SIGNAL = 0.5  # seconds; `timeout` and shells signal the process, and its group as well


def run(main: Coroutine[Any, Any, T] | Server, *, loop: Loop = "uvloop") -> T | None:
    """Run a coroutine, or a server, until it ends or Ctrl-C or SIGTERM comes.

    The signal cancels the coroutine, so that `async with fastws.serve(...)` closes its clients with
    1001; then `run` returns None, without a traceback. A second signal ends the process at once,
    unless it comes within 0.5 s: then it is taken for a copy of the first one.
    Like `asyncio.run` it makes a loop of its own. In another thread than the main one, which gets
    no signals, it runs the coroutine to its end.

    Args:
        main: what `main()` returns; or what `fastws.serve` returns, which serves for ever.
        loop: "uvloop" or "asyncio".

    Returns:
        What the coroutine returns; None: a signal ended it.

    Raises:
        TypeError: main is neither; of a function `main`, pass `main()`.
        RuntimeError: a loop runs in this thread already.

    Example:
        async def echo(ws):
            async for message in ws:
                await ws.send(message)

        fastws.run(fastws.serve(echo, "127.0.0.1", 8080))
    """
    check_choice("loop", loop, tuple(LOOPS))
    if isinstance(main, Server):
        return run(_serve(main), loop=loop)
    if not asyncio.iscoroutine(main):
        raise TypeError(f"run takes a coroutine, as `run(main())`, or a server, not {main!r}")
    open_standard_streams()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(_until_signalled(main))


async def _serve(server: Server) -> None:
    async with server:
        await server.serve_forever()


async def _until_signalled(main: Coroutine[Any, Any, T]) -> T | None:
    task = asyncio.current_task()
    assert task is not None
    heard: list[bool] = []

    def end() -> None:
        heard.append(True)
        task.cancel()

    with _signals(end):
        try:
            return await main
        except asyncio.CancelledError:
            if not heard:
                raise
            task.uncancel()
            return None


@contextmanager
def _signals(end: Callable[[], None]) -> Iterator[None]:
    """Meanwhile the first signal calls `end`, and a later one is the system's to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, before = asyncio.get_running_loop(), {each: signal.getsignal(each) for each in SIGNALS}
    heard: list[float] = []

    def first() -> None:
        if heard:  # the loop hears of the later ones as well
            return
        heard.append(time.monotonic())
        for each in SIGNALS:
            signal.signal(each, later)
        end()

    def later(number: int, frame: FrameType | None) -> None:
        # Not by the loop, which the program may block while it ends.
        if time.monotonic() - heard[0] >= SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for each in SIGNALS:
        loop.add_signal_handler(each, first)
    try:
        yield
    finally:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, before[each])
