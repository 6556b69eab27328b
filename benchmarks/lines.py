"""Lines of a growing file, through `tail -f` and `fastws serve --source -`, to many clients.

A process appends numbered lines to a file, `tail -f` writes them to the pipe, the server on its
core publishes them, and a load client in C (native/lines.c) checks that each client gets each line
whole and in order. The writer, tail and the load client share the other core. Prints one line of
JSON a round and the medians: lines a second to each client, from the first byte to the last one of
the last client.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from serving import CLIENT_CORE, open_websocket, serve

PROGRAM = Path(__file__).resolve().parent.parent / "build/release/lines"
PATIENCE = 120.0  # seconds of a round


def on_client_core() -> None:
    """Pin a child."""
    os.sched_setaffinity(0, {CLIENT_CORE})


def measure(arguments: argparse.Namespace, file: Path) -> dict[str, Any]:
    """Take one round."""
    file.write_bytes(b"")
    numbers = [str(arguments.lines), str(arguments.size)]
    tail = subprocess.Popen(
        ["tail", "-n", "+1", "-f", str(file)], stdout=subprocess.PIPE, preexec_fn=on_client_core
    )
    options = ["--source", "-", "--last", "0", "--ping-interval", "0", *arguments.serve.split()]
    try:
        with serve(*options, stdin=tail.stdout) as server:
            opened = [open_websocket(server.port) for _ in range(arguments.clients)]
            assert not any(rest for _, rest in opened)
            sockets = [sock for sock, _ in opened]
            fds = [each.fileno() for each in sockets]
            reading = subprocess.Popen(
                [arguments.program, "read", *numbers, str(server.pid), *map(str, fds)],
                stdout=subprocess.PIPE,
                pass_fds=fds,
                preexec_fn=on_client_core,
            )
            subprocess.run(
                [arguments.program, "write", str(file), *numbers, str(arguments.rate)],
                check=True,
                stdout=subprocess.DEVNULL,
                preexec_fn=on_client_core,
            )
            output, _ = reading.communicate(timeout=PATIENCE)
            assert reading.returncode == 0, "a client did not get what was written"
            account = server.ask("GET", "/stats")["server"]
            for sock in sockets:
                sock.close()
    finally:
        tail.kill()
        tail.wait()
    assert account["delivered"] == arguments.lines * arguments.clients
    assert account["dropped"] == 0
    found: dict[str, Any] = json.loads(output)
    return found | {"lines_per_s": round(arguments.lines / found["seconds"])}


def main() -> None:
    """Take the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=100, help="bytes of a line, newline included")
    parser.add_argument("--rate", type=int, default=0, help="lines a second; 0: full speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--program", default=str(PROGRAM), help="native/lines.c, compiled")
    parser.add_argument("--serve", default="", help="further options of fastws serve")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = [measure(arguments, Path(folder) / "app.log") for _ in range(arguments.rounds)]
    for each in rounds:
        print(json.dumps(each))
    rates = [each["lines_per_s"] for each in rounds]
    print(
        f"{arguments.clients} clients, {arguments.lines:,} lines of {arguments.size} bytes: "
        f"{statistics.median(rates):,.0f} lines/s to each [{min(rates):,}-{max(rates):,}]"
    )


if __name__ == "__main__":
    main()
