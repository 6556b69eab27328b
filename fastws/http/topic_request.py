"""What a request of a plain topic asks for (docs/protocol.md 4): its path and query. Layer 5.

Knows the grammar and the ranges; not which topics there are, nor who may subscribe to them.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from fastws.errors import HandshakeError, printable
from fastws.http.request import Request, raw_parts

if TYPE_CHECKING:
    from fastws._frame import OnSlow

POSITION = "Fastws-Position"  # of the 101: where the client begins
# Of the 101: how a client knows its position; each message comes and can be counted, or has its
# number in it. Without it, it cannot know.
DELIVERY = "Fastws-Delivery"
EVERY_MESSAGE, NUMBERED = "every-message", "numbered"
# What holds the publisher is for the program to allow; the others spare it.
POLICIES: dict[str, "OnSlow"] = {
    "latest": "latest", "drop_oldest": "drop_oldest", "close": "close", "lossless": "lossless"
}  # fmt: skip
MAX_RATES = (0.1, 1000.0)  # sends a second
MOST_KEYS, LONGEST_KEY, MOST_IN_BATCH = 64, 255, 1024
_MOST_OPTIONS = 256
_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_DIGITS = re.compile(r"[0-9]{1,4}")
_NUMBER = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")
_SINCE = re.compile(r"([!-9;-~]{1,64}):(-1|[0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class TopicRequest:
    """A topic, and how a client wants it.

    Args:
        topic: its name.
        since: the position that the client has, or None.
        on_slow: the policy that it asks for; None: the topic's.
        max_rate: sends a second, at most; None: no limit.
        keys: of the messages that it wants, "" for those without one; none: all messages.
        envelope: each message has its number.
        batch: messages that one WebSocket message may hold; None: one.
    """

    topic: str
    since: tuple[str, int] | None = None
    on_slow: "OnSlow | None" = None
    max_rate: float | None = None
    keys: tuple[str, ...] = ()
    envelope: bool = False
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class TopicNames:
    """Which names may be asked for.

    Args:
        prefix: of the path; the name follows.
        pattern: that a whole name matches.
        longest: bytes of a name in UTF-8.
    """

    prefix: str
    pattern: re.Pattern[str]
    longest: int

    def name_of(self, request: Request) -> str | None:
        """Return the name that the path of a request has; None: it is another path.

        Raises:
            HandshakeError: 400 where the name is not UTF-8, too long or does not match; 404: there
                is no name.
        """
        if not request.path.startswith(self.prefix):
            return None
        path, _ = raw_parts(request.target)
        name = _decoded(path or b"", "the path")[len(self.prefix) :].removesuffix("/")
        if not name:
            raise HandshakeError(404, "Not found")
        if len(name.encode()) > self.longest:
            raise HandshakeError(400, f"a topic's name has at most {self.longest} bytes")
        if self.pattern.fullmatch(name) is None:
            shown = printable(name, 64)
            raise HandshakeError(400, f"a topic's name matches {self.pattern.pattern}: {shown}")
        return name


def parse_topic_request(topic: str, request: Request, others: Collection[str]) -> TopicRequest:
    """Return what a request asks for of a topic.

    Args:
        topic: its name, which was found good.
        request: the request.
        others: options of the query that are the program's own.

    Raises:
        HandshakeError: 400; an option is unknown, there twice, malformed or out of range.
    """
    found: dict[str, Any] = {}
    for name, value in _options(request):
        if name in others:
            continue
        if name not in _PARSERS:
            known = ", ".join(sorted([*_PARSERS, *others]))
            raise HandshakeError(400, f"no such option: {printable(name, 64)}; there are {known}")
        field, parse = _PARSERS[name]
        if field == "keys":
            found[field] = _more_keys(found.get(field, ()), parse(value))
        elif field in found:
            raise HandshakeError(400, f"{name} is there twice")
        else:
            found[field] = parse(value)
    return TopicRequest(topic, **found)


def _options(request: Request) -> list[tuple[str, str]]:
    _, query = raw_parts(request.target)
    fields = [field for field in (query or b"").split(b"&") if field]
    if len(fields) > _MOST_OPTIONS:
        raise HandshakeError(400, f"more than {_MOST_OPTIONS} options")
    pairs = [field.replace(b"+", b" ").partition(b"=") for field in fields]
    return [(_decoded(name, "an option"), _decoded(value, "an option")) for name, _, value in pairs]


def _decoded(raw: bytes, what: str) -> str:
    if _PERCENT.search(raw):
        raise HandshakeError(400, f"{what} has a % without two hexadecimal digits")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise HandshakeError(400, f"{what} is not UTF-8") from None


def parse_position(value: str) -> tuple[str, int] | None:
    """Return the epoch and seq of `epoch:seq`; None: it does not look like that."""
    match = _SINCE.fullmatch(value)
    return None if match is None else (match[1], int(match[2]))


def _since(value: str) -> tuple[str, int]:
    position = parse_position(value)
    if position is None:
        raise HandshakeError(400, "since must look like epoch:seq")
    return position


def _on_slow(value: str) -> "OnSlow":
    if value not in POLICIES:
        raise HandshakeError(400, f"onSlow must be one of {', '.join(POLICIES)}")
    return POLICIES[value]


def _max_rate(value: str) -> float:
    low, high = MAX_RATES
    rate = float(value) if _NUMBER.fullmatch(value) else 0.0
    if not low <= rate <= high:
        raise HandshakeError(400, f"maxRate must be a number from {low:g} to {high:g}")
    return rate


def _key(value: str) -> str:
    if len(value.encode()) > LONGEST_KEY:
        raise HandshakeError(400, f"a key has at most {LONGEST_KEY} bytes")
    return value


def _more_keys(keys: tuple[str, ...], key: str) -> tuple[str, ...]:
    if len(keys) == MOST_KEYS:
        raise HandshakeError(400, f"at most {MOST_KEYS} keys")
    return keys if key in keys else (*keys, key)


def _envelope(value: str) -> bool:
    if value != "1":
        raise HandshakeError(400, "envelope must be 1")
    return True


def _batch(value: str) -> int:
    n = int(value) if _DIGITS.fullmatch(value) else 0
    if not 1 <= n <= MOST_IN_BATCH:
        raise HandshakeError(400, f"batch must be an integer from 1 to {MOST_IN_BATCH:,}")
    return n


# By name in the query: the field of TopicRequest, and what makes its value.
_PARSERS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "since": ("since", _since),
    "onSlow": ("on_slow", _on_slow),
    "maxRate": ("max_rate", _max_rate),
    "key": ("keys", _key),
    "envelope": ("envelope", _envelope),
    "batch": ("batch", _batch),
}
