"""permessage-deflate over real sockets, with the client of `websockets`."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support import balances
from websockets.asyncio.client import ClientConnection, connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from fastws import App, ConfigError, Connection, ServeOptions, Server, Topic
from fastws._frame import deflate_available

Run = Callable[[Coroutine[Any, Any, Any]], Any]

PROSE = "the quick brown fox jumps over the lazy dog, " * 20
COMPRESSING = pytest.mark.skipif(not deflate_available(), reason="built without zlib")


class Hall(App):
    """Echoes, and subscribes everybody to one topic."""

    topic: Topic

    def opened(self, connection: Connection, request: Any) -> None:
        connection.subscribe(self.topic)

    def message(self, connection: Connection, message: str | bytes) -> None:
        connection.send_nowait(message)


class Serving:
    """A server on the running loop that compresses."""

    def __init__(self, *, deflate: bool = True) -> None:
        self.app = Hall()
        self.server = Server(self.app, deflate=deflate)
        self.engine = self.server.engine
        self.topic = self.app.topic = self.engine.topic("news")
        ((host, port),) = self.server.listen("127.0.0.1", 0)
        self.url = f"ws://{host}:{port}"

    async def __aenter__(self) -> "Serving":
        self.server.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.server.stop()

    @property
    def deflated(self) -> int:
        return self.engine.counters()["deflated"]


def agreed(client: ClientConnection) -> str | None:
    assert client.response is not None
    return client.response.headers.get("Sec-WebSocket-Extensions")


@COMPRESSING
def test_messages_of_every_size_come_back(run: Run) -> None:
    async def case() -> None:
        async with Serving() as serving, connect(serving.url, max_size=None) as client:
            assert agreed(client)
            for n in (0, 1, 31, 32, 125, 126, 65535, 65536, 1 << 20):
                for message in ("é" * (n // 2), bytes(n), bytes(range(256)) * (n // 256)):
                    await client.send(message)
                    assert await client.recv() == message

    run(case())


@COMPRESSING
@pytest.mark.parametrize("bits", range(9, 16))
def test_every_window_that_a_client_asks_for(run: Run, bits: int) -> None:
    factory = ClientPerMessageDeflateFactory(
        server_max_window_bits=bits, client_max_window_bits=bits
    )

    async def case() -> None:
        serving = Serving()
        async with (
            serving,
            connect(serving.url, compression=None, extensions=[factory]) as client,
        ):
            assert f"server_max_window_bits={bits}" in (agreed(client) or "")
            for i in range(20):
                await client.send(PROSE * i)
                assert await client.recv() == PROSE * i
            serving.topic.publish(PROSE)
            assert await client.recv() == PROSE

    run(case())


@COMPRESSING
def test_a_broadcast_is_compressed_once_and_the_account_balances(run: Run) -> None:
    async def case() -> None:
        async with Serving() as serving:
            clients = [await connect(serving.url) for _ in range(30)]
            clients += [await connect(serving.url, compression=None) for _ in range(10)]
            for i in range(50):
                serving.topic.publish(f"{i} {PROSE}")
                serving.topic.publish(b"%d" % i)
            for client in clients:
                for i in range(50):
                    assert await client.recv() == f"{i} {PROSE}"
                    assert await client.recv() == b"%d" % i
            assert serving.deflated == 50
            account = serving.topic.account()
            assert balances(account)
            assert account["delivered"] == 4000
            for connection in serving.engine.connections:
                assert balances(connection.account())
                assert connection.account()["lag_bytes"] == 0
            for client in clients:
                await client.close()

    run(case())


@COMPRESSING
def test_without_the_option_nothing_is_agreed_on(run: Run) -> None:
    async def case() -> None:
        async with Serving(deflate=False) as serving, connect(serving.url) as client:
            assert agreed(client) is None
            await client.send(PROSE)
            assert await client.recv() == PROSE
            assert serving.deflated == 0

    run(case())


@COMPRESSING
def test_windows_out_of_range_are_a_value_error(run: Run) -> None:
    class Bad(App):
        def opened(self, connection: Connection, request: Any) -> None:
            for bits in (1, 8, 16):
                with pytest.raises(ValueError, match="range"):
                    connection.engine.upgrade(connection, b"", window_bits=bits)
            seen.append(connection)

    seen: list[Connection] = []

    async def case() -> None:
        bad = Server(Bad())
        ((host, port),) = bad.listen("127.0.0.1", 0)
        bad.start()
        async with connect(f"ws://{host}:{port}"):
            assert len(seen) == 1
        await bad.stop()

    run(case())


def test_a_build_without_zlib_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastws.server.server.deflate_available", lambda: False)
    with pytest.raises(ConfigError, match="without zlib"):
        Server(App(), deflate=True)


def test_the_option_is_a_flag() -> None:
    assert ServeOptions().deflate is False
    with pytest.raises(ConfigError, match="true or false"):
        ServeOptions(deflate=1)  # type: ignore[arg-type]
