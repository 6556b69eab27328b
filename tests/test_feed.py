"""The tick feed end to end over real sockets: docs/protocol.md 1 and 2."""

import asyncio
import json
import re
import struct
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support import (
    BINARY,
    CLOSE,
    PATIENCE,
    PING,
    PONG,
    TEXT,
    Client,
    Site,
    balances,
    client_frame,
    close_payload,
)

from fastws.ticks.config import ServeOptions

Run = Callable[[Any], Any]
SMALL = 4096  # a receive buffer that is full soon
TICK = re.compile(
    rb'\{"symbol":"(BTC|ETH|SOL|DOGE|XRP)","price":(\d+|\d+\.\d{0,5}[1-9]),"ts":\d{13}\}'
)


# Ticks.


def test_first_frame_after_the_101_is_a_tick_due_now(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1000) as site, await site.websocket() as client:
            opcode, payload = await client.frame()
            assert opcode == TEXT
            assert TICK.fullmatch(payload)
            assert abs(json.loads(payload)["ts"] - time.time() * 1000) < 5_000

    run(story())


def test_ticks_are_golden_and_their_times_never_go_back(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=20_000) as site, await site.websocket() as client:
            last = 0
            for opcode, payload in await client.frames(2000):
                assert opcode == TEXT
                assert TICK.fullmatch(payload), payload
                assert 45 <= len(payload) <= 60
                ts = json.loads(payload)["ts"]
                assert ts >= last
                last = ts

    run(story())


def test_binary_ticks_are_golden(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=20_000, format="binary") as site, await site.websocket() as client:
            for opcode, payload in await client.frames(500):
                assert (opcode, len(payload)) == (BINARY, 20)
                symbol, price, ts = struct.unpack("<Idq", payload)
                assert symbol < 5
                assert 0.0001 <= price < 100_000
                assert abs(ts - time.time() * 1000) < 5_000

    run(story())


def test_at_rate_0_nothing_is_sent(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=0) as site, await site.websocket() as client:
            for i in range(10):
                await client.send(client_frame(PING, b"%d" % i))
                assert await client.frame() == (PONG, b"%d" % i)
            assert (await site.stats())["server"]["published"] == 0

    run(story())


def test_clients_get_the_same_ticks(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(rate=5000, fields="seq") as site,
            await site.websocket(path="/a") as first,
            await site.websocket(path="/b") as second,
        ):
            one = {tick["seq"]: tick for tick in [await first.tick() for _ in range(500)]}
            other = {tick["seq"]: tick for tick in [await second.tick() for _ in range(500)]}
            common = one.keys() & other.keys()
            assert len(common) > 100
            assert all(one[seq] == other[seq] for seq in common)
            assert list(next(iter(one.values()))) == ["symbol", "price", "ts", "seq", "tsNs"]

    run(story())


# Configuration.


def test_change_of_rate_is_in_force_at_once_for_everybody(run: Run) -> None:
    """At the old rate the next tick was a hundred years away."""

    async def story() -> None:
        async with Site() as site, await site.websocket() as first, await site.websocket() as other:
            answer = await site.http("POST", "/config", {"rate": 5000})
            assert answer.json["rate"] == 5000
            for client in (first, other):
                await client.frames(200)
            await site.http("POST", "/config", {"rate": 0})
            stats = await site.stats_when(lambda stats: stats["server"]["pending"] == 0)
            delivered = stats["server"]["delivered"]
            assert stats["targetRate"] == 0
            for client in (first, other):
                await client.send(client_frame(PING))
                await client.until(PONG)
            assert (await site.stats())["server"]["delivered"] == delivered

    run(story())


