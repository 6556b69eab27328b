"""Requests of plain topics that are refused: each with its status, before anything is made."""

import asyncio
from typing import Any

import pytest
from handler_apps import eventually
from plain_site import Run, plain_site
from support import Client, Response, Site, client_frame, http_request

from fastws import App, HandshakeError, Limits, Request

LONG = "a" * 129
REFUSED = [
    # names
    ("/topics/", 404, "Not found"),
    ("/topics//", 404, "Not found"),
    ("/topics//a", 400, "a topic's name matches [A-Za-z0-9_.:-]+(/[A-Za-z0-9_.:-]+)*: /a"),
    ("/topics/a//b", 400, "matches"),
    ("/topics/nowhere", 404, "no such topic"),
    ("/topics/t/more", 404, "no such topic"),
    ("/topics/T", 404, "no such topic"),
    (f"/topics/{LONG}", 400, "a topic's name has at most 128 bytes"),
    ("/topics/" + "%C3%BC" * 65, 400, "a topic's name has at most 128 bytes"),
    ("/topics/%FF", 400, "the path is not UTF-8"),
    ("/topics/%C3", 400, "the path is not UTF-8"),
    ("/topics/%ED%A0%80", 400, "the path is not UTF-8"),
    ("/topics/%zz", 400, "the path has a % without two hexadecimal digits"),
    ("/topics/t%", 400, "the path has a % without two hexadecimal digits"),
    ("/topics/t%00", 400, "matches"),
    ("/topics/a%0d%0aX-Evil:%201", 400, "\\r\\nX-Evil"),
    ("/topics/%1b[2J", 400, "\\x1b[2J"),
    ("/topics/t%20", 400, "matches"),
    ("/topics/t+u", 400, "matches"),
    ("/topics/*", 400, "matches"),
    ("/topics/prices.*", 400, "matches"),
    ("/topics/%C3%BC", 400, "matches"),
    # queries
    ("/topics/t?x=1", 400, "no such option: x; there are"),
    ("/topics/t?=", 400, "no such option: ; there are"),
    ("/topics/t?onslow=latest", 400, "no such option: onslow"),
    ("/topics/t?on%0d%0aSlow=latest", 400, "no such option: on\\r\\nSlow"),
    ("/topics/t?onSlow=latest&onSlow=latest", 400, "onSlow is there twice"),
    ("/topics/t?onSlow=latest&%6FnSlow=close", 400, "onSlow is there twice"),
    ("/topics/t?onSlow", 400, "onSlow must be one of latest, drop_oldest, close, lossless"),
    ("/topics/t?onSlow=Latest", 400, "onSlow must be one of"),
    ("/topics/t?onSlow=latest%00", 400, "onSlow must be one of"),
    ("/topics/t?onSlow=lossless", 403, "onSlow=lossless is not allowed here"),
    *[
        (f"/topics/t?maxRate={value}", 400, "maxRate must be a number from 0.1 to 1000")
        for value in ("", "0", "0.09", "1001", "-1", "+1", "1e3", "nan", "inf", "1.", ".5", "1_0")
    ],
    ("/topics/t?maxRate=1&maxRate=1", 400, "maxRate is there twice"),
    ("/topics/held?maxRate=1", 400, "maxRate is not for lossless: ask for another onSlow"),
    ("/topics/t?since=", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:", 400, "since must look like epoch:seq"),
    ("/topics/t?since=:1", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:b", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:-2", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:1.5", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:+1", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:b:1", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:%D9%A1", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:" + "9" * 20, 400, "since must look like epoch:seq"),
    (f"/topics/t?since={LONG}:1", 400, "since must look like epoch:seq"),
    ("/topics/t?since=a:1&since=a:1", 400, "since is there twice"),
    ("/topics/t?since=%FF:1", 400, "an option is not UTF-8"),
    ("/topics/t?since=%f:1", 400, "an option has a % without two hexadecimal digits"),
    ("/topics/t?" + "a&" * 300, 400, "more than 256 options"),
]


@pytest.mark.hostile("X61")
@pytest.mark.parametrize(("target", "status", "body"), REFUSED)
def test_a_request_that_is_not_good_is_refused(
    run: Run, target: str, status: int, body: str
) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.kept("t")
            site.server.topic("held", on_slow="lossless")
            answer = await site.refused(target)
            assert answer.status == status
            assert body in answer.body.decode()
            assert answer.body.decode().isprintable()
            assert not {"fastws-position", "x-evil"} & answer.headers.keys()
            assert topic.subscribers == 0
            assert not site.server.connections
            await eventually(lambda: site.server.engine.live == 0)
            assert set(site.server.engine.topic_accounts(20)) == {"t", "held"}

    run(case())


@pytest.mark.hostile("X61")
def test_a_stranger_makes_no_topic(run: Run) -> None:
    async def case() -> None:
        async with plain_site() as site:
            for n in range(200):
                assert (await site.refused(f"/topics/t{n}")).status == 404
            assert site.server.counters()["topics_refused"] == 200
            assert site.server.engine.topic_accounts(20) == {}

    run(case())


@pytest.mark.hostile("X61")
def test_the_length_of_a_name_is_a_limit(run: Run) -> None:
    async def case() -> None:
        options = {"limits": Limits(max_topic_name=3)}
        async with plain_site(options=options) as site:
            site.kept("abc")
            async with site.connect("/topics/abc"):
                pass
            assert (await site.refused("/topics/abcd")).status == 400

    run(case())


async def asked(client: Client, request: bytes) -> Response:
    async with client:
        await client.send(request)
        return await client.response()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_no_upgrade_is_told_to_be_one(run: Run, method: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            answer = await asked(await site.dial(), http_request(method, "/topics/t"))
            assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")
        async with Site() as feed:
            answer = await feed.http(method, "/topics/ticks")
            assert answer.status == 426
            assert answer.headers["access-control-allow-origin"] == "*"

    run(case())


def test_a_page_of_another_origin_is_refused(run: Run) -> None:
    async def case() -> None:
        async with plain_site(options={"origins": ["https://app.example"]}) as site:
            site.kept("t")
            request = (
                b"GET /topics/t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                b"Sec-WebSocket-Version: 13\r\nOrigin: https://evil.example\r\n\r\n"
            )
            assert (await asked(await site.dial(), request)).status == 403

    run(case())


# What can_subscribe does.


def raising(request: Request, topic: str) -> bool:
    raise ZeroDivisionError


def refusing(request: Request, topic: str) -> bool:
    raise HandshakeError(402, "pay first")


async def refusing_later(request: Request, topic: str) -> bool:
    return refusing(request, topic)


def no_answer(request: Request, topic: str) -> Any:
    return "yes"


@pytest.mark.parametrize(
    ("can_subscribe", "status"),
    [(raising, 500), (refusing, 402), (refusing_later, 402), (no_answer, 500)],
)
def test_can_subscribe_that_fails_lets_nobody_in(run: Run, can_subscribe: Any, status: int) -> None:
    async def case() -> None:
        async with plain_site(can_subscribe) as site:
            site.kept("t")
            assert (await site.refused("/topics/t")).status == status
            assert not site.server.connections

    run(case())


def test_bad_requests_are_refused_before_anybody_is_asked(run: Run) -> None:
    def ask(request: Request, topic: str) -> bool:
        asked_for.append(topic)
        return False

    asked_for: list[str] = []

    async def case() -> None:
        async with plain_site(ask) as site:
            for target, status, body in REFUSED:
                expected = 403 if body == "no such topic" or "/held" in target else status
                assert (await site.refused(target)).status == expected
            assert asked_for == ["nowhere", "t/more", "T", "held"]

    run(case())


def test_query_names_of_the_program_may_be_repeated_and_are_its_own(run: Run) -> None:
    def ask(request: Request, topic: str) -> bool:
        return request.query_all("token") == ["a", "b"]

    async def case() -> None:
        async with plain_site(ask, query=["token"]) as site:
            async with site.connect("/topics/t?token=a&token=b&onSlow=latest"):
                pass
            assert (await site.refused("/topics/t?token=b")).status == 403
            answer = await site.refused("/topics/t?key2=1")
            assert answer.body.endswith(b"token")

    run(case())


def test_a_client_that_goes_while_it_is_decided_on_leaves_nothing(run: Run) -> None:
    async def case() -> None:
        asked_for = asyncio.Event()

        async def ask(request: Request, topic: str) -> bool:
            asked_for.set()
            await asyncio.get_running_loop().create_future()
            return True

        async with plain_site(ask) as site:
            async with await site.dial() as client:
                fields = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
                head = f"GET /topics/t HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n{fields}\r\n"
                await client.send(f"{head}Connection: Upgrade\r\n\r\n".encode())
                await asked_for.wait()
            await eventually(lambda: site.server.engine.live == 0)
            assert site.server.engine.topic_accounts(20) == {}

    run(case())


def test_the_frames_of_a_client_are_checked_as_elsewhere(run: Run) -> None:
    async def case() -> None:
        async with plain_site(options={"limits": Limits(max_message_size=10)}) as site:
            site.kept("t")
            async with await site.client("/topics/t") as client:
                await client.send(client_frame(1, b"x" * 11))
                assert (await client.until(8))[:2] == b"\x03\xf1"  # 1009

    run(case())


def test_query_is_a_list_and_the_pattern_an_expression() -> None:
    with pytest.raises(TypeError, match="list"):
        App().plain_topics(query="token")
    with pytest.raises(ValueError, match="slash"):
        App().plain_topics(prefix="topics")
