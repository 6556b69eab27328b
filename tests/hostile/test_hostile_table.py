"""No case of the list is missing in silence, and docs/hostile.md tells the truth."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hostile_table import C_TEST, complaints, table

DATA: dict[str, Any] = {
    "not_planned": {"later": ["A03"]},
    "pending": {"ids": ["A02"]},
    "Group": {"A01": "one", "A02": "two", "A03": "three"},
}
ONE = ["tests/test_x.py::test_one"]


def test_every_case_is_covered_or_listed_and_the_table_is_current() -> None:
    script = Path(__file__).with_name("hostile_table.py")
    done = subprocess.run(
        [sys.executable, script, "--check"], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_the_table_shows_what_is_covered_pending_and_not_planned() -> None:
    text = table(DATA, {"A01": ONE})
    assert "3 cases: 1 covered, 1 pending, 1 not planned yet." in text
    assert "| A01 | one | `tests/test_x.py::test_one` |" in text
    assert "| A02 | two | **pending** |" in text
    assert "| A03 | three | not planned yet: later |" in text


def test_what_is_missing_or_unknown_is_said() -> None:
    assert complaints(DATA, {"A01": ONE}) == []
    assert complaints(DATA, {"A01": ONE, "A02": ONE}) == []
    assert complaints(DATA, {}) == ["A01: no test, and not listed as pending or not planned"]
    assert complaints(DATA, {"A01": ONE, "A03": ONE}) == ["A03: covered, yet listed as not planned"]
    assert complaints(DATA, {"A01": ONE, "A09": ONE}) == [
        "A09: tests/test_x.py::test_one covers what ids.toml does not know"
    ]
    unknown = DATA | {"pending": {"ids": ["A02", "A08"]}}
    assert complaints(unknown, {"A01": ONE}) == ["A08: listed as without a test, but not known"]


def test_a_comment_above_a_c_test_is_read() -> None:
    source = "/* HOSTILE X10 X11 */\nstatic void test_it(void)\n{\n}\n"
    assert C_TEST.findall(source) == [("X10 X11 ", "test_it")]
