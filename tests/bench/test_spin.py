"""`fastws bench --spin`: a client that never sleeps."""

import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from fastws.bench.measurement import BenchOptions
from fastws.bench.run import Bench
from fastws.client.url import parse_url


@pytest.fixture
def url() -> Iterator[str]:
    """Runs a server of 2,000 ticks a second."""
    command = [sys.executable, "-m", "fastws", "serve", "--rate", "2000", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"ws://[\d.:]+", server.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            server.send_signal(signal.SIGINT)


def test_a_client_that_spins_gives_its_core_up_for_no_frame(url: str) -> None:
    waits = {False: 0, True: 0}
    for spin in waits:
        options = BenchOptions(parse_url(url), duration=0.5, warmup=0.0, spin=spin)
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        measured = Bench(options).run()
        waits[spin] = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before
        assert measured.failures == []
        assert measured.frames > 0
    assert waits[True] < waits[False] / 4
