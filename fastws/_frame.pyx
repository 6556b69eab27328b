# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""Frames and fan-out: the Engine, and every other face by its name.

Layer 4. Owns one fws_engine and, for each connection that the owner has heard of, one
Connection object in a list by slot; the C side never sees a PyObject. A Connection lets go
of its fws_conn when the engine reaps it. The core is changed from here only, whoever asks
(`_frame.pxd`), and the only `with nogil` of the project is here.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.unicode cimport PyUnicode_DecodeUTF8
cimport cython
from libc.errno cimport errno

from fastws cimport _account, _connection, _topic
from fastws._codec cimport one_of
from fastws.native cimport *

from heapq import nlargest
import os

from fastws._codec import FIELDS, FORMATS, Frame, Ticks
from fastws._connection import Connection, check_close
from fastws._topic import Topic
from fastws.errors import ConnectionClosed, LogFull

_INTERRUPTS = (KeyboardInterrupt, SystemExit)
_LATE = {"burst": FWS_LATE_BURST, "smooth": FWS_LATE_SMOOTH, "skip": FWS_LATE_SKIP}
cdef enum:
    MIB = 1048576
    GIL_WORTH = 64  # sends below which letting go of the GIL costs more than it gives


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


@cython.final
cdef class Engine:
    """All peers and their poller. One thread drives it, by `turn`.

    The owner sets `on_head(connection, head)`, `on_head_limit(connection, part)`,
    `on_body(connection, body)`, `on_message(connection, message)` and `on_close(connection)`,
    all called inside `turn`; `on_error(connection, exception)` hears of what they raise, and of an
    `on_message` that returns anything but None, which nobody would await. A request need not be
    decided on at once; when it is not by the handshake's end, `on_undecided(connection)` may still
    answer (None: it is cut off), and who hangs up meanwhile is gone.
    `schedule()` is called, once until the next turn, when something waits to be sent outside
    of a turn.

    Args:
        head_limit: bytes of an HTTP head, 256 to 65,536.
        max_connections: sockets held at once; up to 64 more get an HTTP answer, the rest are
            closed when accepted. `Connection.over_limit` tells which they are.
        handshake_timeout, keep_alive_timeout, close_timeout, max_stall: seconds.
        ping_interval: seconds between pings, up to a tenth less at random; 0: none.
        pong_timeout: seconds to answer one; bytes confirmed meanwhile begin it anew.
        message_timeout: seconds from a message's first byte to its last, else 1008; 0: no limit.
        write_timeout: seconds in which a peer whose socket is full must confirm 1 KiB; 0: no
            limit.
        max_per_address: sockets of one address (IPv6: of one /64); 0: no limit. Up to 64 more get
            an HTTP answer: `Connection.over_address` tells which they are.
        max_message_size: bytes of a message received, all fragments together.
        max_fragments: frames of one.
        outbox_limit: bytes of direct sends waiting for one connection past which `send` raises
            LogFull; past a quarter of it the peer is not read from.
        notsent_lowat: bytes that the kernel holds unsent for a peer that does not read
            (TCP_NOTSENT_LOWAT); 0 leaves it to the kernel.
    """

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
        """Accept on it no more."""
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
        return self._face(c)

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
        cdef fws_topic_options options = _topic.topic_options(on_slow, max_lag_bytes,
                                                              retention_bytes)
        cdef _topic.Topic topic = _topic.Topic.__new__(_topic.Topic)
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
        """Wait up to timeout seconds (None: for ever), then receive, handle, send and bury.

        Returns:
            Whether more work is left that no event will announce: call again soon.

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
        """Send what waits, now, for at most about 2 ms; the rest goes with the next turn."""
        self._check()
        if not self._in_turn:
            self._flush()
            self._schedule_flush()

    cdef object _face(self, fws_conn *c):
        cdef Py_ssize_t index = <Py_ssize_t>(c.id & 0xFFFFFFFF)
        cdef _connection.Connection connection
        while len(self._connections) <= index:
            self._connections.append(None)
        connection = self._connections[index]
        if connection is None:
            connection = _connection.Connection.__new__(_connection.Connection)
            connection._c = c
            connection.engine = self
            connection.id = c.id
            self._connections[index] = connection
        return connection

    cdef int _deliver(self, fws_event *event) except -1:
        if event.conn.state == FWS_DEAD:
            return 0
        connection = self._face(event.conn)
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
                pass  # nothing else leaves a turn; whoever cannot handle errors loses the connection
        connection.abort()
        return 0

    cdef int _raise_interrupt(self) except -1:
        interrupt, self._interrupt = self._interrupt, None
        if interrupt is not None:
            raise interrupt
        return 0

    cdef int _reap(self) except -1:
        cdef fws_conn *c = self._e.first_dead
        cdef _connection.Connection connection
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
        cdef _topic.Topic topic
        for topic in self._topics.values():
            topic._t = NULL
        fws_engine_free(self._e)
        self._e = NULL
        self._raise_interrupt()

    # What it holds.

    @property
    def connections(self):
        """Connections that the owner has heard of."""
        return [c for c in self._connections if c is not None]

    def all_connections(self):
        """Those too that have not sent a whole request; the owner hears of their end from now on."""
        self._check()
        cdef uint32_t i
        cdef fws_conn *c
        cdef list found = []
        for i in range(self._e.n_slots):
            c = self._e.slots[i].conn
            if c is not NULL and c.state != FWS_DEAD:
                found.append(self._face(c))
        return found

    @property
    def live(self):
        """Sockets held, raw ones included."""
        return 0 if self._e is NULL else self._e.live

    def counters(self):
        """Return what was counted since the start, by name."""
        self._check()
        return _account.of_engine(&self._e.counters)

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
            (self._face(self._e.slots[i].conn), self._account_of(self._e.slots[i].conn))
            for _, i in nlargest(n, found)
        ]

    # What Topic and Connection ask for.

    cdef int _set_policy(self, fws_topic *t, const fws_topic_options *options) except -1:
        self._check()
        fws_topic_set_options(t, options)
        return 0

    cdef dict _account_of_topic(self, fws_topic *t):
        cdef uint32_t i
        self._check()
        for i in range(t.n):
            fws_conn_acknowledge(self._e, t.members[i].conn)
        return _account.of_topic(t)

    cdef int _respond(self, fws_conn *c, bytes data, bint keep_alive) except -1:
        return self._done(fws_conn_respond(self._e, c, <const uint8_t *>PyBytes_AS_STRING(data),
                                           len(data), keep_alive))

    cdef int _upgrade(self, fws_conn *c, bytes data, unsigned window_bits) except -1:
        cdef int status = FWS_OK
        if window_bits != 0:
            status = fws_conn_deflate(self._e, c, window_bits)
        if status == FWS_OK:
            status = fws_conn_upgrade(self._e, c, <const uint8_t *>PyBytes_AS_STRING(data),
                                      len(data))
        return self._done(status)

    cdef int _expect_body(self, fws_conn *c, uint32_t n, bytes data) except -1:
        return self._done(fws_conn_expect_body(self._e, c, n,
                                               <const uint8_t *>PyBytes_AS_STRING(data),
                                               len(data)))

    cdef int _allow(self, fws_conn *c, uint16_t messages) except -1:
        fws_conn_credit(self._e, c, messages)
        return self._done(FWS_OK)

    cdef int _meter(self, fws_conn *c) except -1:
        return self._done(fws_conn_meter(self._e, c))

    cdef int _kill(self, fws_conn *c) except -1:
        fws_conn_kill(self._e, c, 1006)
        return self._done(FWS_OK)

    cdef tuple _remote(self, const fws_conn *c):
        cdef char host[46]
        cdef uint16_t port = fws_conn_remote(c, host, sizeof(host))
        return ((<bytes>host).decode("ascii"), port)

    cdef dict _account_of(self, fws_conn *c):
        fws_conn_acknowledge(self._e, c)
        return _account.of_connection(c, self._e.sys.monotonic())

    # The built-in source.

    def start_source(self, _topic.Topic topic not None, *, uint64_t seed, str format="json",
                     str fields="base", str late="burst"):
        """Generate ticks into the topic while somebody is subscribed; begins at rate 0.

        Args:
            seed: of the random walk.
            format: "json" or "binary".
            fields: "base", or "seq" for ticks that also carry seq and tsNs.
            late: what becomes of ticks more than 10 ms overdue: "burst", "smooth", "skip".
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
        """Change the ticks' format; the walk goes on."""
        self._check()
        fws_ticks_set_format(&self._e.source.ticks,
                             <fws_tick_format>one_of("format", FORMATS, format))

    def pacing(self):
        """Return how well the source keeps its time: counts, ppm, microseconds."""
        self._check()
        return _account.of_source(&self._e.source.pace)

    # The load client's meter.

    def record_latency(self, bint recording):
        """Start (forgetting what was recorded) or stop recording latencies."""
        self._check()
        if self._e.meter is not NULL:
            if recording:
                fws_hist_clear(&self._e.meter.latency)
            self._e.meter.recording = recording

    def metered(self):
        """Return what the meter counted over all metered connections; latencies in ms."""
        self._check()
        return _account.of_meter(self._e.meter)
