"""What users write is typed: mypy, strict, on the programs of tests/typing."""

from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "typing").glob("*.py"))


def test_programs_of_users_are_clean_and_the_wrong_one_is_refused_line_by_line() -> None:
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    # An ignore where nothing is wrong is an error, too, so wrong.py shows what is refused.
    out, err, status = api.run(["--strict", "--no-incremental", *map(str, PROGRAMS)])
    assert (status, err) == (0, ""), out
    assert f"no issues found in {len(PROGRAMS)} source files" in out
