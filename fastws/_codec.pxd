"""What the faces with an engine take from those without."""

from libc.stdint cimport uint8_t


cdef int one_of(str what, dict names, value) except -1
cdef int payload_of(object data, const uint8_t **start, size_t *n, uint8_t *opcode) except -1
