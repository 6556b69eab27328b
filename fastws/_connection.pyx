# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The face of a connection: deciding on its requests, sending, closing, subscribing.

Layer 4. Owns nothing: the engine owns the fws_conn and takes it away when it reaps it; this
reads it, and every change goes through the engine.
"""

cimport cython
from libc.stdint cimport uint16_t, uint32_t

from fastws._codec cimport payload_of
from fastws._frame cimport Engine
from fastws._topic cimport Topic
from fastws.native cimport *

from fastws.errors import ConnectionClosed


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


@cython.final
cdef class Connection:
    """One peer, from its first complete HTTP head to its end. Made by the engine.

    `state` is the owner's to use. `close_code` and `reason` are set once it has ended:
    the peer's, else ours, else 1006.
    """

    def __init__(self):
        raise TypeError("a Connection is made by the engine, which hands it to the handlers")

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

    def respond(self, bytes data not None, *, bint keep_alive):
        """Answer the HTTP request that was raised; closes behind it unless keep_alive.

        An answer that closes may also come before its request is whole.

        Raises:
            ConnectionClosed: no request of it is waiting for an answer.
        """
        self.engine._respond(self._open(), data, keep_alive)

    def upgrade(self, bytes data not None, *, unsigned window_bits=0):
        """Send the 101 (client role: nothing) and speak WebSocket from here on.

        Args:
            window_bits: permessage-deflate was agreed on (RFC 7692), without context takeover
                on either side: 9..15, for what is sent. 0: it was not.

        Raises:
            ValueError: other window_bits, or a build without zlib.
        """
        self.engine._upgrade(self._open(), data, window_bits)

    def expect_body(self, uint32_t n, bytes data not None=b""):
        """Ask for n (1 up) bytes of request body; they come through `on_body`.

        Args:
            data: sent first (a 100 Continue).
        """
        self.engine._expect_body(self._open(), n, data)

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

    def close(self, code=1000, str reason not None=""):
        """Begin the closing handshake (RFC 6455 7.1.2) behind what was sent and published.

        Safe from any thread; from one that does not drive, what goes wrong but for the arguments
        is counted (`staged_refused`), not raised.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999; 1005: a Close without code and reason.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: a code that must not be sent, or a reason that is too long.
            ConnectionClosed: the connection is not a WebSocket.
            LogFull: from another thread: 4 MiB are staged.
        """
        cdef fws_command command
        check_close(code, reason)
        payload_of(reason, &command.data, &command.n, &command.opcode)
        command.code = code
        self._command(&command, FWS_CMD_CLOSE)

    def abort(self):
        """End it now, without a word."""
        if self._c is not NULL:
            self.engine._kill(self._open())

    def subscribe(self, Topic topic not None):
        """Get what is published to the topic from now on; idempotent. Safe from any thread."""
        self._membership(FWS_CMD_SUBSCRIBE, topic)

    def unsubscribe(self, Topic topic not None):
        """Get no more of it: what is pending counts as dropped. Idempotent, from any thread."""
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
        """Leave what it sends in the kernel, so that the peer is held by its window.

        Closing it ends the pause.

        Args:
            after: messages (0 to 65,534) that may still come first; `handler_queue_full` counts
                when they have.
        """
        self.engine._allow(self._open(), after)

    def resume_reading(self):
        """Read on."""
        self.engine._allow(self._open(), FWS_ANY_MESSAGES)

    def meter(self):
        """Count its data messages in the engine's meter; they raise no event any more."""
        self.engine._meter(self._open())

    @property
    def remote(self):
        """(host, port) of the peer; ("", 0) for a Unix socket, or when it has ended."""
        return ("", 0) if self._c is NULL else self.engine._remote(self._c)

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
