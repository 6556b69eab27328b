"""What a process finds when it starts: variables of others, closed streams, few descriptors."""

import itertools
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import PATIENCE
from surroundings import UNDER
from test_cli import COMMAND, ROOT, connected, environment, serving, wait_for
from typed import Type

from fastws.server.open_files import say_low_limit

# What Kubernetes puts into each pod beside a Service that is called NAME, in capitals.
LINKS = {
    "_SERVICE_HOST": "10.43.0.17",
    "_SERVICE_PORT": "8080",
    "_SERVICE_PORT_HTTP": "8080",
    "_PORT": "tcp://10.43.0.17:8080",
    "_PORT_8080_TCP": "tcp://10.43.0.17:8080",
    "_PORT_8080_TCP_PROTO": "tcp",
    "_PORT_8080_TCP_PORT": "8080",
    "_PORT_8080_TCP_ADDR": "10.43.0.17",
    "_PORT_53_UDP": "udp://10.43.0.17:53",
    "_PORT_53_UDP_PROTO": "udp",
}
CLOSED = [
    streams for n in (1, 2, 3) for streams in itertools.combinations((0, 1, 2), n)
]  # every combination


def links(name: str, **others: str) -> dict[str, str]:
    return {name + end: value for end, value in LINKS.items()} | others


# Variables.


def test_what_services_set_is_no_setting() -> None:
    names = ("FASTWS", "FASTWS_HTTP", "FASTWS_UNIX", "FASTWS_SERVE", "FASTWS_BENCH", "FASTWS_HOST")
    variables = {key: value for name in names for key, value in links(name).items()}
    with serving("--port", "0", **variables) as (_, port, lines):
        assert port != 0
        assert len(lines) == 2  # one address
        with connected(port) as peer:
            wait_for(peer, 1)


@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
def test_a_link_does_not_stand_for_a_port(typed: Type, protocol: str) -> None:
    done = typed("serve", "--host", "192.0.2.1", FASTWS_PORT=f"{protocol}://[fd00::1]:9")
    assert "'192.0.2.1' port 8080" in done.errors


@pytest.mark.parametrize("name", ["FASTWS_PORT", "FASTWS_HTTP_PORT"])
@pytest.mark.parametrize("text", ["tcp://10.0.0.1", "tcp:8080", "80x", "tcp://", "://:80", "8 9"])
def test_a_mistyped_port_is_still_an_error(typed: Type, name: str, text: str) -> None:
    done = typed("serve", "--host", "192.0.2.1", **{name: text})
    assert f"{text!r} is not a valid integer" in done.errors


def test_a_link_that_is_typed_is_an_error(typed: Type) -> None:
    done = typed("serve", "--port", "tcp://10.0.0.1:80")
    assert "'tcp://10.0.0.1:80' is not a valid integer" in done.errors


def test_a_service_is_no_setting_of_a_ceiling(typed: Type) -> None:
    done = typed("ceiling", **links("FASTWS_CEILING"))
    assert done.errors == "fastws: --client-id: is needed without --spawn or --builtin\n"


def test_the_version_of_an_image_is_no_option(typed: Type) -> None:
    done = typed("serve", "--port", "x", FASTWS_VERSION="1.2.3")
    assert "'x' is not a valid integer" in done.errors
    assert typed("--version", FASTWS_VERSION="false").output.startswith("fastws, version ")


# Standard streams.


def closing(streams: tuple[int, ...]) -> Callable[[], None]:
    def close() -> None:
        for stream in streams:
            os.close(stream)

    return close


