"""The benchmark of lines: its C program finds what is wrong, and the whole of it runs."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
N, SIZE = 12, 100


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled program, under the compiler's sanitizers."""
    path = tmp_path_factory.mktemp("lines") / "lines"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]
    command += ["-Wshadow", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    command += ["-fno-sanitize=leak"]  # it ends with what it has
    subprocess.run([*command, "-o", path, BENCHMARKS / "native/lines.c"], check=True, timeout=60)
    return path


def lines(n: int = N, size: int = SIZE) -> list[bytes]:
    """What the program writes, without newlines."""
    filling = bytes(ord("a") + i % 26 for i in range(11, size - 1))
    return [f"{i:010} ".encode() + filling for i in range(n)]


def frames(texts: list[bytes]) -> bytes:
    def head(n: int) -> bytes:
        return bytes([0x81, n]) if n < 126 else b"\x81\x7e" + n.to_bytes(2, "big")

    return b"".join(head(len(text)) + text for text in texts)


def read(program: Path, *streams: bytes, size: int = SIZE) -> subprocess.CompletedProcess[str]:
    """Let the program read streams, each from a socket that is then closed."""
    sockets = []
    for stream in streams:
        ours, theirs = socket.socketpair()
        theirs.sendall(stream)
        theirs.close()
        sockets.append(ours)
    fds = [each.fileno() for each in sockets]
    done = subprocess.run(
        [program, "read", str(N), str(size), str(os.getpid()), *map(str, fds)],
        pass_fds=fds, capture_output=True, text=True, timeout=30, check=False,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    for each in sockets:
        each.close()
    return done


@pytest.mark.parametrize("rate", [0, 1000])
def test_it_appends_numbered_lines(program: Path, tmp_path: Path, rate: int) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"before\n")
    command = [program, "write", file, str(N), str(SIZE), str(rate)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(done.stdout)["seconds"] >= (N / rate if rate else 0)
    assert file.read_bytes() == b"before\n" + b"".join(line + b"\n" for line in lines())


@pytest.mark.parametrize("size", [12, 100, 126, 127, 5000])
def test_it_takes_what_is_whole_and_in_order(program: Path, size: int) -> None:
    done = read(program, *[frames(lines(size=size))] * 3, size=size)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() == {"seconds", "first", "client_busy", "server_busy"}


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (frames([*lines()[:5], *lines()[6:], b""]), "line 5 of a client: not what was written"),
        (frames([*lines()[:3], lines()[4], lines()[3], *lines()[5:]]), "line 3 of a client: not"),
        (frames(lines()).replace(b"7 l", b"7 L"), "line 7 of a client: not what was written"),
        (frames([lines()[0], *lines()]), "line 1 of a client: not what was written"),
        (frames(lines())[:-1], "the server closed a connection"),
        (frames(lines(N + 1)), "more came than was written"),
        (b"", "the server closed a connection"),
    ],
)
def test_it_finds_what_is_wrong_at_one_client(program: Path, stream: bytes, complaint: str) -> None:
    done = read(program, frames(lines()), stream)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_the_whole_of_it_runs(program: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "lines.py"), "--program", str(program)]
    command += ["--clients", "3", "--lines", "20000", "--rounds", "1"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False,
        env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures, median = done.stdout.splitlines()
    assert json.loads(figures)["lines_per_s"] > 0
    assert median.startswith("3 clients, 20,000 lines of 100 bytes: ")
