"""The C tests: each program of tests/native is built by CMake and is a test of its own here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = sorted(path.stem for path in (ROOT / "tests/native").glob("test_*.c"))
FUZZ_TARGETS = sorted(path.stem[5:] for path in (ROOT / "tests/fuzz").glob("fuzz_*.c"))
SANITIZERS = "address,undefined"


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


@pytest.fixture(scope="session", params=["plain", "sanitized"])
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configured build directory, with and without the compiler's sanitizers."""
    directory = tmp_path_factory.mktemp(f"native_{request.param}")
    sanitizers = SANITIZERS if request.param == "sanitized" else ""
    configure = [tool("cmake"), "-S", str(ROOT), "-B", str(directory), "-G", "Ninja"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DFASTWS_SANITIZE={sanitizers}"]
    must_succeed(configure, timeout=60)
    return directory


def test_there_are_c_tests() -> None:
    assert PROGRAMS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", PROGRAMS)
def test_c_program_passes(program: str, build: Path) -> None:
    must_succeed([tool("cmake"), "--build", str(build), "--target", program], timeout=180)
    must_succeed([str(build / program)], timeout=100)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", FUZZ_TARGETS)
def test_fuzz_target_holds_for_its_corpus(target: str, build: Path) -> None:
    replay = f"replay_{target}"
    must_succeed([tool("cmake"), "--build", str(build), "--target", replay], timeout=180)
    must_succeed([str(build / replay), str(ROOT / "tests/fuzz/corpus" / target)], timeout=100)
