"""The C tests: each program of tests/native is built by CMake and is a test of its own here."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(path.stem for path in (ROOT / "tests/native").glob("test_*.c"))
FUZZ_TARGETS = sorted(path.stem[5:] for path in (ROOT / "tests/fuzz").glob("fuzz_*.c"))
SANITIZERS = "address,undefined"
LONG = ("test_engine_model", "replay_engine", "test_engine_deflate")  # they begin first


def tool(name: str) -> str:
    """The path of a program, rather from this Python's environment than from elsewhere."""
    beside_python = str(Path(sys.executable).parent)
    path = shutil.which(name, path=os.pathsep.join([beside_python, os.environ.get("PATH", "")]))
    assert path, f"{name} is missing: pip install -e '.[test]' brings it"
    return path


def must_succeed(command: list[str], timeout: float) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}status {done.returncode}", pytrace=False)
    return done.stdout


class Programs:
    """What the tests of one build need of it: built at once, run side by side."""

    def __init__(self, directory: Path, commands: dict[str, list[str]]) -> None:
        build = [tool("cmake"), "--build", str(directory), "--target", *commands]
        must_succeed(build, timeout=240)
        self._pool = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)))
        self._done = {
            name: self._pool.submit(must_succeed, [str(directory / name), *arguments], 200)
            for name, arguments in sorted(commands.items(), key=lambda each: each[0] not in LONG)
        }

    def passes(self, name: str) -> None:
        self._done[name].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def replay(target: str) -> str:
    return f"replay_{target}"


def asked_for(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """The programs of this run's tests that use this build, and their arguments."""
    commands = {}
    for item in request.session.items:
        values = getattr(getattr(item, "callspec", None), "params", {})
        if item.path != Path(__file__) or values.get("programs") != request.param:
            continue
        if "target" in values:
            commands[replay(values["target"])] = [
                str(ROOT / "tests/fuzz/corpus" / values["target"])
            ]
        else:
            commands[values["program"]] = []
    return commands


@pytest.fixture(scope="session", params=["plain", "sanitized"])
def programs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Programs]:
    """The programs with and without the compiler's sanitizers, running."""
    directory = tmp_path_factory.mktemp(f"native_{request.param}")
    sanitizers = SANITIZERS if request.param == "sanitized" else ""
    configure = [tool("cmake"), "-S", str(ROOT), "-B", str(directory), "-G", "Ninja"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DFASTWS_SANITIZE={sanitizers}"]
    must_succeed(configure, timeout=60)
    built = Programs(directory, asked_for(request))
    yield built
    built.close()


def test_there_are_c_tests() -> None:
    assert PROGRAMS


@pytest.mark.timeout(400)
@pytest.mark.parametrize("program", PROGRAMS)
def test_c_program_passes(program: str, programs: Programs) -> None:
    programs.passes(program)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", FUZZ_TARGETS)
def test_fuzz_target_holds_for_its_corpus(target: str, programs: Programs) -> None:
    programs.passes(replay(target))
