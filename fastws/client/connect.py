"""`fastws.connect`: a client on the same core as the server. Layer 6."""

import asyncio
import errno
import os
import random
import socket
from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

from fastws._frame import Connection
from fastws._inbox import Inbox
from fastws.checks import check_flag, check_number
from fastws.client.engines import ClientEngine, engine_for
from fastws.client.handshake import answer_fields, build_request, check_response, new_key
from fastws.client.place import (
    Place,
    Position,
    asks_for_envelope,
    gap_of,
    place_of,
    with_since,
)
from fastws.client.url import Url, parse_url
from fastws.errors import ConfigError, ConnectionClosed, InvalidHandshake, LogFull
from fastws.server.coroutines import Session, receive_into_inbox
from fastws.server.limits import Limits

GOING_AWAY = 1001
FIRST_DELAY, LEAST_DELAY, MOST_DELAY, GROWTH = 5.0, 3.1, 90.0, 1.618  # seconds; of websockets
TRANSIENT = (500, 502, 503, 504)  # statuses after which trying again makes sense


@dataclass(slots=True)
class ClientSession(Session):
    """What is kept of a client's connection besides what the engine keeps."""

    place: Place | None = None

    @property
    def position(self) -> Position | None:
        """Behind which message of a topic the program is; see `Connection.position`."""
        if self.place is None or self.inbox is None:
            return None
        return self.place.after(self.inbox.received - len(self.inbox), self.inbox.last)


class connect:  # it is called like a function
    """Connect to a WebSocket server.

    `async with connect(url) as ws` closes at its end. `ws = await connect(url)` leaves that to
    `await ws.close()`. `async for ws in connect(url)` connects again whenever the body comes to its
    end, or says `continue`:

        async for ws in connect("ws://localhost:8080/prices"):
            try:
                async for message in ws:
                    ...
            except ConnectionClosed:
                continue

    Where the server gives positions (docs/protocol.md 4), it then asks for what comes after the
    last message that the program has received: nothing is lost or doubled, or `ws.recovered` is
    False. Where `ws.position` is None it asks for no position, and `ws.recovered` is None.

    Between attempts that fail it waits, at random up to 5 s, then up to 3.1 s, growing by 1.618 to
    90 s. Errors that another attempt cannot cure (a 4xx, a bad URL) are raised.

    Args:
        url: ws://host[:port][/path][?query].
        unix: the path of a Unix socket to connect to instead of the URL's host.
        origin: sent as Origin, as a browser would.
        subprotocols: asked for, the most wanted one first; `ws.subprotocol` is what was chosen.
        headers: more fields of the request: a mapping, or pairs.
        open_timeout: seconds, above 0 to 86,400, for connecting and the handshake together.
        stale_timeout: seconds without a message after which the connection is closed with 1001;
            None: it may be silent for ever (the engine's pings find peers that are gone).
        gaps: for a URL of a plain topic with envelope=1: what the connection has lost comes as a
            Gap among the messages, not as JSON.
        limits: what bounds it; fields that are a server's are ignored.

    Raises:
        ConfigError: an argument out of range; gaps without envelope=1 in the URL; wss, which is
            not supported yet.
        OSError: nobody listens there, or no such host.
        TimeoutError: `open_timeout` has passed.
        InvalidHandshake: the server refused, or answered something else; `status` says what.
    """

    def __init__(
        self,
        url: str,
        *,
        unix: str | None = None,
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        open_timeout: float = 10.0,
        stale_timeout: float | None = None,
        gaps: bool = False,
        limits: Limits | None = None,
    ) -> None:
        self._url = parse_url(url)
        self._unix = unix
        self._subprotocols = _names("subprotocols", subprotocols)
        self._origin = origin
        self._headers = list(headers.items() if isinstance(headers, Mapping) else headers)
        self._open_timeout = check_number("open_timeout", open_timeout, 0.001, 86_400)
        self._stale_timeout = stale_timeout
        if stale_timeout is not None:
            self._stale_timeout = check_number("stale_timeout", stale_timeout, 0.001, 86_400)
        check_flag("gaps", gaps)
        if gaps and not asks_for_envelope(self._url.target):
            raise ConfigError("gaps", "needs envelope=1 in the query of the URL")
        self._gaps = gaps
        self._limits = limits or Limits()
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._connect().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._connect()
        return self._connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await _close(connection)

    async def __aiter__(self) -> AsyncIterator[Connection]:
        delays = reconnect_delays()
        target = self._url.target
        while True:
            try:
                connection = await self._connect(target)
            except (OSError, TimeoutError, InvalidHandshake) as error:
                if isinstance(error, InvalidHandshake) and error.status not in TRANSIENT:
                    raise
                await asyncio.sleep(next(delays))
                continue
            delays = reconnect_delays()
            try:
                yield connection
            finally:
                await _close(connection)
            target = self._target_after(connection)

    def _target_after(self, connection: Connection) -> str:
        """Return what to ask for when a connection has ended."""
        if connection.session.place is None:
            return self._url.target
        # Where its position is unknown, that of the URL is an old one: all would come again.
        return with_since(self._url.target, connection.position)

    # One attempt.

    async def _connect(self, target: str | None = None) -> Connection:
        engine = engine_for(self._limits)
        target = self._url.target if target is None else target
        try:
            async with asyncio.timeout(self._open_timeout):
                return await self._open(engine, await self._dial(), target)
        finally:
            engine.release()

    async def _dial(self) -> socket.socket:
        """Return a connected socket, of the first address of the host that takes it."""
        if self._unix is not None:
            return await _connected(socket.AF_UNIX, self._unix)
        url = self._url
        found = await _addresses(url.host, url.port)
        failure: OSError | None = None
        for family, _, _, _, address in found:
            try:
                return await _connected(family, address)
            except OSError as error:
                failure = failure or error
        raise failure or OSError(f"{url.host}: the host has no address")

    async def _open(self, engine: ClientEngine, sock: socket.socket, target: str) -> Connection:
        key = new_key()

        def opened(connection: Connection, head: bytes) -> None:
            subprotocol = check_response(head, key, self._subprotocols)
            place = place_of(answer_fields(head), target)
            engine.engine.upgrade(connection, b"")
            self._receive(connection, ClientSession(subprotocol=subprotocol, place=place))

        try:
            connection, opening = engine.attach(sock.fileno(), self._request(key, target), opened)
        except BaseException:
            sock.close()
            raise
        sock.detach()
        try:
            await opening
        except BaseException:
            connection.abort()
            raise
        if self._stale_timeout is not None:
            Watch(connection, self._stale_timeout)
        return connection

    def _receive(self, connection: Connection, session: ClientSession) -> None:
        receive_into_inbox(connection, session, self._limits.handler_queue)
        inbox, place = session.inbox, session.place
        if inbox is not None and place is not None and place.numbered:
            inbox.last = ""  # what the program takes last is kept
            if self._gaps:
                connection.on_message = partial(_put, inbox)

    def _request(self, key: str, target: str) -> bytes:
        url: Url = self._url
        return build_request(
            url.host, url.port, target, key, self._subprotocols, self._origin, self._headers
        )


