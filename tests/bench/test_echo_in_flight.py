"""`fastws bench --echo`: how much is in flight, and what waits for a server that is slow."""

import asyncio

import pytest
import websockets
from test_any import echo, measure, serving
from typed import Type

from fastws import ConfigError
from fastws.bench.measurement import MOST_BYTES_IN_FLIGHT, BenchOptions
from fastws.client.url import parse_url

IN_FLIGHT = 1000
HEADER = 4  # bytes
MOST = MOST_BYTES_IN_FLIGHT // IN_FLIGHT - HEADER  # bytes of a message
URL = parse_url("ws://h")


async def late(ws: websockets.ServerConnection) -> None:
    """Read nothing until all is in flight."""
    await asyncio.sleep(0.3)
    await echo(ws)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is late is not steady."""
    monkeypatch.setattr("fastws.bench.run.STEADY_WAIT", 0.6)


@pytest.mark.parametrize("message", [MOST * "x", MOST // 3 * "\u20ac", MOST * b"x"])
def test_a_mebibyte_of_frames_may_be_in_flight(message: str | bytes) -> None:
    BenchOptions(URL, any=True, echo=IN_FLIGHT, send=message)


@pytest.mark.parametrize(
    "message", [(MOST + 1) * "x", (MOST // 3 + 1) * "\u20ac", (MOST + 1) * b"x"]
)
def test_more_is_refused_by_its_bytes(message: str | bytes) -> None:
    with pytest.raises(ConfigError, match=r"^echo: must not keep more than 1 MiB in flight"):
        BenchOptions(URL, any=True, echo=IN_FLIGHT, send=message)


def test_text_that_is_not_utf8_is_named_before_it_is_counted() -> None:
    with pytest.raises(ConfigError, match=r"^send: must be UTF-8"):
        BenchOptions(URL, any=True, echo=IN_FLIGHT, send="\udcff")


@pytest.mark.parametrize("size", [MOST, 1000, 820])
def test_all_of_it_waits_for_a_server_that_does_not_read(size: int) -> None:
    with serving(late, close_timeout=0.1) as url:  # it does not read all
        measured = measure(url, clients=3, duration=1.0, echo=IN_FLIGHT, send=size * "x")
    assert measured.failures == []
    assert measured.frames > 0


def test_what_has_no_room_is_told_in_one_line(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.bench.clients.MOST_WAITING", 1 << 16)
    with serving(late, close_timeout=0.1) as url:
        done = typed("bench", url, "--echo", str(IN_FLIGHT), "--send", MOST * "x")
    assert done.status == 1
    where, why = url.removeprefix("ws://"), "what waits for a slow peer has reached its limit"
    assert done.errors.splitlines()[-1] == f"fastws: {where}: {why}"
