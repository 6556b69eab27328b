"""What is written of a comparison: the Markdown tables and the JSON."""

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable
from typing import Any

from benchmarks.compare.cells import Cell, Kind
from benchmarks.compare.figures import Entry, Sample, Spread, entry
from benchmarks.compare.rows import REFERENCE, Peer
from benchmarks.compare.running import Plan

NOTHING = "-"
HEADLINE = "compare-headline"
NOT_EQUAL = """\
- One frame a flush: *frames a segment* are the frames that came for each TCP segment; 1.0 is a send
  for each frame. The kernel may join frames of several sends, above all with one client.
- Bursts: fastws, socketify and `ws` send a burst to a client in one call. picows, websockets,
  aiohttp, uvicorn and granian have no call for that: each message is a send.
- Subscriptions: fastws and socketify have topics; the others have a dictionary of sets.
- The bare loops serialise nothing, keep no account and have no event loop.
- The load client limits a row where its share is above 0.90 (in bold type): there the processor
  time of the server says more than the rate. A latency contains up to 0.2 ms of it.
- `pause` is the longest wait of an echo: what keeps the server's loop, and what stands before the
  answer. A server that awaits each send answers in between; its fan-out takes the longer."""
STOPPED = " **Stopped early**: not every row was measured in every round."
COLUMNS = 6  # cells of a table, or it would be too wide to read
Found = dict[tuple[str, str], Entry]


def entries(plan: Plan, samples: list[Sample]) -> Found:
    """Return the entry of every row and cell."""
    return {
        (peer.name, cell.name): entry(samples, peer.name, cell.name, REFERENCE)
        for peer in plan.peers
        for cell in plan.cells
    }


def markdown(plan: Plan, found: Found) -> str:
    """Return the tables and what they do not show."""
    frames = [cell for cell in plan.cells if cell.kind in (Kind.RATE, Kind.ECHO)]
    loaded = [cell for cell in plan.cells if cell.kind is not Kind.IDLE]
    timed = [cell for cell in plan.cells if cell.kind in (Kind.LATENCY, Kind.PAUSE)]
    tables = [
        (
            f"Ratio to {REFERENCE} in the same round. Above 1 is better for a rate, below 1 for a "
            "time or memory",
            plan.cells,
            lambda it: ratio_text(it.ratio),
        ),
        ("Figures", plan.cells, lambda it: number(it.value)),
        ("99th percentile, µs", timed, lambda it: number(it.p99)),
        ("Processor time of the server, ns a frame", frames, lambda it: number(it.server_ns)),
        ("Frames a segment", frames, lambda it: of(it.frames_per_segment, "{:.1f}")),
        ("Share of its core that the load client used", loaded, lambda it: busy(it.client_busy)),
    ]
    parts = [
        "# fastws beside other servers",
        f"`python -m benchmarks.compare`: median of {plan.rounds} rounds of {plan.seconds:g} s; in "
        f"brackets the least and the largest. {os.cpu_count()} cores, Linux {platform.release()}, "
        f"Python {platform.python_version()}; server and load client have a core each. Every byte "
        f"that a client received was compared.{STOPPED * stopped_early(plan, found)}",
        f"![Frames a second]({HEADLINE}.svg)",
    ]
    for title, cells, text in tables:
        if cells:
            parts += [f"## {title}", *wrapped(plan, cells, found, text)]
    parts += ["## Loads", "\n".join(f"- {it.name} ({it.kind}): {it.said}" for it in plan.cells)]
    parts += ["## Rows", "\n".join(said_of(peer, plan.cells, found) for peer in plan.peers)]
    parts += ["## What is not equal", NOT_EQUAL, "![All ratios](compare.svg)"]
    return "\n\n".join(parts) + "\n"


def stopped_early(plan: Plan, found: Found) -> bool:
    """Return whether a row that has a part in a cell was measured in fewer rounds than planned."""
    return any(
        each.rounds < plan.rounds and not each.failures
        for peer in plan.peers
        for cell in plan.cells
        if not peer.missing and not peer.without(cell)
        for each in [found[peer.name, cell.name]]
    )


def wrapped(plan: Plan, cells: list[Cell], found: Found, text: Callable[[Entry], str]) -> list[str]:
    """Return the Markdown tables of a figure, a few cells each."""
    rows = [peer for peer in plan.peers if not peer.missing]
    pieces = [cells[at : at + COLUMNS] for at in range(0, len(cells), COLUMNS)]
    return [table(rows, piece, found, text) for piece in pieces]


def table(rows: list[Peer], cells: list[Cell], found: Found, text: Callable[[Entry], str]) -> str:
    """Return a Markdown table; rows that have no part in any of the cells are left out."""
    lines = [f"| | {' | '.join(cell.name for cell in cells)} |"]
    lines.append("|---|" + "---:|" * len(cells))
    for peer in rows:
        texts = [text(found[peer.name, cell.name]) for cell in cells]
        if set(texts) != {NOTHING}:
            lines.append(f"| {peer.name} | {' | '.join(texts)} |")
    return "\n".join(lines)


def ratio_text(ratio: Spread | None) -> str:
    """Return the median ratio and its spread."""
    if ratio is None:
        return NOTHING
    return f"{short(ratio.median)} [{short(ratio.least)}-{short(ratio.most)}]"


def short(value: float) -> str:
    """Return a ratio with two digits that count, or more."""
    return f"{value:.3f}" if value < 0.095 else f"{value:.2f}" if value < 9.95 else f"{value:.0f}"


def number(found: Spread | None) -> str:
    """Return a median without a fraction."""
    return of(found, "{:,.0f}")


def busy(found: Spread | None) -> str:
    """Return a share; where it is near 1 the row was limited by the load client."""
    if found is None:
        return NOTHING
    return f"**{found.median:.2f}**" if found.median > 0.9 else f"{found.median:.2f}"


def of(found: Spread | None, form: str) -> str:
    """Return a median, or a dash."""
    return NOTHING if found is None else form.format(found.median)


def said_of(peer: Peer, cells: list[Cell], found: Found) -> str:
    """Return the line of a row: what it is, or why it is missing, wholly or in a cell."""
    if peer.missing:
        return f"- {peer.name}: {peer.how}. **Missing**: {peer.missing}."
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        why = peer.without(cell) or "; ".join(found[peer.name, cell.name].failures)
        if why:
            reasons.setdefault(why, []).append(cell.name)
    said = [f"{', '.join(names)}: {why}." for why, names in reasons.items()]
    return " ".join([f"- {peer.name}: {peer.how}.", *said])


def as_json(plan: Plan, samples: list[Sample], found: Found) -> Any:
    """Return all of it for json.dump."""
    return {
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        },
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


def json_text(report: Any) -> str:
    """Return it as JSON with a line for each entry and sample."""
    parts = []
    for name, value in report.items():
        text = json.dumps(value)
        if isinstance(value, list):
            text = "[\n" + ",\n".join(json.dumps(each) for each in value) + "\n]"
        parts.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"
