"""Every limit has an answer, a counter, a line in the log and one in the README's table."""

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, UPGRADE, Site, http_request

from fastws import App, Server
from fastws.server.limit_log import LimitLog

Run = Callable[[Any], Any]
README = Path(__file__).resolve().parent.parent / "README.md"
# What holds somebody up, and refuses and ends nothing, has nothing to count.
HOLDS = (
    "a handler for which others of its connection wait",
    "messages of one turn",
    "offers of extensions, and their parameters",
    "offers of extensions, and their parameters",
    "reads in one turn from connections that are no WebSocket (yet)",
    "unsent bytes in the kernel for one client",
)
BESIDES = {"close", "latest", "lossless", "dropped", "publish", "send", "on_slow", "LogFull"}


def rows() -> list[list[str]]:
    """The table: a limit, its default, what happens."""
    section = README.read_text().partition("\n## Limits")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [re.split(r" *\| *", line.strip("| ")) for line in lines[1:]]


def counters_named() -> dict[str, set[str]]:
    """By limit: the counters that its row names."""
    names = {limit: set(re.findall(r"`(\w+)`", what)) for limit, _, what in rows()}
    mentioned = {"/stats"} | BESIDES
    return {limit: found - mentioned for limit, found in names.items()}


def test_every_limit_of_the_table_names_its_counters_and_each_exists(run: Run) -> None:
    async def story() -> None:
        server = Server(App())
        exist = server.counters()
        server.close()
        named = counters_named()
        assert len(named) > 15
        for limit, counters in named.items():
            assert counters <= exist.keys(), limit
            assert bool(counters) == (limit not in HOLDS), limit
        assert set(HOLDS) <= named.keys()

    run(story())


def test_the_log_tells_of_exactly_the_counters_of_the_table() -> None:
    assert set().union(*counters_named().values()) == set(LimitLog.NAMES)
    assert len(set(LimitLog.NAMES)) == len(LimitLog.NAMES)


LONG = "x" * 9000
BROKEN: dict[str, tuple[int, bytes]] = {
    "too many fields": (431, http_request("GET", "/stats", fields=["A: b"] * 65)),
    "a long field": (431, http_request("GET", "/stats", fields=[f"A: {LONG}"])),
    "a long head": (431, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000),
    "a long target": (414, http_request("GET", "/" + LONG)),
    "a large body": (413, http_request("POST", "/config", fields=["Content-Length: 65537"])),
    "a strange origin": (403, UPGRADE[:-2] + b"Origin: http://elsewhere.example\r\n\r\n"),
}


class Log(logging.Handler):
    """What the server logs, and word of it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.told = asyncio.Event()
        logging.getLogger("fastws").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.told.set()

    def close(self) -> None:
        logging.getLogger("fastws").removeHandler(self)
        super().close()


@pytest.mark.parametrize("what", BROKEN)
def test_a_refusal_is_counted_and_logged(run: Run, what: str) -> None:
    status, sent = BROKEN[what]

    async def story() -> None:
        log = Log()
        async with Site(allowed_origins=["http://here.example"]) as site:
            server = site.feed.server
            async with await site.dial() as client:
                await client.send(sent)
                assert (await client.response()).status == status
            assert server.counters()[f"http_{status}"] == 1
            async with asyncio.timeout(PATIENCE):
                await log.told.wait()
        log.close()
        assert log.lines == [f"limits met in the last second: http_{status} 1"]

    run(story())
