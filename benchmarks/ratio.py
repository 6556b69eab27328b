"""How near fastws comes to what the kernel allows, in interleaved rounds.

    make bench-c && python benchmarks/ratio.py
    python benchmarks/ratio.py --clients 1,100 --rounds 7 --duration 5
    python benchmarks/ratio.py --spin --clients 1,10
    python benchmarks/ratio.py --single --clients 100,1000
    python benchmarks/ratio.py --against OLD/bin/python --against-tree OLD --rounds 11

Each round measures, for each number of clients, `fastws serve --rate max` and the bare C loop
(benchmarks/bare.py, contiguous runs of 512 frames) twice, as it is and with the
TCP_NOTSENT_LOWAT of fastws (--lowat), one after the other, in turns first, with `fastws bench`;
with --single all send one frame per call (benchmarks/fanout.py). --spin has a client that never
sleeps: else a send to a client that waits pays for waking it. --against measures the server of
another installation in the same rounds, instead of the bare loops, and the ratio of the two. The
server has one core and the client another. Prints the medians and the median, least and largest
ratio of fastws to the others within a round, as a table and then as one line of JSON.
"""

import argparse
import json
import os
import select
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

BARE = Path(__file__).resolve().parent / "bare.py"
FANOUT = Path(__file__).resolve().parent / "fanout.py"
START_TIMEOUT = 10.0  # seconds
STOP_TIMEOUT = 15.0
SLACK = 60.0  # seconds that a measurement may take beyond its own time, warm-up included
MODULE = ["-P", "-m", "fastws"]  # of the interpreter's installation, not of the folder it runs in
BARE_LOOPS = ("bare", "bareLowat")
Rates = dict[str, float]  # frames/s of each contender


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    clients: list[int]
    rounds: int
    duration: float
    warmup: float
    frames: int
    lowat: int
    single: bool
    spin: bool
    server_core: int
    client_core: int
    program: Path | None
    against: Path | None
    against_tree: Path | None

    @property
    def others(self) -> tuple[str, ...]:
        """What fastws is compared with."""
        return BARE_LOOPS if self.against is None else ("against",)

    @property
    def contenders(self) -> tuple[str, ...]:
        """All that is measured."""
        return ("fastws", *self.others)


def arguments() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", default="1,10,100,1000", help="numbers of clients")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=float, default=3.0, help="seconds a measurement")
    parser.add_argument("--warmup", type=float, default=1.0, help="least seconds before it")
    parser.add_argument("--frames", type=int, default=512, help="of a run of the bare loop")
    parser.add_argument("--lowat", type=int, default=16_384, help="of the second bare loop, bytes")
    parser.add_argument("--single", action="store_true", help="one frame per call and client")
    parser.add_argument("--spin", action="store_true", help="the client never sleeps")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--program", type=Path, help="the compiled bare.c, if elsewhere")
    parser.add_argument("--against", type=Path, help="interpreter of another installation")
    parser.add_argument("--against-tree", type=Path, help="its tree, for --single")
    found = vars(parser.parse_args())
    found["clients"] = [int(text) for text in found["clients"].split(",")]
    return Options(**found)


def main() -> None:
    """Measure, print."""
    options = arguments()
    if shutil.which("taskset") is None:
        sys.exit("ratio: taskset is missing (util-linux)")
    if not {options.server_core, options.client_core} <= os.sched_getaffinity(0):
        sys.exit("ratio: --server-core and --client-core must be cores of this machine")
    measured: dict[int, list[Rates]] = {clients: [] for clients in options.clients}
    for number in range(options.rounds):
        for clients in options.clients:
            rates = one_round(options, clients, number)
            measured[clients].append(rates)
            print(
                f"round {number + 1}/{options.rounds}, {clients} clients: "
                + ", ".join(f"{name} {rates[name]:,.0f}/s" for name in options.contenders),
                file=sys.stderr,
                flush=True,
            )
    report(options, [summary(options, *found) for found in measured.items()])


def one_round(options: Options, clients: int, number: int) -> Rates:
    """Measure every contender, in each round another one first."""
    names = options.contenders
    first = number % len(names)
    return {name: measure(options, name, clients) for name in (*names[first:], *names[:first])}


def measure(options: Options, name: str, clients: int) -> float:
    """Return the frames/s over all clients."""
    if name == "fastws":
        return measure_fastws(options, clients, sys.executable, FANOUT)
    if name == "against":
        tree = options.against_tree or Path()
        return measure_fastws(options, clients, str(options.against), tree / "benchmarks/fanout.py")
    return measure_bare(options, clients, options.lowat if name == "bareLowat" else 0)


