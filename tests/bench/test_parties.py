"""Whom `fastws ceiling` names when it is known who limits: server, generator or network."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from surroundings import INSTRUMENTED

from fastws.bench import ceiling_report
from fastws.bench.ceiling import Ceiling, CeilingOptions, CeilingRun, Step
from fastws.bench.children import ServerChild

CPU_CGROUPS = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")
PERIOD_US = 20_000  # of a quota, and of a duty cycle
TENTH = PERIOD_US // 10
IN_A_NAMESPACE = ["unshare", "--net", "sh", "-c"]
# The loopback device carries 64 KiB packets; a smaller burst would let none of them through.
LINK_OF_40_MBIT = (
    "ip link set lo up && tc qdisc add dev lo root tbf rate 40mbit burst 128kb latency 50ms"
)
FASTWS = f"{sys.executable} -m fastws"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(INSTRUMENTED, reason="the rates are not what they are elsewhere"),
]

# Stops a process for nine tenths of the time, until it ends.
HOLD = f"""
import os, signal, sys, time
pid = int(sys.argv[1])
try:
    while True:
        os.kill(pid, signal.SIGSTOP)
        time.sleep({(PERIOD_US - TENTH) / 1e6})
        os.kill(pid, signal.SIGCONT)
        time.sleep({TENTH / 1e6})
except ProcessLookupError:
    pass
"""

Hold = Callable[[int], None]  # holds the process of that id to a tenth of a core


class CannotHold(Exception):
    """The kernel does not let us."""


def quota_group(name: str) -> Path:
    """Make a control group whose processes get a tenth of a core, in version 1 or 2."""
    for root in CPU_CGROUPS:
        group = root / name
        try:
            group.mkdir()
            if (group / "cpu.cfs_quota_us").exists():
                (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                (group / "cpu.cfs_quota_us").write_text(str(TENTH))
            else:
                (group / "cpu.max").write_text(f"{TENTH} {PERIOD_US}")
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        return group
    raise CannotHold("no control group with a quota can be made")


@pytest.fixture
def by_quota() -> Iterator[Hold]:
    """Hold processes by a quota of the kernel's scheduler."""
    try:
        group = quota_group(f"fastws-test-{os.getpid()}")
    except CannotHold as error:
        pytest.skip(str(error))
    yield lambda pid: (group / "cgroup.procs").write_text(str(pid)) and None
    group.rmdir()


@pytest.fixture
def by_signals() -> Iterator[Hold]:
    """Hold processes by SIGSTOP and SIGCONT."""
    holders: list[subprocess.Popen[bytes]] = []
    yield lambda pid: holders.append(subprocess.Popen([sys.executable, "-c", HOLD, str(pid)]))
    for holder in holders:
        holder.kill()
        holder.wait()


def ceiling_with(
    hold: Hold, monkeypatch: pytest.MonkeyPatch, servers: tuple[int, ...]
) -> tuple[Ceiling, list[Step]]:
    """Measure the native client; the first server (calibration), the second or both are held."""
    made: list[ServerChild] = []

    class Held(ServerChild):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            made.append(self)
            if len(made) in servers:
                hold(self.process.pid)

        def end(self) -> None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
            super().end()

    monkeypatch.setattr("fastws.bench.ceiling.ServerChild", Held)
    steps: list[Step] = []
    found = CeilingRun(CeilingOptions(builtin="native", budget=40), steps.append).run()
    assert len(made) == 2
    return found, steps


def test_a_server_with_a_quota_of_a_tenth_of_a_core_is_named(
    by_quota: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = ceiling_with(by_quota, monkeypatch, servers=(1, 2))
    assert found.rate > 0
    assert found.limited_by == "server"


def test_a_server_that_is_stopped_for_most_of_the_time_is_named(
    by_signals: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _ = ceiling_with(by_signals, monkeypatch, servers=(1, 2))
    assert found.rate > 0
    assert found.limited_by == "server"


def test_a_starved_generator_is_named_and_its_trials_are_invalid(
    by_signals: Hold, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It loses its core only after the calibration, which so says what it could do."""
    found, steps = ceiling_with(by_signals, monkeypatch, servers=(2,))
    assert found.rate > 0
    assert found.limited_by == "generator"
    late = [step.trial for step in steps if step.trial and step.trial.judgement == "invalid"]
    assert late
    assert all("the generator was late" in trial.why for trial in late)
    assert "limited by generator" in "\n".join(ceiling_report.summary(found))


def can_limit_a_link() -> bool:
    if not all(map(shutil.which, ("unshare", "ip", "tc"))):
        return False
    return not subprocess.run([*IN_A_NAMESPACE, LINK_OF_40_MBIT], capture_output=True).returncode


def test_a_link_of_40_mbit_is_named() -> None:
    if not can_limit_a_link():
        pytest.skip("no network namespace with a rate limit can be made")
    command = f"{LINK_OF_40_MBIT} && exec {FASTWS} ceiling --builtin native --budget 40 --json -"
    done = subprocess.run([*IN_A_NAMESPACE, command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["limitedBy"] == "network", done.stderr
    assert found["ceiling"] == pytest.approx(40e6 / 8 / 58, rel=0.15)
