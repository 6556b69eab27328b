"""What is written: a Markdown table, JSON, charts."""

import dataclasses
import importlib.util
import platform
import time
from pathlib import Path
from typing import Any

from benchmarks.compare.cells import Cell
from benchmarks.compare.figures import Entry, Sample, Spread, entry
from benchmarks.compare.rows import REFERENCE, Peer
from benchmarks.compare.running import Plan

NOTHING = "-"


def entries(plan: Plan, samples: list[Sample]) -> dict[tuple[str, str], Entry]:
    """Return the entry of every row and cell."""
    return {
        (peer.name, cell.name): entry(samples, peer.name, cell.name, REFERENCE)
        for peer in plan.peers
        for cell in plan.cells
    }


def markdown(plan: Plan, found: dict[tuple[str, str], Entry]) -> str:
    """Return the tables and what they do not show."""
    rows = [peer for peer in plan.peers if not peer.missing]
    parts = [
        f"Median of {plan.rounds} rounds of {plan.seconds:g} s. In brackets the least and the "
        "largest. Every byte that a client received was compared.",
        f"**Frames a second over all clients, as a ratio to {REFERENCE} in the same round**",
        table(rows, plan.cells, found, ratio_text),
        "**Frames a second over all clients**",
        table(rows, plan.cells, found, lambda it: of(it.frames_per_s, lambda v: f"{v:,.0f}")),
        "**Processor time of the server, ns a frame**",
        table(rows, plan.cells, found, lambda it: of(it.server_ns, lambda v: f"{v:,.0f}")),
        "**Share of its core that the load client used: near 1.00 it limits the row**",
        table(rows, plan.cells, found, lambda it: of(it.client_busy, lambda v: f"{v:.2f}")),
        "**Loads**",
        "\n".join(f"- {cell.name}: {cell.said}" for cell in plan.cells),
        "**Rows**",
        "\n".join(said_of(peer, plan.cells, found) for peer in plan.peers),
    ]
    return "\n\n".join(parts) + "\n"


def table(rows: list[Peer], cells: list[Cell], found: Any, text: Any) -> str:
    """Return a Markdown table of a figure."""
    lines = [f"| | {' | '.join(cell.name for cell in cells)} |"]
    lines.append("|---|" + "---:|" * len(cells))
    for peer in rows:
        texts = (text(found[peer.name, cell.name]) for cell in cells)
        lines.append(f"| {peer.name} | {' | '.join(texts)} |")
    return "\n".join(lines)


def ratio_text(found: Entry) -> str:
    """Return the median ratio and its spread."""
    ratio = found.ratio
    if ratio is None:
        return NOTHING
    return f"{ratio.median:.2f} [{ratio.least:.2f}-{ratio.most:.2f}]"


def of(found: Spread | None, text: Any) -> str:
    """Return a median, or a dash."""
    return NOTHING if found is None else text(found.median)


def said_of(peer: Peer, cells: list[Cell], found: dict[tuple[str, str], Entry]) -> str:
    """Return the line of a row: what it is, or why it is missing, wholly or in a cell."""
    if peer.missing:
        return f"- {peer.name}: {peer.how}. **Missing**: {peer.missing}."
    said = f"- {peer.name}: {peer.how}."
    for cell in cells:
        why = peer.without(cell) or "; ".join(found[peer.name, cell.name].failures)
        if why:
            said += f" {cell.name}: {why}."
    return said


def as_json(plan: Plan, samples: list[Sample], found: dict[tuple[str, str], Entry]) -> Any:
    """Return all of it for json.dump."""
    return {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"kernel": platform.release(), "python": platform.python_version()},
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "seed": plan.seed,
        "reference": REFERENCE,
        "cells": [dataclasses.asdict(cell) for cell in plan.cells],
        "peers": [
            {"name": peer.name, "how": peer.how, "missing": peer.missing} for peer in plan.peers
        ],
        "entries": [dataclasses.asdict(each) for each in found.values() if each.rounds],
        "samples": [dataclasses.asdict(each) for each in samples],
    }


def charts(plan: Plan, found: dict[tuple[str, str], Entry], out: Path) -> str:
    """Draw the ratios as compare.png and compare.svg; return what was done, or why not."""
    if importlib.util.find_spec("matplotlib") is None:
        return "no charts: matplotlib is not installed (pip install 'fastws[chart]')"
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    columns = min(3, len(plan.cells))
    lines = -(-len(plan.cells) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(4.2 * columns, 3.2 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(plan.cells) :]:
        axis.set_visible(False)
    for axis, cell in zip(axes.flat, plan.cells, strict=False):
        draw(axis, cell, [found[peer.name, cell.name] for peer in reversed(plan.peers)])
    for ending in ("png", "svg"):
        figure.savefig(out / f"compare.{ending}", dpi=120)
    pyplot.close(figure)
    return f"charts: {out / 'compare.png'}, {out / 'compare.svg'}"


def draw(axis: Any, cell: Cell, rows: list[Entry]) -> None:
    """Draw the ratios of a cell, with their spread."""
    shown = [(row.peer, row.ratio) for row in rows if row.ratio is not None]
    medians = [ratio.median for _, ratio in shown]
    errors = [
        [ratio.median - ratio.least for _, ratio in shown],
        [ratio.most - ratio.median for _, ratio in shown],
    ]
    colours = ["tab:blue" if name == REFERENCE else "silver" for name, _ in shown]
    axis.barh([name for name, _ in shown], medians, xerr=errors, color=colours)
    axis.set_title(f"{cell.name}: {cell.said}", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.set_xlabel(f"ratio to {REFERENCE}", fontsize=7)