@pytest.mark.parametrize(
    ("loop", "streams"), [*(("uvloop", each) for each in CLOSED), ("asyncio", CLOSED[-1])]
)
def test_serve_runs_and_ends_without_its_streams(
    streams: tuple[int, ...], loop: str, tmp_path: Path
) -> None:
    path = tmp_path / "s"
    process = subprocess.Popen(
        [*COMMAND, "serve", "--unix", str(path), "--loop", loop, "--rate", "1000"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=environment(),
        preexec_fn=closing(streams),
    )
    try:
        with listening(path, process) as client:
            client.sendall(
                b"POST /config HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}"
            )
            answer = client.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 200 ")  # and no line of the log in between
            for stream in streams:  # nobody else has its number
                assert os.readlink(f"/proc/{process.pid}/fd/{stream}") == os.devnull
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0, output
    assert b"Traceback" not in output


def listening(path: Path, process: subprocess.Popen[bytes]) -> socket.socket:
    """A client of a server that may not be able to say that it listens."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    while True:
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)  # no event tells that a silent server listens
        else:
            return client


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [
        (["--help"], (0, 1)),
        (["serve", "--port", "x"], (2,)),
        (["serve", "--host", "192.0.2.1"], (0, 1, 2)),
        (["ceiling", "--start", "0"], (0, 2)),
        (["bench", "ws://h", "-x"], (1, 2)),
    ],
)
def test_every_command_says_what_it_can_and_leaves_as_ever(
    arguments: list[str], streams: tuple[int, ...]
) -> None:
    def left(close: tuple[int, ...]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            cwd=ROOT,
            env=environment(),
            preexec_fn=closing(close),
        )

    usual, without = left(()), left(streams)
    assert without.returncode == usual.returncode
    assert without.stdout == (b"" if 1 in streams else usual.stdout)
    assert without.stderr == (b"" if 2 in streams else usual.stderr)


def test_bench_measures_without_its_streams(tmp_path: Path) -> None:
    with serving("--port", "0") as (_, port, _):
        done = subprocess.run(
            [*COMMAND, "bench", f"ws://127.0.0.1:{port}", "--duration", "0.1", "--warmup", "0",
             "--json", str(tmp_path)],
            timeout=PATIENCE, cwd=ROOT, env=environment(), preexec_fn=closing((0, 1, 2)),
        )  # fmt: skip
    assert done.returncode == 0
    (result,) = tmp_path.iterdir()
    assert json.loads(result.read_bytes())["results"]


def test_a_full_disk_under_standard_output_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "--help"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE,
            cwd=ROOT, env=environment(),
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "No space left on device" in done.stderr


# Descriptors.


@pytest.mark.parametrize(
    ("limit", "asked", "said"),
    [
        (100, None, "100, has room for 1 connection: "),
        (1127, None, "1,127, has room for 999 connections: "),
        (1128, None, ""),
        (100, 1, ""),  # as it was asked for
    ],
)
def test_a_low_limit_of_open_files_is_said(
    limit: int,
    asked: int | None,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("fastws.server.open_files.file_limit", lambda: limit)
    say_low_limit(asked)
    assert len(caplog.records) == bool(said)
    for record in caplog.records:
        assert record.levelno == logging.WARNING
        assert record.getMessage().startswith(f"the limit of open files, {said}")
        assert record.getMessage().endswith(
            "raise the limit (ulimit -n, or LimitNOFILE of systemd)"
        )


@pytest.mark.parametrize("limit", [5, 10, 12, 16, 23])
def test_a_limit_that_does_not_do_for_one_client_is_one_line(
    typed: Type, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.server.open_files.file_limit", lambda: limit)
    done = typed("serve", "--port", "0")
    assert done.errors == (
        f"fastws: RLIMIT_NOFILE: a limit of {limit} open files is below 24: raise the limit "
        "(ulimit -n, or LimitNOFILE of systemd)\n"
    )


def test_serve_says_a_low_limit() -> None:
    low = resource.getrlimit(resource.RLIMIT_NOFILE)
    with subprocess.Popen(
        [*UNDER, sys.executable, "-m", "fastws", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24)),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening on ")
        assert process.stdout.readline().startswith("ticks: ")
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
    assert "the limit of open files, 24, has room for 1 connection" in log
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == low
