# cython: boundscheck=False, wraparound=False
"""The binding of the core: Engine, Connection, Topic and Frame.

Layer 4. The four share one lifetime, so they stand in one module. An Engine owns one fws_engine,
which owns every fws_conn and fws_topic. The Engine also keeps one Connection object for each
connection that its owner has heard of, in a list by slot; the C side never sees a PyObject. A
Connection loses its fws_conn when the engine reaps it, a Topic its fws_topic when the engine is
closed. The only `with nogil` of the project stands here.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
cimport cython
from libc.errno cimport errno
from libc.string cimport memcpy

from fastws.native cimport *

from heapq import nlargest
import os

from fastws.errors import ConnectionClosed, LogFull

FORMATS = {"json": FWS_TICK_JSON, "binary": FWS_TICK_BINARY}
FIELDS = {"base": FWS_TICK_BASE, "seq": FWS_TICK_SEQ}
_LATE = {"burst": FWS_LATE_BURST, "smooth": FWS_LATE_SMOOTH, "skip": FWS_LATE_SKIP}
_ON_SLOW = {"close": FWS_SLOW_CLOSE, "latest": FWS_SLOW_LATEST, "lossless": FWS_SLOW_LOSSLESS}
_INTERRUPTS = (KeyboardInterrupt, SystemExit)
cdef enum:
    MIB = 1048576
    GIL_WORTH = 64  # sends below which releasing the GIL costs more than it gains


cdef class Connection
cdef class Topic
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
    return ConnectionClosed(1006, "the connection is closing or closed")


def deflate_available():
    """Whether this build can compress: zlib was there when it was made."""
    return fws_deflate_available()


cpdef int one_of(str what, dict names, value) except -1:
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


# Accounts: the core's counts as dicts.


cdef dict of_topic(fws_engine *e, fws_topic *t):
    """What `Topic.account` returns; asks the kernel what the peers have acknowledged."""
    cdef uint64_t acknowledged = t.acknowledged
    cdef uint32_t i
    for i in range(t.n):
        fws_conn_acknowledge(e, t.members[i].conn)
        acknowledged += t.members[i].acknowledged
    return {
        "published": t.published_to,
        "delivered": t.delivered,
        "acknowledged": acknowledged,
        "dropped": t.dropped,
        "conflated": t.conflated,
        "pending": fws_topic_pending(t),
        "subscribers": t.n,
        "retained_bytes": fws_log_retained(&t.log),
        "appended": t.log.next_seq,
    }


cdef dict of_connection(fws_engine *e, fws_conn *c):
    """What `Connection.account` returns; asks the kernel what the peer has acknowledged."""
    fws_conn_acknowledge(e, c)
    cdef fws_sub *sub = c.subs
    cdef uint64_t published = 0, delivered = 0, acknowledged = 0, dropped = 0, conflated = 0
    cdef uint64_t now = e.sys.monotonic()
    cdef uint64_t pending = 0, lag_bytes = 0, size, since = now
    while sub is not NULL:
        pending += fws_sub_pending(sub, &size)
        lag_bytes += size
        since = min(since, fws_sub_waiting_since(sub))
        published += sub.topic.log.next_seq - sub.start
        delivered += sub.delivered
        acknowledged += sub.acknowledged
        dropped += sub.dropped
        conflated += sub.conflated
        sub = sub.next
    return {
        "published": published,
        "delivered": delivered,
        "acknowledged": acknowledged if c.acknowledges else None,
        "dropped": dropped,
        "conflated": conflated,
        "pending": pending,
        "lag_bytes": lag_bytes,
        "lag_seconds": (now - since) / 1e9,
    }


cdef dict of_engine(const fws_counters *counters):
    """What `Engine.counters` returns: the names of the struct."""
    return counters[0]


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
            "frames": 0, "bytes": 0, "sampled": 0, "bad": 0, "gaps": 0, "reordered": 0,
            "first_error": "",
            "latency_ms": {"n": 0, "mean": 0.0, "p50": 0.0, "p99": 0.0, "max": 0.0},
        }
    return {
        "frames": meter.frames,
        "bytes": meter.bytes,
        "sampled": meter.sampled,
        "bad": meter.bad,
        "gaps": meter.gaps,
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
cdef class Topic:
    """A stream that connections subscribe to. Made by `Engine.topic`; lives as long as the engine.

    `engine` and `name` are facts.
    """

    cdef fws_topic *_t  # NULL once the engine is closed
    cdef readonly Engine engine
    cdef readonly str name

    def __init__(self):
        raise TypeError("a Topic is made by the engine: call Engine.topic(name)")

    def publish(self, data, *, bint text=False):
        """Append one message to the log; O(1) in the number of subscribers.

        It is sent at the end of the loop's turn, at once when 256 KiB are waiting, or by
        `Engine.flush`. Safe from any thread: from a thread that does not drive the engine it is
        staged, in order, and the engine is woken.

        Args:
            data: str for a TEXT message; bytes for a BINARY one. With `text`, bytes for a TEXT
                one: UTF-8, as orjson returns it; it is not checked.

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
        """Change the policy for slow subscribers, for the present ones too.

        Args: as for `Engine.topic`.
        """
        cdef fws_topic_options options = topic_options(on_slow, max_lag_bytes, retention_bytes)
        self.engine._check()
        fws_topic_set_options(self._t, &options)

    def account(self):
        """Return the counts of the topic, in messages over all its subscriptions ever.

        published = delivered + conflated + dropped + pending, where pending is counted from
        cursors and log, not derived (but for compressed subscriptions, which have no cursor).
        `acknowledged`: confirmed by the peers' kernels; always 0 for Unix sockets. `appended`:
        messages in the log's whole life.
        """
        self.engine._check()
        return of_topic(self.engine._e, self._t)

    @property
    def subscribers(self):
        """How many connections are subscribed now."""
        self.engine._check()
        return self._t.n

    @property
    def delivered(self):
        """Whole messages handed to the kernel, over all subscriptions ever; cheap to read."""
        self.engine._check()
        return self._t.delivered

    @property
    def appended(self):
        """Messages published in the topic's whole life."""
        self.engine._check()
        return self._t.log.next_seq


