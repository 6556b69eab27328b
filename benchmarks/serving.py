"""What the measurements share: `fastws serve` on one core, its HTTP API, a client, their ends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fastws.client.handshake import build_request, new_key

SERVER_CORE, CLIENT_CORE = 0, 1
STOP_TIMEOUT = 15.0  # seconds
# The installation of an interpreter, not the tree of the folder in which this runs (-P).
MODULE = ("-P", "-m", "fastws")
FASTWS = (sys.executable, *MODULE)


class Served:
    """A running server."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.pid = process.pid
        self.port = port

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return the answer of the HTTP API."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            client.request(method, path, None if body is None else json.dumps(body))
            return json.loads(client.getresponse().read())
        finally:
            client.close()

    def cpu_ns(self) -> int:
        """Return the processor time of its main thread."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0])

    def resident_mib(self) -> float:
        """Return VmRSS."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024


@contextmanager
def serve(
    *options: str, stdin: IO[bytes] | None = None, python: str | Path = sys.executable
) -> Iterator[Served]:
    """Run `fastws serve` with these options, pinned to its core, on a free port.

    Without the rates of a client, which would bound what is measured. `python` is the interpreter,
    which may have another fastws.
    """
    free = ("--port", "0", "--message-rate", "0", "--byte-rate", "0")
    with started([str(python), *MODULE, "serve", *free, *options], stdin=stdin) as server:
        yield server


@contextmanager
def started(command: Sequence[str], *, stdin: IO[bytes] | None = None) -> Iterator[Served]:
    """Run a server that says its address in its first line, pinned to its core."""
    process = subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    )
    try:
        assert process.stdout is not None
        found = re.search(r"ws://127\.0\.0\.1:(\d+)", process.stdout.readline())
        assert found is not None, "the server did not start"
        # Its console rows are read by nobody, and are few enough for the pipe.
        yield Served(process, int(found[1]))
    finally:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    """Interrupt a process, and wait for it; one that stays for 15 s is killed."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def open_websocket(port: int) -> tuple[socket.socket, bytes]:
    """Connect and shake hands; return the socket and what came behind the head of the answer."""
    connected = socket.create_connection(("127.0.0.1", port), timeout=10)
    connected.sendall(build_request("127.0.0.1", port, "/", new_key()))
    received = b""
    while b"\r\n\r\n" not in received:
        part = connected.recv(4096)
        assert part, "the server closed the connection instead of answering"
        received += part
    head, _, rest = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return connected, rest
