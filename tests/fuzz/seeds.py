"""Writes the seeds of the fuzz targets into tests/fuzz/corpus: python tests/fuzz/seeds.py."""

import random
import struct
import zlib
from pathlib import Path

CORPUS = Path(__file__).resolve().parent / "corpus"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CUTS = {"whole": b"\x00\x00", "threes": b"\x00\x03", "odd": b"\x02\x01\x05\x0e"}


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, key: bytes = b"") -> bytes:
    """One frame; a key masks it. Built without fastws (RFC 6455 5.2)."""
    n = len(payload)
    size = (
        bytes([n])
        if n < 126
        else struct.pack(">BH", 126, n)
        if n < 65536
        else struct.pack(">BQ", 127, n)
    )
    head = bytes([fin << 7 | opcode, size[0] | (0x80 if key else 0)]) + size[1:]
    mask = key or bytes(4)
    return head + key + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def wires(key: bytes) -> dict[str, bytes]:
    def one(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
        return frame(opcode, payload, fin=fin, key=key)

    split = "aé€😀".encode()
    return {
        "hello": one(TEXT, b"Hello"),
        "empty": one(TEXT) + one(BINARY) + one(PING),
        "lengths": one(BINARY, b"a" * 125) + one(BINARY, b"b" * 126) + one(PONG, b"c" * 125),
        "fragments": one(TEXT, b"Hel", fin=False) + one(PING, b"x") + one(0, b"lo"),
        "split": b"".join(one(0 if i else TEXT, split[i : i + 1], fin=False) for i in range(10)),
        "long": one(BINARY, bytes(range(256)) * 3) + one(CLOSE, b"\x03\xe8bye"),
        "empties": one(TEXT, fin=False) + one(0, fin=False) * 20 + one(0),
        "close": one(CLOSE) + one(TEXT, b"after"),
        "utf8": one(TEXT, b"ok") + one(TEXT, b"\xed\xa0\x80"),
        "codes": one(CLOSE, b"\x03\xee"),
        "reserved": one(TEXT, b"ok") + one(3, b"no"),
        "huge": bytes([0x82, 0x7F | (0x80 if key else 0)]) + b"\x7f" + b"\xff" * 7 + key,
        "wide": bytes([0x82, 0x7E | (0x80 if key else 0), 0, 125]) + key,
        "compressed": bytes([0xC1, 7 | (0x80 if key else 0)]) + key + b"\xf2H\xcd\xc9\xc9\x07\x00",
    }


def of_frames(head: bytes, compressed_head: bytes) -> dict[str, bytes]:
    found = {}
    for role, key in ((0, b"\x37\xfa\x21\x3d"), (1, b"")):
        for name, wire in wires(key).items():
            which = compressed_head if name == "compressed" else head
            cut = list(CUTS)[len(name) % len(CUTS)]
            found[f"{name}_{role}"] = bytes([which[0] | role]) + which[1:] + CUTS[cut] + wire
    return found


def of_mask_utf8() -> dict[str, bytes]:
    texts = {
        "ascii": b"Hello, world. " * 5,
        "mixed": "aé€😀߿ࠀ\uffff\U00010000\U0010ffff".encode() * 3,
        "surrogate": b"abcdefgh\xed\xa0\x80",
        "overlong": b"\xe0\x80\xaf\xf0\x80\x80\x80",
        "beyond": b"0123456789abcdef\xf4\x90\x80\x80",
        "short": "😀".encode()[:3],
    }
    return {
        name: bytes([i]) + b"\x01\x80\xff\x7f" + list(CUTS.values())[i % 3] + text
        for i, (name, text) in enumerate(texts.items())
    }


def of_deflate() -> dict[str, bytes]:
    text = b"a message that is about a message about messages " * 8
    found = {"plain": text, "zeros": bytes(3000), "stored": b"\x00\x05\x00\xfa\xffHello\x00"}
    for level in (1, 9):
        codec = zlib.compressobj(level, wbits=-9)
        small = codec.compress(text) + codec.flush(zlib.Z_SYNC_FLUSH)
        found[f"level_{level}"] = small[:-4]
        found[f"cut_{level}"] = small[: len(small) // 2]
        found[f"last_{level}"] = codec.flush(zlib.Z_FINISH) + b"\x00"
    return {name: b"\x01\x00\x03" + data for name, data in found.items()}


def of_topics() -> dict[str, bytes]:
    """Programs for fuzz_engine.c with topics that come and go; every other one has a budget."""
    found = {}
    for number in range(12):
        draw = random.Random(number)
        budget = number % 2 | draw.randrange(3, 8) << 1
        program = bytes([0x80 | draw.randrange(8), budget, 64, 7, draw.choice([0, 3])])
        program += draw.randbytes(3)
        for _ in range(draw.choice([60, 120, 200])):
            who = draw.randrange(6) << 4
            kind = draw.random()
            if kind < 0.4:
                program += bytes([who | draw.randrange(13, 16), draw.choice([0, 0, 0, 0x10])])
            elif kind < 0.85:
                program += bytes([who | 12]) + draw.randbytes(2 + draw.randrange(2, 5))
            elif kind < 0.95:
                program += bytes([who | 6]) + draw.randbytes(1)
            else:
                program += bytes([who | draw.randrange(12)]) + draw.randbytes(1)
        found[f"topics_{number}"] = program
    return found


def of_engine() -> dict[str, bytes]:
    """Programs for fuzz_engine.c: options, then two bytes a step, mostly turns."""
    found = of_topics()
    for number in range(16):
        draw = random.Random(number)
        program = bytes([draw.randrange(8), draw.choice([10, 64, 255]), draw.randrange(8)])
        program += bytes([draw.choice([0, 0, 3, 7, 255])]) + draw.randbytes(3)
        for _ in range(draw.choice([50, 100, 250])):
            who = draw.randrange(6) << 4
            kind = draw.random()
            if kind < 0.55:
                program += bytes([who | draw.randrange(12, 16), draw.choice([0, 0, 0, 0x90])])
            elif kind < 0.75:
                what = draw.choice([0, 0, 1, 2, 3, 4, 5, 5, 6, 7]) | draw.randrange(16) << 4
                program += bytes([who | draw.randrange(4), what]) + draw.randbytes(2)
            elif kind < 0.8:
                program += bytes([who | 4, draw.choice([1, 2, 8, 9, 0x40, 0x80]), 3])
                program += draw.randbytes(3)
            else:
                program += bytes([who | draw.randrange(12)]) + draw.randbytes(1)
        found[f"program_{number}"] = program
    return found


def main() -> None:
    seeds = {
        "parser": of_frames(b"\x00", b"\x80"),
        "message": of_frames(b"\x00\x04\x00\x20", b"\x80\x04\x00\x20"),
        "mask_utf8": of_mask_utf8(),
        "deflate": of_deflate(),
        "engine": of_engine(),
    }
    for target, files in seeds.items():
        (CORPUS / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (CORPUS / target / f"seed_{name}").write_bytes(data)


if __name__ == "__main__":
    main()
