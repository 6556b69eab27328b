"""`fastws.serve`: where it listens, how it starts, and every way in which it ends; both loops."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from handler_apps import eventually, others, websocket
from support import PATIENCE, open_files
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from fastws import App, ConfigError, Connection, HandshakeError, Limits, Request, Server, serve

Run = Callable[[Any], Any]


async def echo(ws: Connection) -> None:
    async for message in ws:
        await ws.send(message)


async def idle(ws: Connection) -> None:
    await ws.wait_closed()


def where(server: Server) -> list[str]:
    names = [sock.getsockname() for sock in server.sockets]
    return [f"ws://[{a[0]}]:{a[1]}" if ":" in a[0] else f"ws://{a[0]}:{a[1]}" for a in names]


async def echoed(uri: str, message: str | bytes = "hello") -> bool:
    async with connect(uri, compression=None) as client:
        await client.send(message)
        return await client.recv() == message


# Where it listens.


def test_async_with_serves_until_its_end(run: Run) -> None:
    async def case() -> None:
        async with serve(echo) as server:
            (uri,) = where(server)
            assert await echoed(uri)
            assert uri.startswith("ws://127.0.0.1:")
        assert server.ended
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await echoed(uri)

    run(case())


def test_await_serves_until_stop(run: Run) -> None:
    async def case() -> None:
        server = await serve(echo)
        assert await echoed(*where(server))
        await server.stop()
        assert server.ended

    run(case())


def test_without_a_host_it_is_every_address_of_both_families_at_one_port(run: Run) -> None:
    async def case() -> None:
        async with serve(echo, None) as server:
            assert {sock.family for sock in server.sockets} == {socket.AF_INET, socket.AF_INET6}
            (port,) = {sock.getsockname()[1] for sock in server.sockets}
            for host in ("127.0.0.1", "[::1]", "127.0.0.2"):
                assert await echoed(f"ws://{host}:{port}")

    run(case())


def test_several_hosts_share_one_free_port(run: Run) -> None:
    async def case() -> None:
        async with serve(echo, ["127.0.0.1", "::1"]) as server:
            uris = where(server)
            assert len(uris) == 2
            assert len({uri.rpartition(":")[2] for uri in uris}) == 1
            for uri in uris:
                assert await echoed(uri)

    run(case())


def test_no_host_at_all_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^host: "):
        serve(echo, [])


def test_a_family_that_the_machine_does_not_have_is_passed_over(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.socket

    def without_ipv6(family: int, *arguments: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real(family, *arguments)

    async def case() -> None:
        with monkeypatch.context() as patched:
            patched.setattr("fastws.server.listeners.socket.socket", without_ipv6)
            server = await serve(echo, None)
            with pytest.raises(ConfigError, match=r"^host: .*not supported"):
                await serve(echo, "::1")
        assert len(server.sockets) == 1
        await server.stop()

    run(case())


def test_a_unix_socket(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        path = str(tmp_path / "s")
        async with serve(echo, unix=path), unix_connect(path) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
        assert os.listdir(tmp_path) == []

    run(case())


@pytest.mark.parametrize("listening", [True, False])
def test_a_socket_of_ones_own(run: Run, listening: bool) -> None:
    async def case() -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        if listening:
            sock.listen()
        async with serve(echo, sock=sock) as server:
            assert server.sockets == (sock,)
            assert await echoed(*where(server))
        assert sock.fileno() == -1

    run(case())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "ssl: TLS is not supported yet"),
        ({"ssl": True}, "ssl: TLS is not supported yet"),
        ({"unix": "/x", "sock": socket}, "sock: cannot be combined with unix"),
        ({"subprotocols": "chat"}, "subprotocols: must be a list"),
        ({"origins": ["nowhere"]}, "origins: "),
        ({"deflate": 1}, "deflate: "),
    ],
)
def test_what_it_cannot_do_is_one_line_before_it_starts(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        serve(echo, **options)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("handler", [lambda ws: None, print, None, App, 3])
def test_a_handler_that_is_not_async_is_a_type_error(handler: Any) -> None:
    with pytest.raises(TypeError, match="async def"):
        serve(handler)


@pytest.mark.parametrize("hosts", ["127.0.0.1", ["::1", "127.0.0.1"]])
def test_an_address_in_use_is_one_line_and_leaks_no_descriptor(run: Run, hosts: Any) -> None:
    async def case() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            before = open_files()
            for _ in range(3):
                server = serve(echo, hosts, port)
                with pytest.raises(
                    ConfigError, match=f"^port: {port} on 127.0.0.1 is in use: choose "
                ):
                    await server
                assert server.ended
                with pytest.raises(ConfigError):
                    async with serve(echo, hosts, port):
                        pass
            assert open_files() == before

    run(case())


def test_without_a_loop_it_starts_nothing_and_leaks_nothing() -> None:
    before = open_files()
    server = serve(echo)
    with pytest.raises(RuntimeError, match="no running event loop"):
        server.start()
    assert server.sockets == ()
    assert open_files() == before


def test_one_that_serves_is_not_started_again_and_serves_on(run: Run) -> None:
    async def case() -> None:
        async with serve(echo) as server:
            with pytest.raises(RuntimeError, match="started already"):
                await server
            assert await echoed(*where(server))

    run(case())


def test_several_servers_share_a_loop_and_end_each_for_itself(run: Run) -> None:
    async def case() -> None:
        async with AsyncExitStack() as stack:
            servers = [await stack.enter_async_context(serve(echo)) for _ in range(4)]
            uris = [where(server)[0] for server in servers]
            clients = [await stack.enter_async_context(connect(uri)) for uri in uris]
            await servers[0].stop()
            with pytest.raises(ConnectionClosedOK):
                await clients[0].recv()
            for server, client in zip(servers[1:], clients[1:], strict=True):
                await client.send("still here")
                assert await client.recv() == "still here"
                assert len(server.connections) == 1

    run(case())


# How it ends.


def test_connections_are_the_open_ones(run: Run) -> None:
    async def case() -> None:
        async with serve(idle) as server:
            assert server.connections == []
            async with connect(*where(server)), connect(*where(server)) as client:
                await eventually(lambda: len(server.connections) == 2)
                assert all(each.is_open for each in server.connections)
                await client.close()
                await eventually(lambda: len(server.connections) == 1)
        assert server.connections == []

    run(case())


def test_stop_says_1001_to_handlers_and_clients_and_waits_for_the_handlers(run: Run) -> None:
    async def case() -> None:
        ends: list[str] = []

        async def handler(ws: Connection) -> None:
            async for _ in ws:
                pass
            await asyncio.sleep(0.01)
            ends.append(f"{ws.close_code}")

        server = await serve(handler)
        async with connect(*where(server)) as client:
            await eventually(lambda: server.connections)
            await asyncio.gather(server.stop(), client.wait_closed())
            assert client.close_code == 1001
        assert ends == ["1001"]
        assert not others()

    run(case())


def test_a_handler_that_never_ends_is_cancelled_at_the_end_of_the_grace(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        seen: list[str] = []

        async def handler(ws: Connection) -> None:
            seen.append("begun")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)
                seen.append("cleaned up")
                raise

        server = await serve(handler)
        client = await websocket(server.sockets[0].getsockname())
        async with client:
            await eventually(lambda: seen == ["begun"])
            began = asyncio.get_running_loop().time()
            await server.stop(grace=0.2)
            took = asyncio.get_running_loop().time() - began
        assert seen == ["begun", "cleaned up"]
        assert 0.2 <= took < 1.2
        assert not others()
        assert not caplog.records

    run(case())


def test_a_handler_that_is_not_done_when_cancelled_is_left_behind_and_said(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        gate = asyncio.Event()

        async def handler(ws: Connection) -> None:
            while not gate.is_set():
                with suppress(asyncio.CancelledError):
                    await gate.wait()

        server = await serve(handler)
        async with await websocket(server.sockets[0].getsockname()):
            await eventually(others)
            await server.stop(grace=0)
        (record,) = caplog.records
        assert record.getMessage().startswith("1 tasks of handlers did not end")
        gate.set()
        await eventually(lambda: not others())

    run(case())


def test_stop_with_a_grace_that_is_none_is_refused(run: Run) -> None:
    async def case() -> None:
        async with serve(echo) as server:
            for grace in (-1, float("nan")):
                with pytest.raises(ValueError, match="grace"):
                    await server.stop(grace=grace)
            assert await echoed(*where(server))

    run(case())


def test_a_handler_may_stop_the_server_and_goes_on_behind_it(run: Run) -> None:
    async def case() -> None:
        seen: list[object] = []
        server: Server

        async def handler(ws: Connection) -> None:
            async for message in ws:
                if message == "stop":
                    await server.stop()
                    seen.append(("stopped", ws.close_code, server.ended))

        async with serve(handler) as server:
            async with connect(*where(server)) as other, connect(*where(server)) as client:
                await client.send("stop")
                async with asyncio.timeout(PATIENCE):
                    await server.serve_forever()
                await asyncio.gather(client.wait_closed(), other.wait_closed())
                assert (client.close_code, other.close_code) == (1001, 1001)
            await eventually(lambda: seen == [("stopped", 1001, True)])

    run(case())


def test_close_cuts_off_at_once_and_cancels_the_handlers(run: Run) -> None:
    async def case() -> None:
        seen: list[str] = []

        async def handler(ws: Connection) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        server = await serve(handler)
        async with connect(*where(server)) as client:
            await eventually(lambda: server.connections and others())
            server.close()
            server.close()
            assert server.sockets == ()
            await server.wait_closed()
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            await eventually(lambda: seen == ["cancelled"])

    run(case())


def test_close_during_stop_ends_it_at_once(run: Run) -> None:
    async def case() -> None:
        server = await serve(idle)
        async with await websocket(server.sockets[0].getsockname()):
            await eventually(lambda: server.connections)
            stopping = asyncio.create_task(server.stop(grace=60))
            waiting = asyncio.create_task(server.wait_closed())
            await asyncio.sleep(0)
            server.close()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(stopping, waiting)

    run(case())


def test_serve_forever_ends_with_the_server(run: Run) -> None:
    async def case() -> None:
        for end in ("stop", "close"):
            async with serve(echo) as server:
                waiting = asyncio.create_task(server.serve_forever())
                assert await echoed(*where(server))
                assert not waiting.done()
                if end == "stop":
                    await server.stop()
                else:
                    server.close()
                async with asyncio.timeout(PATIENCE):
                    await waiting
                await server.serve_forever()  # it has ended

    run(case())


def test_a_cancelled_serve_forever_lets_async_with_stop_it(run: Run) -> None:
    async def case() -> None:
        started = asyncio.get_running_loop().create_future()

        async def main() -> None:
            async with serve(echo) as server:
                started.set_result(server)
                await server.serve_forever()

        task = asyncio.create_task(main())
        server = await started
        assert await echoed(*where(server))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert server.ended

    run(case())


def test_before_it_has_started_nothing_can_be_waited_for(run: Run) -> None:
    async def case() -> None:
        server = serve(echo)
        for wait in (server.serve_forever, server.wait_closed):
            with pytest.raises(RuntimeError, match="has not started"):
                await wait()
        await server.stop()
        assert server.ended
        with pytest.raises(RuntimeError, match="closed"):
            await server

    run(case())


# Whom it lets in.


def test_an_app_is_served_as_well_as_a_handler(run: Run) -> None:
    class Echo(App):
        def admit(self, connection: Connection, request: Request) -> None:
            if request.path == "/no":
                raise HandshakeError(403, "No")

        def message(self, connection: Connection, message: str | bytes) -> None:
            connection.send_nowait(message)

    async def case() -> None:
        async with serve(Echo(), limits=Limits(max_message_size=8)) as server:
            (uri,) = where(server)
            assert await echoed(uri)
            with pytest.raises(ConnectionClosedError, match="1009"):
                await echoed(uri, "123456789")
            with pytest.raises(Exception, match="HTTP 403"):
                await echoed(uri + "/no")

    run(case())
