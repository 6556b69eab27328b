"""`fastws serve --source` as it is typed: pipes, terminals, its end, Ctrl-C."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from support import PATIENCE
from surroundings import UNDER

from fastws.cli.console import BOLD, CLEAR, PLAIN, YELLOW, paint

COMMAND = [*UNDER, sys.executable, "-m", "fastws", "serve"]
LISTENING = re.compile(r"listening on (ws://127\.0\.0\.1:\d+) \(HTTP: /, /stats\)\r?\n")
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("FASTWS_", "NO_COL"))
}


@contextmanager
def serving(
    *arguments: str, stdin: Any = subprocess.PIPE, **options: Any
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command, with a free port, and its address; stderr goes to stdout."""
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
        bufsize=0,
        **options,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            found = LISTENING.fullmatch(line)
            assert found, line
            assert process.stdout.readline().startswith(b"lines: ")
            yield process, found[1]
        finally:
            if process.poll() is None:
                process.kill()


def write(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)


async def outcome(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The status and the rest of the output."""
    output, _ = await asyncio.to_thread(process.communicate, timeout=PATIENCE)
    return process.returncode, output.decode()


async def closed_with(client: websockets.ClientConnection) -> tuple[int | None, str | None]:
    await client.wait_closed()
    return client.close_code, client.close_reason


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_lines_of_a_pipe_come_as_they_are_written(loop: str) -> None:
    async def story() -> None:
        with serving("--source", "-", "--topic", "log", "--loop", loop) as (process, url):
            async with websockets.connect(url) as client:
                write(process, b"one\ntwo\n")
                assert [await client.recv(), await client.recv()] == ["one", "two"]
                write(process, b"thr")
                write(process, "ee €".encode())
                assert process.stdin is not None
                process.stdin.close()
                process.stdin = None
                assert await client.recv() == "three €"
                assert await closed_with(client) == (1001, "end of the source")
            status, output = await outcome(process)
        assert status == 0
        *rows, end, summary = output.splitlines()
        assert all(row.startswith("[Lines] ") for row in rows)
        assert end == "end of standard input: 3 lines"
        assert summary.startswith("3 lines; connections: 1, 1 at once at most, in ")
        assert summary.endswith("s: 3 messages delivered, 0 dropped")

    asyncio.run(story())


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_with_1001_and_leaves_no_traceback(end: signal.Signals) -> None:
    async def story() -> None:
        with serving("--source", "-") as (process, url):
            async with websockets.connect(url) as client:
                write(process, b"one\nnot whole")
                assert await client.recv() == "one"
                process.send_signal(end)
                assert await closed_with(client) == (1001, "")
            status, output = await outcome(process)
        assert status == 0
        assert output.splitlines()[-1].startswith("1 lines; connections: 1, ")
        assert "Traceback" not in output

    asyncio.run(story())


def test_ctrl_c_for_a_whole_pipeline_leaves_no_traceback(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("one\n")

    async def story(tail: subprocess.Popen[bytes]) -> None:
        group = {"stdin": tail.stdout, "process_group": tail.pid}
        with serving("--source", "-", **group) as (process, url):
            assert tail.stdout is not None
            tail.stdout.close()
            async with websockets.connect(url) as client:
                with log.open("a") as file:
                    file.write("two\n")
                heard = [await client.recv()]
                if heard == ["one"]:  # else it was before the client
                    heard.append(await client.recv())
                assert heard[-1] == "two"
                os.killpg(tail.pid, signal.SIGINT)  # as a terminal does it
                assert (await closed_with(client))[0] == 1001
            status, output = await outcome(process)
        assert status == 0
        assert "Traceback" not in output

    command = ["tail", "-f", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as tail:
        asyncio.run(story(tail))
    assert tail.returncode == -signal.SIGINT


def test_a_file_waits_for_the_first_client(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one\ntwo\nthree")

    async def story() -> None:
        with serving("--source", str(path), "--rate", "1000") as (process, url):
            async with websockets.connect(url) as client:
                assert [await client.recv() for _ in range(3)] == ["one", "two", "three"]
                assert await closed_with(client) == (1001, "end of the source")
            assert (await outcome(process))[0] == 0

    asyncio.run(story())


@pytest.mark.parametrize("stdin", ["file", "null"])
def test_standard_input_that_epoll_refuses_is_read_to_its_end(tmp_path: Path, stdin: str) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("one\ntwo\n")
    name, n = (str(path), 2) if stdin == "file" else (os.devnull, 0)
    with (
        open(name, "rb") as file,
        serving("--source", "-", stdin=file) as (process, _),
    ):
        status, output = asyncio.run(outcome(process))
    assert status == 0
    assert output.splitlines()[:2] == [
        f"end of standard input: {n} lines",
        "nobody was connected: see --wait-for and --keep-open",
    ]


def test_a_reader_of_the_console_may_go_away() -> None:
    async def story() -> None:
        with serving("--source", "-") as (process, url):
            assert process.stdout is not None
            process.stdout.close()
            async with websockets.connect(url) as client:
                write(process, b"\xff\n")  # a warning, too
                assert await client.recv() == "\ufffd"
                process.send_signal(signal.SIGINT)
                assert (await closed_with(client))[0] == 1001
            assert await asyncio.to_thread(process.wait, PATIENCE) == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--source", "/none"], "--source: /none: No such file or directory"),
        (["--source", "/"], "--source: /: Is a directory"),
        (["--source", ""], "--source: must be - or the path of a file"),
        (["--topic", "log"], "--topic: needs --source"),
        (["--keep-open"], "--keep-open: needs --source"),
        (["--source", "-", "--format", "json"],
         "--format: is of ticks; --source sends lines, which nobody can change"),
        (["--source", "-", "--admin-token", "secret"],
         "--admin-token: is of ticks; --source sends lines, which nobody can change"),
        (["--source", "-", "--rate", "5"],
         "--rate: is of a file: lines of standard input are sent as they come"),
        (["--source", "-", "--repeat"],
         "--repeat: needs a file: standard input cannot begin again"),
        (["--source", "/dev/null", "--rate", "0"], "--rate: of a source must be more than 0"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(arguments: list[str], line: str) -> None:
    done = subprocess.run(
        [*COMMAND, "--port", "0", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.stderr == f"fastws: {line}\n"
    assert done.returncode != 0
    assert done.stdout == ""


def test_a_closed_standard_input_is_an_empty_one() -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, "--port", "0", "--source", "-"],
        capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "end of standard input: 0 lines\n" in done.stdout


# On a terminal.


class Screen:
    """What a command writes to a terminal of its own."""

    def __init__(self) -> None:
        self.keyboard, self.terminal = pty.openpty()
        termios.tcsetwinsize(self.terminal, (25, 200))
        self.text = ""

    def read_until(self, pattern: str) -> str:
        while not re.search(pattern, self.text):
            self.text += os.read(self.keyboard, 4096).decode()
        return self.text


@contextmanager
def on_terminal(*arguments: str, **variables: str) -> Iterator[tuple[Screen, str]]:
    screen = Screen()
    with subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        stdin=screen.terminal, stdout=screen.terminal, stderr=screen.terminal,
        env=ENVIRONMENT | {"TERM": "xterm"} | variables, start_new_session=True,
        preexec_fn=lambda: termios.tcgetattr(0),
    ) as process:  # fmt: skip
        try:
            found = LISTENING.search(screen.read_until(LISTENING.pattern))
            assert found
            yield screen, found[1]
            assert os.get_blocking(screen.terminal)  # it is also the shell's
            process.send_signal(signal.SIGINT)
            assert process.wait(PATIENCE) == 0
        finally:
            if process.poll() is None:
                process.kill()
            os.close(screen.terminal)


def test_a_terminal_has_one_row_in_colour_that_changes() -> None:
    async def story() -> None:
        with on_terminal("--source", "-") as (screen, url):
            async with websockets.connect(url) as client:
                os.write(screen.keyboard, b"typed\n")
                assert await client.recv() == "typed"
                row = rf"\[Lines\] {re.escape(BOLD)}\d+{re.escape(PLAIN)}/s "
                await asyncio.to_thread(
                    screen.read_until, rf"{row}[^\n]*{re.escape(CLEAR)}{row}[^\n]*connections: "
                )

    asyncio.run(story())


def test_no_color_has_the_row_without_colour() -> None:
    async def story() -> None:
        with on_terminal("--source", "-", NO_COLOR="1") as (screen, url):
            async with websockets.connect(url):
                await asyncio.to_thread(
                    screen.read_until, rf"\[Lines\] 0/s [^\n]*{re.escape(CLEAR)}\[Lines\] 0/s "
                )
        assert "\x1b[1m" not in screen.text

    asyncio.run(story())


def test_what_is_lost_or_late_is_in_another_colour() -> None:
    assert paint("[Lines] 1,200/s | lag: 0.0s | dropped: 3/s | reading") == (
        f"[Lines] {BOLD}1,200{PLAIN}/s | lag: {BOLD}0.0{PLAIN}s | "
        f"dropped: {YELLOW}3{PLAIN}/s | reading"
    )
    assert paint("lag: 0.5s") == f"lag: {YELLOW}0.5{PLAIN}s"
