"""Writes docs/hostile.md: which test covers each case of ids.toml; with --check, judges it.

The ids of a Python test come from its marks, as pytest collects them; those of a C test from the
comment `/* HOSTILE X10 X11 */` right above its function.
"""

import contextlib
import io
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TABLE = ROOT / "docs/hostile.md"
IDS = ROOT / "tests/hostile/ids.toml"
C_TEST = re.compile(r"/\* HOSTILE ((?:[A-Z]\d\d[ ,]*)+)\*/\s*static void (\w+)\(void\)")

Found = dict[str, list[str]]


class Marks:
    """A pytest plugin that collects what is marked."""

    def __init__(self) -> None:
        self.found: Found = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take the ids of every test."""
        for item in session.items:
            function = getattr(item, "originalname", item.name)
            where = f"{item.path.relative_to(ROOT)}::{function}"
            for mark in item.iter_markers("hostile"):
                for row in mark.args:
                    add(self.found, row, where)


def add(found: Found, row: str, where: str) -> None:
    """Note that a test covers a case, once."""
    if where not in found.setdefault(row, []):
        found[row].append(where)


def marked_python() -> Found:
    """The ids that tests in Python carry.

    Raises:
        SystemExit: they cannot be collected.
    """
    marks, said = Marks(), io.StringIO()
    with contextlib.redirect_stdout(said):
        status = pytest.main(
            ["--collect-only", "-q", "-m", "", str(ROOT / "tests")], plugins=[marks]
        )
    if status != pytest.ExitCode.OK:
        raise SystemExit(f"the tests cannot be collected:\n{said.getvalue()}")
    return marks.found


def marked_c() -> Found:
    """The ids that tests in C carry, if main() runs them."""
    found: Found = {}
    for path in sorted((ROOT / "tests/native").glob("test_*.c")):
        source = path.read_text()
        for rows, function in C_TEST.findall(source):
            if f"RUN({function})" in source:
                for row in re.findall(r"[A-Z]\d\d", rows):
                    add(found, row, f"{path.relative_to(ROOT)}::{function}")
    return found


def reasons(data: dict[str, Any]) -> dict[str, str]:
    """Why a case has no test, by id."""
    why = dict.fromkeys(data["pending"]["ids"], "**pending**")
    for reason, rows in data["not_planned"].items():
        why |= dict.fromkeys(rows, f"not planned yet: {reason}")
    return why


def table(data: dict[str, Any], found: Found) -> str:
    """The text of docs/hostile.md."""
    why = reasons(data)
    groups = {name: rows for name, rows in data.items() if name not in ("not_planned", "pending")}
    rows = [row for group in groups.values() for row in group]
    covered = sum(row in found for row in rows)
    pending = sum(row in data["pending"]["ids"] and row not in found for row in rows)
    lines = [
        "# Hostile input and faults: which test covers what",
        "",
        "Written by `make hostile-table`; the tests fail while it is out of date. What must happen"
        " in each case, the test says.",
        "",
        f"{len(rows)} cases: {covered} covered, {pending} pending, "
        f"{len(rows) - covered - pending} not planned yet.",
    ]
    for name, group in groups.items():
        lines += ["", f"## {name}", "", "| id | case | covered by |", "|---|---|---|"]
        for row, title in group.items():
            tests = "<br>".join(f"`{where}`" for where in sorted(found.get(row, [])))
            lines.append(f"| {row} | {title} | {tests or why.get(row, '**nothing**')} |")
    return "\n".join(lines) + "\n"


def complaints(data: dict[str, Any], found: Found) -> list[str]:
    """What is wrong with the tests and ids.toml, a line each."""
    why = reasons(data)
    known = {row for name, rows in data.items() if name != "not_planned" for row in rows}
    known.discard("ids")
    said = [f"{row}: no test, and not listed as pending or not planned"
            for row in sorted(known - found.keys() - why.keys())]  # fmt: skip
    said += [f"{row}: {found[row][0]} covers what ids.toml does not know"
             for row in sorted(found.keys() - known)]  # fmt: skip
    said += [
        f"{row}: listed as without a test, but not known" for row in sorted(why.keys() - known)
    ]
    said += [f"{row}: covered, yet listed as not planned"
             for row in sorted(found.keys() & why.keys()) if why[row] != "**pending**"]  # fmt: skip
    return said


def main(arguments: list[str]) -> str | None:
    """Write the table, or check it; what is wrong, None when nothing is."""
    data = tomllib.loads(IDS.read_text())
    found = marked_python()
    for row, places in marked_c().items():
        found.setdefault(row, []).extend(places)
    text = table(data, found)
    said = complaints(data, found)
    if "--check" not in arguments:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
    elif not TABLE.is_file() or TABLE.read_text() != text:
        said.append(f"{TABLE.relative_to(ROOT)} is out of date: make hostile-table")
    return "\n".join(said) or None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
