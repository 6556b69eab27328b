"""Frame and Ticks: golden bytes."""

import json
import re
import struct
from collections import Counter

import pytest
from support import BINARY, TEXT, client_frame, take_frames

from fastws import Engine, Frame
from fastws._ticks import Ticks
from fastws.lag import Lag

NOW_NS = 1_769_951_234_567_890_123
START = {"BTC": 50_000, "ETH": 3_000, "SOL": 100, "DOGE": 0.1, "XRP": 0.5}

# Frame: the literals of RFC 6455 5.7.


def test_frame_is_the_literal_of_the_rfc() -> None:
    assert bytes(Frame("Hello")) == bytes.fromhex("810548656c6c6f")
    masked = Frame("Hello", masking_key=bytes.fromhex("37fa213d"))
    assert bytes(masked) == bytes.fromhex("818537fa213d7f9f4d5158")


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, "8200"),
        (1, "8201"),
        (125, "827d"),
        (126, "827e007e"),
        (256, "827e0100"),
        (65535, "827effff"),
        (65536, "827f0000000000010000"),
    ],
)
def test_binary_frame_has_the_shortest_length(size: int, head: str) -> None:
    payload = bytes(i & 0xFF for i in range(size))
    frame = Frame(payload)
    assert frame.data == bytes.fromhex(head) + payload
    assert len(frame) == len(frame.data)
    assert Frame(payload, masking_key=b"\x12\x34\x56\x78").data == client_frame(BINARY, payload)


def test_masking_key_of_zeros_is_a_key() -> None:
    assert bytes(Frame(b"x", masking_key=b"\0\0\0\0")) == b"\x82\x81\0\0\0\0x"


def test_text_frame_holds_utf8() -> None:
    assert Frame("é").data == b"\x81\x02\xc3\xa9"


def test_frame_refuses_other_types_and_lengths_of_key() -> None:
    for payload in ([b"x"], 1, None):
        with pytest.raises(TypeError, match="bytes, str"):
            Frame(payload)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="four bytes"):
        Frame(b"x", masking_key=b"abc")
    with pytest.raises(UnicodeEncodeError):
        Frame("\ud800")


# Ticks.


def test_json_ticks_look_as_the_contract_says() -> None:
    shape = re.compile(
        rb'\{"symbol":"(BTC|ETH|SOL|DOGE|XRP)","price":(\d+|\d+\.\d{0,5}[1-9]),"ts":1769951234567\}'
    )
    buffer = bytearray(Ticks(seed=1).frames(10_000, NOW_NS))
    last = {symbol: float(price) for symbol, price in START.items()}
    seen: Counter[str] = Counter()
    for opcode, payload in take_frames(buffer):
        assert opcode == TEXT
        assert shape.fullmatch(payload), payload
        assert 45 <= len(payload) <= 60, payload
        tick = json.loads(payload)
        symbol, price = tick["symbol"], tick["price"]
        seen[symbol] += 1
        assert abs(price - last[symbol]) <= last[symbol] * 0.0011 + 1e-6
        last[symbol] = price
    assert not buffer
    assert set(seen) == set(START)
    # 2,000 each; the standard deviation is 40.
    assert all(abs(count - 2_000) < 240 for count in seen.values()), seen


def test_binary_ticks_are_twenty_bytes_little_endian() -> None:
    symbols: set[int] = set()
    json_frames = take_frames(bytearray(Ticks(seed=7).frames(500, NOW_NS)))
    frames = take_frames(bytearray(Ticks(seed=7, format="binary").frames(500, NOW_NS)))
    for (opcode, payload), (_, text) in zip(frames, json_frames, strict=True):
        assert opcode == BINARY
        assert len(payload) == 20
        symbol, price, ts = struct.unpack("<Idq", payload)
        same = json.loads(text)
        assert list(START)[symbol] == same["symbol"]
        assert price == pytest.approx(same["price"], rel=1e-4)
        assert ts == same["ts"] == NOW_NS // 1_000_000
        symbols.add(symbol)
    assert symbols == set(range(5))


def test_ticks_with_fields_are_supersets() -> None:
    ticks = take_frames(bytearray(Ticks(seed=7, fields="seq").frames(3, NOW_NS)))
    decoded = [json.loads(payload) for _, payload in ticks]
    assert [list(tick) for tick in decoded] == [["symbol", "price", "ts", "seq", "tsNs"]] * 3
    assert [tick["seq"] for tick in decoded] == [0, 1, 2]
    assert {tick["tsNs"] for tick in decoded} == {NOW_NS}
    binary = Ticks(seed=7, format="binary", fields="seq")
    payloads = [payload for _, payload in take_frames(bytearray(binary.frames(3, NOW_NS)))]
    unpacked = [struct.unpack("<IdqQq", payload) for payload in payloads]
    assert [(seq, ns) for *_, seq, ns in unpacked] == [(0, NOW_NS), (1, NOW_NS), (2, NOW_NS)]


def test_the_same_seed_gives_the_same_ticks() -> None:
    assert Ticks(seed=5).frames(100, NOW_NS) == Ticks(seed=5).frames(100, NOW_NS)
    assert Ticks(seed=5).frames(100, NOW_NS) != Ticks(seed=6).frames(100, NOW_NS)


def test_ticks_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValueError, match="1,000,000"):
        Ticks(seed=1).frames(-1, NOW_NS)
    with pytest.raises(ValueError, match="format must be one of json, binary"):
        Ticks(seed=1, format="xml")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fields must be one of base, seq, quote"):
        Ticks(seed=1, fields="all")  # type: ignore[arg-type]


def test_source_refuses_what_it_does_not_know() -> None:
    engine, other = Engine(), Engine()
    topic = engine.topic("t")
    with pytest.raises(ValueError, match="late must be one of burst, smooth, skip"):
        engine.start_source(topic, seed=1, late="never")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="another engine"):
        other.start_source(topic, seed=1)
    with pytest.raises(ValueError, match="format must be"):
        engine.set_format("xml")  # type: ignore[arg-type]
    for rate in (-1, 100_000_001):
        with pytest.raises(ValueError, match="0 to 100,000,000"):
            engine.set_rate(rate)
    with pytest.raises(ValueError, match="on_slow must be one of close, latest, lossless"):
        engine.topic("u", on_slow="wait")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must not exceed"):
        engine.topic("u", max_lag=Lag(bytes=2), retention_bytes=1)
    assert engine.topic("t") is topic
