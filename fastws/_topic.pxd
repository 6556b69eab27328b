"""The face of a topic; the engine makes it and lets it go."""

from libc.stdint cimport uint64_t

from fastws._frame cimport Engine
from fastws.native cimport fws_topic, fws_topic_options


cdef class Topic:
    cdef fws_topic *_t  # NULL once the engine is closed
    cdef readonly Engine engine
    cdef readonly str name


cdef fws_topic_options topic_options(str on_slow, uint64_t max_lag_bytes,
                                     uint64_t retention_bytes)
