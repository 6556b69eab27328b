"""Random stories over real sockets against a plain model (hypothesis).

`Party` connects, subscribes, publishes, sends, stops reading, reads again, resets and closes. The
model knows, for each client, what it must get and in which order. After every step: each stream
is whole legal frames in that order, what may be missing is what a policy or an unsubscription
dropped, the accounts balance and agree with the model, memory is bounded. At the end everybody
reads, everything arrives, and the descriptors are those of the beginning.

The suite takes the same 1,200 steps or so each time; `make model` takes 20,000 others.
"""

import os
import socket
import struct
import time
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from model_guest import Expected, Guest, Published
from support import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
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
CLIENTS = 12
SWEEP = 0.26  # seconds, in which the engine sweeps at least once
STEPS = int(os.environ.get("FASTWS_MODEL_STEPS", "0"))
POLICIES = ("close", "latest", "lossless", "drop_oldest", "keyed")
KEYS = ("a", "b", "c")
KEPT = 5  # messages of history, of each topic; at least
WHO = st.integers(0, 59)
ROOMS = (0, 4096)  # receive buffers; 0: the kernel's own
SIZES = st.sampled_from([8, 125, 126, 127, 1000, 16_000, 20_000, 20_001])
SLOW = close_payload(1013, "slow consumer")


