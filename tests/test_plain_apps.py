"""Plain topics beside what else an App has: names, and who may subscribe."""

import asyncio
from typing import Any

import pytest
from handler_apps import eventually
from plain_site import Run, plain_site, position
from websockets.asyncio.client import connect

from fastws import App, Connection, Lag, Request, Response, serve
from fastws.server.plain import Plain, PlainTopics


class Watched(App):
    """Says what is called."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def admit(self, connection: Connection, request: Request) -> Response | None:
        self.called.append(f"admit {request.path}")
        return Response(101, headers=[("X-Admitted", "yes")])

    def opened(self, connection: Connection, request: Request) -> None:
        self.called.append(f"opened {request.path}")

    def closed(self, connection: Connection) -> None:
        self.called.append("closed")


def test_admit_is_asked_and_opened_and_closed_are_for_others(run: Run) -> None:
    async def case() -> None:
        app = Watched()
        async with plain_site(app=app) as site:
            site.kept("t")
            async with site.connect("/topics/t") as ws:
                assert ws.response is not None
                assert ws.response.headers["X-Admitted"] == "yes"
            await eventually(lambda: not site.server.connections)
            async with site.connect("/other"):
                pass
            await eventually(lambda: not site.server.connections)
            assert app.called == ["admit /topics/t", "admit /other", "opened /other", "closed"]

    run(case())


def test_a_route_of_the_same_path_comes_first(run: Run) -> None:
    async def case() -> None:
        app = App()

        @app.websocket("/topics/own")
        async def own(ws: Connection) -> None:
            await ws.send("mine")

        async with plain_site(app=app) as site:
            site.kept("own")
            async with site.connect("/topics/own") as ws:
                assert await ws.recv() == "mine"
            assert (await site.refused("/elsewhere")).status == 404

    run(case())


def test_each_prefix_has_rules_of_its_own(run: Run) -> None:
    async def case() -> None:
        app = App()
        app.plain_topics(lambda request, topic: True, prefix="/topics/rooms/")
        with pytest.raises(ValueError, match="already"):
            app.plain_topics(prefix="/topics/rooms/")
        async with plain_site(app=app) as site:
            async with site.connect("/topics/rooms/blue"):
                assert site.server.engine.find_topic("blue") is not None
            assert (await site.refused("/topics/blue/green")).status == 404

    run(case())


@pytest.mark.parametrize("prefix", ["topics/", "/topics", ""])
def test_a_prefix_begins_and_ends_with_a_slash(prefix: str) -> None:
    with pytest.raises(ValueError, match="slash"):
        App().plain_topics(prefix=prefix)


# Names.


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/topics/a", "a"),
        ("/topics/a/", "a"),
        ("/topics/a/b.c:d_e-f", "a/b.c:d_e-f"),
        ("/topics/a%2Fb", "a/b"),
        ("/%74opics/%61", "a"),
    ],
)
def test_the_rest_of_the_path_is_the_name(run: Run, target: str, name: str) -> None:
    async def case() -> None:
        async with plain_site() as site:
            topic = site.server.topic(name, retain=True)
            topic.publish(name)
            async with site.connect(target) as ws:
                assert await ws.recv() == name

    run(case())


def test_a_program_may_allow_any_names(run: Run) -> None:
    async def case() -> None:
        async with plain_site(name_pattern=".+") as site:
            site.server.topic("größe *", retain=True).publish("1")
            async with site.connect("/topics/gr%C3%B6%C3%9Fe%20*") as ws:
                assert await ws.recv() == "1"

    run(case())


# Who may subscribe.


def at_once(request: Request, topic: str) -> bool:
    return request.query["token"] == "good"


async def later(request: Request, topic: str) -> bool:
    await asyncio.sleep(0)
    return at_once(request, topic)


@pytest.mark.parametrize("can_subscribe", [at_once, later])
def test_who_is_allowed_makes_the_topic_and_it_goes_with_the_client(
    run: Run, can_subscribe: Any
) -> None:
    async def case() -> None:
        async with plain_site(can_subscribe, query=["token"]) as site:
            async with site.connect("/topics/new?token=good") as ws:
                assert position(ws)[1] == -1
                site.server.topic("new").publish("hello")
                assert await ws.recv() == "hello"
            await eventually(lambda: site.server.engine.find_topic("new") is None)
            answer = await site.refused("/topics/new?token=bad")
            assert (answer.status, answer.body) == (403, b"not allowed to subscribe to this topic")
            assert site.server.engine.find_topic("new") is None

    run(case())


def test_can_subscribe_may_leave_it_to_what_exists_or_answer(run: Run) -> None:
    def ask(request: Request, topic: str) -> Response | None:
        if topic == "teapot":
            return Response(418, "short and stout")
        return Response(101, headers=[("X-Seat", "7")]) if topic == "seat" else None

    async def case() -> None:
        async with plain_site(ask) as site:
            site.kept("there")
            async with site.connect("/topics/there"):
                pass
            async with site.connect("/topics/seat") as ws:
                assert ws.response is not None
                assert ws.response.headers["X-Seat"] == "7"
                assert position(ws)[1] == -1
            assert (await site.refused("/topics/nowhere")).status == 404
            assert (await site.refused("/topics/teapot")).body == b"short and stout"

    run(case())


def test_max_lag_counts_up_to_what_a_topic_retains(run: Run) -> None:
    async def case() -> None:
        async with plain_site(max_lag=Lag(bytes=1 << 20, messages=9)) as site:
            site.server.topic("small", max_lag=Lag(bytes=4096), retention_bytes=8192)
            async with site.connect("/topics/small?onSlow=latest"):
                (connection,) = site.server.connections
                assert connection.subscribe("small").active
                assert site.server.counters()["topics_refused"] == 0

    run(case())


class Nobodys:
    """Stands for a topic; whoever asks for the connections of its engine fails."""


def test_to_close_a_topic_looks_at_its_own_clients_only() -> None:
    topic: Any = Nobodys()
    Plain(lambda: (PlainTopics(),), 128).topic_closed(topic)


@pytest.mark.parametrize(
    ("lag", "error"),
    [(Lag(messages=0), ValueError), (Lag(bytes=-5), ValueError), (5, TypeError)],
)
def test_a_max_lag_that_no_client_could_have_is_refused_at_once(
    lag: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        App().plain_topics(max_lag=lag)


def test_what_fails_behind_the_upgrade_is_known_by_its_name(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def greets(connection: Connection) -> None:
        raise ValueError("no words")

    async def case() -> None:
        app = App()
        app.plain = (PlainTopics(came=greets),)
        async with serve(app, "127.0.0.1", 0) as server:
            server.topic("t", on_slow="close")
            host, port = server.sockets[0].getsockname()
            async with connect(f"ws://{host}:{port}/topics/t") as ws:
                await ws.wait_closed()
            assert ws.close_code == 1011

    run(case())
    (failure,) = [each for each in caplog.records if each.levelname == "ERROR"]
    assert "greets" in failure.getMessage()
