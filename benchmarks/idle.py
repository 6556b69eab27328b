"""What an idle connection costs in resident memory of the server: `python benchmarks/idle.py`.

Starts `fastws serve --rate 0`, opens connections that say nothing after their handshake, and
prints the growth of VmRSS for each. What the kernel holds for a socket is not in it.
"""

import argparse
import socket
import time

from serving import Served, serve

from fastws import Connection, Engine
from fastws.client_handshake import build_request, new_key
from fastws.open_files import file_limit


def connect(engine: Engine, server: Served, count: int) -> None:
    """Open that many more and wait until the server has them."""
    request = build_request("127.0.0.1", server.port, "/", new_key())
    for i in range(count):
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.setblocking(False)
        engine.attach(sock.detach(), request)
        if i % 64 == 63:
            engine.turn(0)
    wanted = len(engine.connections)
    deadline = time.monotonic() + 30
    while server.ask("GET", "/stats")["server"]["connections"] < wanted:
        assert time.monotonic() < deadline, "the server has not got them all"
        engine.turn(0.05)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    count = parser.parse_args().connections
    file_limit()
    engine = Engine(max_connections=count + 100)

    def head(connection: Connection, _head: bytes) -> None:
        engine.upgrade(connection, b"")

    engine.on_head = head
    with serve("--rate", "0") as server:
        connect(engine, server, 100)  # what the first ones cost once
        before = server.resident_mib()
        connect(engine, server, count)
        each = (server.resident_mib() - before) * (1 << 20) / count
        print(f"{count} idle connections: {each:.0f} bytes of resident memory each")
        engine.close()


if __name__ == "__main__":
    main()