@cython.final
cdef class Connection:
    """One peer, from its first complete HTTP head to its end. Made by the engine.

    `context` is for the owner, None at first. `engine` and `id` are facts. `close_code` (0 before)
    and `reason` (None before) are set when the connection has ended: those of the peer's Close,
    else of ours, else 1006 and "".
    """

    cdef fws_conn *_c  # NULL once reaped
    cdef readonly Engine engine
    cdef readonly object id
    cdef public object context
    cdef readonly int close_code
    cdef readonly str reason

    def __init__(self):
        raise TypeError("a Connection is made by the engine, which hands it to the handlers")

    cdef fws_conn *_held(self) except NULL:
        """The fws_conn, for the thread that drives the engine."""
        if self._c is NULL:
            raise ConnectionClosed(self.close_code, self.reason or "")
        self.engine._check()
        return self._c

    cdef int _command(self, fws_command *command, int kind) except -1:
        """Give the engine a command about this connection; any thread may."""
        if self._c is NULL:
            raise ConnectionClosed(self.close_code, self.reason or "")
        command.kind = <uint8_t>kind
        command.conn = self.id
        return self.engine._command(command)

    def send(self, data):
        """Send one message to this peer alone: str as TEXT, bytes as BINARY.

        Its order among the messages published before and after is kept. Safe from any thread; from
        one that does not drive the engine a failure is counted (`staged_refused`), not raised.

        Raises:
            ConnectionClosed: the connection is not open.
            LogFull: more than `outbox_limit` bytes are waiting for this peer already.
        """
        cdef fws_command command
        payload_of(data, &command.data, &command.n, &command.opcode)
        self._command(&command, FWS_CMD_SEND)

    def close(self, code=1000, str reason not None=""):
        """Begin the closing handshake (RFC 6455 7.1.2) after what was sent and published so far.

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
        payload_of(reason, &command.data, &command.n, &command.opcode)
        command.code = code
        self._command(&command, FWS_CMD_CLOSE)

    def abort(self):
        """End the connection now, without a Close; idempotent."""
        if self._c is not NULL:
            fws_conn_kill(self.engine._e, self._held(), 1006)
            self.engine._done(FWS_OK)

    def subscribe(self, Topic topic not None):
        """Receive what is published to the topic from now on; idempotent. Safe from any thread."""
        self._membership(FWS_CMD_SUBSCRIBE, topic)

    def unsubscribe(self, Topic topic not None):
        """End the subscription: pending messages count as dropped. Idempotent, from any thread."""
        self._membership(FWS_CMD_UNSUBSCRIBE, topic)

    cdef int _membership(self, int kind, Topic topic) except -1:
        cdef fws_command command
        if topic.engine is not self.engine:
            raise ValueError("the topic belongs to another engine")
        command.topic = topic._t
        command.data = NULL
        command.n = 0
        return self._command(&command, kind)

    def pause_reading(self, *, uint16_t after=0):
        """Stop reading; the peer's sends fill the kernel's buffers, then block.

        Closing the connection ends the pause.

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
    def remote_address(self):
        """(host, port) of the peer; ("", 0) for a Unix socket, or when the connection has ended."""
        cdef char host[46]
        cdef uint16_t port
        if self._c is NULL:
            return ("", 0)
        port = fws_conn_remote(self._c, host, sizeof(host))
        return ((<bytes>host).decode("ascii"), port)

    @property
    def is_open(self):
        """Whether it is a WebSocket and neither side has begun to close."""
        return self._c is not NULL and self._c.state == FWS_OPEN

    @property
    def buffered_amount(self):
        """Bytes of direct sends that are waiting in user space."""
        return self._c.outbox.bytes if self._c is not NULL else 0

    def account(self):
        """Return the counts over its present subscriptions, and its lag.

        published = delivered + conflated + dropped + pending, in messages. `acknowledged` is
        None on Unix sockets. `lag_bytes`: size of the pending messages. `lag_seconds`: upper bound
        of the age of the oldest one (times are known by the slab of the log); 0 without one.

        Raises:
            ConnectionClosed: the connection has ended.
        """
        cdef fws_conn *c = self._held()
        return of_connection(self.engine._e, c)


