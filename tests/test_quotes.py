"""Ticks with bid, ask and volume: `fastws serve --fields quote`."""

import json
import struct
from collections.abc import Callable
from typing import Any

from support import BINARY, TEXT, Site, take_frames

from fastws._ticks import Ticks

Run = Callable[[Any], Any]

NOW_NS = 1_769_951_234_567_890_123
KEYS = ["symbol", "price", "ts", "seq", "tsNs", "bid", "ask", "volume"]


def test_a_quote_is_these_bytes_in_json() -> None:
    frame = Ticks(seed=7, fields="quote").frames(1, NOW_NS)
    text = (
        b'{"symbol":"SYMBOL","price":PRICE,"ts":1769951234567,"seq":0,"tsNs":1769951234567890123,'
        b'"bid":BID,"ask":ASK,"volume":VOLUME}'
    )
    tick = json.loads(frame[4:])
    for name in ("symbol", "price", "bid", "ask", "volume"):
        text = text.replace(name.upper().encode(), str(tick[name]).encode())
    assert frame == b"\x81\x7e" + struct.pack(">H", len(text)) + text


def test_a_quote_has_the_keys_of_a_tick_and_three_more() -> None:
    plain = take_frames(bytearray(Ticks(seed=7, fields="seq").frames(1000, NOW_NS)))
    quotes = take_frames(bytearray(Ticks(seed=7, fields="quote").frames(1000, NOW_NS)))
    for (opcode, payload), (_, without) in zip(quotes, plain, strict=True):
        tick = json.loads(payload)
        assert opcode == TEXT
        assert list(tick) == KEYS
        assert payload.startswith(without[:-1])
        assert 0 < tick["bid"] < tick["price"] < tick["ask"]
        assert 0.001 <= tick["volume"] <= 100


def test_a_binary_quote_is_sixty_bytes_and_says_the_same() -> None:
    text = take_frames(bytearray(Ticks(seed=7, fields="quote").frames(1000, NOW_NS)))
    binary = Ticks(seed=7, format="binary", fields="quote").frames(1000, NOW_NS)
    for (opcode, payload), (_, same) in zip(take_frames(bytearray(binary)), text, strict=True):
        tick = json.loads(same)
        assert opcode == BINARY
        assert payload == struct.pack(
            "<IdqQqddd",
            ["BTC", "ETH", "SOL", "DOGE", "XRP"].index(tick["symbol"]),
            *(tick[key] for key in KEYS[1:]),
        )


def test_the_feed_sends_quotes(run: Run) -> None:
    async def story() -> None:
        async with Site(rate=1000, fields="quote") as site, await site.websocket() as client:
            ticks = [await client.tick() for _ in range(100)]
            assert [list(tick) for tick in ticks] == [KEYS] * 100
            first = ticks[0]["seq"]
            assert [tick["seq"] for tick in ticks] == list(range(first, first + 100))

    run(story())
