/* All peers and their poller. Layer 3; with sys.c the only place that makes system calls.
 *
 * A turn is harvest (wait, sweep, accept), then the owner asks for events one by one
 * (fws_engine_next_event: receive, parse, answer pings and closes) and handles each before it asks
 * for the next, then flush, then the owner is told of dead connections (first_dead on), then reap.
 * Nothing is freed before reap, so a pointer to a connection is good for the turn. One thread
 * drives; a command from another thread is staged and applied at the start of the next turn, in
 * order.
 *
 * A turn is bounded by time, whoever spends it: what is not handled then has not been parsed
 * either. It stays in the kernel, or, the rest of one chunk, with its connection, in order.
 */
#ifndef FWS_ENGINE_H
#define FWS_ENGINE_H

#include "core/rate.h"
#include "core/source.h"
#include "core/sys.h"
#include "core/sub.h"

#define FWS_EVENTS 512           /* events of one turn */
#define FWS_RECEIVE_CHUNK 65536u /* most bytes of one connection in one turn; the receive buffer */
#define FWS_ACCEPT_BATCH 64      /* connections accepted in one turn */
#define FWS_HTTP_BATCH 32        /* reads of connections that are no WebSockets in one turn */
#define FWS_BATCH_MOST 1024u     /* frames of one message */
#define FWS_FLUSH_BYTES 262144u  /* published and waiting: flush at once */
#define FWS_TURN_NS 300000ULL    /* a flush gives way to new events after that */
#define FWS_MAX_TURN_NS \
    2000000ULL /* or that, while the source runs at max rate: 0.9 of the speed else */
#define FWS_EVENTS_NS 1000000ULL  /* receiving and handling events give way to a flush after that */
#define FWS_SLICE_NS 100000ULL    /* and one connection to others that are ready */
#define FWS_DEFLATE_NS 1000000ULL /* compressing a message: what is left of it then is stored */
#define FWS_SWEEP_NS 250000000ULL /* deadlines and policies are looked at that often */
#define FWS_SWEEP_TURN_NS 300000ULL /* and for about that long in one turn */
#define FWS_STRETCHES 5             /* times that the interval of pings grows, by a quarter: to */
#define FWS_PING_MOST_NS 50000000000ULL /* 2.5 of the shortest, at most this: proxies cut at 60 s */
#define FWS_LINGER_NS 1000000000ULL     /* and FWS_LINGER_BYTES: a lingering close */
#define FWS_UNREAD_NS 1000000000ULL /* until unread input is looked at; then to read up to an end */
#define FWS_UNREAD_BYTES 16384u     /* of it that are looked at */
#define FWS_LINGER_BYTES 65536u
#define FWS_STAGING_BYTES 4194304u /* commands of other threads waiting */
#define FWS_REFUSED_ROOM 64u       /* connections past a limit that still get an answer */
#define FWS_PROGRESS_BYTES 1024u   /* in each window of a time-out: less is no progress */
#define FWS_LISTENERS 8
#define FWS_EXEMPT_MOST 16

/* Addresses that begin with the same bits; IPv4 ones as mapped into IPv6. */
typedef struct fws_network {
    uint8_t address[16];
    uint8_t bits; /* 0 to 128 */
} fws_network;

