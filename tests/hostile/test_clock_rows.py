"""X36, X37: a wall clock that jumps, a process that was not scheduled."""

import json
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest
from surroundings import SANITIZED
from test_faults_rows import started
from wire import BINARY, TEXT, Wire, request

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

needs_faketime = pytest.mark.skipif(
    SANITIZED or not FAKETIME.exists(),
    reason="libfaketime hangs under a sanitizer" if SANITIZED else "needs libfaketime",
)


# libfaketime takes the time of every timerfd for one of the wall clock.
MONOTONIC_TIMERS = """
#include <sys/syscall.h>
#include <unistd.h>
struct itimerspec;
int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    return (int)syscall(SYS_timerfd_settime, fd, flags, value, old);
}
"""


def faked(clock: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is ahead by what that file says."""
    clock.write_text("+0")
    timers = clock.with_suffix(".so")
    compiler = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(timers)]
    subprocess.run(compiler, input=MONOTONIC_TIMERS, text=True, check=True)
    return {
        "LD_PRELOAD": f"{timers} {FAKETIME}",
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@needs_faketime
@pytest.mark.hostile("X36")
@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_a_wall_clock_that_jumps_a_day_ends_nobody(tmp_path: Path, jump: int) -> None:
    clock = tmp_path / "clock"
    with started(tmp_path, environment=faked(clock)) as place:
        wires = [place.open() for _ in range(10)]
        silent = place.dial()
        for wire in wires:
            wire.round_trip(TEXT, b"before")
        clock.write_text(f"{jump:+}")
        began = time.monotonic()
        while time.monotonic() < began + 1:
            for wire in wires:
                wire.round_trip(TEXT, b"afterwards")  # neither a ping nor a Close
        assert silent.is_open()


@needs_faketime
@pytest.mark.hostile("X36")
@pytest.mark.parametrize("jump", [86_400, -86_400])
def test_a_wall_clock_that_jumps_a_day_changes_no_pace(tmp_path: Path, jump: int) -> None:
    rate, clock = 2000, tmp_path / "clock"
    options = ("--rate", str(rate), "--format", "binary", "--fields", "seq")
    with started(tmp_path, program="serve", options=options, environment=faked(clock)) as place:
        wire, silent = place.open(), place.dial()
        first, due, _ = tick(wire)
        clock.write_text(f"{jump:+}")
        began = time.monotonic()
        seqs, last_due = [first], due
        while time.monotonic() < began + 3:
            seq, last_due, opcode = tick(wire)
            assert opcode == BINARY  # neither a ping nor a Close
            seqs.append(seq)
        passed = (last_due - due) / 1e9 - jump  # by its ticks, however late this client reads
        assert abs(passed - (time.monotonic() - began)) < 2, "its clock has not jumped"
        assert seqs == list(range(first, first + len(seqs))), "a hole"
        pace = (len(seqs) - 1) / passed
        assert abs(pace / rate - 1) < 0.1, f"{pace:.0f} a second"
        stats = place.ask(request(line="GET /stats HTTP/1.1", without=("Upgrade", "Connection")))
        assert json.loads(stats.body)["server"]["pacing"]["missed"] == 0
        assert silent.is_open()


def tick(wire: Wire) -> tuple[int, int, int]:
    """The next tick's number, when it was due (ns by the server's clock), and its opcode."""
    opcode, payload = wire.frame()
    return *struct.unpack_from("<Qq", payload, 20), opcode


@pytest.mark.hostile("X37")
def test_a_process_that_was_stopped_does_not_take_its_clients_for_dead(tmp_path: Path) -> None:
    with started(tmp_path) as place:
        wires = [place.open() for _ in range(50)]
        half = place.dial()
        half.send(request()[:40])
        place.process.send_signal(signal.SIGSTOP)
        time.sleep(11)  # longer than a handshake may take
        place.process.send_signal(signal.SIGCONT)
        half.send(request()[40:])
        half.switched()
        for wire in wires:
            wire.round_trip(TEXT, b"still there")
