"""The examples as they are typed: their options, and what fanout does with a message."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from servers import ROOT, Place, server
from surroundings import UNDER
from wire import BINARY, CLOSE, PATIENCE, TEXT, close_payload

EXAMPLES = ("echo", "fanout")
MIB = 1 << 20


def example(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*UNDER, sys.executable, f"examples/{name}.py", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        check=False,
    )


@contextmanager
def running(name: str, directory: Path, *options: str) -> Iterator[Place]:
    with server(name, "uvloop", "tcp4", directory, *options) as place:
        yield place


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_names_every_option(name: str) -> None:
    done = example(name, "--help")
    assert done.returncode == 0
    for option in (
        "host", "port", "unix", "max-message-size", "max-fragments", "deflate", "loop",
    ):  # fmt: skip
        assert f"--{option}" in done.stdout


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_address_in_use_is_one_line(name: str, tmp_path: Path) -> None:
    with running("echo", tmp_path) as place:
        done = example(name, "--port", str(place.address[1]))
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"port: {place.address[1]} on 127.0.0.1 is in use: "
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1


def test_the_limits_are_the_options(tmp_path: Path) -> None:
    options = ("--max-message-size", "100", "--max-fragments", "1", "--deflate")
    with running("echo", tmp_path, *options) as place:
        wire = place.dial()
        fields = wire.handshake("Sec-WebSocket-Extensions: permessage-deflate")
        assert fields["sec-websocket-extensions"].startswith("permessage-deflate")
        wire.message(TEXT, b"x" * 101)
        wire.fails(1009)


def test_fanout_sends_to_everybody_else(tmp_path: Path) -> None:
    with running("fanout", tmp_path) as place:
        one, two, three = (place.open() for _ in range(3))
        one.message(TEXT, b"from one")
        two.echoes(TEXT, b"from one")
        three.echoes(TEXT, b"from one")
        two.message(BINARY, b"from two")
        one.echoes(BINARY, b"from two")
        three.echoes(BINARY, b"from two")


def test_fanout_closes_who_does_not_read_and_keeps_the_others(tmp_path: Path) -> None:
    with running("fanout", tmp_path) as place:
        sender, reader, sleeper = (place.open() for _ in range(3))
        n = 40
        for _ in range(n):
            sender.message(BINARY, bytes(MIB))
            reader.echoes(BINARY, bytes(MIB))
        frames = [sleeper.frame() for _ in range(2)]
        while frames[-1][0] != CLOSE:
            frames.append(sleeper.frame())
        assert frames[-1] == (CLOSE, close_payload(1013, b"slow consumer"))
        assert len(frames) - 1 < n
        sender.message(TEXT, b"still here")
        reader.echoes(TEXT, b"still here")
