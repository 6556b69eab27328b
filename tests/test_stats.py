"""GET /stats and the console: reports of clients, the server's own account (docs/protocol.md 2)."""

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from support import (
    BINARY,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Site,
    balances,
    client_frame,
)

from fastws import History

Run = Callable[[Any], Any]
COUNTS = ["published", "delivered", "acknowledged", "dropped", "conflated", "pending"]


def stats_of(client_id: str, **numbers: object) -> dict[str, object]:
    fields = ("messagesPerSec", "totalMessages", "avgLatencyMs", "p99LatencyMs")
    return {"type": "stats", "clientId": client_id} | dict.fromkeys(fields, 0) | numbers


def test_stats_of_a_silent_server_have_the_keys_of_the_contract(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=100) as site, await site.websocket() as client:
            await client.tick()
            stats = await site.stats()
            assert list(stats) == ["serverRate", "targetRate", "clients", "server"]
            assert (stats["targetRate"], stats["clients"]) == (100, {})
            server = stats["server"]
            assert list(server) == [
                *COUNTS, "connections", "ignoredMessages", "pacing", "lastClientUs", "topics",
                "clients", "changes",
            ]  # fmt: skip
            assert list(server["pacing"]) == ["rate", "missed", "slopePpm", "lagUs"]
            assert list(server["pacing"]["lagUs"]) == ["p50", "p99", "max"]
            assert list(server["lastClientUs"]) == ["n", "p50", "p99", "max"]
            assert server["lastClientUs"]["n"] >= 1
            assert list(server["topics"]) == ["ticks"]
            assert list(server["topics"]["ticks"]) == [*COUNTS, "subscribers", "retainedBytes"]
            (row,) = server["clients"]
            assert list(row) == ["clientId", "remote", *COUNTS, "lag", "why"]
            assert list(row["lag"]) == ["messages", "bytes", "seconds"]
            assert row["why"] in ("", "not sent yet")
            host, port = client.sock.getsockname()
            assert (row["clientId"], row["remote"]) == ("", f"{host}:{port}")
            assert (server["connections"], server["ignoredMessages"]) == (1, 0)
            assert server["topics"]["ticks"]["subscribers"] == 1
            for account in (server, server["topics"]["ticks"], row):
                assert balances(account)

    run(story())


