"""The command as it is typed: `fastws serve` in a process of its own."""

import asyncio
import gc
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest
from support import CLOSE, PATIENCE, SWITCHED, UPGRADE, Peer, client_frame, close_payload
from surroundings import UNDER
from typed import Done, Type

from fastws.cli.bench import write
from fastws.cli.serve import LOOPS, first_of, long_lived_heap
from fastws.server.limits import Limits

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [*UNDER, sys.executable, "-m", "fastws"]
IN_USE = "is in use: choose another one, or 0 for any free one"
LISTENING = re.compile(r"listening on ws://127\.0\.0\.1:(\d+) ")


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would set options of the command."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("FASTWS_") and name != "SERVER_MODE"
    }
    return kept | variables


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        cwd=ROOT,
        env=environment(**variables),
        check=False,
    )


@contextmanager
def serving(
    *arguments: str, **variables: str
) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """`fastws serve` on a free port: the process, the port, the lines it began with."""
    with subprocess.Popen(
        [*COMMAND, "serve", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(**({"FASTWS_PORT": "0"} | variables)),
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline()]
            while not lines[-1].startswith("ticks:"):
                assert lines[-1], f"it ended: {lines}"
                lines.append(process.stdout.readline())
            found = LISTENING.match(lines[0])
            assert found, lines
            yield process, int(found[1]), lines
        finally:
            if process.poll() is None:
                process.kill()


def wait_for(peer: Peer, opcode: int) -> bytes:
    """The payload of the first frame of that opcode."""
    deadline, seen = time.monotonic() + PATIENCE, 0
    while True:
        for found, payload in peer.frames[seen:]:
            if found == opcode:
                return payload
        seen = len(peer.frames)
        assert not peer.ended
        left = deadline - time.monotonic()
        assert select.select([peer.sock], [], [], max(0, left))[0], "it did not come in time"
        peer.read()


def leave(peer: Peer) -> None:
    """Answer the server's Close, and go."""
    peer.send(client_frame(CLOSE, close_payload(1001)))
    peer.sock.close()


@contextmanager
def connected(port: int) -> Iterator[Peer]:
    """A WebSocket that never has more than some 100 KiB to read, however fast the server is.

    It is closed for good 5 s after it stopped reading, which time a slow one spends on megabytes.
    """
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        sock.connect(("127.0.0.1", port))
        sock.sendall(UPGRADE)
        head = b""
        while len(head) < len(SWITCHED):
            head += sock.recv(len(SWITCHED) - len(head))
        assert head == SWITCHED
        yield Peer(sock)


def test_help_names_every_option() -> None:
    done = command("serve", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for option in (
        "host", "port", "rate", "format", "fields", "loop", "http-port", "max-connections",
        "max-message-size", "max-log-bytes", "max-buffered-bytes", "max-lag", "max-lag-bytes",
        "min-rate", "admin-token", "late", "quiet", "handshake-timeout", "keep-alive-timeout",
        "close-timeout", "ping-interval", "pong-timeout", "message-timeout", "write-timeout",
    ):  # fmt: skip
        assert f"--{option}" in done.stdout
    assert command("serve", "-h").stdout == done.stdout
    ceiling = command("ceiling", "--help")
    assert (ceiling.returncode, ceiling.stderr) == (0, "")
    for option in (
        "client-id", "spawn", "builtin", "format", "clients", "budget", "precision", "start",
        "slo-p99", "port", "json", "results", "chart",
    ):  # fmt: skip
        assert f"--{option}" in ceiling.stdout
    commands = command("--help")
    assert commands.returncode == 0
    for name in ("serve", "bench", "ceiling"):
        assert re.search(rf"^  {name}  ", commands.stdout, re.MULTILINE)


def test_version_is_that_of_the_package() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout) == (0, f"fastws, version {version('fastws')}\n")


def test_without_a_command_it_shows_its_help() -> None:
    done = command()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == command("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["serve", "--rate", "fast"], {}, "'--rate': must be max or an integer from 0"),
        (["serve", "--rate", "-1"], {}, "'--rate': must be"),
        (["serve", "--rate", "100000001"], {}, "'--rate': must be"),
        (["serve", "--port", "65536"], {}, "--port: must be an integer from 0 to 65,535"),
        (["serve", "--port", "x"], {}, "'--port': 'x' is not a valid integer"),
        (["serve", "--format", "xml"], {}, "'--format': 'xml' is not one of 'json', 'binary'"),
        (["serve", "--loop", "trio"], {}, "'--loop'"),
        (["serve", "--max-connections", "0"], {}, "--max-connections: must be"),
        (["serve", "--max-log-bytes", "1048575"], {}, "--max-log-bytes: must be an integer from"),
        (["serve", "--max-lag", "-1"], {}, "--max-lag: must be a number from"),
        (["serve", "--max-lag-bytes", "12M"], {}, "'--max-lag-bytes': '12M' is not a valid"),
        (["serve"], {"FASTWS_MAX_LAG_BYTES": "0"}, "--max-lag-bytes: must be an integer from"),
        (["serve"], {"FASTWS_MIN_RATE": "-1"}, "--min-rate: must be an integer from"),
        (["serve", "--max-buffered-bytes", "9"], {}, "--max-buffered-bytes: must be an integer"),
        (["serve"], {"FASTWS_MAX_BUFFERED_BYTES": "0"}, "--max-buffered-bytes: must be an integer"),
        (["serve", "--max-log-bytes", "256M"], {}, "'--max-log-bytes': '256M' is not a valid"),
        (["serve"], {"FASTWS_MAX_LOG_BYTES": "0"}, "--max-log-bytes: must be an integer from"),
        (["serve", "--max-message-size", "-1"], {}, "--max-message-size: must be"),
        (["serve"], {"FASTWS_MAX_MESSAGE_SIZE": "16K"}, "'--max-message-size'"),
        (["serve", "--http-port", "-1"], {}, "--http-port: must be"),
        (
            ["serve", "--close-timeout", "0"],
            {},
            "--close-timeout: must be 0.1 to 86,400 seconds",
        ),
        (["serve", "--ping-interval", "x"], {}, "'--ping-interval': 'x' is not a valid float"),
        (
            ["serve"],
            {"FASTWS_KEEP_ALIVE_TIMEOUT": "-1"},
            "--keep-alive-timeout: must be 0.1 to",
        ),
        (["serve", "--port", "9", "--http-port", "9"], {}, "--http-port: must differ"),
        (["serve", "--admin-token", "a b"], {}, "--admin-token: must be visible"),
        (["serve", "--host", "no such host"], {}, "--host: "),
        (["serve", "--no-such-option"], {}, "o such option"),
        (["serve", "extra"], {}, "unexpected extra argument"),
        (["serf"], {}, "o such command 'serf'"),
        (["bench", "ws://h", "--client-id", ""], {}, "--client-id: must not be empty"),
        (["bench", "ws://h", "--client-id", "\udcff"], {}, "--client-id: must be UTF-8"),
        (["bench", "ws://h/\udcff"], {}, "must be printable ASCII"),
        (["bench", "ws://h", "--json", "no/\udcff/"], {}, "there is no folder 'no/\\udcff'"),
        (["ceiling"], {}, "--client-id: is needed without --spawn or --builtin"),
        (["ceiling", "--spawn", "'"], {}, "--spawn: no closing quotation"),
        (["ceiling", "--builtin", "rust"], {}, "'--builtin': 'rust' is not one of"),
        (["ceiling", "--builtin", "native", "--budget", "1"], {}, "--budget: must be from 20"),
        (["ceiling", "--builtin", "native", "--start", "0"], {}, "--start: must be from 1 to"),
        (["ceiling", "--builtin", "native", "--slo-p99", "0"], {}, "--slo-p99: must be above 0"),
        (["ceiling", "--builtin", "native", "--json", "no/x"], {}, "there is no folder 'no'"),
        (["serve", "--host", "\udcff"], {}, "--host: must be visible"),
        (["serve", "--rate", "\udcff"], {}, "'--rate': must be"),
        (["serve", "--fields", "\udcff"], {}, "'--fields': '\\udcff' is not one of"),
        (["serve", "--allowed-origin", "http://\udcff"], {}, "--allowed-origin: must be null"),
        (["serve", "--admin-token", "\udcff"], {}, "--admin-token: must be visible"),
        (["serve"], {"FASTWS_RATE": "fast"}, "'--rate': must be max"),
        (["serve"], {"FASTWS_PORT": "x"}, "is not a valid integer"),
        (["serve"], {"FASTWS_QUIET": "perhaps"}, "is not a valid boolean"),
        (["serve"], {"SERVER_MODE": "other"}, "SERVER_MODE: must be ws or uws"),
        (["serve", "--allowed-origin", "example.com"], {}, "--allowed-origin: must be null or "),
        (["serve"], {"FASTWS_ALLOWED_ORIGIN": "*"}, "--allowed-origin: must be null or "),
        (["serve"], {"FASTWS_ALLOWED_ORIGIN": ""}, "FASTWS_ALLOWED_ORIGIN: is empty"),
        (["serve"], {"FASTWS_ADMIN_TOKEN": ""}, "FASTWS_ADMIN_TOKEN: is empty"),
        (["serve"], {"FASTWS_ADMIN_TOKEN_FILE": ""}, "FASTWS_ADMIN_TOKEN_FILE: is empty"),
        (["serve"], {"FASTWS_ALLOWED_ORIGIN": "  "}, "FASTWS_ALLOWED_ORIGIN: is empty"),
    ],
)
def test_bad_option_is_one_line_and_status_2(
    arguments: list[str], variables: dict[str, str], says: str, typed: Type
) -> None:
    """In this process, for there are many; the next test does it in one of its own."""
    assert_one_line(typed(*arguments, **variables), 2, says)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--host", "127.0.0.1.5"], "--host: cannot listen on '127.0.0.1.5'"),
        (["serve", "--unix", "no/\udcff"], "--unix: cannot listen on 'no/\\udcff': No such"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line_and_status_1(
    arguments: list[str], says: str, typed: Type
) -> None:
    assert_one_line(typed(*arguments), 1, says)


def assert_one_line(done: Done, status: int, says: str) -> None:
    assert (done.status, done.output) == (status, "")
    assert done.errors.startswith("fastws: ")
    assert says in done.errors
    assert done.errors.count("\n") == 1


def test_path_may_be_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("\udcff.json", "not taken", lambda _: {"mode": "native"})
    assert [each.name for each in tmp_path.iterdir()] == ["\udcff.json"]
    with subprocess.Popen(
        [*COMMAND, "serve", "--unix", "\udcff.sock"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(PYTHONPATH=str(ROOT)),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(r"listening on the Unix socket \udcff.sock (")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("\udcff.sock")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) == 0
    assert [each.name for each in tmp_path.iterdir()] == ["\udcff.json"]


def test_port_in_use_is_one_line_and_status_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = command("serve", "--port", port)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"fastws: --port: {port} on 127.0.0.1 {IN_USE}\n"
        done = command("serve", "--port", "0", "--http-port", port)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"fastws: --http-port: {port} on 127.0.0.1 {IN_USE}\n"


def test_options_come_from_the_environment_too() -> None:
    variables = {"FASTWS_RATE": "1.234k", "FASTWS_FORMAT": "binary", "FASTWS_LOOP": "asyncio"}
    with serving("--rate", "2345", **variables) as (_, port, lines):
        assert lines[-1] == "ticks: 2,345/s, binary; loop: asyncio; Ctrl-C stops\n"
        with connected(port) as peer:
            assert len(wait_for(peer, 2)) == 20


def test_second_port_of_server_mode_ws_is_the_control_panels() -> None:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 8081))
        except OSError:
            pytest.skip("port 8081 is in use here")
    with serving(SERVER_MODE="ws") as (_, _, lines):
        assert LISTENING.match(lines[1])[1] == "8081"  # type: ignore[index]


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_closes_clients_with_1001_and_leaves_with_status_0(
    loop: str, number: signal.Signals
) -> None:
    with serving("--loop", loop, "--rate", "1000") as (process, port, lines):
        assert f"loop: {loop};" in lines[-1]
        with connected(port) as peer:
            assert wait_for(peer, 1)
            process.send_signal(number)
            assert wait_for(peer, CLOSE) == close_payload(1001)
            leave(peer)
            output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        *rows, summary = output.splitlines()
        assert all(line.startswith(("[Stats]", "     ")) for line in rows), output
        assert re.fullmatch(
            r"connections: 1, 1 at once at most, in [\d.]+s: [1-9][\d,]* messages delivered, "
            r"[\d,]+ dropped",
            summary,
        )


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_stopping_raises_is_not_lost(loop: str) -> None:
    async def fails() -> None:
        raise OSError("the end failed")

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        with pytest.raises(OSError, match="the end failed"):
            runner.run(first_of(fails(), asyncio.Event().wait()))
        runner.run(first_of(asyncio.Event().wait(), asyncio.sleep(0)))


