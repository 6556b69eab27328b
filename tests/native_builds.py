"""Builds of the C tests by CMake, one of each kind in a run of pytest."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SANITIZERS = {"plain": "", "sanitized": "address,undefined"}
DIRECTORIES: dict[str, Path] = {}
# A copy: pytest sets a variable for each test while other threads start programs, and one that was
# started with the process's own environment failed with EFAULT.
ENVIRONMENT = dict(os.environ)


def tool(name: str) -> str:
    """The path of a program, rather from this Python's environment than from elsewhere."""
    beside_python = str(Path(sys.executable).parent)
    path = shutil.which(name, path=os.pathsep.join([beside_python, os.environ.get("PATH", "")]))
    assert path, f"{name} is missing: pip install -e '.[test]' brings it"
    return path


def must_succeed(command: list[str], timeout: float) -> str:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        env=ENVIRONMENT,
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}\n{done.stdout}status {done.returncode}", pytrace=False)
    return done.stdout


def configured(kind: str, folders: pytest.TempPathFactory) -> Path:
    """The build directory of that kind, configured once in a run."""
    if kind in DIRECTORIES:
        return DIRECTORIES[kind]
    directory = folders.mktemp(f"native_{kind}")
    configure = [tool("cmake"), "-S", str(ROOT), "-B", str(directory), "-G", "Ninja"]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", f"-DFASTWS_SANITIZE={SANITIZERS[kind]}"]
    must_succeed(configure, timeout=60)
    DIRECTORIES[kind] = directory
    return directory


def built(kind: str, folders: pytest.TempPathFactory, *targets: str) -> Path:
    """The build directory of that kind, in which these targets are up to date."""
    directory = configured(kind, folders)
    must_succeed([tool("cmake"), "--build", str(directory), "--target", *targets], timeout=300)
    return directory
