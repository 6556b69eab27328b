"""The engines of clients: one for each event loop and set of limits, while it has connections.

Layer 6. Knows engines and the loop; not what is said on a connection.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from fastws._frame import Connection, closed_error
from fastws.errors import FastwsError
from fastws.server.driver import Driver
from fastws.server.engines import make_engine
from fastws.server.limits import Limits

logger = logging.getLogger("fastws")


class ClientEngine:
    """The connections of one loop and one set of limits; it closes with the last of them."""

    def __init__(self, limits: Limits, ended: Callable[[], None]) -> None:
        self.engine, self._waits = make_engine(limits)
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._users = 0  # connections, and those who dial
        self.engine.on_head = self._on_head
        self.engine.on_head_limit = self._on_head_limit
        self.engine.on_close = self._on_close
        self.engine.on_error = self._failed
        self._driver = Driver(self.engine)
        self._driver.start()

    def hold(self) -> None:
        """Keep it for somebody who is about to dial."""
        self._users += 1

    def release(self) -> None:
        """Somebody who dialled, or a connection, is gone; the last one closes it."""
        self._users -= 1
        if not self._users:
            self._ended()
            self._driver.stop()
            self.engine.close()

    def attach(
        self, fd: int, request: bytes, opened: Callable[[Connection, bytes], None]
    ) -> tuple[Connection, asyncio.Future[None]]:
        """Give it a connected socket: the connection, and a future of its opening.

        Args:
            fd: the socket's descriptor; the engine's from now on.
            request: sent first.
            opened: called with the head of the answer, in the turn; what it raises is the future's.

        Raises:
            OSError: the socket cannot be watched; it is still the caller's.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connection = self.engine.attach(fd, request)
        self.hold()
        connection.context = _Opening(opened, future)
        return connection, future

    def _on_head(self, connection: Connection, head: bytes) -> None:
        opening, connection.context = connection.context, None
        try:
            opening.opened(connection, head)
        except Exception as error:
            opening.fail(error)
            connection.abort()
        else:
            opening.succeed()

    def _on_head_limit(self, connection: Connection, part: bytes) -> None:
        self._on_head(connection, part)  # it has no end, and is refused as malformed

    def _on_close(self, connection: Connection) -> None:
        opening, session = connection.context, connection.session
        self._loop.call_soon(self.release)  # not in the turn
        self._waits.on_close(connection)
        if isinstance(opening, _Opening):
            opening.fail(ConnectionResetError("the connection ended during the handshake"))
        elif session is not None:
            session.inbox.end(closed_error(connection))

    def _failed(self, connection: Connection, exception: BaseException) -> None:
        logger.error("connection %s: a callback raised", connection, exc_info=exception)
        with suppress(FastwsError):
            connection.abort()


class _Opening:
    """Whom the answer to a handshake is for (`Connection.context` until it has come)."""

    def __init__(
        self, opened: Callable[[Connection, bytes], None], future: asyncio.Future[None]
    ) -> None:
        self.opened = opened
        self._future = future

    def succeed(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)


_Place = tuple[asyncio.AbstractEventLoop, Limits]
_ENGINES: dict[_Place, ClientEngine] = {}


def _forget(place: _Place) -> None:
    _ENGINES.pop(place, None)


def engine_for(limits: Limits) -> ClientEngine:
    """Return the running loop's engine with those limits, made when there is none, and held."""
    for each in [each for each in list(_ENGINES) if each[0].is_closed()]:
        _ENGINES.pop(each, None)  # what it held is gone with it
    here = asyncio.get_running_loop(), limits
    found = _ENGINES.get(here)
    if found is None:
        found = _ENGINES[here] = ClientEngine(limits, partial(_forget, here))
    found.hold()
    return found