typedef struct fws_options {
    uint32_t head_limit; /* bytes of an HTTP head */
    uint32_t max_connections;
    /* By address; IPv6: by /64. Unix sockets have none, and do not count. */
    uint32_t max_per_address; /* 0: no limit */
    uint64_t handshake_rate;  /* heads a second; 0: no limit, as for the other rates */
    uint32_t n_exempt;
    fws_network exempt[FWS_EXEMPT_MOST]; /* addresses that do not count */
    uint64_t message_rate;               /* messages, pings and pongs of one peer a second, and */
    uint64_t byte_rate; /* bytes, as they come in: past either it is not read from */
    /* Progress is FWS_PROGRESS_BYTES in each window of that length: who makes it has another
     * one. */
    uint64_t handshake_ns;  /* from accept, or a later request's first byte, to the end of its
                                   head and the decision on it; then in which a body progresses */
    uint64_t keep_alive_ns; /* from the end of an answer to the next request; answers progress */
    uint64_t close_ns;      /* from our Close to the end; what is queued before it progresses */
    uint64_t ping_ns;       /* between pings, the shortest (up to a tenth less, at random, before
                                   the first one up to half); it grows with each answer. 0: none */
    uint64_t pong_ns;       /* to answer one; bytes received or confirmed begin it anew; then Close
                                   1011, if it can leave at once, and the end */
    uint64_t message_ns;    /* in which a message ends or progresses; 0: no limit */
    uint64_t write_ns;      /* in which a blocked peer progresses; 0: no limit */
    uint64_t max_stall_ns;  /* a lossless subscriber that takes nothing */
    uint32_t outbox_limit;  /* bytes allocated for direct sends waiting for one connection, past
                                which no more are taken; past a quarter of it the peer is not read */
    uint32_t high_mark;     /* of the same, at most outbox_limit: past it a connection is full; a
                                quarter of it is the low mark, at which it has room again */
    int notsent_lowat;      /* TCP_NOTSENT_LOWAT, bytes; 0: the kernel's own */
    uint64_t max_log_bytes; /* allocated for all logs together; 0: no limit */
    uint64_t max_buffered_bytes; /* allocated for all else that waits: to be sent, to be put
                                    together, to be applied; 0: no limit */
    uint32_t max_subscriptions;  /* of one connection; 0: no limit */
    fws_limits limits;
} fws_options;

enum fws_event_kind {
    FWS_EVENT_HEAD = 0,   /* data: an HTTP head with its blank line */
    FWS_EVENT_HEAD_LIMIT, /* the head passed head_limit; data: its beginning */
    FWS_EVENT_BODY,       /* data: the body that fws_conn_expect_body() asked for */
    FWS_EVENT_MESSAGE,    /* data: a message of the given opcode */
    FWS_EVENT_PONG,       /* data: payload of a pong, while a ping of FWS_CMD_PING is unanswered */
    FWS_EVENT_UNDECIDED   /* no data: a HEAD or BODY was not decided on by the deadline; told at
                             every sweep until the owner answers or ends it */
};

typedef struct fws_event {
    fws_conn *conn;
    const uint8_t *data; /* good until the next event; HEAD, BODY: until it is decided on */
    size_t n;
    uint8_t *owned; /* freed when the next event is asked for */
    uint8_t kind, opcode;
} fws_event;

/* What a sweep reads of every connection; it touches those that are due only. */
typedef struct fws_slot {
    fws_conn *conn;      /* NULL: free */
    uint64_t due;        /* nothing of it is due earlier, engine time; UINT64_MAX: nothing is */
    uint32_t generation; /* of its present or next occupant */
    union {
        uint32_t next_free; /* free */
        uint32_t unacked;   /* else: whether the peer may have frames to confirm */
    };
} fws_slot;

typedef struct fws_counters {
    uint64_t accepted, refused, accept_failures, sends, send_failures, would_block, wakes;
    uint64_t handshake_timeouts, slow_closed, protocol_errors, staged_refused;
    uint64_t address_refused, pings, ping_timeouts, message_timeouts, write_timeouts;
    uint64_t keep_alive_timeouts, close_timeouts;
    uint64_t unread_ends; /* the end or the Close of one that is not read from was acted upon */
    uint64_t log_full;    /* messages that were not taken: a log's or an outbox's limit */
    uint64_t handler_queue_full; /* times a connection had brought all that fws_conn_credit() let */
    uint64_t deflated;           /* messages compressed, for however many */
    uint64_t lapped;             /* slabs taken from subscribers to keep within max_log_bytes */
    uint64_t buffered_closed;    /* connections closed to keep within max_buffered_bytes */
    uint64_t message_rate_paused, byte_rate_paused; /* times one was not read from for its rate */
    uint64_t handshakes_refused;                    /* heads past handshake_rate: 429 */
    uint64_t subscriptions_refused;                 /* past max_subscriptions */
} fws_counters;

/* Limits of which it is known who met them last. */
enum fws_limit_met {
    FWS_MET_PER_ADDRESS = 0,
    FWS_MET_HANDSHAKE_RATE,
    FWS_MET_MESSAGE_RATE,
    FWS_MET_BYTE_RATE,
    FWS_MET_KINDS
};

typedef struct fws_engine fws_engine;

/* engine.c */

