"""Clients that are cut off anywhere and come back with their positions.

Several topics, histories that are too short, topics that are freed and made again, servers that are
started again. 300 cuts, or as many as FASTWS_EXAMPLES says.
"""

import random
from collections.abc import Iterator

import pytest
from support import Peer, Rig, balances
from thorough import EXAMPLES

from fastws import Connection, History, Topic

CUTS = EXAMPLES or 300
RESTART = 50  # cuts between two servers
LONG, SHORT, NAMED = "long", "short", "named"
NAMES = (f"{LONG}1", f"{LONG}2", SHORT, NAMED)


class Publisher:
    """A server with its topics, and what it has published to each of them."""

    def __init__(self, draw: random.Random) -> None:
        self.rig = Rig()
        self._draw = draw
        for name in NAMES[:2]:
            self.rig.engine.topic(name, history=History(messages=100_000))
        self.rig.engine.topic(SHORT, history=History(messages=5))

    def topic(self, name: str) -> Topic:
        return self.rig.engine.topic(name)

    def publish(self) -> None:
        for name in self._draw.choices(NAMES, k=self._draw.randrange(30)):
            topic = self.topic(name)
            size = 3000 if self._draw.randrange(20) == 0 else 40
            topic.publish(f"{name} {topic.epoch} {topic.seq + 1} ".ljust(size, "."))


class Client:
    """What a client has of each topic: its position, None before it has ever had one."""

    def __init__(self) -> None:
        self.positions: dict[str, tuple[str, int]] = {}
        self.recovered = self.missed = self.got = 0

    def come_back(self, server: Publisher, connection: Connection, names: list[str]) -> None:
        for name in names:
            topic, since = server.topic(name), self.positions.get(name)
            subscription = connection.subscribe(topic, since=since)
            if since is not None:
                self.check(topic, since, bool(subscription.recovered))
            self.positions[name] = (subscription.epoch, subscription.seq)

    def check(self, topic: Topic, since: tuple[str, int], recovered: bool) -> None:
        """It recovers where it must: the same topic, and a history that reaches back."""
        epoch, seq = since
        self.recovered += recovered
        self.missed += not recovered
        if epoch != topic.epoch:
            assert not recovered
        elif topic.name.startswith(LONG) or seq == topic.seq:
            assert recovered

    def take(self, payload: bytes) -> None:
        """The message behind the last one, whole."""
        name, epoch, seq = payload.decode().split()[:3]
        assert (epoch, int(seq) - 1) == self.positions[name]
        self.positions[name] = (epoch, int(seq))
        self.got += 1


def arrivals(rig: Rig, peer: Peer) -> Iterator[bytes]:
    """What has arrived by now; the peer reads as it is asked."""
    while peer.frames or (peer.read() and peer.frames):
        yield peer.frames.pop(0)[1]


def live_once(draw: random.Random, server: Publisher, client: Client) -> None:
    """A connection: subscribed, published to, read for a while, cut off by either side."""
    rig = server.rig
    connection, peer = rig.connect(receive_buffer=4096)
    names = [name for name in NAMES if draw.randrange(4) > 0]
    client.come_back(server, connection, names)
    patience = draw.randrange(200)
    for _ in range(draw.randrange(4)):
        server.publish()
        rig.engine.turn()
        for payload in arrivals(rig, peer):
            client.take(payload)
            patience -= 1
            if patience < 0:
                break
    if draw.randrange(2):
        connection.abort()
    peer.sock.close()
    server.publish()
    rig.until(lambda: connection in rig.closed)
    rig.closed.clear()
    rig.opened.clear()


@pytest.mark.hostile("X49")
def test_whoever_comes_back_misses_nothing_unsaid_and_gets_nothing_twice() -> None:
    draw = random.Random(12)
    client = Client()
    for first in range(0, CUTS, RESTART):
        server = Publisher(draw)
        with server.rig:
            for _ in range(min(RESTART, CUTS - first)):
                live_once(draw, server, client)
            for name in NAMES:
                assert balances(server.topic(name).account())
    assert client.recovered > CUTS
    assert client.missed > CUTS / 4
    assert client.got > CUTS * 5
