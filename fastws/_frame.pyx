# cython: boundscheck=False, wraparound=False
"""The binding of the core: Engine, Connection, Topic, Subscription and Frame.

Layer 4. They share one lifetime, so they stand in one module. An Engine owns one fws_engine,
which owns every fws_conn, fws_topic and fws_sub. The Engine also keeps one Connection object for
each connection that its owner has heard of, in a list by slot, and the Topic objects that were
configured. Another Topic object lives as long as somebody refers to it, holds a reference to its
fws_topic, and is found again by the core's opaque `owner`; the C side never sees a PyObject. A
Connection loses its fws_conn when the engine reaps it, a Topic its fws_topic when it or the engine
is closed. A Subscription holds no pointer: it is looked up. The only `with nogil` stands here.
"""

from cpython.exc cimport PyErr_WriteUnraisable
from cpython.object cimport PyObject
from cpython.buffer cimport PyBuffer_IsContiguous
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
cimport cython
from libc.errno cimport errno
from libc.string cimport memcpy, memset

from fastws.native cimport *

import os
from collections import deque
from inspect import iscoroutinefunction
from threading import current_thread
from weakref import WeakValueDictionary

from fastws.errors import (
    Close, ConnectionClosed, LogFull, SubscriptionLimit, connection_closed, host_and_port,
)
from fastws.lag import TOPIC_DEFAULTS as _DEFAULTS, Gap, History, Lag, Message, Position
from fastws.lag import merged_options

FORMATS = {"json": FWS_TICK_JSON, "binary": FWS_TICK_BINARY}
FIELDS = {"base": FWS_TICK_BASE, "seq": FWS_TICK_SEQ, "quote": FWS_TICK_QUOTE}
_LATE = {"burst": FWS_LATE_BURST, "smooth": FWS_LATE_SMOOTH, "skip": FWS_LATE_SKIP}
_ON_SLOW = {"close": FWS_SLOW_CLOSE, "latest": FWS_SLOW_LATEST, "lossless": FWS_SLOW_LOSSLESS,
            "drop_oldest": FWS_SLOW_DROP_OLDEST}
_CONTENT = {"text": FWS_CONTENT_TEXT, "json": FWS_CONTENT_JSON, "binary": FWS_CONTENT_BINARY}
_WHY = {FWS_WHY_SLOW: "slow", FWS_WHY_RETENTION: "retention", FWS_WHY_BUDGET: "budget"}
_BEHIND = {FWS_BEHIND_NOT: "", FWS_BEHIND_UNSENT: "not sent yet", FWS_BEHIND_RATE: "rate-limited",
           FWS_BEHIND_FULL: "kernel buffer full", FWS_BEHIND_NOT_READING: "not reading"}
_INTERRUPTS = (KeyboardInterrupt, SystemExit)
_INHERITED = ("the engine belongs to the process that this one was forked from: make another one "
              "here; close() closes the descriptors and leaves the parent's connections alone")
_RATE_OR_LOSSLESS = ("max_rate is not for a lossless subscription, which would hold the publisher "
                     "while it waits for its time")
cdef enum:
    MIB = 1048576
    PUBLISHED_MOST = 65536  # by publish_wait, before it lets others go on; a message counts as its
    PUBLISHED_EACH = 64     # bytes and these


cdef class Connection
cdef class Topic
cdef class Subscription
cdef class Wildcard
cdef class Engine


# Arguments and errors.


cdef uint64_t _ns(double seconds) except? 0:
    """Seconds as nanoseconds; a negative or absurd time is a ValueError."""
    if not 0 <= seconds <= 1e9:
        raise ValueError(f"a time must be 0 to 1e9 seconds, not {seconds}")
    return <uint64_t>(seconds * 1e9)


cdef object _error(int status):
    """The exception for a negative status: the one place where one becomes the other."""
    if status == FWS_E_FULL:
        return LogFull("what waits for a slow peer has reached its limit")
    if status == FWS_E_NOMEM:
        return MemoryError()
    if status == FWS_E_INVALID:
        return ValueError("a size or code is out of range")
    if status == FWS_E_SYSTEM:
        return OSError(errno, os.strerror(errno))
    if status == FWS_E_MANY:
        return SubscriptionLimit("the connection has max_subscriptions subscriptions already")
    return ConnectionClosed(1006, "the connection is closing or closed")


def deflate_available():
    """Whether this build can compress: zlib was there when it was made."""
    return fws_deflate_available()


cpdef int one_of(str what, dict names, value) except -1:
    """The core's number of a named choice; ValueError when there is no such name."""
    if value not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, not {value!r}")
    return names[value]


cdef int _check_callback(str name, callback) except -1:
    """A TypeError unless it is None or a plain function: nothing would await another one."""
    if callback is None:
        return 0
    if not callable(callback):
        raise TypeError(f"{name} must be a function, not {callback!r}")
    if iscoroutinefunction(callback):
        raise TypeError(f"{name} must be a plain function, not an async one: it is called in the "
                        "turn, and nothing would await it")
    return 0


cdef object payload_of(object data, const uint8_t **start, size_t *n, uint8_t *opcode):
    """Where a payload lies, without a copy, and its opcode; the object returned keeps it there."""
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
        return other_payload_of(data, start, n, opcode)
    return data


cdef object other_payload_of(object data, const uint8_t **start, size_t *n, uint8_t *opcode):
    """The same of a Frame, a bytearray or a memoryview."""
    cdef Frame frame
    cdef Py_buffer *view
    if type(data) is Frame:
        frame = data
        if frame._masked:
            raise ValueError("a masked Frame cannot be sent: make it without masking_key")
        start[0] = <const uint8_t *>PyBytes_AS_STRING(frame.data) + frame._head
        n[0] = <size_t>PyBytes_GET_SIZE(frame.data) - frame._head
        opcode[0] = frame._opcode
        return frame
    if type(data) is not bytearray and type(data) is not memoryview:
        raise TypeError("a payload must be bytes, str, bytearray, memoryview or Frame, "
                        f"not {type(data).__name__}")
    held = PyMemoryView_FromObject(data)  # a bytearray cannot be resized while it lives
    view = PyMemoryView_GET_BUFFER(held)
    if not PyBuffer_IsContiguous(view, b"C"):
        raise ValueError("a memoryview to be sent must be contiguous")
    start[0] = <const uint8_t *>view.buf
    n[0] = <size_t>view.len
    opcode[0] = FWS_BINARY
    return held


def check_close(code, str reason not None):
    """Raise ValueError when a Close cannot have this code or reason (RFC 6455 5.5.1, 7.4)."""
    cdef size_t n = len(reason.encode())
    if not isinstance(code, int):
        raise TypeError(f"a close code must be an integer, not {code!r}")
    if code == 1005 and n == 0:
        return
    if not 0 <= code <= 65535 or not fws_close_code_valid(code) or n > FWS_REASON_MAX:
        raise ValueError(
            f"cannot close with code {code} and a reason of {n} bytes: a code is 1000-1003, "
            f"1007-1014 or 3000-4999, a reason at most {FWS_REASON_MAX} bytes of UTF-8; 1005 has "
            "none"
        )


cdef uint64_t _amount(str what, value, double scale=1) except? 0:
    """A limit as the core takes it; None: no such limit."""
    if value is None:
        return 0
    if (not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 2**63
            or not 1 <= value * scale < 2.0**63):  # less would be 0: no limit
        raise ValueError(f"{what} must be {1 / scale:g} to {2.0**63 / scale:g}, not {value!r}")
    return <uint64_t>(value * scale)


cdef uint64_t _gap(max_rate) except? 0:
    """Between two flushes, ns, of so many a second; None: 0."""
    if max_rate is None:
        return 0
    if not isinstance(max_rate, (int, float)) or isinstance(max_rate, bool):
        raise TypeError(f"max_rate must be a number, not {type(max_rate).__name__}")
    if not 0.1 <= max_rate <= 1000:
        raise ValueError(f"max_rate must be 0.1 to 1000 a second, not {max_rate!r}")
    return <uint64_t>(1e9 / max_rate)


cdef fws_topic_options topic_options(dict options) except *:
    """Options as `Engine.topic` takes them, checked; ValueError says what is wrong."""
    cdef fws_topic_options found
    lag, history, retention = options["max_lag"], options["history"], options["retention_bytes"]
    if not isinstance(lag, Lag) or not isinstance(history, History):
        raise TypeError("max_lag must be a Lag, history a History")
    found.on_slow = <uint8_t>one_of("on_slow", _ON_SLOW, options["on_slow"])
    found.retention_bytes = _amount("retention_bytes", retention)
    found.max_lag_bytes = retention if lag.bytes is None else _amount("Lag.bytes", lag.bytes)
    found.max_lag_messages = _amount("Lag.messages", lag.messages)
    found.history_messages = _amount("History.messages", history.messages)
    found.history_bytes = _amount("History.bytes", history.bytes)
    found.history_ns = _amount("History.seconds", history.seconds, 1e9)
    found.max_lag_ns = _amount("Lag.seconds", lag.seconds, 1e9)
    found.retain = options["retain"]
    found.content = <uint8_t>one_of("content", _CONTENT, options["content"])
    found.min_rate = 0 if options["min_rate"] == 0 else _amount("min_rate", options["min_rate"])
    if found.max_lag_ns > 0 and found.on_slow == FWS_SLOW_LOSSLESS:
        raise ValueError("Lag.seconds is not for a lossless topic: min_rate bounds how slow a "
                         "subscriber may be")
    if found.max_lag_bytes > found.retention_bytes:
        raise ValueError("max_lag must not exceed retention_bytes")
    return found


def check_lag(max_lag):
    """Raise TypeError or ValueError when it is no Lag that a topic with room enough could have."""
    topic_options({**_DEFAULTS, "max_lag": max_lag, "retention_bytes": 2**62})


cdef str _named(dict numbers, int wanted):
    return next(name for name, number in numbers.items() if number == wanted)


cdef dict options_by_name(const fws_topic_options *options):
    """The reverse of topic_options."""
    return {
        "on_slow": _named(_ON_SLOW, options.on_slow),
        "max_lag": Lag(bytes=options.max_lag_bytes, messages=options.max_lag_messages or None,
                       seconds=options.max_lag_ns / 1e9 or None),
        "retention_bytes": options.retention_bytes,
        "history": History(messages=options.history_messages or None,
                           bytes=options.history_bytes or None,
                           seconds=options.history_ns / 1e9 or None),
        "retain": options.retain,
        "min_rate": options.min_rate,
        "content": _named(_CONTENT, options.content),
    }


# Accounts: the core's counts as dicts.


cdef dict of_reader(fws_reader_account account, bint acknowledges):
    """What `Subscription.account` and `Connection.account` return."""
    cdef dict counts = account
    if not acknowledges:
        counts["acknowledged"] = None
    return counts


cdef dict of_source(const fws_pace *pace):
    """What `Engine.pacing` returns."""
    return {
        "sent": pace.sent,
        "missed": pace.missed,
        "slope_ppm": fws_pace_slope_ppm(pace),
        "lag_us": {
            "p50": fws_hist_quantile(&pace.lag, 0.5) / 1000,
            "p99": fws_hist_quantile(&pace.lag, 0.99) / 1000,
            "max": pace.lag.max / 1000,
        },
        "burst": {
            "p50": fws_hist_quantile(&pace.burst, 0.5),
            "p99": fws_hist_quantile(&pace.burst, 0.99),
            "max": pace.burst.max,
        },
    }


cdef dict of_meter(const fws_meter *meter):
    """What `Engine.metered` returns; NULL stands for a meter that has counted nothing."""
    if meter is NULL:
        return {
            "frames": 0, "bytes": 0, "sampled": 0, "bad": 0, "gaps": 0, "missed": 0,
            "duplicates": 0, "reordered": 0, "first_error": "",
            "latency_ms": {"n": 0, "mean": 0.0, "p50": 0.0, "p99": 0.0, "max": 0.0},
        }
    return {
        "frames": meter.frames,
        "bytes": meter.bytes,
        "sampled": meter.sampled,
        "bad": meter.bad,
        "gaps": meter.gaps,
        "missed": meter.missed,
        "duplicates": meter.duplicates,
        "reordered": meter.reordered,
        "first_error": (<bytes>meter.first_error).decode("utf-8", "replace"),
        "latency_ms": {
            "n": meter.latency.total,
            "mean": meter.latency.sum / 1e6 / max(meter.latency.total, <uint64_t>1),
            "p50": fws_hist_quantile(&meter.latency, 0.5) / 1e6,
            "p99": fws_hist_quantile(&meter.latency, 0.99) / 1e6,
            "max": meter.latency.max / 1e6,
        },
    }


cdef str counted(size_t n, str what):
    return f"{n} {what}{'' if n == 1 else 's'}"


