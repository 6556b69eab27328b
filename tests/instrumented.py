"""The tests with instruments in the extension: coverage, sanitizers, valgrind.

Each works on a copy of the tree in a temporary directory, with the Python environment that runs
this: `coverage` needs the dev extra beside the test extra. An argument behind `--` goes to pytest.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST = 95.0  # percent that each figure of coverage must reach
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300"]
# These test C programs, which CMake builds and which get their sanitizers in test_native.py, not
# the extension.
LEFT_OUT = ["--ignore=tests/test_native.py", "--ignore=tests/test_bare.py"]
# Ten thousand clients show what a crowd costs, which instruments change, and nothing new of memory.
LEFT_OUT += ["--ignore=tests/hostile/test_crowd_rows.py"]
# Of the hostile suite's four places two are enough here: each loop once, TCP and Unix once.
OTHER_PLACES = ["asyncio-unix", "uvloop-tcp6"]
SELECTION = [*LEFT_OUT, "-k", f"not ({' or '.join(OTHER_PLACES)})"]
# They never touch the extension, or read no more than the sources.
PURE = ["http", "bench/test_chart.py", "bench/test_parties.py", "bench/test_results.py"]
PURE += ["bench/test_search.py", "bench/test_verdict.py", "hostile/test_hostile_table.py"]
PURE += [f"test_{name}.py" for name in ("compare", "compare_programs", "config", "differential")]
PURE += [f"test_{name}.py" for name in ("http_api", "http_api_fuzz", "layers", "readme", "types")]
# The extension sees the same calls from both loops; the hostile suite has each of them once.
ONE_LOOP = {"FASTWS_LOOPS": "asyncio"}
MEMCHECK = ["valgrind", "-q", "--error-exitcode=9"]
LEAKS = ["--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]
FEWER = {"test_engine_model": ["1"]}  # the first seed of six
# The interpreter's pools would hide what is freed; the model has no time-out when told its steps.
UNDER_MEMCHECK = {"PYTHONMALLOC": "malloc", "FASTWS_MODEL_STEPS": "1"}
# Their work is done in processes of their own, or they read the sources only.
NOT_IN_PROCESS = [f"test_{name}" for name in ("bare", "cli", "interop", "layers", "native")]
# To draw their examples takes longer than all else; the fuzz targets' corpus is a C test.
NOT_IN_PROCESS += ["test_readme", "test_differential", "test_http_api_fuzz"]
# Valgrind has descriptors of its own above the limit, and lets nobody lower it.
NOT_IN_PROCESS += ["test_open_files"]
# Not in time when everything takes thirty times as long, or minutes for nothing new of memory.
SLOWED = [
    "test_publishing.py::test_close_says_slow_consumer_behind_a_whole_frame",  # a time-out
    "test_publishing.py::test_change_of_rate_misses_nothing_that_was_due",  # overdue ticks
    "test_stats.py::test_delivered_and_acknowledged_are_what_the_client_counted",  # 50,000 ticks/s
    "test_handlers.py::test_a_slow_handler_stops_the_reading_and_loses_nothing",  # 10,000 tasks
]
# Servers and commands in processes of their own: the hostile suite at one of its four places. A
# crowd takes too long; liveness and soak run in pytest's own process.
OUTSIDE = ["tests/hostile", "tests/test_cli.py", "tests/test_readme.py"]
OUTSIDE += [f"--ignore=tests/hostile/test_{name}_rows.py" for name in ("crowd", "liveness", "soak")]
OTHERWISE = [
    "second_sigterm_ends",  # within 2 s, which the interpreter alone takes
    "second_signal_ends",  # within 3 s
    "no_descriptor_is_inherited",  # valgrind's report is an open file more
]
OUTSIDE += ["-k", f"not (asyncio-unix or uvloop- or {' or '.join(OTHERWISE)})"]
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


def native_build(tree: Path, *options: str) -> None:
    """The C tests, into `native`."""
    configure = ["cmake", "-S", ".", "-B", "native", "-G", "Ninja", "-DFASTWS_SANITIZE="]
    for step in ([*configure, *options], ["cmake", "--build", "native"]):
        if status := run(tree, step):
            raise SystemExit(status)


# Coverage.


def coverage(tree: Path, arguments: list[str]) -> int:
    """Branches of Python, lines of Cython, branches of C; 1 when a test fails or one is too low.

    LEAST does not apply to a selection given on the command line.
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
        print(f"{percent:6.2f} %  {name}{'' if percent >= LEAST else f', below {LEAST} %'}")
    low = not arguments and min(figures.values()) < LEAST
    return 1 if low or any(statuses) else 0


