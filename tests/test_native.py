"""The C tests: each program of tests/native is built by CMake and is a test of its own here."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from native_builds import ROOT, built, must_succeed

PROGRAMS = sorted(path.stem for path in (ROOT / "tests/native").glob("test_*.c"))
FUZZ_TARGETS = sorted(path.stem[5:] for path in (ROOT / "tests/fuzz").glob("fuzz_*.c"))
LONG = ("test_engine_model", "replay_engine", "test_engine_deflate")  # they begin first
BATCH = 8  # programs that are built at once


class Programs:
    """What the tests of one build need of it: built in batches, run side by side, awaited singly.

    So no test waits for much more than its own program, on a machine that is busy too.
    """

    def __init__(self, build: Callable[..., Path], commands: dict[str, list[str]]) -> None:
        self._builder = ThreadPoolExecutor(max_workers=1)  # Ninja allows one at a time
        self._runners = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)))
        self._done: dict[str, Future[str]] = {}
        names = sorted(commands, key=lambda name: name not in LONG)
        for first in range(0, len(names), BATCH):
            batch = names[first : first + BATCH]
            directory = self._builder.submit(build, *batch)
            for name in batch:
                self._done[name] = self._runners.submit(run, directory, name, commands[name])

    def passes(self, name: str) -> None:
        self._done[name].result()

    def close(self) -> None:
        for pool in (self._builder, self._runners):
            pool.shutdown(cancel_futures=True)


def run(directory: Future[Path], name: str, arguments: list[str]) -> str:
    return must_succeed([str(directory.result() / name), *arguments], timeout=200)


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
    build = partial(built, request.param, tmp_path_factory)
    running = Programs(build, asked_for(request))
    yield running
    running.close()


def test_there_are_c_tests() -> None:
    assert PROGRAMS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("program", PROGRAMS)
def test_c_program_passes(program: str, programs: Programs) -> None:
    programs.passes(program)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", FUZZ_TARGETS)
def test_fuzz_target_holds_for_its_corpus(target: str, programs: Programs) -> None:
    programs.passes(replay(target))
