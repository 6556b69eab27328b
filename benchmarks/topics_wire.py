"""What the server, the client and the peers of `topics.py` agree on: the messages, the clock.

A message is 110 bytes: a global counter, then dots. The control connection (path `/control`)
carries commands of the form `name {json}` to the server and JSON objects back.
"""

import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

PAYLOAD_SIZE = 110  # bytes
FRAME_SIZE = 2 + PAYLOAD_SIZE  # RFC 6455 5.2: below 126 the header has two bytes
HEADER = bytes((0x82, PAYLOAD_SIZE))
DIGITS = 20
_PADDING = b"." * (PAYLOAD_SIZE - DIGITS)

Json = dict[str, Any]


class Messages:
    """Makes the messages of a server: their counter rises by one with each."""

    def __init__(self) -> None:
        self.made = 0

    def next(self) -> bytes:
        """Return the next message."""
        self.made += 1
        return b"%020d" % self.made + _PADDING


def all_pairs(clients: int, topics: int) -> list[tuple[int, int]]:
    """Return every client with every topic, in an order that is mixed but always the same.

    Subscriptions made client by client, or topic by topic, would lie side by side in memory.
    """
    pairs = [(client, topic) for client in range(clients) for topic in range(topics)]
    random.Random(1).shuffle(pairs)
    return pairs


def counter_of(payload: bytes | bytearray) -> int:
    """Return the counter of a message."""
    return int(payload[:DIGITS])


def frames(data: bytearray) -> Iterator[bytearray]:
    """Take the payloads of whole unmasked frames off the front of `data` (RFC 6455 5.2)."""
    at = 0
    while len(data) - at >= 2:
        size, head = data[at + 1], 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        if len(data) - at < head + size:
            break
        yield data[at + head : at + head + size]
        at += head + size
    del data[:at]


def command_frame(name: str, arguments: Json) -> bytes:
    """Return a command as a client's TEXT frame, masked with zeros (RFC 6455 5.3)."""
    text = f"{name} {json.dumps(arguments)}".encode()
    size = bytes((0x80 | len(text),))
    if len(text) > 125:
        size = b"\xfe" + len(text).to_bytes(2, "big")
    return b"\x81" + size + b"\0\0\0\0" + text


def parse_command(message: str | bytes) -> tuple[str, Json]:
    """Return the name and the arguments of a command."""
    text = message if isinstance(message, str) else message.decode()
    name, _, arguments = text.partition(" ")
    return name, json.loads(arguments or "{}")


def sender(connection: Any) -> Callable[[str | bytes], object]:
    """What sends at once; in builds before `send_nowait` that was `send`."""
    found = getattr(connection, "send_nowait", None) or connection.send
    return cast(Callable[[str | bytes], object], found)


def thread_ns() -> int:
    """Return the processor time of the calling thread.

    It is what /proc/self/task/TID/schedstat shows, but up to date while the thread runs.
    """
    return time.clock_gettime_ns(time.CLOCK_THREAD_CPUTIME_ID)


def raise_file_limit() -> int:
    """Raise the limit of open files to the hard one and return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
