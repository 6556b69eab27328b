"""A client with a known ceiling: it sleeps for each message, and reports five times a second.

python slow_client.py URL MESSAGES_PER_SECOND

The sleeps follow a schedule, so that a late wake-up is made up for and the ceiling is exact.
"""

import json
import select
import socket
import sys
import time

from fastws.bench.sink import CLOSE, PING, PONG, masked
from fastws.client.handshake import build_request, new_key
from fastws.client.url import parse_url

REPORT_EVERY = 0.2
CLIENT_ID = "slow"


def main() -> None:
    """Take one message at a time until the server closes."""
    url, rate = parse_url(sys.argv[1]), float(sys.argv[2])
    with socket.create_connection((url.host, url.port)) as peer:
        peer.sendall(build_request(url.host, url.port, url.target, new_key()))
        data = b""
        while b"\r\n\r\n" not in data:
            data += peer.recv(4096)
        data = data.partition(b"\r\n\r\n")[2]
        report(peer, "identify", {})
        total, due, said = 0, 0.0, time.monotonic()
        while True:
            if time.monotonic() >= said + REPORT_EVERY:
                said = time.monotonic()
                report(peer, "stats", {"totalMessages": total, "p99LatencyMs": 1.0})
            end = 2 + (data[1] & 0x7F) if len(data) >= 2 else 2
            if len(data) < end:
                if select.select([peer], [], [], REPORT_EVERY / 4)[0]:
                    data += (received := peer.recv(4096))
                    if not received:
                        return
                continue
            opcode, payload, data = data[0] & 0x0F, data[2:end], data[end:]
            if opcode == CLOSE:
                return
            if opcode == PING:
                peer.sendall(masked(payload, PONG))
                continue
            due = max(due, time.monotonic() - 0.05) + 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            total += 1


def report(peer: socket.socket, kind: str, numbers: dict[str, float]) -> None:
    """Send a message of docs/protocol.md 1."""
    peer.sendall(masked(json.dumps({"type": kind, "clientId": CLIENT_ID, **numbers}).encode()))


if __name__ == "__main__":
    main()
