/* One peer: its socket, what it sent that is not whole yet, and what it still has to get.
 * Layer 3. Owned by its engine from accept (or attach) to the end of the turn in which
 * it dies; everything here is touched by the engine's driver only.
 */
#ifndef FWS_CONN_H
#define FWS_CONN_H

#include <netinet/in.h>
#include <sys/uio.h>

#include "log/log.h"
#include "wire/message.h"
#include "bench/meter.h"
#include "log/outbox.h"
#include "log/variant.h"

struct fws_engine;
struct fws_topic;

enum fws_state {
    FWS_HTTP = 0, /* collecting an HTTP head (client role: the answer) */
    FWS_WAITING,  /* the head went up; nothing is parsed until it is decided on */
    FWS_BODY,     /* collecting an HTTP body */
    FWS_OPEN,     /* WebSocket */
    FWS_CLOSING,  /* our Close is queued or sent; the peer's is awaited */
    FWS_LINGER,   /* writing is (about to be) shut down; what comes is thrown away */
    FWS_DEAD      /* unlinked; freed at the end of the turn */
};

/* Frames that a socket had taken once it had taken that many bytes. */
typedef struct fws_mark {
    uint64_t bytes, frames;
} fws_mark;

#define FWS_MARKS 32

/* A reader's place in one topic's log, and its account. For each subscription, at any
 * turn's boundary: head - start = delivered + conflated + dropped + pending. */
typedef struct fws_sub {
    struct fws_topic *topic;
    struct fws_conn *conn;
    const fws_log *log;         /* what it reads: the topic's, or for now its variant's */
    fws_variant *variant;       /* NULL: it reads the topic's log. Else its place is its sequence
                               number, and log and planned are found anew for each plan */
    struct fws_sub *next;       /* of the same connection */
    uint64_t flushed_epoch;     /* last pass of the topic that visited it */
    fws_cursor cursor, planned; /* next frame to send; the same while a plan is made */
    uint64_t delivered;         /* whole frames handed to the kernel */
    fws_mark *marks;            /* up to FWS_MARKS, oldest first, while frames are unacknowledged */
    uint32_t n_marks;
    uint32_t member; /* place in topic->members */
    bool partial;    /* one frame of it is half sent */
    uint8_t on_slow; /* enum fws_on_slow */
    /* A pass touches what stands above. */
    uint64_t max_lag_bytes;
    uint64_t start; /* sequence number of the first frame published to it */
    uint64_t dropped, conflated;
    uint64_t acknowledged; /* frames the peer's kernel confirmed, as of the last look */
} fws_sub;

#define FWS_SUB_HOT offsetof(fws_sub, max_lag_bytes)

/* Frames of a subscription that is gone, not confirmed when it went. */
typedef struct fws_parted {
    struct fws_parted *next;
    struct fws_topic *topic;
    uint64_t bytes, frames; /* confirmed once the peer has confirmed that many bytes */
} fws_parted;

/* The part of a frame that a short write left behind; it leaves before anything else. */
typedef struct fws_partial {
    const uint8_t *data; /* NULL: none */
    uint32_t n, sent;
    fws_slab *pinned; /* data lies in it; NULL: data is the connection's own copy */
    fws_sub *sub;     /* NULL once unsubscribed */
    struct fws_topic *topic;
} fws_partial;

typedef struct fws_link {
    struct fws_link *next, *previous;
} fws_link;

/* Bytes received and not parsed: a head or body in the making, or what was left over when a
 * turn's events were full. */
typedef struct fws_inbuf {
    uint8_t *data;
    uint32_t n, capacity, scanned;
} fws_inbuf;

#define FWS_ANY_MESSAGES UINT16_MAX

