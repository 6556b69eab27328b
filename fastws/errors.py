"""The exceptions of fastws, and the Close frame that some tell of.

Knows only text and numbers; every other module may import it.
"""

from typing import NamedTuple

Headers = tuple[tuple[str, str], ...]


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


class ConnectionClosed(FastwsError):
    """The connection has ended; `code` is the close code of RFC 6455 7.4, `reason` its text."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"{code} {printable(reason)}".rstrip())
        self.code = code
        self.reason = reason


class Close(NamedTuple):
    """A Close frame (RFC 6455 5.5.1): its code, 1005 when it was empty, and its reason."""

    code: int
    reason: str


def printable(text: str, limit: int = 256) -> str:
    """Return what a peer sent, safe for a log line or a terminal.

    Control characters (CR, LF, ESC, ...) are escaped; cut after `limit` characters of input.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text[:limit]
    )
