"""The connections of the load client: opened in batches, verified, counted by the engine, closed.

Layer 6. Knows sockets and the engine in the client role; nothing of phases or results. The
engine receives, counts and checks every frame without Python.
"""

import errno
import os
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

import orjson

from fastws._frame import Connection, Engine
from fastws.bench.measurement import MOST_BYTES_IN_FLIGHT
from fastws.client.handshake import build_request, check_response, new_key
from fastws.client.url import Url
from fastws.errors import ConnectionClosed, FastwsError, InvalidHandshake, LogFull, printable
from fastws.server.open_files import RESERVED_FILES, file_limit

BATCH = 256  # connections opened at once: less than the usual backlog of a listening socket
PATIENCE = 10.0  # seconds without progress in connecting or closing
TURN = 0.05  # seconds that a turn waits when nothing comes
NORMAL_CLOSURE = 1000
LARGEST = 64 << 20  # bytes of a message
# Bytes of memory in which all that is in flight may wait for one connection. Messages of 1 KiB take
# a third more than their bytes. Past a quarter of the limit a connection is not read from: two
# sides that both wait for the other one to read would wait for ever.
MOST_WAITING = 8 * MOST_BYTES_IN_FLIGHT

_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


class CannotMeasure(FastwsError):
    """The connections could not be opened, or not be sent to; `str()` is one line."""


class _NotConnected(CannotMeasure):
    """TCP said no, so that another address of the host may say yes."""