/* An engine, or NULL with errno. All sizes in *options count as they are, except that head_limit
 * is at most FWS_RECEIVE_CHUNK. */
fws_engine *fws_engine_new(const fws_options *options, const fws_sys *sys);

/* Closes every connection at once and frees everything; listening sockets are only let go. In a
 * child (fws_engine_inherited()) it only closes its descriptors, and leaves the memory. */
void fws_engine_free(fws_engine *engine);

/* Takes over a connected (or connecting), non-blocking socket, in state HTTP, and sends data
 * (n may be 0) first. NULL: errno says why, and the socket is still the caller's. */
fws_conn *fws_engine_attach(fws_engine *engine, int fd, enum fws_role role, const uint8_t *data,
                            size_t n);

/* The topics: fws_topics_get() makes one. */
fws_topics *fws_engine_topics(fws_engine *engine);

/* turn.c */

/* Begins a turn: waits at most timeout_ms (-1: until something happens), looks at deadlines,
 * accepts. FWS_OK or FWS_E_SYSTEM. */
int fws_engine_harvest(fws_engine *engine, int timeout_ms);

/* The same without a look at the sockets: for a turn that was asked for to send what waits. */
void fws_engine_resume(fws_engine *engine);

/* The next event, good until the next call; NULL: there is none, or the turn's time is over, and
 * fws_engine_more() tells. Connections share the turn's time, FWS_SLICE_NS each at least, and one
 * message at least. Those that speak HTTP come first, for half of it. Those that took longer than
 * FWS_SLICE_NS when they were read last come last, but one of them in each turn. */
const fws_event *fws_engine_next_event(fws_engine *engine);

/* Whether the engine has work left that no socket will announce. */
bool fws_engine_more(const fws_engine *engine);

/* http.c */

/* Answers to a HEAD or BODY event; data[0..n) is sent (past max_buffered_bytes, instead of a
 * response above 1 KiB, a 503, and then the connection ends). All answer FWS_OK,
 * FWS_E_CLOSED when the connection is not waiting for it, FWS_E_NOMEM. body_n is 1 up. An answer
 * without keep_alive may come before the request is whole, once its first byte is there. */
int fws_conn_respond(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n,
                     bool keep_alive);
int fws_conn_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n);

/* The answer to an upgrade that was made without data, before anything else was done but to
 * subscribe the connection: it leaves first. FWS_OK or FWS_E_NOMEM. */
int fws_conn_answer_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n);
int fws_conn_expect_body(fws_engine *engine, fws_conn *conn, uint32_t body_n, const uint8_t *data,
                         size_t n);

/* receive.c */

/* Counts data messages in engine->meter instead of making events of them, from the first call on.
 * FWS_OK or FWS_E_NOMEM. */
int fws_conn_meter(fws_engine *engine, fws_conn *conn);

/* send.c */

/* Compresses for it with a window of that many bits (FWS_WINDOW_MIN..MAX, else FWS_E_INVALID, as
 * in a build without zlib), and takes compressed messages. Goes before fws_conn_upgrade(). */
int fws_conn_deflate(fws_engine *engine, fws_conn *conn, unsigned window_bits);

/* A WebSocket frame of our own for one connection, masked in the client role. */
int fws_conn_push_frame(fws_engine *engine, fws_conn *conn, uint8_t opcode, uint64_t eseq,
                        const uint8_t *data, size_t n);

/* accept.c */

/* Accepts on a listening, non-blocking socket, which stays the caller's. */
int fws_engine_listen(fws_engine *engine, int fd);
void fws_engine_unlisten(fws_engine *engine, int fd);

/* conn.c */

/* The connection with that id, NULL when it is gone. */
fws_conn *fws_engine_find(const fws_engine *engine, uint64_t id);

/* Writes the peer's address to host (at least INET6_ADDRSTRLEN bytes; an IPv4-mapped one as
 * IPv4, "" for a Unix socket or an unknown peer) and returns its port. */
uint16_t fws_conn_remote(const fws_conn *conn, char *host, size_t n);

/* The same of the peer that met a limit last; "" as well where none has. */
uint16_t fws_engine_met_last(const fws_engine *engine, enum fws_limit_met limit, char *host,
                             size_t n);

