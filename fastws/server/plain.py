"""Plain topics: a WebSocket that gets the messages of one topic, as published. Layer 6.

Knows topics, who may subscribe, and the position that the 101 tells; not how a request became an
upgrade.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from fastws._frame import Connection, Engine, Topic, check_lag
from fastws.errors import VERSION_HEADERS, HandshakeError
from fastws.http.request import Request
from fastws.http.response import Response
from fastws.http.topic_request import (
    DELIVERY,
    EVERY_MESSAGE,
    NUMBERED,
    POSITION,
    TopicNames,
    TopicRequest,
    parse_topic_request,
)
from fastws.lag import Lag
from fastws.server.coroutines import Session

PREFIX = "/topics/"
GOING_AWAY = 1001
NAME_PATTERN = "[A-Za-z0-9_.:-]+(/[A-Za-z0-9_.:-]+)*"

CanSubscribe = Callable[[Request, str], bool | Response | Awaitable[bool | Response | None] | None]
Heard = Callable[[Connection], None]
Begin = Callable[[], list[tuple[str, str]]]  # the fields of the 101


@dataclass(slots=True)
class PlainSession(Session):
    """What is kept of a connection of a plain topic."""

    topic: Topic | None = None
    went: Heard | None = None


@dataclass(frozen=True, slots=True)
class PlainTopics:
    """Topics that clients subscribe to by the path of a WebSocket; see `App.plain_topics`.

    Args:
        prefix: of the paths, with a slash at each end.
        can_subscribe: is asked about each request; None: whoever may connect, to topics that exist.
        name_pattern: a regular expression that a whole name matches.
        query: options of the query that are the program's own.
        lossless: whether a client may ask for onSlow=lossless, and so hold the publisher.
        max_lag: of a client that asks for a policy, bytes up to what the topic retains; None: the
            topic's.
        came: hears of a connection when it is subscribed.
        went: hears of its end.
    """

    prefix: str = PREFIX
    can_subscribe: CanSubscribe | None = None
    name_pattern: str = NAME_PATTERN
    query: Collection[str] = ()
    lossless: bool = False
    max_lag: Lag | None = None
    came: Heard | None = None
    went: Heard | None = None

    def __post_init__(self) -> None:
        if not (self.prefix.startswith("/") and self.prefix.endswith("/")):
            raise ValueError(f"a prefix begins and ends with a slash, unlike {self.prefix!r}")
        if isinstance(self.query, str):
            raise TypeError(f"query is a list of names, such as [{self.query!r}]")
        re.compile(self.name_pattern)
        if self.max_lag is not None:
            check_lag(self.max_lag)

    def asked(self, request: Request, longest: int) -> "Asked | None":
        """Return what a request asks for; None: its path is not of these topics.

        Args:
            request: the request.
            longest: bytes of a topic's name.

        Raises:
            HandshakeError: 400 or 404, see `parse_topic_request`; 403 for a policy that is not to
                be had.
        """
        names = TopicNames(self.prefix, re.compile(self.name_pattern), longest)
        name = names.name_of(request)
        if name is None:
            return None
        asked = parse_topic_request(name, request, self.query)
        if asked.on_slow == "lossless" and not self.lossless:
            raise HandshakeError(403, "onSlow=lossless is not allowed here")
        return Asked(self, asked)

    def subscription_options(self, topic: Topic, asked: TopicRequest) -> dict[str, Any]:
        """Return the options of a subscription by name, those that are not the topic's.

        Raises:
            HandshakeError: 400, they do not go together.
        """
        own = topic.options["on_slow"]
        if asked.max_rate is not None and "lossless" in (asked.on_slow, asked.on_slow or own):
            raise HandshakeError(400, "maxRate is not for lossless: ask for another onSlow")
        max_lag = None if asked.on_slow is None else self._lag_of(topic, asked.on_slow)
        # Who was told that every message comes keeps the policy, whatever becomes of the topic's.
        on_slow = "close" if asked.on_slow is None and own == "close" else asked.on_slow
        options = {
            "since": asked.since,
            "on_slow": on_slow,
            "max_lag": max_lag,
            "max_rate": asked.max_rate,
            "keys": asked.keys or None,
            "envelope": asked.envelope or None,
            "batch": asked.batch,
        }
        return {name: value for name, value in options.items() if value is not None}

    def _lag_of(self, topic: Topic, on_slow: str) -> Lag | None:
        """The limits of who asks for a policy, as far as the topic and the policy allow them."""
        lag, most = self.max_lag, topic.options["retention_bytes"]
        if lag is None:
            return None
        return replace(
            lag,
            bytes=None if lag.bytes is None else min(lag.bytes, most),
            seconds=None if on_slow == "lossless" else lag.seconds,
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks for, and of which topics."""

    plain: PlainTopics
    request: TopicRequest

    def topic(self, engine: Engine, allowed: object) -> Topic:
        """Return the topic, which is made where the program has allowed it by name.

        Args:
            engine: whose topic.
            allowed: what `can_subscribe` returned; None: nothing in particular.

        Raises:
            HandshakeError: 403, it was refused; 404, there is no such topic.
            TypeError: it returned something else.
        """
        name = self.request.topic
        if allowed is False:
            raise HandshakeError(403, "not allowed to subscribe to this topic")
        if allowed is None:
            found = engine.find_topic(name)
            if found is None:
                raise HandshakeError(404, "no such topic")
            return found
        if allowed is not True and not isinstance(allowed, Response):
            raise TypeError(f"can_subscribe returns a bool, a Response or None, not {allowed!r}")
        return engine.topic(name)

    def delivery(self, on_slow: str | None) -> str | None:
        """Return what the 101 says of how the client knows its position; None: it cannot."""
        asked = self.request
        if asked.envelope:
            return NUMBERED
        every = on_slow in ("close", "lossless") and not (asked.keys or asked.batch)
        return EVERY_MESSAGE if every else None