def _put(inbox: Inbox[Any], connection: Connection, message: str | bytes) -> None:
    inbox.put(connection, gap_of(message) or message)


class Watch:
    """Closes a connection on which no message has come for a while, at most a quarter too late.

    Args:
        connection: an open one.
        seconds: that it may be silent.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._seen = connection.session.inbox.received
        self._since = self._loop.time()
        self._loop.call_later(seconds / 4, self._look)

    def _look(self) -> None:
        connection, now = self._connection, self._loop.time()
        if not connection.is_open:
            return
        received = connection.session.inbox.received
        if received != self._seen or len(connection.session.inbox):  # what waits is not stale
            self._seen, self._since = received, now
        elif now - self._since >= self._seconds:
            with suppress(ConnectionClosed, LogFull):
                connection.close(GOING_AWAY, "stale")
            return
        self._loop.call_later(self._seconds / 4, self._look)


def reconnect_delays() -> Iterator[float]:
    """Yield the seconds to wait before each further attempt: at random, up to a growing bound."""
    yield random.uniform(0, FIRST_DELAY)
    bound = LEAST_DELAY
    while True:
        yield random.uniform(0, bound)
        bound = min(MOST_DELAY, bound * GROWTH)


async def _addresses(host: str, port: int) -> list[tuple[Any, ...]]:
    if "%" in host:  # an address with a scope: uvloop would lose it, and there is no need to wait
        flags = socket.AI_NUMERICHOST
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    loop = asyncio.get_running_loop()
    return list(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))


async def _connected(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6 and address[3]:
            await _connect_in_scope(sock, address)
        else:
            await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_in_scope(sock: socket.socket, address: tuple[str, int, int, int]) -> None:
    """Connect to an address of one link; uvloop's `sock_connect` loses its scope."""
    number = sock.connect_ex(address)
    if number == errno.EINPROGRESS:
        loop = asyncio.get_running_loop()
        writable = asyncio.Event()
        loop.add_writer(sock, writable.set)
        try:
            await writable.wait()
        finally:
            loop.remove_writer(sock)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


async def _close(connection: Connection) -> None:
    if connection.is_open:
        with suppress(ConnectionClosed, LogFull):
            connection.close()
    await connection.wait_closed()


def _names(field: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ConfigError(field, f"must be a list, such as [{names!r}]")
    return tuple(names)
