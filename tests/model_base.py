"""The model of test_model.py: what each client must get, and how that is checked."""

import socket
import struct
from collections.abc import Iterable
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine
from model_guest import Expected, Guest, Published
from support import (
    BINARY,
    CLOSE,
    PONG,
    Rig,
    balances,
    client_frame,
    close_payload,
    message,
    open_files,
    take_frames,
)

from fastws import Connection, History, Lag, LogFull, Topic

KIB = 1024
MAX_LAG = 64 * KIB
RETENTION = 128 * KIB
OUTBOX = 32 * KIB
SLAB = 64 * KIB
POLICIES = ("close", "latest", "lossless", "drop_oldest", "keyed")
KEYS = ("a", "b", "c")
KEPT = 5  # messages of history, of each topic; at least
SLOW = close_payload(1013, "slow consumer")


class Model(RuleBasedStateMachine):
    """An engine with a topic for each policy, one of them with keys, and what its clients must get.

    The rules of a machine that inherits it say what happens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files = open_files()
        self.family = socket.AF_INET
        self.rig = Rig(
            outbox_limit=OUTBOX,
            close_timeout=600,
            max_stall=600,
            handshake_timeout=600,
            ping_interval=0,
            message_timeout=0,
            write_timeout=0,
        )
        self.rig.engine.on_message = self._heard
        self.guests: list[Guest] = []
        self.number = 0  # of the next message, over all that is sent
        self.published = dict.fromkeys(POLICIES, 0)  # over all subscriptions
        # And to those whose Close has not left yet: they are members until it has.
        self.perhaps = dict.fromkeys(POLICIES, 0)
        self.received = dict.fromkeys(POLICIES, 0)
        self.topics: dict[str, Topic] = {
            name: self.rig.engine.topic(
                name,
                on_slow="latest" if name == "keyed" else name,
                max_lag=Lag(bytes=MAX_LAG),
                retention_bytes=RETENTION,
                history=History(messages=KEPT),
            )
            for name in POLICIES
        }
        self.sent: dict[str, list[Published]] = {name: [] for name in POLICIES}  # by seq

    def _connect(self, names: Iterable[str], receive_buffer: int) -> None:
        connection, peer = self.rig.connect(None, self.family, receive_buffer)
        self.guests.append(Guest(connection, peer))
        for name in names:
            self._subscribe(self.guests[-1], name)

    def _subscribe(self, guest: Guest, name: str, keys: frozenset[str] = frozenset()) -> None:
        if name not in guest.topics:
            options: Any = {"keys": sorted(keys)} if keys else {}
            guest.connection.subscribe(self.topics[name], **options)
            guest.topics[name] = keys

    def _leave(self, guest: Guest, name: str) -> None:
        guest.connection.unsubscribe(self.topics[name])
        guest.leave(name)

    # What the model does beside the engine.

    def _publish(self, name: str, size: int) -> None:
        what = Published(self.number, size, KEYS[self.number % 3] if name == "keyed" else None)
        try:
            self.topics[name].publish(message(self.number, size).encode(), key=what.key)
        except LogFull:
            assert name == "lossless"
            return
        self.number += 1
        self.sent[name].append(what)
        for guest in self.guests:
            if name in guest.topics and guest.connection.is_open:
                self.published[name] += guest.expect(name, what)
            elif name in guest.topics:
                self.perhaps[name] += 1

    def _send(self, guest: Guest, size: int) -> None:
        number = self.number
        try:
            guest.connection.send_nowait(message(number, size).encode())
        except LogFull:
            assert self.rig.engine.buffered_bytes > OUTBOX
            return
        self.number += 1
        guest.expected.append(Expected(number, "", size))

    def _heard(self, connection: Connection, text: str | bytes) -> None:
        """Inside of a turn: what the message asks for."""
        kind, size = str(text).split()
        if kind == "reply":
            guest = next(g for g in self.guests if g.connection is connection)
            self._send(guest, int(size))
        else:
            self._publish(kind, int(size))

    def _tell(self, guest: Guest, data: bytes) -> None:
        try:
            guest.peer.send(data)
        except (BrokenPipeError, ConnectionResetError):
            assert not guest.connection.is_open

    def _read(self) -> None:
        """Let those that read be even, so that no policy can mean them."""
        self.rig.until(lambda: all(self._is_even(g) for g in self.guests if g.reading))

    def _await_end(self, guest: Guest) -> None:
        """Until the engine knows too; others may still publish to it."""
        self.rig.until(lambda: guest.connection in self.rig.closed)
        self.guests.remove(guest)

    # What must hold.

    def _is_even(self, guest: Guest) -> bool:
        """Whether a reading client has all that it is to get by now."""
        guest.peer.pull()
        self._check_stream(guest)
        if guest.connection in self.rig.closed or guest.said_close or guest.closed_by:
            return guest.peer.ended
        if not guest.connection.is_open:  # a policy
            return guest.peer.ended
        return guest.pongs == guest.pings and all(self._may_drop(guest, e) for e in guest.expected)

    def _may_drop(self, guest: Guest, item: Expected) -> bool:
        # Its subscriptions end when its Close comes; direct messages still leave. Behind ours it
        # is still a member, so that policies may act for what it will not get any more.
        if item.topic and (guest.said_close or (guest.closed_by and guest.stopped)):
            return True
        if item.free:
            return True
        skips = item.topic in ("latest", "drop_oldest", "keyed")
        return guest.stopped and skips and guest.is_superseded(item)

    def _check_stream(self, guest: Guest) -> None:
        frames = guest.peer.frames + take_frames(guest.peer.buffer)
        guest.peer.frames = []
        for opcode, payload in frames:
            assert guest.closed is None, "a frame behind the Close"
            if opcode == PONG:
                (number,) = struct.unpack(">I", payload)
                assert guest.pongs <= number < guest.pings
                guest.pongs = number + 1
            elif opcode == CLOSE:
                self._check_close(guest, payload)
            else:
                assert opcode == BINARY
                self._check_message(guest, payload)
        if guest.closed is not None:
            assert not guest.peer.buffer, "bytes behind the Close"
        elif guest.peer.ended:
            assert guest.stopped or guest.said_close, "it ended without a Close"

    def _check_message(self, guest: Guest, payload: bytes) -> None:
        number = int(payload.split(b" ")[0])
        while guest.expected[0].number != number:
            assert self._may_drop(guest, guest.expected[0]), guest.expected[0]
            guest.expected.popleft()
        item = guest.expected.popleft()
        assert payload == message(number, item.size).encode()
        if item.topic:
            self.received[item.topic] += 1

    def _check_close(self, guest: Guest, payload: bytes) -> None:
        guest.closed = payload
        if payload == SLOW:
            assert guest.stopped, "a client that reads is no slow one"
        elif payload == guest.closed_by:
            dropped = guest.stopped and "close" in guest.topics  # as a slow one, direct ones too
            assert dropped or all(self._may_drop(guest, e) for e in guest.expected)
        else:
            assert guest.said_close
        if not guest.said_close:
            guest.said_close = True
            self._tell(guest, client_frame(CLOSE, payload))

    def _check_accounts(self) -> None:
        for name, topic in self.topics.items():
            account = topic.account()
            assert balances(account), account
            assert 0 <= account["published"] - self.published[name] <= self.perhaps[name]
            assert self.received[name] <= account["delivered"]
            members = [g for g in self.guests if name in g.topics]
            closing = sum(not g.connection.is_open for g in members)
            assert 0 <= account["subscribers"] - len(members) + closing <= closing
            assert account["retained_bytes"] <= RETENTION + 2 * SLAB
        for guest in self.guests:
            if guest.connection.is_open:
                assert balances(guest.connection.account())
            assert guest.connection.buffered_amount <= OUTBOX + 20 * KIB

    def _pending(self) -> list[int]:
        return [topic.account()["pending"] for topic in self.topics.values()]
