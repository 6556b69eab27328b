"""Callbacks that are coroutines: for each connection one after the other, in order, bounded.

Layer 6. Knows connections and tasks; what a callback is for it does not ask.
"""

import asyncio
import logging
from typing import Any, Protocol

from fastws._frame import Connection
from fastws._inbox import Inbox
from fastws.errors import ConnectionClosedOK
from fastws.server.handlers import Handler, check_done, is_async
from fastws.server.tasks import Tasks

logger = logging.getLogger("fastws")

PATIENCE = 5.0  # seconds that a callback may keep others waiting before the log says so
IDLE = 1.0  # seconds without a job after which a worker ends, twice that at most
NO_LIMIT = 65_534

Job = tuple[Handler, tuple[Any, ...]]


class Failed(Protocol):
    """Takes what a handler raised."""

    def __call__(self, connection: Connection, exception: BaseException, /) -> None:
        """Take it; nothing is raised."""


class _Worker:
    """What one connection has to do, and the task that does it."""

    def __init__(self, inbox: Inbox[Job]) -> None:
        self.inbox = inbox
        self.task: asyncio.Task[None] | None = None
        self.running: Handler | None = None  # None: it waits for a job
        self.begun = 0  # jobs, and those
        self.seen = 0  # at the last look, and
        self.seen_long_ago = 0  # at the last look at who keeps others waiting


class Jobs:
    """Runs the jobs of a connection behind one another, in a task that it has while they come.

    Args:
        tasks: where its tasks are kept.
        limit: messages that may wait for one connection; 0: jobs are no messages.
        failed: called with what a job raised; nothing more of that connection is done.
    """

    def __init__(self, tasks: Tasks, limit: int, failed: Failed) -> None:
        self._tasks = tasks
        self._limit = limit
        self._failed = failed
        self._workers: dict[Connection, _Worker] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._said = self._ended = False
        self._looked = 0.0  # when it was last asked whether a job keeps others waiting

    def put(self, connection: Connection, handler: Handler, *arguments: object) -> None:
        """Call handler(connection, *arguments) once what was put before is done."""
        worker = self._workers.get(connection)
        if worker is None:
            worker = self._hire(connection)
        worker.inbox.put(connection, (handler, arguments))

    def _hire(self, connection: Connection) -> _Worker:
        loop = asyncio.get_running_loop()
        inbox: Inbox[Job] = Inbox(loop, self._limit or NO_LIMIT, self._renewal(connection))
        worker = self._workers[connection] = _Worker(inbox)
        worker.task = self._tasks.start(self._work(connection, worker))
        if self._timer is None:
            self._looked = loop.time()
            self._timer = loop.call_later(IDLE, self._look)
        return worker

    def _renewal(self, connection: Connection) -> Any:
        return connection.pause_reading if self._limit else _nothing

    def cancel(self, connection: Connection) -> asyncio.Task[None] | None:
        """Drop what waits and cancel what runs: its task, unless there is none or it is spared."""
        worker = self._workers.pop(connection, None)
        if worker is None or worker.task is None:
            return None
        cancelled = self._tasks.cancel(worker.task)
        worker.inbox.cut(ConnectionClosedOK(1000))
        return worker.task if cancelled else None

    def end(self, connection: Connection, closed: Handler | None) -> None:
        """Cancel, and call closed(connection) once that has come to its end; None: nobody.

        Without a running loop there is nobody to wait: an `async` one is not called, which is said.
        """
        task, running = self.cancel(connection), asyncio._get_running_loop() is not None
        if closed is None:
            return
        if not is_async(closed) and (task is None or not running):
            check_done(closed(connection))
        elif running:
            self._tasks.start(self._last(connection, task, closed))
        elif not self._ended:
            self._ended = True
            logger.warning("the loop has ended: `closed`, which is async, is not called any more")

    def _look(self) -> None:
        """Let idle workers go; say, once, that a job keeps others waiting for long."""
        self._timer = None
        loop = asyncio.get_running_loop()
        if not self._said and loop.time() - self._looked >= PATIENCE:
            self._looked = loop.time()
            self._complain()
        for connection, worker in list(self._workers.items()):
            idle = worker.begun == worker.seen and worker.inbox.waited_for
            worker.seen = worker.begun
            if idle and worker.running is None:
                self._dismiss(connection, worker)
        if self._workers:
            self._timer = loop.call_later(min(IDLE, PATIENCE), self._look)

    def _dismiss(self, connection: Connection, worker: _Worker) -> None:
        del self._workers[connection]
        if self._limit and connection.is_open:
            connection.pause_reading(after=self._limit)  # what the next worker's inbox lets in
        worker.inbox.end(ConnectionClosedOK(1000))

    def _complain(self) -> None:
        for connection, worker in self._workers.items():
            stuck = worker.running is not None and worker.begun == worker.seen_long_ago
            worker.seen_long_ago = worker.begun
            if stuck and len(worker.inbox):
                logger.warning(
                    "connection %s: the handler %s has run for %g s, and %d calls wait for it, "
                    "because the handlers of a connection run one after the other. Put a long "
                    "loop in a task of its own (asyncio.create_task). This is said once",
                    connection.remote_address,
                    getattr(worker.running, "__name__", worker.running),
                    PATIENCE,
                    len(worker.inbox),
                )
                self._said = True
                return

    async def _work(self, connection: Connection, worker: _Worker) -> None:
        try:
            async for handler, arguments in worker.inbox.receive:
                worker.running = handler
                worker.begun += 1
                result = handler(connection, *arguments)
                if result is not None:
                    await result
                worker.running = None
                if not self._limit and not len(worker.inbox):
                    return  # a decision or a response, and nothing will follow
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._failed(connection, error)  # something that it waited for was cancelled
        except Exception as error:
            self._failed(connection, error)
        finally:
            if self._workers.get(connection) is worker:
                del self._workers[connection]

    async def _last(
        self, connection: Connection, task: asyncio.Task[None] | None, closed: Handler
    ) -> None:
        if task is not None:
            await asyncio.wait([task])
        try:
            result = closed(connection)
            if result is not None:
                await result
        except Exception as error:
            self._failed(connection, error)


def _nothing(*, after: int) -> None:
    pass
