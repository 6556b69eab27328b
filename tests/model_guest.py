"""What the model of test_model.py knows of a client: what it must get, and what it may miss."""

from collections import deque
from dataclasses import dataclass, field

from support import Peer

from fastws import Connection


@dataclass
class Expected:
    number: int
    topic: str  # "" for a direct message
    size: int
    key: str | None = None
    free: bool = False  # it need not come: its subscription has ended


@dataclass
class Published:
    """A message of a topic."""

    number: int
    size: int
    key: str | None


@dataclass(eq=False, repr=False)
class Guest:
    """One client, as the model sees it."""

    connection: Connection
    peer: Peer
    reading: bool = True
    stopped: bool = False  # ever: then policies may have acted
    said_close: bool = False
    closed: bytes | None = None  # the payload of the Close it got
    closed_by: bytes | None = None  # of the Close that we asked for
    expected: deque[Expected] = field(default_factory=deque)
    topics: dict[str, frozenset[str]] = field(default_factory=dict)  # with the keys that it wants
    pings: int = 0
    pongs: int = 0  # the one after the last that came

    def expect(self, name: str, what: Published) -> bool:
        """A message is published to it, if it wants its key."""
        keys = self.topics[name]
        if keys and what.key not in keys:
            return False
        self.expected.append(Expected(what.number, name, what.size, what.key))
        return True

    def leave(self, name: str) -> None:
        """What has not come of that topic need not come any more."""
        self.topics.pop(name, None)
        for item in self.expected:
            item.free |= item.topic == name

    def is_superseded(self, item: Expected) -> bool:
        """Whether a policy may leave it out: there is a newer one, with keys one of its own."""
        alike = (e for e in reversed(self.expected) if e.topic == item.topic and e.key == item.key)
        return next(alike, None) is not item
