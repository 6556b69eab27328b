"""How many connections the limit of open files allows, and what becomes of a larger number."""

import logging
import resource
import select
import signal
import subprocess
import sys

import pytest
from support import PATIENCE

from fastws import App, Limits, Server
from fastws.errors import ConfigError
from fastws.server.open_files import connection_limit

SOFT, HARD = 150, 300
ROOM = HARD - 128


@pytest.mark.parametrize("number", [0, -1])
def test_a_server_without_connection_limit_anybody_is_a_value_error(number: int) -> None:
    with pytest.raises(ValueError, match="max_connections: must be an integer from 1 to"):
        Server(App(), limits=Limits(max_connections=number))
    with pytest.raises(ConfigError):
        Server(App(), limits=Limits(max_connections=number))


def test_none_takes_what_the_limit_allows_and_what_fits_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastws.server.open_files.file_limit", lambda: HARD)
    assert [connection_limit(number) for number in (None, 1, ROOM)] == [ROOM, 1, ROOM]
    monkeypatch.setattr("fastws.server.open_files.file_limit", lambda: 100)
    assert [connection_limit(number) for number in (None, 1)] == [1, 1]
    assert caplog.records == []


def test_more_than_fits_is_lowered_with_a_warning_that_names_both(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastws.server.open_files.file_limit", lambda: 20_000)
    assert connection_limit(1_000_000) == 19_872
    assert caplog.record_tuples == [
        (
            "fastws",
            logging.WARNING,
            "max_connections is 1,000,000, but the limit of open files, 20,000, has room for "
            "19,872: that many are served; raise the limit (ulimit -n, or LimitNOFILE of systemd)",
        )
    ]


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (SOFT, HARD))


@pytest.mark.parametrize(("number", "warned"), [(ROOM, False), (ROOM + 1, True)])
def test_serve_raises_its_soft_limit_first_and_warns_of_the_hard_one(
    number: int, warned: bool
) -> None:
    command = [sys.executable, "-m", "fastws", "serve", "--port", "0", "--max-connections"]
    with subprocess.Popen(
        [*command, str(number)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit_files,
    ) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], PATIENCE)[0]
        assert process.stdout.readline().startswith("listening on ")
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE) == (HARD, HARD)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    said = f"WARNING fastws: max_connections is {number}, but the limit of open files, {HARD}, has"
    assert log.count("\n") == (1 if warned else 0), log
    assert (said in log) == warned