class Party(RuleBasedStateMachine):
    """An engine with a topic for each policy, one of them with keys, and a handful of clients."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.files = open_files()
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

    @initialize(six=st.booleans())
    def begin(self, six: bool) -> None:
        if six:
            self.rig.listen(("::1", 0), socket.AF_INET6)
        else:
            self.rig.listen()
        self.family = socket.AF_INET6 if six else socket.AF_INET
        for i in range(6):
            self._connect(POLICIES[i % 5 :], 4096 if i % 2 else 0)
        for guest in self.guests[1::2]:
            guest.reading, guest.stopped = False, True

    def _connect(self, names: Iterable[str], receive_buffer: int) -> None:
        connection, peer = self.rig.connect(None, self.family, receive_buffer)
        self.guests.append(Guest(connection, peer))
        for name in names:
            self._subscribe(self.guests[-1], name)

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

    def _pick(self, i: int, *, is_open: bool = True) -> Guest | None:
        """The i-th of those there are; what is drawn must not depend on what the kernel did."""
        found = [g for g in self.guests if g.connection.is_open or not is_open]
        return found[i % len(found)] if found else None

    # What may happen.

    @rule(
        names=st.sets(st.sampled_from(POLICIES)), n=st.integers(1, 4), buffer=st.sampled_from(ROOMS)
    )
    def connect(self, names: set[str], n: int, buffer: int) -> None:
        for _ in range(min(n, CLIENTS - len(self.guests))):
            self._connect(sorted(names), buffer)

    def _subscribe(self, guest: Guest, name: str, keys: frozenset[str] = frozenset()) -> None:
        if name not in guest.topics:
            options: Any = {"keys": sorted(keys)} if keys else {}
            guest.connection.subscribe(self.topics[name], **options)
            guest.topics[name] = keys

    @rule(i=WHO, name=st.sampled_from(POLICIES))
    def subscribe(self, i: int, name: str) -> None:
        if guest := self._pick(i):
            self._subscribe(guest, name)

    @rule(i=WHO, name=st.sampled_from(POLICIES))
    def unsubscribe(self, i: int, name: str) -> None:
        if guest := self._pick(i):
            self._leave(guest, name)

    def _leave(self, guest: Guest, name: str) -> None:
        guest.connection.unsubscribe(self.topics[name])
        guest.leave(name)

    @rule(i=WHO, keys=st.frozensets(st.sampled_from(KEYS), min_size=1))
    def subscribe_to_keys(self, i: int, keys: frozenset[str]) -> None:
        if guest := self._pick(i):
            self._leave(guest, "keyed")
            self._subscribe(guest, "keyed", keys)

    @rule(
        i=WHO,
        name=st.sampled_from(POLICIES),
        missed=st.integers(0, KEPT + 3),
        other=st.integers(0, 4),
    )
    def come_back(self, i: int, name: str, missed: int, other: int) -> None:
        """It begins where it left, if that is still the same stream and is still there."""
        if (guest := self._pick(i)) is None:
            return
        topic, sent = self.topics[name], self.sent[name]
        self._leave(guest, name)
        since = ("of another one" if other == 1 else topic.epoch, len(sent) - 1)
        before = len(sent)
        for _ in range(missed):
            self._publish(name, 125)
        subscription = guest.connection.subscribe(topic, since=since)
        guest.topics[name] = frozenset()
        assert subscription.recovered or other == 1 or len(sent) - before > KEPT
        assert not (subscription.recovered and other == 1)
        for what in sent[before:] if subscription.recovered else ():
            self.published[name] += guest.expect(name, what)

    @rule(name=st.sampled_from(POLICIES), size=SIZES, n=st.sampled_from([1, 5, 20, 40]))
    def publish(self, name: str, size: int, n: int) -> None:
        for _ in range(n):
            self._publish(name, size)
            if size > KIB:
                self.rig.engine.turn()
                self._read()
        if n * size > 4 * MAX_LAG and any(name in guest.topics for guest in self._stopped()):
            self._let_the_sweep_look()

    def _stopped(self) -> list[Guest]:
        return [g for g in self.guests if not g.reading and g.connection.is_open]

    def _let_the_sweep_look(self) -> None:
        began = time.monotonic()
        self.rig.until(lambda: time.monotonic() > began + SWEEP)

    @rule(i=WHO, sizes=st.lists(SIZES, min_size=1, max_size=4))
    def send(self, i: int, sizes: list[int]) -> None:
        if guest := self._pick(i):
            for size in sizes:
                if guest.connection.is_open:
                    self._send(guest, size)

    @rule(i=WHO, kind=st.sampled_from(("reply", *POLICIES)), size=SIZES, cut=st.booleans())
    def say(self, i: int, kind: str, size: int, cut: bool) -> None:
        if (guest := self._pick(i)) and not guest.said_close:
            text = f"{kind} {size}".encode()
            if cut:
                self._tell(guest, client_frame(TEXT, text[:3], fin=False))
                self.rig.engine.turn()
                self._tell(guest, client_frame(0, text[3:]))
            else:
                self._tell(guest, client_frame(TEXT, text))

    @rule(i=WHO)
    def ping(self, i: int) -> None:
        if (guest := self._pick(i)) and not guest.said_close:
            self._tell(guest, client_frame(PING, struct.pack(">I", guest.pings)))
            guest.pings += 1

    @rule(i=WHO)
    def stop_reading(self, i: int) -> None:
        if guest := self._pick(i):
            guest.reading, guest.stopped = False, True

    @rule(i=WHO, n=st.integers(1, 100_000))
    def read_some(self, i: int, n: int) -> None:
        guest = self._pick(i, is_open=False)
        if guest and not guest.reading and not guest.peer.ended:
            try:
                part = guest.peer.sock.recv(n)
            except BlockingIOError:
                return
            except ConnectionResetError:
                part = b""
            guest.peer.ended = not part
            guest.peer.buffer += part

    @rule(i=WHO)
    def read_again(self, i: int) -> None:
        if guest := self._pick(i, is_open=False):
            guest.reading = True

    @rule(i=WHO)
    def reset(self, i: int) -> None:
        if guest := self._pick(i, is_open=False):
            sock = guest.peer.sock
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            self._await_end(guest)

    def _await_end(self, guest: Guest) -> None:
        """Until the engine knows too; others may still publish to it."""
        self.rig.until(lambda: guest.connection in self.rig.closed)
        self.guests.remove(guest)

    @rule(i=WHO, code=st.sampled_from([1000, 1001, 3000, 4999]))
    def close_by_client(self, i: int, code: int) -> None:
        if (guest := self._pick(i)) and not guest.said_close:
            self._tell(guest, client_frame(CLOSE, close_payload(code)))
            guest.said_close = True

    @rule(i=WHO, code=st.sampled_from([1000, 1011, 4000]))
    def close_by_server(self, i: int, code: int) -> None:
        if guest := self._pick(i):
            guest.connection.close(code, "enough")
            guest.closed_by = close_payload(code, "enough")

    @rule(turns=st.integers(1, 5))
    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.rig.engine.turn()

    # What must hold.

    def _read(self) -> None:
        """Let those that read be even, so that no policy can mean them."""
        self.rig.until(lambda: all(self._is_even(g) for g in self.guests if g.reading))

    @invariant()
    def every_promise_is_kept(self) -> None:
        Party.steps += 1
        self.rig.engine.turn()
        self._check_accounts()
        self._read()
        for guest in self.guests:
            self._check_stream(guest)
        for guest in [g for g in self.guests if g.peer.ended]:
            guest.peer.sock.close()
            self._await_end(guest)
        self._check_accounts()
        assert not self.rig.errors

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

    def teardown(self) -> None:
        try:
            for guest in self.guests:
                guest.reading = True
            self.every_promise_is_kept()
            # Everybody is even, but half a frame of what was unsubscribed may be on its way.
            self.rig.until(lambda: self._read() or not any(self._pending()))
            self.every_promise_is_kept()
            assert len(self.rig.engine.connections) == len(self.guests)
        finally:
            self.rig.__exit__()
        assert open_files() == self.files


@pytest.mark.hostile("B03", "B04", "X25", "X26")
@pytest.mark.timeout(0 if STEPS else 60)
def test_random_stories_keep_every_promise() -> None:
    Party.steps = 0
    options = settings(
        max_examples=28,
        stateful_step_count=50,
        deadline=None,
        database=None,
        derandomize=not STEPS,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # to shrink would repeat what the kernel does not
    )
    while Party.steps <= STEPS:
        run_state_machine_as_test(Party, settings=options)
    print(f"{Party.steps} steps")
