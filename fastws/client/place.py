"""Where a client is in a topic, so that it can come back (docs/protocol.md 4). Layer 5.

Knows the fields of the 101 and what numbered messages look like; knows no socket. A place is what
the program has received, never what lies in a queue, and it is never guessed: where the server
does not say how to know it, there is none.
"""

import struct
from dataclasses import dataclass
from urllib.parse import quote, unquote

import orjson

from fastws.http.fields import Fields
from fastws.http.topic_request import (
    DELIVERY,
    EVERY_MESSAGE,
    NUMBERED,
    POSITION,
    parse_position,
)
from fastws.lag import Gap

Position = tuple[str, int]  # epoch and number of the last message that is there

_GAP = '{"gap":'
_SEQ, _SIZE = struct.Struct("<Q"), struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a connection began, and how its messages count.

    Args:
        began: behind this message.
        delivery: what the server said of its messages; None: nothing that is known here.
        asked: the position that was asked for, or None.
        batched: whether a message may be several, as batch=n has them.
    """

    began: Position
    delivery: str | None
    asked: Position | None
    batched: bool = False

    @property
    def recovered(self) -> bool | None:
        """Whether it began where it had asked for; None: nothing was asked for."""
        return None if self.asked is None else self.asked == self.began

    @property
    def numbered(self) -> bool:
        """Whether each message has its number in it."""
        return self.delivery == NUMBERED

    def after(self, received: int, last: object) -> Position | None:
        """Return the position of who has received so many messages; None: it cannot be known.

        Args:
            received: messages, since the connection began.
            last: the last one of them.
        """
        epoch, seq = self.began
        if self.delivery == EVERY_MESSAGE:
            return epoch, seq + received
        if not self.numbered:
            return None
        number = last_number(last, batched=self.batched) if received else seq
        return None if number is None else (epoch, number)


def place_of(fields: Fields, target: str) -> Place | None:
    """Return the place that the fields of a 101 tell; None: they tell of none.

    Args:
        fields: of the 101, by name in lower case.
        target: of the request.
    """
    began = [parse_position(value.decode("latin-1")) for value in fields.get(_POSITION_FIELD, [])]
    if len(began) != 1 or began[0] is None:
        return None
    said = [value.decode("latin-1") for value in fields.get(_DELIVERY_FIELD, [])]
    delivery = said[0] if len(said) == 1 and said[0] in (EVERY_MESSAGE, NUMBERED) else None
    asked = [unquote(value) for name, value in _options(target) if name == "since"]
    position = parse_position(asked[0]) if len(asked) == 1 else None
    batched = any(name == "batch" for name, _ in _options(target))
    return Place(began[0], delivery, position, batched)


def with_since(target: str, position: Position | None) -> str:
    """Return the target of a request that asks for what comes after a position; None: for none."""
    path, _, query = target.partition("?")
    options = [each for each in query.split("&") if each and _name(each) != "since"]
    if position is not None:
        epoch, seq = position
        options.append(f"since={quote(epoch)}:{seq}")
    return f"{path}?{'&'.join(options)}" if options else path


def asks_for_envelope(target: str) -> bool:
    """Whether a request asks for numbered messages."""
    return ("envelope", "1") in _options(target)


def gap_of(message: str | bytes) -> Gap | None:
    """Return the Gap that a numbered message tells of; None: it is another message."""
    if not isinstance(message, str) or not message.startswith(_GAP):
        return None
    try:
        said = orjson.loads(message)
        first, last = said["gap"]
        return Gap(first, last, last - first + 1, said["reason"])
    except (orjson.JSONDecodeError, TypeError, KeyError, ValueError):
        return None


def last_number(message: object, *, batched: bool = False) -> int | None:
    """Return the number behind which a client is that has a numbered message; None: it has none."""
    if isinstance(message, Gap):
        return message.last
    try:
        if isinstance(message, bytes):
            last = _last_of_batch(message) if batched else message
            return int(_SEQ.unpack_from(last)[0])
        said = orjson.loads(message)  # type: ignore[arg-type]
        said = said[-1] if isinstance(said, list) else said
        number = said["gap"][1] if "gap" in said else said["seq"]
    except (orjson.JSONDecodeError, struct.error, TypeError, KeyError, IndexError):
        return None
    return number if type(number) is int else None


def _last_of_batch(batch: bytes) -> bytes:
    """Return the last of the messages that stand behind their sizes."""
    at = n = 0
    while at < len(batch):
        (n,) = _SIZE.unpack_from(batch, at)
        at += _SIZE.size + n
    return batch[at - n :] if at == len(batch) else b""


def _options(target: str) -> list[tuple[str, str]]:
    """The options of a query as they are written, names decoded."""
    _, _, query = target.partition("?")
    return [(_name(each), each.partition("=")[2]) for each in query.split("&") if each]


def _name(option: str) -> str:
    return unquote(option.partition("=")[0])


_POSITION_FIELD = POSITION.lower().encode("ascii")
_DELIVERY_FIELD = DELIVERY.lower().encode("ascii")
