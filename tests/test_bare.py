"""The bare C loop of the benchmarks: it speaks to `fastws bench` as a server does."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastws.bench.measurement import BenchOptions
from fastws.bench.run import Bench
from fastws.client.url import parse_url

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program, under the compiler's sanitizers."""
    path = tmp_path_factory.mktemp("bare") / "bare"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-Wshadow", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run([*command, "-o", path, BENCHMARKS / "native/bare.c"], check=True, timeout=60)
    return path


@pytest.mark.parametrize("clients", [1, 7])
@pytest.mark.parametrize("mode", ["single", "run"])
@pytest.mark.parametrize("lowat", [0, 16_384])
def test_the_bare_loop_sends_whole_good_frames_until_all_have_closed(
    program: Path, lowat: int, mode: str, clients: int
) -> None:
    command = [sys.executable, str(BENCHMARKS / "bare.py"), "--program", str(program)]
    command += ["--port", "0", "--mode", mode, "--clients", str(clients), "--seconds", "30"]
    command += ["--lowat", str(lowat)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as bare:
        assert bare.stderr is not None
        url = re.search(r"ws://\S+", bare.stderr.readline())
        assert url
        measured = Bench(BenchOptions(parse_url(url[0]), clients, 0.3, 0.0)).run()
        printed, complaints = bare.communicate(timeout=30)
    assert bare.returncode == 0, complaints
    assert measured.failures == []
    sent = json.loads(printed)
    assert list(sent) == ["frames", "bytes", "sends", "seconds", "frames_per_s"]
    assert sent["frames"] >= measured.frames
    assert sent["seconds"] < 25
    assert sent["bytes"] > 47 * sent["frames"]
    if mode == "run":
        assert sent["frames"] > 5 * sent["sends"]
    else:
        assert sent["frames"] <= sent["sends"]


def test_the_bare_loop_says_what_is_missing(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "bare.py"), "--program", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert "make bench-c" in done.stderr
