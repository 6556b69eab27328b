"""HTTP/1.1 responses: a status, fields and a body in, bytes out. Layer 5."""

from collections.abc import Iterable
from http import HTTPStatus

from fastws.errors import HandshakeError
from fastws.http.fields import encode_fields

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# What response() and switching_protocols() write themselves; twice would be request smuggling.
_OWN_FIELDS = frozenset({"connection", "content-length", "transfer-encoding"})


def response(
    status: int,
    body: bytes = b"",
    content_type: str = "text/plain; charset=utf-8",
    headers: Iterable[tuple[str, str]] = (),
    keep_alive: bool = True,
    head_only: bool = False,
) -> bytes:
    """Build a whole response other than 101.

    Args:
        status: 200-599; 204 and 304 go without a body and its fields (RFC 9110 8.6).
        body: sent as it is; its length is announced.
        content_type: media type of `body`.
        headers: more fields; not those that frame the message.
        keep_alive: whether the connection serves another request afterwards.
        head_only: answer to HEAD: announces the length, sends no body.

    Raises:
        ValueError: unknown status, a body where none may be, or a bad name or value in `headers`.
    """
    phrase = HTTPStatus(status).phrase
    extra = own_fields_refused(headers)
    fields: list[tuple[str, str]] = []
    if status < 200 or (status in (204, 304) and body):
        raise ValueError(f"status {status} cannot be answered like this")
    if status not in (204, 304):
        fields = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    connection = "keep-alive" if keep_alive else "close"
    if any(name.lower() == "upgrade" for name, _ in extra):
        connection += ", Upgrade"  # RFC 9110 7.8: a sender of Upgrade names it here
    fields += [("Connection", connection), *extra]
    start = f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")
    return start + encode_fields(fields) + b"\r\n" + (b"" if head_only else body)


def refusal(error: HandshakeError, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """Build the answer to a request refused with `error`; the connection closes behind it."""
    return response(
        error.status, error.body.encode(), headers=(*headers, *error.headers), keep_alive=False
    )


def own_fields_refused(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return `headers` as a list; those that frame the message are ours alone."""
    fields = list(headers)
    for name, _ in fields:
        if name.lower() in _OWN_FIELDS:
            raise ValueError(f"{name} is set by fastws")
    return fields
