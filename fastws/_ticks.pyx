# cython: boundscheck=False, wraparound=False
"""The tick feed's generator by itself. Layer 4: no engine, no socket, no clock."""

from cpython.bytearray cimport PyByteArray_AS_STRING
cimport cython

from fastws.native cimport *

from fastws._frame import FIELDS, FORMATS, one_of


@cython.final
cdef class Ticks:
    """The generator of the tick feed, for tests and benchmarks.

    Args:
        seed: the same seed gives the same ticks.
        format: "json" or "binary".
        fields: "base", "seq" for ticks that also carry seq and tsNs, or "quote": bid, ask and
            volume, too.
    """

    cdef fws_ticks _ticks
    cdef uint64_t _seq

    def __cinit__(self, *, uint64_t seed, str format="json", str fields="base"):
        fws_ticks_init(&self._ticks, seed, <fws_tick_format><int>one_of("format", FORMATS, format),
                       <fws_tick_fields><int>one_of("fields", FIELDS, fields))

    def frames(self, int n, uint64_t ts_ns):
        """Return the next n ticks (0..1,000,000) as finished frames back to back.

        Args:
            ts_ns: when all of them are due, nanoseconds since the Unix epoch.
        """
        if not 0 <= n <= 1000000:
            raise ValueError("n must be 0 to 1,000,000")
        cdef bytearray room = bytearray((n + 1) * FWS_TICK_MAX)
        cdef uint8_t *out = <uint8_t *>PyByteArray_AS_STRING(room)
        cdef size_t used = 0
        cdef int i
        for i in range(n):
            used += fws_tick_write(&self._ticks, out + used, ts_ns, self._seq)
            self._seq += 1
        return bytes(room[:used])

    def spin(self, int n, uint64_t ts_ns):
        """Generate n ticks into one small buffer, overwritten again and again.

        Returns:
            How many bytes were generated.
        """
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