@cython.final
cdef class Done:
    """A coroutine that is done; there is one only."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, _):
        raise StopIteration

    def throw(self, kind, value=None, traceback=None):
        raise kind if value is None else value

    def close(self):
        pass


cdef Done DONE = Done()


@cython.final
cdef class Frame:
    """One encoded WebSocket frame (RFC 6455 5.2), immutable. One without a key can be sent.

    Args:
        payload: bytes, bytearray or memoryview for a BINARY frame, str for a TEXT one; a frame of
            at most 1 GiB.
        masking_key: four bytes for a client's frame, None for a server's.

    Raises:
        TypeError: payload is none of these.
        ValueError: the key has not four bytes; a memoryview is not contiguous.
    """

    cdef readonly bytes data
    cdef uint8_t _head, _opcode  # bytes of the header
    cdef bint _masked

    def __cinit__(self, payload, *, bytes masking_key=None):
        cdef uint8_t head[FWS_HEADER_MAX]
        cdef const uint8_t *key = NULL
        cdef const uint8_t *start
        cdef size_t head_n, n
        cdef uint8_t opcode
        held = payload_of(payload, &start, &n, &opcode)
        if masking_key is not None:
            if len(masking_key) != 4:
                raise ValueError("a masking key has four bytes")
            key = <const uint8_t *>PyBytes_AS_STRING(masking_key)
        head_n = fws_header_encode(head, opcode, True, 0, n, key)
        self._head, self._opcode, self._masked = <uint8_t>head_n, opcode, key is not NULL
        self.data = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(head_n + n))
        cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(self.data)
        memcpy(out, head, head_n)
        memcpy(out + head_n, start, n)
        if key is not NULL:
            fws_mask(out + head_n, n, key, 0)

    def __repr__(self):
        n = len(self.data) - self._head
        kind = "text" if self._opcode == FWS_TEXT else "binary"
        return f"<fastws.Frame {kind} {counted(n, 'byte')}{' masked' if self._masked else ''}>"

    def __bytes__(self):
        return self.data

    def __len__(self):
        return len(self.data)


@cython.final
@cython.no_gc_clear
cdef class Topic:
    """A stream that connections subscribe to. Made by `Engine.topic`.

    `engine` is a fact. A topic that was configured (with options, or callbacks) stays until
    `close()`. Any other one is only named: it goes when it has no subscribers, no history, and no
    reference to its Topic object is left; a topic of that name made later is another one, with
    another `epoch`.

    `on_first_subscriber` and `on_last_subscriber`: called with the topic, in the engine's turn,
    when it has got its first subscriber, or lost its last one. Setting either configures the topic.
    """

    cdef fws_topic *_t  # NULL once it or the engine is closed
    cdef readonly Engine engine
    cdef object _on_first, _on_last
    cdef public bint crowded  # somebody waits to publish: see `publish_wait`
    cdef object __weakref__

    def __init__(self):
        raise TypeError("a Topic is made by the engine: call Engine.topic(name)")

    def __dealloc__(self):
        cdef fws_command command
        if self._t is NULL or self.engine._e is NULL:
            return
        if fws_topic_facts_of(self._t).owner == <void *>self:
            fws_topic_own(self._t, NULL)
        command.kind = FWS_CMD_UNREF
        command.topic = self._t
        command.conn = command.n = 0
        fws_engine_command(self.engine._e, &command)

    def __repr__(self):
        if self._t is NULL:
            return "<fastws.Topic closed>"
        return (f"<fastws.Topic {self._short_name()!r} "
                f"{counted(fws_topic_snapshot(self._t).subscribers, 'subscriber')}>")

    cdef str _short_name(self):
        name = self.name
        return name if len(name) <= 64 else name[:63] + "…"

    cdef fws_topic *_held(self) except NULL:
        """The fws_topic, for the thread that drives the engine."""
        self.engine._check()
        if self._t is NULL:
            raise ConnectionClosed(1006, "the topic is closed")
        return self._t

    @property
    def name(self):
        """What it was asked for by; "" when it is closed."""
        if self._t is NULL:
            return ""
        cdef fws_topic_facts facts = fws_topic_facts_of(self._t)
        return facts.name[:facts.name_n].decode()

    @property
    def epoch(self):
        """Names this incarnation of the topic: another str for each, and for each server."""
        return _epoch_of(self._held())

    @property
    def seq(self):
        """The sequence number of its newest message: they count from 0; -1: there was none yet."""
        return <int64_t>fws_topic_snapshot(self._held()).appended - 1

    def publish(self, data, *, key=None, bint text=False, Connection exclude=None):
        """Append one message to the log; O(1) in the number of subscribers.

        It is sent at the end of the loop's turn, at once when 256 KiB are waiting, or by
        `Engine.flush`. Safe from any thread: from a thread that does not drive the engine it is
        staged, in order, and the engine is woken.

        Args:
            data: str for a TEXT message; bytes, bytearray or memoryview for a BINARY one; or a
                Frame. With `text`, bytes for a TEXT one: UTF-8, as orjson returns it; it is not
                checked.
            key: what it is about, a str of 1 to 255 bytes of UTF-8 (a symbol, an id). A subscriber
                with `on_slow="latest"` that is too slow gets the newest message of each key; a
                topic that retains keeps that of each key.
            exclude: a subscriber that is not to get it (a room without its speaker).

        Raises:
            LogFull: the topic is lossless and its slowest subscriber at the limit; or the logs of
                all topics hold `max_log_bytes` that lossless subscribers need; or, from another
                thread, 4 MiB are staged.
            ConnectionClosed: the topic or the engine is closed.
            TypeError, ValueError: none of these; more than 1 GiB, a masked Frame, a memoryview
                that is not contiguous; what is no key.
        """
        self._publish(data, key, text, exclude)

    cdef int _publish(self, data, key, bint text, Connection exclude) except -1:
        cdef fws_command command
        held = payload_of(data, &command.data, &command.n, &command.opcode)
        if self._t is NULL:
            raise ConnectionClosed(1006, "the topic is closed")
        command.kind = FWS_CMD_PUBLISH
        command.topic = self._t
        command.conn = 0
        name = _set_key(&command, key)
        if exclude is not None:
            if exclude.engine is not self.engine:
                raise ValueError("the connection belongs to another engine")
            command.conn = exclude._id
        if text:
            command.opcode = FWS_TEXT
        return self.engine._command(&command)

    def publish_wait(self, data, *, key=None, bint text=False, Connection exclude=None):
        """Publish one message, as `publish` does, when there is room for it; to be awaited.

        Where there is room it is published at the call, and the awaitable is done. Else it is
        published when it is awaited and there is room again, first come, first served; cancelled
        while it waits, it is not published. After 64 KiB or 1,000 messages without a turn of the
        engine it waits for one, so that a loop that publishes does not keep the others waiting.

        Args: as for `publish`.

        Raises:
            LogFull: the message is larger than `max_log_bytes`.
            ConnectionClosed: the topic or the engine is closed, or closes while this waits.
            RuntimeError: another thread drives the engine, or nothing can be awaited of it.
            TypeError, ValueError: as `publish`.
        """
        cdef size_t n = self._room_for(data)
        waits = self.engine._waits()
        if (self.crowded or self.engine._published > PUBLISHED_MOST
                or not self._offer(n, data, key, text, exclude)):
            return waits.publish(self, data, key, text, exclude)
        self.engine._published += PUBLISHED_EACH + n
        return DONE

    def offer(self, data, *, key=None, bint text=False, Connection exclude=None):
        """Publish one message, as `publish` does, if there is room: return whether there was.

        Raises: as `publish_wait`.
        """
        return self._offer(self._room_for(data), data, key, text, exclude)

    cdef bint _offer(self, size_t n, data, key, bint text, Connection exclude) except -1:
        if not fws_topic_takes(self._t, n):
            return False
        try:
            self._publish(data, key, text, exclude)
        except LogFull:  # its slab was too old: the next question knows that
            return False
        return True

    def notify_room(self, data):
        """Ask for one call of `Engine.on_topic_room` with this topic, in a turn.

        It is called when there is room for such a message; at the end of this or the next turn if
        there is already. To ask again before the call changes the message only. When the topic
        closes first, nothing is called.

        Raises: as `publish_wait`.
        """
        cdef size_t n = self._room_for(data)
        self.engine._done(fws_topic_want_room(self._t, n))

    cdef size_t _room_for(self, data) except? 0:
        """How many bytes it has; an error where it never fits, or here nothing may be published."""
        cdef const uint8_t *start
        cdef size_t n
        cdef uint8_t opcode
        cdef fws_topic *t = self._held()
        held = payload_of(data, &start, &n, &opcode)
        if fws_topic_never_takes(t, n):
            raise LogFull(f"a message of {n} bytes is larger than max_log_bytes allows")
        return n

    def publish_all(self, messages not None, *, key=None, bint text=False):
        """Append many messages, as `publish` does each of them, in one call.

        Args:
            messages: an iterable of what `publish` takes.
            key, text: of all of them, as for `publish`.

        Returns:
            How many they were.

        Raises:
            LogFull: as `publish`, at the first one that was not taken; its `published` says how
                many were.
            ConnectionClosed, TypeError, ValueError: as `publish`; those before it were taken.
        """
        cdef fws_command command
        cdef Py_ssize_t published = 0
        if isinstance(messages, (str, bytes, bytearray, memoryview)):
            raise TypeError("publish_all takes an iterable of messages; publish takes one")
        command.kind = FWS_CMD_PUBLISH
        command.conn = 0
        name = _set_key(&command, key)
        try:
            for data in messages:
                held = payload_of(data, &command.data, &command.n, &command.opcode)
                if self._t is NULL:  # the iterator may have closed it
                    raise ConnectionClosed(1006, "the topic is closed")
                command.topic = self._t
                if text:
                    command.opcode = FWS_TEXT
                self.engine._command(&command)
                published += 1
        except LogFull as full:
            full.published = published
            raise
        return published

    def position(self, since=None):
        """Return the Position where `Connection.subscribe` would begin now, with that `since`.

        For what a program tells its client first: what is replayed leaves in the place of its
        subscription, behind what was sent before.

        Raises:
            TypeError, ValueError: as `Connection.subscribe`.
        """
        cdef fws_topic *t = self._held()
        cdef uint64_t epoch, seq = 0
        recovered = None
        if since is not None:
            epoch, seq = _since(t, since)
            recovered = fws_topic_recovers(t, epoch, seq)
        if not recovered:
            seq = fws_topic_start(t, NULL)
        return Position(_epoch_of(t), <int64_t>seq - 1, recovered)

    def history(self, limit=None):
        """Return the newest messages that `history` and `retain` keep, oldest first: Messages.

        Args:
            limit: at most so many of the newest; None: all of them.

        Raises:
            ValueError: limit is negative.
        """
        cdef fws_topic *t = self._held()
        cdef uint64_t seq = fws_topic_history_from(t), head = fws_topic_snapshot(t).appended
        cdef list found = []
        if limit is not None:
            if limit < 0:
                raise ValueError(f"limit must not be negative: {limit}")
            seq = max(seq, head - min(head, <uint64_t>min(limit, 2**62)))
        while seq < head:
            found.append(_message(fws_topic_message_at(t, seq), seq))
            seq += 1
        return found

    @property
    def retained(self):
        """The Message that `retain` keeps for new subscribers; None: there is none."""
        cdef fws_topic *t = self._held()
        cdef uint64_t head = fws_topic_snapshot(t).appended
        if not fws_topic_facts_of(t).options.retain or head == 0:
            return None
        return _message(fws_topic_message_at(t, head - 1), head - 1)

    def snapshot(self):
        """Return the newest message of each key that `retain` keeps: Messages by key, oldest first.

        The key of messages without one is "". It is what a new subscriber with the policy "latest"
        begins with, for programs that answer a request with it.
        """
        cdef fws_topic *t = self._held()
        cdef dict found = {}
        cdef fws_newest newest
        if not fws_topic_facts_of(t).options.retain:
            return found
        newest = fws_topic_newest_from(t, 0)
        while newest.message.data is not NULL:
            found[newest.key[:newest.key_n].decode()] = _message(newest.message, newest.seq)
            newest = fws_topic_newest_from(t, newest.seq + 1)
        return found

    def configure(self, *, str on_slow=None, max_lag=None, retention_bytes=None, history=None,
                  retain=None, min_rate=None, str content=None):
        """Change options, for the present subscribers too; the topic stays until it is closed.

        Args: as for `Engine.topic`; None leaves an option as it is.
        """
        cdef fws_topic *t = self._held()
        cdef fws_topic_options now = fws_topic_facts_of(t).options
        cdef fws_topic_options wanted = topic_options(
            merged_options(options_by_name(&now), on_slow, max_lag, retention_bytes, history, retain,
                    min_rate, content))
        if fws_topic_set_options(t, &wanted) < 0:
            raise MemoryError()
        self.engine._keep(self)

    def close(self):
        """End all its subscriptions (pending messages count as dropped) and free the name.

        Idempotent. `publish` raises ConnectionClosed from then on.
        """
        if self._t is NULL:
            return
        cdef fws_topic *t = self._held()
        self.engine._kept.pop(self.name, None)
        fws_topic_configure(t, False)
        fws_topic_watch(t, False)
        fws_topic_own(t, NULL)
        fws_topic_close(t)
        self._t = NULL
        fws_topic_unref(t)
        self.engine._done(FWS_OK)
        if self.engine.on_topic_closed is not None:
            self.engine.on_topic_closed(self)

    def account(self):
        """Return the counts of the topic, in messages over all its subscriptions ever.

        published = delivered + conflated + dropped + pending. `acknowledged`: confirmed by the
        peers' kernels as of the last look at each, at most a few seconds ago where there are many
        connections; always 0 for Unix sockets. `appended`: messages in the log's whole life.
        """
        return fws_topic_snapshot(self._held())

    @property
    def options(self):
        """Its options by name, as `Engine.topic` takes them."""
        cdef fws_topic_options options = fws_topic_facts_of(self._held()).options
        return options_by_name(&options)

    @property
    def subscribers(self):
        """How many connections are subscribed now."""
        return fws_topic_snapshot(self._held()).subscribers

    @property
    def delivered(self):
        """Whole messages handed to the kernel, over all subscriptions ever."""
        return fws_topic_snapshot(self._held()).delivered

    @property
    def appended(self):
        """Messages published in the topic's whole life."""
        return fws_topic_snapshot(self._held()).appended

    @property
    def on_first_subscriber(self):
        return self._on_first

    @on_first_subscriber.setter
    def on_first_subscriber(self, callback):
        self._on_first = callback
        self._watch()

    @property
    def on_last_subscriber(self):
        return self._on_last

    @on_last_subscriber.setter
    def on_last_subscriber(self, callback):
        self._on_last = callback
        self._watch()

    cdef int _watch(self) except -1:
        cdef fws_topic *t = self._held()
        fws_topic_watch(t, self._on_first is not None or self._on_last is not None)
        self.engine._keep(self)
        return 0


