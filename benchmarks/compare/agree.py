"""Whether two comparisons agree: `python -m benchmarks.compare.agree ONE.json OTHER.json`.

A row agrees in a cell when the spreads of its ratio, least to largest, overlap. Prints those that
do not, and leaves with status 1 if there are any.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

Spreads = dict[tuple[str, str], dict[str, float]]


def spreads(report: Any) -> Spreads:
    """Return the spread of every ratio of a report that is one of two rows."""
    return {
        (entry["peer"], entry["cell"]): entry["ratio"]
        for entry in report["entries"]
        if entry["ratio"] is not None and entry["peer"] != report["reference"]
    }


def apart(one: Spreads, other: Spreads) -> list[str]:
    """Return a line for each ratio of both whose spreads do not overlap."""
    found = []
    for (peer, cell), first in one.items():
        second = other.get((peer, cell))
        if second is None:
            continue
        if first["most"] < second["least"] or second["most"] < first["least"]:
            texts = (
                f"{it['median']:.3g} [{it['least']:.3g}-{it['most']:.3g}]" for it in (first, second)
            )
            found.append(f"{cell}, {peer}: {' and '.join(texts)}")
    return found


def main() -> None:
    """Compare two files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs=2, type=Path)
    one, other = (spreads(json.loads(it.read_text())) for it in parser.parse_args().reports)
    lines = apart(one, other)
    print("\n".join([*lines, f"{len(one.keys() & other.keys())} ratios, {len(lines)} apart"]))
    if lines:
        sys.exit(1)


if __name__ == "__main__":
    main()
