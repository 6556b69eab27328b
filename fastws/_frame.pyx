# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The faces of the native core: Topic, Connection, Engine (with those of _codec beside them).

Floor 4. Owns one fws_engine and, for each connection that the owner has heard of, one
Connection object in a list by slot; the C side never sees a PyObject. A Connection lets go
of its fws_conn when the engine reaps it. The only `with nogil` of the project is here.
"""

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.unicode cimport PyUnicode_DecodeUTF8
cimport cython
from libc.errno cimport errno

from fastws cimport _account
from fastws._codec cimport one_of, payload_of
from fastws.native cimport *

from heapq import nlargest
import os

from fastws._codec import FIELDS, FORMATS, Frame, Ticks
from fastws.errors import ConnectionClosed, LogFull

_ON_SLOW = {"close": FWS_SLOW_CLOSE, "latest": FWS_SLOW_LATEST, "lossless": FWS_SLOW_LOSSLESS}
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
cdef class Topic:
    """A stream that connections subscribe to. Made by `Engine.topic`; lives as long as it."""

    cdef fws_topic *_t
    cdef readonly Engine engine
    cdef readonly str name

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
        cdef fws_topic_options options = _topic_options(on_slow, max_lag_bytes, retention_bytes)
        self.engine._check()
        fws_topic_set_options(self._t, &options)

    def account(self):
        """Return the counts of the topic, in messages over all its subscriptions ever.

        published = delivered + conflated + dropped + pending, where pending is counted from
        cursors and log, not derived (but for compressed subscriptions, which have no cursor). `acknowledged`: confirmed by the peers' kernels; always 0
        for Unix sockets. `appended`: messages in the log's whole life.
        """
        cdef uint32_t i
        self.engine._check()
        for i in range(self._t.n):
            fws_conn_acknowledge(self.engine._e, self._t.members[i].conn)
        return _account.of_topic(self._t)

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


cdef fws_topic_options _topic_options(str on_slow, uint64_t max_lag_bytes,
                                      uint64_t retention_bytes):
    cdef fws_topic_options options
    options.on_slow = <uint8_t>one_of("on_slow", _ON_SLOW, on_slow)
    if max_lag_bytes > retention_bytes:
        raise ValueError("max_lag_bytes must not exceed retention_bytes")
    options.max_lag_bytes = max_lag_bytes
    options.retention_bytes = retention_bytes
    return options


@cython.final
cdef class Connection:
    """One peer, from its first complete HTTP head to its end. Made by the engine.

    `state` is the owner's to use. `close_code` and `reason` are set once it has ended:
    the peer's, else ours, else 1006.
    """

    cdef fws_conn *_c  # NULL once reaped
    cdef readonly Engine engine
    cdef readonly object id
    cdef public object state
    cdef readonly int close_code
    cdef readonly str reason

    cdef fws_conn *_open(self) except NULL:
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

    cdef int _done(self, int status) except -1:
        if status < 0:
            raise _error(status)
        self.engine._schedule_flush()
        return 0

    def respond(self, bytes data not None, *, bint keep_alive):
        """Answer the HTTP request that was raised; closes behind it unless keep_alive.

        An answer that closes may also come before its request is whole.

        Raises:
            ConnectionClosed: no request of it is waiting for an answer.
        """
        cdef fws_conn *c = self._open()
        self._done(fws_conn_respond(self.engine._e, c, <const uint8_t *>PyBytes_AS_STRING(data),
                                    len(data), keep_alive))

    def upgrade(self, bytes data not None, *, unsigned window_bits=0):
        """Send the 101 (client role: nothing) and speak WebSocket from here on.

        Args:
            window_bits: permessage-deflate was agreed on (RFC 7692), without context takeover
                on either side: 9..15, for what is sent. 0: it was not.

        Raises:
            ValueError: other window_bits, or a build without zlib.
        """
        cdef fws_conn *c = self._open()
        cdef int status
        if window_bits != 0:
            status = fws_conn_deflate(self.engine._e, c, window_bits)
            if status < 0:
                raise _error(status)
        self._done(fws_conn_upgrade(self.engine._e, c, <const uint8_t *>PyBytes_AS_STRING(data),
                                    len(data)))

    def expect_body(self, uint32_t n, bytes data=b""):
        """Ask for n (1 up) bytes of request body; they come through `on_body`.

        Args:
            data: sent first (a 100 Continue).
        """
        cdef fws_conn *c = self._open()
        self._done(fws_conn_expect_body(self.engine._e, c, n,
                                        <const uint8_t *>PyBytes_AS_STRING(data), len(data)))

    def send(self, data):
        """Send one message to this peer alone: str as TEXT, bytes as BINARY.

        It keeps its place among what is published before and after. Safe from any thread; from
        one that does not drive, what goes wrong is counted (`staged_refused`), not raised.

        Raises:
            ConnectionClosed: the connection is not open.
            LogFull: more than `outbox_limit` bytes wait for this peer already.
        """
        cdef fws_command command
        payload_of(data, &command.data, &command.n, &command.opcode)
        self._command(&command, FWS_CMD_SEND)

    def close(self, uint16_t code=1000, str reason=""):
        """Begin the closing handshake (RFC 6455 7.1.2) behind what was sent and published.

        Raises:
            ValueError: a code that must not be sent, or a reason of more than 123 bytes.
            ConnectionClosed: the connection is not a WebSocket.
        """
        cdef fws_command command
        payload_of(reason, &command.data, &command.n, &command.opcode)
        command.code = code
        self._command(&command, FWS_CMD_CLOSE)

    def abort(self):
        """End it now, without a word."""
        if self._c is not NULL:
            self.engine._check()
            fws_conn_kill(self.engine._e, self._c, 1006)
            self.engine._schedule_flush()

    def subscribe(self, Topic topic not None):
        """Get what is published to the topic from now on; idempotent. Safe from any thread."""
        self._membership(FWS_CMD_SUBSCRIBE, topic)

    def unsubscribe(self, Topic topic not None):
        """Get no more of it: what is pending counts as dropped. Idempotent."""
        self._membership(FWS_CMD_UNSUBSCRIBE, topic)

    cdef int _membership(self, int kind, Topic topic) except -1:
        cdef fws_command command
        if topic.engine is not self.engine:
            raise ValueError("the topic belongs to another engine")
        command.topic = topic._t
        command.data = NULL
        command.n = 0
        return self._command(&command, kind)

    def pause_reading(self):
        """Leave what it sends in the kernel, so that the peer is held by its window."""
        fws_conn_pause(self.engine._e, self._open(), True)

    def resume_reading(self):
        """Read on."""
        fws_conn_pause(self.engine._e, self._open(), False)
        self.engine._schedule_flush()

    def meter(self):
        """Count its data messages in the engine's meter; they raise no event any more."""
        cdef int status = fws_conn_meter(self.engine._e, self._open())
        if status < 0:
            raise _error(status)

    @property
    def remote(self):
        """(host, port) of the peer; ("", 0) for a Unix socket, or when it has ended."""
        cdef char host[46]
        cdef uint16_t port
        if self._c is NULL:
            return ("", 0)
        port = fws_conn_remote(self._c, host, sizeof(host))
        return ((<bytes>host).decode("ascii"), port)

    @property
    def over_limit(self):
        """Whether it came when `max_connections` were here: answer 503."""
        return self._c is not NULL and self._c.over_limit

    @property
    def over_address(self):
        """Whether its address holds more sockets than `max_per_address`: answer 429."""
        return self._c is not NULL and self._c.over_address

    @property
    def is_http(self):
        """Whether it has not become a WebSocket, and its last answer was not its last."""
        return self._c is not NULL and self._c.state < FWS_OPEN

    @property
    def is_open(self):
        """Whether it speaks WebSocket and neither side has begun to close."""
        return self._c is not NULL and self._c.state == FWS_OPEN

    @property
    def buffered_amount(self):
        """Bytes of direct sends that wait in user space."""
        return self._c.outbox.bytes if self._c is not NULL else 0

    @property
    def metered(self):
        """(frames, bytes, gaps) counted by the meter; zeros without one."""
        if self._c is NULL or self._c.metered is NULL:
            return (0, 0, 0)
        return (self._c.metered.frames, self._c.metered.bytes, self._c.metered.gaps)

    @property
    def numbered(self):
        """Whether the frames that the meter looked into carry seq."""
        return self._c is not NULL and self._c.metered is not NULL and self._c.metered.seen_seq

    def account(self):
        """Return its counts over its present subscriptions, and its lag.

        published = delivered + conflated + dropped + pending, in messages. `acknowledged` is
        None on Unix sockets. `lag_seconds`: how long the oldest pending message
        has been waiting, at most (times are known by the slab of the log); 0 without one.
        """
        return self.engine._account_of(self._open())


