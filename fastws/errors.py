"""The exceptions of fastws, and the Close frame that some tell of.

Knows only text and numbers; every other module may import it.
"""

from typing import NamedTuple

Headers = tuple[tuple[str, str], ...]
# What a 426 says (RFC 9110 15.5.22, RFC 6455 4.4).
VERSION_HEADERS: Headers = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
_AS_IT_SHOULD = (1000, 1001, 1005)  # RFC 6455 7.4.1: done, going away; 7.1.5: no code


class FastwsError(Exception):
    """Base of every error that fastws raises on purpose."""


class ConfigError(FastwsError, ValueError):
    """A setting has the wrong type or lies out of range; `str()` is one line naming the field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class HandshakeError(FastwsError):
    """A request is refused with an HTTP status.

    Args:
        status: 400-599, the status of the answer.
        body: one line for the peer; what it quotes of the peer went through `printable`.
        headers: fields the answer must carry besides those of every response.
    """

    def __init__(self, status: int, body: str, headers: Headers = ()) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers


class InvalidHandshake(FastwsError):
    """The server's answer to our upgrade is not the 101 that RFC 6455 4.1 asks for.

    `status` is the HTTP status received, or None when the answer was not HTTP.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class LogFull(FastwsError):
    """No room: a lossless topic's slowest subscriber, an outbox or staging is at its limit.

    `published`: where `Topic.publish_all` raises it, how many messages were taken before.
    """

    published = 0


class SubscriptionLimit(FastwsError):
    """A connection has `max_subscriptions` subscriptions already."""


class Close(NamedTuple):
    """A Close frame (RFC 6455 5.5.1); code 1005: it was empty."""

    code: int
    reason: str


class ConnectionClosed(FastwsError):
    """The connection has ended, or is ending.

    Args:
        code: the close code of RFC 6455 7.4: that of the peer's Close, else of ours, else 1006.
        reason: its text.
        received: the Close that the peer sent, or None.
        sent: the Close that we sent, or None.
    """

    def __init__(
        self,
        code: int,
        reason: str = "",
        received: Close | None = None,
        sent: Close | None = None,
    ) -> None:
        super().__init__(f"{code} {printable(reason)}".rstrip())
        self.code = code
        self.reason = reason
        self.received = received
        self.sent = sent


class ConnectionClosedOK(ConnectionClosed):
    """It has ended as it should: with Close frames of 1000, of 1001 or without a code."""


class ConnectionClosedError(ConnectionClosed):
    """It has ended otherwise: cut off (1006), or with another code."""


def connection_closed(
    code: int, reason: str, received: Close | None, sent: Close | None, *, ended: bool
) -> ConnectionClosed:
    """Return the exception for what is asked of a connection that has ended, or is ending.

    One that has ended did so as it should if the peer said Close; without a code, too, as browsers
    do. One that is ending still may.
    """
    good = code in _AS_IT_SHOULD and (sent is None or sent.code in _AS_IT_SHOULD)
    kind = ConnectionClosedOK if good and (received or not ended) else ConnectionClosedError
    return kind(code, reason, received, sent)


def host_and_port(address: tuple[str, int]) -> str:
    """Return `host:port` of a (host, port), an IPv6 address in brackets (RFC 3986 3.2.2)."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def printable(text: str, limit: int = 256) -> str:
    """Return what a peer sent, safe for a log line or a terminal.

    Control characters (CR, LF, ESC, ...) are escaped; cut after `limit` characters of input.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text[:limit]
    )
