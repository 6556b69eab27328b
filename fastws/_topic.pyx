# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The face of a topic: publishing.

Floor 4. Owns nothing: the engine owns the fws_topic, this reads it, and every change goes through
the engine.
"""

cimport cython

from fastws._codec cimport one_of, payload_of
from fastws._frame cimport Engine
from fastws.native cimport *

_ON_SLOW = {"close": FWS_SLOW_CLOSE, "latest": FWS_SLOW_LATEST, "lossless": FWS_SLOW_LOSSLESS}


@cython.final
cdef class Topic:
    """A stream that connections subscribe to. Made by `Engine.topic`; lives as long as it."""

    def __init__(self):
        raise TypeError("a Topic is made by the engine: call Engine.topic(name)")

    def publish(self, data, *, bint text=False):
        """Append one message to the log; O(1) in the number of subscribers.

        It leaves at the end of the loop's turn, at once when 256 KiB are waiting, or with
        `Engine.flush`. Safe from any thread: from one that does not drive the engine it
        is staged, in order, and the engine is woken.

        Args:
            data: str for a TEXT message; bytes for a BINARY one, or, with `text`, for a TEXT
                one that is UTF-8 already (as orjson gives it; not checked again).

        Raises:
            LogFull: the topic is lossless and its slowest subscriber at the limit, or,
                from another thread, 4 MiB are staged.
            TypeError, ValueError: not bytes or str; more than 1 GiB.
        """
        cdef fws_command command
        payload_of(data, &command.data, &command.n, &command.opcode)
        command.kind = FWS_CMD_PUBLISH
        command.topic = self._t
        if text:
            command.opcode = FWS_TEXT
        self.engine._command(&command)

    def set_policy(self, str on_slow, *, uint64_t max_lag_bytes, uint64_t retention_bytes):
        """Put another policy for slow subscribers in force, for present ones too.

        Args: as for `Engine.topic`.
        """
        cdef fws_topic_options options = topic_options(on_slow, max_lag_bytes, retention_bytes)
        self.engine._set_policy(self._t, &options)

    def account(self):
        """Return the counts of the topic, in messages over all its subscriptions ever.

        published = delivered + conflated + dropped + pending, where pending is counted from
        cursors and log, not derived (but for compressed subscriptions, which have no cursor).
        `acknowledged`: confirmed by the peers' kernels; always 0 for Unix sockets. `appended`:
        messages in the log's whole life.
        """
        return self.engine._account_of_topic(self._t)

    @property
    def subscribers(self):
        """How many connections are subscribed now."""
        self.engine._check()
        return self._t.n

    @property
    def delivered(self):
        """Whole messages handed to the kernel, over all subscriptions ever; a cheap look."""
        self.engine._check()
        return self._t.delivered

    @property
    def appended(self):
        """Messages published in the topic's whole life."""
        self.engine._check()
        return self._t.log.next_seq


cdef fws_topic_options topic_options(str on_slow, uint64_t max_lag_bytes,
                                     uint64_t retention_bytes):
    """Options as `Engine.topic` takes them, checked; ValueError says what is wrong."""
    cdef fws_topic_options options
    options.on_slow = <uint8_t>one_of("on_slow", _ON_SLOW, on_slow)
    if max_lag_bytes > retention_bytes:
        raise ValueError("max_lag_bytes must not exceed retention_bytes")
    options.max_lag_bytes = max_lag_bytes
    options.retention_bytes = retention_bytes
    return options
