"""What an idle connection costs in resident memory of the server: `python benchmarks/idle.py`.

Starts `fastws serve --rate 0`, opens connections that say nothing after their handshake, and
prints the growth of VmRSS for each. What the kernel holds for a socket is not in it. With
`--seconds 120` it prints for each 10 s what the server's thread ran, and the round trips of another
client's pings meanwhile: what turns of the server it had to wait for.
"""

import argparse
import socket
import time
from pathlib import Path

from serving import Served, open_websocket, serve

from fastws import Connection, Engine
from fastws.client.handshake import build_request, new_key
from fastws.server.open_files import file_limit


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


def run_ms(server: Served) -> float:
    """Return the processor time of the server's main thread."""
    return int(Path(f"/proc/{server.pid}/schedstat").read_text().split()[0]) / 1e6


def round_trip_ms(sock: socket.socket) -> float:
    """Ping, and wait for the pong; pings of the server in between are passed over."""
    began = time.perf_counter()
    sock.sendall(b"\x89\x80\0\0\0\0")
    while b"\x8a" not in sock.recv(100):
        pass
    return (time.perf_counter() - began) * 1e3


def watch(engine: Engine, server: Served, seconds: int) -> None:
    """Print what the connections cost as they grow old."""
    sock, _ = open_websocket(server.port)
    for age in range(0, seconds, 10):
        ran, trips, end = run_ms(server), [], time.monotonic() + 10
        while time.monotonic() < end:
            engine.turn(0.005)  # answers the server's pings
            trips.append(round_trip_ms(sock))
        trips.sort()
        ran = (run_ms(server) - ran) / 10
        median, high, most = trips[len(trips) // 2], trips[len(trips) * 99 // 100], trips[-1]
        print(
            f"{age:4}-{age + 10} s: {ran:.1f} ms of processor time a second; a ping takes "
            f"{median:.2f} ms, p99 {high:.2f}, at most {most:.2f}"
        )
    sock.close()


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--seconds", type=int, default=0)
    options = parser.parse_args()
    count = options.connections
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
        if options.seconds:
            watch(engine, server, options.seconds)
        engine.close()


if __name__ == "__main__":
    main()
