"""`fastws ceiling` on real servers and clients: what it finds, and whom it names."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from surroundings import INSTRUMENTED

from fastws.bench import ceiling_report
from fastws.bench.ceiling import CeilingOptions, CeilingRun, Step
from fastws.bench.children import Child, ServerChild, builtin, command_of, cores, unlimited
from fastws.bench.trials import DRAIN_TIMEOUT, NoClient, Trials
from fastws.bench.verdict import Limits
from fastws.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
SLOW = Path(__file__).with_name("slow_client.py")
FASTWS = [sys.executable, "-m", "fastws", "ceiling"]


def spawn_slow(rate: int) -> str:
    return f"{sys.executable} {SLOW} {{url}} {rate}"


@pytest.mark.slow
@pytest.mark.skipif(INSTRUMENTED, reason="the client's sleeps are not exact there")
@pytest.mark.timeout(150)
@pytest.mark.parametrize("known", [420, 1700])
def test_a_known_ceiling_is_found_within_five_percent(
    known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = CeilingRun(CeilingOptions(spawn=spawn_slow(known), budget=80)).run()
    assert found.found.confirmed
    assert found.rate == pytest.approx(known, rel=0.05)
    assert found.client_id == "slow"
    assert found.limited_by == "client"
    assert found.headroom is not None
    assert found.headroom > 100
    assert found.found.saturated_rate == pytest.approx(known, rel=0.05)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_command_prints_and_writes_what_it_found(tmp_path: Path) -> None:
    arguments = ["--builtin", "native", "--format", "binary", "--clients", "2", "--budget", "20"]
    files = ["--json", str(tmp_path / "all.json"), "--results", str(tmp_path)]
    done = subprocess.run([*FASTWS, *arguments, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ceiling +[\d,]+/s \([\d,]+/s to each of 2\)", done.stdout, re.MULTILINE)
    assert re.search(r"^server +[\d,]+/s to a native sink, headroom ", done.stdout, re.MULTILINE)
    assert re.search(r"^ +1,000/s good: the backlog stayed flat", done.stderr, re.MULTILINE)
    phases = re.findall(r"^(\w.*) \(at most \d+ s left\)$", done.stderr, re.MULTILINE)
    assert phases[:3] == ["calibrating the server", "connecting", "searching"]
    assert phases[-1] == "drawing the curve"
    written = json.loads((tmp_path / "all.json").read_bytes())
    assert written["ceiling"] >= 2000
    assert (written["client"], written["format"], written["clients"]) == ("native", "binary", 2)
    assert written["trials"][0]["judgement"] == "good"
    benchmark, comparison = (next(tmp_path.glob(f"{name}-*")) for name in ("bench*", "comp*"))
    (row,) = json.loads(benchmark.read_bytes())["results"]
    assert row["mode"] == "native"
    assert row["efficiency"] == pytest.approx(100, abs=20)  # of a trial of a second
    (row,) = json.loads(comparison.read_bytes())["results"]
    assert (row["mode"], row["format"]) == ("native", "binary")


@pytest.mark.slow
def test_a_client_may_connect_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    clients: list[Child] = []

    def connect(url: str) -> None:
        clients.append(Child([sys.executable, str(SLOW), url, "700"], cores()[1]))

    options = CeilingOptions(client_id="slow", budget=20, precision=20, port=0)
    try:
        found = CeilingRun(options, waiting=connect).run()
    finally:
        for client in clients:
            client.end()
    assert (found.client_id, len(clients)) == ("slow", 1)
    assert 250 <= found.rate <= 700 * 1.05


@pytest.mark.slow
def test_ctrl_c_says_what_is_known_so_far() -> None:
    with subprocess.Popen(
        [*FASTWS, "--builtin", "native", "--budget", "60", "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "4,000/s good" in line:
                break
        running.send_signal(signal.SIGINT)
        printed, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    written = json.loads(printed)
    assert written["interrupted"]
    assert written["ceiling"] >= 1000


@pytest.mark.slow
def test_a_server_held_to_a_hundredth_of_a_core_publishes_late() -> None:
    """SIGSTOP for most of the time stands for a quota: the trial is invalid, not bad."""
    server = ServerChild("json")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(server.process.pid)])
    trials = Trials(server, Limits(), lambda: [builtin("native", server.port, 1, "native")], None)
    try:
        trial = trials(20_000_000, 2.0)
    finally:
        holder.kill()
        holder.wait()
        os.kill(server.process.pid, signal.SIGCONT)
        trials.close()
        server.end()
    assert trial.judgement == "invalid"
    assert "the generator" in trial.why


HOLD = """
import os, signal, sys, time
while True:
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    time.sleep(0.045)
    os.kill(int(sys.argv[1]), signal.SIGCONT)
    time.sleep(0.005)
