"""What the servers send and the load client expects, byte for byte.

Message i of a load is `{"id":"<i mod RING, ten digits>","pad":"....."}`, a text of an exact size.
The ids repeat after RING messages, so that the stream of a connection is periodic and every byte
of it is known. A loss or a repetition goes unnoticed only if it is a multiple of a whole ring.
"""

DIGITS = 10
_EMPTY = len('{"id":"","pad":""}') + DIGITS
LEAST = _EMPTY  # bytes of the smallest message
RING_BYTES = 1 << 20  # of frames that bare.c takes
RING_MAX = 4096
MASK = b"\x37\xfa\x21\x3d"  # RFC 6455 5.7 has this key in its examples


def ring_size(size: int) -> int:
    """Return how many different messages of `size` bytes there are: a power of two."""
    ring = RING_MAX
    while ring * frame_size(size) > RING_BYTES:
        ring //= 2
    return ring


def frame_size(size: int) -> int:
    """Return the bytes of a server's frame (RFC 6455 5.2)."""
    return size + (2 if size < 126 else 4 if size < 65536 else 10)


def client_frame_size(size: int) -> int:
    """Return the bytes of a client's frame, which has a masking key."""
    return frame_size(size) + len(MASK)


def message(number: int, size: int) -> str:
    """Return a message of `size` bytes."""
    return f'{{"id":"{number:0{DIGITS}d}","pad":"{"." * (size - _EMPTY)}"}}'


def messages(size: int) -> list[bytes]:
    """Return the ring of messages."""
    if size < LEAST:
        raise ValueError(f"a message has {LEAST} bytes at least, not {size}")
    return [message(number, size).encode() for number in range(ring_size(size))]


def header(size: int, *, masked: bool = False) -> bytes:
    """Return the header of a final TEXT frame, without the key."""
    bit = 0x80 if masked else 0
    if size < 126:
        return bytes((0x81, bit | size))
    if size < 65536:
        return bytes((0x81, bit | 126)) + size.to_bytes(2, "big")
    return bytes((0x81, bit | 127)) + size.to_bytes(8, "big")


def server_stream(size: int) -> bytes:
    """Return the frames of one ring as a server sends them."""
    head = header(size)
    return b"".join(head + payload for payload in messages(size))


def client_stream(size: int) -> bytes:
    """Return the frames of one ring as a client sends them."""
    head = header(size, masked=True) + MASK
    return b"".join(head + masked(payload) for payload in messages(size))


def masked(payload: bytes) -> bytes:
    """Apply the key (RFC 6455 5.3)."""
    key = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    both = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return both.to_bytes(len(payload), "big")
