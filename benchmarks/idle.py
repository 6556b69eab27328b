"""What an idle connection costs in resident memory of the server: `python benchmarks/idle.py`.

Starts `fastws serve --rate 0`, opens connections that say nothing after their handshake, and
prints the growth of VmRSS for each. What the kernel holds for a socket is not in it.
"""

import argparse
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from fastws._frame import Connection, Engine
from fastws.client_handshake import build_request, new_key
from fastws.server import file_limit


def resident_kib(pid: int) -> int:
    """Return VmRSS of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1])


def connections(port: int) -> int:
    """Return how many WebSockets the server counts."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("GET", "/stats")
    found = re.search(rb'"connections":(\d+)', client.getresponse().read())
    client.close()
    assert found is not None
    return int(found[1])


def connect(engine: Engine, port: int, count: int) -> None:
    """Open that many more and wait until the server has them."""
    request = build_request("127.0.0.1", port, "/", new_key())
    for i in range(count):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        engine.attach(sock.detach(), request)
        if i % 64 == 63:
            engine.turn(0)
    wanted = len(engine.connections)
    deadline = time.monotonic() + 30
    while connections(port) < wanted and time.monotonic() < deadline:
        engine.turn(0.05)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    count = parser.parse_args().connections
    file_limit()
    server = subprocess.Popen(
        [sys.executable, "-m", "fastws", "serve", "--rate", "0", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        found = re.search(r":(\d+) ", server.stdout.readline())
        assert found is not None
        port = int(found[1])
        engine = Engine(max_connections=count + 100)

        def head(connection: Connection, _head: bytes) -> None:
            connection.upgrade(b"")

        engine.on_head = head
        connect(engine, port, 100)  # what the first ones cost once
        before = resident_kib(server.pid)
        connect(engine, port, count)
        each = (resident_kib(server.pid) - before) * 1024 / count
        print(f"{count} idle connections: {each:.0f} bytes of resident memory each")
        engine.close()
    finally:
        server.terminate()
        server.wait(10)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
