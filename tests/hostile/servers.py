"""Server processes for the hostile suite: the examples and `fastws serve`, and a look inside.

A `Place` is one running server and how to reach it: over 127.0.0.1, ::1 or a Unix socket.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from surroundings import UNDER
from wire import BINARY, CLOSE_TIMEOUT, PATIENCE, PING, PONG, Answer, Wire

ROOT = Path(__file__).resolve().parent.parent.parent
HOSTS = {"tcp4": "127.0.0.1", "tcp6": "::1"}
LISTENING = re.compile(r"listening on (?:the Unix socket (?P<path>\S+)|ws://\S+:(?P<port>\d+))")
PING_TIME = 20.0  # seconds after which a server asks whether a client is still there


@dataclass
class Place:
    """A server process and its address."""

    process: subprocess.Popen[str]
    loop: str
    transport: str
    address: str | tuple[str, int]
    log_path: Path
    wires: list[Wire] = field(default_factory=list)
    _neighbour: Wire | None = None
    _settled_at: float = 0.0
    _fds_at_rest: int = 0

    def dial(self, receive_buffer: int = 0) -> Wire:
        """A connection, nothing sent yet; closed behind the test.

        Args:
            receive_buffer: bytes that the kernel keeps for this client; 0: as many as it likes. A
                Unix socket has none: there the server's buffer of some 200 KiB decides.
        """
        family = {"tcp4": socket.AF_INET, "tcp6": socket.AF_INET6, "unix": socket.AF_UNIX}
        sock = socket.socket(family[self.transport])
        sock.settimeout(PATIENCE)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            sock.connect(self.address)
        except BaseException:
            sock.close()
            raise
        wire = Wire(sock)
        self.wires.append(wire)
        return wire

    def open(self, receive_buffer: int = 0) -> Wire:
        """A WebSocket."""
        wire = self.dial(receive_buffer)
        wire.handshake()
        return wire

    def ask(self, request: bytes) -> Answer:
        """The answer to one request on a connection of its own, which must end when it says so."""
        wire = self.dial()
        wire.send(request)
        answer = wire.answer()
        if "close" in answer.headers["connection"]:
            wire.ends()
        wire.close()
        return answer

    def settle(self) -> None:
        """Return when the server has seen what was sent so far, and echoes for somebody else.

        It has one thread: when it answers what came last, it has read what came before.
        """
        neighbour, fresh = self._neighbour, time.monotonic() - self._settled_at < PING_TIME
        self._neighbour = None  # unless it is served, so that one failure does not spread
        if neighbour is not None and not fresh:
            neighbour.close()  # by now it may have been pinged in vain
        if neighbour is None or not fresh:
            neighbour = self.open()
            self.wires.remove(neighbour)
            self._fds_at_rest = self._fds_at_rest or self._fds()
        neighbour.message(BINARY, b"still there?")
        opcode, payload = neighbour.frame()
        while opcode == PING:
            neighbour.message(PONG, payload)
            opcode, payload = neighbour.frame()
        assert (opcode, payload) == (BINARY, b"still there?")
        self._neighbour, self._settled_at = neighbour, time.monotonic()

    def in_pieces(self, wire: Wire, data: bytes, *sizes: int) -> None:
        """Send data in pieces of these sizes, the last one again and again, each read alone."""
        at, left = 0, list(sizes)
        while at < len(data):
            size = left.pop(0) if len(left) > 1 else left[0]
            wire.send(data[at : at + size])
            at += size
            if at < len(data):
                self.settle()

    def clean_up(self) -> None:
        """Close what a test has left open."""
        for wire in self.wires:
            wire.close()
        self.wires.clear()

    def leave(self) -> None:
        """Close everything, the neighbour too."""
        self.clean_up()
        if self._neighbour is not None:
            self._neighbour.close()

    # What the process costs.

    def _fds(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def comes_to_rest(self, within: float = CLOSE_TIMEOUT) -> bool:
        """Whether it closes every descriptor of a connection but the neighbour's in that time."""
        deadline = time.monotonic() + within
        while self._neighbour is not None and self._fds() > self._fds_at_rest:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)  # no event tells what another process closes
        return True

    def rss_bytes(self) -> int:
        """Resident memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Time spent on a processor by all threads so far."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def log(self) -> str:
        """What it has written to stderr."""
        return self.log_path.read_text()


def command(program: str, loop: str, transport: str, unix_path: Path, *options: str) -> list[str]:
    """How to start `echo`, `fanout` (the examples) or `serve` (the command)."""
    run = ["-m", "fastws", "serve"] if program == "serve" else [f"examples/{program}.py"]
    where = (
        ["--unix", str(unix_path)]
        if transport == "unix"
        else ["--host", HOSTS[transport], "--port", "0"]
    )
    return [*UNDER, sys.executable, *run, "--loop", loop, *where, *options]


@contextmanager
def server(
    program: str, loop: str, transport: str, directory: Path, *options: str
) -> Iterator[Place]:
    """A server process; it must end cleanly, and must have logged no traceback.

    Args:
        program: `echo`, `fanout` or `serve`.
        loop: "asyncio" or "uvloop".
        transport: "tcp4", "tcp6" or "unix".
        directory: for its socket and its log.
        options: more of the command line.
    """
    log_path = directory / f"{program}-{loop}-{transport}.log"
    kept = {n: v for n, v in os.environ.items() if not n.startswith("FASTWS_")}
    with (
        log_path.open("w") as log,
        subprocess.Popen(
            command(program, loop, transport, log_path.with_suffix(".sock"), *options),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=kept,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = LISTENING.match(line)
            assert found, f"it began with {line!r} and {log_path.read_text()!r}"
            address = found["path"] or (HOSTS[transport], int(found["port"]))
            place = Place(process, loop, transport, address, log_path)
            try:
                yield place
                if process.poll() is None:
                    place.clean_up()
                    assert place.comes_to_rest(), "descriptors are left open"
            finally:
                place.leave()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, place.log()
            assert "Traceback" not in place.log()
        finally:
            if process.poll() is None:
                process.kill()
