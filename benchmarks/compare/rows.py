"""The rows: every server, how it is started in its best practice, and why one may be missing."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.cells import Cell, Kind
from benchmarks.compare.load import PROGRAMS
from benchmarks.compare.messages import ring_size

BENCHMARKS = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
NODE_WS = BENCHMARKS / "clients/node/node_modules/ws"
LONGEST = 3600  # seconds of a bare loop
REFERENCE = "fastws"
Command = Callable[[Cell, int], list[str]]


@dataclass(frozen=True, slots=True)
class Peer:
    """A server.

    Args:
        name: how `--only` and the table call it.
        how: in which way it is used.
        missing: why it cannot be had here; empty when it can.
        command: what starts it for a cell on a port.
        without: why it has no part in a cell; empty when it has.
        stdin: whether it reads the frames of the cell from there.
    """

    name: str
    how: str
    missing: str
    command: Command
    without: Callable[[Cell], str] = lambda _: ""
    stdin: bool = False


def load_options(cell: Cell, port: int) -> list[str]:
    """Return what the servers of `peers/` have in common."""
    command = ["--port", str(port), "--clients", str(cell.clients), "--size", str(cell.size)]
    command += ["--burst", str(cell.burst), "--topics", str(cell.topics)]
    if cell.free:
        command.append("--free")
    return command if cell.kind.fans_out else [*command, "--echo"]


def python_peer(
    name: str, how: str, needs: tuple[str, ...], without: Callable[[Cell], str] = lambda _: ""
) -> Peer:
    """Return the server in peers/NAME.py."""
    absent = [module for module in needs if importlib.util.find_spec(module) is None]
    missing = f"not installed: {', '.join(absent)} (the bench extra has it)" if absent else ""
    program = [sys.executable, "-m", f"benchmarks.compare.peers.{name.replace('-', '_')}"]
    return Peer(
        name, how, missing, lambda cell, port: [*program, *load_options(cell, port)], without
    )


def echoes_only(cell: Cell) -> str:
    """Return why a server that only sends back has no part in a cell."""
    return "it echoes only" if cell.kind.fans_out or cell.kind is Kind.PAUSE else ""


def node_peer(name: str, how: str) -> Peer:
    """Return the server in peers/NAME.mjs."""
    missing = ""
    if shutil.which("node") is None:
        missing = "node is not there"
    elif not NODE_WS.is_dir():
        missing = "the library ws is not there: make client-node"
    program = ["node", str(PEERS / f"{name.replace('-', '_')}.mjs")]
    return Peer(name, how, missing, lambda cell, port: [*program, *load_options(cell, port)])


def bare_peer(name: str, how: str, mode: str) -> Peer:
    """Return a bare C loop that sends what the credit of the load client permits."""

    def command(cell: Cell, port: int) -> list[str]:
        frames = run_frames(cell) if mode == "run" else 1
        options = ["--credit", "--mode", mode, "--frames", str(frames)]
        return [*bare_command(cell, port, "bare"), *options]

    return Peer(
        name, how, not_compiled("bare"), command, lambda cell: not_bare(cell, mode), stdin=True
    )


def bare_echo(name: str, how: str) -> Peer:
    """Return the bare C loop that sends back what it gets."""
    return Peer(
        name,
        how,
        not_compiled("bare_echo"),
        lambda cell, port: [*bare_command(cell, port, "bare_echo"), "--mode", "echo"],
        lambda cell: "" if cell.kind is Kind.ECHO else "it has no more than an echo",
    )


def bare_upgrade(name: str, how: str) -> Peer:
    """Return the bare C loop that answers handshakes."""
    program = "bare_upgrade"
    command = [str(PROGRAMS / program), "--seconds", str(LONGEST), "--port"]
    return Peer(
        name,
        how,
        not_compiled(program),
        lambda _, port: [*command, str(port)],
        lambda cell: "" if cell.kind is Kind.STORM else "it has no more than handshakes",
    )


def bare_command(cell: Cell, port: int, program: str) -> list[str]:
    """Return what does the handshakes and becomes a program of benchmarks/native."""
    found = [sys.executable, str(BENCHMARKS / "bare.py"), "--program", str(PROGRAMS / program)]
    return [*found, "--seconds", str(LONGEST), "--port", str(port), "--clients", str(cell.clients)]


def not_compiled(program: str) -> str:
    """Return why a program of benchmarks/native is missing."""
    return "" if os.access(PROGRAMS / program, os.X_OK) else "not compiled: make bench-c"


def not_bare(cell: Cell, mode: str) -> str:
    """Return why a bare loop has no part in a cell."""
    if cell.kind not in (Kind.RATE, Kind.LATENCY):
        return "it sends only"
    if mode == "run" and cell.burst == 1:
        return "there are no runs"
    return "it has no topics" if cell.topics > 1 else ""


def run_frames(cell: Cell) -> int:
    """Return the frames of a contiguous run."""
    return min(cell.burst, ring_size(cell.size))


def peers() -> list[Peer]:
    """Return all rows in the order of the table."""
    uv = "uvloop"
    return [
        bare_peer("bare-single", "C, one send(2) for each frame and client", "single"),
        bare_peer("bare-runs", "C, a send(2) for each burst and client", "run"),
        bare_echo("bare-echo", "C, recv(2), unmask, send(2)"),
        bare_upgrade("bare-upgrade", "C, accept(2), recv(2), SHA-1, send(2)"),
        python_peer("fastws", "topics, callbacks, uvloop", (uv,)),
        python_peer("fastws-async", "an async callback, uvloop", (uv,), echoes_only),
        python_peer("fastws-for", "`async for` in a task of each, uvloop", (uv,), echoes_only),
        node_peer("ws-seed", "ws; setInterval, JSON.stringify and send for each client"),
        node_peer("ws-optimised", "ws; serialised once, setImmediate, setNoDelay, bursts corked"),
        python_peer("socketify", "uWebSockets; topics, libuv", ("socketify",)),
        python_peer("picows", "uvloop, aiofastnet; a send each", ("picows", "aiofastnet", uv)),
        python_peer("picows-plain", "uvloop alone; a send each", ("picows", uv)),
        python_peer("websockets", "uvloop; broadcast, no compression", ("websockets", uv)),
        python_peer("aiohttp", "uvloop; send_str to each client", ("aiohttp", uv)),
        python_peer(
            "uvicorn",
            "Starlette, uvloop, websockets-sansio; send_text to each client",
            ("uvicorn", "starlette", "websockets", uv),
        ),
        python_peer(
            "granian",
            "Starlette, embedded in uvloop; send_text to each client",
            ("granian", "starlette", uv),
        ),
        centrifugo(),
    ]


def centrifugo() -> Peer:
    """Return the row that the load client does not understand."""
    why = "its clients speak a protocol of its own, which the load client does not compare"
    return Peer("centrifugo", "Go, built by go install", why, lambda *_: [])
