"""The table and the chart of several ceilings, from what `fastws ceiling --json` wrote.

    python benchmarks/ceilings.py docs/ceiling/*.json --page docs/ceiling.md
    python benchmarks/ceilings.py docs/ceiling/*.json --chart docs/ceiling.svg

Prints the table; --page puts it between the marks of a page. --chart may be repeated. Runs of one
client and format are compared: a line says whether their intervals overlap. The chart needs
matplotlib.
"""

import argparse
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from fastws.bench.files import write_file

NAMES = {
    "tauri-rust": "Rust, tokio-tungstenite",
    "tauri-rust-decoding": "Rust, every tick parsed",
    "node-ws": "Node.js, ws",
    "node-ws-decoding": "Node.js, every tick parsed",
    "browser-headless": "Chromium, every tick parsed",
}
# What the servers before fastws reached with one client, on their author's machine.
FORMER = {
    "ws, one send per tick": 186_000,
    "ws, serialised before": 212_000,
    "uWebSockets.js": 987_000,
}
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
HEAD = (
    "| client | format | ceiling /s | interval | saturated /s | p99 ms | limited by | "
    "server /s | headroom |\n|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, slots=True)
class Run:
    """One ceiling. Rates are messages a second.

    Args:
        client: its name for people.
        format: json or binary.
        at: when it began.
        ceiling: the highest rate that was sustained.
        above: the lowest that was not, or None.
        confirmed: whether a long trial confirmed it.
        saturated: what the client took in overload, or None.
        p99_ms: latency at the ceiling, or None.
        limited_by: the party, or None.
        capacity: of the server, or None.
        headroom: capacity / ceiling, or None.
    """

    client: str
    format: str
    at: str
    ceiling: int
    above: int | None
    confirmed: bool
    saturated: int | None
    p99_ms: float | None
    limited_by: str | None
    capacity: int | None
    headroom: float | None

    @property
    def interval(self) -> tuple[float, float]:
        """Between which rates the ceiling lies."""
        return self.ceiling, float("inf") if self.above is None else self.above


def read(path: Path) -> Run:
    """Return the run of a file."""
    found: dict[str, Any] = json.loads(path.read_bytes())
    return Run(
        client=NAMES.get(found["client"], found["client"]),
        format=found["format"],
        at=found["timestamp"],
        ceiling=found["ceiling"] or 0,
        above=found["above"],
        confirmed=found["confirmed"],
        saturated=found["saturatedRate"],
        p99_ms=found["p99LatencyMs"],
        limited_by=found["limitedBy"],
        capacity=found["serverCapacity"],
        headroom=found["headroom"],
    )


def sort_key(run: Run) -> tuple[int, str, str, str]:
    """Order by client as in NAMES, JSON first, then by time."""
    names = list(NAMES.values())
    place = names.index(run.client) if run.client in names else len(names)
    return place, run.client, "0" if run.format == "json" else "1", run.at


def table(runs: Sequence[Run]) -> str:
    """Return the table, and a line for each client that was measured more than once."""
    lines = [HEAD, *map(row, runs), ""]
    for (client, format), group in groupby(runs, lambda run: (run.client, run.format)):
        if len(same := list(group)) > 1:
            lines.append(f"- {client}, {format}: {comparison(same)}")
    return "\n".join(lines)


def row(run: Run) -> str:
    """Return the row of one run."""
    interval = f"{run.ceiling:,} - {number(run.above)}"
    headroom = "" if run.headroom is None else f"{run.headroom:.1f}"
    p99 = "" if run.p99_ms is None else f"{run.p99_ms:.3g}"
    ceiling = f"{run.ceiling:,}" + ("" if run.confirmed else " (not confirmed)")
    cells = [run.client, run.format, ceiling, interval, number(run.saturated), p99]
    cells += [run.limited_by or "nobody", number(run.capacity), headroom]
    return f"| {' | '.join(cells)} |"


def number(value: int | None) -> str:
    """Return a number as it is shown."""
    return "-" if value is None else f"{value:,}"


def comparison(runs: Sequence[Run]) -> str:
    """Say how far the runs of one client agree."""
    lows, highs = zip(*(run.interval for run in runs), strict=True)
    overlap = "overlap" if max(lows) <= min(highs) else "do not overlap"
    spread = 100 * (max(lows) / min(lows) - 1)
    return f"the intervals of {len(runs)} runs {overlap}; the ceilings differ by {spread:.1f} %."


def put_into(page: Path, figures: str) -> None:
    """Replace what stands between the marks of a page."""
    text = page.read_text()
    between = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    new, n = between.subn(lambda _: f"{BEGIN}\n{figures}\n{END}", text)
    if n != 1:
        raise SystemExit(f"{page}: the figures go between {BEGIN} and {END}")
    write_file(page, new.encode())


def draw(runs: Sequence[Run], paths: Sequence[str]) -> None:
    """Write the chart: the ceilings with their intervals, and the former servers."""
    import matplotlib  # the table does without

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fastws"  # the same figures make the same file
    from matplotlib import pyplot

    # The last run of a client stands for it; the lines are the intervals of all its runs.
    last = {(run.client, run.format): run for run in runs}
    labels = [*FORMER, *(f"{client} ({format})" for client, format in last)]
    figure, bars = pyplot.subplots(figsize=(9, 0.42 * len(labels) + 1.2), layout="constrained")
    values = [*FORMER.values(), *(run.ceiling for run in last.values())]
    colours = ["0.7"] * len(FORMER)
    colours += ["tab:blue" if run.format == "json" else "tab:cyan" for run in last.values()]
    bars.barh(labels, values, color=colours)
    for place, ((client, format), shown) in enumerate(last.items(), len(FORMER)):
        same = [run for run in runs if (run.client, run.format) == (client, format)]
        for run in same:
            high = run.above or run.ceiling
            bars.plot([run.ceiling, high], [place, place], color="black", linewidth=2.5)
        head = "" if shown.headroom is None else f", headroom {shown.headroom:.1f}"
        bars.annotate(
            f" {shown.ceiling:,}{head}", (max(run.above or run.ceiling for run in same), place),
            va="center", fontsize=8,
        )  # fmt: skip
    for place, value in enumerate(FORMER.values()):
        bars.annotate(f" {value:,}", (value, place), va="center", fontsize=8)
    bars.set(xscale="log", xlabel="messages/s to one client, log scale", xlim=(1e4, 4e8))
    bars.set_title("Ceilings of clients of fastws; in grey what the former servers reached")
    bars.invert_yaxis()
    for path in paths:
        metadata = {"Date": None} if path.endswith(".svg") else None
        image = io.BytesIO()
        figure.savefig(image, format=Path(path).suffix[1:] or None, dpi=120, metadata=metadata)
        write_file(path, image.getvalue())
    pyplot.close(figure)


def main() -> None:
    """Print the table, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--chart", action="append", default=[], metavar="FILE")
    options = parser.parse_args()
    runs = sorted(map(read, options.files), key=sort_key)
    figures = table(runs)
    print(figures)
    if options.page is not None:
        put_into(options.page, figures)
    if options.chart:
        draw(runs, options.chart)


if __name__ == "__main__":
    main()
