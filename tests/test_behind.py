"""How long messages take to the last client, and why the clients furthest behind are behind."""

import socket
import time

import pytest
from support import Rig, message

from fastws import Connection, Lag


def why(rig: Rig) -> dict[Connection, str]:
    return {connection: account["why"] for connection, account in rig.engine.laggards(20)}


def test_the_time_to_the_last_client_is_measured_of_some_messages(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    peers = [rig.subscribed(topic)[1] for _ in range(5)]
    assert rig.engine.latency() == {"n": 0, "p50": 0, "p99": 0, "max": 0}
    for n in range(50):
        topic.publish(message(n))
        rig.until(lambda n=n: all(len(peer.pull().payloads) == n + 1 for peer in peers))
        rig.engine.turn(0.011)
    latency = rig.engine.latency()
    assert 10 < latency["n"] <= 50
    assert 0 < latency["p50"] <= latency["p99"] <= latency["max"] < 20e6


def test_a_slow_client_is_the_last_one(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    rig.subscribed(topic)
    _connection, peer = rig.subscribed(topic, 4096)
    for n in range(300):
        topic.publish(message(n))
        rig.engine.turn(0.001)
    held = time.monotonic() + 0.1
    rig.until(lambda: time.monotonic() > held)
    rig.until(lambda: len(peer.pull().payloads) == 300)
    assert rig.engine.latency()["max"] > 100_000


def test_who_has_everything_is_behind_for_no_reason(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, peer = rig.subscribed(topic)
    topic.publish("x")
    rig.until(lambda: peer.pull().payloads)
    assert why(rig) == {connection: ""}


def test_news_that_no_turn_has_sent_are_not_sent_yet(rig: Rig) -> None:
    topic = rig.engine.topic("t")
    connection, _peer = rig.subscribed(topic)
    topic.publish("x")
    assert why(rig) == {connection: "not sent yet"}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_a_full_socket_becomes_one_that_is_not_read(
    rig: Rig, family: socket.AddressFamily, tmp_path: object
) -> None:
    address = rig.listen() if family == socket.AF_INET else rig.listen(f"{tmp_path}/s", family)
    topic = rig.engine.topic("t", max_lag=Lag(bytes=16 << 20))
    connection, peer = rig.connect(address, family, receive_buffer=4096)
    connection.subscribe(topic)
    topic.publish_all([message(n) for n in range(2000)])
    rig.until(lambda: not rig.engine.turn())
    assert why(rig) == {connection: "kernel buffer full"}
    rig.until(lambda: why(rig) == {connection: "not reading"}, 10)
    rig.until(lambda: peer.read() and why(rig) == {connection: "kernel buffer full"})


def test_who_waits_for_its_rate_is_rate_limited(rig: Rig) -> None:
    topic = rig.engine.topic("t", on_slow="latest")
    connection, peer = rig.connect()
    connection.subscribe(topic, max_rate=0.2)
    topic.publish("0")
    rig.until(lambda: peer.pull().payloads)
    topic.publish("1")
    rig.until(lambda: not rig.engine.turn())
    assert why(rig) == {connection: "rate-limited"}
