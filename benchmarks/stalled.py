"""A client that stops reading: what do the others notice, and does its account balance?

    python benchmarks/stalled.py [--rounds 5] [--rate 100000] [--clients 10] [--stall 15]
    python benchmarks/stalled.py --against OLD/bin/python --rounds 15 --stall 5

Each round measures the latency of the healthy clients for as long as the stall lasts, once without
and once with a client that does not read; the p99 of the second over that of the first is the
ratio. Then the stalled one reads on: every byte must belong to whole frames, with rising numbers.

With --against the server of another installation is measured in the same rounds, another one first
in each, and the processor time of the two for a delivered message is compared.
"""

import argparse
import json
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from reading import spread
from serving import CLIENT_CORE, Served, open_websocket, serve

from fastws import Connection, Engine
from fastws.client.handshake import build_request, new_key

TIMEOUT = 10.0


class Healthy:
    """Clients on the native core, which take everything."""

    def __init__(self, port: int, count: int) -> None:
        self.engine = Engine(max_connections=count + 1)
        self.engine.on_head = self._open
        self.open = 0
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            sock.setblocking(False)
            self.engine.attach(sock.detach(), build_request("127.0.0.1", port, "/", new_key()))
        while self.open < count:
            self.engine.turn(0.1)

    def _open(self, connection: Connection, _head: bytes) -> None:
        self.engine.upgrade(connection, b"")
        self.engine.meter(connection)
        self.open += 1

    def take(self, seconds: float) -> None:
        """Read for that long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.engine.turn(min(left, 0.1))

    def p99_ms(self, seconds: float) -> float:
        """Read for that long and return the 99th percentile of the latency."""
        self.engine.record_latency(True)
        self.take(seconds)
        self.engine.record_latency(False)
        metered = self.engine.metered()
        assert metered["bad"] == 0, metered["first_error"]
        return metered["latency_ms"]["p99"]


class Stalled:
    """A client that reads when it is told to."""

    def __init__(self, port: int) -> None:
        self.socket, self.data = open_websocket(port)

    def read_on(self, seconds: float) -> tuple[int, int]:
        """Read for that long; return the frames seen and the numbers skipped between them."""
        deadline = time.monotonic() + seconds
        self.socket.settimeout(0.2)
        received = bytearray(self.data)
        while time.monotonic() < deadline:
            try:
                received += self.socket.recv(1 << 20)
            except TimeoutError:
                continue
        return check_frames(received)


def check_frames(data: bytearray) -> tuple[int, int]:
    """Walk over whole frames; every one is a tick with a higher number than the last."""
    at = frames = skipped = 0
    last = -1
    while at + 2 <= len(data) and at + 2 + data[at + 1] <= len(data):
        opcode, size = data[at], data[at + 1]
        assert opcode in (0x81, 0x89), f"byte {at} begins no frame: {opcode:#x}"
        assert size < 126, f"byte {at + 1} is no length of a tick: {size}"
        if opcode == 0x81:
            seq = json.loads(data[at + 2 : at + 2 + size])["seq"]
            assert seq > last, f"{seq} after {last}"
            skipped += seq - last - 1 if last >= 0 else 0
            last = seq
            frames += 1
        at += 2 + size
    return frames, skipped


@dataclass
class Round:
    """What one round showed."""

    ratio: float
    alone_ms: float
    beside_ms: float
    resident_mib: float
    frames: int
    skipped: int
    cpu_ns: float  # of the server for a message that it delivered


def measure(server: Served, clients: int, stall: float, beside_first: bool) -> Round:
    """One round, in one order or the other."""
    began = server.cpu_ns()
    healthy = Healthy(server.port, clients)
    healthy.take(2)
    alone = 0.0 if beside_first else healthy.p99_ms(stall)
    stalled = Stalled(server.port)
    beside = healthy.p99_ms(stall)
    resident = server.resident_mib()
    balance(server)
    frames, skipped = stalled.read_on(3)
    balance(server)
    stalled.socket.close()
    if beside_first:
        healthy.take(2)
        alone = healthy.p99_ms(stall)
    healthy.engine.close()
    cpu = (server.cpu_ns() - began) / server.ask("GET", "/stats")["server"]["delivered"]
    return Round(beside / alone, alone, beside, resident, frames, skipped, cpu)


def balance(server: Served) -> None:
    """Check the account of every client and the sum."""
    account = server.ask("GET", "/stats")["server"]
    for each in (account, *account["clients"]):
        parts = each["delivered"] + each["conflated"] + each["dropped"] + each["pending"]
        assert each["published"] == parts, each


def main() -> None:
    """Measure all rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--stall", type=float, default=15)
    parser.add_argument("--against", type=Path, help="interpreter of another installation")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {CLIENT_CORE})
    pythons = [Path(sys.executable), *filter(None, [arguments.against])]
    rounds: list[list[Round]] = [[] for _ in pythons]
    for number in range(arguments.rounds):
        for i in range(len(pythons))[:: -1 if number % 2 else 1]:
            rate = ("--rate", str(arguments.rate), "--fields", "seq")
            with serve(*rate, python=pythons[i]) as server:
                found = measure(server, arguments.clients, arguments.stall, number % 2 == 1)
            rounds[i].append(found)
            print(found, flush=True)
    for python, each in zip(pythons, rounds, strict=True):
        report(str(python), each)
    if arguments.against is not None:
        compare(*rounds)


def report(name: str, rounds: list[Round]) -> None:
    """Print what the rounds of one server showed."""
    print(
        f"{name}: p99 beside a stalled client over p99 without:"
        f" {spread([each.ratio for each in rounds])}, resident at most"
        f" {max(each.resident_mib for each in rounds):.1f} MiB, every account balances"
    )


def compare(own: list[Round], others: list[Round]) -> None:
    """Print the ratios of one to the other within a round."""
    pairs = list(zip(own, others, strict=True))
    cpu = spread([b.cpu_ns / a.cpu_ns for a, b in pairs])
    p99 = spread([b.beside_ms / a.beside_ms for a, b in pairs])
    print(f"the other's processor time for a message over that of this one: {cpu}; its p99: {p99}")


if __name__ == "__main__":
    main()
