"""What the tests of `fastws bench` share."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts `fastws serve` with options; returns its URL."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", "fastws", "serve", "--port", "0", *options],
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout is not None
        found = re.search(r"ws://[\d.]+:\d+", process.stdout.readline())
        assert found
        return found[0]

    yield start
    for process in running:
        process.terminate()
        process.communicate(timeout=20)
