"""A request head that was found good: its parts, and what is made of them when it is asked for.

Layer 5. Knows the grammar of targets and fields; what makes a head good is head.py's.
"""

from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

import httptools

from fastws.http.fields import RawHeaders, field_values


@dataclass(frozen=True, slots=True)
class Request:
    """One request head that both judges accepted.

    `target` is as sent, printable ASCII; `path` is decoded and may hold any character, so it is
    for comparing, not for printing. `query` has the first value of each name. Both are made when
    they are first asked for. `headers` are (lower-case name, value) in the order sent.
    `expects_continue`: the peer waits for `CONTINUE` before it sends its body. `keep_alive` is
    never true of one that asks for an upgrade of any kind. `is_upgrade`: the peer asks for
    websocket in `Upgrade` and says so in `Connection`, without which `Upgrade` means nothing
    (RFC 9110 7.8).
    """

    method: str
    target: str
    http_version: str
    headers: RawHeaders
    content_length: int
    keep_alive: bool
    expects_continue: bool
    is_upgrade: bool
    _path: str | None = field(default=None, init=False, repr=False, compare=False)
    _query: dict[str, str] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def path(self) -> str:
        """The path, decoded; "" for authority-form (CONNECT), which has none."""
        if self._path is not None:
            return self._path
        raw, _ = _parts(self.target)
        path = unquote((b"/" if raw is None else raw).decode("ascii"))
        object.__setattr__(self, "_path", path)  # what is made of the target, not another value
        return path

    @property
    def query(self) -> dict[str, str]:
        """The first value of each name in the query."""
        if self._query is not None:
            return self._query
        _, raw = _parts(self.target)
        query: dict[str, str] = {}
        for name, value in parse_qsl((raw or b"").decode("ascii"), keep_blank_values=True):
            query.setdefault(name, value)
        object.__setattr__(self, "_query", query)
        return query

    def values(self, name: str) -> list[str]:
        """Return the value of every field called `name` (any case), in order."""
        return field_values(self.headers, name)

    def header(self, name: str) -> str | None:
        """Return the value of field `name`, None if absent; repeated fields joined by ", "."""
        found = field_values(self.headers, name)
        return ", ".join(found) if found else None


def _parts(target: str) -> tuple[bytes | None, bytes | None]:
    """Return path and query; authority-form (CONNECT only, RFC 9112 3.2.3) has neither."""
    try:
        url = httptools.parse_url(target.encode("ascii"))
    except httptools.HttpParserError:
        return b"", None
    return url.path, url.query
