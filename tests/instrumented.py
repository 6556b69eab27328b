"""The tests with instruments in the extension: coverage, sanitizers, valgrind.

Each works on a copy of the tree in a temporary directory, with the Python environment that runs
this: `coverage` needs the dev extra beside the test extra. An argument behind `--` goes to pytest.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOOR = 95.0  # percent that each figure of coverage must reach
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300"]
# These test C programs, which CMake builds and which get their sanitizers in test_native.py, not
# the extension.
LEFT_OUT = ["--ignore=tests/test_native.py", "--ignore=tests/test_bare.py"]
# Ten thousand clients show what a crowd costs, which instruments change, and nothing new of memory.
LEFT_OUT += ["--ignore=tests/hostile/test_crowd_rows.py"]
# Of the hostile suite's six places two are enough here: each loop once, TCP and Unix once.
OTHER_PLACES = ["asyncio-tcp6", "asyncio-unix", "uvloop-tcp4", "uvloop-tcp6"]
SELECTION = [*LEFT_OUT, "-k", f"not ({' or '.join(OTHER_PLACES)})"]
# Some thirty times slower: the last two see a time-out or overdue ticks that are not meant.
UNDER_VALGRIND = [
    *(f"tests/{name}.py" for name in ("test_frame", "test_faces", "test_engine")),
    "tests/test_publishing.py",
    "--deselect=tests/test_publishing.py::test_close_says_slow_consumer_behind_a_whole_frame",
    "--deselect=tests/test_publishing.py::test_change_of_rate_misses_nothing_that_was_due",
]
COVERAGE_CONFIG = """\
[run]
branch = true
core = ctrace
patch = subprocess
plugins = Cython.Coverage
parallel = true
sigterm = true
source = fastws
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instrument", choices=sorted(INSTRUMENTS))
    parser.add_argument("--keep", type=Path, help="copy reports there")
    parser.add_argument("pytest", nargs="*", help="arguments of pytest, in place of a selection")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastws_") as scratch:
        tree = copy_of_the_tree(Path(scratch) / "tree")
        status = INSTRUMENTS[options.instrument](tree, options.pytest)
        reports = tree / "reports"
        if options.keep and reports.exists():
            shutil.copytree(reports, options.keep, dirs_exist_ok=True)
    return status


def copy_of_the_tree(target: Path) -> Path:
    """What the repository has or would take, as it is in the tree now."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout
    for name in names.decode().split("\0")[:-1]:
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    return target


def run(tree: Path, command: Sequence[str], extra: dict[str, str] | None = None) -> int:
    """Run it in the copy, whose package comes before an installed one; its status."""
    environment = os.environ | {"PYTHONPATH": str(tree)} | (extra or {})
    return subprocess.run(command, cwd=tree, env=environment).returncode


def build(tree: Path, extra: dict[str, str]) -> None:
    """The extension in place, and the metadata that tells the version."""
    for step in (["build_ext", "--inplace"], ["egg_info"]):
        command = [sys.executable, "setup.py", "-q", *step]
        if status := run(tree, command, extra):
            raise SystemExit(status)


# Coverage.


def coverage(tree: Path, arguments: list[str]) -> int:
    """Branches of Python, lines of Cython, branches of C; 1 when a test fails or one is too low.

    A selection of one's own is not held to FLOOR.
    """
    # One seed makes the same object of a file for each extension, so that their counts add up.
    flags = "--coverage -frandom-seed=fastws -fprofile-update=atomic"
    traced = {"FASTWS_TRACE": "1", "FASTWS_DEBUG": "1", "CC": f"gcc {flags}"}
    build(tree, traced)
    (tree / ".coveragerc").write_text(COVERAGE_CONFIG)
    measure = [sys.executable, "-m", "coverage", "run", *PYTEST, *(arguments or SELECTION)]
    statuses = [run(tree, measure)]
    if not arguments:
        statuses.append(native_tests(tree))
    (tree / "reports").mkdir()
    figures = python_figures(tree) | {"branches of C": native_figure(tree)}
    for name, percent in figures.items():
        print(f"{percent:6.2f} %  {name}{'' if percent >= FLOOR else f', below {FLOOR} %'}")
    low = not arguments and min(figures.values()) < FLOOR
    return 1 if low or any(statuses) else 0


def native_tests(tree: Path) -> int:
    flags = "-O0 --coverage -fprofile-update=atomic"
    directory = str(tree / "native")
    configure = ["cmake", "-S", ".", "-B", directory, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug"]
    status = run(tree, [*configure, f"-DCMAKE_C_FLAGS={flags}", "-DFASTWS_SANITIZE="])
    status = status or run(tree, ["cmake", "--build", directory])
    return status or run(tree, ["ctest", "--test-dir", directory, "--output-on-failure"])


def python_figures(tree: Path) -> dict[str, float]:
    """From coverage.py: its plugin for Cython knows lines only."""
    program = [sys.executable, "-m", "coverage"]
    report = tree / "reports/python.json"
    run(tree, [*program, "combine", "-q"])
    run(tree, [*program, "report", "--show-missing", "--skip-covered"])
    run(tree, [*program, "json", "-q", "-o", str(report)])
    branches = lines = (0, 0)
    for name, entry in json.loads(report.read_text())["files"].items():
        counts = entry["summary"]
        if name.endswith(".pyx"):
            lines = add(lines, (counts["covered_lines"], counts["num_statements"]))
        else:
            branches = add(branches, (counts["covered_branches"], counts["num_branches"]))
    return {"branches of Python": percentage(branches), "lines of Cython": percentage(lines)}


def native_figure(tree: Path) -> float:
    """From gcov: the C tests and the Python tests together."""
    summary = tree / "reports/native.json"
    found = [str(path) for name in ("build", "native") if (path := tree / name).is_dir()]
    select = ["--filter=fastws/native/", "--exclude-unreachable-branches", "--txt-metric=branch"]
    reports = ["--txt=-", f"--json-summary={summary}"]
    run(tree, [sys.executable, "-m", "gcovr", "--root=.", *select, *reports, *found])
    counts = json.loads(summary.read_text())
    return percentage((counts["branch_covered"], counts["branch_total"]))


def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def percentage(counts: tuple[int, int]) -> float:
    covered, total = counts
    return 100 * covered / max(total, 1)


# Sanitizers and valgrind.


def sanitized(tree: Path, arguments: list[str]) -> int:
    """The suite under ASan and UBSan: a finding ends the run."""
    build(tree, {"FASTWS_SANITIZE": "address,undefined"})
    compiler = ["gcc", "-print-file-name=libasan.so"]
    library = subprocess.run(compiler, check=True, capture_output=True, text=True).stdout.strip()
    environment = {
        "LD_PRELOAD": library,
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
        "PYTHONMALLOC": "malloc",
    }
    return run(tree, [sys.executable, *PYTEST, *(arguments or SELECTION)], environment)


def valgrind(tree: Path, arguments: list[str]) -> int:
    """The faces, the engine and publishing under memcheck: 9 is a finding."""
    build(tree, {"FASTWS_DEBUG": "1"})
    command = ["valgrind", "-q", "--error-exitcode=9", "--suppressions=tests/valgrind.supp"]
    command += [sys.executable, *PYTEST, *(arguments or UNDER_VALGRIND)]
    return run(tree, command, {"PYTHONMALLOC": "malloc"})


INSTRUMENTS = {"coverage": coverage, "sanitized": sanitized, "valgrind": valgrind}

if __name__ == "__main__":
    sys.exit(main())
