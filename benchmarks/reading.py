"""What slow_readers.py, crowd.py and others share: publisher.py and native/readers as processes."""

import json
import math
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving import CLIENT_CORE, SERVER_CORE, STOP_TIMEOUT

FOLDER = Path(__file__).resolve().parent
READERS = FOLDER.parent / "build/release/readers"
Figures = dict[str, Any]


class Asked:
    """A process that answers each line of its standard input with one line of JSON."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args} left with {self.process.wait(STOP_TIMEOUT)}")
        return line

    def ask(self) -> Figures:
        """Return the figures since it was asked last."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return dict(json.loads(self.line()))


@contextmanager
def asked(command: Sequence[str], core: int) -> Iterator[Asked]:
    """Run it on that core; it ends with its standard input, and is waited for."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Asked(process)
    finally:
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


@contextmanager
def publishing(python: str, *options: str) -> Iterator[tuple[Asked, int]]:
    """Run publisher.py on the server's core; yield it and its port."""
    with asked([python, str(FOLDER / "publisher.py"), *options], SERVER_CORE) as server:
        found = re.search(r":(\d+)$", server.line().strip())
        assert found is not None, "the server did not start"
        yield server, int(found[1])


@contextmanager
def reading(program: Path, port: int, connections: int, *options: object) -> Iterator[Asked]:
    """Open so many connections from a process of their own on the client's core."""
    command = [str(program), "--port", str(port), "--connections", str(connections)]
    with asked([*command, *map(str, options)], CLIENT_CORE) as readers:
        assert readers.line() == "ready\n"
        yield readers


def spread(values: Sequence[float]) -> str:
    """Return the median, the least and the largest of numbers that are known."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "-"
    return f"{statistics.median(known):.3f} [{min(known):.3f}-{max(known):.3f}]"
