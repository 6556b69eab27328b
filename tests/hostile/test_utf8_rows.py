"""U: text is UTF-8 to the letter (RFC 3629), wherever it is cut; binary is anything."""

import pytest
from servers import Place
from wire import BINARY, CONTINUATION, TEXT, frame

INVALID = {
    "U20": b"\x80",  # a continuation byte alone
    "U21": b"\xbf\xbf",
    "U22": b"\xc0\xaf",  # overlong
    "U23": b"\xc1\xbf",
    "U24": b"\xe0\x80\xaf",
    "U25": b"\xe0\x9f\xbf",
    "U26": b"\xf0\x80\x80\xaf",
    "U27": b"\xf0\x8f\xbf\xbf",
    "U28": b"\xed\xa0\x80",  # surrogates
    "U29": b"\xed\xbf\xbf",
    "U30": b"\xed\xa0\xbd\xed\xb8\x80",
    "U31": b"\xf4\x90\x80\x80",  # past U+10FFFF
    "U32": b"\xf5\x80\x80\x80",
    "U33": b"\xf8\x88\x80\x80\x80",  # five and six bytes
    "U34": b"\xfc\x84\x80\x80\x80\x80",
    "U35": b"\xfe",
    "U36": b"\xff",
    "U37": b"\xe2\x28\xa1",  # a start without its continuation
}
CUT_OFF = (b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xed", b"\xf4\x8f")
VALID = "aé€𐍈😀\N{CJK UNIFIED IDEOGRAPH-4E00}".encode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("κόσμε " * 50, marks=pytest.mark.hostile("U01")),
        pytest.param("\U0010ffff\U00010000\ue000\ud7ff", marks=pytest.mark.hostile("U02")),
        pytest.param("a\0b\0", marks=pytest.mark.hostile("U03")),
        pytest.param("\ufffe\uffff\U0001fffe\ufdd0\ufeff", marks=pytest.mark.hostile("U04")),
        pytest.param("\x7f\x80\u07ff\u0800\uffff", marks=pytest.mark.hostile("U05")),
    ],
    ids=ascii,
)
def test_every_valid_text_comes_back(echo: Place, text: str) -> None:
    wire = echo.open()
    wire.round_trip(TEXT, text.encode())
    echo.in_pieces(wire, frame(TEXT, text.encode()[:40].decode(errors="ignore").encode()), 1)
    wire.echoes(TEXT, text.encode()[:40].decode(errors="ignore").encode())


@pytest.mark.parametrize(
    "bad", [pytest.param(bad, marks=pytest.mark.hostile(row)) for row, bad in INVALID.items()]
)
def test_an_invalid_sequence_fails_with_1007(echo: Place, bad: bytes) -> None:
    for payload in (bad, b"ahead " + bad, bad + b" behind", VALID + bad + VALID):
        wire = echo.open()
        wire.send(frame(TEXT, b"good") + frame(TEXT, payload) + frame(TEXT, b"never read"))
        wire.echoes(TEXT, b"good")
        wire.fails(1007)


@pytest.mark.hostile("U50")
def test_an_invalid_sequence_is_found_at_each_offset_of_97_bytes(echo: Place) -> None:
    for offset in range(97):
        for bad in (b"\xff", b"\xed\xa0\x80", b"\xc0\xaf"):
            wire = echo.open()
            wire.send(frame(TEXT, (b"x" * offset + bad + b"x" * 97)[: max(97, offset + len(bad))]))
            wire.fails(1007)
            wire.close()


@pytest.mark.hostile("U51")
def test_characters_split_by_fragments_come_back(echo: Place) -> None:
    wire = echo.open()
    for cut in range(len(VALID) + 1):
        wire.send(frame(TEXT, VALID[:cut], fin=False) + frame(CONTINUATION, VALID[cut:]))
        wire.echoes(TEXT, VALID)
    single = [VALID[i : i + 1] for i in range(len(VALID))]
    wire.send(frame(TEXT, b"", fin=False))
    wire.send(b"".join(frame(CONTINUATION, each, fin=False) for each in single))
    wire.send(frame(CONTINUATION))
    wire.echoes(TEXT, VALID)


@pytest.mark.hostile("U52")
def test_an_invalid_sequence_across_fragments_fails_with_1007(echo: Place) -> None:
    for bad in INVALID.values():
        for cut in range(len(bad) + 1):
            wire = echo.open()
            wire.send(frame(TEXT, b"a" + bad[:cut], fin=False) + frame(0, bad[cut:] + b"b"))
            wire.fails(1007)
            wire.close()


@pytest.mark.hostile("U53")
@pytest.mark.parametrize("bad", CUT_OFF)
def test_a_text_that_ends_within_a_character_fails_with_1007(echo: Place, bad: bytes) -> None:
    for data in (
        frame(TEXT, bad),
        frame(TEXT, VALID + bad),
        frame(TEXT, VALID, fin=False) + frame(CONTINUATION, bad),
        frame(TEXT, bad, fin=False) + frame(CONTINUATION, b""),
    ):
        wire = echo.open()
        wire.send(data)
        wire.fails(1007)


@pytest.mark.hostile("U54")
def test_an_invalid_fragment_fails_before_the_message_is_whole(echo: Place) -> None:
    for bad in INVALID.values():
        wire = echo.open()
        wire.send(frame(TEXT, VALID, fin=False) + frame(CONTINUATION, bad, fin=False))
        wire.fails(1007)
        wire.close()


@pytest.mark.hostile("U55")
def test_a_character_cut_by_a_frame_is_not_continued_by_the_next_message(echo: Place) -> None:
    wire = echo.open()
    wire.send(frame(TEXT, b"\xe2\x82") + frame(TEXT, b"\xac"))
    wire.fails(1007)


@pytest.mark.hostile("U56")
def test_binary_may_hold_any_bytes(echo: Place) -> None:
    wire = echo.open()
    for payload in (*INVALID.values(), *CUT_OFF, bytes(range(256)) * 3):
        wire.round_trip(BINARY, payload)
        wire.send(frame(BINARY, payload[:1], fin=False) + frame(CONTINUATION, payload[1:]))
        wire.echoes(BINARY, payload)
