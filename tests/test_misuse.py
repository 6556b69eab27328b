"""What somebody who uses the library wrongly is told: at once, and what to do instead."""

import asyncio
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import TEXT, Rig, client_frame, limited

from fastws import App, ConfigError, Connection, Server, Topic
from fastws.http.origin import origins_of
from fastws.server.handlers import check_done

Run = Callable[[Any], Any]


async def still_serves(address: tuple[str, int]) -> bool:
    with socket.create_connection(address) as client:
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 426 ")


@pytest.mark.parametrize("binding", [Topic, Connection])
def test_a_binding_that_only_the_engine_makes_says_so(binding: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="made by the engine"):
        binding()


def test_an_engine_refuses_a_connection_of_another_engine() -> None:
    with Rig() as rig, Rig() as other:
        connection, _ = rig.connect()
        engine = other.engine
        calls: list[Callable[[], object]] = [
            lambda: engine.respond(connection, b"", keep_alive=True),
            lambda: engine.upgrade(connection, b""), lambda: engine.expect_body(connection, 1),
            lambda: engine.is_http(connection), lambda: engine.over_limit(connection),
            lambda: engine.over_address(connection), lambda: engine.meter(connection),
            lambda: engine.metered_of(connection), lambda: engine.numbered(connection),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(ValueError, match="another engine"):
                call()
        assert connection.is_open


def test_a_handler_that_returns_its_answer_is_told_to_send_it() -> None:
    with Rig() as rig:
        rig.engine.on_message = lambda _, message: message
        _, peer = rig.connect()
        peer.send(client_frame(TEXT, b"x"))
        rig.until(lambda: rig.errors)
        assert "returned 'x'" in str(rig.errors[0])
        assert "connection.send_nowait" in str(rig.errors[0])
    with pytest.raises(TypeError, match=r"connection\.send"):
        check_done("x")


@pytest.mark.parametrize("app", [None, App, "app"])
def test_a_server_of_what_is_no_app_is_refused(app: Any) -> None:
    with pytest.raises(TypeError, match="an instance of App"):
        Server(app)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_connections", 0),
        ("max_connections", -1),
        ("max_connections", "10"),
        ("max_connections", 1.5),
        ("max_connections", True),
        ("max_per_address", -1),
        ("max_message_size", -1),
        ("max_message_size", "1MB"),
        ("max_fragments", 0),
        ("handler_queue", 65_535),
        ("origins", "https://example.com"),
        ("origins", 5),
        ("origins", ["example.com"]),
        ("origins", ["https://example.com/"]),
    ],
)
def test_an_option_out_of_range_is_one_line_that_names_it(option: str, value: object) -> None:
    options: Any = {option: value}
    with pytest.raises(ConfigError, match=f"^{option}: must be "):
        Server(App(), **limited(options))


def test_origins_may_come_from_anything_that_gives_them() -> None:
    origins = ["https://example.com", "null"]
    assert origins_of("origins", iter(origins)) == tuple(origins)


def test_a_port_that_is_text_is_one_line() -> None:
    server, port = Server(App()), "8080"
    with pytest.raises(ConfigError, match=r"^port: must be an integer from 0 to 65,535$"):
        server.listen("127.0.0.1", port)  # type: ignore[arg-type]
    server.close()


def test_a_server_starts_once(run: Run) -> None:
    async def story() -> None:
        server = Server(App())
        server.start()
        with pytest.raises(RuntimeError, match="started already"):
            server.start()
        server.close()
        with pytest.raises(RuntimeError, match="closed; make a new Server"):
            server.start()

    run(story())


def test_an_address_added_after_the_start_is_refused_rather_than_left_unserved(run: Run) -> None:
    async def story() -> None:
        server = Server(App())
        server.start()
        with pytest.raises(RuntimeError, match="listen before start"):
            server.listen("127.0.0.1", 0)
        with pytest.raises(RuntimeError, match="before start"):
            server.listen_unix("never.sock")
        server.close()
        with pytest.raises(RuntimeError, match="closed; make a new Server"):
            server.listen("127.0.0.1", 0)

    run(story())


def test_ending_it_in_another_thread_is_refused_and_changes_nothing(run: Run) -> None:
    def elsewhere(server: Server) -> None:
        with pytest.raises(RuntimeError, match="call_soon_threadsafe"):
            server.close()
        with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
            asyncio.run(server.stop())

    async def story() -> None:
        server = Server(App())
        (address,) = server.listen("127.0.0.1", 0)
        server.start()
        await asyncio.to_thread(elsewhere, server)
        assert await still_serves(address)
        await server.stop()

    run(story())


def test_stopping_with_a_close_that_cannot_be_sent_changes_nothing(run: Run) -> None:
    async def story() -> None:
        server = Server(App())
        (address,) = server.listen("127.0.0.1", 0)
        server.start()
        for arguments in [(99,), (1005, "why"), (1000, "x" * 124)]:
            with pytest.raises(ValueError, match="cannot close with"):
                await server.stop(*arguments)
        assert await still_serves(address)
        await server.stop()

    run(story())


def test_a_server_whose_loop_has_ended_may_be_closed_in_any_thread(tmp_path: Path) -> None:
    server = Server(App())
    server.listen_unix(str(tmp_path / "s"))

    async def story() -> None:
        server.start()
        await asyncio.sleep(0)

    thread = threading.Thread(target=asyncio.run, args=(story(),))
    thread.start()
    thread.join()
    server.close()
    server.close()
    assert not (tmp_path / "s").exists()
    with pytest.raises(RuntimeError, match="closed"):
        server.counters()


def test_a_server_whose_loop_has_stopped_is_closed_in_the_loops_thread(run: Run) -> None:
    server = Server(App())
    said: list[str] = []

    async def story() -> None:
        server.listen("127.0.0.1", 0)
        server.start()
        await asyncio.sleep(0)

    def elsewhere() -> None:
        try:
            server.close()
        except RuntimeError as error:
            said.append(str(error))

    run(story())
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "has not ended: call it there" in said[0]
    server.close()
