"""Decisions on requests that are coroutines: at most one task for a connection. Layer 6.

Knows connections and tasks; not what is decided.
"""

import asyncio
from collections.abc import Awaitable, Callable

from fastws._frame import Connection
from fastws.server.tasks import Failed, Tasks, cancelled_from_outside


class Decisions:
    """Runs one coroutine for a connection, until the connection ends or the time is up.

    Args:
        tasks: where its tasks are kept.
        failed: called with what a coroutine raised.
    """

    def __init__(self, tasks: Tasks, failed: Failed) -> None:
        self._tasks = tasks
        self._failed = failed
        self._running: dict[Connection, asyncio.Task[None]] = {}

    def start(self, connection: Connection, decision: Callable[[], Awaitable[None]]) -> None:
        """Run what a coroutine function gives; one that runs has just handed over to it."""
        task = self._tasks.start(self._run(connection, decision))
        if not task.done():  # an eager task may be
            self._running[connection] = task

    def cancel(self, connection: Connection) -> asyncio.Task[None] | None:
        """Cancel what runs for a connection; return its task, None where there is none."""
        task = self._running.pop(connection, None)
        return task if task is not None and self._tasks.cancel(task) else None

    async def _run(self, connection: Connection, decision: Callable[[], Awaitable[None]]) -> None:
        try:
            await self._tasks.begun()
            await decision()  # made here: a task cancelled before it begins leaves none behind
        except asyncio.CancelledError as error:
            if cancelled_from_outside():
                raise
            self._failed(connection, error)
        except Exception as error:
            self._failed(connection, error)
        finally:
            if self._running.get(connection) is asyncio.current_task():
                del self._running[connection]