@cython.final
cdef class Engine:
    """All peers and their poller. One thread drives it, by `turn`.

    The owner sets `on_head(connection, head)`, `on_head_limit(connection, part)`,
    `on_body(connection, body)`, `on_message(connection, message)` and `on_close(connection)`,
    all called inside `turn`. `on_error(connection, exception)` is called with what they raise, and
    with a TypeError when `on_message` returns anything but None, which nothing would await. A
    request may be decided on later. When the handshake's deadline passes first,
    `on_undecided(connection)` may still answer (without one, the connection is ended); a peer that
    hangs up meanwhile ends its connection. `schedule()` is called, once until the next turn, when
    something is waiting to be sent outside of a turn.

    Args:
        head_limit: bytes of an HTTP head, 256 to 65,536.
        max_connections: sockets held at once; up to 64 more get an HTTP answer (see
            `over_limit`), the rest are closed when accepted.
        handshake_timeout, keep_alive_timeout, close_timeout, max_stall: seconds.
        ping_interval: seconds between pings, up to a tenth less at random; 0: none.
        pong_timeout: seconds to answer one; bytes confirmed meanwhile begin it anew.
        message_timeout: seconds from a message's first byte to its last, else 1008; 0: no limit.
        write_timeout: seconds in which a peer whose socket is full must confirm 1 KiB; 0: no
            limit.
        max_per_address: sockets of one address (IPv6: of one /64); 0: no limit. Up to 64 more get
            an HTTP answer (see `over_address`).
        max_message_size: bytes of a message received, all fragments together.
        max_fragments: frames of one.
        outbox_limit: bytes of direct sends waiting for one connection past which `send` raises
            LogFull; past a quarter of it the peer is not read from.
        notsent_lowat: bytes that the kernel holds unsent for a peer that does not read
            (TCP_NOTSENT_LOWAT); 0 leaves it to the kernel.
    """

    cdef fws_engine *_e  # NULL once closed
    cdef list _connections  # those that the owner has heard of, by slot
    cdef dict _topics
    cdef bint _in_turn, _scheduled, _closing
    cdef public object on_head, on_head_limit, on_body, on_undecided, on_message, on_close
    cdef public object on_error, schedule
    cdef object _interrupt  # what a handler raised to end the program, until the turn's end

    def __cinit__(self, *, uint32_t head_limit=16384, uint32_t max_connections=10000,
                  double handshake_timeout=10.0, double keep_alive_timeout=30.0,
                  double close_timeout=5.0, double max_stall=5.0, double ping_interval=20.0,
                  double pong_timeout=20.0, double message_timeout=60.0,
                  double write_timeout=30.0, uint32_t max_per_address=0,
                  uint64_t max_message_size=MIB, uint32_t max_fragments=16384,
                  uint32_t outbox_limit=MIB, int notsent_lowat=16384):
        cdef fws_options options
        options.head_limit = min(max(head_limit, 256), 65536)
        options.max_connections = max_connections
        options.handshake_ns = _ns(handshake_timeout)
        options.keep_alive_ns = _ns(keep_alive_timeout)
        options.close_ns = _ns(close_timeout)
        options.max_stall_ns = _ns(max_stall)
        options.max_per_address = max_per_address
        options.ping_ns = _ns(ping_interval)
        options.pong_ns = _ns(pong_timeout)
        options.message_ns = _ns(message_timeout)
        options.write_ns = _ns(write_timeout)
        options.outbox_limit = outbox_limit
        options.notsent_lowat = notsent_lowat
        options.limits.max_message_size = max_message_size
        options.limits.max_fragments = max_fragments
        self._e = fws_engine_new(&options, &fws_sys_linux)
        if self._e is NULL:
            raise _error(FWS_E_SYSTEM)
        self._connections = []
        self._topics = {}

    def __dealloc__(self):
        if self._e is not NULL:
            fws_engine_free(self._e)
            self._e = NULL

    cdef int _check(self) except -1:
        """Only publish, send, close, subscribe and unsubscribe may come from other threads."""
        if self._e is NULL:
            raise RuntimeError("the engine is closed")
        if fws_engine_foreign(self._e):
            raise RuntimeError("called from a thread that does not drive the engine; "
                               "use loop.call_soon_threadsafe")
        return 0

    cdef int _command(self, const fws_command *command) except -1:
        cdef int status
        if self._e is NULL:
            raise ConnectionClosed(1006, "the engine is closed")
        status = fws_engine_command(self._e, command)
        if status < 0:
            raise _error(status)
        if fws_engine_foreign(self._e):
            return 0
        if status == 1 and not self._in_turn:  # in a turn, its handlers come first
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
        if fws_engine_load(self._e) > GIL_WORTH:
            with nogil:
                fws_engine_flush(self._e, FWS_TURN_NS)
        else:
            fws_engine_flush(self._e, FWS_TURN_NS)

    def fileno(self):
        """The descriptor that is readable when a turn is due."""
        self._check()
        return self._e.epoll

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

    def topic(self, str name not None, *, str on_slow="close", uint64_t max_lag_bytes=12 * MIB,
              uint64_t retention_bytes=16 * MIB):
        """Return the topic of that name, made with these options when it is new.

        Args:
            on_slow: what happens to a subscriber more than max_lag_bytes behind: "close" (1013),
                "latest" (it jumps to the newest message) or "lossless" (publish raises LogFull).
            retention_bytes: at least max_lag_bytes; of frames that the log keeps. Its index adds
                8 bytes a frame and more (more than the frames themselves, where they are tiny).
        """
        if name in self._topics:
            return self._topics[name]
        self._check()
        cdef fws_topic_options options = topic_options(on_slow, max_lag_bytes, retention_bytes)
        cdef Topic topic = Topic.__new__(Topic)
        topic._t = fws_engine_topic(self._e, &options)
        if topic._t is NULL:
            raise MemoryError()
        topic.engine = self
        topic.name = name
        self._topics[name] = topic
        return topic

    @property
    def topics(self):
        """All topics by name."""
        return dict(self._topics)

    def turn(self, timeout=0.0):
        """Wait up to timeout seconds (None: for ever), then receive, deliver, send and reap.

        Returns:
            Whether work is left for which no event will come: call again soon.

        Raises:
            KeyboardInterrupt, SystemExit: a handler did; raised at the end of the turn.
        """
        cdef int timeout_ms = -1 if timeout is None else <int>(timeout * 1000)
        cdef int n, i
        if self._in_turn or self._e is NULL:
            return False
        self._in_turn = True
        self._scheduled = False
        try:
            if timeout_ms == 0:
                n = fws_engine_harvest(self._e, 0)
            else:
                with nogil:
                    n = fws_engine_harvest(self._e, timeout_ms)
            for i in range(n):
                self._deliver(&self._e.events[i])
            self._flush()
            self._reap()
        finally:
            self._in_turn = False
        if self._closing:
            self.close()
            return False
        self._raise_interrupt()
        return fws_engine_more(self._e)

    def flush(self):
        """Send what is waiting, now, for at most about 2 ms; the rest is sent in the next turn."""
        self._check()
        if not self._in_turn:
            self._flush()
            self._schedule_flush()

    cdef object _binding(self, fws_conn *c):
        cdef Py_ssize_t index = <Py_ssize_t>(c.id & 0xFFFFFFFF)
        cdef Connection connection
        while len(self._connections) <= index:
            self._connections.append(None)
        connection = self._connections[index]
        if connection is None:
            connection = Connection.__new__(Connection)
            connection._c = c
            connection.engine = self
            connection.id = c.id
            self._connections[index] = connection
        return connection

    cdef int _deliver(self, fws_event *event) except -1:
        if event.conn.state == FWS_DEAD:
            return 0
        connection = self._binding(event.conn)
        cdef const char *data = <const char *>event.data
        cdef Py_ssize_t n = <Py_ssize_t>event.n
        cdef object result = None
        try:
            if event.kind == FWS_EVENT_MESSAGE:
                if self.on_message is None:
                    pass
                elif event.opcode == FWS_TEXT:
                    result = self.on_message(connection, PyUnicode_DecodeUTF8(data, n, NULL))
                else:
                    result = self.on_message(connection, data[:n])
                if result is not None:
                    raise TypeError(f"a handler of messages returned {result!r}; it returns None "
                                    "(what it has to say goes by connection.send), and to be "
                                    "awaited it must be `async def`")
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
        if isinstance(exception, _INTERRUPTS):
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
        cdef fws_conn *c = self._e.first_dead
        cdef Connection connection
        cdef list ended = []
        while c is not NULL:
            index = <Py_ssize_t>(c.id & 0xFFFFFFFF)
            connection = self._connections[index] if index < len(self._connections) else None
            if connection is not None:
                connection.close_code = c.close_code
                connection.reason = c.reason[:c.reason_n].decode("utf-8", "replace")
                connection._c = NULL
                self._connections[index] = None
                ended.append(connection)
            c = c.next_dead
        fws_engine_reap(self._e)
        if self.on_close is None:
            return 0
        for connection in ended:
            try:
                self.on_close(connection)
            except BaseException as exception:
                self._failed(connection, exception)
        return 0

    def close(self):
        """Close every connection at once and free everything; idempotent."""
        if self._e is NULL:
            return
        self._check()
        if self._in_turn:
            self._closing = True
            return
        self._in_turn = self._closing = True
        cdef uint32_t i
        for i in range(self._e.n_slots):
            if self._e.slots[i].conn is not NULL:
                fws_conn_cut_off(self._e, self._e.slots[i].conn)
        self._reap()
        cdef Topic topic
        for topic in self._topics.values():
            topic._t = NULL
        fws_engine_free(self._e)
        self._e = NULL
        self._raise_interrupt()

    # What it holds.

    @property
    def connections(self):
        """Connections that the owner has heard of, in a list."""
        return [c for c in self._connections if c is not None]

    def all_connections(self):
        """Return also those that have not sent a whole request; `on_close` follows for them too."""
        self._check()
        cdef uint32_t i
        cdef fws_conn *c
        cdef list found = []
        for i in range(self._e.n_slots):
            c = self._e.slots[i].conn
            if c is not NULL and c.state != FWS_DEAD:
                found.append(self._binding(c))
        return found

    @property
    def live(self):
        """Sockets held, also those that are not WebSockets."""
        return 0 if self._e is NULL else self._e.live

    def counters(self):
        """Return what was counted since the start, by name."""
        self._check()
        return of_engine(&self._e.counters)

    def laggards(self, int n):
        """Return [(connection, account)] of the n open subscribers furthest behind in bytes."""
        cdef uint32_t i
        cdef fws_conn *c
        cdef fws_sub *sub
        cdef uint64_t size, behind
        cdef list found = []
        self._check()
        for i in range(self._e.n_slots):
            c = self._e.slots[i].conn
            if c is NULL or c.state == FWS_DEAD or c.subs is NULL:
                continue
            behind = 0
            sub = c.subs
            while sub is not NULL:
                fws_sub_pending(sub, &size)
                behind += size
                sub = sub.next
            found.append((behind, i))
        return [
            (self._binding(self._e.slots[i].conn), of_connection(self._e, self._e.slots[i].conn))
            for _, i in nlargest(n, found)
        ]

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
        return c is not NULL and c.state < FWS_OPEN

    def over_limit(self, Connection connection not None):
        """Whether it was accepted beyond `max_connections`: respond with 503."""
        cdef const fws_conn *c = self._peek(connection)
        return c is not NULL and c.over_limit

    def over_address(self, Connection connection not None):
        """Whether it was accepted beyond `max_per_address`: respond with 429."""
        cdef const fws_conn *c = self._peek(connection)
        return c is not NULL and c.over_address

    # The built-in source.

    def start_source(self, Topic topic not None, *, uint64_t seed, str format="json",
                     str fields="base", str late="burst"):
        """Generate ticks into the topic while it has subscribers; the rate is 0 at first.

        Args:
            seed: of the random walk.
            format: "json" or "binary".
            fields: "base", or "seq" for ticks that also carry seq and tsNs.
            late: what is done with ticks more than 10 ms overdue: "burst", "smooth", "skip".
        """
        self._check()
        if topic.engine is not self:
            raise ValueError("the topic belongs to another engine")
        fws_source_init(&self._e.source, topic._t, seed,
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
        fws_ticks_set_format(&self._e.source.ticks,
                             <fws_tick_format>one_of("format", FORMATS, format))

    def pacing(self):
        """Return how exactly the source keeps its rate: counts, ppm, microseconds."""
        self._check()
        return of_source(&self._e.source.pace)

    # The load client's meter.

    def meter(self, Connection connection not None):
        """Count its data messages in the engine's meter; they are not raised any more.

        Raises:
            ConnectionClosed: the connection has ended.
            ValueError: the connection belongs to another engine.
        """
        cdef fws_conn *c = self._conn(connection)
        self._done(fws_conn_meter(self._e, c))

    def metered_of(self, Connection connection not None):
        """Return (frames, bytes, gaps) that the meter counted; zeros when it has ended."""
        cdef const fws_conn *c = self._peek(connection)
        if c is NULL or c.metered is NULL:
            return (0, 0, 0)
        return (c.metered.frames, c.metered.bytes, c.metered.gaps)

    def numbered(self, Connection connection not None):
        """Whether the frames that the meter sampled carry seq."""
        cdef const fws_conn *c = self._peek(connection)
        return c is not NULL and c.metered is not NULL and c.metered.seen_seq

    def record_latency(self, bint recording):
        """Start recording latencies (what was recorded is cleared), or stop."""
        self._check()
        if self._e.meter is not NULL:
            if recording:
                fws_hist_clear(&self._e.meter.latency)
            self._e.meter.recording = recording

    def metered(self):
        """Return what the meter counted over all metered connections; latencies in ms."""
        self._check()
        return of_meter(self._e.meter)
