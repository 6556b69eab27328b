"""`fastws bench`: against `fastws serve`, and against servers that misbehave."""

import errno
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from scripted import Scripted
from surroundings import INSTRUMENTED

from fastws._frame import Frame
from fastws._ticks import Ticks
from fastws.bench.measurement import BenchOptions
from fastws.bench.probe import probe
from fastws.bench.run import Bench, CannotMeasure, Progress, is_steady
from fastws.client.url import parse_url

FASTWS = [sys.executable, "-m", "fastws"]
TICK = bytes(Ticks(seed=1).frames(1, time.time_ns()))
CLOSE = b"\x88\x02\x03\xe8"

Serve = Callable[..., str]


def ticking(
    *frames: bytes, at_close: bytes = CLOSE, total: int = 10_000
) -> Callable[[socket.socket], None]:
    """Sends good ticks, the frames behind 61 of them, and `at_close` when the client closes."""

    def talk(connection: socket.socket) -> None:
        for sent in range(total):
            connection.sendall(TICK)
            if sent == 60:
                connection.sendall(b"".join(frames))
            if select.select([connection], [], [], 0.005)[0]:
                said = connection.recv(4096)
                # A masked Close with a code ends it, alone or behind a report: two bytes, because
                # one byte of a masked report may be anything.
                if not said or said[:1] == b"\x88" or said[-8:-6] == b"\x88\x82":
                    connection.sendall(at_close)
                    return

    return talk


def options(url: str, clients: int = 1, duration: float = 0.3) -> BenchOptions:
    return BenchOptions(parse_url(url), clients, duration, warmup=0.0)


def bench(*arguments: str, timeout: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FASTWS, "bench", *arguments], capture_output=True, text=True, timeout=timeout
    )


# Against our own server.


def test_it_measures_the_rate_that_the_server_sends(serve: Serve) -> None:
    measured = Bench(options(serve("--rate", "2000"), clients=3, duration=1.0)).run()
    assert measured.failures == []
    assert measured.steady
    assert measured.frames_per_s == pytest.approx(6000, rel=0.1)
    assert measured.server_rate == pytest.approx(6000, rel=0.1)
    assert measured.target_rate == 2000
    assert measured.target_over_all == 6000
    assert measured.bytes == pytest.approx(58 * measured.frames, rel=0.1)
    least, median, most = measured.spread
    assert 0 < least <= median <= most
    assert sum(measured.per_client) == measured.frames
    assert measured.latency is not None
    assert 0 <= measured.latency.p50 <= measured.latency.p99 <= measured.latency.max < 1000
    assert measured.numbers is None


@pytest.mark.parametrize("fields", ["seq", "quote"])
@pytest.mark.parametrize("format_", ["json", "binary"])
def test_ticks_with_seq_show_gaps_and_finer_latency(
    serve: Serve, format_: str, fields: str
) -> None:
    url = serve("--rate", "1000", "--fields", fields, "--format", format_)
    measured = Bench(options(url, clients=2)).run()
    assert measured.failures == []
    assert measured.numbers is not None
    assert measured.numbers.missed == 0
    assert measured.latency is not None
    assert measured.latency.p50 % 1 != 0


def test_the_first_connection_alone_reports_the_sum(serve: Serve) -> None:
    url = serve("--rate", "500")
    seen: list[dict[str, object]] = []

    def report(progress: Progress) -> None:
        if progress.phase == "measuring" and progress.done > 1.2 and not seen:
            asked = subprocess.run(
                [sys.executable, "-c", GET_STATS, url.replace("ws:", "http:") + "/stats"],
                capture_output=True,
                check=True,
            )
            seen.append(json.loads(asked.stdout))

    Bench(options(url, clients=4, duration=1.5), report).run()
    clients = seen[0]["clients"]
    assert isinstance(clients, dict)
    assert list(clients) == ["native"]
    assert clients["native"]["messagesPerSec"] == pytest.approx(2000, rel=0.2)
    assert clients["native"]["totalMessages"] > 2000
    assert clients["native"]["avgLatencyMs"] is not None
    server = seen[0]["server"]
    assert isinstance(server, dict)
    assert [row["clientId"] for row in server["clients"]] == ["native"] * 4
    assert server["ignoredMessages"] == 0


