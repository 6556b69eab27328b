"""`fastws bench --any`: servers that are not fastws, programs of one's own, and what breaks."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import websockets
from typed import Done, Type

from fastws import ConfigError
from fastws.bench.measurement import BenchOptions, Measurement
from fastws.bench.meters import quantiles, rounded
from fastws.bench.run import Bench
from fastws.cli.bench import bench
from fastws.client.url import parse_url

ROOT = Path(__file__).resolve().parents[2]
NODE = ROOT / "benchmarks/clients/node"
GREETING = "grüß dich"

NODE_SERVER = """
const {WebSocketServer} = require("ws");
const server = new WebSocketServer({port: 0, host: "127.0.0.1"});
server.on("connection", ws => {
  const timer = setInterval(() => process.argv[2] === "push" && ws.send("x".repeat(300)), 5);
  ws.on("message", (data, binary) => ws.send(data, {binary}));
  ws.on("close", () => clearInterval(timer));
});
server.on("listening", () => console.log("listening on ws://127.0.0.1:" + server.address().port));
"""
FASTWS_SERVER = """
import asyncio, sys, fastws

async def echo(ws):
    if sys.argv[1] == "push":
        ws.subscribe("all")
    async for message in ws:
        await ws.send(message)

async def main():
    async with fastws.serve(echo) as server:
        print("listening on ws://127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
        while True:
            server.topic("all").publish(300 * "x")
            await asyncio.sleep(0.005)

fastws.run(main())
"""

Handler = Callable[[websockets.ServerConnection], Awaitable[None]]


@contextmanager
def serving(handler: Handler, **options: Any) -> Iterator[str]:
    """A server of the library `websockets`, on a loop in a thread of its own."""
    ready: list[tuple[str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    begun = threading.Event()

    async def serve() -> None:
        async with websockets.serve(handler, "127.0.0.1", 0, **options) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            ready.append((f"ws://127.0.0.1:{port}", asyncio.get_running_loop(), asyncio.Event()))
            begun.set()
            await ready[0][2].wait()

    thread = threading.Thread(target=asyncio.run, args=[serve()])
    thread.start()
    assert begun.wait(20)
    url, loop, ended = ready[0]
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(20)


@contextmanager
def running(*command: str) -> Iterator[str]:
    """A program that says where it listens; its URL."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[-1]
        finally:
            process.terminate()


async def echo(ws: websockets.ServerConnection) -> None:
    async for message in ws:
        await ws.send(message)


async def push(ws: websockets.ServerConnection) -> None:
    while True:
        await ws.send(300 * "x")
        await ws.send(b"")
        await asyncio.sleep(0.005)


def measure(url: str, clients: int = 2, duration: float = 0.5, **options: Any) -> Measurement:
    asked = BenchOptions(parse_url(url), clients, duration, warmup=0.0, any=True, **options)
    return Bench(asked).run()


Command = Callable[..., Done]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines under load are seldom steady."""
    monkeypatch.setattr("fastws.bench.run.STEADY_WAIT", 0.6)


@pytest.fixture
def command(typed: Type) -> Command:
    """Runs a short `fastws bench`."""
    return lambda *arguments: typed("bench", *arguments, "--duration", "0.3", "--warmup", "0")


# Servers that others wrote, and a program.


@pytest.mark.parametrize("server", ["websockets", "ws", "fastws"])
@pytest.mark.parametrize("kind", ["push", "echo"])
def test_pushes_and_echoes_are_counted_and_timed(tmp_path: Path, server: str, kind: str) -> None:
    echoes = {"echo": 4} if kind == "echo" else {}
    with url_of(server, kind, tmp_path) as url:
        measured = measure(url, clients=3, **echoes)
    assert measured.failures == []
    assert measured.ended == {}
    least, _, _ = measured.spread
    assert least > 0
    assert sum(measured.per_client) == measured.frames
    assert measured.latency is not None
    times = measured.latency
    assert 0 <= times.p50 <= times.p99 <= times.max < 1000
    if kind == "echo":
        assert measured.bytes == 102 * measured.frames
        assert times.p50 > 0.01
    elif server == "websockets":
        assert measured.bytes == pytest.approx(153 * measured.frames, abs=304)
    else:
        assert measured.bytes == 304 * measured.frames
        assert 1 < times.p50 < 50  # from one message to the next one


@contextmanager
def url_of(server: str, kind: str, folder: Path) -> Iterator[str]:
    if server == "websockets":
        with serving(push if kind == "push" else echo) as url:
            yield url
        return
    program = folder / ("server.cjs" if server == "ws" else "server.py")
    program.write_text(NODE_SERVER if server == "ws" else FASTWS_SERVER)
    interpreter = sys.executable
    if server == "ws":
        found = shutil.which("node")
        if found is None or not (NODE / "node_modules/ws").is_dir():
            pytest.skip("node or its library ws is missing: make client-node")
        interpreter = found
        (folder / "node_modules").symlink_to(NODE / "node_modules")
    with running(interpreter, str(program), kind) as url:
        yield url


# What is said to the server.


def test_what_is_sent_and_asked_for_arrives() -> None:
    heard: list[tuple[str | bytes, str | None, str | None]] = []

    async def answer(ws: websockets.ServerConnection) -> None:
        message = await ws.recv()
        assert ws.request is not None
        heard.append((message, ws.subprotocol, ws.request.headers.get("Authorization")))
        await push(ws)

    headers = (("Authorization", "Bearer x"),)
    with serving(answer, subprotocols=["v2"]) as url:
        measured = measure(url, send=GREETING, subprotocols=("v1", "v2"), headers=headers)
    assert measured.failures == []
    assert heard == [(GREETING, "v2", "Bearer x")] * 2


@pytest.mark.parametrize("data", [GREETING.encode(), b"\xff\x00"])
def test_a_file_is_sent_as_text_where_it_is_utf8(
    command: Command, tmp_path: Path, data: bytes
) -> None:
    heard: list[str | bytes] = []

    async def answer(ws: websockets.ServerConnection) -> None:
        heard.append(await ws.recv())
        await push(ws)

    file = tmp_path / "message"
    file.write_bytes(data)
    with serving(answer) as url:
        status, output, _errors = command(url, "--send-file", str(file))
    assert status == 0, output
    assert heard == [GREETING if data == GREETING.encode() else data]


@pytest.mark.parametrize("message", [GREETING, b"\x00\xff", "x" * 70_000, ""])
def test_an_echo_may_be_anything(message: str | bytes) -> None:
    with serving(echo) as url:
        measured = measure(url, send=message, echo=1)
    assert measured.failures == []
    assert measured.frames > 0


# What is told.


def test_the_table_of_an_echo_server(command: Command, tmp_path: Path) -> None:
    with serving(echo) as url:
        status, output, errors = command("--echo", "3", url, "--json", str(tmp_path / "file"))
    assert status == 0, errors
    names = [line[:11].rstrip() for line in output.splitlines()]
    expected = "measured,clients,messages,bytes,per client,round trip,closed,checks"
    assert names == expected.split(",")
    assert "(3 in flight on each connection)" in output
    (row,) = json.loads((tmp_path / "file").read_bytes())["results"]
    assert row["clientMsgPerSec"] > 0
    assert row["avgLatencyMs"] > 0
    assert row["serverActualRate"] is None


def test_a_push_server_has_spacing_and_no_latency(command: Command, tmp_path: Path) -> None:
    with serving(push) as url:
        status, output, errors = command("--any", url, "--json", str(tmp_path / "file"))
    assert status == 0, errors
    assert re.search(r"^spacing +p50 \d+\.\d{3}  p99 ", output, re.MULTILINE)
    assert re.search(r"^closed +none ended early$", output, re.MULTILINE)
    (row,) = json.loads((tmp_path / "file").read_bytes())["results"]
    assert row["avgLatencyMs"] is None


def test_connections_that_end_early_are_told_by_their_codes(command: Command) -> None:
    codes = iter((1013, 1013, 4000, None))

    async def leave(ws: websockets.ServerConnection) -> None:
        code = next(codes)
        for _ in range(10):
            await ws.send("x")
            await asyncio.sleep(0.02)
        if code is not None:
            await ws.close(code, "enough")
        else:
            await push(ws)

    with serving(leave) as url:
        status, output, _errors = command("--any", url, "--clients", "4")
    assert status == 1
    assert re.search(r"^closed +2 with 1013, 1 with 4000$", output, re.MULTILINE), output
    failure = r"^FAILED .*ended early: 3; client \d: \d{4} enough$"
    assert re.search(failure, output, re.MULTILINE), output


def test_what_is_no_echo_fails_the_check(command: Command) -> None:
    async def change(ws: websockets.ServerConnection) -> None:
        async for message in ws:
            await ws.send(f"{message!s}!")

    with serving(change) as url:
        status, output, _errors = command("--echo", "1", url)
    assert status == 1
    assert re.search(r"^others +1 messages that are no echo$", output, re.MULTILINE)
    assert "clients that got no frame: 1 of 1" in output


def test_a_server_may_push_beside_its_echoes() -> None:
    async def both(ws: websockets.ServerConnection) -> None:
        await ws.send("welcome")
        pushing = asyncio.ensure_future(push(ws))
        await echo(ws)
        pushing.cancel()

    with serving(both) as url:
        measured = measure(url, echo=2)
    assert measured.failures == []
    assert measured.others > 2
    assert measured.latency is not None


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x02\xc3\x28",  # text that is not UTF-8, short
        b"\x81\x7e\x00\x80" + 128 * b"\xff",  # long
        b"\x83\x00",  # opcode 3
        b"\x81\x81\0\0\0\0x",  # masked
        b"\x80\x00",  # a continuation of nothing
    ],
)
def test_frames_are_checked_as_the_rfc_demands(command: Command, data: bytes) -> None:
    async def break_it(ws: websockets.ServerConnection) -> None:
        await ws.send("good")
        ws.transport.write(data)
        await ws.wait_closed()

    with serving(break_it) as url:
        status, output, _errors = command("--any", url)
    assert status == 1
    assert "broke the protocol (RFC 6455): 1" in output


# Options.


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"send": "x"}, "any"),
        ({"echo": 1}, "any"),
        ({"any": True, "echo": 1001}, "echo"),
        ({"any": True, "echo": 100, "send": "x" * 20_000}, "echo"),
        ({"any": True, "send": "\udcff"}, "send"),
        ({"headers": (("Host", "x"),)}, "header"),
        ({"headers": (("Sec-WebSocket-Key", "x"),)}, "header"),
        ({"headers": (("X-A", "x\r\ny"),)}, "header"),
        ({"headers": (("X A", "x"),)}, "header"),
        ({"subprotocols": ("a b",)}, "subprotocol"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        BenchOptions(parse_url("ws://h"), **options)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--header", "nothing"], "must look like Name: value"),
        (["--send", "a", "--send-file", __file__], "cannot be combined"),
        (["--send-file", "no/such/file"], "does not exist"),
        (["--echo", "0"], "0 is not in the range"),
    ],
)
def test_wrong_options_leave_with_2(command: Command, arguments: list[str], said: str) -> None:
    status, _output, errors = command(*arguments)
    assert status == 2
    assert said in errors


def test_without_a_url_it_is_that_of_fastws_serve() -> None:
    url = next(each for each in bench.params if each.name == "url")
    assert url.default == "ws://127.0.0.1:8080"


def test_quantiles_of_rounded_times() -> None:
    for ns in (0, 1, 63, 64, 1000, 123_456_789):
        assert 0.968 * ns <= rounded(ns) <= ns
    times = Counter(range(1, 64))
    assert quantiles(times, 0.5, 0.99, 1.0) == [32, 63, 63]
    assert quantiles(Counter([7]), 0.0, 0.5, 1.0) == [7, 7, 7]
