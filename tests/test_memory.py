"""The budget of the logs: how much memory there is, and that the option reaches the engine."""

import os
from pathlib import Path

import pytest

from fastws import ConfigError, History, ServeOptions, TickFeed, memory

MIB = 1 << 20


def test_available_memory_is_the_least_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    none, some = tmp_path / "none", tmp_path / "some"
    none.write_text("max\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (str(none), str(tmp_path / "missing")))
    assert memory.available_memory() == machine
    some.write_text(f"{64 * MIB}\n")
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (str(none), str(some)))
    assert memory.available_memory() == 64 * MIB


@pytest.mark.parametrize(
    ("available", "budget"),
    [(1 * MIB, MIB), (80 * MIB, 10 * MIB), (2048 * MIB, 256 * MIB), (1 << 50, 256 * MIB)],
)
def test_default_budget_is_an_eighth_of_the_memory_and_at_most_256_mib(
    available: int, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    assert memory.log_budget(None) == budget
    assert memory.log_budget(3 * MIB) == 3 * MIB
    with pytest.raises(ConfigError, match="max_log_bytes: must be an integer from 1,048,576 to"):
        memory.log_budget(MIB - 1)


def test_option_of_serve_bounds_the_logs() -> None:
    feed = TickFeed(ServeOptions(max_log_bytes=MIB))
    topic = feed.server.topic("x", history=History(bytes=100 * MIB))
    for _ in range(64):
        topic.publish(bytes(60_000))
    assert 0 < topic.account()["retained_bytes"] < MIB
    feed.close()
