"""`fastws serve` between a signal and its end: the signal comes again."""

import signal
import subprocess
import time

import pytest
from support import CLOSE, PATIENCE
from test_cli import connected, serving, wait_for

from fastws.server.running import SAME_SIGNAL


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_second_signal_ends_it_at_once_and_a_copy_of_the_first_one_does_not(loop: str) -> None:
    with serving("--loop", loop) as (process, port, _), connected(port) as peer:
        process.send_signal(signal.SIGTERM)
        wait_for(peer, CLOSE)  # and does not answer
        process.send_signal(signal.SIGTERM)  # as `timeout` does it
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5 * SAME_SIGNAL)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
        assert time.monotonic() - began < 3  # it would have waited for 5