def native_tests(tree: Path) -> int:
    flags = "-O0 --coverage -fprofile-update=atomic"
    native_build(tree, "-DCMAKE_BUILD_TYPE=Debug", f"-DCMAKE_C_FLAGS={flags}")
    return run(tree, ["ctest", "--test-dir", "native", "--output-on-failure"])


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
    selection = [*SELECTION, *(f"--ignore=tests/{name}" for name in PURE)]
    command = [sys.executable, *PYTEST, *(arguments or selection)]
    return run(tree, command, environment | ONE_LOOP)


def valgrind(tree: Path, arguments: list[str]) -> int:
    """Three parts under memcheck; 1 when one has a finding or a test that fails.

    The tests that run in pytest's own process; servers and commands in processes of their own,
    with their clients outside; the C tests, leaks too. A selection of one's own is of the first.
    """
    build(tree, {"FASTWS_DEBUG": "1"})
    (tree / "reports").mkdir()
    memcheck = [*MEMCHECK, f"--log-file={tree}/reports/%p.txt"]
    memcheck += [f"--suppressions={tree}/tests/valgrind.supp"]
    inside = [*memcheck, sys.executable, *PYTEST, *(arguments or in_process(tree))]
    results = {"in the process": run(tree, inside, UNDER_MEMCHECK)}
    if not arguments:
        servers = [sys.executable, *PYTEST, *OUTSIDE]
        under = UNDER_MEMCHECK | {"FASTWS_SERVER_UNDER": shlex.join(memcheck)}
        results["servers, clients outside"] = run(tree, servers, under)
        results["the C tests"] = native_memcheck(tree, memcheck)
    # Whatever became of the process: also of one that a test kills, whose status tells nothing.
    found = [text for path in sorted(tree.glob("reports/*.txt")) if (text := path.read_text())]
    print(*found, sep="\n")
    for name, status in results.items():
        print(f"memcheck, {name}: {f'failed, status {status}' if status else 'passed'}")
    print(f"memcheck reported something in {len(found)} processes")
    return 1 if found or any(results.values()) else 0


def in_process(tree: Path) -> list[str]:
    """Arguments of pytest: the files whose tests need no other process, without SLOWED."""
    hostile = ("liveness", "soak")
    names = [f"tests/hostile/test_{name}_rows.py" for name in hostile]
    found = sorted(path.stem for path in (tree / "tests").glob("test_*.py"))
    names += [f"tests/{name}.py" for name in found if name not in NOT_IN_PROCESS]
    return [*names, *(f"--deselect=tests/{name}" for name in SLOWED)]


def native_memcheck(tree: Path, memcheck: Sequence[str]) -> int:
    """Each program that CTest would run; the number of those that failed."""
    native_build(tree)
    listing = ["ctest", "--test-dir", "native", "--show-only=json-v1"]
    shown = subprocess.run(listing, cwd=tree, check=True, capture_output=True).stdout
    tests, failed = json.loads(shown)["tests"], []
    for test in tests:
        command = [*memcheck, *LEAKS, *test["command"], *FEWER.get(test["name"], [])]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            failed.append(test["name"])
    print(f"{len(tests)} C programs{', failed: ' if failed else ''}{', '.join(failed)}")
    return len(failed)


INSTRUMENTS = {"coverage": coverage, "sanitized": sanitized, "valgrind": valgrind}

if __name__ == "__main__":
    sys.exit(main())
