"""Fixtures of the hostile suite: one server process for each loop and transport, all session long.

A test that takes `echo` runs four times: asyncio over 127.0.0.1, uvloop over ::1, and both over a
Unix socket. It gets a server that echoes, and afterwards the server must still echo for others.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack

import pytest
from servers import Place, server

# The address family matters to the listening socket alone, which other tests show.
PLACES = ["asyncio-tcp4", "asyncio-unix", "uvloop-tcp6", "uvloop-unix"]

Start = Callable[[str, str], Place]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Gives the server of a program and a place ("asyncio-tcp4"), started when first asked for."""
    running: dict[tuple[str, str], Place] = {}
    directory = tmp_path_factory.mktemp("hostile")
    with ExitStack() as stack:

        def start(program: str, where: str) -> Place:
            if (program, where) not in running:
                loop, transport = where.split("-")
                place = server(program, loop, transport, directory)
                running[program, where] = stack.enter_context(place)
            return running[program, where]

        yield start


@pytest.fixture(scope="session", params=PLACES)
def where(request: pytest.FixtureRequest) -> str:
    """Each loop and transport in turn."""
    return str(request.param)


@pytest.fixture
def echo(start: Start, where: str) -> Iterator[Place]:
    """A running `examples/echo.py`; whatever happens to it, it goes on for its neighbour."""
    place = start("echo", where)
    place.settle()
    yield place
    place.clean_up()
    place.settle()


@pytest.fixture
def serve(start: Start, where: str) -> Iterator[Place]:
    """A running `fastws serve`."""
    place = start("serve", where)
    yield place
    place.clean_up()
    assert place.process.poll() is None


Case = Callable[[Place], object]


@pytest.fixture(scope="session")
def slowly(start: Start) -> Iterator[Callable[[Case, str], object]]:
    """Runs what takes seconds at all places at the same time, and gives the result of one."""
    done: dict[tuple[Case, str], Future[object]] = {}
    with ThreadPoolExecutor(len(PLACES)) as pool:

        def result(case: Case, where: str) -> object:
            if (case, where) not in done:
                places = {each: start("echo", each) for each in PLACES}
                done.update({(case, w): pool.submit(case, p) for w, p in places.items()})
                wait(done.values())
            return done[case, where].result()

        yield result
