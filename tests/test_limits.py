"""Every limit has an answer, a counter, a line in the log and a row in docs/limits.md."""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE, UPGRADE, Site, http_request

from fastws import App, Limits, Server
from fastws.server.limit_log import LimitLog

Run = Callable[[Any], Any]
PAGE = Path(__file__).resolve().parent.parent / "docs/limits.md"
OPTIONS_OF_OTHERS = {"origins", "serve", "max_lag", "min_rate"}  # and `--options` of these
# What holds somebody up, and refuses and ends nothing, has nothing to count.
HOLDS = (
    "a handler for which others of its connection wait",
    "messages of one turn",
    "direct sends waiting for one client: back-pressure",
    "offers of extensions, and their parameters",
    "reads in one turn from connections that are no WebSocket (yet)",
    "unsent bytes in the kernel for one client",
)
BESIDES = {
    "process_request",
    "send_nowait",
    "close",
    "latest",
    "lossless",
    "dropped",
    "publish",
    "send",
    "on_slow",
    "LogFull",
    "subscribe",
    "SubscriptionLimit",
}


def rows() -> list[list[str]]:
    """The table: a limit, its option, its default, what happens."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [re.split(r" *\| *", line.removeprefix("| ").removesuffix(" |")) for line in lines[1:]]


def counters_named() -> dict[str, set[str]]:
    """By limit: the counters that its row names."""
    names = {limit: set(re.findall(r"`(\w+)`", what)) for limit, _, _, what in rows()}
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


def test_the_table_names_every_option_and_no_other() -> None:
    named = [name for _, options, _, _ in rows() for name in re.findall(r"`(\w+)`", options)]
    assert sorted(set(named) - OPTIONS_OF_OTHERS) == sorted(each.name for each in fields(Limits))
    assert len(named) == len(set(named))


def test_every_row_says_what_the_client_or_the_program_sees() -> None:
    answer = re.compile(
        r"\b(400|431|503|413|429|403|1008|1009|1011|1013)\b|closed|cut off|`LogFull`|waits|"
        r"declined|not read from|log"
    )
    for limit, _, _, what in rows():
        assert answer.search(what), limit


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
