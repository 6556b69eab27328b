"""The C programs of the comparison: the load client, the storm of handshakes, the bare loops."""

import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.compare.cells import Cell, Kind
from benchmarks.compare.load import ACCEPT, options_of, streams
from benchmarks.compare.messages import frame_size, masked, server_stream
from benchmarks.compare.running import free_port, wait_until_it_listens
from fastws.http.upgrade import accept_key

NATIVE = Path(__file__).resolve().parent.parent / "benchmarks/native"
SIZE = 110
FRAME = frame_size(SIZE)
TIMES = ["--warmup", "0.05", "--seconds", "0.2"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled programs, under the compiler's sanitizers."""
    folder = tmp_path_factory.mktemp("programs")
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-Wshadow", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for name in ("bare", "bare_echo", "bare_upgrade", "load", "storm"):
        source = NATIVE / f"{name}.c"
        subprocess.run([*command, "-o", folder / name, source], check=True, timeout=60)
    return folder


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Three connections: the load client's end does not block."""
    made = [socket.socketpair() for _ in range(3)]
    for ours, theirs in made:
        ours.setblocking(False)
        theirs.settimeout(20)
    yield made
    for pair in made:
        for end in pair:
            end.close()


class Server(threading.Thread):
    """Sends what the first of its sockets permits, to all of them, until the first is closed."""

    def __init__(self, sockets: list[socket.socket], stream: bytes) -> None:
        super().__init__()
        self.sockets, self.stream = sockets, stream
        self.permitted: list[int] = []

    def heard(self) -> bytes:
        try:
            return self.sockets[0].recv(6)
        except ConnectionResetError:  # there was more to read for the load client
            return b""

    def run(self) -> None:
        at = 0
        while head := self.heard():
            size = head[1] & 0x7F
            text = masked(self.sockets[0].recv(size)).decode()
            self.permitted.append(int(text.removeprefix("go ")))
            for _ in range(self.permitted[-1]):
                frame = self.stream[at : at + FRAME]
                try:
                    for each in self.sockets:
                        each.sendall(frame)
                except OSError:
                    return
                at = (at + FRAME) % len(self.stream)


def loaded(
    programs: Path, cell: Cell, ends: list[socket.socket], *more: str
) -> "subprocess.CompletedProcess[bytes]":
    fds = [end.fileno() for end in ends]
    command = [str(programs / "load"), *options_of(cell), *TIMES, "--pid", str(os.getpid()), *more]
    done = subprocess.run(
        [*command, *map(str, fds)],
        input=streams(cell),
        capture_output=True,
        pass_fds=fds,
        timeout=30,
    )
    for end in ends:
        end.close()
    return done


@pytest.mark.parametrize("kind", [Kind.RATE, Kind.LATENCY])
def test_the_load_client_counts_a_right_stream(
    programs: Path, pairs: list[tuple[socket.socket, socket.socket]], kind: Kind
) -> None:
    server = Server([theirs for _, theirs in pairs], server_stream(SIZE))
    server.start()
    cell = Cell("three", kind, clients=3, burst=2)
    done = loaded(programs, cell, [ours for ours, _ in pairs])
    server.join()
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert 3 < found["frames_per_s"] * 0.2 <= 3 * sum(server.permitted)
    if kind is Kind.LATENCY:
        assert set(server.permitted) == {cell.burst}
        assert found["latency"]["n"] <= len(server.permitted)
        assert 0 < found["latency"]["median_us"] <= found["latency"]["most_us"]
    else:
        assert server.permitted[0] == cell.window
        assert set(server.permitted[1:]) == {cell.window // 2}


@pytest.mark.parametrize("at", [0, 1, 2, 20, FRAME - 1])
def test_one_wrong_byte_to_one_client_fails_the_measurement(
    programs: Path, pairs: list[tuple[socket.socket, socket.socket]], at: int
) -> None:
    wrong = bytearray(server_stream(SIZE))
    wrong[7 * FRAME + at] ^= 1
    server = Server([theirs for _, theirs in pairs], bytes(wrong))
    server.start()
    done = loaded(programs, Cell("three", clients=3), [ours for ours, _ in pairs])
    server.join()
    assert done.returncode == 1
    assert b"is wrong" in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize("change", ["lost", "twice"])
def test_a_frame_lost_or_repeated_fails_the_measurement(
    programs: Path, pairs: list[tuple[socket.socket, socket.socket]], change: str
) -> None:
    right = server_stream(SIZE)
    head, tail = right[: 9 * FRAME], right[9 * FRAME :]
    wrong = head + tail[FRAME:] if change == "lost" else head + head[-FRAME:] + tail
    server = Server([theirs for _, theirs in pairs], wrong)
    server.start()
    done = loaded(programs, Cell("three", clients=3), [ours for ours, _ in pairs])
    server.join()
    assert done.returncode == 1
    assert b"is wrong" in done.stderr


def test_a_closed_connection_fails_the_measurement(
    programs: Path, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    pairs[1][1].close()
    done = loaded(programs, Cell("three", clients=3), [ours for ours, _ in pairs])
    assert done.returncode == 1
    assert b"closed a connection" in done.stderr


@pytest.mark.parametrize("size", [28, 125, 126, 1000])
@pytest.mark.parametrize("in_flight", [1, 8])
def test_the_bare_echo_returns_what_the_load_client_sends(
    programs: Path,
    pairs: list[tuple[socket.socket, socket.socket]],
    size: int,
    in_flight: int,
) -> None:
    fds = [theirs.fileno() for _, theirs in pairs]
    for _, theirs in pairs:
        theirs.setblocking(True)
    command = [str(programs / "bare_echo"), "--seconds", "30", *map(str, fds)]
    with subprocess.Popen(command, pass_fds=fds, stderr=subprocess.PIPE) as echo:
        for _, theirs in pairs:
            theirs.close()
        cell = Cell("echo", Kind.ECHO, size=size, clients=3, in_flight=in_flight)
        done = loaded(programs, cell, [ours for ours, _ in pairs])
        _, complaints = echo.communicate(timeout=30)
    assert done.returncode == 0, done.stderr
    assert echo.returncode == 0, complaints
    assert json.loads(done.stdout)["frames_per_s"] > 100


@pytest.mark.parametrize("mode", [["single"], ["run", "--frames", "16"]])
def test_the_bare_loop_sends_what_was_permitted_and_no_more(
    programs: Path, pairs: list[tuple[socket.socket, socket.socket]], mode: list[str]
) -> None:
    stream = server_stream(SIZE)
    fds = [ours.fileno() for ours, _ in pairs]
    command = [str(programs / "bare"), "--credit", "--mode", *mode, "--seconds", "30"]
    with subprocess.Popen(
        [*command, *map(str, fds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=fds
    ) as bare:
        assert bare.stdin is not None
        bare.stdin.write(stream)
        bare.stdin.close()
        for ours, _ in pairs:
            ours.close()
        got = [b"", b"", b""]
        for permitted, so_far in ((3, 3), (40, 43)):
            pairs[0][1].sendall(go(permitted))
            for i, (_, theirs) in enumerate(pairs):
                while len(got[i]) < so_far * FRAME:
                    got[i] += theirs.recv(65536)
        for _, theirs in pairs:
            theirs.shutdown(socket.SHUT_WR)
        for i, (_, theirs) in enumerate(pairs):
            while more := theirs.recv(65536):
                got[i] += more
        assert bare.wait(20) == 0
    assert got == [stream[: 43 * FRAME]] * 3


def go(number: int) -> bytes:
    """A masked text `go N`."""
    text = f"go {number}".encode()
    return bytes((0x81, 0x80 | len(text))) + b"\x37\xfa\x21\x3d" + masked(text)


def answering(listener: socket.socket, answer: bytes) -> None:
    """Answer every request until the listener is closed."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                while b"\r\n\r\n" not in connection.recv(4096):
                    pass
                connection.sendall(answer)
                connection.recv(1)
            except OSError:
                pass


UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"


def stormed(programs: Path, answer: bytes) -> "subprocess.CompletedProcess[bytes]":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answering, args=(listener, answer))
        server.start()
        command = [
            str(programs / "storm"),
            "--port",
            str(listener.getsockname()[1]),
            "--at-once",
            "4",
        ]
        done = subprocess.run([*command, *TIMES], capture_output=True, timeout=30)
        listener.shutdown(socket.SHUT_RDWR)
        server.join()
    return done


def test_the_storm_counts_handshakes(programs: Path) -> None:
    done = stormed(programs, UPGRADED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["handshakes_per_s"] > 10


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", UPGRADED.replace(b"Accept: s", b"Accept: x")],
)
def test_the_storm_fails_at_a_wrong_answer(programs: Path, answer: bytes) -> None:
    done = stormed(programs, answer)
    assert done.returncode == 1
    assert b"upgraded" in done.stderr


@pytest.fixture
def upgrading(programs: Path) -> Iterator[int]:
    """The port of the bare loop that answers handshakes."""
    port = free_port()
    command = [str(programs / "bare_upgrade"), "--seconds", "60", "--port", str(port)]
    with subprocess.Popen(command) as server:
        wait_until_it_listens(server, port)
        yield port
        server.terminate()


def test_the_bare_loop_answers_the_key_that_it_gets(upgrading: int) -> None:
    for key in ("dGhlIHNhbXBsZSBub25jZQ==", "AAECAwQFBgcICQoLDA0ODw==", "//////////////////////=="):
        with socket.create_connection(("127.0.0.1", upgrading), timeout=20) as peer:
            peer.sendall(f"GET / HTTP/1.1\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode())
            answer = peer.recv(4096).decode()
        assert answer.startswith("HTTP/1.1 101 ")
        assert answer.endswith(f"\r\nSec-WebSocket-Accept: {accept_key(key)}\r\n\r\n")


def test_the_bare_loop_closes_without_a_key(upgrading: int) -> None:
    with socket.create_connection(("127.0.0.1", upgrading), timeout=20) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert peer.recv(4096) == b""


def test_the_storm_opens_as_many_as_it_is_told(programs: Path, upgrading: int) -> None:
    command = [str(programs / "storm"), "--port", str(upgrading), "--at-once", "7", "--total", "40"]
    done = subprocess.run(command, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["handshakes_per_s"] > 10


def test_the_storm_keeps_all_connections_until_the_last_is_open(programs: Path) -> None:
    total, held = 40, []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [str(programs / "storm"), "--port", str(listener.getsockname()[1])]
        command += ["--at-once", "7", "--total", str(total)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as storm:
            for _ in range(total):
                peer, _ = listener.accept()
                peer.settimeout(20)
                assert b"\r\n\r\n" in peer.recv(4096)
                held.append(peer)
                peer.sendall(UPGRADED)
                # Nothing comes on any of them, not even their end.
                assert len(held) == total or select.select(held, [], [], 0)[0] == []
            assert storm.wait(20) == 0
    for each in held:
        each.close()
