"""The charts of a comparison, PNG and SVG."""

import importlib.util
import io
from pathlib import Path
from typing import Any

from benchmarks.compare.cells import Cell, Kind
from benchmarks.compare.figures import Spread
from benchmarks.compare.report import HEADLINE, Found
from benchmarks.compare.rows import REFERENCE
from benchmarks.compare.running import Plan
from fastws.bench.files import write_file

FIRST = ("base", "burst-32", "free")
TITLES = {"base": "one frame a flush", "burst-32": "bursts of 32", "free": "free-running"}
OWN, BARE, OTHER = "#1f77b4", "#8c8c8c", "#d0d0d0"


def charts(plan: Plan, found: Found, out: Path) -> str:
    """Draw compare.* (all ratios) and compare-headline.*; return what was done, or why not."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no charts: matplotlib is not installed (pip install 'fastws[chart]')"
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "fastws"
    drawn = [save(ratios_figure(plan, found), out / "compare")]
    cells = [cell for name in FIRST for cell in plan.cells if cell.name == name]
    if cells:
        drawn.append(save(headline_figure(plan, cells, found), out / HEADLINE))
    return f"charts: {', '.join(drawn)}"


def save(figure: Any, path: Path) -> str:
    """Write a figure as PNG and as SVG."""
    from matplotlib import pyplot

    for ending in (".png", ".svg"):
        image = io.BytesIO()
        figure.savefig(image, format=ending[1:], dpi=120)
        write_file(path.with_suffix(ending), image.getvalue())
    pyplot.close(figure)
    return f"{path}.png, {path}.svg"


def headline_figure(plan: Plan, cells: list[Cell], found: Found) -> Any:
    """Draw frames a second of the cells that come first, side by side."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(cells), figsize=(4.0 * len(cells), 4.0), squeeze=False, sharey=True, layout="tight"
    )
    names = [
        peer.name
        for peer in plan.peers
        if any(found[peer.name, cell.name].value is not None for cell in cells)
    ]
    for axis, cell in zip(axes.flat, cells, strict=True):
        values = [found[name, cell.name].value for name in names]
        bars(axis, names, values)
        for row, value in enumerate(values):
            text, end = ("-", 0.0) if value is None else (amount(value.median), value.most)
            place = {"textcoords": "offset points", "va": "center", "fontsize": 8}
            axis.annotate(text, (end, row), (3, 0), **place)
        axis.set_title(TITLES.get(cell.name, cell.name), fontsize=10)
        axis.margins(x=0.2)
        axis.xaxis.set_major_formatter(lambda value, _: amount(value))
        axis.tick_params(labelsize=8)
        axis.set_xlabel("frames/s over all clients", fontsize=8)
    axes.flat[0].invert_yaxis()
    figure.suptitle(
        f"Fan-out of {cells[0].size} bytes to {cells[0].clients} clients; the server has one core",
        fontsize=11,
    )
    return figure


def ratios_figure(plan: Plan, found: Found) -> Any:
    """Draw the ratios of every cell."""
    from matplotlib import pyplot

    columns = min(3, len(plan.cells))
    lines = -(-len(plan.cells) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(4.4 * columns, 2.9 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(plan.cells) :]:
        axis.set_visible(False)
    for axis, cell in zip(axes.flat, plan.cells, strict=False):
        shown = [
            (peer.name, found[peer.name, cell.name].ratio)
            for peer in plan.peers
            if found[peer.name, cell.name].ratio is not None
        ]
        bars(axis, [name for name, _ in shown], [ratio for _, ratio in shown])
        axis.invert_yaxis()
        axis.axvline(1, color=OWN, linewidth=0.6)
        better = "more" if cell.kind.more_is_better else "less"
        axis.set_title(f"{cell.name}, {cell.kind}: {better} is better", fontsize=8)
        if cell.kind is Kind.IDLE:
            axis.set_xscale("log")
        axis.tick_params(labelsize=7)
        axis.set_xlabel(f"ratio to {REFERENCE}", fontsize=7)
    return figure


def bars(axis: Any, names: list[str], values: list[Spread | None]) -> None:
    """Draw medians with their spread."""
    medians = [0.0 if value is None else value.median for value in values]
    low = [0.0 if value is None else value.median - value.least for value in values]
    high = [0.0 if value is None else value.most - value.median for value in values]
    colours = [
        OWN if name == REFERENCE else BARE if name.startswith("bare") else OTHER for name in names
    ]
    error = {"elinewidth": 0.8, "ecolor": "#404040"}
    axis.barh(range(len(names)), medians, xerr=[low, high], color=colours, error_kw=error)
    axis.set_yticks(range(len(names)), names)


def amount(value: float) -> str:
    """Return a rate in few characters."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {letter}"
    return f"{value:.0f}"
