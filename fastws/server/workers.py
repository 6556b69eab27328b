"""Callbacks that are coroutines: for each connection one after the other, in order, bounded.

Layer 6. Knows connections, tasks and the App's `opened`, `message` and `closed`. A connection has a
worker, which is a task and an Inbox, while its messages come.
"""

import asyncio
import logging
from collections.abc import Callable

from fastws._frame import Connection
from fastws._inbox import Inbox, Run
from fastws.errors import ConnectionClosedOK
from fastws.http.request import Request
from fastws.server.app import App
from fastws.server.failures import handler_name, place_of
from fastws.server.handlers import check_done, is_async
from fastws.server.tasks import Failed, Tasks, close_orphan, reporting

logger = logging.getLogger("fastws")

PATIENCE = 5.0  # seconds that `message` may keep others waiting before the log says so
OPENING = 1.0  # the same of `opened`, where an endless loop is the usual mistake
IDLE = 1.0  # seconds without a message after which a worker ends, twice that at most


class _Worker:
    """What one connection has to do, and the task that does it."""

    def __init__(self, inbox: Inbox[str | bytes]) -> None:
        self.inbox = inbox
        self.task: asyncio.Task[None] | None = None
        self.opening = False  # `opened` runs
        self.seen = 0  # messages that had been put at the last look
        self.handled = -1  # those taken, and since when they are no more while others wait
        self.since = 0.0


class Workers:
    """Runs the async callbacks of an App.

    Args:
        tasks: where its tasks are kept.
        app: whose callbacks.
        limit: messages that may wait for one connection.
        failed: called with what a callback raised; nothing more of that connection is done.
    """

    def __init__(self, tasks: Tasks, app: App, limit: int, failed: Failed) -> None:
        self._tasks = tasks
        self._app = app
        self._limit = limit
        self._failed = failed
        self._opened_is_async = is_async(app.opened)
        self._message_is_async = is_async(app.message)
        self._closed_is_async = is_async(app.closed)
        self._workers: dict[Connection, _Worker] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._said = self._ended = False

    @property
    def needed(self) -> bool:
        """Whether messages wait for a coroutine."""
        return self._opened_is_async or self._message_is_async

    @property
    def needed_at_the_end(self) -> bool:
        """Whether `closed` waits for a coroutine, or is one."""
        return self.needed or self._closed_is_async

    def open(self, connection: Connection, request: Request) -> None:
        """Take a new WebSocket: its messages wait until `opened` has returned."""
        connection.pause_reading(after=self._limit)
        connection.on_message = self._first
        if self._opened_is_async:
            self._hire(connection, request)
        else:
            check_done(self._app.opened(connection, request))

    def end(self, connection: Connection) -> None:
        """Cancel the callback that runs, and call `closed` once it has come to its end.

        Without a running loop there is nobody to wait: an `async` one is not called, which is said.
        """
        closed: Callable[[Connection], object] = self._app.closed
        task, running = self._cancel(connection), asyncio._get_running_loop() is not None
        if not self._closed_is_async and (task is None or not running):
            check_done(closed(connection))
        elif running:
            self._tasks.start(self._last(connection, task))
        elif not self._ended:
            self._ended = True
            logger.warning("the loop has ended: `closed`, which is async, is not called any more")

    def _first(self, connection: Connection, message: str | bytes) -> None:
        """Take the first message of a connection without a worker."""
        self._hire(connection, None).inbox.put(connection, message)

    def _hire(self, connection: Connection, request: Request | None) -> _Worker:
        loop = asyncio.get_running_loop()
        worker = _Worker(Inbox(loop, self._limit, connection.pause_reading))
        self._workers[connection] = worker
        connection.on_message = worker.inbox.put
        worker.task = self._tasks.start(self._work(connection, worker, request))
        worker.task.add_done_callback(
            lambda task: close_orphan(connection) if task.cancelled() else None
        )
        if self._timer is None:
            self._timer = loop.call_later(min(IDLE, OPENING, PATIENCE), self._look)
        return worker

    async def _work(self, connection: Connection, worker: _Worker, request: Request | None) -> None:
        try:
            await self._tasks.begun()
            with reporting(connection, self._failed, self._app.opened) as report:
                if request is not None:
                    worker.opening = True
                    await self._app.opened(connection, request)  # type: ignore[misc]
                    worker.opening = False
                report.handler = self._app.message
                await Run(worker.inbox, self._handle(connection, worker.inbox))
        finally:
            if self._workers.get(connection) is worker:
                del self._workers[connection]

    async def _handle(self, connection: Connection, inbox: Inbox[str | bytes]) -> None:
        handle = self._app.message
        if self._message_is_async:
            async for message in inbox.receive:
                await handle(connection, message)  # type: ignore[misc]
        else:
            async for message in inbox.receive:
                check_done(handle(connection, message))

    def _cancel(self, connection: Connection) -> asyncio.Task[None] | None:
        """Drop what waits and cancel what runs: its task, unless there is none or it is spared."""
        worker = self._workers.pop(connection, None)
        if worker is None or worker.task is None:
            return None
        cancelled = self._tasks.cancel(worker.task)
        worker.inbox.cut(ConnectionClosedOK(1000))
        return worker.task if cancelled else None

    async def _last(self, connection: Connection, task: asyncio.Task[None] | None) -> None:
        await self._tasks.begun()
        if task is not None:
            await asyncio.wait([task])
        with reporting(connection, self._failed, self._app.closed):
            result = self._app.closed(connection)
            if result is not None:
                await result

    # Once a second.

    def _look(self) -> None:
        """Let idle workers go; say, once, that a callback keeps others waiting for long."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for connection, worker in list(self._workers.items()):
            idle = worker.inbox.waited_for and worker.inbox.received == worker.seen
            worker.seen = worker.inbox.received
            if idle:
                self._dismiss(connection, worker)
            elif not self._said:
                self._check_progress(connection, worker, loop.time())
        if self._workers:
            self._timer = loop.call_later(min(IDLE, OPENING, PATIENCE), self._look)

    def _dismiss(self, connection: Connection, worker: _Worker) -> None:
        del self._workers[connection]
        if connection.is_open:
            connection.on_message = self._first
            connection.pause_reading(after=self._limit)  # what the next worker's inbox lets in
        worker.inbox.end(ConnectionClosedOK(1000))

    def _check_progress(self, connection: Connection, worker: _Worker, now: float) -> None:
        waiting = len(worker.inbox)
        handled = worker.inbox.received - waiting
        seconds = OPENING if worker.opening else PATIENCE
        if not waiting or handled != worker.handled:
            worker.handled, worker.since = handled, now
        elif now - worker.since >= seconds:
            self._said = True
            logger.warning(
                "%s has run for %g s, for %s, and %d calls wait for it, because the callbacks of a "
                "connection run one after the other. Put a long loop in a task of its own "
                "(asyncio.create_task). This is said once",
                handler_name(self._app.opened if worker.opening else self._app.message),
                seconds,
                place_of(connection),
                waiting,
            )