@cython.final
cdef class Engine:
    """All peers and their poller. One thread drives it, by `turn`.

    The owner sets `on_head(connection, head)`, `on_head_limit(connection, part)`,
    `on_body(connection, body)`, `on_message(connection, message)` and `on_close(connection)`,
    all called inside `turn`; `on_error(connection, exception)` hears of what they raise.
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

    cdef fws_engine *_e
    cdef list _connections
    cdef dict _topics
    cdef bint _in_turn, _scheduled, _closing
    cdef public object on_head, on_head_limit, on_body, on_message, on_close, on_error, schedule

    def __cinit__(self, *, uint32_t head_limit=16384, uint32_t max_connections=10000,
                  double handshake_timeout=10.0, double keep_alive_timeout=30.0,
                  double close_timeout=5.0, double max_stall=5.0, double ping_interval=20.0,
                  double pong_timeout=20.0, double message_timeout=60.0,
                  double write_timeout=30.0, uint32_t max_per_address=0,
                  uint64_t max_message_size=MIB, uint32_t max_fragments=16384,
                  uint32_t outbox_limit=MIB, int notsent_lowat=16384):
        cdef fws_options options
        options.head_limit = min(max(head_limit, 256), MIB)
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
            retention_bytes: at least max_lag_bytes; user memory that the log may hold.
        """
        if name in self._topics:
            return self._topics[name]
        self._check()
        cdef fws_topic_options options = _topic_options(on_slow, max_lag_bytes, retention_bytes)
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
        """Wait up to timeout seconds (None: for ever), then receive, handle, send and bury.

        Returns:
            Whether more work is left that no event will announce: call again soon.
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
        return fws_engine_more(self._e)

    def flush(self):
        """Send what waits, now, for at most about 2 ms; the rest goes with the next turn."""
        self._check()
        if not self._in_turn:
            self._flush()
            self._schedule_flush()

    cdef Connection _face(self, fws_conn *c):
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
        cdef Connection connection = self._face(event.conn)
        cdef const char *data = <const char *>event.data
        cdef Py_ssize_t n = <Py_ssize_t>event.n
        try:
            if event.kind == FWS_EVENT_MESSAGE:
                if self.on_message is None:
                    pass
                elif event.opcode == FWS_TEXT:
                    self.on_message(connection, PyUnicode_DecodeUTF8(data, n, NULL))
                else:
                    self.on_message(connection, data[:n])
            elif event.kind == FWS_EVENT_HEAD:
                self.on_head(connection, data[:n])
            elif event.kind == FWS_EVENT_BODY:
                self.on_body(connection, data[:n])
            else:
                self.on_head_limit(connection, data[:n])
        except Exception as exception:
            self._failed(connection, exception)
        return 0

    cdef int _failed(self, Connection connection, exception) except -1:
        if self.on_error is not None:
            try:
                self.on_error(connection, exception)
                return 0
            except Exception:
                pass  # a turn never raises; whoever cannot handle errors loses the connection
        connection.abort()
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
            except Exception as exception:
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
                fws_conn_kill(self._e, self._e.slots[i].conn, 1006)
        self._reap()
        cdef Connection connection
        for connection in self.connections:  # those that nobody had heard of before
            connection._c = NULL
        self._connections.clear()
        cdef Topic topic
        for topic in self._topics.values():
            topic._t = NULL
        fws_engine_free(self._e)
        self._e = NULL

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

    cdef dict _account_of(self, fws_conn *c):
        fws_conn_acknowledge(self._e, c)
        return _account.of_connection(c, self._e.sys.monotonic())

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

    # The built-in source.

    def start_source(self, Topic topic not None, *, uint64_t seed, str format="json",
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
