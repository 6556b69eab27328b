"""X: what a server process hands on, and interpreters within the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT, Place

SUBINTERPRETER = """
import _xxsubinterpreters as interpreters
import fastws
inner = interpreters.create()
try:
    interpreters.run_string(inner, "import fastws; fastws.Engine().close(); print('works')")
except interpreters.RunFailedError as error:
    assert "ImportError" in str(error), error
    print("refused")
interpreters.destroy(inner)
fastws.Engine().close()
"""


@pytest.mark.hostile("X67")
def test_no_descriptor_is_inherited_by_a_child(echo: Place) -> None:
    wires = [echo.open() for _ in range(5)]
    echo.settle()
    fdinfo = Path(f"/proc/{echo.process.pid}/fdinfo")
    inherited = []
    for entry in fdinfo.iterdir():
        flags = next(x for x in entry.read_text().splitlines() if x.startswith("flags:"))
        if not int(flags.split()[1], 8) & os.O_CLOEXEC:
            inherited.append(int(entry.name))
    assert sorted(inherited) == [0, 1, 2]
    assert all(wire.is_open() for wire in wires)


@pytest.mark.hostile("X68")
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="_xxsubinterpreters is gone")
def test_a_subinterpreter_imports_it_or_is_told_why_not() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SUBINTERPRETER],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("works", "refused")