cdef object _set_key(fws_command *command, key):
    """The key of a message that is published; what is returned holds its bytes."""
    command.key_n = 0
    command.key = NULL
    if key is None:
        return None
    if not isinstance(key, str):
        raise TypeError(f"a key must be a str, not {type(key).__name__}")
    cdef Py_ssize_t n = 0
    command.key = <const uint8_t *>PyUnicode_AsUTF8AndSize(key, &n)
    if not 1 <= n <= <Py_ssize_t>FWS_KEY_MAX:
        raise ValueError(f"a key has 1 to {FWS_KEY_MAX} bytes of UTF-8, not {n}")
    command.key_n = <uint16_t>n
    return key


cdef object _set_keys(fws_command *command, keys):
    """The keys of a subscription, each behind its length; what is returned holds the bytes."""
    command.key_n = 0
    command.key = NULL
    if keys is None:
        return None
    if isinstance(keys, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"keys must be an iterable of str, such as [{keys!r}]")
    cdef bytearray names = bytearray()
    cdef list found = list(dict.fromkeys(keys))
    if not 1 <= len(found) <= FWS_FILTER_MOST:
        raise ValueError(f"keys must be 1 to {FWS_FILTER_MOST}, not {len(found)}; None: all messages")
    for key in found:
        if not isinstance(key, str):
            raise TypeError(f"a key must be a str, not {type(key).__name__}")
        name = key.encode()
        if len(name) > FWS_KEY_MAX:
            raise ValueError(f"a key has at most {FWS_KEY_MAX} bytes of UTF-8, not {len(name)}")
        names.append(len(name))
        names += name
    held = bytes(names)
    command.key = <const uint8_t *>PyBytes_AS_STRING(held)
    command.key_n = <uint16_t>len(held)
    return held


cdef str _epoch_of(const fws_topic *t):
    """How positions name its epoch."""
    return f"{fws_topic_facts_of(t).epoch:x}"


cdef (uint64_t, uint64_t) _since(const fws_topic *t, since) except *:
    """The epoch and next sequence number of a position, as the core takes them."""
    cdef uint64_t epoch = fws_topic_facts_of(t).epoch
    named, seq = since
    if not isinstance(named, str) or not isinstance(seq, int) or isinstance(seq, bool):
        raise TypeError(f"since is a pair of str and int, not {since!r}")
    # Positions come from clients: what no server ever gave out is as good as one that is gone.
    if named != _epoch_of(t) or not -1 <= seq < 2**63:
        return epoch + 1, 0
    return epoch, <uint64_t>(seq + 1)


cdef uint16_t _batch(batch) except 0:
    if not isinstance(batch, int) or isinstance(batch, bool) or not 1 <= batch <= FWS_BATCH_MOST:
        raise ValueError(f"batch must be 1 to {FWS_BATCH_MOST} messages, not {batch!r}")
    return batch


cdef object _message(fws_topic_message found, uint64_t seq):
    """The Message of the log; None: it is not there any more, the budget has taken it."""
    if found.data is NULL:
        return None
    data = found.data[:found.n]
    return Message(seq, data.decode(errors="replace") if found.opcode == FWS_TEXT else data)


@cython.final
cdef class Subscription:
    """What one connection gets of one topic. Made by `Connection.subscribe`.

    `connection` and `topic` are facts. It ends with `unsubscribe()`, the connection or the topic;
    it need not be kept: without a reference to it the subscription goes on.
    """

    cdef readonly Connection connection
    cdef readonly Topic topic
    cdef int64_t _id  # the core's number; -1: not known yet
    cdef object __weakref__

    def __init__(self):
        raise TypeError("a Subscription is made by Connection.subscribe(topic)")

    def __repr__(self):
        topic = "" if self.topic._t is NULL else f"{self.topic._short_name()!r} "
        about = f"<fastws.Subscription {topic}of {self.connection._label()}"
        if self.connection.engine.foreign or self.connection.engine.inherited:
            return f"{about}>"  # whether it has ended is for the driving thread to know
        return f"{about} {'ended' if self._find() is NULL else self.on_slow}>"

    cdef const fws_sub *_find(self) except? NULL:
        """The fws_sub; NULL when it has ended."""
        cdef const fws_sub *sub
        if self.connection._c is NULL or self.topic._t is NULL:
            return NULL
        self.connection.engine._check()
        sub = fws_conn_find_sub(self.connection._c, self.topic._t)
        if sub is NULL:
            return NULL
        if self._id < 0:  # it was staged by another thread
            self._id = fws_sub_facts_of(sub).id
        return sub if self._id == fws_sub_facts_of(sub).id else NULL

    cdef const fws_sub *_held(self) except NULL:
        cdef const fws_sub *sub = self._find()
        if sub is NULL:
            raise ConnectionClosed(1006, "the subscription has ended")
        return sub

    @property
    def active(self):
        """Whether it has not ended."""
        return self._find() is not NULL

    @property
    def on_slow(self):
        """Its policy: its own one, else the topic's."""
        cdef fws_topic_options options = fws_sub_facts_of(self._held()).options
        return _named(_ON_SLOW, options.on_slow)

    @property
    def max_lag(self):
        """Its limits, a Lag: its own ones, else the topic's."""
        cdef fws_topic_options options = fws_sub_facts_of(self._held()).options
        return options_by_name(&options)["max_lag"]

    @property
    def envelope(self):
        """Whether its messages stand in an envelope."""
        return fws_sub_facts_of(self._held()).envelope

    @property
    def batch(self):
        """How many messages one WebSocket message may hold; None: they are not batched."""
        return fws_sub_facts_of(self._held()).batch or None

    @property
    def keys(self):
        """The keys whose messages it gets, a tuple; None: it gets all messages."""
        cdef const fws_sub *sub = self._held()
        cdef list found = []
        cdef fws_key_name name = fws_sub_key_name(sub, 0)
        while name.data is not NULL:
            found.append(name.data[:name.n].decode())
            name = fws_sub_key_name(sub, <uint32_t>len(found))
        return tuple(found) if found else None

    @property
    def max_rate(self):
        """How often it is sent to at most, per second; None: whenever there is news."""
        cdef uint64_t gap_ns = fws_sub_facts_of(self._held()).gap_ns
        return None if gap_ns == 0 else round(1e9 / gap_ns, 3)

    @property
    def epoch(self):
        """The epoch of its topic: the first half of a position."""
        return self.topic.epoch

    @property
    def seq(self):
        """The number of the last message before the one that it gets next; -1: it gets the first.

        With `epoch` it is a position: what comes after it is what `subscribe(since=…)` replays.
        Messages up to it were handed to the kernel, or passed over; `acknowledged` says what the
        peer's kernel has.
        """
        return <int64_t>fws_sub_facts_of(self._held()).seq - 1

    @property
    def recovered(self):
        """Whether it has begun where `since` asked for; None: nothing was asked for."""
        cdef uint8_t began = fws_sub_facts_of(self._held()).began
        return None if began == FWS_BEGAN_NOW else began == FWS_BEGAN_SINCE

    def unsubscribe(self):
        """End it: pending messages count as dropped. Idempotent, from any thread."""
        if self.connection._c is NULL or self.topic._t is NULL:
            return
        if fws_engine_foreign(self.connection.engine._e):
            key = (self.connection.id, <size_t>self.topic._t)
            if self.connection.engine._subscriptions.get(key) is not self:
                return  # it has ended, and another one has begun
        elif self._find() is NULL:
            return
        self.connection.unsubscribe(self.topic)

    def account(self):
        """Return its counts, and its lag: see `Connection.account`.

        Raises:
            ConnectionClosed: it has ended.
        """
        cdef const fws_sub *sub = self._held()
        cdef fws_engine *e = self.connection.engine._e
        fws_conn_acknowledge(e, self.connection._c)
        return of_reader(fws_sub_snapshot(sub, fws_engine_now(e)),
                         fws_conn_facts_of(self.connection._c).acknowledges)


@cython.final
cdef class Wildcard:
    """All topics whose names begin so, for one connection; see `Connection.subscribe_pattern`.

    `connection` and `pattern` are facts. It ends with `unsubscribe()` or the connection; it need
    not be kept. A topic that only wildcards subscribe to, and that holds nothing they have not had,
    is freed; they have it again when its name is used again.
    """

    cdef readonly Connection connection
    cdef readonly str pattern
    cdef object __weakref__

    def __init__(self):
        raise TypeError('a Wildcard is made by Connection.subscribe_pattern("prefix*")')

    def __repr__(self):
        return f"<fastws.Wildcard {self.pattern!r} of {self.connection._label()}>"

    @property
    def active(self):
        """Whether it has not ended."""
        if self.connection._c is NULL or self.connection._wildcards.get(self.pattern) is not self:
            return False
        self.connection.engine._check()
        prefix = _prefix_of(self.pattern)
        return fws_conn_has_wild(self.connection._c, prefix, len(prefix))

    @property
    def topics(self):
        """The names of the topics that the connection has by it now, in a list.

        Without those to which it is subscribed by name.
        """
        cdef fws_topic *t
        cdef fws_topic_facts facts
        cdef uint32_t place = 0
        if not self.active:
            return []
        prefix = _prefix_of(self.pattern)
        found = []
        t = fws_conn_next_wild(self.connection._c, prefix, len(prefix), &place)
        while t is not NULL:
            facts = fws_topic_facts_of(t)
            found.append(facts.name[:facts.name_n].decode())
            t = fws_conn_next_wild(self.connection._c, prefix, len(prefix), &place)
        return found

    def unsubscribe(self):
        """End it: pending messages count as dropped. Idempotent, from any thread.

        What another wildcard of the connection matches goes on.
        """
        cdef fws_command command
        if self.connection._c is NULL or self.connection._wildcards.get(self.pattern) is not self:
            return
        prefix = _prefix_of(self.pattern)
        command.data, command.n = <const uint8_t *>PyBytes_AS_STRING(prefix), len(prefix)
        self.connection._command(&command, FWS_CMD_UNSUBSCRIBE_ALL)
        self.connection._wildcards.pop(self.pattern, None)


cdef bytes _prefix_of(str pattern):
    """What names begin with; ValueError: that is no pattern."""
    start = pattern.removesuffix("*")
    prefix = start.encode()
    if "*" in start or start == pattern:
        raise ValueError(f"a pattern is the beginning of names and one *, not {pattern!r}")
    if len(prefix) > <Py_ssize_t>FWS_WILD_PREFIX:
        raise ValueError(f"a pattern has at most {FWS_WILD_PREFIX} bytes and a *, not {len(prefix)}")
    return prefix


cdef fws_wild_options _wild_options(on_slow, max_lag) except *:
    """The options of a wildcard, each of them NULL where the topics' own are to count."""
    cdef fws_wild_options found
    cdef fws_topic_options checked
    memset(&found, 0, sizeof(found))
    given = merged_options(_DEFAULTS, on_slow, max_lag)
    if max_lag is not None and isinstance(max_lag, Lag) and max_lag.bytes is not None:
        given["retention_bytes"] = max(given["retention_bytes"], max_lag.bytes)
    checked = topic_options(given)
    found.has_policy, found.on_slow = on_slow is not None, checked.on_slow
    found.has_lag = max_lag is not None
    if found.has_lag:
        found.max_lag_bytes = 0 if max_lag.bytes is None else checked.max_lag_bytes
        found.max_lag_messages, found.max_lag_ns = checked.max_lag_messages, checked.max_lag_ns
    return found


cdef object of_close(const fws_close *frame):
    """A Close frame; None: there was none."""
    if frame.code == 0:
        return None
    return Close(frame.code, frame.reason[:frame.n].decode("utf-8", "replace"))


