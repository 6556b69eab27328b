"""`fastws bench` through a slow link: the server published on time, so it is not to blame."""

import json
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from fastws.bench.children import ServerChild
from fastws.bench.measurement import BenchOptions
from fastws.bench.report import dropped, judgement, lag, summary
from fastws.bench.run import Bench
from fastws.client.url import parse_url

CHUNK = 10_000  # bytes
FASTWS = [sys.executable, "-m", "fastws"]


class SlowLink:
    """Forwards connections to a port, each with so many bytes a second from there.

    Args:
        port: of the server.
        rate: bytes a second.
    """

    def __init__(self, port: int, rate: float) -> None:
        self._to, self._rate = port, rate
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=[client], daemon=True).start()
        except OSError:
            return

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * CHUNK)
            server.connect(("127.0.0.1", self._to))
            due = time.monotonic()
            try:
                while True:
                    for ready in select.select([client, server], [], [])[0]:
                        other = server if ready is client else client
                        data = ready.recv(CHUNK)
                        if not data:
                            return
                        other.sendall(data)
                        if ready is server:
                            due = max(due, time.monotonic() - 0.1) + len(data) / self._rate
                            time.sleep(max(0.0, due - time.monotonic()))
            except OSError:
                return


@pytest.fixture
def slow_link() -> Iterator[SlowLink]:
    """A server that publishes 200,000 ticks a second, 11.6 MB, behind a link of 1 MB/s."""
    server = ServerChild("json", "--max-lag", "0.2", rate=200_000)
    link = SlowLink(server.port, 1e6)
    yield link
    link.close()
    server.end()


@pytest.mark.slow
def test_a_slow_link_is_named_with_what_was_dropped(slow_link: SlowLink) -> None:
    measured = Bench(BenchOptions(parse_url(slow_link.url), duration=2.0, warmup=2.0)).run()
    assert measured.published_rate == pytest.approx(200_000, rel=0.1)
    assert measured.frames_per_s == pytest.approx(1e6 / 58, rel=0.3)
    assert measured.dropped_rate == pytest.approx(183_000, rel=0.3)
    assert re.fullmatch(
        r"Network is bottleneck \([\d.]+ % of the server's rate; "
        r"\d\d % of what was published was dropped\)",
        judgement(measured),
    )
    assert re.fullmatch(r"1\d\d,\d\d\d/s \(\d\d % of what was published\)", dropped(measured))
    assert re.fullmatch(r"0\.\d\d\d s, the furthest behind", lag(measured))
    assert [line.split()[0] for line in summary(measured)][-5:] == [
        "server", "dropped", "lag", "verdict", "checks",
    ]  # fmt: skip


@pytest.mark.slow
def test_the_result_file_says_what_was_published_and_dropped(slow_link: SlowLink) -> None:
    done = subprocess.run(
        [*FASTWS, "bench", slow_link.url, "--duration", "1", "--warmup", "2", "--json", "-"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    config = json.loads(done.stdout)["config"]
    assert config["publishedRate"] == pytest.approx(200_000, rel=0.1)
    assert config["droppedRate"] > 100_000
    assert config["verdict"].startswith("Network is bottleneck")
