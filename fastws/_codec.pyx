# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Faces without an engine: Frame, Ticks, and what the other faces need of bytes and names.

Floor 4. Owns nothing but its own bytes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
cimport cython
from libc.string cimport memcpy

from fastws.native cimport *

FORMATS = {"json": FWS_TICK_JSON, "binary": FWS_TICK_BINARY}
FIELDS = {"base": FWS_TICK_BASE, "seq": FWS_TICK_SEQ}


cdef int one_of(str what, dict names, value) except -1:
    """The core's number of a named choice; ValueError when there is no such name."""
    if value not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, not {value!r}")
    return names[value]


cdef int payload_of(object data, const uint8_t **start, size_t *n, uint8_t *opcode) except -1:
    """Where a payload of type bytes or str lies, without a copy, and its opcode."""
    cdef Py_ssize_t size
    if type(data) is bytes:
        start[0] = <const uint8_t *>PyBytes_AS_STRING(data)
        n[0] = <size_t>PyBytes_GET_SIZE(data)
        opcode[0] = FWS_BINARY
    elif type(data) is str:
        start[0] = <const uint8_t *>PyUnicode_AsUTF8AndSize(data, &size)
        n[0] = <size_t>size
        opcode[0] = FWS_TEXT
    else:
        raise TypeError(f"a payload must be bytes or str, not {type(data).__name__}")
    return 0


@cython.final
cdef class Frame:
    """One encoded WebSocket frame (RFC 6455 5.2), immutable.

    Args:
        payload: bytes for a BINARY frame, str for a TEXT one; a frame of at most 1 GiB.
        masking_key: four bytes for a client's frame, None for a server's.

    Raises:
        TypeError: payload is neither bytes nor str.
        ValueError: the key has not four bytes.
    """

    cdef readonly bytes data

    def __cinit__(self, payload, *, bytes masking_key=None):
        cdef uint8_t head[FWS_HEADER_MAX]
        cdef const uint8_t *key = NULL
        cdef const uint8_t *start
        cdef size_t head_n, n
        cdef uint8_t opcode
        payload_of(payload, &start, &n, &opcode)
        if masking_key is not None:
            if len(masking_key) != 4:
                raise ValueError("a masking key has four bytes")
            key = <const uint8_t *>PyBytes_AS_STRING(masking_key)
        head_n = fws_header_encode(head, opcode, True, 0, n, key)
        self.data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(head_n + n))
        cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(self.data)
        memcpy(out, head, head_n)
        memcpy(out + head_n, start, n)
        if key is not NULL:
            fws_mask(out + head_n, n, key, 0)

    def __bytes__(self):
        return self.data

    def __len__(self):
        return len(self.data)


@cython.final
cdef class Ticks:
    """The tick feed's generator by itself, for tests and measurements.

    Args:
        seed: the same seed gives the same ticks.
        format: "json" or "binary".
        fields: "base", or "seq" for ticks that also carry seq and tsNs.
    """

    cdef fws_ticks _ticks
    cdef uint64_t _seq

    def __cinit__(self, *, uint64_t seed, str format="json", str fields="base"):
        fws_ticks_init(&self._ticks, seed, <fws_tick_format>one_of("format", FORMATS, format),
                       <fws_tick_fields>one_of("fields", FIELDS, fields))

    def frames(self, int n, uint64_t ts_ns):
        """Return the next n ticks (0..1,000,000) as finished frames back to back.

        Args:
            ts_ns: when all of them are due, nanoseconds since the Unix epoch.
        """
        if not 0 <= n <= 1000000:
            raise ValueError("n must be 0 to 1,000,000")
        cdef bytearray room = bytearray((n + 1) * FWS_TICK_MAX)
        cdef uint8_t[::1] view = room
        cdef size_t used = 0
        cdef int i
        for i in range(n):
            used += fws_tick_write(&self._ticks, &view[used], ts_ns, self._seq)
            self._seq += 1
        return bytes(room[:used])

    def spin(self, int n, uint64_t ts_ns):
        """Generate n ticks into one small buffer again and again; the bytes generated."""
        cdef uint8_t room[65536]
        cdef size_t used = 0, total = 0, size
        cdef int i
        for i in range(n):
            if used > sizeof(room) - FWS_TICK_MAX:
                used = 0
            size = fws_tick_write(&self._ticks, room + used, ts_ns, self._seq)
            self._seq += 1
            used += size
            total += size
        return total