def closed_error(Connection connection not None):
    """Return the exception for what is asked of a connection that has ended, or is ending."""
    cdef int code = connection._close_code
    reason = connection.reason
    if reason is None and connection._c is not NULL:
        code = fws_conn_facts_of(connection._c).close_code
    return connection_closed(code or 1006, reason or "", connection.close_received,
                             connection.close_sent, ended=reason is not None)


cdef object of_closes(fws_closes closes):
    """(Close received, Close sent, whether the peer's came first); None: there was neither."""
    if closes.received.code == 0 and closes.sent.code == 0:
        return None
    return of_close(&closes.received), of_close(&closes.sent), closes.peer_first


@cython.final
cdef class Connection:
    """One peer, from its first complete HTTP head to its end. Made by the engine.

    `context` is for the owner, None at first. `engine` and `id` are facts. `close_code` and
    `reason` are None until the connection has ended, and then those of the peer's Close, else of
    ours, else 1006 and "". `close_received`, `close_sent` and `closed_by_peer` tell the two
    Close frames apart; they may be read before and after the end.
    A peer that does not answer the engine's pings is sent Close 1011 ("ping timeout") if that can
    leave at once, and cut off: 1006.
    """

    cdef fws_conn *_c  # NULL once reaped
    cdef readonly Engine engine
    cdef uint64_t _id
    cdef public object context
    cdef public object session  # what the owner keeps of it
    cdef public object on_message  # called instead of the engine's
    cdef public bint crowded  # somebody waits to send: see `send`
    cdef dict _wildcards  # by pattern; None: it has had none
    cdef int _close_code  # 0: it has not ended
    cdef readonly str reason
    cdef object _remote  # its remote_address once it has ended
    cdef object _closes  # what of_closes says, once it has ended
    cdef object __weakref__

    def __init__(self):
        raise TypeError("a Connection is made by the engine, which hands it to the handlers")

    @property
    def id(self):
        """A number that no other connection of its engine ever has."""
        return self._id

    def __repr__(self):
        return f"<fastws.Connection {self._label()} {self._state()}>"

    cdef str _label(self):
        """Its slot, with a number when it is not the first one there, and its peer's address."""
        generation, slot = divmod(self._id, 1 << 32)
        label = str(slot) if generation == 1 else f"{slot}.{generation}"
        address = self.remote_address
        return f"{label} {host_and_port(address)}" if address[0] else label

    cdef str _state(self):
        cdef fws_conn_facts facts
        if self._c is not NULL:
            facts = fws_conn_facts_of(self._c)
            if facts.state == FWS_DEAD:
                return f"closed {facts.close_code}"
            if facts.state == FWS_OPEN:
                return "open"
            return "http" if facts.state < FWS_OPEN else "closing"
        return f"closed {self._close_code} {self.reason!r}" if self.reason else (
            f"closed {self._close_code}")

    cdef fws_conn *_held(self) except NULL:
        """The fws_conn, for the thread that drives the engine."""
        if self._c is NULL:
            raise closed_error(self)
        self.engine._check()
        return self._c

    cdef int _command(self, fws_command *command, int kind) except -1:
        """Give the engine a command about this connection; any thread may."""
        if self._c is NULL:
            raise closed_error(self)
        command.kind = <uint8_t>kind
        command.conn = self._id
        return self.engine._command(command, self)

    def send_nowait(self, data):
        """Send one message to this peer alone.

        str leaves as TEXT; bytes, bytearray and memoryview as BINARY; a Frame as it says.

        Its order among the messages published before and after is kept. Safe from any thread; from
        one that does not drive the engine a failure is counted (`staged_refused`), not raised.

        Raises:
            ConnectionClosed: the connection is not open.
            LogFull: more than `outbox_limit` bytes are waiting for this peer already, or
                `max_buffered_bytes` for all.
            TypeError, ValueError: as `Topic.publish`.
        """
        self._send(data)

    cdef int _send(self, data) except -1:
        cdef fws_command command
        held = payload_of(data, &command.data, &command.n, &command.opcode)
        return self._command(&command, FWS_CMD_SEND)

    def send(self, data):
        """Send one message to this peer alone, as `send_nowait` does; to be awaited, in a task too.

        At or below the high mark (`high_mark` bytes waiting for this peer) it is sent at the
        call, and the awaitable is done. Above it, it is sent when it is awaited and there is room
        again, first come, first served; cancelled while it waits, it is not sent.

        Raises:
            ConnectionClosed: the connection is not open, or ends while this waits.
            LogFull: `max_buffered_bytes` are waiting for all peers.
            TypeError: not a message.
        """
        waits = self.engine.waits
        if waits is not None and (self.crowded or (
                self._c is not NULL and fws_conn_full(self.engine._e, self._c))):
            return waits.send(self, data)
        self._send(data)
        return DONE

    def drain(self):
        """Return an awaitable that is done when little (a quarter of the high mark) is waiting.

        Raises:
            ConnectionClosed: the connection is not open, or ends meanwhile.
        """
        return self._waits().drain(self)

    def recv(self):
        """Return an awaitable that gives the next message: str for TEXT, bytes for BINARY.

        Only for coroutine handlers and clients. Cancelled, it loses no message; a second one at
        the same time is a RuntimeError.

        Raises:
            ConnectionClosed: the connection has ended, and no message is left.
        """
        return self._inbox().receive

    def __aiter__(self):
        """Return an iterator over the messages; it ends at a close with 1000, 1001 or no code.

        Raises:
            ConnectionClosedError: the connection has ended otherwise.
        """
        return self._inbox().receive.__aiter__()

    cdef object _inbox(self):
        if self.session is None or self.session.inbox is None:
            raise RuntimeError("the messages of this connection go to App.message")
        return self.session.inbox

    cdef object _waits(self):
        return self.engine._waits()

    def ping(self, bytes data=None):
        """Send a Ping; the awaitable gives the seconds until its Pong (RFC 6455 5.5.2, 5.5.3).

        Args:
            data: at most 125 bytes; None: random ones.

        Raises:
            ConnectionClosed: the connection is not open, or ends meanwhile.
            ValueError: data is too long, or a ping with it waits already.
        """
        return self._waits().ping(self, data)

    def wait_closed(self):
        """Return an awaitable that is done when the connection has ended."""
        return self._waits().ended(self)

    def send_ping(self, bytes payload not None):
        """Send a Ping (RFC 6455 5.5.2) ahead of what waits, beside those of the engine.

        `Engine.on_pong` is called with each Pong until this payload has come back. A peer may
        answer the latest of several only (5.5.3), so its payload answers those before it, too; let
        each ping have another one. Safe from any thread; from one that does not drive the engine a
        failure is counted (`staged_refused`), not raised, except for bad arguments.

        Args:
            payload: at most 125 bytes.

        Raises:
            ValueError: the payload is longer.
            ConnectionClosed: the connection is not open.
            LogFull: as `send_nowait`.
        """
        cdef fws_command command
        if len(payload) > FWS_CONTROL_MAX:
            raise ValueError(f"the payload of a ping has at most {FWS_CONTROL_MAX} bytes, "
                             f"not {len(payload)}")
        payload_of(payload, &command.data, &command.n, &command.opcode)
        self._command(&command, FWS_CMD_PING)

    def close(self, code=1000, str reason not None=""):
        """Begin the closing handshake (RFC 6455 7.1.2) after what was sent and published so far.

        The awaitable is done when the connection has ended; it need not be awaited. Where either
        side has begun to close, or the connection has ended, nothing more is sent.

        Safe from any thread; from one that does not drive the engine a failure is counted
        (`staged_refused`), not raised, except for bad arguments.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999; 1005: a Close without code and reason.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code must not be sent, or the reason is too long.
            ConnectionClosed: the connection is not a WebSocket.
            LogFull: called from another thread, and 4 MiB are staged.
        """
        cdef fws_command command
        check_close(code, reason)
        if self._c is NULL:
            return DONE
        payload_of(reason, &command.data, &command.n, &command.opcode)
        command.code = code
        try:
            self._command(&command, FWS_CMD_CLOSE)
        except ConnectionClosed:
            if self.engine.is_http(self):
                raise
        return DONE if self.engine.waits is None else self.engine.waits.closing(self)

    def abort(self):
        """End the connection now, without a Close; idempotent."""
        if self._c is not NULL:
            fws_conn_kill(self.engine._e, self._held(), 1006)
            self.engine._done(FWS_OK)

    def subscribe(self, topic not None, *, since=None, str on_slow=None, max_lag=None,
                  keys=None, max_rate=None, on_gap=None, bint envelope=False, batch=None):
        """Receive what is published to the topic from now on. Safe from any thread.

        Idempotent: the same Subscription; its options are those of the last call. Where the topic
        retains its newest message, that comes first.

        Args:
            topic: a Topic; on the thread that drives the engine also the name of one. A `*` in it
                stands for nothing else: `subscribe_pattern` subscribes to many.
            since: the position of the last message that the client has, `(epoch, seq)` of an
                earlier Subscription, from this server or one that has ended. What came after it is
                sent first, in order, then what is published: nothing twice, nothing left out.
                Where that is not possible (the history is too short, the topic is another one) the
                subscription begins as without it; `Subscription.recovered` says which. Messages
                that were excluded for this client come again. Seq -1 is before the first message.
            on_slow, max_lag: of this subscription, as for `Engine.topic`; None: the topic's. What
                is replayed counts as no lag, but on a lossless topic, whose publisher waits for it.
            envelope: each message comes with its number, and its key: `{"seq":41,"data":…}`; a
                BINARY one behind its number, 8 bytes, little endian. First comes where it begins,
                `{"epoch":"…","seq":40}`, with `"recovered"` where there is a since; messages that it
                loses are told where they would be: `{"gap":[42,99],"reason":"slow"}`.
            batch: 1 to 1,024: up to so many waiting messages as one, a JSON array, or, BINARY ones,
                each behind its size, 4 bytes, little endian; never compressed. None: each alone.
            keys: 1 to 64 keys, as for `Topic.publish`: it gets the messages with these keys only, and
                "" stands for those without a key. The others are not published to it: they count
                neither in its account nor as messages of its lag, do not wake its client, and are
                not replayed. A key need not have been published yet. None: all messages.
            max_rate: how often it is sent to at most, per second, 0.1 to 1000; None: whenever there
                is news. Each time it gets what there is; with the policy "latest" only the newest
                message of each key (those without a key have one together), and what is left out
                counts as conflated. What was published last is sent in any case, a gap later at
                most, but not when the subscription ends before. Messages that wait for their time
                come behind newer ones of other topics. Not for a lossless subscription.
            on_gap: `on_gap(subscription, gap)`, a plain function, is called with a Gap when messages
                are lost to this subscription: its policy passed over them, or the topic had let them
                go. It is called at the end of the turn, once for all that were lost in it; not for
                what is lost when the subscription ends. None: nobody is told.

        Raises:
            ConnectionClosed: the connection is not an open WebSocket, or the topic is closed.
            SubscriptionLimit: it has `max_subscriptions` already.
            ValueError: an option is out of range, max_lag exceeds what the topic retains, since is
                no pair, or there is such a subscription already: with since, or with other keys,
                or another envelope or batch, `unsubscribe` first.
            LogFull: too much waits for the connection to take the first message of an envelope.
            TypeError: since is not a pair of str and int; a key is no str; on_gap cannot be called,
                or is async.
        """
        cdef fws_topic_options options
        cdef fws_command command
        _check_callback("on_gap", on_gap)
        names = _set_keys(&command, keys)
        cdef Topic wanted = topic if isinstance(topic, Topic) else self.engine.topic(topic)
        command.n = 0
        command.data = NULL
        if wanted._t is NULL:
            raise ConnectionClosed(1006, "the topic is closed")
        if on_slow is not None or max_lag is not None:
            options = fws_topic_facts_of(wanted._t).options
            options = topic_options(merged_options(options_by_name(&options), on_slow, max_lag))
            command.n = sizeof(fws_topic_options)
            command.data = <const uint8_t *>&options
        command.gap_ns = _gap(max_rate)
        if max_rate is not None and self._policy(wanted, on_slow) == "lossless":
            raise ValueError(_RATE_OR_LOSSLESS)
        self._check_keys(&command, wanted)
        command.since = since is not None
        if since is not None:
            self._begin_since(&command, wanted, since)
        command.envelope = envelope
        command.batch = 0 if batch is None else _batch(batch)
        self._check_encoding(&command, wanted)
        self.engine._begin_losses(&command, on_gap)
        try:
            self._membership(FWS_CMD_SUBSCRIBE, wanted, &command)
        except BaseException:
            self.engine._end_losses(&command)
            raise
        return self._subscription(wanted)

    cdef str _policy(self, Topic topic, str on_slow):
        cdef fws_topic_options options
        if on_slow is not None:
            return on_slow
        options = fws_topic_facts_of(topic._t).options
        return _named(_ON_SLOW, options.on_slow)

    def subscribe_pattern(self, str pattern not None, *, str on_slow=None, max_lag=None, keys=None,
                          max_rate=None, on_gap=None):
        """Receive what is published to all topics whose names begin so. Safe from any thread.

        Those that are made later are among them. Idempotent: the same Wildcard; its options are
        those of the last call. A pattern that clients choose gives them every topic it matches.

        Args:
            pattern: the beginning of names, at most 255 bytes, and a `*`: "prices.*".
            on_slow, max_lag, keys, max_rate, on_gap: of the subscription to each topic, see
                `subscribe`; None: the topic's. A topic that is lossless itself has no rate.

        Raises:
            ConnectionClosed: the connection is not an open WebSocket.
            SubscriptionLimit: it has 64 wildcards already.
            ValueError: that is no pattern, or an option is out of range.
            TypeError: a key is no str; on_gap cannot be called, or is async.
        """
        cdef fws_command command
        cdef fws_wild_options own = _wild_options(on_slow, max_lag)
        _check_callback("on_gap", on_gap)
        if max_rate is not None and on_slow == "lossless":
            raise ValueError(_RATE_OR_LOSSLESS)
        names = _set_keys(&command, keys)  # holds the bytes that the command points at
        prefix = _prefix_of(pattern)
        own.prefix_n = <uint8_t>len(prefix)
        memcpy(own.prefix, PyBytes_AS_STRING(prefix), len(prefix))
        command.gap_ns = _gap(max_rate)
        command.data, command.n = <const uint8_t *>&own, sizeof(fws_wild_options)
        self.engine._begin_losses(&command, on_gap)
        try:
            self._command(&command, FWS_CMD_SUBSCRIBE_ALL)
        except BaseException as error:
            self.engine._end_losses(&command)
            if isinstance(error, SubscriptionLimit):
                raise SubscriptionLimit(
                    f"the connection has {FWS_WILD_MOST} wildcards already") from None
            raise
        return self._wildcard(pattern)

    cdef Wildcard _wildcard(self, str pattern):
        cdef Wildcard wildcard
        if self._wildcards is None:
            self._wildcards = {}
        wildcard = self._wildcards.get(pattern)
        if wildcard is None:
            wildcard = self._wildcards[pattern] = Wildcard.__new__(Wildcard)
            wildcard.connection, wildcard.pattern = self, pattern
        return wildcard

    cdef const fws_sub *_present(self, Topic topic) noexcept:
        """Its subscription to the topic; NULL: none, or not for this thread to know."""
        if (topic.engine is not self.engine or self._c is NULL
                or fws_engine_foreign(self.engine._e)):
            return NULL
        return fws_conn_find_sub(self._c, topic._t)

    cdef int _check_keys(self, const fws_command *command, Topic topic) except -1:
        cdef const fws_sub *sub = self._present(topic)
        if (sub is not NULL and not fws_sub_facts_of(sub).wild
                and not fws_sub_has_keys(sub, command.key, command.key_n)):
            raise ValueError("keys are for a subscription that begins, and this one has others: "
                             "unsubscribe first")
        return 0

    cdef int _begin_since(self, fws_command *command, Topic topic, since) except -1:
        command.epoch, command.seq = _since(topic._t, since)
        cdef const fws_sub *sub = self._present(topic)
        if sub is not NULL and not fws_sub_facts_of(sub).wild:
            raise ValueError("since is for a subscription that begins, and this one has begun")
        return 0

    cdef int _check_encoding(self, const fws_command *command, Topic topic) except -1:
        cdef const fws_sub *sub = self._present(topic)
        if sub is not NULL and not fws_sub_encodes(sub, command.envelope, command.batch):
            raise ValueError("envelope and batch are for a subscription that begins, and this one "
                             "has begun")
        return 0

    def unsubscribe(self, Topic topic not None):
        """End the subscription: pending messages count as dropped. Idempotent, from any thread."""
        cdef fws_command command
        command.n = 0
        self._membership(FWS_CMD_UNSUBSCRIBE, topic, &command)

    cdef int _membership(self, int kind, Topic topic, fws_command *command) except -1:
        if topic.engine is not self.engine:
            raise ValueError("the topic belongs to another engine")
        if topic._t is NULL:
            raise ConnectionClosed(1006, "the topic is closed")
        command.topic = topic._t
        return self._command(command, kind)

    cdef object _subscription(self, Topic topic):
        cdef Subscription subscription = None
        cdef const fws_sub *sub = self._present(topic)
        key = (self.id, <size_t>topic._t)
        subscription = self.engine._subscriptions.get(key)
        if subscription is not None and subscription.topic is topic:
            if sub is NULL:
                subscription._id = -1  # the staged command may begin it anew
            if subscription._id < 0 or subscription._id == fws_sub_facts_of(sub).id:
                return subscription
        subscription = Subscription.__new__(Subscription)
        subscription.connection = self
        subscription.topic = topic
        subscription._id = -1 if sub is NULL else <int64_t>fws_sub_facts_of(sub).id
        self.engine._subscriptions[key] = subscription
        return subscription

    def pause_reading(self, *, uint16_t after=0):
        """Stop reading; the peer's sends fill the kernel's buffers, then block.

        Closing the connection ends the pause. A peer that goes meanwhile, or says Close, ends the
        connection: at once when it is reset, else within 2.5 s, and what it sent is lost.

        Args:
            after: messages (0 to 65,534) that are still delivered first; when they have been,
                `handler_queue_full` is counted.
        """
        fws_conn_credit(self.engine._e, self._held(), after)
        self.engine._done(FWS_OK)

    def resume_reading(self):
        """Read again after `pause_reading`."""
        fws_conn_credit(self.engine._e, self._held(), FWS_ANY_MESSAGES)
        self.engine._done(FWS_OK)

    @property
    def close_code(self):
        """The code of the peer's Close, else of ours, else 1006; None: it has not ended."""
        return self._close_code or None

    @property
    def remote_address(self):
        """(host, port) of the peer, also when it has ended; ("", 0) for a Unix socket."""
        cdef char host[46]
        cdef uint16_t port
        if self._c is NULL:
            return self._remote or ("", 0)
        port = fws_conn_remote(self._c, host, sizeof(host))
        return ((<bytes>host).decode("ascii"), port)

    @property
    def request(self):
        """The Request that opened it.

        Raises:
            AttributeError: it is not kept, as for a connection that goes to the methods of an App:
                these get it.
        """
        if self.session is None or self.session.request is None:
            raise AttributeError("the request of this connection is not kept: App.opened gets it")
        return self.session.request

    @property
    def subprotocol(self):
        """The subprotocol that was agreed on, or None."""
        return None if self.session is None else self.session.subprotocol

    @property
    def position(self):
        """Of a client: `(epoch, seq)` of the last message of a plain topic that it has received.

        With `?since=epoch:seq` another connection goes on behind it. What waits to be received does
        not count. None: the server has not said how that is known (docs/protocol.md 4).
        """
        return getattr(self.session, "position", None)

    @property
    def recovered(self):
        """Of a client that has asked for a position: whether nothing was missed since.

        None: it has not asked, or the server does not say.
        """
        place = getattr(self.session, "place", None)
        return None if place is None else place.recovered

    @property
    def is_open(self):
        """Whether it is a WebSocket and neither side has begun to close."""
        return self._c is not NULL and fws_conn_facts_of(self._c).state == FWS_OPEN

    @property
    def close_received(self):
        """The Close frame of the peer, a `Close(code, reason)`; None: it has sent none yet."""
        closes = self._close_frames()
        return closes and closes[0]

    @property
    def close_sent(self):
        """The Close frame that has left for the peer, a `Close(code, reason)`; None: none has yet."""
        closes = self._close_frames()
        return closes and closes[1]

    @property
    def closed_by_peer(self):
        """Whether the peer's Close came before ours was queued; None: neither side has sent one."""
        closes = self._close_frames()
        return closes and closes[2]

    cdef object _close_frames(self):
        return self._closes if self._c is NULL else of_closes(fws_conn_closes(self._c))

    @property
    def buffered_amount(self):
        """Bytes of direct sends that are waiting in user space."""
        return fws_conn_facts_of(self._c).buffered if self._c is not NULL else 0

    @property
    def is_full(self):
        """Whether more than `high_mark` bytes of direct sends wait, by the measure of `outbox_limit`.

        `send_nowait` takes more all the same; `send` waits. `notify_room` tells when there is room.
        """
        return self._c is not NULL and fws_conn_full(self.engine._e, self._c)

    def notify_room(self):
        """Ask for one call of `Engine.on_room` with this connection, in a turn.

        It is called when what waits has fallen to a quarter of `high_mark`; in the next turn if
        no more waits already. To ask again before the call changes nothing. When the connection
        ends first, only `on_close` is called.

        Raises:
            ConnectionClosed: the connection has ended.
            RuntimeError: another thread drives the engine.
        """
        fws_conn_want_room(self.engine._e, self._held())
        self.engine._done(FWS_OK)

    def account(self):
        """Return the counts over all its subscriptions ever, and its lag.

        published = delivered + conflated + dropped + pending, in messages. `acknowledged` is
        None on Unix sockets. `lag_bytes`: size of the pending messages. `lag_seconds`: upper bound
        of the age of the oldest one (times are known by the slab of the log); 0 without one.

        Raises:
            ConnectionClosed: the connection has ended.
        """
        cdef fws_conn *c = self._held()
        fws_engine_wake(self.engine._e)
        return self.engine._account_of(c)


