"""HTTP/1.1 responses as values, and their bytes. Layer 5."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import orjson

from fastws.errors import HandshakeError, Headers
from fastws.http.fields import encode_fields

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
# What encode_response() and switching_protocols() write themselves; twice would be request
# smuggling.
_OWN_FIELDS = frozenset({"connection", "content-length", "transfer-encoding"})
_WITHOUT_BODY = (204, 304)  # RFC 9110 8.6
_PHRASES = {each.value: each.phrase for each in HTTPStatus}  # others have none, RFC 9112 4


@dataclass(frozen=True, slots=True)
class Response:
    """What a request is answered with; the server adds what depends on the request.

    Args:
        status: 200 to 599; 204 and 304 have no body. 101, returned by `process_request` or
            `App.admit`, lets a WebSocket in, with these headers on the answer to its handshake.
        body: bytes as they are, or str, sent as UTF-8.
        headers: names and values, a mapping or pairs; none that frame the message (Connection,
            Content-Length, Transfer-Encoding).
        content_type: the media type of the body.

    Example:
        Response(404, "No such symbol")
    """

    status: int = 200
    body: bytes | str = b""
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = ()
    content_type: str = TEXT

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Headers = ()) -> Self:
        """Make one of a value that JSON can express; TypeError of another one."""
        return cls(status, orjson.dumps(value), headers, JSON)


def refusal(error: HandshakeError, headers: Headers = ()) -> Response:
    """Return the answer to a request that is refused with the error."""
    return Response(error.status, error.body, (*headers, *error.headers))


def encode_response(
    response: Response, *, keep_alive: bool = True, head_only: bool = False
) -> bytes:
    """Return the bytes of a response.

    Args:
        response: what to say.
        keep_alive: whether the connection serves another request afterwards.
        head_only: for a request of HEAD: the length is announced, no body is sent (RFC 9110 9.3.2).

    Raises:
        ValueError: a status out of range, a body where none may be, or a bad name or value of a
            field.
    """
    status, body = response.status, response.body
    content = body.encode() if isinstance(body, str) else body
    given = response.headers
    extra = own_fields_refused(given.items() if isinstance(given, Mapping) else given)
    if not 200 <= status <= 599 or (status in _WITHOUT_BODY and content):
        raise ValueError(f"status {status} cannot be answered like this")
    fields: list[tuple[str, str]] = []
    if status not in _WITHOUT_BODY:
        fields = [("Content-Type", response.content_type), ("Content-Length", str(len(content)))]
    connection = "keep-alive" if keep_alive else "close"
    if any(name.lower() == "upgrade" for name, _ in extra):
        connection += ", Upgrade"  # RFC 9110 7.8: a sender of Upgrade names it here
    fields += [("Connection", connection), *extra]
    start = f"HTTP/1.1 {status:d} {_PHRASES.get(status, '')}\r\n".encode("ascii")
    return start + encode_fields(fields) + b"\r\n" + (b"" if head_only else content)


def own_fields_refused(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return `headers` as a list; ValueError for those that frame the message: they are ours."""
    fields = list(headers)
    for name, _ in fields:
        if name.lower() in _OWN_FIELDS:
            raise ValueError(f"{name} is set by fastws")
    return fields
