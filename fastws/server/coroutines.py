"""Coroutine handlers: one task for the life of a connection, which receives from an Inbox. Layer 6.

Knows connections and tasks; not how a request became a WebSocket.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from fastws._frame import Connection
from fastws._inbox import Inbox, Run
from fastws.errors import ConnectionClosed
from fastws.http.request import Request
from fastws.server.tasks import Failed, Tasks, close_if_open, reporting

NORMAL_CLOSURE = 1000


@dataclass(slots=True)
class Session:
    """What is kept of a connection besides what the engine keeps (`Connection.session`)."""

    request: Request | None = None
    subprotocol: str | None = None
    inbox: Inbox[str | bytes] | None = None
    path: str = "/"


class Coroutines:
    """Runs a coroutine handler for each connection that has one.

    Args:
        tasks: where its tasks are kept.
        limit: messages that may wait for one connection.
        failed: called with what a handler raised.
    """

    def __init__(self, tasks: Tasks, limit: int, failed: Failed) -> None:
        self._tasks = tasks
        self._limit = limit
        self._failed = failed

    def start(
        self,
        connection: Connection,
        session: Session,
        handler: Callable[..., Coroutine[Any, Any, None]],
        parameters: Mapping[str, str],
    ) -> None:
        """Run handler(connection, **parameters); its end closes the connection."""
        receive_into_inbox(connection, session, self._limit)
        self._tasks.start(self._run(connection, handler, parameters), lasting=connection)

    async def _run(
        self,
        connection: Connection,
        handler: Callable[..., Coroutine[Any, Any, None]],
        parameters: Mapping[str, str],
    ) -> None:
        await self._tasks.begun()
        with reporting(connection, self._failed, handler):
            try:
                await Run(connection.session.inbox, handler(connection, **parameters))
            except ConnectionClosed:
                if connection.is_open:  # that of another connection
                    raise
            close_if_open(connection, NORMAL_CLOSURE)


def receive_into_inbox(connection: Connection, session: Session, limit: int) -> None:
    """Let the messages of a connection wait for a coroutine, at most `limit` of them."""
    loop = asyncio.get_running_loop()
    session.inbox = Inbox(loop, limit, connection.pause_reading)
    connection.session = session
    connection.on_message = session.inbox.put
    connection.pause_reading(after=limit)