/* How many messages of it become events from now on (0 up; FWS_ANY_MESSAGES: all); behind the last
 * one it is not read from, and handler_queue_full counts that. Our Close ends it. */
void fws_conn_credit(fws_engine *engine, fws_conn *conn, uint16_t messages);

static inline void fws_conn_pause(fws_engine *engine, fws_conn *conn, bool paused)
{
    fws_conn_credit(engine, conn, paused ? 0 : FWS_ANY_MESSAGES);
}

void fws_engine_mark_dirty(fws_engine *engine, fws_conn *conn);

/* buffers.c */

/* Bytes that max_buffered_bytes limits. */
uint64_t fws_engine_buffered(const fws_engine *engine);

/* Whether more than high_mark waits for it, by the measure of outbox_limit. */
bool fws_conn_full(const fws_engine *engine, const fws_conn *conn);

/* Asks for one notice that it has room: that a quarter of high_mark or less waits for it, which may
 * be so already. Asking again before the notice changes nothing. One that dies gets none. */
void fws_conn_want_room(fws_engine *engine, fws_conn *conn);

/* The next one that has asked and has room now, which takes its asking back; NULL: no more. In the
 * order in which they got room; O(1) each. */
fws_conn *fws_engine_next_room(fws_engine *engine);

/* close.c */

/* Ends a connection now: unlinked, shut down, on the dead list. */
void fws_conn_kill(fws_engine *engine, fws_conn *conn, uint16_t code);

/* The same with code 1006; a connection with unsent bytes is reset. */
void fws_conn_cut_off(fws_engine *engine, fws_conn *conn);

/* Frees the dead. The last step of a turn. */
void fws_engine_reap(fws_engine *engine);

/* Ends a connection at the next flush, after the messages of this turn were handled: the
 * subscriptions end, then Close with that code and reason goes out behind what was sent directly
 * (RFC 6455 7.1.7); code 1005: an empty Close; code 0: no Close, the peer is gone. */
void fws_conn_end(fws_engine *engine, fws_conn *conn, uint16_t code, const uint8_t *reason,
                  size_t reason_n);

/* Queues a Close frame in the order of publishing (1005: without a payload), and keeps its reason.
 * FWS_OK, FWS_E_NOMEM, or FWS_E_INVALID: a reason longer than FWS_REASON_MAX, or one with 1005. */
int fws_conn_push_close(fws_engine *engine, fws_conn *conn, uint16_t code, const uint8_t *reason,
                        size_t reason_n);

/* flush.c */

/* Sends what waits, for about budget_ns: topics are woken, connections sent to, the source run.
 * While the source runs at max rate it also waits for sockets, up to the budget, and stops when
 * one has something to read. */
void fws_engine_flush(fws_engine *engine, uint64_t budget_ns);

/* Whether a flush may wait for sockets, up to 1 ms: the source runs at max rate. */
bool fws_engine_waits(const fws_engine *engine);

/* The source's rate from now on, ticks/s (max: as fast as the slowest subscriber takes them). What
 * is due by now at the old rate is appended first, so that no change makes ticks missed. */
void fws_engine_set_rate(fws_engine *engine, uint64_t rate, bool max);

/* Wakes all subscriptions that have news: after that the pending ones are all that have any. */
void fws_engine_wake(fws_engine *engine);

/* account.c */

/* Asks the kernel what the peer has confirmed, for every subscription of it. */
void fws_conn_acknowledge(fws_engine *engine, fws_conn *conn);

/* sweep.c */

/* A portion of a pass over all connections: deadlines, pings, policies of blocked members,
 * stalled lossless ones. A pass begins every FWS_SWEEP_NS and goes on in the turns that follow.
 * Deadlines are in engine time, which stands still while the engine itself is late. */
void fws_engine_sweep(fws_engine *engine);

/* command.c */

enum fws_command_kind {
    FWS_CMD_SUBSCRIBE = 0,
    FWS_CMD_UNSUBSCRIBE,
    FWS_CMD_PUBLISH,
    FWS_CMD_SEND,
    FWS_CMD_CLOSE,
    FWS_CMD_UNREF,         /* the owner's reference to a topic; never refused */
    FWS_CMD_SUBSCRIBE_ALL, /* to all topics that begin so */
    FWS_CMD_UNSUBSCRIBE_ALL,
    FWS_CMD_PING /* ahead of what waits; it is answered by a pong of its payload (5.5.3) */
};

