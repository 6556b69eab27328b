"""Header fields: names and values in bytes, their grammar (RFC 9110 5). Layer 5."""

from collections.abc import Iterable

Fields = dict[bytes, list[bytes]]  # the values of each field, in order, by its name in lower case

_TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CONTROLS = bytes(byte for byte in range(32) if byte != 9) + b"\x7f"


def field_values(fields: Fields, name: str) -> list[str]:
    """Return the value of every field called `name` (any case), in order."""
    found = fields.get(name.lower().encode("latin-1"), ())
    return [value.decode("latin-1") for value in found]


def list_tokens(values: Iterable[bytes]) -> list[str]:
    """Return the elements of a comma-separated field, over all its lines, in lower case."""
    elements = b",".join(values).decode("latin-1").lower().split(",")
    return [token for element in elements if (token := element.strip(" \t"))]


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Encode fields as `name: value CRLF`, refusing whatever could start another line.

    Raises:
        ValueError: a name is no token; a value is not Latin-1 or holds a control character.
    """
    encoded = []
    for name, value in fields:
        raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
        if not is_token(raw_name):
            raise ValueError("header name is not a token")
        if has_controls(raw_value):
            raise ValueError(f"control character in the value of {name}")
        encoded.append(raw_name + b": " + raw_value + b"\r\n")
    return b"".join(encoded)


def is_token(text: bytes) -> bool:
    """RFC 9110 5.6.2."""
    return bool(text) and not text.translate(None, _TOKEN)


def has_controls(text: bytes) -> bool:
    """Whether a field value holds a control character other than a tab (RFC 9110 5.5)."""
    return len(text.translate(None, _CONTROLS)) != len(text)
