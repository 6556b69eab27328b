"""X: faults of the system around a server process: system calls, descriptors, signals."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import LISTENING, ROOT, Place, command
from surroundings import UNDER
from test_load_rows import reset
from wire import BINARY, CLOSE, CLOSE_TIMEOUT, PATIENCE, TEXT, Wire, frame, request

from fastws.server.running import SAME_SIGNAL

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(STRACE is None, reason="needs strace")


@contextmanager
def started(
    directory: Path,
    *prefix: str,
    program: str = "echo",
    options: tuple[str, ...] = (),
    stdout: int = subprocess.PIPE,
    files: int = 0,
    environment: dict[str, str] | None = None,
    ends: bool = False,
) -> Iterator[Place]:
    """A server process on 127.0.0.1, started by another command or within a limit of files."""

    def limit() -> None:
        if files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    log_path, place = directory / "log", None
    run = command(program, "uvloop", "tcp4", directory / "unused", *options)
    with (
        log_path.open("w") as log,
        subprocess.Popen(
            [*prefix, *run],
            stdout=stdout,
            stderr=log,
            text=True,
            cwd=ROOT,
            env=os.environ | (environment or {}),
            preexec_fn=limit,
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            found = LISTENING.match(line)
            port = int(found["port"]) if found else 0
            assert port or stdout != subprocess.PIPE, log_path.read_text()
            place = Place(process, "uvloop", "tcp4", ("127.0.0.1", port), log_path)
            yield place
            place.clean_up()
            assert ends or process.poll() is None, "it has ended"
        finally:
            process.kill()
            for wire in place.wires if place else []:
                wire.close()


def injected(directory: Path, *faults: str) -> list[str]:
    """The command in front; the server stays the process that is started (-D)."""
    assert STRACE
    quiet = [STRACE, "-D", "-f", "-qq", "-o", str(directory / "strace")]
    calls = ",".join(fault.split(":")[0] for fault in faults)
    inject = [part for fault in faults for part in ("-e", f"inject={fault}")]
    return [*quiet, "-e", f"trace={calls}", *inject]


@needs_strace
@pytest.mark.hostile("X23", "X13")
@pytest.mark.parametrize("error", ["ECONNABORTED", "EPROTO", "EPERM", "EINTR", "ENOBUFS"])
def test_accept_that_fails_is_tried_again(tmp_path: Path, error: str) -> None:
    with started(tmp_path, *injected(tmp_path, f"accept4:error={error}:when=1..3")) as place:
        began = time.monotonic()
        for _ in range(4):
            place.open().round_trip(TEXT, b"hello")
        assert time.monotonic() - began < 5
        assert (tmp_path / "strace").read_text().count("(INJECTED)") == 3


@needs_strace
@pytest.mark.hostile("X22")
@pytest.mark.parametrize("error", ["EMFILE", "ENFILE"])
def test_accept_without_descriptors_goes_on_within_a_second(tmp_path: Path, error: str) -> None:
    with started(tmp_path, *injected(tmp_path, f"accept4:error={error}:when=1..3")) as place:
        began, verdicts = time.monotonic(), []
        while verdicts[-1:] != [101]:
            wire = place.dial()
            wire.send(request())
            verdicts.append(wire.answer().status)
        assert set(verdicts) <= {101, 503}  # by the descriptor held in reserve
        assert time.monotonic() - began < 2
        wire.round_trip(TEXT, b"hello")
        assert "(INJECTED)" in (tmp_path / "strace").read_text()


@needs_strace
@pytest.mark.hostile("X13")
def test_interrupted_calls_are_made_again(tmp_path: Path) -> None:
    faults = injected(
        tmp_path,
        "sendmsg,sendto:error=EINTR:when=1+3",
        "recvfrom:error=EINTR:when=1+3",
        "accept4:error=EINTR:when=1+3",
    )
    with started(tmp_path, *faults) as place:
        for i in range(20):
            wire = place.open()
            for size in (0, 1, 126, 70_000):
                wire.round_trip(TEXT, b"%d" % i + b"x" * size)


@needs_strace
@pytest.mark.hostile("X12", "X14")
@pytest.mark.parametrize("error", ["EPIPE", "ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENOBUFS"])
def test_a_send_that_fails_ends_one_client_at_most(tmp_path: Path, error: str) -> None:
    fault = f"sendmsg,sendto:error={error}:when=12"
    with started(tmp_path, *injected(tmp_path, fault), program="fanout") as place:
        wires = [place.open() for _ in range(10)]
        wires[0].send(frame(TEXT, b"first"))  # sends 11 to 19
        ended = 0
        for wire in wires[1:]:
            try:
                wire.echoes(TEXT, b"first")
            except AssertionError:
                assert wire.ended
                ended += 1
        assert ended == (error != "ENOBUFS")
        assert (tmp_path / "strace").read_text().count("(INJECTED)") == 1


@pytest.mark.hostile("X22")
def test_a_limit_of_files_is_met_with_503_and_without_a_busy_loop(tmp_path: Path) -> None:
    with started(tmp_path, files=100) as place:
        wires: list[Wire] = []
        for _ in range(150):
            wires.append(place.dial())
            wires[-1].send(request())
        verdicts = [wire.answer().status for wire in wires[:60]]
        assert 101 in verdicts
        assert 503 in verdicts
        used, began = place.cpu_seconds(), time.monotonic()
        time.sleep(2)
        share = (place.cpu_seconds() - used) / (time.monotonic() - began)
        assert share < 0.05, f"{share:.0%} of a processor for nothing"
        place.clean_up()
        began = time.monotonic()
        verdict = 0
        while verdict != 101:  # those in the backlog go first
            assert time.monotonic() - began < 5
            wire = place.dial()
            wire.send(request())
            while not wire.buffer and not wire.ended:
                wire.more()
            verdict = wire.answer().status if wire.buffer else 0
        assert place.log().count("\n") <= time.monotonic() - began + 3, place.log()


@pytest.mark.hostile("X15")
def test_broken_pipes_do_not_kill_it_even_without_a_console(tmp_path: Path) -> None:
    with started(tmp_path, program="serve", options=("--rate", "5000")) as place:
        assert place.process.stdout is not None
        place.process.stdout.close()
        for _ in range(30):
            wire = place.open()
            wire.frame()
            reset(wire)
        wire = place.open()
        began = time.monotonic()
        while time.monotonic() < began + 2.2:  # two rows of the console, into the broken pipe
            wire.frame()


@pytest.mark.hostile("X60")
def test_a_console_that_nobody_reads_blocks_nothing(tmp_path: Path) -> None:
    with started(tmp_path, program="serve", options=("--rate", "100")) as place:
        assert place.process.stdout is not None
        pipe = place.process.stdout.fileno()
        os.set_blocking(pipe, False)
        # The child's end of the same pipe, opened anew so that ours alone does not block.
        full = os.open(f"/proc/{place.process.pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
        try:
            while True:
                os.write(full, b"x" * 4096)
        except BlockingIOError:
            pass
        try:
            while True:
                os.write(full, b"x")
        except BlockingIOError:
            pass
        finally:
            os.close(full)
        wire = place.open()
        wire.send(frame(TEXT, b'{"type":"identify","clientId":"me"}'))
        wire.send(frame(TEXT, b'{"type":"stats","clientId":"me","messagesPerSec":1}'))
        began = time.monotonic()
        while time.monotonic() < began + 3:
            before = time.monotonic()
            wire.frame()
            assert time.monotonic() - before < 1, "the loop stood still"


@pytest.mark.hostile("X31")
@pytest.mark.parametrize("program", ["echo", "serve"])
def test_sigterm_says_1001_to_all_and_leaves_with_status_0(tmp_path: Path, program: str) -> None:
    with started(tmp_path, program=program, ends=True) as place:
        wires = [place.open() for _ in range(200)]
        place.process.send_signal(signal.SIGTERM)
        for wire in wires:
            farewell(wire)
            wire.ends()
        assert place.process.wait(PATIENCE) == 0


def farewell(wire: Wire) -> None:
    """Whole messages, then 1001, which is answered."""
    opcode, payload = wire.frame()
    while opcode in (TEXT, BINARY):
        opcode, payload = wire.frame()
    assert (opcode, payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
    wire.send(frame(CLOSE, payload))


@pytest.mark.hostile("X31")
def test_sigterm_waits_for_the_silent_no_longer_than_the_close_timeout(tmp_path: Path) -> None:
    with started(tmp_path, ends=True) as place:
        wires = [place.open() for _ in range(20)]
        began = time.monotonic()
        place.process.send_signal(signal.SIGTERM)
        assert place.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < 8
        for wire in wires:
            assert wire.frame()[1][:2] == (1001).to_bytes(2, "big")


@pytest.mark.hostile("X31")
@pytest.mark.parametrize("program", ["echo", "serve"])
def test_a_second_sigterm_ends_it_at_once(tmp_path: Path, program: str) -> None:
    with started(tmp_path, program=program, ends=True) as place:
        wire = place.open()
        place.process.send_signal(signal.SIGTERM)
        while wire.frame()[0] != CLOSE:
            pass
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the answer to its Close
            place.process.wait(SAME_SIGNAL)
        began = time.monotonic()
        place.process.send_signal(signal.SIGTERM)
        assert place.process.wait(PATIENCE) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 2


@pytest.mark.hostile("X32")
@pytest.mark.parametrize("part", [request()[:1], request()[:50], request()[:-1]])
def test_sigterm_in_a_handshake_answers_503(tmp_path: Path, part: bytes) -> None:
    with started(tmp_path, ends=True) as place:
        steady, half = place.open(), place.dial()
        half.send(part)
        steady.round_trip(TEXT, b"it has been read")
        place.process.send_signal(signal.SIGTERM)
        assert half.answer().status == 503
        half.ends()
        farewell(steady)
        assert place.process.wait(PATIENCE) == 0


def half_sent(place: Place, program: str) -> Wire:
    """A client that has the beginning of a frame of 1 MiB; the rest waits in the server."""
    reader = place.dial(receive_buffer=4096)
    reader.handshake()
    sender = place.open() if program == "fanout" else reader
    for wire in (sender, reader):
        wire.sock.settimeout(PATIENCE)
    sender.sock.sendall(frame(BINARY, bytes(1 << 20)))
    reader.buffer += reader.sock.recv(100)  # and no more
    for wire in (sender, reader):
        wire.sock.setblocking(False)
    return reader


@pytest.mark.hostile("X32", "X26")
@pytest.mark.parametrize("program", ["echo", "fanout"])
def test_sigterm_within_a_write_completes_the_frame(tmp_path: Path, program: str) -> None:
    with started(tmp_path, program=program, ends=True) as place:
        reader = half_sent(place, program)
        began = time.monotonic()
        place.process.send_signal(signal.SIGTERM)
        if program == "fanout":
            farewell(place.wires[-1])
        reader.echoes(BINARY, bytes(1 << 20))
        farewell(reader)
        reader.ends()
        assert place.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < CLOSE_TIMEOUT - 1  # it waited for nothing but us


@pytest.mark.hostile("X32", "X26")
def test_who_does_not_read_its_half_sent_frame_is_reset_at_the_close_timeout(
    tmp_path: Path,
) -> None:
    with started(tmp_path, ends=True) as place:
        reader = half_sent(place, "echo")
        began = time.monotonic()
        place.process.send_signal(signal.SIGTERM)
        assert place.process.wait(PATIENCE) == 0
        assert CLOSE_TIMEOUT - 0.5 < time.monotonic() - began < CLOSE_TIMEOUT + 2
        while not reader.ended:
            reader.more()
        assert reader.reset
        assert len(reader.buffer) < 1 << 20  # the frame was not whole, so no Close followed


EXITS = """
import socket, sys
from fastws import Engine
engine = Engine(max_connections=2000)
listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
listener.setblocking(False)
engine.listen(listener.fileno())
opened = []
def head(connection, head):
    engine.upgrade(connection, b"HTTP/1.1 101 Switching Protocols\\r\\n\\r\\n")
    connection.send_nowait("x" * 1000)
    opened.append(connection)