cdef bint send_shared(Connection connection, fws_shared *message) except -1:
    """Whether an open connection refused it; one that is not open is passed over."""
    cdef fws_command command
    cdef fws_engine *e = connection.engine._e
    cdef int status
    if connection._c is NULL:
        return False
    if fws_engine_inherited(e):
        raise RuntimeError(_INHERITED)
    if fws_engine_foreign(e):
        command.kind, command.opcode = FWS_CMD_SEND, message.opcode
        command.conn, command.data, command.n = connection._id, message.data, message.n
        status = fws_engine_command(e, &command)
    else:
        status = fws_engine_send_shared(e, connection._c, message)
        connection.engine._schedule_flush()
    if status < 0 and status != FWS_E_FULL and status != FWS_E_CLOSED:
        raise _error(status)
    return status == FWS_E_FULL


def broadcast(connections not None, message, *, bint text=False):
    """Send one message directly to many connections; it is encoded and compressed once.

    Those that are not open are skipped. Those for which `send_nowait` would raise LogFull do not
    get it, and are returned. For an audience that stays, a Topic costs less: there a slow client
    costs no memory of its own. Safe from any thread. From one that does not drive the engine each
    message is staged: returned are those that the full staging refused; a full connection is
    counted (`staged_refused`).

    Args:
        connections: an iterable of Connections, of one engine or several.
        message, text: as `data` and `text` of `Topic.publish`.

    Returns:
        The connections that were full, in their order: a list, empty as a rule.

    Raises:
        TypeError, ValueError: as `Topic.publish`; or something is no Connection.

    Example:
        for slow in fastws.broadcast(server.connections, "news"):
            slow.close(1013, "too slow")
    """
    cdef fws_shared shared
    refused = []
    memset(&shared, 0, sizeof(shared))
    held = payload_of(message, &shared.data, &shared.n, &shared.opcode)
    if text:
        shared.opcode = FWS_TEXT
    try:
        for connection in connections:
            if send_shared(<Connection?>connection, &shared):
                refused.append(connection)
    finally:
        fws_shared_clear(&shared)
    return refused


cdef uint32_t _networks(object given, fws_network *networks) except? 0:
    """Write the networks down, and return their number."""
    cdef uint32_t n = 0
    cdef const uint8_t *bytes_of
    if len(given) > FWS_EXEMPT_MOST:
        raise ValueError(f"at most {FWS_EXEMPT_MOST} networks can be exempt, not {len(given)}")
    for address, bits in given:
        if len(address) != 16 or not 0 <= bits <= 128:
            raise ValueError(f"no network of 16 bytes and 0 to 128 bits: {address!r}, {bits!r}")
        bytes_of = <bytes>address
        memcpy(networks[n].address, bytes_of, 16)
        networks[n].bits = bits
        n += 1
    return n


