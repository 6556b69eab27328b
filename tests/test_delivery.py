"""Slow clients of a feed, and those that come later: options of `fastws serve` for both feeds."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from handler_apps import eventually
from line_site import LineSite, numbered, texts
from support import CLOSE, UPGRADE_FIELDS, Client, Site, close_payload
from typed import Type

from fastws import ConfigError, History, Lag, ServeOptions
from fastws.lines.config import LinesOptions
from fastws.lines.feed import LinesFeed
from fastws.ticks.feed import TickFeed

Run = Callable[[Any], Any]
KIB, MIB = 1 << 10, 1 << 20
SMALL = 1 << 14  # of a receive buffer


def options_of_ticks(**options: Any) -> Mapping[str, Any]:
    feed = TickFeed(ServeOptions(port=0, **options))
    try:
        return feed.server.topic("ticks").options
    finally:
        feed.close()


def options_of_lines(last: int = 10, **options: Any) -> Mapping[str, Any]:
    feed = LinesFeed(ServeOptions(port=0, **options), LinesOptions(source="/dev/null", last=last))
    try:
        return feed.server.topic("lines").options
    finally:
        feed.close()


def test_without_options_a_topic_is_what_it_always_was() -> None:
    usual: dict[str, Any] = {"retention_bytes": 16 * MIB, "retain": False, "min_rate": MIB}
    of_ticks = {
        "on_slow": "latest",
        "max_lag": Lag(12 * MIB, seconds=0.5),
        "history": History(),
        "content": "json",
    }
    of_lines = {
        "on_slow": "lossless",
        "max_lag": Lag(12 * MIB),
        "history": History(10),
        "content": "text",
    }
    assert options_of_ticks() == usual | of_ticks
    assert options_of_lines() == usual | of_lines


@pytest.mark.parametrize("on_slow", ["latest", "drop_oldest", "close", "lossless"])
def test_a_policy_is_that_of_both_feeds(on_slow: Any) -> None:
    assert options_of_ticks(on_slow=on_slow)["on_slow"] == on_slow
    assert options_of_lines(on_slow=on_slow)["on_slow"] == on_slow


def test_every_limit_of_the_lag_is_in_force() -> None:
    given = {"max_lag": 2, "max_lag_bytes": 3 * MIB, "max_lag_messages": 1000, "on_slow": "close"}
    for found in (options_of_ticks(**given), options_of_lines(**given)):
        assert found["max_lag"] == Lag(bytes=3 * MIB, messages=1000, seconds=2)
        assert found["retention_bytes"] == 4 * MIB
    lossless = options_of_ticks(on_slow="lossless")
    assert lossless["max_lag"] == Lag(bytes=12 * MIB)


def test_what_is_kept_is_what_was_asked_for_and_at_least_the_last_lines() -> None:
    every = {"history": 100, "history_bytes": MIB, "history_seconds": 30}
    for found in (options_of_ticks(**every, retain=True), options_of_lines(**every, retain=True)):
        assert (found["history"], found["retain"]) == (History(100, MIB, 30), True)
    assert options_of_lines(last=20, history=10)["history"] == History(20)
    assert options_of_lines(last=20, history_seconds=5)["history"] == History(seconds=5)
    assert options_of_lines(last=0)["history"] == History()


def test_a_policy_holds_at_every_rate(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1, on_slow="close", max_lag_bytes=300_000) as site:
            topic = site.feed.server.topic("ticks")
            before = topic.options
            await site.http("POST", "/config", {"rate": "max"})
            assert topic.options == before
        async with Site(rate=1, on_slow="lossless") as site:
            topic = site.feed.server.topic("ticks")
            assert topic.options["max_lag"].bytes == 12 * MIB
            await site.http("POST", "/config", {"rate": "max"})  # a small log stays in the cache
            assert topic.options["max_lag"].bytes == 256 * KIB

    run(story())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"on_slow": "never"}, "on_slow: must be one of latest, drop_oldest, close, lossless"),
    ({"on_slow": "lossless", "max_lag": 1}, "max_lag: is not for lossless clients"),
    ({"on_slow": "lossless", "max_lag_messages": 1}, "max_lag_messages: is not for lossless"),
    ({"max_lag_messages": -1}, "max_lag_messages: must be an integer from 0"),
    ({"history": 1.5}, "history: must be an integer from 0"),
    ({"history_bytes": -1}, "history_bytes: must be an integer from 0"),
    ({"history_seconds": float("nan")}, "history_seconds: must be a number from 0 to 86,400"),
    ({"history_seconds": 1e-9}, "history_seconds: must be 0 or from 0.001"),
    ({"retain": 1}, "retain: must be true or false"),
]


@pytest.mark.parametrize(("options", "says"), REFUSED)
def test_a_bad_option_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServeOptions(**options)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["serve", "--on-slow", "never"], {}, "'--on-slow': 'never' is not one of 'latest', 'drop"),
        (["serve"], {"FASTWS_HISTORY": "-1"}, "--history: must be an integer from 0"),
        (["serve", "--history-bytes", "5MiB"], {}, "'--history-bytes': '5MiB' is not a valid"),
        (
            ["serve", "--history-bytes", "2097152", "--max-log-bytes", "1048576"],
            {},
            "--history-bytes: must not exceed --max-log-bytes, 1,048,576",
        ),
        (
            ["serve", "--on-slow", "lossless", "--max-lag", "1"],
            {},
            "--max-lag: is not for lossless clients, which skip nothing: --max-lag-bytes bounds",
        ),
        (
            ["serve", "--source", "-"],
            {"FASTWS_MAX_LAG_MESSAGES": "10"},
            "--max-lag-messages: is not for lossless clients",
        ),
        (
            ["serve", "--on-slow", "close", "--min-rate", "1"],
            {},
            "--min-rate: is for lossless clients; --on-slow is close",
        ),
    ],
)
def test_a_wrong_option_of_the_command_is_explained(
    arguments: list[str], variables: dict[str, str], says: str, typed: Type
) -> None:
    done = typed(*arguments, **variables)
    assert (done.status, done.output) == (2, "")
    assert says in done.errors


# Slow clients of the ticks.


async def sequence(client: Client, n: int) -> list[int]:
    return [(await client.tick())["seq"] for _ in range(n)]


async def publish(site: Site, n: int) -> None:
    """Let the feed publish that many ticks at least, and stop."""
    await site.http("POST", "/config", {"rate": 1_000_000})
    topic = site.feed.server.topic("ticks")
    await eventually(lambda: topic.appended >= n)
    await site.http("POST", "/config", {"rate": 0})


def test_drop_oldest_leaves_as_many_messages_as_the_limit_says(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(on_slow="drop_oldest", max_lag_messages=5000, fields="seq") as site,
            await site.websocket(receive_buffer=SMALL) as slow,
        ):
            await publish(site, 100_000)
            topic = site.feed.server.topic("ticks")
            await eventually(lambda: 0 < topic.account()["pending"] <= 5001)  # one is half sent
            assert topic.account()["pending"] >= 5000  # and not the newest alone
            seen = await sequence(slow, 1)
            while seen[-1] < topic.seq:
                seen += await sequence(slow, 1)
            missed = sum(after - before - 1 for before, after in pairwise(seen))
            assert topic.account()["dropped"] == missed + seen[0] > 0

    run(story())


def test_close_ends_who_is_too_many_messages_behind(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(on_slow="close", max_lag_messages=5000) as site,
            await site.websocket(receive_buffer=SMALL) as slow,
        ):
            await publish(site, 100_000)
            while (frame := await slow.frame())[0] != CLOSE:
                pass
            assert frame[1][:2] == close_payload(1013)

    run(story())


def test_a_lossless_feed_waits_for_its_clients_at_a_fixed_rate(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(on_slow="lossless", max_lag_bytes=100_000, fields="seq") as site,
            await site.websocket(receive_buffer=SMALL) as slow,
        ):
            topic = site.feed.server.topic("ticks")
            await site.http("POST", "/config", {"rate": 1_000_000})
            await eventually(lambda: topic.account()["pending"] * 90 > 90_000)
            seen = await sequence(slow, 20_000)
            assert seen == list(range(20_000))
            account = topic.account()
            assert (account["dropped"], account["pending"] * 80 < 110_000) == (0, True)

    run(story())


# Clients that come later.


def test_history_is_for_who_comes_back(run: Run) -> None:
    async def story() -> None:
        async with Site(history=1000, fields="seq") as site:
            topic = site.feed.server.topic("ticks")
            async with await site.websocket():
                await publish(site, 5000)
            newest = topic.seq
            since = f"{topic.epoch}:{newest - 500}"
            async with await site.dial() as client:
                path = f"/topics/ticks?since={since}"
                await client.send(f"GET {path} HTTP/1.1\r\n{UPGRADE_FIELDS}".encode())
                await client.head()
                assert await sequence(client, 500) == list(range(newest - 499, newest + 1))

    run(story())


def test_a_new_client_gets_the_tick_that_was_retained(run: Run) -> None:
    async def story() -> None:
        async with Site(retain=True, fields="seq") as site:
            async with await site.websocket():
                await publish(site, 100)
            async with await site.websocket() as late:
                newest = site.feed.server.topic("ticks").seq
                assert await sequence(late, 1) == [newest]

    run(story())


def test_a_new_client_gets_the_line_that_was_retained(run: Run, tmp_path: Path) -> None:
    lines = numbered(100)

    async def story() -> None:
        async with LineSite(tmp_path, last=0, retain=True) as site:
            await site.write(b"\n".join([*lines, b""]))
            await site.until(lambda: site.feed.server.topic("lines").appended == 100)
            async with await site.websocket() as late:
                assert await texts(late, 1) == lines[-1:]

    run(story())