def test_change_of_format_is_in_force_in_mid_stream(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=5000) as site, await site.websocket() as client:
            await client.frames(100)
            assert (await site.http("POST", "/config", {"format": "binary"})).status == 200
            while (frame := await client.frame())[0] == TEXT:
                assert TICK.fullmatch(frame[1])
            for opcode, payload in [frame, *await client.frames(100)]:
                assert (opcode, len(payload)) == (BINARY, 20)
            await site.http("POST", "/config", {"format": "json"})
            while (await client.frame())[0] == BINARY:
                pass
            assert all(opcode == TEXT for opcode, _ in await client.frames(100))

    run(story())


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"rate": "fast"}, "rate"),
        ({"rate": -1}, "rate"),
        ({"rate": 100_000_001}, "rate"),
        ({"rate": 1.5}, "rate"),
        ({"rate": True}, "rate"),
        ({"rate": None}, "rate"),
        ({"rate": 5, "rampEnabled": 1}, "rampEnabled"),
        ({"rate": 5, "rampPercent": "x"}, "rampPercent"),
        ({"rate": 5, "rampIntervalSec": 0}, "rampIntervalSec"),
        ({"rate": 5, "format": "xml"}, "format"),
        ({"rate": 5, "rat": 5}, "rat"),
        ([], "Invalid JSON"),
        (b"{", "Invalid JSON"),
        (b"\xff", "Invalid JSON"),
        (None, "Invalid JSON"),
    ],
)
def test_bad_change_names_the_field_and_changes_nothing(run: Run, body: object, says: str) -> None:
    async def story() -> None:
        async with Site(rate=7) as site:
            before = (await site.http("GET", "/config")).body
            answer = await site.http("POST", "/config", body)
            assert answer.status == 400
            assert says in answer.body.decode()
            assert (await site.http("GET", "/config")).body == before

    run(story())


def test_change_through_a_proxy_needs_the_token(run: Run) -> None:
    async def story() -> None:
        async with Site(admin_token="s3cret") as site:
            for field in ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1"):
                for method, path in (("POST", "/config"), ("DELETE", "/stats")):
                    body = {"rate": 3} if method == "POST" else None
                    refused = await site.http(method, path, body, [field])
                    assert refused.status == 403
                    wrong = [field, "Authorization: Bearer secret"]
                    assert (await site.http(method, path, body, wrong)).status == 403
                    right = [field, "Authorization: Bearer s3cret"]
                    assert (await site.http(method, path, body, right)).status == 200
                assert (await site.http("GET", "/stats", None, [field])).status == 200

    run(story())


def test_ramp_multiplies_the_rate_at_each_interval(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=10) as site:
            change = {"rampEnabled": True, "rampPercent": 55, "rampIntervalSec": 0.1}
            assert (await site.http("POST", "/config", change)).json["rate"] == 10
            steps = [10, 15, 23, 35, 54]  # floor(rate * 1.55)
            seen = []
            async with asyncio.timeout(PATIENCE):
                while steps[-1] not in seen:
                    seen.append((await site.http("GET", "/config")).json["rate"])
            # Where we were held up, one may have passed unseen.
            assert list(dict.fromkeys(seen)) == [rate for rate in steps if rate in seen]
            frozen = (await site.http("POST", "/config", {"rampEnabled": False})).json["rate"]
            assert frozen in (54, 83)

    run(story())


def test_other_changes_hold_up_neither_the_ramp_nor_the_ticks(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=10) as site, await site.websocket() as client:
            change = {"rampEnabled": True, "rampPercent": 55, "rampIntervalSec": 0.2}
            await site.http("POST", "/config", change)

            async def first_binary_tick() -> None:
                while (await client.frame())[0] != BINARY:
                    pass

            tick = asyncio.ensure_future(first_binary_tick())
            rate = 10
            async with asyncio.timeout(PATIENCE):
                while not (tick.done() and rate >= 23):
                    change = {"format": "binary", "rampEnabled": True, "rampIntervalSec": 0.2}
                    rate = (await site.http("POST", "/config", change)).json["rate"]
            await tick

    run(story())


def test_max_rate_ramp_and_back(run: Run) -> None:
    async def story() -> None:
        async with Site(rate="max") as site, await site.websocket() as client:
            await client.frames(10_000)
            assert (await site.stats())["targetRate"] == "max"
            answer = await site.http("POST", "/config", {"rate": 100, "rampEnabled": True})
            assert answer.json["rate"] == 100
            await client.send(client_frame(PING))
            assert await client.until(PONG) == b""

    run(story())


# Ports.


