"""The rows: every server, how it is started in its best practice, and why one may be missing."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.cells import Cell
from benchmarks.compare.messages import ring_size

BENCHMARKS = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
BARE = BENCHMARKS.parent / "build/release/bare"
NODE_WS = BENCHMARKS / "clients/node/node_modules/ws"
RUN_FRAMES = 512  # of a contiguous run of the bare loop
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
    command += ["--burst", str(cell.burst)]
    return [*command, "--echo"] if cell.echo else command


def python_peer(name: str, how: str, needs: tuple[str, ...]) -> Peer:
    """Return the server in peers/NAME.py."""
    absent = [module for module in needs if importlib.util.find_spec(module) is None]
    missing = f"not installed: {', '.join(absent)} (the bench extra has it)" if absent else ""
    program = [sys.executable, "-m", f"benchmarks.compare.peers.{name.replace('-', '_')}"]
    return Peer(name, how, missing, lambda cell, port: [*program, *load_options(cell, port)])


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
    """Return a bare C loop: it obeys its sockets, not the credit of the load client."""

    def command(cell: Cell, port: int) -> list[str]:
        found = [sys.executable, str(BENCHMARKS / "bare.py"), "--port", str(port), "--stdin"]
        found += ["--clients", str(cell.clients), "--seconds", str(LONGEST), "--mode", mode]
        return [*found, "--frames", str(run_frames(cell))]

    missing = "" if os.access(BARE, os.X_OK) else "not compiled: make bench-c"
    return Peer(
        name,
        how,
        missing,
        command,
        lambda cell: "it sends, and does not listen" if cell.echo else "",
        stdin=True,
    )


def run_frames(cell: Cell) -> int:
    """Return the frames of a contiguous run: those of a burst, or many where there is none."""
    most = ring_size(cell.size)
    return min(cell.burst if cell.burst > 1 else RUN_FRAMES, most)


def peers() -> list[Peer]:
    """Return all rows in the order of the table."""
    uv = "uvloop"
    found = [
        bare_peer("bare-single", "C, one send(2) for each frame and client", "single"),
        bare_peer("bare-runs", f"C, runs of {RUN_FRAMES} frames, or of a burst, a send(2)", "run"),
        python_peer("fastws", "one topic under uvloop", (uv,)),
        node_peer("ws-seed", "ws; setInterval, JSON.stringify and send for each client"),
        node_peer("ws-optimised", "ws; serialised once, setImmediate, setNoDelay, bursts corked"),
        python_peer("socketify", "uWebSockets; publish from a timer of libuv", ("socketify",)),
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
    ]
    return [*found, *not_yet()]


def not_yet() -> list[Peer]:
    """Return the rows that nothing starts yet."""
    why = "no server for it in benchmarks/compare/peers yet"
    rows = {
        "bare-echo": "C, an echo",
        "centrifugo": "Go, built by go install",
    }
    return [Peer(name, how, why, lambda *_: []) for name, how in rows.items()]
