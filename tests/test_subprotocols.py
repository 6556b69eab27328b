"""Subprotocols of a server: the first that both speak, or what a function chooses."""

from collections.abc import Callable
from typing import Any

import pytest
from handler_apps import served
from websockets.asyncio.client import connect
from websockets.exceptions import NegotiationError

from fastws import Connection, HandshakeError, Request

Run = Callable[[Any], Any]


async def tell_subprotocol(ws: Connection) -> None:
    await ws.send(f"{ws.subprotocol}")


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [(["chat"], "chat"), (["other", "v2", "chat"], "v2"), (["other"], None), ([], None)],
)
def test_the_first_subprotocol_asked_for_that_is_spoken_is_chosen(
    run: Run, asked: list[Any], chosen: str | None
) -> None:
    async def case() -> None:
        async with served(tell_subprotocol, subprotocols=["chat", "v2"]) as (_, (host, port)):
            uri = f"ws://{host}:{port}"
            async with connect(uri, subprotocols=asked or None) as client:
                assert client.subprotocol == chosen
                assert await client.recv() == f"{chosen}"

    run(case())


def test_a_function_may_choose_the_subprotocol_or_refuse(run: Run) -> None:
    def choose(request: Request, asked: list[str]) -> str | None:
        if request.path == "/none":
            raise HandshakeError(400, "None of these")
        return asked[-1] if request.path == "/last" else "not asked for"

    async def case() -> None:
        async with served(tell_subprotocol, select_subprotocol=choose) as (_, (host, port)):
            uri = f"ws://{host}:{port}"
            asked: list[Any] = ["a", "b"]
            async with connect(f"{uri}/last", subprotocols=asked) as client:
                assert client.subprotocol == "b"
            with pytest.raises(Exception, match="HTTP 400"):
                await connect(f"{uri}/none", subprotocols=asked)
            with pytest.raises(Exception, match="HTTP 500") as caught:
                await connect(f"{uri}/", subprotocols=asked)
            assert not isinstance(caught.value, NegotiationError)

    run(case())
