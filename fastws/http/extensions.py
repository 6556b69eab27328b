"""Sec-WebSocket-Extensions, server side: which compression to agree on (RFC 6455 9.1, RFC 7692).

Layer 5: text in, a decision out. Knows permessage-deflate only; other extensions are passed over,
and an offer that is malformed, or asks for what cannot be had, is declined: the connection opens
without. The server always answers with no context takeover for both sides, so that neither a
compressor nor a window has to be kept for a connection.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

NAME = "permessage-deflate"
LARGEST_WINDOW = 15  # bits
SMALLEST_WINDOW = 9  # to compress with; zlib refuses 8 without its own header
MOST = 64  # offers and parameters that are looked at; browsers send one offer with one or two

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BLANK = re.compile(r"[ \t]*")
# RFC 6455 9.1: what a quoted string says must be a token, so nothing in it needs a backslash.
_QUOTED = re.compile(r'"([!#$%&\'*+.^_`|~0-9A-Za-z-]+)"')
_WINDOW = re.compile(r"[89]|1[0-5]")

Offer = tuple[str, list[tuple[str, str | None]]]


@dataclass(frozen=True, slots=True)
class Deflate:
    """What both sides compress with.

    Args:
        window_bits: of what the server sends, 9 to 15.
        header: the value of Sec-WebSocket-Extensions that says so.
    """

    window_bits: int
    header: str


def negotiate(values: Iterable[str]) -> Deflate | None:
    """Return the first offer of permessage-deflate that can be taken, None when there is none.

    Takes time linear in the text. With more than 64 offers and parameters all are declined (RFC
    7692 5 lets a server do so): looking at them costs much more than sending them.

    Args:
        values: of the request's Sec-WebSocket-Extensions fields, in order.
    """
    text = ",".join(values)
    if not text:
        return None
    if text.count(",") + text.count(";") >= MOST:
        return None
    try:
        offers = list(_parse(text))
    except ValueError:
        return None
    taken = (_accept(parameters) for name, parameters in offers if name == NAME)
    return next((deflate for deflate in taken if deflate is not None), None)


class _Scanner:
    """A place in a field's text that only moves forward."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self.blank()

    def blank(self) -> None:
        found = _BLANK.match(self._text, self._at)
        assert found is not None, "matches nothing, too"
        self._at = found.end()

    def take(self, what: str) -> bool:
        """Step over one character, and blanks behind it, if it comes next."""
        if not self._text.startswith(what, self._at):
            return False
        self._at += 1
        self.blank()
        return True

    def word(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self._text, self._at)
        if found is None:
            return None
        self._at = found.end()
        self.blank()
        return found[pattern.groups]

    def token(self) -> str:
        word = self.word(_TOKEN)
        if word is None:
            raise ValueError("a token is missing")
        return word

    @property
    def at_end(self) -> bool:
        return self._at == len(self._text)


def _parse(text: str) -> Iterator[Offer]:
    """Yield each extension with its parameters; ValueError where the grammar is broken."""
    scanner = _Scanner(text)
    while not scanner.at_end:
        if scanner.take(","):  # RFC 9110 5.6.1: empty elements are ignored
            continue
        name, parameters = scanner.token(), []
        while scanner.take(";"):
            key = scanner.token()
            parameters.append((key, _value(scanner) if scanner.take("=") else None))
        if not scanner.at_end and not scanner.take(","):
            raise ValueError("extensions are separated by commas")
        yield name, parameters


def _value(scanner: _Scanner) -> str:
    quoted = scanner.word(_QUOTED)
    return scanner.token() if quoted is None else quoted


def _accept(parameters: list[tuple[str, str | None]]) -> Deflate | None:
    """Return the answer to one offer, None to decline it (RFC 7692 7.1)."""
    asked = dict(parameters)
    if len(asked) != len(parameters) or not all(map(_is_legal, asked, asked.values())):
        return None
    bits = asked.get("server_max_window_bits")
    if bits is not None and int(bits) < SMALLEST_WINDOW:
        return None
    header = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
    if bits is not None:
        header += f"; server_max_window_bits={bits}"
    return Deflate(LARGEST_WINDOW if bits is None else int(bits), header)


def _is_legal(name: str, value: str | None) -> bool:
    if name in ("server_no_context_takeover", "client_no_context_takeover"):
        return value is None
    if name == "client_max_window_bits" and value is None:
        return True
    if name in ("server_max_window_bits", "client_max_window_bits"):
        return value is not None and _WINDOW.fullmatch(value) is not None
    return False
