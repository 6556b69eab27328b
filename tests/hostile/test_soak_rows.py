"""X65: churn for a while; FASTWS_SOAK_SECONDS says how long (600 before a release: `make soak`)."""

import os
import random
import socket
import struct
import time
from pathlib import Path

import pytest
from support import Peer, Rig, balances, message, numbers, open_files
from surroundings import INSTRUMENTED

from fastws import Connection
from fastws.lag import Lag

MIB = 1 << 20
SECONDS = float(os.environ.get("FASTWS_SOAK_SECONDS", "6"))
CLIENTS = 200


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check(peer: Peer) -> None:
    """Whole messages without a gap."""
    got = numbers(peer.pull())
    assert got == list(range(got[0], got[0] + len(got))) if got else True


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.hostile("X65")
def test_churn_leaves_no_gap_no_memory_and_no_descriptor() -> None:
    rng = random.Random(65)
    files = open_files()
    with Rig(ping_interval=0.5, pong_timeout=600) as rig:
        topics = [
            rig.engine.topic(f"t{i}", max_lag=Lag(bytes=MIB // 16), retention_bytes=MIB // 8)
            for i in range(50)
        ]
        here: list[tuple[Connection, Peer, bool]] = []
        began, warm, rounds = time.monotonic(), 0, 0
        while (now := time.monotonic() - began) < SECONDS:
            rounds += 1
            for topic in topics:
                topic.publish(message(topic.appended, 200))
            rig.engine.turn()
            connection, peer = rig.connect()
            connection.subscribe(rng.choice(topics))
            here.append((connection, peer, rng.random() < 0.01))
            for _, peer, slow in here:
                if not slow:
                    peer.pull()
            while len(here) > CLIENTS:
                _, peer, slow = here.pop(rng.randrange(len(here)))
                if not slow:
                    check(peer)
                if rng.random() < 0.01:
                    linger = struct.pack("ii", 1, 0)
                    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                peer.sock.close()
            rig.closed.clear()
            rig.opened = rig.opened[-1:]
            rig._sockets = rig._sockets[:1] + [peer.sock for _, peer, _ in here]
            if not warm and now > SECONDS / 2:
                warm = resident_bytes()
        for _, peer, slow in here:
            if not slow:
                rig.engine.turn()
                check(peer)
        for topic in topics:
            assert balances(topic.account())
        print(f"{rounds} rounds; {(resident_bytes() - warm) / MIB:+.1f} MiB in the second half")
        assert rounds > 20
        assert INSTRUMENTED or resident_bytes() - warm < 16 * MIB
        assert rig.engine.live <= CLIENTS + 64
    assert open_files() == files
