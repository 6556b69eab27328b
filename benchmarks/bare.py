"""What the kernel allows: WebSocket handshakes in Python, then a bare C loop on the same sockets.

    python benchmarks/bare.py --clients 10 --seconds 12 &
    fastws bench ws://127.0.0.1:8090 --clients 10

Accepts N connections, answers each upgrade, then becomes the program of benchmarks/native/bare.c
(built by `make bench-c`), which inherits the sockets and sends them 4096 ready-made ticks over and
over. It ends after --seconds, or when all clients have closed, with one line of JSON on stdout.
The ticks' time is that of the start, so the latency that `fastws bench` shows means nothing here.
"""

import argparse
import os
import socket
import sys
import time
from pathlib import Path

from fastws._ticks import Ticks
from fastws.errors import HandshakeError
from fastws.http.head import parse_request
from fastws.http.response import encode_response, refusal
from fastws.http.upgrade import check_upgrade, switching_protocols
from fastws.server.open_files import file_limit

PROGRAM = Path(__file__).resolve().parent.parent / "build/release/bare"
TICKS = 4096
MAX_HEAD = 16 * 1024  # bytes
PATIENCE = 30.0  # seconds to the next connection
HEAD_TIMEOUT = 5.0  # seconds


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090, help="0: any free one (default: 8090)")
    parser.add_argument("--clients", type=int, default=1, help="connections to wait for")
    parser.add_argument("--seconds", type=float, default=10.0, help="longest time to send")
    parser.add_argument("--mode", choices=["single", "run", "echo"], default="run")
    parser.add_argument("--frames", type=int, default=512, help="of a run (default: 512)")
    parser.add_argument(
        "--lowat", type=int, default=0, help="TCP_NOTSENT_LOWAT, bytes (default: 0)"
    )
    parser.add_argument(
        "--credit",
        action="store_true",
        help="send the frames on stdin, a file, as far as `go N` of a client permits",
    )
    parser.add_argument(
        "--program", type=Path, default=PROGRAM, help="compiled bare.c, or bare_echo.c"
    )
    return parser.parse_args()


def main() -> None:
    """Accept the clients, then become the C program."""
    options = arguments()
    if not os.access(options.program, os.X_OK):
        sys.exit(f"bare: {options.program} is not there: make bench-c builds it")
    file_limit()
    with socket.create_server((options.host, options.port), backlog=1024) as listener:
        host, port = listener.getsockname()[:2]
        print(f"listening on ws://{host}:{port}", file=sys.stderr, flush=True)
        listener.settimeout(PATIENCE)
        try:
            clients = accept(listener, options.clients)
        except TimeoutError:
            sys.exit(f"bare: no further client came within {PATIENCE:.0f} s")
    if not options.credit:
        os.dup2(ready_made_ticks(), sys.stdin.fileno())
    for client in clients:
        os.set_inheritable(client, True)
    command = [str(options.program), *c_options(options), "--seconds", str(options.seconds)]
    os.execv(command[0], [*command, *map(str, clients)])


def c_options(options: argparse.Namespace) -> list[str]:
    """Return what the C program is told of the mode; the one that echoes has no options."""
    if options.mode == "echo":
        return []
    found = ["--mode", options.mode, "--frames", str(options.frames)]
    found += ["--lowat", str(options.lowat)]
    return [*found, "--credit"] if options.credit else found


def ready_made_ticks() -> int:
    """Return a file with the frames of 4096 ticks."""
    frames = os.memfd_create("frames")
    os.write(frames, Ticks(seed=1).frames(TICKS, time.time_ns()))
    os.lseek(frames, 0, os.SEEK_SET)
    return frames


def accept(listener: socket.socket, n: int) -> list[int]:
    """Accept until n connections are WebSockets; their descriptors, non-blocking."""
    clients: list[int] = []
    while len(clients) < n:
        connection, _ = listener.accept()
        if not upgraded(connection):
            connection.close()
            continue
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        clients.append(connection.detach())
    return clients


def upgraded(connection: socket.socket) -> bool:
    """Answer the request; whether it was an upgrade."""
    connection.settimeout(HEAD_TIMEOUT)
    head = b""
    try:
        while not head.endswith(b"\r\n\r\n") and len(head) <= MAX_HEAD:
            received = connection.recv(MAX_HEAD)
            if not received:
                return False
            head += received
        connection.sendall(switching_protocols(check_upgrade(parse_request(head))))
    except HandshakeError as error:
        connection.sendall(encode_response(refusal(error), keep_alive=False))
        return False
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
