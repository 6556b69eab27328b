"""Clients that others wrote: the programs of benchmarks/clients and the websockets library."""

import asyncio
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import websockets
from support import PATIENCE, Site
from surroundings import INSTRUMENTED
from test_cli import serving

Run = Callable[[Any], Any]
CLIENTS = Path(__file__).resolve().parent.parent / "benchmarks/clients"
RUST = CLIENTS / "rust/target/release/tick-client"
NODE = CLIENTS / "node"
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")


def rust() -> list[str]:
    if not RUST.is_file():
        pytest.skip("the Rust client is not built: make client-rust")
    return [str(RUST)]


def node() -> list[str]:
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    if not (NODE / "node_modules/ws").is_dir():
        pytest.skip("the Node client's libraries are missing: make client-node")
    return [program, str(NODE / "client.mjs")]


def browser() -> list[str]:
    if not any(map(shutil.which, CHROMIUMS)):
        pytest.skip("there is no Chromium")
    if INSTRUMENTED:
        pytest.skip("Chromium would be instrumented as well")
    return [sys.executable, str(CLIENTS / "browser/start.py")]


def ask(port: int, method: str, path: str, body: object = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, None if body is None else orjson.dumps(body))
        answer = connection.getresponse()
        assert answer.status == 200
        return json.loads(answer.read())
    finally:
        connection.close()


def stats_when(port: int, condition: Callable[[Any], object]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not condition(stats := ask(port, "GET", "/stats")):
        assert time.monotonic() < deadline, stats
        time.sleep(0.05)  # the server has no event for it
    return stats


@pytest.mark.slow
@pytest.mark.parametrize("format", ["json", "binary"])
@pytest.mark.parametrize(
    ("client", "client_id"),
    [(rust, "tauri-rust"), (node, "node-ws"), (browser, "browser-headless")],
)
def test_client_counts_what_was_delivered(
    client: Callable[[], list[str]], client_id: str, format: str
) -> None:
    program = client()
    with serving("--rate", "10000", "--format", format) as (server, port, _):
        url = f"ws://127.0.0.1:{port}"
        options = ["--url", url, "--duration", "1.5", "--decode-every", "100", "--drain", "--json"]
        with subprocess.Popen([*program, *options], stdout=subprocess.PIPE, text=True) as reader:
            try:
                stats = stats_when(port, lambda stats: client_id in stats["clients"])
                row = stats["clients"][client_id]
                assert row["clientId"] == client_id
                assert row["totalMessages"] > 0
                assert row["messagesPerSec"] > 0
                assert [x["clientId"] for x in stats["server"]["clients"]] == [client_id]
                ask(port, "POST", "/config", {"rate": 0})
                server_counts = stats_when(
                    port,
                    lambda stats: stats["server"]["acknowledged"] == stats["server"]["published"],
                )["server"]
                assert server_counts["dropped"] == server_counts["pacing"]["missed"] == 0
                server.send_signal(signal.SIGTERM)
                output, _ = reader.communicate(timeout=PATIENCE)
                assert server.wait(timeout=PATIENCE) == 0
            finally:
                reader.kill()
        summary = json.loads(output.splitlines()[-1])
        assert summary["totalMessages"] == server_counts["delivered"]
        assert (summary["undecoded"], summary["closeCode"]) == (0, 1001)
        assert reader.returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_chromium_ends_with_what_started_it(number: signal.Signals) -> None:
    program = browser()
    with serving("--rate", "1000") as (_, port, _):
        command = [*program, "--url", f"ws://127.0.0.1:{port}", "--duration", "600"]
        with subprocess.Popen(command, start_new_session=True) as starter:
            try:
                stats_when(port, lambda stats: "browser-headless" in stats["clients"])
                starter.send_signal(number)
                assert starter.wait(PATIENCE) == 128 + signal.SIGTERM
                stats_when(port, lambda stats: stats["server"]["connections"] == 0)
                deadline = time.monotonic() + PATIENCE
                while is_group(starter.pid):  # Chromium's processes do not end all at once
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            finally:
                if is_group(starter.pid):
                    os.killpg(starter.pid, signal.SIGKILL)


def is_group(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_websockets_client_with_its_defaults(run: Run) -> None:
    """It offers compression, which is not taken up."""

    async def story() -> None:
        async with Site(rate=1000, fields="seq") as site:
            url = f"ws://127.0.0.1:{site.port}/ticks?x=1"
            # With its default of 16 waiting messages it stops reading, pongs and closes too.
            connecting = websockets.connect(url, proxy=None, max_queue=None)
            async with asyncio.timeout(PATIENCE), connecting as client:
                ticks = [json.loads(await client.recv()) for _ in range(100)]
                assert [tick["seq"] for tick in ticks] == list(
                    range(ticks[0]["seq"], ticks[0]["seq"] + 100)
                )
                await client.send('{"type":"identify","clientId":"python"}')
                await client.send(["{", "}"])  # fragments
                await (await client.ping(b"x" * 125))
                (row,) = (await site.stats())["server"]["clients"]
                assert row["clientId"] == "python"
                assert (await site.stats())["server"]["ignoredMessages"] == 1
            assert client.close_code == 1000

    run(story())


def test_websockets_client_is_told_that_the_server_goes(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1000) as site, asyncio.timeout(PATIENCE):
            url = f"ws://127.0.0.1:{site.port}"
            async with websockets.connect(url, proxy=None, max_queue=None) as client:
                await client.recv()
                await site.feed.stop()
                await client.wait_closed()
                assert client.close_code == 1001

    run(story())
