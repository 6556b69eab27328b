"""A request head that was found good: its parts, and what is made of them when it is asked for.

Layer 5. Knows the grammar of targets and fields; what makes a head good is head.py's.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl, unquote

import httptools

from fastws.errors import host_and_port, printable
from fastws.http.fields import Fields, field_values


class Peer(Protocol):
    """What a request came from."""

    @property
    def remote_address(self) -> tuple[str, int]:
        """(host, port); ("", 0) for a Unix socket."""


class RequestHeaders(Mapping[str, str]):
    """The fields of a request by name, in any case; repeated fields are joined by ", "."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        found = self.get_all(name)
        if not found:
            raise KeyError(name)
        return ", ".join(found)

    def __iter__(self) -> Iterator[str]:
        return iter([name.decode("latin-1") for name in self._fields])

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return repr(dict(self))

    def get_all(self, name: str) -> list[str]:
        """Return the value of each field called `name`, in order."""
        return field_values(self._fields, name)


@dataclass(frozen=True, slots=True, repr=False)
class Request:
    """One request whose head both judges accepted.

    `target` is as sent, printable ASCII; `path` is decoded and may hold any character, so it is for
    comparing, not for printing; `body` is there for HTTP handlers, empty for an upgrade.
    `raw_head` is the head as sent; the fields are made of it when they are asked for.

    `expects_continue`: the peer waits for `CONTINUE` before it sends its body. `keep_alive` is
    never true of one that asks for an upgrade of any kind. `is_upgrade`: the peer asks for
    websocket in `Upgrade` and says so in `Connection`, without which `Upgrade` means nothing
    (RFC 9110 7.8).
    """

    method: str
    target: str
    http_version: str
    raw_head: bytes
    content_length: int
    keep_alive: bool
    expects_continue: bool
    is_upgrade: bool
    body: bytes = b""
    peer: Peer | None = field(default=None, compare=False)
    _fields: Fields | None = field(default=None, compare=False)
    _path: str | None = field(default=None, init=False, compare=False)
    _query: dict[str, str] | None = field(default=None, init=False, compare=False)

    def __repr__(self) -> str:
        """The method and the path: what else there is may be secret."""
        address = self.remote_address
        peer = f" from {host_and_port(address)}" if address[0] else ""
        return f"<fastws.Request {self.method} {printable(self.path)}{peer}>"

    @property
    def remote_address(self) -> tuple[str, int]:
        """(host, port) of the peer; ("", 0) for a Unix socket."""
        return ("", 0) if self.peer is None else self.peer.remote_address

    @property
    def headers(self) -> RequestHeaders:
        """The fields by name."""
        return RequestHeaders(self._by_name())

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """(lower-case name, value) of each field in bytes, in the order sent."""
        return tuple(_fields_in_order(self.raw_head))

    @property
    def path(self) -> str:
        """The path, decoded; "" for authority-form (CONNECT), which has none."""
        if self._path is not None:
            return self._path
        raw, _ = raw_parts(self.target)
        path = unquote((b"/" if raw is None else raw).decode("ascii"))
        object.__setattr__(self, "_path", path)  # what is made of the target, not another value
        return path

    @property
    def query(self) -> dict[str, str]:
        """The first value of each name in the query; `query_all` has the others."""
        if self._query is not None:
            return self._query
        query: dict[str, str] = {}
        for name, value in self._pairs():
            query.setdefault(name, value)
        object.__setattr__(self, "_query", query)
        return query

    def query_all(self, name: str) -> list[str]:
        """Return each value of a name in the query, in order."""
        return [value for key, value in self._pairs() if key == name]

    def _pairs(self) -> list[tuple[str, str]]:
        _, raw = raw_parts(self.target)
        return parse_qsl((raw or b"").decode("ascii"), keep_blank_values=True)

    def values(self, name: str) -> list[str]:
        """Return the value of every field called `name` (any case), in order."""
        return field_values(self._by_name(), name)

    def header(self, name: str) -> str | None:
        """Return the value of field `name`, None if absent; repeated fields joined by ", "."""
        return self.headers.get(name)

    def _by_name(self) -> Fields:
        if self._fields is not None:
            return self._fields
        fields: Fields = {}
        for name, value in _fields_in_order(self.raw_head):
            fields.setdefault(name, []).append(value)
        object.__setattr__(self, "_fields", fields)
        return fields

    def release_fields(self) -> None:
        """Let go of the fields until they are asked for: they take several times the head."""
        object.__setattr__(self, "_fields", None)


def _fields_in_order(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Read the fields of a head that was found good."""
    for line in head[:-4].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        yield name.lower(), value.strip(b" \t")


def raw_parts(target: str) -> tuple[bytes | None, bytes | None]:
    """Return path and query as sent; authority-form (CONNECT only, RFC 9112 3.2.3) has neither."""
    try:
        url = httptools.parse_url(target.encode("ascii"))
    except httptools.HttpParserError:
        return b"", None
    return url.path, url.query