def test_signal_under_full_load_is_heard() -> None:
    with serving("--rate", "max") as (process, port, _), connected(port) as peer:
        wait_for(peer, 1)
        process.send_signal(signal.SIGTERM)
        assert wait_for(peer, CLOSE) == close_payload(1001)
        leave(peer)
        assert process.wait(timeout=PATIENCE) == 0


@pytest.mark.slow
def test_console_rows_and_quiet() -> None:
    with serving("--rate", "1000") as (process, port, _), connected(port):
        assert process.stdout is not None
        assert process.stdout.readline().startswith("[Stats] Rate: 1,000/s | Server actual: ")


def test_quiet_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [*COMMAND, "serve", "--quiet", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as process:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)  # no event tells that a silent server listens
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", None)
        assert process.returncode == 0


def test_reader_of_the_console_may_go_away() -> None:
    with serving("--rate", "1000") as (process, port, _):
        assert process.stdout is not None
        process.stdout.close()
        with connected(port) as peer:
            wait_for(peer, 1)
            process.send_signal(signal.SIGINT)
            assert wait_for(peer, CLOSE) == close_payload(1001)
            leave(peer)
            assert process.wait(timeout=PATIENCE) == 0


def test_what_is_imported_is_kept_out_of_collections_while_it_serves() -> None:
    """A full collection of it takes 7 ms, in which nobody is served."""
    with long_lived_heap():
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_the_help_of_serve_has_every_limit_under_a_heading() -> None:
    heading, options = "", dict[str, str]()
    for line in command("serve", "--help").stdout.splitlines():
        if line and not line.startswith(" "):
            heading = line.rstrip(":")
        elif found := re.match(r"  --([\w-]+)", line):
            options[found[1].replace("-", "_")] = heading
    others = {name for name, heading in options.items() if heading == "Other options"}
    assert others == {"loop", "deflate", "log_level", "quiet"}
    assert options.keys() >= {each.name for each in fields(Limits)}
    assert len(set(options.values())) == 9
