"""`fastws.serve`: where it listens, how it starts, and what it serves; both loops."""

import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from handler_apps import echo, echoed, where
from support import open_files
from websockets.asyncio.client import connect, unix_connect
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK

from fastws import App, ConfigError, Connection, HandshakeError, Limits, Request, serve

Run = Callable[[Any], Any]


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
