"""What the tests of sockets share: frames made and read without fastws, and two rigs.

`Rig` holds an engine that is driven by hand, `Site` a tick feed on the running loop; `Peer` and
`Client` are the clients of the one and the other. Every wait is bounded.
"""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import orjson

from fastws import ConfigError, Connection, Engine, Limits, ServeOptions, TickFeed, Topic
from fastws import Response as Answer
from fastws.http.response import TEXT as TEXT_PLAIN
from fastws.http.response import encode_response
from fastws.ticks.config import FEED_LIMITS

PATIENCE = 20.0  # seconds after which a wait has failed
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 1.3, and its accept
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
UPGRADE_FIELDS = (
    "Host: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
UPGRADE = f"GET / HTTP/1.1\r\n{UPGRADE_FIELDS}".encode()
SWITCHED = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
).encode()
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def open_files() -> int:
    """How many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """One frame as a client sends it, masked (RFC 6455 5.2)."""
    key = b"\x12\x34\x56\x78"
    n = len(payload)
    size = (
        bytes([0x80 | n])
        if n < 126
        else struct.pack(">BH", 0xFE, n)
        if n < 65536
        else struct.pack(">BQ", 0xFF, n)
    )
    masked = bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return bytes([fin << 7 | opcode]) + size + key + masked


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack(">H", code) + reason.encode()


FAILED = close_payload(1011, "the handler failed")


def take_frames(buffer: bytearray) -> list[tuple[int, bytes]]:
    """Take the whole frames off the buffer, as (opcode, payload); a server's are not masked."""
    view, at, found = bytes(buffer), 0, []
    while len(view) - at >= 2:
        first, n = view[at], view[at + 1]
        assert first & 0xF0 == 0x80, f"not a whole message without extensions: {first:#x}"
        assert first & 0x0F in (TEXT, BINARY, CLOSE, PING, PONG), f"opcode of {first:#x}"
        start = at + 2
        if n == 126:
            n, start = int.from_bytes(view[at + 2 : at + 4], "big"), at + 4
        elif n == 127:
            n, start = int.from_bytes(view[at + 2 : at + 10], "big"), at + 10
        if len(view) < start + n:
            break
        found.append((first & 0x0F, view[start : start + n]))
        at = start + n
    del buffer[:at]
    return found


def balances(account: Any) -> bool:
    """Whether published = delivered + conflated + dropped + pending (of either account)."""
    parts = ("delivered", "conflated", "dropped", "pending")
    return bool(account["published"] == sum(account[part] for part in parts))


def limited(options: dict[str, Any], limits: Limits | None = None) -> dict[str, Any]:
    """The options, those of them that are limits in one value (which is based on `limits`)."""
    names = {each.name for each in fields(Limits)}
    given = {name: value for name, value in options.items() if name in names}
    rest = {name: value for name, value in options.items() if name not in names}
    base = limits or Limits()
    if "outbox_limit" in given:
        given.setdefault("high_mark", min(base.high_mark, given["outbox_limit"]))
    return {**rest, "limits": replace(base, **given)}


def encoded(
    status: int, body: bytes = b"", content_type: str = TEXT_PLAIN, **options: Any
) -> bytes:
    """The bytes of a response; `headers` and the options of `encode_response` by name."""
    response = Answer(status, body, options.pop("headers", ()), content_type)
    return encode_response(response, **options)


class From:
    """A peer at an address."""

    def __init__(self, host: str) -> None:
        self.remote_address = (host, 50_000)


# An engine driven by hand.


