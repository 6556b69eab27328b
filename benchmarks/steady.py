"""A client that is not ours takes a fixed rate for a minute: is everything counted, and the same?

    make client-rust && python benchmarks/steady.py [--rate 1000000] [--seconds 60]
    python benchmarks/steady.py --python OLD/bin/python     # the server of another installation

Runs `fastws serve` on one core and the Rust client on the other, stops the ticks, and prints what
was published, missed, delivered (handed to the kernel), acknowledged (by the client's kernel) and
counted (by the client), the slope error against the clock, and the lag of the pacing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from serving import CLIENT_CORE, serve

CLIENT = Path(__file__).resolve().parent / "clients/rust/target/release/tick-client"


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the server")
    arguments = parser.parse_args()
    lag = ("--max-lag", "0")
    with serve("--rate", str(arguments.rate), *lag, python=arguments.python) as server:
        client = subprocess.Popen(
            [
                *(CLIENT, "--url", f"ws://127.0.0.1:{server.port}", "--client-id", "tauri-rust"),
                *("--duration", str(arguments.seconds + 5), "--json"),
            ],
            stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, {CLIENT_CORE}),
        )
        time.sleep(arguments.seconds)
        cpu = server.cpu_ns()
        running = server.ask("GET", "/stats")["server"]["pacing"]
        server.ask("POST", "/config", {"rate": 0})
        time.sleep(2.5)  # the client reports once a second
        stats = server.ask("GET", "/stats")
        client.wait()
    account = stats["server"]
    result = {
        "rate": arguments.rate,
        "seconds": arguments.seconds,
        "missed": account["pacing"]["missed"],
        "slopePpm": running["slopePpm"],
        "lagUs": running["lagUs"],
        "published": account["published"],
        "dropped": account["dropped"],
        "pending": account["pending"],
        "delivered": account["delivered"],
        "acknowledged": account["acknowledged"],
        "cpuNs": cpu / account["delivered"],
        "counted": stats["clients"]["tauri-rust"]["totalMessages"],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
