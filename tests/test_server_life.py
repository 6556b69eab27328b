"""Where a server listens, and how it stops."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    SWITCHED,
    TEXT,
    UPGRADE,
    Client,
    From,
    Site,
    client_frame,
    close_payload,
    http_request,
    open_files,
    take_frames,
)

from fastws import App, ConfigError, Server
from fastws.http.head import parse_request

Run = Callable[[Any], Any]

# The loop.


class Busy:
    """Stands for an engine that always has work left."""

    turns = 0

    def turn(self, *, poll: bool) -> bool:
        self.turns += 1
        return True


def test_an_engine_with_work_left_takes_one_turn_each_time_the_loop_comes_round(run: Run) -> None:
    async def story() -> None:
        server, busy = Server(App()), Busy()
        (address,) = server.listen("127.0.0.1", 0)
        server.start()
        driver = server._driver
        engine, driver.engine = driver.engine, busy  # the other one is never read, so stays ready
        with socket.create_connection(address):
            for _ in range(50):
                await asyncio.sleep(0)
        driver.engine = engine
        server.close()
        assert 25 < busy.turns <= 51

    run(story())


# The end.

HURRIED = 0.5  # seconds for the answer to a Close


def test_stop_sends_1001_to_every_client(run: Run) -> None:
    async def story() -> None:
        files = open_files()
        site = Site(rate=20_000)
        async with site:
            reader, unread = await site.websocket(), await site.websocket()
            stalled = await site.websocket(receive_buffer=4096)
            idle, raw = await site.dial(), await site.dial()
            await idle.send(http_request("GET", "/config"))
            await idle.response()
            await raw.send(UPGRADE[:50])
            await site.stats_when(lambda stats: stats["server"]["pending"] > 500)
            await reader.frames(100)
            stopping = asyncio.ensure_future(site.feed.stop())
            for client in (reader, unread, stalled):
                assert await client.until(CLOSE) == close_payload(1001)
                await client.send(client_frame(CLOSE, close_payload(1001)))
                assert await client.ended()
                client.sock.close()
            async with asyncio.timeout(5):
                await stopping
            assert (await raw.response()).status == 503
            for client in (idle, raw):
                assert await client.ended()
                client.sock.close()
            assert site.feed.server.engine.live == 0
        assert open_files() == files

    run(story())


def test_stop_cuts_off_who_does_not_answer(run: Run) -> None:
    async def story() -> None:
        async with (
            Site(rate=20_000, close_timeout=HURRIED) as site,
            await site.websocket(),
            await site.websocket(receive_buffer=4096),
        ):
            await site.stats_when(lambda stats: stats["server"]["pending"] > 500)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await site.feed.stop()
            took, least = loop.time() - began, HURRIED
            assert least <= took < least + 0.9  # a sweep comes every 0.25 s

    run(story())


def test_stop_without_clients_is_immediate(run: Run) -> None:
    async def story() -> None:
        async with Site() as site:
            async with asyncio.timeout(1):
                await site.feed.stop()
            with pytest.raises(ConnectionRefusedError):
                await site.dial()

    run(story())


def test_stop_ends_who_connected_and_said_nothing(run: Run) -> None:
    async def story() -> None:
        async with Site(close_timeout=HURRIED) as site, await site.dial() as silent:
            await site.sockets(1)
            async with asyncio.timeout(HURRIED):
                await site.feed.stop()
            assert await silent.ended()

    run(story())


def test_handshakes_while_it_stops_get_503(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.websocket() as client, await site.dial() as late:
            await late.send(UPGRADE[:50])
            await site.sockets(2)
            stopping = asyncio.ensure_future(site.feed.stop())
            assert await client.until(CLOSE) == close_payload(1001)
            await late.send(UPGRADE[50:])
            assert (await late.response()).status == 503
            assert await late.ended()
            late.sock.close()
            await client.send(client_frame(CLOSE, close_payload(1001)))
            assert await client.ended()
            client.sock.close()
            await stopping

    run(story())


def test_a_body_that_comes_while_it_stops_gets_503_and_changes_nothing(run: Run) -> None:
    async def story() -> None:
        async with Site() as site, await site.dial() as late:
            whole = http_request("POST", "/config", {"rate": 9}, ["Expect: 100-continue"])
            head, _, body = whole.partition(b"\r\n\r\n")
            await late.send(head + b"\r\n\r\n")
            assert (await late.head()).startswith(b"HTTP/1.1 100 ")
            await late.send(body)  # and before the loop looks at it:
            await site.feed.stop()
            assert (await late.response()).status == 503
            assert await late.ended()
            assert site.feed.config.rate == 0

    run(story())


def test_stop_before_the_start_or_once_more_lets_go_of_all(run: Run) -> None:
    async def story() -> None:
        files = open_files()
        server = Server(App())
        server.listen("127.0.0.1", 0)
        await server.stop()
        assert open_files() == files
        await server.stop()

    run(story())


def test_two_that_stop_it_at_once_both_hear_of_its_end(run: Run) -> None:
    async def story() -> None:
        server = Server(App())
        (address,) = server.listen("127.0.0.1", 0)
        server.start()
        client = Client(socket.create_connection(address))
        client.sock.setblocking(False)
        async with client:
            await client.send(UPGRADE)
            assert await client.head() == SWITCHED
            stopping = [asyncio.ensure_future(server.stop()) for _ in range(2)]
            assert await client.frame() == (CLOSE, close_payload(1001))
            await client.send(client_frame(CLOSE, close_payload(1001)))
            assert await client.ended()
            async with asyncio.timeout(2):
                await asyncio.gather(*stopping)

    run(story())


# Addresses.


def test_port_in_use_is_one_line(run: Run) -> None:
    async def story() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError) as caught:
                Site(port=port)
            assert str(caught.value).startswith(f"port: {port} on 127.0.0.1 is in use: ")
            with pytest.raises(ConfigError) as caught:
                Site(http_port=port)
            assert str(caught.value).startswith(f"http_port: {port} on 127.0.0.1 is in use: ")

    run(story())


@pytest.mark.parametrize("host", ["no.such.host.invalid", "127.0.0.1.5", "a..b", "x" * 64])
def test_bad_address_is_one_line(run: Run, host: str) -> None:
    async def story() -> None:
        server = Server(App())
        with pytest.raises(ConfigError, match=r"^host: cannot listen on '") as caught:
            server.listen(host, 0)
        assert "\n" not in str(caught.value)
        server.close()

    run(story())


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_port_out_of_range_is_one_line(run: Run, port: int) -> None:
    """The C library would take it modulo 65,536."""

    async def story() -> None:
        server = Server(App())
        with pytest.raises(ConfigError, match=r"^port: must be an integer from 0 to 65,535$"):
            server.listen("127.0.0.1", port)
        server.close()

    run(story())


def test_more_addresses_than_eight_are_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def addresses(*_: object, **__: object) -> list[object]:
        kind = socket.AF_INET, socket.SOCK_STREAM, 0, ""
        return [(*kind, (f"127.0.0.{i}", 0)) for i in range(1, n + 1)]

    async def story() -> None:
        nonlocal n
        says = "^host: more than 8 addresses to listen on$"
        with pytest.raises(ConfigError, match=says):
            Site(host="many.example")
        n = 5
        with pytest.raises(ConfigError, match=says):
            Site(host="many.example", http_port=0)
        n = 4
        site = Site(host="many.example", http_port=0)
        assert len(site.addresses) == 8
        path = tmp_path / "s"
        with pytest.raises(ConfigError, match=r"^unix: more than 8 addresses"):
            site.feed.server.listen_unix(str(path))
        assert not path.exists()
        site.feed.close()

    n = 9
    monkeypatch.setattr("fastws.server.listeners.socket.getaddrinfo", addresses)
    run(story())


@pytest.mark.hostile("X54")
def test_ipv6_loopback_serves(run: Run) -> None:
    async def story() -> None:
        async with Site(host="::1") as site:
            sock = socket.create_connection(("::1", site.port))
            sock.setblocking(False)
            async with Client(sock) as client:
                await client.send(UPGRADE)
                assert await client.head() == SWITCHED
                await client.send(http_request("GET", "/stats")[:0] + client_frame(PING))
                assert await client.frame() == (PONG, b"")
                (row,) = site.feed.stats()["server"]["clients"]  # type: ignore[index]
                assert row["remote"] == f"[::1]:{sock.getsockname()[1]}"

    run(story())


def test_a_change_may_come_from_this_machine_only_and_reading_from_everywhere(run: Run) -> None:
    async def story() -> None:
        async with Site() as site:
            change = http_request("POST", "/config", {"rate": 5})
            head, body = change.split(b"\r\n\r\n")

            def status(head: bytes, body: bytes, host: str) -> int:
                request = replace(parse_request(head + b"\r\n\r\n", peer=From(host)), body=body)
                return site.feed.http(request).status

            assert status(head, body, "192.0.2.1") == 403
            assert status(head, body, "127.0.0.1") == 200
            reading = http_request("GET", "/config").removesuffix(b"\r\n\r\n")
            assert status(reading, b"", "192.0.2.1") == 200

    run(story())


def test_masking_helper_of_the_tests_is_sound() -> None:
    assert take_frames(bytearray(b"\x81\x02hi\x82\x00\x81")) == [(TEXT, b"hi"), (BINARY, b"")]
    assert client_frame(TEXT, b"\0\0\0\0\0")[-5:] == b"\x12\x34\x56\x78\x12"
