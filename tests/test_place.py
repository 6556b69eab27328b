"""Where a client is in a topic: what a 101 and its messages say (docs/protocol.md 4)."""

import struct
from typing import Any

import pytest

from fastws import Gap
from fastws.client.place import Place, asks_for_envelope, gap_of, last_number, place_of, with_since


def fields(*values: str, delivery: str = "every-message") -> dict[bytes, list[bytes]]:
    return {
        b"fastws-position": [value.encode() for value in values],
        b"fastws-delivery": [delivery.encode()],
    }


def test_who_gets_every_message_counts_them() -> None:
    place = place_of(fields("1f:40"), "/topics/t")
    assert place == Place(("1f", 40), "every-message", None)
    assert place.after(0, "") == ("1f", 40)
    assert place.after(3, "") == ("1f", 43)
    assert place.recovered is None


def test_a_number_in_the_message_is_the_position() -> None:
    place = place_of(fields("1f:40", delivery="numbered"), "/topics/t?envelope=1")
    assert place is not None
    assert place.after(0, "") == ("1f", 40)
    assert place.after(1, '{"epoch":"1f","seq":40}') == ("1f", 40)
    assert place.after(7, '{"seq":99,"key":"k","data":{"seq":1}}') == ("1f", 99)
    assert place.after(7, "no json") is None


def test_without_a_word_about_its_messages_nobody_knows() -> None:
    for headers in (fields("1f:40", delivery="some"), {b"fastws-position": [b"1f:40"]}):
        place = place_of(headers, "/topics/t")
        assert place is not None
        assert place.after(0, "") is None
    assert place_of({}, "/topics/t") is None


@pytest.mark.parametrize(
    ("target", "recovered"),
    [
        ("/t?since=1f:40", True),
        ("/t?since=1f%3A40", True),
        ("/t?a=b&since=1f:39", False),
        ("/t?since=1e:40", False),
        ("/t?since=1f:40&since=1f:40", None),
        ("/t?since=x", None),
        ("/t", None),
    ],
)
def test_who_begins_where_it_has_asked_to_has_recovered(target: str, recovered: bool) -> None:
    place = place_of(fields("1f:40"), target)
    assert place is not None
    assert place.recovered is recovered


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/t", "/t?since=1f:41"),
        ("/t?", "/t?since=1f:41"),
        ("/t?a=b&c", "/t?a=b&c&since=1f:41"),
        ("/t?since=old:1&a=%26", "/t?a=%26&since=1f:41"),
        ("/t?a=1&s%69nce=x&a=2&since=y", "/t?a=1&a=2&since=1f:41"),
    ],
)
def test_a_position_takes_the_place_of_another(target: str, expected: str) -> None:
    assert with_since(target, ("1f", 41)) == expected


def test_an_epoch_of_a_server_is_no_query() -> None:
    assert with_since("/t", ("a&b=c#%", -1)) == "/t?since=a%26b%3Dc%23%25:-1"


NUMBER = struct.pack("<Q", 41)


@pytest.mark.parametrize(
    ("message", "batched", "number"),
    [
        ('{"epoch":"1f","seq":-1,"recovered":true}', False, -1),
        ('{"gap":[42,99],"reason":"slow"}', False, 99),
        (Gap(42, 99, 58, "slow"), True, 99),
        ('[{"seq":1,"data":1},{"seq":41,"data":[2]}]', True, 41),
        (NUMBER, False, 41),
        (NUMBER + b"payload", False, 41),
        (struct.pack("<I", 9) + NUMBER + b"x", True, 41),
        (struct.pack("<IQI", 8, 7, 10) + NUMBER + b"xy", True, 41),
        # not what was agreed on
        ("", False, None),
        ("[]", True, None),
        ("[1]", True, None),
        ("1", False, None),
        ('{"seq":"41"}', False, None),
        ('{"seq":true}', False, None),
        ('{"data":1}', False, None),
        ('{"gap":[1]}', False, None),
        (b"", False, None),
        (NUMBER[:7], False, None),
        (b"", True, None),
        (struct.pack("<I", 9) + NUMBER, True, None),
        (struct.pack("<I", 7) + NUMBER[:7], True, None),
        (struct.pack("<I", 0), True, None),
        (b"\x01\x00", True, None),
    ],
)
def test_the_last_number_of_a_message(message: Any, batched: bool, number: int | None) -> None:
    assert last_number(message, batched=batched) == number


def test_a_gap_is_told_from_other_messages() -> None:
    assert gap_of('{"gap":[42,99],"reason":"slow"}') == Gap(42, 99, 58, "slow")
    for other in (
        '{"seq":1,"data":{"gap":[1,2]}}',
        b'{"gap":[42,99],"reason":"slow"}',
        "",
        '{"gap":',
        '{"gap":[1],"reason":""}',
    ):
        assert gap_of(other) is None


def test_an_envelope_is_asked_for() -> None:
    assert asks_for_envelope("/t?a=b&envelope=1")
    assert not asks_for_envelope("/t?envelope=0")
    assert not asks_for_envelope("/t/envelope=1")