GET_STATS = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"


def test_thousands_of_connections_open_and_close_properly(serve: Serve) -> None:
    url = serve("--rate", "10")
    measured = Bench(options(url, clients=2000, duration=5 if INSTRUMENTED else 0.5)).run()
    assert measured.failures == []
    assert len(measured.per_client) == 2000
    seen = probe(parse_url(url))
    assert seen is not None
    assert seen.delivered is not None
    assert seen.delivered >= measured.frames


def test_a_benchmark_file_is_written_to_a_file_a_folder_or_stdout(
    serve: Serve, tmp_path: Path
) -> None:
    url = serve("--rate", "1000")
    short = ("--duration", "0.3", "--warmup", "0")
    done = bench(url, "--json", "-", "--client-id", "other", "--comparison", str(tmp_path), *short)
    assert done.returncode == 0, done.stderr
    written = json.loads(done.stdout)
    assert list(written) == ["timestamp", "config", "results"]
    assert written["config"]["rate"] == 1000
    assert list(written["results"][0]) == [
        "mode",
        "clientMsgPerSec",
        "serverActualRate",
        "totalMessages",
        "avgLatencyMs",
        "p99LatencyMs",
        "efficiency",
    ]
    assert written["results"][0]["mode"] == "other"
    assert "Keeping up" in done.stderr
    arguments = ("--json", str(tmp_path), "--comparison", str(tmp_path))
    done = bench(url, *arguments, *short)
    assert done.returncode == 0, done.stderr
    assert "Keeping up" in done.stdout
    files = sorted(path.name for path in tmp_path.iterdir())
    assert [name.partition("-")[0] for name in files] == ["benchmark", "comparison"]
    compared = json.loads((tmp_path / files[1]).read_bytes())
    assert (compared["server"], compared["targetRate"]) == ("fastws", 1000)
    assert [row["mode"] for row in compared["results"]] == ["other", "native"]
    assert bench(url, "--json", str(tmp_path / "name"), *short).returncode == 0
    assert json.loads((tmp_path / "name").read_bytes())["results"][0]["mode"] == "native"


def test_ctrl_c_prints_what_was_measured_and_writes_no_file(serve: Serve, tmp_path: Path) -> None:
    command = [*FASTWS, "bench", serve("--rate", "1000"), "--duration", "60"]
    command += ["--json", str(tmp_path / "file")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("measuring"):
                break
        running.send_signal(signal.SIGINT)
        printed, _ = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "interrupted" in printed
    assert not (tmp_path / "file").exists()


# Against others.


def test_a_server_without_stats_is_measured_without_a_verdict() -> None:
    with Scripted(ticking()) as server:
        measured = Bench(options(server.url)).run()
        assert measured.server_rate is None
        assert measured.failures == []
        done = bench(server.url, "--duration", "0.3", "--warmup", "0", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["efficiency"] is None
    assert re.search(r"^verdict +none$", done.stderr, re.MULTILINE)


def test_frames_after_measuring_are_not_counted() -> None:
    with Scripted(ticking(at_close=TICK * 100_000 + CLOSE)) as server:
        measured = Bench(options(server.url)).run()
    assert 0 < measured.frames < 1000
    assert measured.failures == []


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (bytes(Frame("not a tick")), "bad frames: 1; the first: frame 62, 10 bytes: .*not a tick"),
        (bytes(Frame(b"x" * 20)), "bad frames: 1; the first: .*symbol"),
        (bytes(Frame("x", masking_key=b"abcd")), "broke the protocol"),
        (b"\xc1\x00", "broke the protocol"),
        (b"\x88\x02\x03\xf5", "ended early: 1; client 0: 1013"),
    ],
)
def test_a_bad_frame_fails_the_check_and_is_shown(frame: bytes, said: str) -> None:
    with Scripted(ticking(frame)) as server:
        done = bench(server.url, "--duration", "0.3", "--warmup", "0")
    assert done.returncode == 1
    assert re.search(f"^FAILED +.*{said}", done.stdout, re.MULTILINE), done.stdout