class Plain:
    """All plain topics of an App: which of them a request is for, and what their clients send.

    Args:
        topics: gives them, the longest prefix first.
        longest: bytes of a topic's name.
    """

    def __init__(self, topics: Callable[[], Sequence[PlainTopics]], longest: int) -> None:
        self._topics = topics
        self._longest = longest
        self._ignored = self._refused = 0  # messages of clients; requests
        self._clients: dict[Topic, set[Connection]] = {}

    def _of(self, request: Request) -> PlainTopics | None:
        return next((it for it in self._topics() if request.path.startswith(it.prefix)), None)

    def asked(self, request: Request) -> Asked | None:
        """Return what a request asks for; None: its path is none of theirs.

        Raises:
            HandshakeError: as `PlainTopics.asked`.
        """
        topics = self._of(request)
        with self._counting_refusals():
            return None if topics is None else topics.asked(request, self._longest)

    @contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except HandshakeError:
            self._refused += 1
            raise

    def counts(self) -> dict[str, int]:
        """Return what was counted, by name."""
        return {"ignored_messages": self._ignored, "topics_refused": self._refused}

    def refuse(self, request: Request) -> None:
        """Refuse a request that is no upgrade if its path is theirs.

        Raises:
            HandshakeError: 426.
        """
        if self._of(request) is not None:
            raise HandshakeError(426, "a WebSocket upgrade is required", VERSION_HEADERS)

    def begin(
        self, connection: Connection, asked: Asked, allowed: object, subprotocol: str | None
    ) -> Begin:
        """Return what subscribes the connection once it is a WebSocket; what it sends is ignored.

        Args:
            connection: a request of it is decided on.
            asked: what it has asked for.
            allowed: what `can_subscribe` returned; None: nothing in particular.
            subprotocol: the one that was agreed on.

        Raises:
            HandshakeError: see `Asked.topic`; 400, the options do not go with the topic.
        """
        with self._counting_refusals():
            topic = asked.topic(connection.engine, allowed)
            options = asked.plain.subscription_options(topic, asked.request)
        delivery = asked.delivery(options.get("on_slow"))
        path = f"{asked.plain.prefix}{asked.request.topic}"
        session = PlainSession(
            subprotocol=subprotocol, path=path, topic=topic, went=asked.plain.went
        )

        def begin() -> list[tuple[str, str]]:
            connection.session = session
            connection.on_message = self._ignore
            begun = connection.subscribe(topic, **options)
            self._clients.setdefault(topic, set()).add(connection)
            # Messages of other keys may be passed over already: what was asked for is as good.
            epoch, seq = options["since"] if begun.recovered else (begun.epoch, begun.seq)
            fields = [(POSITION, f"{epoch}:{seq}")]
            return fields if delivery is None else [*fields, (DELIVERY, delivery)]

        return begin

    def topic_closed(self, topic: Topic) -> None:
        """Close the clients of a topic that was closed: nothing more would ever come."""
        for connection in self._clients.pop(topic, ()):
            connection.close(GOING_AWAY, "the topic is closed")

    def ended(self, connection: Connection, session: PlainSession) -> None:
        """Forget a client that has ended, and tell whoever wants to hear of it."""
        topic = session.topic
        if topic is not None and topic in self._clients:
            self._clients[topic].discard(connection)
            if not self._clients[topic]:
                del self._clients[topic]
        if session.went is not None:
            session.went(connection)

    def _ignore(self, connection: Connection, message: str | bytes) -> None:
        self._ignored += 1
