"""From pieces of bytes to lines: borders, line ends, UTF-8, lines that are too long."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.lines.splitter import LineSplitter

MAX = 8


def split(*pieces: bytes, max_line: int = MAX) -> list[bytes]:
    splitter = LineSplitter(max_line)
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.finish()


@pytest.mark.parametrize(
    ("stream", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\r\n\r\nb\r\n", [b"a", b"", b"b"]),
        (b"a\rb\n", [b"a\rb"]),
        (b"\r\r\n", [b"\r"]),
        ("größe\n€\n".encode(), ["größe".encode(), "€".encode()]),
        (b"\x00\n", [b"\x00"]),
        (b"12345678\n", [b"12345678"]),
        (b"12345678\r\n", [b"12345678"]),
        (b"123456789\n", [b"12345678"]),
        (b"1234567890abcdefghij\nnext\n", [b"12345678", b"next"]),
        (b"12345678\rx\n", [b"12345678"]),
        (b"\r" * 20 + b"\n", [b"\r" * 8]),
        ("1234567é\n".encode(), [b"1234567"]),
        ("123456€\n".encode(), [b"123456"]),
        ("12345😀\n".encode(), [b"12345"]),
        (b"\xff\xfe\nok\n", ["\ufffd\ufffd".encode(), b"ok"]),
        (b"a\xe2\x82\nb\n", ["a\ufffd".encode(), b"b"]),
        (b"\xed\xa0\x80\n", ("\ufffd" * 3).encode()),
        (b"\x80" * 12 + b"\n", [("\ufffd" * 8).encode()]),
    ],
)
def test_every_split_of_the_stream_gives_the_same_lines(stream: bytes, lines: list[bytes]) -> None:
    expected = [lines] if isinstance(lines, bytes) else lines
    for cut in range(len(stream) + 1):
        assert split(stream[:cut], stream[cut:]) == expected
    assert split(*(stream[i : i + 1] for i in range(len(stream)))) == expected


def simple(stream: bytes, max_line: int) -> list[str]:
    """The same said in other words; of a line that is too long only what it begins with."""
    ended = stream.split(b"\n")
    if not ended[-1]:
        ended.pop()
    return [re.sub(rb"\r$", b"", line).decode(errors="replace") for line in ended]


@given(
    st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\xc3", b"\xa9", b"\xf0", b"bcd"]), max_size=60),
    st.lists(st.integers(1, 9), min_size=1, max_size=60),
)
def test_it_agrees_with_a_simple_splitter_however_the_stream_is_cut(
    parts: list[bytes], sizes: list[int]
) -> None:
    stream = b"".join(parts)
    pieces, at = [], 0
    for size in sizes:
        pieces.append(stream[at : at + size])
        at += size
    found = split(*pieces, stream[at:], max_line=1000)
    assert [line.decode() for line in found] == simple(stream, 1000)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_line_is_too_long_and_each_is_utf8(stream: bytes, size: int) -> None:
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    found = split(*pieces)
    for line in found:
        line.decode()
        assert len(line) <= 3 * MAX  # each byte may have become U+FFFD
    assert len(found) == len(simple(stream, MAX))


def test_what_is_odd_is_counted_with_its_first_line() -> None:
    splitter = LineSplitter(MAX)
    splitter.feed(b"one\ntwo\n")
    assert (splitter.lines, splitter.not_utf8, splitter.cut) == (2, 0, 0)
    splitter.feed(b"\xff\n\xfe\nlonger than that\n")
    splitter.feed(b"longer than tha")
    splitter.finish()
    assert splitter.lines == 6
    assert (splitter.not_utf8, splitter.first_not_utf8) == (2, 3)
    assert (splitter.cut, splitter.first_cut) == (2, 5)


def test_a_line_without_end_holds_no_memory() -> None:
    splitter = LineSplitter(1000)
    for _ in range(1000):
        assert splitter.feed(b"x" * 10_000) == []
    assert len(splitter._rest) == 1001
    assert splitter.feed(b"\nnext\n") == [b"x" * 1000, b"next"]