def test_a_client_without_a_frame_fails_the_check(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws.bench.run.STEADY_WAIT", 0.5)
    measured = Bench(options(serve("--rate", "0"), clients=2)).run()
    assert not measured.steady
    assert measured.frames == 0
    assert measured.failures == ["clients that got no frame: 2 of 2"]


def test_an_interrupt_before_measuring_measures_nothing(serve: Serve) -> None:
    def report(progress: Progress) -> None:
        if progress.phase == "warming up":
            run.interrupt()

    run = Bench(options(serve("--rate", "0")), report)
    with pytest.raises(KeyboardInterrupt):
        run.run()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "the server refused: 503"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", "Accept"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 101 X\r\nX: " + b"y" * 20_000, "longer than"),
    ],
)
def test_an_answer_that_is_no_101_is_one_line_and_status_1(answer: bytes, said: str) -> None:
    with Scripted(ticking(), answer) as server:
        done = bench(server.url)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (2, ("http://127.0.0.1",)),
        (2, ("wss://127.0.0.1",)),
        (1, ("ws://127.0.0.1:1",)),
        (2, ("ws://127.0.0.1:1", "--clients", "0")),
        (1, ("ws://127.0.0.1:1", "--clients", "1000000")),
        (2, ("ws://127.0.0.1:1", "--duration", "nan")),
        (2, ("ws://127.0.0.1:1", "--json", "no/such/folder/")),
    ],
)
def test_what_cannot_be_measured_is_one_line(status: int, arguments: tuple[str, ...]) -> None:
    done = bench(*arguments)
    assert done.returncode == status
    assert done.stderr.splitlines()[-1].startswith("fastws: ")
    assert "Traceback" not in done.stderr


def test_a_host_with_several_addresses_is_reached_at_the_one_that_listens(serve: Serve) -> None:
    url = serve("--rate", "1000").replace("127.0.0.1", "localhost")
    assert Bench(options(url)).run().failures == []


def test_a_connection_that_cannot_be_watched_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(ticking()) as server:
        run = Bench(options(server.url))
        engine = Mock(wraps=run._clients.engine)
        engine.attach.side_effect = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(run._clients, "engine", engine)
        with pytest.raises(CannotMeasure, match=r"cannot connect to .*: No space left"):
            run.run()


def test_a_server_that_goes_away_ends_the_measurement() -> None:
    with Scripted(ticking(total=300)) as server:
        measured = Bench(options(server.url, duration=30)).run()
    assert measured.seconds < 10
    assert any("ended early: 1; client 0: 1006" in failure for failure in measured.failures)


def test_a_silent_server_is_given_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastws.bench.clients.PATIENCE", 0.2)
        port = listener.getsockname()[1]
        with pytest.raises(CannotMeasure, match="does not answer the handshake"):
            Bench(options(f"ws://127.0.0.1:{port}")).run()


# Pure.


@pytest.mark.parametrize(
    ("rates", "clients", "steady"),
    [
        ([100_000, 100_000, 100_000], 1, False),
        ([100_000, 104_000, 96_000, 100_000], 1, True),
        ([100_000, 106_000, 95_000, 100_000], 1, False),
        ([0, 0, 0, 0], 1, False),
        ([12, 8, 12, 8], 1, True),
        ([1200, 800, 1200, 800], 100, True),
        ([1200, 800, 1200, 800], 10, False),
    ],
)
def test_steady_is_four_windows_within_ten_percent(
    rates: list[float], clients: int, steady: bool
) -> None:
    assert is_steady(rates, clients) is steady
