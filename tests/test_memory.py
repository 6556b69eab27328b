"""The budget of the logs: how much memory there is, and that the option reaches the engine."""

import os
from pathlib import Path

import pytest

from fastws import ConfigError, History, Limits, ServeOptions, TickFeed
from fastws.server import memory

MIB = 1 << 20


def test_available_memory_is_the_least_limit_of_the_group_and_those_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    own = tmp_path / "own"
    own.write_text("0::/system.slice/feed.service\n")
    monkeypatch.setattr(memory, "OWN_CGROUP", own)
    monkeypatch.setattr(memory, "CGROUP_ROOT", tmp_path / "cgroup")
    assert memory.available_memory() == machine  # there are no files
    service = tmp_path / "cgroup/system.slice/feed.service"
    service.mkdir(parents=True)
    (service / "memory.max").write_text("max\n")
    assert memory.available_memory() == machine
    (service.parent / "memory.max").write_text(f"{64 * MIB}\n")
    assert memory.available_memory() == 64 * MIB
    (service / "memory.max").write_text(f"{32 * MIB}\n")
    assert memory.available_memory() == 32 * MIB


def test_available_memory_knows_limits_of_cgroup_version_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.write_text("12:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n")
    monkeypatch.setattr(memory, "OWN_CGROUP", own)
    monkeypatch.setattr(memory, "CGROUP_ROOT", tmp_path)
    group = tmp_path / "memory/docker/1"
    group.mkdir(parents=True)
    (group / "memory.limit_in_bytes").write_text(f"{48 * MIB}\n")
    assert memory.available_memory() == 48 * MIB


@pytest.mark.parametrize(
    ("available", "budget"),
    [(1 * MIB, MIB), (80 * MIB, 10 * MIB), (2048 * MIB, 256 * MIB), (1 << 50, 256 * MIB)],
)
def test_default_budget_is_an_eighth_of_the_memory_and_at_most_256_mib(
    available: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    assert memory.memory_budget("max_log_bytes", None) == budget
    assert memory.memory_budget("max_log_bytes", 3 * MIB) == 3 * MIB
    with pytest.raises(ConfigError, match="max_log_bytes: must be an integer from 1,048,576 to"):
        memory.memory_budget("max_log_bytes", MIB - 1)


def test_option_of_serve_bounds_the_logs() -> None:
    feed = TickFeed(ServeOptions(limits=Limits(max_log_bytes=MIB)))
    topic = feed.server.topic("x", history=History(bytes=100 * MIB))
    for _ in range(64):
        topic.publish(bytes(60_000))
    assert 0 < topic.account()["retained_bytes"] < MIB
    feed.close()