def test_reports_of_clients_are_shown_as_they_came(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as rust, await site.websocket() as page:
            await rust.say({"type": "identify", "clientId": "tauri-rust"})
            await rust.say(
                stats_of("tauri-rust", messagesPerSec=186000, totalMessages=1860000,
                         avgLatencyMs=0.2, p99LatencyMs=0.0)
            )  # fmt: skip
            await page.say(stats_of("page", avgLatencyMs=None, p99LatencyMs=None))
            clients = (await site.stats())["clients"]
            assert list(clients) == ["tauri-rust", "page"]
            row = clients["tauri-rust"]
            assert list(row) == [
                "clientId", "lastUpdate", "messagesPerSec", "totalMessages",
                "avgLatencyMs", "p99LatencyMs",
            ]  # fmt: skip
            assert abs(row.pop("lastUpdate") - time.time() * 1000) < 5_000
            assert list(row.values()) == ["tauri-rust", 186000, 1860000, 0.2, 0.0]
            assert clients["page"]["avgLatencyMs"] is None
            names = [client["clientId"] for client in (await site.stats())["server"]["clients"]]
            assert sorted(names) == ["page", "tauri-rust"]

            assert (await site.http("DELETE", "/stats")).json == {"cleared": True}
            stats = await site.stats()
            assert stats["clients"] == {}
            assert len(stats["server"]["clients"]) == 2

    run(story())


def test_what_does_not_parse_is_ignored_and_counted(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client:
            nonsense: list[object] = [1, [], {}, {"type": "x"}, {"type": "identify"}]
            for message in nonsense:
                await client.say(message)
            frames = [client_frame(TEXT, b"{"), client_frame(TEXT), client_frame(BINARY, b"\0")]
            await client.send(b"".join(frames) + client_frame(PING))
            assert await client.frame() == (PONG, b"")
            assert (await site.stats())["server"]["ignoredMessages"] == 8

    run(story())


def test_clients_of_one_name_do_not_hide_one_another(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as first, await site.websocket() as other:
            for client in (first, other):
                await client.say({"type": "identify", "clientId": "twin"})
                await client.say(stats_of("twin"))
            stats = await site.stats()
            assert list(stats["clients"]) == ["twin"]
            rows = stats["server"]["clients"]
            assert [row["clientId"] for row in rows] == ["twin", "twin"]
            ports = {int(row["remote"].rpartition(":")[2]) for row in rows}
            assert ports == {client.sock.getsockname()[1] for client in (first, other)}

    run(story())


def test_at_most_twenty_clients_are_listed(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1000) as site:
            clients = [await site.websocket() for _ in range(25)]
            stats = await site.stats()
            assert stats["server"]["connections"] == 25
            assert len(stats["server"]["clients"]) == 20
            for client in clients:
                client.sock.close()
            stats = await site.stats_when(lambda stats: stats["server"]["connections"] == 0)
            assert stats["server"]["clients"] == []
            assert balances(stats["server"])

    run(story())


def test_at_most_twenty_topics_are_listed_and_the_sums_are_of_all(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as reader:
            engine = site.feed.server.engine
            (connection,) = engine.connections
            topics = [engine.topic(f"topic.{i}") for i in range(100)]
            kept = engine.topic("kept", history=History(messages=100))
            for topic in topics:
                connection.subscribe(topic)
                topic.publish("x" * 100)
                kept.publish("y" * 1000)
            assert len(await reader.frames(100)) == 100
            stats = await site.stats_when(
                lambda stats: stats["server"]["acknowledged"] == stats["server"]["delivered"]
            )
            server = stats["server"]
            assert len(server["topics"]) == 20
            held = [account["retainedBytes"] for account in server["topics"].values()]
            assert next(iter(server["topics"])) == "kept"
            assert held == [100 * 1004] + [0] * 19
            accounts = [topic.account() for topic in topics]
            for count in COUNTS:
                assert server[count] == sum(account[count] for account in accounts)  # type: ignore[literal-required]
            assert balances(server)
            assert (server["published"], server["delivered"]) == (100, 100)
            (row,) = server["clients"]
            assert (row["published"], row["delivered"]) == (100, 100)

            del topics, topic
            reader.sock.close()
            await site.sockets(0)
            server = (await site.stats())["server"]
            assert (server["published"], server["delivered"]) == (100, 100)
            assert sorted(server["topics"]) == ["kept", "ticks"]

    run(story())


def test_delivered_and_acknowledged_are_what_the_client_counted(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=50_000) as site, await site.websocket() as client:
            count = len(await client.frames(20_000))
            await site.http("POST", "/config", {"rate": 0})
            await client.send(client_frame(PING))
            while (await client.frame())[0] != PONG:
                count += 1
            server = (
                await site.stats_when(
                    lambda stats: stats["server"]["acknowledged"] == stats["server"]["delivered"]
                )
            )["server"]
            assert server["published"] == server["delivered"] == count
            assert server["pacing"]["missed"] == 0

    run(story())


@pytest.mark.slow
def test_rates_and_console_lines_of_full_seconds(run: Run) -> None:
    lines: list[str] = []

    async def story() -> None:
        second = asyncio.Event()

        def write_line(line: str) -> None:
            lines.append(line)
            second.set()

        async with Site(rate=1000, lines=write_line) as site, await site.websocket() as client:
            await client.say({"type": "identify", "clientId": "tauri-rust"})
            report = stats_of("tauri-rust", messagesPerSec=1000, avgLatencyMs=0.123)
            await client.say(report | {"p99LatencyMs": None})
            async with asyncio.timeout(PATIENCE):
                while len(lines) < 6:
                    second.clear()
                    await second.wait()
            stats = await site.stats()
            assert stats["serverRate"] == pytest.approx(1000, abs=150)
            assert stats["server"]["pacing"]["rate"] == pytest.approx(1000, abs=150)
            assert lines[3] == f"[Stats] Rate: 1,000/s | Server actual: {stats['serverRate']:,}/s"
            assert lines[4] == "        tauri-rust  :    1,000 msg/s, lat: 0.1ms avg / - p99"
            assert re.fullmatch(r"        connections :        1, lag: \d\.\ds at most", lines[5])

    run(story())


@pytest.mark.slow
def test_console_is_silent_while_nobody_is_connected(run: Run) -> None:
    lines: list[str] = []

    async def story() -> None:
        async with Site(rate=1000, lines=lines.append) as site:
            await asyncio.sleep(1.1)  # a second in which nothing is to happen
            await site.stats()

    run(story())
    assert lines == []
