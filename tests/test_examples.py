"""The examples, started as programs, with clients that are not ours."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import websockets
from programs import PATIENCE, running

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PORT_0 = {
    "echo": ("--port", "0"),
    "fanout": ("--port", "0"),
    "chat": ("0",),
    "prices": ("0",),
    "logtail": (__file__, "0"),
    "resume": ("0",),
    "ticker": ("0",),
}
PATHS = {
    "echo": "", "fanout": "", "chat": "/kitchen", "prices": "/prices/BTC", "logtail": "/lines",
    "resume": "", "ticker": "/topics/prices",
}  # fmt: skip
GOING_AWAY = 1001
LONGEST = 60  # lines of an example

Talk = Callable[..., Awaitable[None]]


def start(name: str, *, refuses: bool = False) -> Any:
    return running(EXAMPLES / f"{name}.py", *PORT_0[name], refuses=refuses)


def connected(url: str, *paths: str) -> Any:
    """Clients of a program, which end with the block."""

    class Clients(AsyncExitStack):
        async def __aenter__(self) -> Any:
            await super().__aenter__()
            return [await self.enter_async_context(websockets.connect(url + p)) for p in paths]

    return Clients()


async def closed_with(client: websockets.ClientConnection) -> int | None:
    await client.wait_closed()
    return client.close_code


@pytest.mark.parametrize("name", PORT_0)
def test_ctrl_c_closes_the_clients_with_1001_and_leaves_no_traceback(name: str) -> None:
    async def story(url: str, process: subprocess.Popen[str]) -> None:
        async with connected(url, PATHS[name], PATHS[name]) as clients:
            process.send_signal(signal.SIGINT)
            assert [await closed_with(each) for each in clients] == [GOING_AWAY] * 2

    with start(name) as (url, process):
        asyncio.run(story(url, process))
        process.wait(PATIENCE)  # the second Ctrl-C of `running` finds it ended


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_tested_and_short(path: Path) -> None:
    assert path.stem in PORT_0
    assert len(path.read_text().splitlines()) <= LONGEST


def test_echo_answers_each_message_in_its_kind() -> None:
    async def story(url: str) -> None:
        async with connected(url, "") as (client,):
            for message in ("", "grüß dich", b"", b"\x00\xff", "x" * 100_000):
                await client.send(message)
                assert await client.recv() == message

    with start("echo") as (url, _):
        asyncio.run(story(url))


def test_fanout_sends_to_everybody_else() -> None:
    async def story(url: str) -> None:
        async with connected(url, "", "", "") as clients:
            for speaker in clients:
                await speaker.send("here")
                for other in clients:
                    if other is not speaker:
                        assert await other.recv() == "here"

    with start("fanout") as (url, _):
        asyncio.run(story(url))


def test_a_chat_room_hears_what_is_said_in_it_by_others() -> None:
    async def story(url: str) -> None:
        paths = ("/kitchen?name=Ann", "/kitchen?name=Ben", "/cellar?name=Cid", "/cellar")
        async with connected(url, *paths) as (ann, ben, cid, dan):
            await ann.send("tea?")
            assert await ben.recv() == "Ann: tea?"
            await ben.send("yes")
            assert await ann.recv() == "Ben: yes"  # the first that Ann hears
            await dan.send("coal")
            assert await cid.recv() == "somebody: coal"  # nothing of the kitchen

    with start("chat") as (url, _):
        asyncio.run(story(url))


def test_a_chat_takes_text_only_and_shows_browsers_a_page() -> None:
    async def story(url: str) -> None:
        async with connected(url, "/kitchen") as (client,):
            await client.send(b"\x00")
            assert await closed_with(client) == 1003

    with start("chat") as (url, _):
        asyncio.run(story(url))
        with urlopen(url.replace("ws:", "http:") + "/kitchen") as answer:
            assert answer.headers.get_content_type() == "text/html"
            assert b"new WebSocket(" in answer.read()


def test_a_symbol_has_prices_of_its_own_from_the_last_one_on() -> None:
    async def story(url: str) -> None:
        async with connected(url, "/prices/BTC", "/prices/ETH") as clients:
            for symbol, client in zip(("BTC", "ETH"), clients, strict=True):
                quotes = [json.loads(await client.recv()) for _ in range(5)]
                assert {each["symbol"] for each in quotes} == {symbol}
                times = [each["time"] for each in quotes]
                assert times == sorted(times)
                assert len({each["price"] for each in quotes}) > 1

    with start("prices") as (url, _):
        asyncio.run(story(url))


def test_who_comes_back_with_its_position_misses_no_news() -> None:
    async def news(client: websockets.ClientConnection, n: int) -> list[str]:
        return [str(await client.recv()) for _ in range(n)]

    async def story(url: str) -> None:
        async with connected(url, "") as (client,):
            begins = json.loads(await client.recv())
            got = await news(client, 3)
        since = f"?epoch={begins['epoch']}&seq={begins['seq'] + 3}"
        async with connected(url, since, "?epoch=gone&seq=1") as (again, late):
            assert json.loads(await again.recv()) == begins | {
                "seq": begins["seq"] + 3,
                "recovered": True,
            }
            got += await news(again, 7)
            assert json.loads(await late.recv())["recovered"] is False
        first = int(got[0].split()[1])
        assert got == [f"news {number}" for number in range(first, first + 10)]

    with start("resume") as (url, _):
        asyncio.run(story(url))


def test_a_ticker_serves_its_topic_and_follows_another_one() -> None:
    async def story(url: str) -> None:
        async with connected(url, "/topics/prices") as (client,):
            assert json.loads(await client.recv())["symbol"] == "BTC"
        with pytest.raises(websockets.InvalidStatus, match="403"):
            await websockets.connect(f"{url}/topics/staff")

    with start("ticker", refuses=True) as (url, _):
        asyncio.run(story(url))
        command = [sys.executable, str(EXAMPLES / "ticker.py"), "follow", f"{url}/topics/prices"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            lines = [follower.stdout.readline() for _ in range(3)]
            follower.terminate()
            numbers = [int(line.partition(")")[0].rpartition(" ")[2]) for line in lines]
            assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_the_last_price_is_there_by_http_and_an_unknown_symbol_is_refused() -> None:
    async def story(url: str) -> None:
        async with connected(url, "/prices/NONE") as (client,):
            assert await closed_with(client) == 1008

    with start("prices") as (url, _):
        http = url.replace("ws:", "http:")
        with urlopen(f"{http}/prices/SOL") as answer:
            assert answer.headers.get_content_type() == "application/json"
            quote = json.load(answer)
        assert quote["symbol"] == "SOL"
        assert 50 < quote["price"] < 200
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{http}/prices/NONE")
        asyncio.run(story(url))