class Peer:
    """A client's end of a socket, read only when asked."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.buffer = bytearray()
        self.frames: list[tuple[int, bytes]] = []
        self.ended = False

    def read(self) -> bool:
        """Read once, at most 64 KiB, into `frames`; False when nothing is there now."""
        try:
            data = b"" if self.ended else self.sock.recv(1 << 16)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            data = b""
        self.ended = not data
        self.buffer += data
        self.frames += take_frames(self.buffer)
        return not self.ended

    def pull(self) -> Self:
        """Read all that is there now; of a server beside this process there may be no end."""
        while self.read():
            pass
        return self

    @property
    def payloads(self) -> list[bytes]:
        """Of the data frames so far."""
        return [payload for opcode, payload in self.frames if opcode in (TEXT, BINARY)]

    def send(self, data: bytes) -> None:
        assert self.sock.send(data) == len(data)


def message(i: int, size: int = 1000) -> str:
    return f"{i} ".ljust(size, "x")


def numbers(peer: Peer) -> list[int]:
    """The numbers of the messages received, each of them whole."""
    texts = [payload.decode() for payload in peer.payloads]
    found = [int(text.split(" ")[0]) for text in texts]
    assert texts == [message(i, len(text)) for i, text in zip(found, texts, strict=True)]
    return found


class Rig:
    """An engine that takes every upgrade and keeps what it raised."""

    def __init__(self, **options: Any) -> None:
        self.engine = Engine(**options)
        self.opened: list[Connection] = []
        self.messages: list[str | bytes] = []
        self.closed: list[Connection] = []
        self.errors: list[BaseException] = []
        self._sockets: list[socket.socket] = []
        self.engine.on_head = self._on_head
        self.engine.on_message = lambda _, message: self.messages.append(message)
        self.engine.on_close = self.closed.append
        self.engine.on_error = lambda _, error: self.errors.append(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.close()
        for sock in self._sockets:
            sock.close()

    def _on_head(self, connection: Connection, _head: bytes) -> None:
        self.engine.upgrade(connection, SWITCHED)
        self.opened.append(connection)

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Turn until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"
            self.engine.turn(0.01)

    def listen(self, address: Any = ("127.0.0.1", 0), family: int = socket.AF_INET) -> Any:
        """Accept there; the address."""
        listener = socket.create_server(address, family=family, backlog=128)
        listener.setblocking(False)
        self._sockets.append(listener)
        self.engine.listen(listener.fileno())
        return listener.getsockname()

    def dial(self, address: Any, family: int, receive_buffer: int = 0) -> Peer:
        sock = socket.socket(family)
        self._sockets.append(sock)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(address)
        return Peer(sock)

    def connect(
        self, address: Any = None, family: int = socket.AF_INET, receive_buffer: int = 0
    ) -> tuple[Connection, Peer]:
        """A new open WebSocket: both its ends."""
        if address is None:
            address = self._sockets[0].getsockname() if self._sockets else self.listen()
        peer = self.dial(address, family, receive_buffer)
        known = len(self.opened)
        peer.send(UPGRADE)
        self.until(lambda: len(self.opened) > known)

        def switched() -> bool:
            try:
                peer.buffer += peer.sock.recv(len(SWITCHED) - len(peer.buffer))
            except BlockingIOError:
                return False
            return len(peer.buffer) == len(SWITCHED)

        self.until(switched)
        assert bytes(peer.buffer) == SWITCHED
        peer.buffer.clear()
        return self.opened[-1], peer

    def subscribed(self, topic: Topic, receive_buffer: int = 0) -> tuple[Connection, Peer]:
        connection, peer = self.connect(receive_buffer=receive_buffer)
        connection.subscribe(topic)
        return connection, peer


# A feed on the running loop.


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


class Client:
    """A TCP client on the running loop that speaks HTTP and WebSocket by hand."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self._frames: list[tuple[int, bytes]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sock.close()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def more(self) -> None:
        """Read once; EOFError at the end."""
        async with asyncio.timeout(PATIENCE):
            data = await asyncio.get_running_loop().sock_recv(self.sock, 1 << 18)
        if not data:
            raise EOFError
        self.buffer += data

    async def ended(self) -> bool:
        """Whether the server ends it without another byte."""
        try:
            await self.more()
        except (EOFError, ConnectionResetError):
            return not self.buffer and not self._frames
        return False

    async def exactly(self, n: int) -> bytes:
        """The next n bytes, behind which nothing has come yet."""
        while len(self.buffer) < n:
            await self.more()
        data = bytes(self.buffer)
        self.buffer.clear()
        return data

    async def head(self) -> bytes:
        """The bytes up to and including the blank line."""
        while (end := self.buffer.find(b"\r\n\r\n")) < 0:
            await self.more()
        head = bytes(self.buffer[: end + 4])
        del self.buffer[: end + 4]
        return head

    async def response(self, *, head_only: bool = False) -> Response:
        start, *lines = (await self.head())[:-4].decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        n = 0 if head_only else int(headers.get("content-length", 0))
        while len(self.buffer) < n:
            await self.more()
        body = bytes(self.buffer[:n])
        del self.buffer[:n]
        return Response(int(start.split(" ")[1]), headers, body)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        while not self._frames:
            self._frames = take_frames(self.buffer)
            if not self._frames:
                await self.more()
        return self._frames.pop(0)

    async def frames(self, n: int) -> list[tuple[int, bytes]]:
        """At least n frames: all that had come when there were as many."""
        while len(self._frames) < n:
            await self.more()
            self._frames += take_frames(self.buffer)
        found, self._frames = self._frames, []
        return found

    async def tick(self) -> Any:
        """The next frame, which must be a JSON tick."""
        opcode, payload = await self.frame()
        assert opcode == TEXT
        return orjson.loads(payload)

    async def until(self, opcode: int) -> bytes:
        """The payload of the next frame of that opcode; data before it is passed over."""
        while True:
            found, payload = await self.frame()
            if found == opcode:
                return payload
            assert found in (TEXT, BINARY), f"opcode {found} came first"

    async def say(self, message: object) -> None:
        """A JSON message, and a ping whose answer says that it was taken."""
        await self.send(client_frame(TEXT, orjson.dumps(message)) + client_frame(PING, b"said"))
        assert await self.until(PONG) == b"said"


