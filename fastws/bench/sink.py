"""The built-in clients of `fastws ceiling`, each a process: python -m fastws.bench.sink.

Layer 6. `native` counts in C, as `fastws bench` does; `python` is what a plain asyncio client
costs: it parses each frame and each tick's JSON in Python. Both report four times a second with
the latencies since the last report, and go on until their connection ends or a signal comes.
"""

import asyncio
import json
import struct
import sys
import time
from contextlib import suppress

from fastws._frame import Connection
from fastws.bench.clients import TURN, Clients, message
from fastws.client.handshake import build_request, check_response, new_key
from fastws.client.url import Url, parse_url
from fastws.errors import FastwsError

REPORT_EVERY = 0.25  # seconds; the more reports, the shorter a trial may be
DECODE_EVERY = 61
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
TIMES = struct.Struct("<Idq")


def main() -> None:
    """Run the client that the arguments name: kind, URL, connections, client id."""
    kind, url, clients, client_id = sys.argv[1:]
    with suppress(FastwsError, OSError):  # the server has gone: so does the client
        if kind == "native":
            native(parse_url(url), int(clients), client_id)
        else:
            asyncio.run(python(parse_url(url), int(clients), client_id))


def native(url: Url, n: int, client_id: str) -> None:
    """Count the frames of n connections in C; one of them reports the sums."""

    def begin(connection: Connection) -> None:
        engine.meter(connection)
        connection.send_nowait(message("identify", client_id))

    clients = Clients(url, n, begin)
    engine = clients.engine
    try:
        clients.connect(lambda _: None)
        began, before = time.monotonic(), 0
        engine.record_latency(True)
        while len(clients.open) == n:
            clients.turn(TURN)
            if (seconds := time.monotonic() - began) < REPORT_EVERY:
                continue
            metered = engine.metered()
            found, frames = metered["latency_ms"], metered["frames"]
            stats = _stats((frames - before) / seconds, frames, found["mean"], found["p99"])
            clients.report(message("stats", client_id, stats if found["n"] else stats | NO_LATENCY))
            began, before = began + seconds, frames
            engine.record_latency(True)
    finally:
        clients.abort()


NO_LATENCY: dict[str, float | int | None] = {"avgLatencyMs": None, "p99LatencyMs": None}


def _stats(rate: float, total: int, mean: float, p99: float) -> dict[str, float | int | None]:
    return {
        "messagesPerSec": round(rate),
        "totalMessages": total,
        "avgLatencyMs": round(mean, 3),
        "p99LatencyMs": round(p99, 3),
    }


class _Tally:
    """Counts of all connections of the Python client."""

    def __init__(self) -> None:
        self.total = 0
        self.latencies: list[float] = []

    def stats(self, rate: float) -> dict[str, float | int | None]:
        """Return what to report; the latencies begin anew."""
        found, self.latencies = sorted(self.latencies), []
        if not found:
            return _stats(rate, self.total, 0, 0) | NO_LATENCY
        p99 = found[max(0, -(-99 * len(found) // 100) - 1)]
        return _stats(rate, self.total, sum(found) / len(found), p99)


class _Protocol(asyncio.Protocol):
    """One connection of the Python client: the handshake, then frames (RFC 6455 5.2)."""

    def __init__(self, url: Url, client_id: str, tally: _Tally, ended: asyncio.Event) -> None:
        self._url, self._client_id = url, client_id
        self._tally, self._ended = tally, ended
        self._key, self._open = new_key(), False
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport, url = transport, self._url
        transport.write(build_request(url.host, url.port, url.target, self._key))

    def data_received(self, data: bytes) -> None:
        """Take the answer to the handshake, then every whole frame."""
        data = self._buffer + data
        if not self._open:
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._buffer = head
                return
            check_response(head + end, self._key)
            self._open = True
            self.transport.write(masked(message("identify", self._client_id).encode()))
        at = 0
        while len(data) - at >= 2:
            begin = at + 2
            end_at = begin + (data[at + 1] & 0x7F)  # ticks and pings are shorter than 126 bytes
            if len(data) < end_at:
                break
            self._take(data[at] & 0x0F, data[begin:end_at])
            at = end_at
        self._buffer = data[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.transport.write(masked(payload, PONG))
        elif opcode == CLOSE:
            self.transport.close()
        elif opcode in (TEXT, BINARY):
            ts = json.loads(payload)["ts"] if opcode == TEXT else TIMES.unpack_from(payload)[2]
            self._tally.total += 1
            if self._tally.total % DECODE_EVERY == 0:
                self._tally.latencies.append(1000 * time.time() - ts)

    def connection_lost(self, exception: Exception | None) -> None:
        """Hear that the connection has ended: so does the client."""
        self._ended.set()


async def python(url: Url, n: int, client_id: str) -> None:
    """Open n connections, and parse in Python what comes."""
    tally, ended = _Tally(), asyncio.Event()
    loop, first = asyncio.get_running_loop(), None
    for _ in range(n):
        _, protocol = await loop.create_connection(
            lambda: _Protocol(url, client_id, tally, ended), url.host, url.port
        )
        first = first or protocol
    began, before = time.monotonic(), 0
    while first is not None and not ended.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), REPORT_EVERY)
        now = time.monotonic()
        stats = tally.stats((tally.total - before) / (now - began))
        began, before = now, tally.total
        first.transport.write(masked(message("stats", client_id, stats).encode()))


def masked(payload: bytes, opcode: int = 1) -> bytes:
    """Return a client's frame of less than 64 KiB with the masking key 0 (RFC 6455 5.3)."""
    size = bytes([0x80 | len(payload)])
    if len(payload) > 125:
        size = bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    return bytes([0x80 | opcode]) + size + bytes(4) + payload


if __name__ == "__main__":
    main()
