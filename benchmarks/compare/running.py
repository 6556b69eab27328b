"""Rounds: a server process on its core, the load client on another, rows in random order."""

import fcntl
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.cells import Cell
from benchmarks.compare.figures import Sample
from benchmarks.compare.load import BadStream, measure
from benchmarks.compare.messages import server_stream
from benchmarks.compare.rows import Peer

ROOT = Path(__file__).resolve().parent.parent.parent
START_TIMEOUT = 15.0  # seconds
STOP_TIMEOUT = 3.0
COMPLAINT = 200  # characters of stderr that are reported


@dataclass(frozen=True, slots=True)
class Plan:
    """How a comparison is run."""

    peers: list[Peer]
    cells: list[Cell]
    rounds: int
    warmup: float  # seconds
    seconds: float
    server_core: int
    client_core: int
    seed: int
    lock: Path | None = None  # that others measure under, too


def run(plan: Plan) -> list[Sample]:
    """Measure; Ctrl-C gives what is known by then."""
    samples: list[Sample] = []
    order = random.Random(plan.seed)
    steps = [step for number in range(plan.rounds) for step in steps_of_round(plan, number, order)]
    total, worked = sum(len(rows) for _, _, rows in steps), 0.0
    with suppress(KeyboardInterrupt):
        for number, cell, rows in steps:
            with locked(plan.lock):
                began = time.monotonic()
                for peer in rows:
                    samples.append(one(plan, peer, cell, number))
                worked += time.monotonic() - began
            left = worked / len(samples) * (total - len(samples)) / 60
            print(f"{left:.1f} min left: round {number + 1}, {cell.name}", file=sys.stderr)
            print(*map(said, samples[-len(rows) :]), sep="\n", file=sys.stderr, flush=True)
    return samples


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold a lock that others take for their measurements, as flock(1) does."""
    if path is None:
        yield
        return
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def said(sample: Sample) -> str:
    """Return a line of progress."""
    found = sample.measured
    result = sample.failure if found is None else f"{found.value:,.1f}"
    return f"    {sample.peer}: {result}"


def steps_of_round(
    plan: Plan, number: int, order: random.Random
) -> list[tuple[int, Cell, list[Peer]]]:
    """Return the measurements of a round: cells in random order, and the rows of each."""
    steps = []
    for cell in order.sample(plan.cells, len(plan.cells)):
        rows = [peer for peer in plan.peers if not peer.missing and not peer.without(cell)]
        order.shuffle(rows)
        steps.append((number, cell, rows))
    return steps


def one(plan: Plan, peer: Peer, cell: Cell, number: int) -> Sample:
    """Measure a row in a cell once."""
    try:
        with serving(plan.server_core, peer, cell) as (port, pid):
            measured = measure(cell, port, pid, plan.warmup, plan.seconds)
        return Sample(peer.name, cell.name, number, measured)
    except (BadStream, OSError) as error:
        return Sample(peer.name, cell.name, number, None, str(error))


@contextmanager
def serving(core: int, peer: Peer, cell: Cell) -> Iterator[tuple[int, int]]:
    """Run the server of a row; yields its port and process."""
    port = free_port()
    with tempfile.TemporaryFile() as complaints, tempfile.TemporaryFile() as frames:
        if peer.stdin:
            frames.write(server_stream(cell.size))
            frames.seek(0)
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *peer.command(cell, port)],
            stdin=frames,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            cwd=ROOT,
        )
        try:
            wait_until_it_listens(process, port)
            yield port, process.pid
        except (BadStream, OSError) as error:
            complaints.seek(0)
            said = complaints.read().decode(errors="replace").strip()[-COMPLAINT:]
            raise BadStream(f"{error}; {said}" if said else str(error)) from error
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Terminate the server; one that stays for 3 s is killed."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until_it_listens(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until the port is listened on, without connecting to it."""
    wanted = f"0100007F:{port:04X}"
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        if process.poll() is not None:
            raise BadStream(f"the server left with {process.returncode}")
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == wanted and fields[3] == "0A":  # TCP_LISTEN
                return
        time.sleep(0.02)
    raise BadStream(f"the server did not listen within {START_TIMEOUT:.0f} s")


def cores_are_there(*cores: int) -> bool:
    """Return whether this process may use these cores."""
    return set(cores) <= os.sched_getaffinity(0)