typedef struct fws_command {
    uint8_t kind;   /* enum fws_command_kind */
    uint8_t opcode; /* PUBLISH, SEND: FWS_TEXT or FWS_BINARY */
    union {
        uint16_t code;  /* CLOSE */
        uint16_t batch; /* SUBSCRIBE: frames of one message at most; 0: one, without a batch */
    };
    bool since : 1;      /* SUBSCRIBE: it begins with the frame seq of that epoch, when the topic is
                            still the same and has it; without, and else: fws_topic_start() */
    bool envelope : 1;   /* SUBSCRIBE: frames in an envelope; what comes first is its position */
    uint16_t key_n;      /* PUBLISH: bytes of the key, at most FWS_KEY_MAX; 0: it has none.
                            SUBSCRIBE, SUBSCRIBE_ALL: of the names of keys that it wants, as
                            fws_filter_names() reads them; 0: it wants all frames */
    uint64_t epoch, seq; /* SUBSCRIBE, with since */
    uint64_t gap_ns;     /* SUBSCRIBE: between two flushes, at least; 0: no limit */
    fws_losses *losses;  /* SUBSCRIBE: tells what it loses; NULL: nobody does. Where the call is
                            refused it is the caller's again */
    const uint8_t *key;
    uint64_t conn;       /* id; PUBLISH: of the connection that is not to get it; 0: none */
    fws_topic *topic;    /* SUBSCRIBE, UNSUBSCRIBE, PUBLISH, UNREF: the caller holds a reference */
    const uint8_t *data; /* PUBLISH, SEND: payload; PING: the same, at most 125 bytes; CLOSE:
                            reason, at most 123 bytes; SUBSCRIBE: a fws_topic_options of its own,
                            or n = 0: the topic's; SUBSCRIBE_ALL: a
                            fws_wild_options */
    size_t n;
} fws_command;

/* One message for many connections. It is compressed once for each window that they have. */
typedef struct fws_shared {
    const uint8_t *data; /* the caller's, until fws_shared_clear() */
    size_t n;
    uint8_t opcode; /* FWS_TEXT or FWS_BINARY */
    struct fws_shrunk {
        uint8_t *data; /* NULL: it does not shrink */
        size_t n;
        bool known;
    } shrunk[FWS_WINDOWS]; /* by window bits */
} fws_shared;

/* Sends it directly, as FWS_CMD_SEND does; for the driving thread only. */
int fws_engine_send_shared(fws_engine *engine, fws_conn *conn, fws_shared *message);
void fws_shared_clear(fws_shared *message);

/* staging.c */

/* All changes of what clients get go through here. From the driving thread (and before there is
 * one) a command is applied at once: FWS_OK; 1 when so much is waiting that a flush is due now;
 * FWS_E_CLOSED, FWS_E_FULL (a lossless topic, max_log_bytes, outbox_limit, or max_buffered_bytes),
 * FWS_E_NOMEM, FWS_E_INVALID (so is a subscription in the client role: a topic's frames are not
 * masked, RFC 6455 5.1; and one with since, or with other keys or another encoding, where there is
 * one already). From another thread it is
 * copied and staged, and the engine woken: FWS_OK, or FWS_E_FULL when FWS_STAGING_BYTES wait, or
 * past max_buffered_bytes (staged_refused counts that). */
int fws_engine_command(fws_engine *engine, const fws_command *command);

/* Whether the caller is not the thread that drives: then only fws_engine_command() is safe. */
bool fws_engine_foreign(const fws_engine *engine);

/* The calling thread drives from here on. Without it the first one to take a turn does. The one
 * before must have ended, and no call be in progress. */
void fws_engine_drive(fws_engine *engine);

/* Whether this process is a child of the one that made the engine, by fork(2). Sockets and epoll
 * are shared with the parent, and another thread may have been in the middle of a change: nothing
 * but fws_engine_free() may be called; fws_engine_command() answers FWS_E_CLOSED. */
bool fws_engine_inherited(const fws_engine *engine);

/* Applies what other threads staged, in order, for FWS_TURN_NS: the first step of a turn. The rest
 * waits for the next one. */
void fws_engine_drain(fws_engine *engine);

#endif
