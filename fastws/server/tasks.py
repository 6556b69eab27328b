"""The tasks of a server's handlers: started, spared, waited for at the end. Layer 6.

Those of coroutine handlers live as long as their connection or longer, and end by themselves when
they hear that it has ended; all others are cancelled by who started them.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, Self

from fastws._frame import Connection
from fastws.errors import FastwsError

INTERNAL_ERROR = 1011

logger = logging.getLogger("fastws")


class Failed(Protocol):
    """Takes what a handler raised."""

    def __call__(
        self, connection: Connection, exception: BaseException, handler: Callable[..., Any], /
    ) -> None:
        """Take it; nothing is raised."""


class reporting:  # it is called like a function
    """`with reporting(connection, failed, handler)`: what is raised goes to `failed`.

    Nothing leaves but a cancellation of the running task; that of something it waited for is a
    failure. `handler` is what is called, and may be set anew.
    """

    __slots__ = ("_connection", "_failed", "handler")

    def __init__(self, connection: Connection, failed: Failed, handler: Callable[..., Any]) -> None:
        self._connection = connection
        self._failed = failed
        self.handler = handler

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return False
        elif not isinstance(error, Exception):
            return False
        self._failed(self._connection, error, self.handler)
        return True


class Tasks:
    """The tasks that have not ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._lasting: dict[asyncio.Task[None], Connection] = {}
        self._spared: set[asyncio.Task[Any]] = set()
        self._starting = 0  # tasks that are being made
        # One object for all tasks: a bound method takes 64 bytes.
        self._when_done = self._tasks.discard
        self._when_lasting_done = self._lasting_done

    def start(
        self, coroutine: Coroutine[Any, Any, None], *, lasting: Connection | None = None
    ) -> asyncio.Task[None]:
        """Run a coroutine in a task of the running loop.

        Args:
            coroutine: what to run.
            lasting: the connection whose whole life it lasts; it is closed when the task has ended.
        """
        self._starting += 1
        try:
            task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        finally:
            self._starting -= 1
        if lasting is None:
            self._tasks.add(task)
            task.add_done_callback(self._when_done)
        else:
            self._lasting[task] = lasting
            task.add_done_callback(self._when_lasting_done)
        return task

    def _lasting_done(self, task: asyncio.Task[None]) -> None:
        close_orphan(self._lasting.pop(task))

    async def begun(self) -> None:
        """Return when the task is there; first of all in what `start` takes.

        A task factory may begin a coroutine at once: in the turn, or outside of its task.
        """
        if self._starting:
            await asyncio.sleep(0)

    def cancel(self, task: asyncio.Task[None]) -> bool:
        """Cancel a task, unless it is spared or its loop has ended; whether it was cancelled."""
        if task in self._spared or task.get_loop().is_closed():
            return False
        task.cancel()
        return True

    @contextmanager
    def sparing(self, task: asyncio.Task[Any] | None) -> Iterator[None]:
        """Meanwhile the task is neither cancelled nor waited for: it waits for all the others."""
        if task is not None:
            self._spared.add(task)
        try:
            yield
        finally:
            if task is not None:
                self._spared.discard(task)

    def cancel_lasting(self) -> None:
        """Cancel those of whole connections."""
        for task in list(self._lasting):
            self.cancel(task)

    async def finish(self, grace_end: float, deadline: float) -> None:
        """Wait for all but those spared, and cancel those that are left in the end, which is said.

        Args:
            grace_end: when those of whole connections are cancelled, by the loop's clock.
            deadline: when those that are left are left behind.
        """
        if await _left_of(self._lasting.keys() - self._spared, grace_end):
            self.cancel_lasting()
        left = (self._tasks | self._lasting.keys()) - self._spared
        late = await _left_of(left, deadline)
        if late:
            logger.error("%d tasks of handlers did not end when they were cancelled", len(late))
        for task in late:
            task.cancel()


def close_orphan(connection: Connection) -> None:
    """End a connection whose handler was cancelled: nobody receives from it any more."""
    close_if_open(connection, INTERNAL_ERROR, "the handler was cancelled")


def close_if_open(connection: Connection, code: int, reason: str = "") -> None:
    """Close a connection that nobody has closed; cut it off where a Close cannot be sent."""
    if connection.is_open:
        try:
            connection.close(code, reason)
        except FastwsError:
            connection.abort()


async def _left_of(tasks: set[asyncio.Task[None]], deadline: float) -> set[asyncio.Task[None]]:
    if not tasks:
        return tasks
    seconds = max(deadline - asyncio.get_running_loop().time(), 0)
    return (await asyncio.wait(tasks, timeout=seconds))[1]