def test_second_port_serves_the_http_api(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=3, http_port=0) as site:
            (_, first), (_, second) = site.addresses
            assert first != second
            for port in (first, second):
                assert (await site.http("GET", "/config", port=port)).json["rate"] == 3
            answer = await site.http("POST", "/config", {"rate": 4}, port=second)
            assert answer.json["rate"] == 4
            assert (await site.http("GET", "/config", port=first)).json["rate"] == 4

    run(story())


def test_second_port_opens_beside_a_unix_socket_as_well(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        path = tmp_path / "s"
        options: dict[str, Any] = {"unix": str(path), "port": 8081, "http_port": 8081}
        assert ServeOptions(**options).http_port == 8081  # nothing else is at that port
        async with Site(rate=3, unix=str(path), http_port=0) as site:
            assert len(site.addresses) == 1
            assert path.is_socket()
            assert (await site.http("GET", "/config")).json["rate"] == 3

    run(story())


# Slow clients.


# So that a test need not send 12 MiB. Not below 256 KiB, which the source appends at a time when
# the process was held up.
SMALL_LAG = 2 << 20


async def sequence(client: Client, n: int) -> list[int]:
    return [json.loads(payload)["seq"] for _, payload in await client.frames(n)]


def test_stalled_client_goes_on_at_a_frame_and_harms_nobody(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(max_lag_bytes=SMALL_LAG, rate=40_000, fields="seq") as site,
            await site.websocket() as healthy,
            await site.websocket(receive_buffer=SMALL) as stalled,
        ):
            await stalled.say({"type": "identify", "clientId": "stalled"})

            async def account() -> Any:
                server = (await site.stats())["server"]
                assert all(balances(row) for row in (server, *server["clients"]))
                return next(row for row in server["clients"] if row["clientId"] == "stalled")

            seen = await sequence(healthy, 1)
            async with asyncio.timeout(PATIENCE):
                while not (await account())["dropped"]:
                    seen += await sequence(healthy, 1000)
            assert seen == list(range(seen[0], seen[0] + len(seen)))

            await site.http("POST", "/config", {"rate": 0})
            got: list[int] = []
            while (row := await account())["pending"]:
                got += await sequence(stalled, 1)
            last = site.feed.server.topic("ticks").appended - 1
            while not got or got[-1] < last:  # what the kernel still had for it
                got += await sequence(stalled, 1)
            assert all(after > before for before, after in pairwise(got))
            holes = sum(after - before - 1 for before, after in pairwise(got))
            assert row["dropped"] == holes > 0

    run(story())


def test_stop_says_1001_to_a_laggard_and_not_behind_all_that_it_missed(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(rate=40_000, fields="seq") as site,
            await site.websocket() as healthy,
            await site.websocket(receive_buffer=SMALL) as laggard,
        ):
            await sequence(healthy, 50_000)  # of 90 bytes
            stopping = asyncio.ensure_future(site.feed.stop())
            seen: list[int] = []
            while (frame := await laggard.frame())[0] == TEXT:
                seen.append(json.loads(frame[1])["seq"])
            assert frame == (CLOSE, close_payload(1001))
            assert len(seen) < 10_000
            assert any(after > before + 30_000 for before, after in pairwise(seen))
            for client in (healthy, laggard):
                await client.send(client_frame(CLOSE, close_payload(1001)))
            await stopping

    run(story())


def test_at_max_rate_every_client_gets_every_tick(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(rate="max", fields="seq") as site,
            await site.websocket() as first,
            await site.websocket() as second,
        ):
            one: list[int] = []
            other: list[int] = []
            while len(one) < 20_000:
                one += await sequence(first, 1)
                other += await sequence(second, 1)
            for seen in (one, other):
                assert seen == list(range(seen[0], seen[0] + len(seen)))
            server = (await site.stats())["server"]
            assert (server["dropped"], server["pacing"]["missed"]) == (0, 0)
            assert balances(server)

    run(story())


def test_stats_answer_while_the_feed_runs_at_max_rate(run: Run) -> None:
    async def story() -> None:
        async with Site(rate="max") as site, await site.websocket() as client:
            reading = asyncio.ensure_future(client.frames(50_000))
            for _ in range(5):
                assert (await site.stats())["targetRate"] == "max"
            await reading

    run(story())