typedef struct fws_conn {
    int fd;
    uint16_t credit;     /* messages that the owner takes before it is asked again; 0: it is not
                               read from; FWS_ANY_MESSAGES: no limit */
    uint8_t state;       /* enum fws_state */
    uint8_t role;        /* enum fws_role */
    uint8_t window_bits; /* of what is compressed for the peer; 0: nothing is (RFC 7692) */
    bool blocked;        /* the socket was full; EPOLLOUT clears it */
    bool lagging;        /* blocked since it last had everything: policies look at it */
    bool retry;          /* blocked for want of kernel memory: the sweep tries again */
    bool hung_up;        /* the peer will send no more: read up to the end */
    bool finish;         /* shut writing down once everything is sent */
    bool ending;         /* it ends at the next flush, after this turn's messages are handled */
    bool slow;           /* ending as a slow consumer: what has not begun to leave is dropped */
    bool read_paused;    /* not read until it has taken more of its answers, HTTP or not */
    bool over_address;   /* one too many of its address: to be refused */
    bool over_limit;     /* one too many in all: to be refused */
    bool answered;       /* it has had an HTTP answer */
    bool counted;        /* in the engine's peers */
    bool close_sent;     /* the Close frame has left */
    bool acknowledges;   /* a TCP socket: the kernel can say what the peer confirmed */
    uint64_t progress;   /* when the kernel last took bytes, or first refused some, ns */
    uint64_t caught_up;  /* when nothing was left to send to it, ns */
    uint64_t bytes_written;
    fws_sub *subs;
    fws_partial partial;
    fws_outbox outbox;
    /* A pass touches what stands above. */
    uint64_t id;           /* generation << 32 | slot */
    fws_link ready, dirty; /* in the engine's lists; next NULL: not in it */
    struct fws_conn *next_dead;
    uint16_t close_code;      /* how it ended: the peer's code, else ours, else 1006 */
    uint16_t ending_code;     /* ending: the code of the Close to send; 0: none, just end */
    uint64_t deadline;        /* ns; 0: none; what it means depends on the state */
    uint64_t ping_at;         /* OPEN: when the next ping is due, ns */
    uint64_t pong_by;         /* when its answer is; 0: none is awaited */
    uint64_t ping_confirmed;  /* bytes the peer had confirmed when that was set */
    uint64_t message_since;   /* first byte of a message that is not whole; 0: none */
    uint64_t write_since;     /* blocked: the present window of write_ns began; 0: not blocked */
    uint64_t write_confirmed; /* bytes confirmed at that time */
    uint32_t body_n;          /* BODY: bytes wanted */
    uint32_t lingered;        /* LINGER: bytes thrown away since writing was shut down */
    fws_inbuf inbuf;
    fws_parted *parted; /* what it may still confirm of subscriptions that are gone */
    uint64_t messages_in;
    uint32_t reason_n;
    uint8_t reason[FWS_REASON_MAX]; /* of the close */
    fws_metered *metered;       /* not NULL: data messages are counted there and go no further */
    struct sockaddr_in6 remote; /* sin6_family AF_INET: holds a sockaddr_in */
    fws_reader reader;
} fws_conn;

#define FWS_CONN_HOT offsetof(fws_conn, id)

#define FWS_PLAN_RUNS 64
#define FWS_PLAN_BYTES 262144u /* one call's worth; one frame may be larger */
#define FWS_PARTIAL_COPY 4096u /* a larger rest of a frame alone in its slab holds that slab */

enum fws_run_kind { FWS_RUN_PARTIAL, FWS_RUN_ENTRY, FWS_RUN_LOG };

typedef struct fws_run {
    uint8_t kind;
    uint32_t first, last; /* LOG: frames [first, last) */
    size_t bytes;
    fws_sub *sub;
    fws_slab *slab;
} fws_run;

/* What one call would send: iov[i] holds the bytes of runs[i]. */
typedef struct fws_plan {
    uint32_t n;
    size_t bytes;
    struct iovec iov[FWS_PLAN_RUNS];
    fws_run runs[FWS_PLAN_RUNS];
} fws_plan;

/* What leaves next, in order: the rest of a half-sent frame, control frames, then direct
 * messages and the frames of all subscriptions merged by engine sequence, up to
 * FWS_PLAN_BYTES (at least one frame) and never past a Close. Moves no cursor. */
void fws_gather(fws_conn *conn, fws_plan *plan);

/* Says that the first `sent` bytes of the plan, which must be the last one made for
 * this connection, were taken. Moves cursors, counts whole frames, keeps the rest. */
void fws_commit(fws_conn *conn, const fws_plan *plan, size_t sent);

/* Whether anything waits to be sent. */
bool fws_conn_pending(const fws_conn *conn);

/* Frees the rest, and counts its frame as dropped. */
void fws_partial_drop(fws_partial *partial);

#endif
