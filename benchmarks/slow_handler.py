"""A client that reads nothing while a handler sends it 1 GB: the server's memory, and the others.

    python benchmarks/slow_handler.py [--rounds 5] [--clients 20] [--stall 5] [--megabytes 1000]

The server has one handler, `async for` and `await ws.send(message)`. In each round 20 clients ping
in turns, for as long as the stall lasts, once alone and once beside a client that has asked for
1 GB in messages of 64 KiB and reads nothing; every other round begins with the second. Then that
client reads on: all of it must come, whole and in order. Prints for each round the p99 of a ping in
ms, how much the handler had sent when the stall ended, and how far the server's resident memory
grew at most, to the last byte of the 1 GB; then the medians.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from serving import CLIENT_CORE, Served, open_websocket, started

import fastws

SIZE = 65_536  # bytes of a message
HEADER = 10  # bytes of its frame, RFC 6455 5.2
PING, PONG = b"\x89\x81\0\0\0\0x", b"\x8a\x01x"
PAUSE = 0.001  # seconds between two pings
SETTLE = 1.0  # until the sockets of a client that does not read are full


class Flood:
    """The server: echoes, or sends that many messages to who asks for them."""

    def __init__(self) -> None:
        self.sent = 0

    async def handle(self, ws: fastws.Connection) -> None:
        """A number asks for as many messages, each of which begins with its own number."""
        rest = bytes(SIZE - 8)
        async for message in ws:
            for number in range(int(message)):
                await ws.send(number.to_bytes(8, "big") + rest)
                self.sent = number + 1

    def answer(self, request: fastws.Request) -> fastws.Response | None:
        """Tell over HTTP how many messages the handler has sent."""
        return fastws.Response.json(self.sent) if request.path == "/sent" else None

    async def serve(self) -> None:
        """Serve until Ctrl-C."""
        limits = fastws.Limits(ping_interval=0)  # the clients ping
        serving = fastws.serve(self.handle, process_request=self.answer, limits=limits)
        async with serving as server:
            print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
            await server.serve_forever()


class Slow:
    """A client that asks for all of it, and reads when it is told to."""

    def __init__(self, port: int, messages: int) -> None:
        self.messages = messages
        self.socket, self.data = open_websocket(port)
        text = str(messages).encode()
        self.socket.sendall(bytes([0x81, 0x80 | len(text)]) + bytes(4) + text)

    def read_on(self, weigh: Callable[[], None]) -> None:
        """Read everything; each message must be whole, and the next one."""
        received = bytearray(self.data)
        number = 0
        while number < self.messages:
            part = self.socket.recv(1 << 20)
            assert part, f"it ended in front of message {number}"
            received += part
            at = 0
            while len(received) - at >= HEADER + SIZE:
                begins = received[at : at + HEADER + 8]
                expected = b"\x82\x7f" + SIZE.to_bytes(8, "big") + number.to_bytes(8, "big")
                assert begins == expected, f"message {number} begins with {begins.hex()}"
                at += HEADER + SIZE
                number += 1
            del received[:at]
            weigh()
        assert not received


class Others:
    """Clients that ping in turns; and what the server's memory is meanwhile."""

    def __init__(self, server: Served, count: int) -> None:
        self.server = server
        self.sockets = [open_websocket(server.port)[0] for _ in range(count)]
        self.most_mib = server.resident_mib()

    def weigh(self) -> None:
        """Look at the server's memory."""
        self.most_mib = max(self.most_mib, self.server.resident_mib())

    def p99_ms(self, seconds: float) -> float:
        """Ping for that long; return the 99th percentile of a ping's time."""
        took = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for each in self.sockets:
                took.append(ping_ms(each))
                time.sleep(PAUSE)
            self.weigh()
        took.sort()
        return took[int(len(took) * 0.99)]


def ping_ms(sock: socket.socket) -> float:
    """Ping and wait for the pong."""
    began = time.perf_counter()
    sock.sendall(PING)
    got = sock.recv(100)
    assert got == PONG, got
    return (time.perf_counter() - began) * 1000


@dataclass
class Round:
    """What one round showed; p99 of a ping in ms, growth of resident memory in MiB."""

    alone: float
    beside: float
    ratio: float
    sent_mb: float
    grew: float


def measure(server: Served, options: argparse.Namespace, beside_first: bool) -> Round:
    """One round, in one order or the other."""
    others = Others(server, options.clients)
    others.p99_ms(SETTLE)
    begun = others.most_mib
    alone = 0.0 if beside_first else others.p99_ms(options.stall)
    slow = Slow(server.port, options.megabytes * 1_000_000 // SIZE)
    others.p99_ms(SETTLE)
    beside = others.p99_ms(options.stall)
    sent_mb = server.ask("GET", "/sent") * SIZE / 1e6
    slow.read_on(others.weigh)
    assert server.ask("GET", "/sent") == slow.messages, "not everything has come"
    slow.socket.close()
    if beside_first:
        others.p99_ms(SETTLE)
        alone = others.p99_ms(options.stall)
    for each in others.sockets:
        each.close()
    return Round(alone, beside, beside / alone, sent_mb, others.most_mib - begun)


def main() -> None:
    """Measure all rounds; print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=20, help="that ping")
    parser.add_argument("--stall", type=float, default=5.0, help="seconds without reading")
    parser.add_argument("--megabytes", type=int, default=1000, help="that the handler sends")
    parser.add_argument("--serve", action="store_true", help="be the server")
    options = parser.parse_args()
    if options.serve:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(Flood().serve())
        return
    os.sched_setaffinity(0, {CLIENT_CORE})
    print("p99, ms: alone beside   ratio   sent MB in the stall   grew MiB")
    rounds: list[Round] = []
    for number in range(options.rounds):
        with started([sys.executable, str(Path(__file__).resolve()), "--serve"]) as server:
            rounds.append(measure(server, options, number % 2 == 1))
        show("", rounds[-1])
    show("median", Round(*map(statistics.median, zip(*map(astuple, rounds), strict=True))))


def show(name: str, found: Round) -> None:
    """Print a row."""
    print(
        f"{name:<6} {found.alone:>6.3f} {found.beside:>7.3f} {found.ratio:>7.2f} "
        f"{found.sent_mb:>22.1f} {found.grew:>10.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
