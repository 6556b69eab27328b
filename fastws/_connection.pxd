"""The face of a connection; the engine makes it, and takes its fws_conn away at reap."""

from fastws._frame cimport Engine
from fastws._topic cimport Topic
from fastws.native cimport fws_command, fws_conn


cdef class Connection:
    cdef fws_conn *_c  # NULL once reaped
    cdef readonly Engine engine
    cdef readonly object id
    cdef public object state
    cdef readonly int close_code
    cdef readonly str reason

    cdef fws_conn *_open(self) except NULL
    cdef int _command(self, fws_command *command, int kind) except -1
    cdef int _membership(self, int kind, Topic topic) except -1
