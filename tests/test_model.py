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

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from model_base import KEPT, KEYS, KIB, MAX_LAG, POLICIES, Model
from model_guest import Guest
from support import CLOSE, PING, TEXT, client_frame, close_payload, open_files

CLIENTS = 12
SWEEP = 0.26  # seconds, in which the engine sweeps at least once
STEPS = int(os.environ.get("FASTWS_MODEL_STEPS", "0"))
WHO = st.integers(0, 59)
ROOMS = (0, 4096)  # receive buffers; 0: the kernel's own
SIZES = st.sampled_from([8, 125, 126, 127, 1000, 16_000, 20_000, 20_001])


class Party(Model):
    """A handful of clients of the model's engine, and what may happen to them."""

    steps = 0

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

    @rule(i=WHO, name=st.sampled_from(POLICIES))
    def subscribe(self, i: int, name: str) -> None:
        if guest := self._pick(i):
            self._subscribe(guest, name)

    @rule(i=WHO, name=st.sampled_from(POLICIES))
    def unsubscribe(self, i: int, name: str) -> None:
        if guest := self._pick(i):
            self._leave(guest, name)

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