class Site:
    """A feed on the running loop, at a port of its own."""

    def __init__(self, *, lines: Callable[[str], None] | None = None, **options: Any) -> None:
        # A client that is late here is so because the machine is: nothing is dropped for that. And
        # what a test sends, it sends at once.
        usual = {"port": 0, "rate": 0, "max_lag": 0, "min_rate": 0, "message_rate": 0}
        usual["byte_rate"] = 0
        self.feed = TickFeed(ServeOptions(**limited(usual | options, FEED_LIMITS)), lines)
        try:
            self.addresses = self.feed.listen()
        except ConfigError:
            self.feed.close()
            raise
        self.port = self.addresses[0][1]

    async def __aenter__(self) -> Self:
        self.feed.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.feed.close()

    async def dial(self, *, receive_buffer: int = 0, port: int = 0) -> Client:
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(PATIENCE):
                address = ("127.0.0.1", port or self.port)
                await asyncio.get_running_loop().sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return Client(sock)

    async def websocket(self, *, path: str = "/", receive_buffer: int = 0, port: int = 0) -> Client:
        client = await self.dial(receive_buffer=receive_buffer, port=port)
        await client.send(f"GET {path} HTTP/1.1\r\n{UPGRADE_FIELDS}".encode())
        head = await client.head()
        assert head == SWITCHED, head
        return client

    async def sockets(self, n: int) -> None:
        """Wait until the server holds that many connections, silent ones included."""
        async with asyncio.timeout(PATIENCE):
            while self.feed.server.engine.live != n:  # noqa: ASYNC110  # no event tells it
                await asyncio.sleep(0)

    async def http(
        self,
        method: str,
        path: str,
        body: object = None,
        fields: Iterable[str] = (),
        *,
        port: int = 0,
    ) -> Response:
        """One request on a connection of its own; a body that is not bytes goes as JSON."""
        async with await self.dial(port=port) as client:
            await client.send(http_request(method, path, body, fields))
            return await client.response(head_only=method == "HEAD")

    async def stats(self) -> Any:
        return (await self.http("GET", "/stats")).json

    async def stats_when(self, condition: Callable[[Any], object]) -> Any:
        """GET /stats until it looks like that."""
        async with asyncio.timeout(PATIENCE):
            while not condition(stats := await self.stats()):
                pass
        return stats


def http_request(method: str, path: str, body: object = None, fields: Iterable[str] = ()) -> bytes:
    content = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *fields]
    if content:
        lines.append(f"Content-Length: {len(content)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content
