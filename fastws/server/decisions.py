"""Decisions on requests that are coroutines: at most one task for a connection. Layer 6.

Knows connections and tasks; not what is decided.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fastws._frame import Connection
from fastws.server.tasks import Failed, Tasks, reporting


class Decisions:
    """Runs one coroutine for a connection, until the connection ends or the time is up.

    Args:
        tasks: where its tasks are kept.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[Connection, asyncio.Task[None]] = {}

    def start(
        self,
        connection: Connection,
        decision: Callable[[], Awaitable[None]],
        handler: Callable[..., Any],
        failed: Failed,
    ) -> None:
        """Run what a coroutine function gives; one that runs has just handed over to it.

        Args:
            connection: for which.
            decision: the coroutine function.
            handler: who decides.
            failed: called with what it raised.
        """
        task = self._tasks.start(self._run(connection, decision, handler, failed))
        if not task.done():  # an eager task may be
            self._running[connection] = task

    def cancel(self, connection: Connection) -> None:
        """Cancel what runs for a connection, if anything does."""
        task = self._running.pop(connection, None)
        if task is not None:
            self._tasks.cancel(task)

    async def _run(
        self,
        connection: Connection,
        decision: Callable[[], Awaitable[None]],
        handler: Callable[..., Any],
        failed: Failed,
    ) -> None:
        try:
            await self._tasks.begun()
            with reporting(connection, failed, handler):
                await decision()  # made here: a task cancelled before it begins leaves none behind
        finally:
            if self._running.get(connection) is asyncio.current_task():
                del self._running[connection]
