"""Handlers that are coroutines: for each connection one after the other, in order, bounded.

Layer 6. Knows connections, tasks and the loop; what a handler is for it does not ask.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from inspect import iscoroutinefunction, unwrap
from typing import Any

from fastws._frame import Connection

logger = logging.getLogger("fastws")

Handler = Callable[..., Awaitable[None] | None]
PATIENCE = 5.0  # seconds that a handler may keep others waiting before the log says so


class _Job:
    """What one connection has to do: what waits, and the task that does it."""

    def __init__(self, handler: Handler, arguments: tuple[Any, ...]) -> None:
        self.waiting: deque[tuple[Handler, tuple[Any, ...]]] = deque([(handler, arguments)])
        self.task: asyncio.Task[None] | None = None
        self.running: Handler = handler
        self.begun = 0  # handlers, and
        self.seen = 0  # those at the last look


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
            "connection.send_nowait), and to be awaited it must be `async def`"
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
        self._jobs: dict[Connection, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._spared: set[asyncio.Task[Any]] = set()
        self._watch: asyncio.TimerHandle | None = None
        self._said = self._ended = False

    def put(self, connection: Connection, handler: Handler, *arguments: object) -> None:
        """Call handler(connection, *arguments) once what was put before is done."""
        job = self._jobs.get(connection)
        if job is not None:
            job.waiting.append((handler, arguments))
            if self._watch is None and not self._said:
                self._watch = asyncio.get_running_loop().call_later(PATIENCE, self._look)
            return
        self._jobs[connection] = job = _Job(handler, arguments)
        job.task = self._start(self._work(connection, job))

    def cancel(self, connection: Connection) -> asyncio.Task[None] | None:
        """Drop what waits and cancel what runs: its task, unless there is none or it is spared."""
        job = self._jobs.pop(connection, None)
        if job is None:
            return None
        job.waiting.clear()
        if job.task is None or job.task in self._spared or job.task.get_loop().is_closed():
            return None
        job.task.cancel()
        return job.task

    def end(self, connection: Connection, closed: Handler) -> None:
        """Cancel, and call closed(connection) once that has come to its end.

        Without a running loop there is nobody to wait: an `async` one is not called, which is said.
        """
        task, running = self.cancel(connection), asyncio._get_running_loop() is not None
        if not is_async(closed) and (task is None or not running):
            check_done(closed(connection))
        elif running:
            self._start(self._last(connection, task, closed))
        elif not self._ended:
            self._ended = True
            logger.warning("the loop has ended: `closed`, which is async, is not called any more")

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
        """Wait for all that were cancelled, but not for those spared; they have that long."""
        tasks = self._tasks - self._spared
        if tasks and (late := (await asyncio.wait(tasks, timeout=seconds))[1]):
            logger.error("%d tasks of handlers did not end in %.1f s", len(late), seconds)
            for task in late:
                task.cancel()

    def _look(self) -> None:
        """Say, once, that a handler keeps others waiting, such as an endless loop in `opened`."""
        self._watch = None
        for connection, job in self._jobs.items():
            if job.waiting and job.begun and job.begun == job.seen:
                logger.warning(
                    "connection %s: the handler %s has run for %g s, and %d calls wait for it, "
                    "because the handlers of a connection run one after the other. Put a long "
                    "loop in a task of its own (asyncio.create_task). This is said once",
                    connection.remote_address,
                    getattr(job.running, "__name__", job.running),
                    PATIENCE,
                    len(job.waiting),
                )
                self._said = True
                return
            job.seen = job.begun
        if self._jobs:
            self._watch = asyncio.get_running_loop().call_later(PATIENCE, self._look)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _work(self, connection: Connection, job: _Job) -> None:
        try:
            if job.task is None:  # an eager task (asyncio.eager_task_factory), still in the turn:
                await asyncio.sleep(0)  # the turn's other messages come first, or the bound fails
            while job.waiting:
                job.running, arguments = job.waiting.popleft()
                job.begun += 1
                if not job.waiting and self._limit:
                    connection.pause_reading(after=self._limit)
                if not await self._call(connection, job.running, *arguments):
                    return
        finally:
            if self._jobs.get(connection) is job:
                del self._jobs[connection]
            job.waiting.clear()

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
