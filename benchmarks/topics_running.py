"""What the sections of `topics.py` share: contenders, their processes, rounds in turns, tables."""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = Path(__file__).resolve().parent / "topics_server.py"
STOP_TIMEOUT = 15.0  # seconds
MIB = 1 << 20
Figures = dict[str, float | None]  # None: not known of this contender
Samples = dict[tuple[str, str], list[Figures]]  # of a case and a contender, one for each round


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that is measured."""

    name: str
    python: str
    kind: str = "fastws"


@dataclass(frozen=True, slots=True)
class Options:
    """The command line; topics.py says what each is."""

    python: list[Contender]
    peers: str
    rounds: int
    quick: bool
    server_core: int
    client_core: int
    loop: str | None
    clients: int
    topics: list[int]
    seconds: float
    check: bool
    named: int
    cycles: int
    settle: float
    memory_rounds: int
    max_growth: int
    busy: int
    published: int
    users: int
    topics_per_user: int
    bursts: int
    idle: int
    asked: int
    pace_clients: list[int]
    pace_rate: int
    pace_seconds: float
    outside: int
    outside_rate: int


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs."""

    pid: int
    port: int

    def cpu_ns(self) -> int:
        """Return the processor time of its main thread."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0])


@contextmanager
def running(contender: Contender, core: int, *options: str) -> Iterator[Running]:
    """Run the server of a contender on a core; it is ended, and waited for, behind the block."""
    process = subprocess.Popen(
        [contender.python, "-u", str(SERVER), contender.kind, *options],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if not said.isdigit():
            sys.exit(f"topics: {contender.name} did not start")
        yield Running(process.pid, int(said))
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def contenders_of(text: str) -> list[Contender]:
    """Read `PATH[,PATH]` or `NAME=PATH`; without a name it is that of the environment."""
    found = []
    for each in text.split(","):
        name, _, path = each.rpartition("=")
        found.append(Contender(name or Path(path).absolute().parent.parent.name, path))
    if len({each.name for each in found}) < len(found):
        sys.exit("topics: two interpreters have one name; give them others: --python old=PATH,…")
    return found


def has_module(python: str, name: str) -> bool:
    """Whether an interpreter can import a module."""
    return subprocess.run([python, "-c", f"import {name}"], capture_output=True).returncode == 0


def in_turns(
    section: str,
    rounds: int,
    cases: Sequence[str],
    contenders: Sequence[Contender],
    measure: Callable[[Contender, str], Figures],
) -> Samples:
    """Measure every contender in every case and round, in each round another contender first."""
    samples: Samples = {}
    for number in range(rounds):
        first = number % len(contenders)
        for case in cases:
            for contender in (*contenders[first:], *contenders[:first]):
                figures = measure(contender, case)
                samples.setdefault((case, contender.name), []).append(figures)
                print(
                    f"{section} round {number + 1}/{rounds}, {case}, {contender.name}: "
                    + ", ".join(f"{name} {number_of(value)}" for name, value in figures.items()),
                    file=sys.stderr,
                    flush=True,
                )
    return samples


def summary(section: str, samples: Samples, first: str) -> list[dict[str, Any]]:
    """Return a row for each case and contender: the median, least and largest of every figure.

    Args:
        section: its name.
        samples: what `in_turns` returned.
        first: the contender that the others are compared with, within a round.
    """
    rows = []
    for (case, name), rounds in samples.items():
        row: dict[str, Any] = {"section": section, "case": case, "contender": name}
        for figure in rounds[0]:
            row[figure] = spread([each.get(figure) for each in rounds])
            against = samples.get((case, first))
            if name != first and against is not None:
                pairs = [
                    (a.get(figure), b.get(figure)) for a, b in zip(rounds, against, strict=True)
                ]
                row[f"{figure}, ratio"] = spread([a / b if a and b else None for a, b in pairs])
        rows.append(row)
    return rows


def spread(values: Sequence[float | None]) -> dict[str, float] | None:
    """Return the median, least and largest of what is known."""
    known = [each for each in values if each is not None]
    if not known:
        return None
    found = {"median": statistics.median(known), "min": min(known), "max": max(known)}
    return {name: float(f"{value:.6g}") for name, value in found.items()}


def report(rows: list[dict[str, Any]]) -> None:
    """Print the rows of one section."""
    for row in rows:
        print(f"{row['section']}  {row['case']}  {row['contender']}")
        for figure, value in row.items():
            if isinstance(value, dict) and not figure.endswith(", ratio"):
                ratio = row.get(f"{figure}, ratio")
                print(f"    {figure:<34} {shown(value)}" + (f"  x {shown(ratio)}" if ratio else ""))


def shown(value: dict[str, float]) -> str:
    """Return the median with the least and the largest."""
    median, least, most = (number_of(value[key]) for key in ("median", "min", "max"))
    return f"{median} [{least}-{most}]"


def number_of(value: float | None) -> str:
    """Return a number to read."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def as_json(rows: list[dict[str, Any]]) -> str:
    """Return the rows as one line."""
    return json.dumps(rows)