@cython.final
cdef class Engine:
    """All peers and their poller. One thread drives it, by `turn`.

    That is the thread of the first `turn`, until it ends; then whichever takes a turn or closes the
    engine is next. Another thread may publish, send, close, subscribe and unsubscribe; everything
    else is a RuntimeError there. In a child of the process (fork) everything is, except `close`:
    it closes the child's descriptors, tells nobody, and leaves the parent's connections alone. A
    turn in which a handler forked ends at once in the child, with what the handler raised.

    The owner sets `on_head(connection, head)`, `on_head_limit(connection, part)`,
    `on_body(connection, body)`, `on_message(connection, message)` and `on_close(connection)`,
    all called inside `turn`. `on_room(connection)` is called there once for each `notify_room()`, when
    there is room again; `on_pong(connection, payload)` for each Pong while a ping of `send_ping` is
    unanswered. `on_error(connection, exception)` is called with what they raise, and
    with a TypeError when `on_message` returns anything but None, which nothing would await. A
    request may be decided on later. When the handshake's deadline passes first,
    `on_undecided(connection)` may still answer (without one, the connection is ended); a peer that
    hangs up meanwhile ends its connection. `schedule()` is called, once until the next turn, when
    something is waiting to be sent outside of a turn. `on_topic_error(topic, exception)` is called
    with what the callbacks of topics raise, `on_topic_closed(topic)` when a topic was closed.
    `on_topic_room(topic)` is called once for each `Topic.notify_room()`, when there is room again.

    Args:
        head_limit: bytes of an HTTP head, 256 to 65,536.
        max_connections: sockets held at once; up to 64 more get an HTTP answer (see
            `over_limit`), the rest are closed when accepted.
        handshake_timeout, keep_alive_timeout, close_timeout, ping_interval, pong_timeout,
            message_timeout, write_timeout: seconds; see `fastws.Limits`.
        max_stall: seconds.
        max_per_address: sockets of one address (IPv6: of one /64); 0: no limit. Up to 64 more get
            an HTTP answer (see `over_address`).
        handshake_rate: HTTP requests of one address a second; more are answered with 429 here. 0:
            no limit, as for the other rates.
        exempt: networks whose addresses the two do not count, at most 16, as (16 bytes, how many
            bits of them count); IPv4 addresses as mapped into IPv6.
        message_rate: messages, pings and pongs of one peer a second; past it it is not read from.
        byte_rate: bytes of its socket a second; the same.
        max_message_size: bytes of a message received, all fragments together.
        max_fragments: frames of one.
        outbox_limit: bytes of memory for direct sends waiting for one connection past which `send_nowait`
            raises LogFull; past a quarter of it the peer is not read from.
        high_mark: bytes of the same past which a connection `is_full`, at most outbox_limit; at a
            quarter of it there is room again (`on_room`). None: 64 KiB, or outbox_limit if less.
        notsent_lowat: bytes that the kernel holds unsent for a peer that does not read
            (TCP_NOTSENT_LOWAT); 0 leaves it to the kernel.
        max_log_bytes: bytes of memory that the logs of all topics may take together, indexes
            included; past it the oldest messages of the topics that hold most go first. 0: no
            limit.
        max_buffered_bytes: bytes of memory that all else may take that waits: direct sends and
            responses, messages and requests that are not whole, what other threads staged. Past
            it `send_nowait` raises LogFull, requests are answered with 503, and the connections that
            hold most are closed (1013) until a quarter is free; the last eighth is for those
            that hold less than 4 KiB, the last sixteenth for those that hold nothing. 0: no limit.
        max_subscriptions: of one connection; past it `subscribe` raises SubscriptionLimit. 0: no
            limit.
    """

    cdef fws_engine *_e  # NULL once closed
    cdef list _connections  # those that the owner has heard of, by slot
    cdef dict _kept  # configured topics, by name
    cdef object _subscriptions  # those that somebody refers to, by connection and topic
    cdef dict _on_gap  # callbacks of subscriptions that want to hear of losses, by number
    cdef uint64_t _gaps_asked  # numbers given out
    cdef readonly object telling  # the callback that is called with a Gap, else None
    cdef dict _patterns  # options of topics that are only named, by the beginning of the name
    cdef Topic _source_topic
    cdef bint _in_turn, _scheduled, _closing
    cdef object _driver  # the Thread of the first turn; None before
    cdef public object on_head, on_head_limit, on_body, on_undecided, on_message, on_close
    cdef public object on_room, on_topic_room, on_pong, on_error, on_topic_error, on_topic_closed
    cdef public object schedule
    cdef uint64_t _published  # since the last turn, by publish_wait: bytes, as it counts them
    cdef public object waits  # what makes the awaitables of connections
    cdef object _interrupt  # what a handler raised to end the program, until the turn's end
    cdef object _ended  # connections whose on_close has not been called yet, in order

    def __cinit__(self, *, uint32_t head_limit=16384, uint32_t max_connections=10000,
                  double handshake_timeout=10.0, double keep_alive_timeout=75.0,
                  double close_timeout=5.0, double max_stall=5.0, double ping_interval=20.0,
                  double pong_timeout=20.0, double message_timeout=60.0,
                  double write_timeout=30.0, uint32_t max_per_address=0,
                  uint64_t handshake_rate=0, exempt=(), uint64_t message_rate=0,
                  uint64_t byte_rate=0,
                  uint64_t max_message_size=MIB, uint32_t max_fragments=16384,
                  uint32_t outbox_limit=MIB, high_mark=None, int notsent_lowat=16384,
                  uint64_t max_log_bytes=256 * MIB, uint64_t max_buffered_bytes=256 * MIB,
                  uint32_t max_subscriptions=0):
        cdef fws_options options
        options.head_limit = min(max(head_limit, 256), 65536)
        options.max_connections = max_connections
        options.handshake_ns = _ns(handshake_timeout)
        options.keep_alive_ns = _ns(keep_alive_timeout)
        options.close_ns = _ns(close_timeout)
        options.max_stall_ns = _ns(max_stall)
        options.max_per_address = max_per_address
        options.handshake_rate = min(handshake_rate, FWS_RATE_MOST)
        options.message_rate = min(message_rate, FWS_RATE_MOST)
        options.byte_rate = min(byte_rate, FWS_RATE_MOST)
        options.n_exempt = _networks(exempt, options.exempt)
        options.ping_ns = _ns(ping_interval)
        options.pong_ns = _ns(pong_timeout)
        options.message_ns = _ns(message_timeout)
        options.write_ns = _ns(write_timeout)
        options.outbox_limit = outbox_limit
        options.high_mark = min(65536, outbox_limit) if high_mark is None else high_mark
        if options.high_mark > outbox_limit:
            raise ValueError(f"high_mark must not exceed outbox_limit, {outbox_limit}, "
                             f"not {high_mark}")
        options.notsent_lowat = notsent_lowat
        options.max_log_bytes = max_log_bytes
        options.max_buffered_bytes = max_buffered_bytes
        options.max_subscriptions = max_subscriptions
        options.limits.max_message_size = max_message_size
        options.limits.max_fragments = max_fragments
        self._e = fws_engine_new(&options, &fws_sys_linux)
        if self._e is NULL:
            raise _error(FWS_E_SYSTEM)
        self._connections = []
        self._kept = {}
        self._subscriptions = WeakValueDictionary()
        self._on_gap = {}
        self._patterns = {}
        self._ended = deque()

    def __dealloc__(self):
        if self._e is not NULL:
            fws_engine_free(self._e)
            self._e = NULL

    cdef object _waits(self):
        if self.waits is None:
            raise RuntimeError("nothing can be awaited of an engine without a server or client")
        return self.waits

    cdef int _check(self) except -1:
        """Only publish, send, close, subscribe and unsubscribe may come from other threads."""
        if self._e is NULL:
            raise RuntimeError("the engine is closed")
        if fws_engine_inherited(self._e):
            raise RuntimeError(_INHERITED)
        if fws_engine_foreign(self._e) and self._driver.is_alive():
            raise RuntimeError(f"another thread, {self._driver.name}, drives the engine: call this "
                               "there, from an event loop's by loop.call_soon_threadsafe")
        return 0

    cdef int _drive(self) except -1:
        """Make the calling thread the driver, unless there is one."""
        self._check()
        if self._driver is None or fws_engine_foreign(self._e):
            self._driver = current_thread()
            fws_engine_drive(self._e)
        return 0

    cdef bint _left(self) noexcept:
        """Whether a handler has closed it in a child of this process, or forked: see `turn`."""
        return self._e is NULL or fws_engine_inherited(self._e)

    cdef int _command(self, const fws_command *command, Connection connection=None) except -1:
        cdef int status
        if self._e is NULL:
            raise ConnectionClosed(1006, "the engine is closed")
        status = fws_engine_command(self._e, command)
        if status == FWS_E_FULL and not fws_engine_foreign(self._e):
            self._schedule_flush()  # it may make room
        if status < 0:
            if fws_engine_inherited(self._e):
                raise RuntimeError(_INHERITED)
            if status == FWS_E_CLOSED and connection is not None:
                raise closed_error(connection)
            raise _error(status)
        if self._in_turn or fws_engine_foreign(self._e):
            return 0  # the turn flushes when its handlers have been called
        if status == 1:
            self._flush()
        self._schedule_flush()
        return 0

    cdef int _done(self, int status) except -1:
        if status < 0:
            raise _error(status)
        self._schedule_flush()
        return 0

    cdef int _schedule_flush(self) except -1:
        if self._scheduled or self._in_turn or self.schedule is None:
            return 0
        if fws_engine_more(self._e):
            self._scheduled = True
            self.schedule()
        return 0

    cdef void _flush(self):
        # It is short, so the GIL is kept: beside a busy thread, to get it back takes 5 ms.
        if fws_engine_waits(self._e):
            with nogil:
                fws_engine_flush(self._e, FWS_MAX_TURN_NS)
        else:
            fws_engine_flush(self._e, FWS_TURN_NS)

    def fileno(self):
        """The descriptor that is readable when a turn is due."""
        self._check()
        return fws_engine_fd(self._e)

    def listen(self, int fd):
        """Accept on a listening, non-blocking socket, which stays the caller's."""
        self._check()
        cdef int status = fws_engine_listen(self._e, fd)
        if status < 0:
            raise _error(status)

    def unlisten(self, int fd):
        """Stop accepting on a listening socket."""
        self._check()
        fws_engine_unlisten(self._e, fd)

    def attach(self, int fd, bytes request not None):
        """Take over a connected or connecting, non-blocking socket as a client.

        The request is sent; the answer's head comes through `on_head`. The caller gives up
        the descriptor.

        Raises:
            OSError: the socket cannot be watched; it is still the caller's.
            RuntimeError: the engine is closed or closing.
        """
        self._check()
        if self._closing:
            raise RuntimeError("the engine is closing")
        cdef fws_conn *c = fws_engine_attach(self._e, fd, FWS_CLIENT,
                                             <const uint8_t *>PyBytes_AS_STRING(request),
                                             len(request))
        if c is NULL:
            raise _error(FWS_E_SYSTEM)
        self._schedule_flush()
        return self._binding(c)

    def topic(self, str name not None, *, str on_slow=None, max_lag=None, retention_bytes=None,
              history=None, retain=None, min_rate=None, str content=None):
        """Return the topic of that name; it is made when there is none.

        With options it is configured: it stays until `Topic.close()`. Without, it is the one that
        there is, or a new one that is only named: it takes the options of the longest matching
        pattern (`topics`), else the defaults, and goes when nothing needs it any more.

        Args:
            name: at most 1,024 bytes of UTF-8.
            on_slow: what happens to a subscriber past max_lag: "close" (1013, the default),
                "latest" (it jumps to the newest message, of each key where there are keys),
                "drop_oldest" (it goes on with the oldest message that max_lag allows) or
                "lossless" (publish raises LogFull).
            max_lag: a Lag; 12 MiB by default.
            retention_bytes: bytes of messages that slow subscribers may keep in memory, at least
                max_lag; 16 MiB by default. What was not offered yet to a subscriber that keeps up
                is kept in any case.
            history: a History: what is kept for subscribers that come back; nothing by default.
            retain: keep the newest message, and where there are keys that of each key. A new
                subscriber gets the newest first; with the policy "latest" that of each key.
            min_rate: bytes a second that a lossless subscriber takes over max_stall while it holds
                the publisher, else it is closed with 1013; 64 KiB by default, 0: no minimum. All
                lossless subscribers of a topic together need not take more than 16 MiB/s for that.
            content: what its messages are, for subscribers with an envelope or a batch: "text" (the
                default; each a JSON string there), "json" (there as it was published, which is not
                checked) or "binary". BINARY messages are binary in any case.

        Raises:
            ValueError: an option is out of range, or the topic was configured with others.
        """
        self._check()
        cdef bytes key = name.encode()
        cdef fws_topics *topics = fws_engine_topics(self._e)
        cdef fws_topic *t = fws_topics_find(topics, key, len(key))
        cdef fws_topic_options options
        cdef Topic topic
        given = not (on_slow is None and max_lag is None and retention_bytes is None
                     and history is None and retain is None and min_rate is None
                     and content is None)
        if len(key) > FWS_NAME_MAX:
            raise ValueError(f"a topic's name has at most {FWS_NAME_MAX} bytes, not {len(key)}")
        if t is NULL or given:
            options = topic_options(merged_options(self._options_for(name), on_slow, max_lag,
                                            retention_bytes, history, retain, min_rate, content))
            self._check_same(t, &options, name)
            t = fws_topics_open(topics, key, len(key), &options)
            if t is NULL or (given and fws_topic_set_options(t, &options) < 0):
                raise MemoryError()
        topic = self._topic_of(t)
        if given:
            self._keep(topic)
        self._schedule_flush()  # what is only named is looked at in the next turn
        return topic

    def find_topic(self, str name not None):
        """Return the topic of that name; None: there is none."""
        self._check()
        cdef bytes key = name.encode()
        cdef fws_topic *t = NULL
        if len(key) <= FWS_NAME_MAX:
            t = fws_topics_find(fws_engine_topics(self._e), key, len(key))
        return None if t is NULL else self._topic_of(t)

    def topics(self, str pattern not None, *, str on_slow=None, max_lag=None, retention_bytes=None,
               history=None, retain=None, min_rate=None, str content=None):
        """Set the options of topics that are only named and match the pattern, made from now on.

        Args:
            pattern: the beginning of their names and a `*`; of several the longest counts.
            The others: as for `topic`.

        Raises:
            ValueError: an option is out of range; the pattern has no `*` at its end, or another.
        """
        self._check()
        start = pattern.removesuffix("*")
        if start == pattern or "*" in start:
            raise ValueError(f"a pattern is the beginning of names and one *, not {pattern!r}")
        options = merged_options(_DEFAULTS, on_slow, max_lag, retention_bytes, history, retain,
                                 min_rate, content)
        topic_options(options)
        self._patterns[start] = options

    cdef dict _options_for(self, str name):
        matching = [start for start in self._patterns if name.startswith(start)]
        return self._patterns[max(matching, key=len)] if matching else _DEFAULTS

    cdef int _check_same(self, fws_topic *t, const fws_topic_options *options, str name) except -1:
        cdef fws_topic_facts facts
        if t is NULL:
            return 0
        facts = fws_topic_facts_of(t)
        if not facts.configured:
            return 0
        present, asked = options_by_name(&facts.options), options_by_name(options)
        other = [option for option in asked if asked[option] != present[option]]
        if other:
            raise ValueError(
                f"the topic {name!r} was configured with "
                + ", ".join([f"{option}={present[option]!r}" for option in other])
                + ", and is now asked for with "
                + ", ".join([f"{option}={asked[option]!r}" for option in other])
                + ": Topic.configure changes options, and without any the topic is returned as it is"
            )
        return 0

    cdef Topic _topic_of(self, fws_topic *t):
        cdef void *owner = fws_topic_facts_of(t).owner
        cdef Topic topic
        # One that is being deallocated is found while its weak references are called back.
        if owner is not NULL and (<PyObject *>owner).ob_refcnt > 0:
            return <Topic>owner
        topic = Topic.__new__(Topic)
        topic._t = t
        topic.engine = self
        fws_topic_ref(t)
        fws_topic_own(t, <void *>topic)
        return topic

    cdef int _keep(self, Topic topic) except -1:
        fws_topic_configure(topic._t, True)
        self._kept[topic.name] = topic
        return 0

    def topic_accounts(self, int n):
        """Return {name: account} of the n (at most 64) topics whose logs hold most.

        Where fewer hold anything, others are among them. The cost does not grow with the number of
        topics.
        """
        cdef fws_topic *found[FWS_LIST_MOST]
        cdef fws_topic_facts facts
        cdef uint32_t i, count
        cdef dict accounts = {}
        self._check()
        count = fws_topics_largest(fws_engine_topics(self._e), found,
                                   min(max(n, 0), <int>FWS_LIST_MOST))
        for i in range(count):
            facts = fws_topic_facts_of(found[i])
            accounts[facts.name[:facts.name_n].decode()] = fws_topic_snapshot(found[i])
        return accounts

    def account(self):
        """Return the sums over all topics that ever were, as `Topic.account` has them."""
        self._check()
        return fws_topics_sums(fws_engine_topics(self._e))

    def turn(self, timeout=0.0, *, bint poll=True):
        """Wait up to timeout seconds (None: for ever), then receive, deliver, send and reap.

        Handlers are called for about 1 ms, then for as long those of connections and topics that
        have ended or begun. What is not handled by then waits for the next turn, in order: it is
        not parsed before, so that a handler that pauses, closes or aborts a connection gets none
        of its messages any more.

        Args:
            poll: False: without a look at the sockets. For a turn that `schedule` asked for, while
                no event of `fileno` is known.

        Returns:
            Whether work is left for which no event will come: call again soon.

        Raises:
            KeyboardInterrupt, SystemExit: a handler did; raised at the end of the turn.
            OSError: the poller failed: something else has closed its descriptor.
            RuntimeError: another thread drives the engine, or the process that this one was
                forked from.
        """
        cdef int timeout_ms = -1 if timeout is None else <int>(timeout * 1000)
        cdef int status = FWS_OK
        cdef const fws_event *event
        if self._e is NULL:
            return False
        self._drive()
        if self._in_turn:
            return False
        self._in_turn = True
        self._scheduled = False
        self._published = 0
        try:
            if not poll:
                fws_engine_resume(self._e)
            elif timeout_ms == 0:
                status = fws_engine_harvest(self._e, 0)
            else:
                with nogil:
                    status = fws_engine_harvest(self._e, timeout_ms)
            if status < 0:
                raise _error(status)
            while not self._left() and not self._closing:
                event = fws_engine_next_event(self._e)
                if event is NULL:
                    break
                self._deliver(event)
            if not self._left():
                self._finish_turn()
        finally:
            self._in_turn = False
        if self._left():
            self._raise_interrupt()
            if self._e is not NULL:
                self._check()
            return False
        if self._closing:
            self.close()
            return False
        self._raise_interrupt()
        return fws_engine_more(self._e) or len(self._ended) > 0

    cdef int _finish_turn(self) except -1:
        self._flush()
        self._tell_room()
        self._tell_gaps()
        self._tell_topics_room()
        if self._left():
            return 0
        self._reap()
        cdef uint64_t deadline = fws_engine_now(self._e) + FWS_EVENTS_NS
        self._tell_ended(deadline)
        self._tell_topics(deadline)
        return 0

    def flush(self):
        """Send what is waiting, now, for at most about 0.3 ms; the rest is sent in the next turn."""
        self._check()
        if not self._in_turn:
            self._flush()
            self._schedule_flush()

    cdef object _binding(self, fws_conn *c):
        cdef uint64_t id = fws_conn_id(c)
        cdef Py_ssize_t index = <Py_ssize_t>(id & 0xFFFFFFFF)
        cdef Connection connection
        while len(self._connections) <= index:
            self._connections.append(None)
        connection = self._connections[index]
        if connection is None:
            connection = Connection.__new__(Connection)
            connection._c = c
            connection.engine = self
            connection._id = id
            self._connections[index] = connection
        return connection

    cdef int _deliver(self, const fws_event *event) except -1:
        if fws_conn_dead(event.conn):
            return 0
        cdef Connection connection = self._binding(event.conn)
        cdef const char *data = <const char *>event.data
        cdef Py_ssize_t n = <Py_ssize_t>event.n
        cdef object result = None
        try:
            if event.kind == FWS_EVENT_MESSAGE:
                on_message = connection.on_message
                if on_message is None:
                    on_message = self.on_message
                if on_message is None:
                    pass
                elif event.opcode == FWS_TEXT:
                    result = on_message(connection, PyUnicode_DecodeUTF8(data, n, NULL))
                else:
                    result = on_message(connection, data[:n])
                if result is not None:
                    raise TypeError(f"a handler of messages returned {result!r}; it returns None "
                                    "(what it has to say goes by connection.send_nowait), and to be "
                                    "awaited it must be `async def`")
            elif event.kind == FWS_EVENT_PONG:
                if self.on_pong is not None:
                    self.on_pong(connection, data[:n])
            elif event.kind == FWS_EVENT_HEAD:
                self.on_head(connection, data[:n])
            elif event.kind == FWS_EVENT_BODY:
                self.on_body(connection, data[:n])
            elif event.kind == FWS_EVENT_UNDECIDED:
                if self.on_undecided is None:
                    connection.abort()
                else:
                    self.on_undecided(connection)
            else:
                self.on_head_limit(connection, data[:n])
        except BaseException as exception:
            self._failed(connection, exception)
        return 0

    cdef int _failed(self, connection, exception) except -1:
        if self._left() or isinstance(exception, _INTERRUPTS):
            self._interrupt = exception  # the others' events come first
            return 0
        if self.on_error is not None:
            try:
                self.on_error(connection, exception)
                return 0
            except _INTERRUPTS as interrupt:
                self._interrupt = interrupt
            except BaseException:
                pass  # nothing else leaves a turn; the connection is aborted
        connection.abort()
        return 0

    cdef int _raise_interrupt(self) except -1:
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            raise interrupt
        return 0

    cdef int _reap(self) except -1:
        cdef fws_conn *c = fws_engine_next_dead(self._e, NULL)
        cdef fws_conn_facts facts
        cdef Connection connection
        while c is not NULL:
            facts = fws_conn_facts_of(c)
            index = <Py_ssize_t>(facts.id & 0xFFFFFFFF)
            connection = self._connections[index] if index < len(self._connections) else None
            if connection is not None:
                connection._close_code = facts.close_code
                connection.reason = facts.reason[:facts.reason_n].decode("utf-8", "replace")
                connection._remote = connection.remote_address
                connection._closes = of_closes(fws_conn_closes(c))
                connection._c = NULL
                self._connections[index] = None
                self._ended.append(connection)
            c = fws_engine_next_dead(self._e, c)
        fws_engine_reap(self._e)
        return 0

    cdef int _tell_room(self) except -1:
        """Call on_room for connections that have room again, one at least."""
        cdef uint64_t deadline = 0
        cdef fws_conn *c
        while not self._left() and not self._closing:
            c = fws_engine_next_room(self._e)
            if c is NULL:
                return 0
            if self.on_room is None:
                continue
            connection = self._binding(c)
            deadline = deadline or fws_engine_now(self._e) + FWS_EVENTS_NS
            try:
                self.on_room(connection)
            except BaseException as exception:
                self._failed(connection, exception)
            if not self._left() and fws_engine_now(self._e) >= deadline:
                return 0
        return 0

    cdef int _begin_losses(self, fws_command *command, on_gap) except -1:
        """Have the losses of the subscription told to on_gap; None: to nobody."""
        command.losses = NULL
        if on_gap is None:
            return 0
        self._gaps_asked += 1
        command.losses = fws_losses_new(self._gaps_asked)
        if command.losses is NULL:
            raise MemoryError()
        self._on_gap[self._gaps_asked] = on_gap
        return 0

    cdef int _end_losses(self, const fws_command *command) except -1:
        """The subscription was refused."""
        if command.losses is not NULL:
            self._on_gap.pop(command.losses.id, None)
            fws_losses_free(command.losses)
        return 0

    cdef int _tell_gaps(self) except -1:
        """Call on_gap of subscriptions that have lost something, one at least."""
        cdef uint64_t deadline = 0
        cdef fws_loss loss
        while not self._left() and not self._closing:
            if not fws_topics_next_loss(fws_engine_topics(self._e), &loss):
                return 0
            if loss.sub is NULL:
                if not loss.shared:
                    self._on_gap.pop(loss.id, None)
                continue
            deadline = deadline or fws_engine_now(self._e) + FWS_EVENTS_NS
            self._tell_gap(&loss)
            if not self._left() and fws_engine_now(self._e) >= deadline:
                return 0
        return 0

    cdef int _tell_gap(self, const fws_loss *loss) except -1:
        cdef Connection connection = self._binding(loss.conn)
        if loss.id not in self._on_gap:
            return 0  # a wildcard's, which could not be given other options for want of memory
        gap = Gap(loss.first, loss.last, loss.count, _WHY[loss.why])
        self.telling = self._on_gap[loss.id]
        try:
            self.telling(connection._subscription(self._topic_of(loss.topic)), gap)
        except BaseException as exception:
            self._failed(connection, exception)
        self.telling = None
        return 0

    cdef int _tell_topics_room(self) except -1:
        """Call on_topic_room for topics that have room again, one at least."""
        cdef uint64_t deadline = 0
        cdef fws_topic *t
        while not self._left() and not self._closing:
            if not fws_topics_next_room(fws_engine_topics(self._e), &t):
                return 0
            deadline = deadline or fws_engine_now(self._e) + FWS_EVENTS_NS
            if t is not NULL and self.on_topic_room is not None:
                self._call_of_topic(self._topic_of(t), self.on_topic_room)
            if not self._left() and fws_engine_now(self._e) >= deadline:
                return 0
        return 0

    cdef int _tell_ended(self, uint64_t deadline) except -1:
        """Call on_close for connections that have ended, one at least."""
        while self._ended:
            connection = self._ended.popleft()
            if self.on_close is None:
                continue
            try:
                self.on_close(connection)
            except BaseException as exception:
                self._failed(connection, exception)
            if self._left() or fws_engine_now(self._e) >= deadline:
                return 0
        return 0

    cdef int _tell_topics(self, uint64_t deadline) except -1:
        """Call back for topics that got their first or lost their last subscriber; free others.

        One callback at least; callbacks that undo each other go on in the next turn.
        """
        cdef fws_topic *t
        if not self._left():
            fws_topics_close_idle(fws_engine_topics(self._e))
        while not self._left():
            t = fws_topics_collect(fws_engine_topics(self._e))
            if t is NULL:
                return 0
            self._tell_topic(t)
            if self._left() or fws_engine_now(self._e) >= deadline:
                return 0
        return 0

    cdef int _tell_topic(self, fws_topic *t) except -1:
        cdef Topic topic = self._topic_of(t)
        return self._call_of_topic(topic, topic._on_first if fws_topic_wanted(t) else topic._on_last)

    cdef int _call_of_topic(self, Topic topic, callback) except -1:
        if callback is None:
            return 0
        try:
            callback(topic)
        except _INTERRUPTS as interrupt:
            self._interrupt = interrupt
        except BaseException as exception:
            if self._left():
                self._interrupt = exception
            elif self.on_topic_error is None:
                PyErr_WriteUnraisable(callback)
            else:
                self.on_topic_error(topic, exception)
        return 0

    def close(self):
        """Close every connection at once and free everything; idempotent.

        In a turn it is done at the turn's end. Raises RuntimeError while another thread drives.
        """
        if self._e is NULL:
            return
        if fws_engine_inherited(self._e):
            self._forget()
            return
        self._drive()
        if self._in_turn:
            self._closing = True
            return
        self._in_turn = self._closing = True
        cdef uint32_t slot = 0
        cdef fws_conn *c = fws_engine_next_conn(self._e, &slot)
        while c is not NULL:
            fws_conn_cut_off(self._e, c)
            c = fws_engine_next_conn(self._e, &slot)
        self._reap()
        self._on_gap.clear()
        self._tell_ended(<uint64_t>-1)
        self._let_go_of_topics()
        fws_engine_free(self._e)
        self._e = NULL
        if self.waits is not None:
            self.waits.topics_closed()
        self._raise_interrupt()

    cdef int _forget(self) except -1:
        """Close the descriptors of a child. Nothing has ended, so nobody is told."""
        cdef Connection connection
        for connection in self.connections:
            connection._remote = connection.remote_address
            connection._c = NULL
        self._connections.clear()
        self._kept.clear()
        self._on_gap.clear()
        self._source_topic = None
        fws_engine_free(self._e)
        self._e = NULL
        return 0

    cdef int _let_go_of_topics(self) except -1:
        cdef uint32_t place = 0
        cdef fws_topics *topics = fws_engine_topics(self._e)
        cdef fws_topic *t = fws_topics_next(topics, &place)
        cdef void *owner
        while t is not NULL:
            owner = fws_topic_facts_of(t).owner
            if owner is not NULL:
                (<Topic>owner)._t = NULL
            t = fws_topics_next(topics, &place)
        self._kept.clear()
        self._source_topic = None
        return 0

    # What it holds.

    @property
    def connections(self):
        """Connections that the owner has heard of, in a list."""
        return [c for c in self._connections if c is not None]

    @property
    def foreign(self):
        """Whether another thread drives it, one that has not ended."""
        return self._e is not NULL and fws_engine_foreign(self._e) and self._driver.is_alive()

    @property
    def inherited(self):
        """Whether it is open and belongs to the process that this one was forked from."""
        return self._e is not NULL and fws_engine_inherited(self._e)

    def all_connections(self):
        """Return also those that have not sent a whole request; `on_close` follows for them too."""
        self._check()
        cdef uint32_t slot = 0
        cdef list found = []
        cdef fws_conn *c = fws_engine_next_conn(self._e, &slot)
        while c is not NULL:
            found.append(self._binding(c))
            c = fws_engine_next_conn(self._e, &slot)
        return found

    @property
    def live(self):
        """Sockets held, also those that are not WebSockets."""
        return 0 if self._e is NULL else fws_engine_live(self._e)

    def counters(self):
        """Return what was counted since the start, by name."""
        self._check()
        return fws_engine_counters(self._e)

    def met_last(self):
        """Return the address that met a limit last, by the counter of that limit; "": none has."""
        self._check()
        return {
            "address_refused": self._met_last(FWS_MET_PER_ADDRESS),
            "handshakes_refused": self._met_last(FWS_MET_HANDSHAKE_RATE),
            "message_rate_paused": self._met_last(FWS_MET_MESSAGE_RATE),
            "byte_rate_paused": self._met_last(FWS_MET_BYTE_RATE),
        }

    cdef str _met_last(self, fws_limit_met limit):
        cdef char host[46]
        fws_engine_met_last(self._e, limit, host, sizeof(host))
        return (<bytes>host).decode("ascii")

    @property
    def buffered_bytes(self):
        """Bytes of memory that `max_buffered_bytes` limits."""
        return 0 if self._e is NULL else fws_engine_buffered(self._e)

    def laggards(self, int n):
        """Return [(connection, account)] of n (at most 64) subscribers, furthest behind first.

        They are taken from the 256 connections that have lagged longest, ordered by bytes; where
        fewer lag, others follow. The cost does not grow with the number of connections. `why` in
        the account says what holds one up: "kernel buffer full"; "not reading", which is the same
        when our kernel has taken nothing more for 2 s; "rate-limited": by its `max_rate`; "not sent
        yet"; "" when it has everything.
        """
        cdef fws_conn *found[FWS_LIST_MOST]
        cdef uint32_t i, count
        self._check()
        fws_engine_wake(self._e)
        count = fws_engine_laggards(self._e, found, min(max(n, 0), <int>FWS_LIST_MOST))
        return [(self._binding(found[i]),
                 self._account_of(found[i]) | {"why": _BEHIND[fws_conn_behind(self._e, found[i])]})
                for i in range(count)]

    def latency(self):
        """Return how long messages took from publish to the last client, in microseconds.

        `n` publishes were measured (at most 100 a second, and one of a topic at a time), until each
        subscriber of that time had passed the message: it was handed to the kernel, or left out.
        `p50` and `p99` are at most 3.2 % too high.
        """
        self._check()
        cdef const fws_hist *hist = fws_topics_latency(fws_engine_topics(self._e))
        return {
            "n": hist.total,
            "p50": fws_hist_quantile(hist, 0.5) / 1000,
            "p99": fws_hist_quantile(hist, 0.99) / 1000,
            "max": hist.max / 1000,
        }

    cdef dict _account_of(self, fws_conn *c):
        """The account of a connection; all topics must have been woken."""
        fws_conn_acknowledge(self._e, c)
        return of_reader(fws_conn_snapshot(c, fws_engine_now(self._e)),
                         fws_conn_facts_of(c).acknowledges)

    # HTTP, for the server and the load client.

    cdef fws_conn *_conn(self, Connection connection) except NULL:
        """The fws_conn of a connection of this engine, to change it."""
        if connection.engine is not self:
            raise ValueError("the connection belongs to another engine")
        return connection._held()

    cdef const fws_conn *_peek(self, Connection connection) except? NULL:
        """The fws_conn of a connection of this engine, to read it; NULL when it has ended."""
        if connection.engine is not self:
            raise ValueError("the connection belongs to another engine")
        return connection._c

    def respond(self, Connection connection not None, bytes data not None, *, bint keep_alive):
        """Send a whole HTTP response to the request that was raised.

        Without keep_alive the connection is closed after it; such a response may also be sent
        before the request is whole.

        Raises:
            ConnectionClosed: no request of the connection is waiting for a response.
            ValueError: the connection belongs to another engine.
        """
        cdef fws_conn *c = self._conn(connection)
        self._done(fws_conn_respond(self._e, c, <const uint8_t *>PyBytes_AS_STRING(data),
                                    len(data), keep_alive))

    def upgrade(self, Connection connection not None, bytes data not None, *,
                unsigned window_bits=0):
        """Send the 101 (client role: nothing) and turn the connection into a WebSocket.

        Args:
            data: the whole response.
            window_bits: 9..15 when permessage-deflate was agreed on (RFC 7692, no context takeover
                on either side): the window of what is sent. 0: it was not.

        Raises:
            ConnectionClosed: no request of the connection is waiting for a response.
            ValueError: other window_bits, or a build without zlib; the connection belongs to
                another engine.
        """
        cdef fws_conn *c = self._conn(connection)
        cdef int status = FWS_OK
        if window_bits != 0:
            status = fws_conn_deflate(self._e, c, window_bits)
        if status == FWS_OK:
            status = fws_conn_upgrade(self._e, c, <const uint8_t *>PyBytes_AS_STRING(data),
                                      len(data))
        self._done(status)

    def upgrade_with(self, Connection connection not None, make, *, unsigned window_bits=0):
        """Turn the connection into a WebSocket, and send the 101 that `make()` returns then.

        `make` may subscribe the connection, so that the 101 can tell where it begins: the 101
        leaves first. When it raises, the connection is cut off, and the exception goes on.

        Args, Raises: as `upgrade`.
        """
        cdef bytes data
        self.upgrade(connection, b"", window_bits=window_bits)
        try:
            data = make()
            self._done(fws_conn_answer_upgrade(
                self._e, self._conn(connection), <const uint8_t *>PyBytes_AS_STRING(data),
                len(data)))
        except BaseException:
            connection.abort()
            raise

    def expect_body(self, Connection connection not None, uint32_t n, bytes data not None=b""):
        """Receive n (1 up) bytes of request body; they are raised through `on_body`.

        Args:
            data: sent first (a 100 Continue).

        Raises:
            ConnectionClosed: no request of the connection is waiting for a response.
            ValueError: the connection belongs to another engine.
        """
        cdef fws_conn *c = self._conn(connection)
        self._done(fws_conn_expect_body(self._e, c, n, <const uint8_t *>PyBytes_AS_STRING(data),
                                        len(data)))

    def is_http(self, Connection connection not None):
        """Whether it has not become a WebSocket and has not been sent its last response."""
        cdef const fws_conn *c = self._peek(connection)
        return c is not NULL and fws_conn_facts_of(c).state < FWS_OPEN

    def over_limit(self, Connection connection not None):
        """Whether it was accepted beyond `max_connections`: respond with 503."""
        cdef const fws_conn *c = self._peek(connection)
        return c is not NULL and fws_conn_facts_of(c).over_limit

    def over_address(self, Connection connection not None):
        """Whether it was accepted beyond `max_per_address`: respond with 429."""
        cdef const fws_conn *c = self._peek(connection)
        return c is not NULL and fws_conn_facts_of(c).over_address

    # The built-in source.

    def start_source(self, Topic topic not None, *, uint64_t seed, str format="json",
                     str fields="base", str late="burst"):
        """Generate ticks into the topic while it has subscribers; the rate is 0 at first.

        Args:
            seed: of the random walk.
            format: "json" or "binary".
            fields: "base", "seq" for ticks that also carry seq and tsNs, or "quote": bid, ask and
                volume, too.
            late: what is done with ticks more than 10 ms overdue: "burst", "smooth", "skip".
        """
        self._check()
        if topic.engine is not self:
            raise ValueError("the topic belongs to another engine")
        self._source_topic = topic
        fws_source_init(fws_engine_source(self._e), topic._held(), seed,
                        <fws_tick_format>one_of("format", FORMATS, format),
                        <fws_tick_fields>one_of("fields", FIELDS, fields),
                        <fws_late>one_of("late", _LATE, late))

    def set_rate(self, rate):
        """Generate that many ticks a second (0..100,000,000) from now on, or "max".

        What is due by now at the old rate is published first.
        """
        self._check()
        if rate != "max" and not 0 <= rate <= 100_000_000:
            raise ValueError(f"a rate must be 0 to 100,000,000, not {rate}")
        cdef uint64_t ticks = 0 if rate == "max" else rate
        fws_engine_set_rate(self._e, ticks, rate == "max")
        self._schedule_flush()

    def set_format(self, str format not None):
        """Change the format of the ticks; the random walk continues."""
        self._check()
        fws_source_set_format(fws_engine_source(self._e),
                              <fws_tick_format>one_of("format", FORMATS, format))

    def pacing(self):
        """Return how exactly the source keeps its rate: counts, ppm, microseconds."""
        self._check()
        return of_source(fws_source_pace(fws_engine_source(self._e)))

    # The load client's meter.

    def meter(self, Connection connection not None, *, bint any=False):
        """Count its data messages in the engine's meter; they are not raised any more.

        Args:
            connection: whose.
            any: they are any messages, not ticks, here and on all others of the engine; what
                `metered` calls latency is then the time from a message to the next one.

        Raises:
            ConnectionClosed: the connection has ended.
            ValueError: the connection belongs to another engine.
        """
        cdef fws_conn *c = self._conn(connection)
        self._done(fws_conn_meter(self._e, c))
        fws_engine_meter(self._e).any = any

    def metered_of(self, Connection connection not None):
        """Return (frames, bytes, gaps, missed, duplicates, reordered) that the meter counted.

        The last four are of the numbers that ticks carry as seq. Zeros when it has ended.
        """
        cdef const fws_conn *c = self._peek(connection)
        cdef fws_metered found
        if c is NULL:
            return (0, 0, 0, 0, 0, 0)
        found = fws_conn_metered(c)
        return (found.frames, found.bytes, found.gaps, found.missed, found.duplicates,
                found.reordered)

    def numbered(self, Connection connection not None):
        """Whether the frames that the meter sampled carry seq."""
        cdef const fws_conn *c = self._peek(connection)
        return c is not NULL and fws_conn_metered(c).seen_seq

    def record_latency(self, bint recording):
        """Start recording latencies (what was recorded is cleared), or stop."""
        self._check()
        cdef fws_meter *meter = fws_engine_meter(self._e)
        if meter is not NULL:
            if recording:
                fws_hist_clear(&meter.latency)
            meter.recording = recording

    def metered(self):
        """Return what the meter counted over all metered connections; latencies in ms."""
        self._check()
        return of_meter(fws_engine_meter(self._e))
