"""`fastws.run`: programs that end with Ctrl-C and SIGTERM, on both loops."""

import asyncio
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import websockets
from programs import PATIENCE, running

import fastws

GOING_AWAY = 1001
LOOPS = ["asyncio", "uvloop"]
SIGNALS = [signal.SIGINT, signal.SIGTERM]

ECHO = """
import sys, fastws

async def echo(ws):
    async for message in ws:
        await ws.send(message)

server = fastws.serve(echo, "127.0.0.1", PORT)
print("listening on ws://127.0.0.1:PORT", flush=True)
fastws.run(server, loop=sys.argv[1])
print("behind it")
"""
TWICE = """
import sys, asyncio, os, signal, time, fastws

async def main():
    print("listening on nothing", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            os.kill(os.getpid(), int(sys.argv[2]))
            time.sleep(0.3)
            await asyncio.sleep(0.3)
            print("not ended", flush=True)
            time.sleep(3600 if sys.argv[3] == "blocked" else 0)

fastws.run(main(), loop=sys.argv[1])
"""


async def silent(ws: fastws.Connection) -> None:
    """Wait for the end."""
    async for _ in ws:
        pass


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("loop", LOOPS)
def test_a_signal_closes_the_clients_and_the_program_goes_on_behind_run(
    tmp_path: Path, loop: str, number: signal.Signals
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    program = tmp_path / "echo.py"
    program.write_text(ECHO.replace("PORT", port))

    async def story(url: str, process: subprocess.Popen[str]) -> None:
        async for client in websockets.connect(url):  # it says where before it listens
            await client.send("hello")
            assert await client.recv() == "hello"
            process.send_signal(number)
            await client.wait_closed()
            assert client.close_code == GOING_AWAY
            return

    with running(program, loop) as (url, process):
        asyncio.run(story(url, process))
        assert process.wait(PATIENCE) == 0
        assert process.stdout is not None
        assert process.stdout.read() == "behind it\n"


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("then", ["asleep", "blocked"])
def test_a_later_signal_ends_a_program_and_a_copy_of_the_first_one_does_not(
    tmp_path: Path, loop: str, number: signal.Signals, then: str
) -> None:
    program = tmp_path / "twice.py"
    program.write_text(TWICE)
    with subprocess.Popen(
        [sys.executable, str(program), loop, str(int(number)), then],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening on nothing\n"
        process.send_signal(number)
        assert process.stdout.readline() == "not ended\n"
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number


def test_run_returns_what_the_coroutine_returns_and_raises_what_it_raises() -> None:
    async def answer() -> int:
        return 42

    async def fail() -> None:
        raise ZeroDivisionError

    before = [signal.getsignal(each) for each in SIGNALS]
    assert fastws.run(answer()) == 42
    with pytest.raises(ZeroDivisionError):
        fastws.run(fail(), loop="asyncio")
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_cancellation_that_is_no_signal_is_raised() -> None:
    async def cancel() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        fastws.run(cancel(), loop="asyncio")


def test_run_in_another_thread_has_no_signals() -> None:
    async def serve() -> int:
        async with fastws.serve(silent):
            return 7

    results: list[int | None] = []
    thread = threading.Thread(target=lambda: results.append(fastws.run(serve())))
    thread.start()
    thread.join(PATIENCE)
    assert results == [7]


def test_what_cannot_be_run_is_said() -> None:
    async def main() -> None:
        pass

    with pytest.raises(TypeError, match=r"as `run\(main\(\)\)`"):
        fastws.run(main)  # type: ignore[arg-type]
    with pytest.raises(fastws.ConfigError, match="loop"):
        fastws.run(fastws.serve(silent), loop="trio")  # type: ignore[arg-type]
