"""The tasks of a server's handlers: started, spared, waited for at the end. Layer 6."""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from fastws._frame import Connection

logger = logging.getLogger("fastws")


class Failed(Protocol):
    """Takes what a handler raised."""

    def __call__(self, connection: Connection, exception: BaseException, /) -> None:
        """Take it; nothing is raised."""


def cancelled_from_outside() -> bool:
    """Whether the running task is being cancelled, rather than something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class Tasks:
    """The tasks that have not ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._spared: set[asyncio.Task[Any]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in a task of the running loop."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

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

    async def finish(self, seconds: float) -> None:
        """Wait that long for all but those spared, then cancel those that are left and say so."""
        tasks = self._tasks - self._spared
        if tasks and (late := (await asyncio.wait(tasks, timeout=seconds))[1]):
            logger.error("%d tasks of handlers did not end in %.1f s", len(late), seconds)
            for task in late:
                task.cancel()
