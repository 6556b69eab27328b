"""Programs that are started as a user starts them, and ended with Ctrl-C."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from surroundings import UNDER

PATIENCE = 20.0  # seconds that a program may take to end
INTERRUPTED = (0, 130)


@contextmanager
def running(program: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address that a program prints last in its first line, and its process.

    At the end Ctrl-C must end it, with a good status and nothing on stderr.
    """
    process = subprocess.Popen(
        [*UNDER, sys.executable, "-u", str(program), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=program.parent,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), process.communicate(timeout=PATIENCE)
        yield line.split()[-1], process
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode in INTERRUPTED, errors
    assert errors == "", errors
