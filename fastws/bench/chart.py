"""The curve of a ceiling as SVG, drawn by matplotlib (the extra `chart`). Layer 6."""

import importlib
import io
from typing import Any

from fastws.bench.ceiling import Ceiling
from fastws.bench.files import write_file
from fastws.errors import FastwsError

COLOURS = {"good": "tab:green", "bad": "tab:red"}


class NoChart(FastwsError):
    """matplotlib is not installed; `str()` is one line."""


def pyplot() -> Any:
    """Return matplotlib's plotting module, with a backend that needs no display.

    Raises:
        NoChart: it is not installed.
    """
    try:
        importlib.import_module("matplotlib").use("svg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError:
        raise NoChart("a chart needs matplotlib: pip install 'fastws[chart]'") from None


def draw(found: Ceiling, path: str) -> None:
    """Write the chart: what the client took, and its p99, over what it was sent.

    Raises:
        NoChart: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    plot = pyplot()
    figure, rates = plot.subplots(figsize=(8, 4.5), layout="constrained")
    offered = [each.rate * found.options.clients for each in found.points]
    rates.plot(offered, offered, color="0.7", linestyle="--", label="offered")
    rates.plot(offered, [each.client_rate for each in found.points], color="tab:blue", zorder=1)
    for judgement, colour in COLOURS.items():
        points = [
            (rate, each.client_rate)
            for rate, each in zip(offered, found.points, strict=True)
            if each.judgement == judgement
        ]
        if points:
            rates.scatter(*zip(*points, strict=True), color=colour, label=f"received, {judgement}")
    rates.axvline(found.rate, color="0.3", linewidth=0.8, label=f"ceiling {found.rate:,}/s")
    rates.set(xlabel="messages/s offered", ylabel="messages/s received")
    rates.set_title(f"{found.client_id}, {found.options.format}")
    late = [(r, e.p99_ms) for r, e in zip(offered, found.points, strict=True) if e.p99_ms]
    if late:
        latency = rates.twinx()
        latency.plot(*zip(*late, strict=True), color="tab:orange", linewidth=1, marker=".")
        latency.set(ylabel="p99 in ms (orange)", yscale="log")
    rates.legend(loc="upper left")
    image = io.BytesIO()
    try:
        figure.savefig(image, format="svg")
    finally:
        plot.close(figure)
    write_file(path, image.getvalue())
