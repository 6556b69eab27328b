"""Handlers that are coroutines: for each connection one after the other, in order, bounded.

Layer 6. Knows connections, tasks and the loop; what a handler is for it does not ask.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from inspect import iscoroutinefunction, unwrap
from typing import Any

from fastws._frame import Connection

logger = logging.getLogger("fastws")

Handler = Callable[..., Awaitable[None] | None]
_Waiting = deque[tuple[Handler, tuple[Any, ...]]]


def is_async(handler: Handler) -> bool:
    """Whether it is `async def`, or what `functools.wraps` put around one."""
    return iscoroutinefunction(unwrap(handler, stop=iscoroutinefunction))


def check_done(result: object) -> None:
    """Fail on what a handler that is not async returned: nobody would await it.

    Raises:
        TypeError: it is not None.
    """
    if result is not None:
        raise TypeError(
            f"a handler returned {result!r}; it returns None (what it has to say goes by "
            "connection.send), and to be awaited it must be `async def`"
        )


class Handlers:
    """Runs what is put behind one another, in a task that a connection has only meanwhile.

    Args:
        limit: messages that may wait for one connection; 0: what is put are no messages.
        failed: called with what a handler raised; nothing more of that connection is handled.
    """

    def __init__(self, limit: int, failed: Callable[[Connection, BaseException], None]) -> None:
        self._limit = limit
        self._failed = failed
        self._jobs: dict[Connection, tuple[_Waiting, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, connection: Connection, handler: Handler, *arguments: object) -> None:
        """Call handler(connection, *arguments) once what was put before is done."""
        if connection in self._jobs:
            self._jobs[connection][0].append((handler, arguments))
            return
        waiting: _Waiting = deque([(handler, arguments)])
        self._jobs[connection] = (waiting, self._start(self._work(connection, waiting)))

    def cancel(self, connection: Connection) -> asyncio.Task[None] | None:
        """Drop what waits and cancel what runs: the task, unless there is none."""
        if connection not in self._jobs:
            return None
        waiting, task = self._jobs.pop(connection)
        waiting.clear()
        task.cancel()
        return task

    def end(self, connection: Connection, closed: Handler) -> None:
        """Cancel, and call closed(connection) once that has come to its end."""
        task = self.cancel(connection)
        if task is None and not is_async(closed):
            check_done(closed(connection))
        else:
            self._start(self._last(connection, task, closed))

    async def finish(self, seconds: float) -> None:
        """Wait for all that were cancelled; they have that long."""
        if self._tasks and (late := (await asyncio.wait(self._tasks, timeout=seconds))[1]):
            logger.error("%d tasks of handlers did not end in %.1f s", len(late), seconds)
            for task in late:
                task.cancel()

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self, connection: Connection, waiting: _Waiting) -> None:
        try:
            while waiting:
                handler, arguments = waiting.popleft()
                if not waiting and self._limit:
                    connection.pause_reading(after=self._limit)
                if not await self._call(connection, handler, *arguments):
                    return
        finally:
            self._jobs.pop(connection, None)
            waiting.clear()

    async def _last(
        self, connection: Connection, task: asyncio.Task[None] | None, closed: Handler
    ) -> None:
        if task is not None:
            await asyncio.wait([task])
        await self._call(connection, closed)

    async def _call(self, connection: Connection, handler: Handler, *arguments: object) -> bool:
        """Whether it went well."""
        try:
            result = handler(connection, *arguments)
            if result is not None:
                await result
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(connection, error)  # something that it waited for was cancelled
            return False
        except Exception as error:
            self._failed(connection, error)
            return False
        return True