class Clients:
    """Connections to one URL, all metered alike.

    `open` are those whose handshake was verified and that have not ended; `ended` says, one line
    each, which have; `interrupted` may be set at any time and ends every wait.

    `ended_codes` counts them by close code.

    Args:
        url: where to.
        n: how many, 1 up.
        begin: called with each as soon as it is open; it says who it is, has it metered.
        subprotocols: asked for.
        headers: more fields of the request.
        byte_rate: bytes a second that are read of each; 0: all that come.
        receive_buffer: bytes that are asked for each socket; 0: what the kernel gives.
        beside: called in each turn; what else has to go on meanwhile.
    """

    def __init__(
        self,
        url: Url,
        n: int,
        begin: Callable[[Connection], None],
        subprotocols: Sequence[str] = (),
        headers: Sequence[tuple[str, str]] = (),
        byte_rate: int = 0,
        receive_buffer: int = 0,
        beside: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = Engine(
            byte_rate=byte_rate,
            handshake_timeout=2 * PATIENCE,
            close_timeout=PATIENCE / 2,
            max_message_size=LARGEST,
            outbox_limit=MOST_WAITING,
        )
        self.engine.on_head = self._on_head
        self.engine.on_head_limit = self._on_head_limit
        self.engine.on_close = self._on_close
        self.engine.on_error = self._failed
        self.open: list[Connection] = []
        self.ended: list[str] = []
        self.ended_codes: Counter[int] = Counter()
        self.interrupted = False
        self._url = url
        self._where = f"[{url.host}]:{url.port}" if ":" in url.host else f"{url.host}:{url.port}"
        self._n = n
        self._begin = begin
        self._subprotocols, self._headers = subprotocols, headers
        self._receive_buffer, self._beside = receive_buffer, beside
        self._verified = 0
        self._closing = False
        self._error: BaseException | None = None

    def connect(self, opened: Callable[[int], None]) -> None:
        """Open all connections; those that are open already receive meanwhile.

        Args:
            opened: called with how many are open, after each batch.

        Raises:
            CannotMeasure: one was refused, not answered in 10 s, not answered with a 101, or too
                much waits to be sent.
            KeyboardInterrupt: interrupted.
        """
        limit = file_limit()
        if self._n + RESERVED_FILES > limit:
            raise CannotMeasure(
                f"{self._n:,} clients and {RESERVED_FILES} other files are more than the limit of "
                f"open files, {limit:,} (ulimit -n)"
            )
        address = self._first_address()
        while self._verified < self._n:
            self._open_batch(address, min(BATCH, self._n - self._verified))
            opened(self._verified)

    def turn(self, timeout: float) -> None:
        """Wait up to timeout seconds, receive and count; raises what a handler could not bear."""
        self.engine.turn(timeout)
        if self._error is not None:
            raise self._error
        self._beside()

    def report(self, text: str) -> None:
        """Send a message on the first connection, if one is open and takes it."""
        with suppress(ConnectionClosed, LogFull):
            if self.open:
                self.open[0].send_nowait(text)

    def close(self) -> None:
        """Close every connection with 1000 and wait for the answers, at most 10 s."""
        self._closing, self.interrupted = True, False
        for connection in self.open:
            with suppress(ConnectionClosed, LogFull):
                connection.close(NORMAL_CLOSURE)
        until = time.monotonic() + PATIENCE
        while self.engine.live and time.monotonic() < until and not self.interrupted:
            self.engine.turn(TURN)

    def abort(self) -> None:
        """Let go of everything at once; idempotent."""
        self._closing = True
        self.engine.close()

    # Opening.

    def _first_address(self) -> _Address:
        """Open the first connection, at the first address of the host that takes it."""
        refused: _NotConnected | None = None
        for address in self._addresses():
            try:
                self._open_batch(address, 1)
            except _NotConnected as error:
                refused = error
            else:
                return address
        raise refused or CannotMeasure(f"{self._where}: the host has no address")

    def _addresses(self) -> list[_Address]:
        try:
            found = socket.getaddrinfo(self._url.host, self._url.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "not a host name"
            raise CannotMeasure(f"{self._where}: {why}") from None
        return [(family, address) for family, _, _, _, address in found]  # type: ignore[misc]

    def _open_batch(self, address: _Address, n: int) -> None:
        """Open n connections and wait until the handshake of each is verified."""
        wanted, seen = self._verified + n, self._verified
        self._connect_batch(address, n)
        until = time.monotonic() + PATIENCE
        while self._verified < wanted:
            self._wait(until, "does not answer the handshake")
            if self._verified > seen:
                seen, until = self._verified, time.monotonic() + PATIENCE

    def _connect_batch(self, address: _Address, n: int) -> None:
        waiting: dict[int, socket.socket] = {}
        poller = select.poll()
        try:
            for _ in range(n):
                connecting = self._dial(address)
                waiting[connecting.fileno()] = connecting
                poller.register(connecting, select.POLLOUT)
            until = time.monotonic() + PATIENCE
            while waiting:
                for fd, _ in poller.poll(int(1000 * TURN)):
                    poller.unregister(fd)
                    self._attach(waiting, fd)
                self._wait(until, "does not accept the connection", 0.0)
        finally:
            for connecting in waiting.values():
                connecting.close()

    def _dial(self, address: _Address) -> socket.socket:
        family, where = address
        try:
            connecting = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise self._not_connected(error.errno) from None
        if self._receive_buffer:  # before the window is announced
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        status = connecting.connect_ex(where)
        if status not in (0, errno.EINPROGRESS):
            connecting.close()
            raise self._not_connected(status)
        return connecting

    def _attach(self, waiting: dict[int, socket.socket], fd: int) -> None:
        """Give a connected socket to the engine, with its request."""
        status = waiting[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise self._not_connected(status)
        url, key = self._url, new_key()
        asked = build_request(
            url.host, url.port, url.target, key, self._subprotocols, extra=self._headers
        )
        try:
            connection = self.engine.attach(fd, asked)
        except OSError as error:
            raise self._not_connected(error.errno) from None
        waiting.pop(fd).detach()
        connection.context = key

    def _not_connected(self, status: int | None) -> _NotConnected:
        return _NotConnected(f"cannot connect to {self._where}: {os.strerror(status or 0)}")

    def _wait(self, until: float, what: str, timeout: float = TURN) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        if time.monotonic() > until:
            raise CannotMeasure(f"{self._where} {what} within {PATIENCE:.0f} s")
        self.turn(timeout)

    # What the engine raises.

    def _on_head(self, connection: Connection, head: bytes) -> None:
        try:
            check_response(head, connection.context, self._subprotocols)
        except InvalidHandshake as error:
            self._refused(connection, str(error))
            return
        self.engine.upgrade(connection, b"")
        connection.context = self._verified
        self._verified += 1
        self.open.append(connection)
        self._begin(connection)

    def _on_head_limit(self, connection: Connection, part: bytes) -> None:
        self._refused(connection, f"the head of the answer is longer than {len(part):,} bytes")

    def _refused(self, connection: Connection, why: str) -> None:
        self._error = self._error or CannotMeasure(f"{self._where}: {why}")
        connection.abort()

    def _on_close(self, connection: Connection) -> None:
        if self._closing:
            return
        if isinstance(connection.context, int):
            self.ended_codes[connection.close_code or 1006] += 1
            reason = printable(connection.reason or "")
            self.ended.append(f"{connection.context}: {connection.close_code} {reason}".rstrip())
            self.open.remove(connection)
        else:
            self._refused(connection, "closed the connection instead of answering the handshake")

    def _failed(self, connection: Connection, exception: BaseException) -> None:
        if isinstance(exception, LogFull):
            exception = CannotMeasure(f"{self._where}: {exception}")
        self._error = self._error or exception
        connection.abort()


def message(kind: str, client_id: str, more: dict[str, float | int | None] | None = None) -> str:
    """Return a message of docs/protocol.md 1 from client to server."""
    return orjson.dumps({"type": kind, "clientId": client_id, **(more or {})}).decode()