"""


def test_a_client_that_leaves_is_started_again() -> None:
    server = ServerChild("binary")
    trials = Trials(
        server, Limits(frame_bytes=22), lambda: [builtin("native", server.port, 1, "native")], None
    )
    try:
        assert trials(1000, 0.5).judgement == "good"
        before = trials.children[0]
        before.end()
        assert trials(1000, 0.5).judgement == "good"
        assert trials.children[0] is not before
    finally:
        trials.close()
        server.end()
    assert server.status is not None


@pytest.mark.slow
@pytest.mark.skipif(INSTRUMENTED, reason="the server does not publish so much there")
def test_a_pause_of_the_client_drops_nothing() -> None:
    """23 MB wait for it, at 4,000,000 ticks a second: more than `fastws serve` keeps."""
    server = ServerChild("json")
    trials = Trials(server, Limits(), lambda: [builtin("native", server.port, 1, "native")], None)
    try:
        trials.connect()
        (client,) = trials.children
        trials.set_rate(4_000_000)
        os.kill(client.process.pid, signal.SIGSTOP)
        while (sample := trials.sample()).published - sample.delivered < 400_000:
            pass
        os.kill(client.process.pid, signal.SIGCONT)
        trials.set_rate(0)
        while sample.delivered < sample.published:
            sample = trials.sample()
        assert sample.dropped == 0
    finally:
        trials.close()
        server.end()


@pytest.mark.slow
def test_a_client_far_behind_is_started_again_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 100,000 ticks a second it takes 500: it would be at them for minutes."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    server = ServerChild("json")

    def start() -> list[Child]:
        url = f"ws://127.0.0.1:{server.port}"
        return [Child([sys.executable, str(SLOW), url, "500"], cores()[1])]

    trials = Trials(server, Limits(), start, None)
    try:
        assert trials(100_000, 1.0).judgement != "good"
        before = trials.children[0]
        began = time.monotonic()
        assert trials(200, 1.0).judgement == "good"
        assert trials.children[0] is not before
        assert time.monotonic() - began < DRAIN_TIMEOUT
    finally:
        trials.close()
        server.end()


@pytest.mark.parametrize(
    ("memory", "lag"), [(1 << 40, 1 << 30), (1 << 31, 1 << 28), (1 << 20, 1 << 24)]
)
def test_memory_bounds_how_far_a_client_may_be_behind(
    memory: int, lag: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.bench.children.available_memory", lambda: memory)
    options = unlimited()
    assert options[-4:] == ("--max-lag-bytes", str(lag), "--max-log-bytes", str(2 * lag))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "pass"], "the client ended with status 0 before it connected"),
        ([sys.executable, "-c", "import time; time.sleep(60)"], "0 connections of 1 after 1 s"),
    ],
)
def test_a_client_that_does_not_connect_is_one_line(command: list[str], said: str) -> None:
    server = ServerChild("json")
    trials = Trials(server, Limits(), lambda: [Child(command, cores()[1])], None, wait=1.0)
    try:
        with pytest.raises(NoClient, match=said):
            trials(1000, 0.5)
    finally:
        trials.close()
        server.end()


def test_a_run_without_a_client_says_so() -> None:
    steps: list[Step] = []
    options = CeilingOptions(spawn=f"{sys.executable} -c pass {{url}}", budget=20)
    with pytest.raises(NoClient, match="the client ended"):
        CeilingRun(options, steps.append).run()
    assert {step.phase for step in steps} == {"calibrating the server", "connecting"}


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("client", ["client", "--url", "ws://127.0.0.1:9"]),
        ("client {url} 'a b'", ["client", "ws://127.0.0.1:9", "a b"]),
        ("client -p {port} -t {seconds}", ["client", "-p", "9", "-t", "60"]),
    ],
)
def test_the_command_gets_the_address(text: str, command: list[str]) -> None:
    assert command_of(text, 9, 60.0) == command


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "client_id"),
        ({"client_id": ""}, "client_id"),
        ({"spawn": "a", "builtin": "native"}, "spawn"),
        ({"spawn": "'"}, "spawn"),
        ({"spawn": " "}, "spawn"),
        ({"builtin": "native", "clients": 0}, "clients"),
        ({"builtin": "native", "budget": 19}, "budget"),
        ({"builtin": "native", "budget": float("nan")}, "budget"),
        ({"builtin": "native", "precision": 0.4}, "precision"),
        ({"builtin": "native", "slo_p99_ms": 0.0}, "slo_p99"),
        ({"builtin": "native", "port": 65_536}, "port"),
        ({"builtin": "native", "start": 0}, "start"),
        ({"builtin": "native", "start": 100_000_001}, "start"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CeilingOptions(**options)  # type: ignore[arg-type]
    assert caught.value.field == said


def test_every_party_has_its_words() -> None:
    for party in ("client", "server", "network", "generator"):
        assert party in ceiling_report.REASONS[party]  # type: ignore[index]
