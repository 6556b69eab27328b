"""Header fields: what a name and a value may be, byte by byte, and how lists are read."""

import pytest

from fastws.http.fields import encode_fields, field_values, has_controls, is_token, list_tokens

FIELDS = {b"x": [b"a", b"", b"caf\xe9"], b"y": [b"b"]}
# RFC 9110 5.6.2
TCHARS = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def test_the_values_of_a_name_come_in_order_whatever_its_case() -> None:
    assert field_values(FIELDS, "X") == ["a", "", "caf\xe9"]
    assert field_values(FIELDS, "absent") == []


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ((), []),
        ((b"",), []),
        ((b", ,\t,",), []),
        ((b"Close",), ["close"]),
        ((b" a ,\tb\t",), ["a", "b"]),
        ((b"a", b"B, a"), ["a", "b", "a"]),
        ((b"a b",), ["a b"]),
    ],
)
def test_a_list_is_read_over_all_its_lines(values: tuple[bytes, ...], tokens: list[str]) -> None:
    assert list_tokens(values) == tokens


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_is_a_token_character_or_not(byte: int) -> None:
    for text in (bytes([byte]), b"a" + bytes([byte]), bytes([byte]) + b"a"):
        assert is_token(text) == (byte in TCHARS)
    assert not is_token(b"")


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_may_stand_in_a_value_or_not(byte: int) -> None:
    control = byte == 127 or (byte < 32 and byte != 9)
    assert has_controls(b"a" + bytes([byte]) + b"b") == control
    assert not has_controls(b"")
    value = f"a{chr(byte)}b"
    if control:
        with pytest.raises(ValueError, match="control character in the value of X"):
            encode_fields([("X", value)])
    else:
        assert encode_fields([("X", value)]) == b"X: a" + bytes([byte]) + b"b\r\n"


def test_fields_are_encoded_in_order() -> None:
    assert encode_fields([]) == b""
    assert encode_fields([("B", "1"), ("a", ""), ("B", "2")]) == b"B: 1\r\na: \r\nB: 2\r\n"