def measure_fastws(options: Options, clients: int, python: str, fanout: Path) -> float:
    """Measure `fastws serve --rate max`, or fanout.py; frames/s over all clients."""
    port = free_port()
    command = [python, *MODULE, "serve", "--rate", "max", "--quiet", "--port", str(port)]
    if options.single:
        command = [python, str(fanout), "--port", str(port), "--clients", str(clients)]
        command += ["--seconds", str(options.duration + options.warmup + SLACK)]
    with running(pinned(options.server_core, command)) as server:
        wait_until_it_listens(server, port)
        return bench(options, f"ws://127.0.0.1:{port}", clients)


def measure_bare(options: Options, clients: int, lowat: int) -> float:
    """Measure the bare loop; frames/s over all clients."""
    command = [sys.executable, str(BARE), "--port", "0"]
    command += ["--mode", "single" if options.single else "run"]
    command += ["--clients", str(clients), "--frames", str(options.frames)]
    command += ["--lowat", str(lowat)]
    command += ["--seconds", str(options.duration + options.warmup + SLACK)]
    if options.program is not None:
        command += ["--program", str(options.program)]
    with running(pinned(options.server_core, command), stderr=subprocess.PIPE) as server:
        rate = bench(options, its_address(server), clients)
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_TIMEOUT)
        return rate


def bench(options: Options, url: str, clients: int) -> float:
    """Run `fastws bench`; frames/s over all clients."""
    command = [sys.executable, *MODULE, "bench", url, "--json", "-", "--clients", str(clients)]
    command += ["--duration", str(options.duration), "--warmup", str(options.warmup)]
    command += ["--spin"] if options.spin else []
    done = subprocess.run(
        pinned(options.client_core, command),
        capture_output=True,
        text=True,
        timeout=options.duration + options.warmup + SLACK,
    )
    if done.returncode != 0:
        sys.exit(f"ratio: fastws bench {url} left with {done.returncode}\n{done.stderr}")
    return float(json.loads(done.stdout)["results"][0]["clientMsgPerSec"])


def pinned(core: int, command: list[str]) -> list[str]:
    """Return the command bound to a core."""
    return ["taskset", "-c", str(core), *command]


@contextmanager
def running(command: list[str], stderr: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run a server; it is ended, and waited for, behind the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=stderr, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stderr is not None:
            process.stderr.close()


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until_it_listens(server: subprocess.Popen[str], port: int) -> None:
    """Wait until the server accepts connections."""
    until = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < until:
        with suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=START_TIMEOUT).close()
            return
        time.sleep(0.02)
    sys.exit("ratio: fastws serve did not start")


def its_address(server: subprocess.Popen[str]) -> str:
    """Return the URL that bare.py says it listens on."""
    assert server.stderr is not None
    if select.select([server.stderr], [], [], START_TIMEOUT)[0]:
        said = server.stderr.readline().strip()
        if said.startswith("listening on "):
            return said.removeprefix("listening on ")
        sys.exit(f"ratio: {said}")
    sys.exit("ratio: bare.py did not start")


def ratio_name(other: str) -> str:
    """Return under which name the ratio to it is reported."""
    return "ratioLowat" if other == "bareLowat" else "ratio"


def summary(options: Options, clients: int, rounds: list[Rates]) -> dict[str, float]:
    """Return the medians of one number of clients, and the spread of the ratios."""
    found: dict[str, float] = {"clients": clients, "rounds": len(rounds)}
    for name in options.contenders:
        found[name] = statistics.median(rates[name] for rates in rounds)
    for other in options.others:
        ratio = ratio_name(other)
        ratios = [rates["fastws"] / rates[other] for rates in rounds]
        found[ratio] = round(statistics.median(ratios), 3)
        found[f"{ratio}Min"] = round(min(ratios), 3)
        found[f"{ratio}Max"] = round(max(ratios), 3)
    return found


def report(options: Options, rows: list[dict[str, float]]) -> None:
    """Print the table, then the same as JSON."""
    heads = "".join(
        f"  {name + ' frames/s':>18}  {'ratio [min-max]':<19}" for name in options.others
    )
    print(f"{'clients':>7}  {'fastws frames/s':>15}{heads}")
    for row in rows:
        others = "".join(
            f"  {row[name]:>18,.0f}  {spread(row, ratio_name(name)):<19}" for name in options.others
        )
        print(f"{row['clients']:>7}  {row['fastws']:>15,.0f}{others}")
    print(json.dumps(rows))


def spread(row: dict[str, float], ratio: str) -> str:
    """Return the ratio with its least and largest value."""
    return f"{row[ratio]:.3f} [{row[ratio + 'Min']:.3f}-{row[ratio + 'Max']:.3f}]"


if __name__ == "__main__":
    main()
