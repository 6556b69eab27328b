"""What `repr` says of connections, topics, subscriptions and frames."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import CLOSE, From, Rig, client_frame, close_payload

from fastws import App, Connection, Frame, Limits, Server, connect
from fastws.http.head import parse_request

Run = Callable[[Any], Any]


def place(connection: Connection) -> str:
    return "{}:{}".format(*connection.remote_address)


def test_a_connection_says_its_number_its_peer_and_its_state() -> None:
    with Rig() as rig:
        waiting: list[str] = []
        open_it = rig.engine.on_head
        assert open_it is not None

        def note(connection: Connection, head: bytes) -> None:
            waiting.append(repr(connection))
            open_it(connection, head)

        rig.engine.on_head = note
        connection, peer = rig.connect()
        where = place(connection)
        slot = connection.id & 0xFFFFFFFF
        assert waiting == [f"<fastws.Connection {slot} {where} http>"]
        assert repr(connection) == f"<fastws.Connection {slot} {where} open>"
        connection.close(1001)
        assert repr(connection) == f"<fastws.Connection {slot} {where} closing>"
        peer.send(client_frame(CLOSE, close_payload(4000, "why\n")))
        rig.until(lambda: peer.pull().ended)
        peer.sock.close()
        rig.until(lambda: rig.closed)
        assert repr(connection) == rf"<fastws.Connection {slot} {where} closed 4000 'why\n'>"
        next_one, _ = rig.connect()
        assert repr(next_one) == f"<fastws.Connection {slot}.2 {place(next_one)} open>"


def test_a_connection_that_was_aborted_is_closed_at_once() -> None:
    with Rig() as rig:
        connection, _ = rig.connect()
        connection.abort()
        assert repr(connection).endswith(" closed 1006>")
        rig.until(lambda: rig.closed)
        assert repr(connection).endswith(" closed 1006>")


def test_addresses_of_other_families(tmp_path: Path) -> None:
    with Rig() as rig:
        connection, _ = rig.connect(rig.listen(str(tmp_path / "s"), socket.AF_UNIX), socket.AF_UNIX)
        assert repr(connection).endswith(f"Connection {connection.id & 0xFFFFFFFF} open>")
    with Rig() as rig:
        connection, peer = rig.connect(rig.listen(("::1", 0), socket.AF_INET6), socket.AF_INET6)
        assert f" [::1]:{peer.sock.getsockname()[1]} open>" in repr(connection)


def test_a_topic_says_its_name_and_its_subscribers() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("room 'é'")
        assert repr(topic) == """<fastws.Topic "room 'é'" 0 subscribers>"""
        rig.subscribed(topic)
        assert repr(topic) == """<fastws.Topic "room 'é'" 1 subscriber>"""
        topic.close()
        assert repr(topic) == "<fastws.Topic closed>"
        assert repr(rig.engine.topic("x" * 1000)) == f"<fastws.Topic '{'x' * 63}…' 0 subscribers>"


def test_a_subscription_says_what_and_whose() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("prices")
        connection, _ = rig.connect()
        subscription = connection.subscribe(topic, on_slow="latest")
        number = f"{connection.id & 0xFFFFFFFF} {place(connection)}"
        assert repr(subscription) == f"<fastws.Subscription 'prices' of {number} latest>"
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(repr(subscription)))
        thread.start()
        thread.join()
        assert found == [f"<fastws.Subscription 'prices' of {number}>"]
        subscription.unsubscribe()
        assert repr(subscription) == f"<fastws.Subscription 'prices' of {number} ended>"
        topic.close()
        assert repr(subscription) == f"<fastws.Subscription of {number} ended>"


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (Frame("é"), "<fastws.Frame text 2 bytes>"),
        (Frame(b"x"), "<fastws.Frame binary 1 byte>"),
        (Frame(b"x" * 70_000), "<fastws.Frame binary 70000 bytes>"),
        (Frame(b"", masking_key=b"abcd"), "<fastws.Frame binary 0 bytes masked>"),
    ],
)
def test_a_frame_says_its_kind_and_size(frame: Frame, text: str) -> None:
    assert repr(frame) == text


def test_what_outlives_its_engine_can_be_shown() -> None:
    with Rig() as rig:
        topic = rig.engine.topic("t")
        connection, _ = rig.connect()
        subscription = connection.subscribe(topic)
        rig.engine.close()
        assert repr(connection).endswith(" closed 1006>")
        assert repr(topic) == "<fastws.Topic closed>"
        assert repr(subscription).endswith(" ended>")


def test_a_server_says_where_it_listens_and_whether_it_serves(run: Run, tmp_path: Path) -> None:
    async def story() -> None:
        server = Server(App())
        assert repr(server) == "<fastws.Server not started with 0 connections>"
        (_, port) = server.listen("127.0.0.1", 0)[0]
        server.listen_unix(str(tmp_path / "s"))
        where = f"ws://127.0.0.1:{port} {tmp_path / 's'}"
        assert repr(server) == f"<fastws.Server not started {where} with 0 connections>"
        async with server, connect(f"ws://127.0.0.1:{port}"):
            assert repr(server) == f"<fastws.Server serving {where} with 1 connections>"
        assert repr(server) == "<fastws.Server closed with 0 connections>"

    run(story())


def test_a_request_says_its_path_and_nothing_that_may_be_secret() -> None:
    head = b"GET /a%0ab?token=secret HTTP/1.1\r\nHost: h\r\nCookie: secret\r\n\r\n"
    request = parse_request(head, Limits().of_heads(), None)
    assert repr(request) == r"<fastws.Request GET /a\nb>"
    request = parse_request(head, Limits().of_heads(), From("10.0.0.1"))
    assert repr(request) == r"<fastws.Request GET /a\nb from 10.0.0.1:50000>"
