"""Fixtures for every test: the event loops, and an engine without one."""

import asyncio
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support import Rig
from typed import typed as typed

# For benchmarks.compare; behind all others, so that the installed fastws is the one that is tested.
sys.path.append(str(Path(__file__).resolve().parent.parent))
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's `&` began this run; the programs that it starts are to hear Ctrl-C all the same.
    signal.signal(signal.SIGINT, signal.default_int_handler)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
if chosen := os.environ.get("FASTWS_LOOPS"):
    LOOPS = {name: LOOPS[name] for name in chosen.split(",")}


@pytest.fixture(params=sorted(LOOPS))
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes a new event loop, of each kind in turn."""
    return LOOPS[request.param]


@pytest.fixture
def run(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> Iterator[Callable[[Coroutine[Any, Any, Any]], Any]]:
    """Runs a coroutine to its end, on one loop a test, of each kind in turn."""
    runner = asyncio.Runner(loop_factory=loop_factory)
    yield runner.run
    with warnings.catch_warnings():
        # As an error, uvloop's warning of a transport that a failed test left open would interrupt
        # the closing of its handle, and the loop would wait for that handle for ever.
        warnings.simplefilter("default", ResourceWarning)
        runner.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    """An engine with the default options, driven by hand."""
    with Rig() as rig:
        yield rig


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Nothing of this is an error."""
    with caplog.at_level(logging.WARNING):
        yield caplog
    said = [record.getMessage() for record in caplog.records]
    assert not [line for line in said if not line.startswith("limits met")]
