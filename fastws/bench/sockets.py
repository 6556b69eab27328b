"""What waits in the TCP sockets of a port, and who makes it wait: the kernel's sock_diag(7).

Layer 6. Asks by netlink for every established connection of the host, with its tcp_info: so it
needs neither the server's descriptors nor its help. The other ends are seen too where they are on
this host and in this network namespace.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
NLMSG_ERROR, NLMSG_DONE = 2, 3
INET_DIAG_INFO = 2
ESTABLISHED = 1
RECEIVE = 1 << 18

# struct inet_diag_msg: addresses and timers (ports at 4), then expires, rqueue, wqueue, uid, inode.
HEADER = struct.Struct("=IHHII")
PORTS = struct.Struct("!HH")
QUEUES = struct.Struct("=4xII8x")
QUEUES_AT, ATTRIBUTES_AT = 52, 72
# struct tcp_info: microseconds that the sender was busy, and of these held by the window.
WINDOW_LIMITED = struct.Struct("=Q")
WINDOW_LIMITED_AT = 176


@dataclass(frozen=True, slots=True)
class Queues:
    """Sums over the connections of a port.

    Args:
        unacknowledged: bytes in the server's sockets: not sent, or not acknowledged.
        unread: bytes in the clients' sockets, None where none of them is on this host.
        window_limited: seconds for which the receive window held the server's sending.
    """

    unacknowledged: int
    unread: int | None
    window_limited: float | None


def queues(port: int, without: int = 0) -> Queues | None:
    """Return what waits in the connections to a port of this host; None: the kernel does not say.

    Args:
        port: that the server listens on, 1 to 65,535.
        without: port of a client that does not count, such as one that asks for statistics.
    """
    unacknowledged, window_us = 0, 0
    unread: int | None = None
    window_known = True
    try:
        for sport, dport, receive, send, info in _connections():
            if without in (sport, dport):
                continue
            if sport == port:
                unacknowledged += send
                window_known = window_known and info is not None
                window_us += info or 0
            elif dport == port:
                unread = (unread or 0) + receive
    except OSError:
        return None
    return Queues(unacknowledged, unread, window_us / 1e6 if window_known else None)


def _connections() -> Iterator[tuple[int, int, int, int, int | None]]:
    """Yield own port, peer's port, bytes to read, bytes to send, and window-limited time in us."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _dump(family):
            sport, dport = PORTS.unpack_from(message, 4)
            receive, send = QUEUES.unpack_from(message, QUEUES_AT)
            yield sport, dport, receive, send, _window_limited(message)


def _dump(family: int) -> Iterator[bytes]:
    request = struct.pack(
        "=BBBBI", family, socket.IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0, 1 << ESTABLISHED
    )
    request += bytes(48)  # struct inet_diag_sockid: any
    head = HEADER.pack(HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.send(head + request)
        while True:
            data = netlink.recv(RECEIVE)
            at = 0
            while at < len(data):
                size, kind, _, _, _ = HEADER.unpack_from(data, at)
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    raise OSError("sock_diag was refused")
                yield data[at + HEADER.size : at + size]
                at += (size + 3) & ~3


def _window_limited(message: bytes) -> int | None:
    at = ATTRIBUTES_AT
    while at + 4 <= len(message):
        size, kind = struct.unpack_from("=HH", message, at)
        if kind == INET_DIAG_INFO and size >= 4 + WINDOW_LIMITED_AT + WINDOW_LIMITED.size:
            found: int = WINDOW_LIMITED.unpack_from(message, at + 4 + WINDOW_LIMITED_AT)[0]
            return found
        at += (max(size, 4) + 3) & ~3
    return None
