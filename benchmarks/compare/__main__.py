"""fastws beside other WebSocket servers.

    pip install -e '.[bench]' && make bench-c client-node
    python -m benchmarks.compare
    python -m benchmarks.compare --quick --only fastws,picows --cells base,echo-1

Starts each server in its best practice on one core, and one load client on another. In each round
all rows are measured in each cell in random order. Prints the medians, and the spread of the ratio
to fastws within a round, as Markdown; --out writes it with JSON and charts into a folder. All of it
takes about half an hour on two cores, --quick less than 10.
"""

import argparse
import os
import random
import resource
import shutil
import sys
from pathlib import Path

from benchmarks.compare.cells import CELLS, QUICK, chosen, picked
from benchmarks.compare.charts import charts
from benchmarks.compare.report import as_json, entries, json_text, markdown
from benchmarks.compare.rows import REFERENCE, peers
from benchmarks.compare.running import Plan, cores_are_there, run
from fastws.bench.files import write_file

LEAST_ROUNDS = 5
LONGEST = 600  # seconds, so that servers, which end by themselves after an hour, outlive it


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--quick", action="store_true", help="short rounds of some cells")
    parser.add_argument("--only", help="rows, with commas; fastws is always among them")
    parser.add_argument("--cells", help=f"of {', '.join(cell.name for cell in CELLS)}")
    parser.add_argument("--rounds", type=int, help=f"default: {LEAST_ROUNDS}")
    parser.add_argument("--seconds", type=float, help="of a measurement (default: 0.5, quick 0.3)")
    parser.add_argument("--warmup", type=float, help="before it (default: 0.15, quick 0.1)")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-core", type=int, default=1)
    parser.add_argument("--seed", type=int, help="of the random order (default: another each time)")
    parser.add_argument("--lock", type=Path, help="a file to flock for each cell of a round")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    parser.add_argument("--out", type=Path, help="a folder for compare.md, its JSON and its charts")
    return parser.parse_args()


def plan_of(found: argparse.Namespace) -> Plan:
    """Return what the command line asks for.

    Raises:
        ValueError: a row or a cell is unknown, a measurement too long, or rounds too few.
    """
    rows = peers()
    only = picked(found.only, [peer.name for peer in rows])
    seconds = found.seconds or (0.3 if found.quick else 0.5)
    warmup = found.warmup or (0.1 if found.quick else 0.15)
    if not 0 < seconds + warmup <= LONGEST:
        raise ValueError(f"a measurement takes {LONGEST} s at most")
    rounds = found.rounds or LEAST_ROUNDS
    if rounds < LEAST_ROUNDS and not found.quick:
        raise ValueError(f"fewer than {LEAST_ROUNDS} rounds are for --quick")
    return Plan(
        peers=[peer for peer in rows if peer.name in {*only, REFERENCE}],
        cells=chosen(found.cells or (QUICK if found.quick else None)),
        rounds=rounds,
        warmup=warmup,
        seconds=seconds,
        server_core=found.server_core,
        client_core=found.client_core,
        lock=found.lock,
        seed=random.randrange(1 << 32) if found.seed is None else found.seed,
    )


def main() -> None:
    """Measure and report."""
    found = arguments()
    try:
        plan = plan_of(found)
    except ValueError as error:
        sys.exit(f"compare: {error}")
    if shutil.which("taskset") is None:
        sys.exit("compare: taskset is missing (util-linux)")
    if not cores_are_there(plan.server_core, plan.client_core):
        sys.exit("compare: --server-core and --client-core must be cores of this machine")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {plan.client_core})
    samples = run(plan)
    rows = entries(plan, samples)
    text = markdown(plan, rows)
    print(text)
    report = json_text(as_json(plan, samples, rows))
    if found.json is not None:
        write_file(found.json, report.encode())
    if found.out is not None:
        found.out.mkdir(parents=True, exist_ok=True)
        write_file(found.out / "compare.md", text.encode())
        write_file(found.out / "compare.json", report.encode())
        print(charts(plan, rows, found.out), file=sys.stderr)
    if any(sample.failure for sample in samples):
        sys.exit(1)


if __name__ == "__main__":
    main()
