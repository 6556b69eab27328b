"""The core's counts as dicts, for the faces."""

from libc.stdint cimport uint64_t

from fastws.native cimport fws_conn, fws_counters, fws_meter, fws_pace, fws_topic


cdef dict of_topic(fws_topic *t)
cdef dict of_connection(fws_conn *c, uint64_t now)
cdef dict of_engine(const fws_counters *counters)
cdef dict of_source(const fws_pace *pace)
cdef dict of_meter(const fws_meter *meter)
