"""What Topic and Connection ask of their engine: all that changes the core goes through here."""

from libc.stdint cimport uint16_t, uint32_t

from fastws.native cimport fws_command, fws_conn, fws_engine, fws_event, fws_topic
from fastws.native cimport fws_topic_options


cdef class Engine:
    cdef fws_engine *_e  # NULL once closed
    cdef list _connections  # those that the owner has heard of, by slot
    cdef dict _topics
    cdef bint _in_turn, _scheduled, _closing
    cdef public object on_head, on_head_limit, on_body, on_undecided, on_message, on_close
    cdef public object on_error, schedule
    cdef object _interrupt  # what a handler raised to end the program, until the turn's end

    # Any thread may give a command; nothing else goes without _check.
    cdef int _command(self, const fws_command *command) except -1
    cdef int _check(self) except -1

    # Of a topic.
    cdef int _set_policy(self, fws_topic *t, const fws_topic_options *options) except -1
    cdef dict _account_of_topic(self, fws_topic *t)

    # Of a connection, which is not reaped.
    cdef int _respond(self, fws_conn *c, bytes data, bint keep_alive) except -1
    cdef int _upgrade(self, fws_conn *c, bytes data, unsigned window_bits) except -1
    cdef int _expect_body(self, fws_conn *c, uint32_t n, bytes data) except -1
    cdef int _allow(self, fws_conn *c, uint16_t messages) except -1
    cdef int _meter(self, fws_conn *c) except -1
    cdef int _kill(self, fws_conn *c) except -1
    cdef tuple _remote(self, const fws_conn *c)
    cdef dict _account_of(self, fws_conn *c)

    # Its own.
    cdef int _done(self, int status) except -1
    cdef int _schedule_flush(self) except -1
    cdef void _flush(self)
    cdef object _face(self, fws_conn *c)
    cdef int _deliver(self, fws_event *event) except -1
    cdef int _failed(self, connection, exception) except -1
    cdef int _raise_interrupt(self) except -1
    cdef int _reap(self) except -1