engine.on_head = head
print("listening on ws://127.0.0.1:%d" % listener.getsockname()[1], flush=True)
while len(opened) < 1000:
    engine.turn(0.1)
"""
WAYS = {
    "falls off its end": "",
    "sys.exit": "sys.exit(0)",
    "engine.close": "engine.close()",
    "inside a turn": "engine.on_close = lambda c: sys.exit(0)\nopened[0].abort()\n"
    "while True: engine.turn(0.1)",
    "a cycle": "engine.on_close = lambda c: engine\nsys.modules['kept'] = engine\ndel engine",
}


@pytest.mark.hostile("X30")
@pytest.mark.parametrize("way", WAYS)
def test_a_process_ends_at_once_with_a_thousand_clients(way: str) -> None:
    with subprocess.Popen(
        [*UNDER, sys.executable, "-c", EXITS + WAYS[way]], stdout=subprocess.PIPE, text=True
    ) as process:
        socks: list[socket.socket] = []
        try:
            assert process.stdout is not None
            found = LISTENING.match(process.stdout.readline())
            assert found
            for _ in range(1000):
                socks.append(socket.create_connection(("127.0.0.1", int(found["port"]))))
                socks[-1].send(request() + frame(TEXT, b"end"))
            began = time.monotonic()
            assert process.wait(PATIENCE) == 0
            assert time.monotonic() - began < 5
        finally:
            process.kill()
            for sock in socks:
                sock.close()
