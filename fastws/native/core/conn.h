/* One peer: its socket, what it sent that is not whole yet, and what it still has to get.
 * Layer 3. Owned by its engine from accept (or attach) to the end of the turn in which
 * it dies; everything here is touched by the engine's driver only.
 */
#ifndef FWS_CONN_H
#define FWS_CONN_H

#include <netinet/in.h>
#include <sys/uio.h>

#include "bench/meter.h"
#include "log/filter.h"
#include "log/log.h"
#include "log/outbox.h"
#include "log/variant.h"
#include "wire/link.h"
#include "wire/message.h"

struct fws_engine;
struct fws_topic;
struct fws_topic_options;
struct fws_losses;

enum fws_state {
    FWS_HTTP = 0, /* collecting an HTTP head (client role: the answer) */
    FWS_WAITING,  /* the head went up; nothing is parsed until it is decided on */
    FWS_BODY,     /* collecting an HTTP body */
    FWS_OPEN,     /* WebSocket */
    FWS_CLOSING,  /* our Close is queued or sent; the peer's is awaited */
    FWS_DRAINING, /* what is queued is sent, then writing is shut down; what comes is thrown away */
    FWS_LINGER,   /* writing is shut down; what comes is thrown away */
    FWS_DEAD      /* unlinked; freed at the end of the turn */
};

/* Frames of one subscription's topic that it is not to get, in runs of consecutive ones. */
typedef struct fws_excluded {
    uint64_t total; /* ever */
    uint64_t ahead; /* of them, not passed yet */
    uint32_t n, capacity;
    struct {
        uint64_t seq, n;
    } runs[]; /* ascending */
} fws_excluded;

/* At most so many flushes of a subscription a second. A flush is what there is when it begins. */
typedef struct fws_max_rate {
    uint64_t gap_ns;   /* from one to the next; 0: there is no limit any more */
    uint64_t next_at;  /* when the next one may begin, ns */
    uint64_t flush_to; /* the one that runs ends before that frame; 0: none runs */
    uint32_t place;    /* in topics->resting, from 1 */
} fws_max_rate;

/* What only few subscriptions have. */
typedef struct fws_sub_extra {
    const struct fws_topic_options *options; /* its own policy; NULL: the topic's */
    fws_variant *variant;                    /* what it reads; NULL: the topic's log */
    fws_excluded *excluded;                  /* NULL: nothing ever was */
    fws_filter *filter;                      /* the keys that it wants; NULL: all frames */
    fws_max_rate *max_rate;                  /* NULL: it has none */
    uint64_t replay_to;   /* frames before that were there when it began: they are no lag, */
    uint64_t replay_eseq; /* and leave as if published with that engine sequence */
    uint64_t conflated;   /* frames left out for newer ones of their keys */
    /* It began with a snapshot: frames between its start and the head of that time that were no
     * newest ones, so that they were never published to it; of them, those not passed over yet. */
    uint64_t unpublished, unpublished_ahead;
    uint64_t lost_from, lost_to; /* frames [from, to) were lost, and the peer is not told yet */
    uint8_t lost_why;            /* enum fws_why, of the first ones */
    uint16_t batch;              /* frames that one message may hold; 0: one, without a batch */
    struct fws_losses *losses;   /* NULL: nobody wants to be told */
} fws_sub_extra;

/* Where a subscription began. */
enum fws_began {
    FWS_BEGAN_NOW = 0,  /* behind the newest frame, or with the retained one */
    FWS_BEGAN_SINCE,    /* behind the frame that it had asked for */
    FWS_BEGAN_TOO_LATE, /* that was not there any more: as FWS_BEGAN_NOW */
};

/* A reader's place in one topic, and its account. seq is the truth of its place; at any turn's
 * boundary head - start - excluded - unpublished = delivered + conflated + dropped + pending, where
 * delivered and pending follow from seq. With a filter, head, start and seq count as the frames of
 * its keys before them. While its connection gets it, it is a member of the topic,
 * either caught up or pending, and then it stands in the connection's heap. When it has ended it is
 * kept only for what the peer has not acknowledged. */
typedef struct fws_sub {
    struct fws_topic *topic;
    struct fws_conn *conn;
    uint64_t seq;         /* of the next frame to send */
    fws_sub_extra *extra; /* NULL: nothing of that */
    uint32_t slab;        /* the slab it counts on, the low bits of its id; pending only */
    uint32_t member;      /* place in topic->members */
    bool pending;         /* in the connection's heap */
    bool counted;         /* in slab->readers; when that slab was taken, in topic->lapped */
    bool ahead;           /* in topic->ahead instead: pending, though it had no news */
    uint16_t partial;     /* frames of it that are half sent, as one message; seq lies behind */
    bool left;            /* it has ended */
    bool listed;          /* in the connection's list of unacknowledged */
    bool spared;          /* in slab->unoffered though it lags: what it reads is a replay */
    bool resting;         /* pending, but in topics->resting instead of the heap: its max_rate */
    bool wild;            /* by a wildcard: in topic->wild */
    bool conflating;      /* it gets the newest frame of each key only, until it has caught up */
    uint8_t began;        /* enum fws_began */
    uint32_t id;          /* another one for each subscription of an engine, till it wraps */
    uint32_t unacked[2];  /* frames delivered that the peer has not confirmed: before the
                             connection's mark, after it */
    struct fws_sub *next_unacked;
    uint64_t start; /* sequence number of the first frame published to it */
    uint64_t dropped;
} fws_sub;

/* A pending subscription and the engine sequence of its next frame, at most. */
typedef struct fws_next {
    uint64_t eseq;
    fws_sub *sub;
} fws_next;

/* The part of a frame that a short write left behind; it leaves before anything else. */
typedef struct fws_partial {
    const uint8_t *data; /* NULL: none */
    uint32_t n, sent;    /* n 0: memory was out for it, and the connection has to end */
    fws_slab *pinned;    /* data lies in it; NULL: data is the connection's own copy */
    fws_sub *sub;        /* it may have left; NULL: a notice, no frames */
} fws_partial;

/* Bytes received and not parsed: a head or body in the making, or what was left over when its
 * time was up, or its credit. */
typedef struct fws_inbuf {
    uint8_t *data;
    uint32_t n, capacity, scanned;
} fws_inbuf;

/* What is kept of a control frame, made on demand. */
typedef struct fws_bytes {
    uint8_t n;
    uint8_t data[];
} fws_bytes;

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
    bool drained;        /* a read took all that there was, and no event has come since */
    bool broken;         /* it was reset: nothing comes or goes any more */
    bool end_unread;     /* not read from, and the peer's end or Close lies unread */
    bool ending;         /* it ends at the next flush, after this turn's messages are handled */
    bool slow;           /* ending as a slow consumer: what has not begun to leave is dropped */
    bool read_paused;    /* not read until it has taken more of its answers, HTTP or not */
    bool over_address;   /* one too many of its address: to be refused */
    bool over_limit;     /* one too many in all: to be refused */
    bool answered;       /* it has had an HTTP answer */
    bool overdue;        /* its deadline has passed. WAITING: its owner is to be told; HTTP, BODY:
                               what it has sent is still to be read */
    bool told_late;      /* WAITING: its owner has been told that it is overdue */
    bool costly;         /* its last reading took more than FWS_SLICE_NS */
    bool counted;        /* in the engine's peers */
    bool close_sent;     /* the Close frame has left */
    bool acknowledges;   /* a TCP socket: the kernel can say what the peer confirmed */
    bool asked_for;      /* its slot says that it has frames to confirm */
    bool wants_room;     /* its owner is to be told when little waits for it */
    bool throttled;      /* OPEN: not read from until its rates allow it */
    bool behind;         /* it was, and what it had sent by then has not all been read since */
    uint8_t pongs;       /* pings answered, up to FWS_STRETCHES */
    uint16_t ponged;     /* OPEN: Pings among what is unread that are answered already */
    uint32_t n_left;     /* of the heap: have left */
    uint64_t progress;   /* when the kernel last took bytes, or first refused some, engine time */
    uint64_t caught_up;  /* when nothing was left to send to it, ns */
    uint64_t lag_since;  /* lagging: since when, ns; ages of what it lacks count from there */
    uint64_t bytes_written;
    fws_next *heap;                       /* pending subscriptions, the earliest first */
    uint32_t n_pending, capacity_pending; /* n_pending: those that have left included */
    uint32_t n_subs, capacity_subs;
    fws_sub **subs; /* by topic: a table with open addressing */
    fws_next one_pending;
    fws_sub *one_sub;
    fws_partial partial;
    fws_outbox outbox;
    size_t held;      /* its share of the engine's buffered, as of the last look */
    size_t held_out;  /* of that, what waits to be sent */
    fws_sub *unacked; /* subscriptions with frames that the peer has not confirmed */
    uint64_t marked;  /* bytes written when the mark was set; unacked[0] counts up to it */
    /* Its account, over all of its subscriptions ever: messages. */
    uint64_t delivered, acknowledged, dropped, conflated;
    fws_link dirty; /* in the engine's ring of connections to flush */
    /* A flush touches what stands above. */
    uint64_t id;           /* generation << 32 | slot */
    fws_link ready;        /* in one of the engine's rings to read */
    uint32_t read_in;      /* the turn in which it was read last, by its number */
    uint32_t n_resting;    /* of its subscriptions: see fws_sub */
    fws_link lagging_link; /* in the engine's ring of lagging ones, the longest first */
    struct fws_conn *next_dead;
    uint16_t close_code;    /* how it ended: the peer's code, else ours, else 1006 */
    uint16_t ending_code;   /* ending: the code of the Close to send; 0: none, just end */
    uint16_t owed;          /* bytes that must still arrive in the present window of a message or
                                    body */
    uint16_t received_code; /* of the peer's Close, 1005 for an empty one; 0: none has come */
    uint16_t own_code;      /* of ours, likewise; 0: none is queued; close_sent: it has left */
    bool peer_first;        /* the peer's came before ours was queued */
    bool pinged;            /* OPEN: a pong is awaited until the deadline */
    bool heard;             /* OPEN: bytes have arrived since the last ping */
    uint64_t deadline;      /* engine time; 0: none. By state; OPEN: of the next ping or pong */
    uint64_t confirmed;     /* bytes the peer had confirmed when that was set */
    uint64_t message_by;    /* end of the present window of a message that is not whole; 0: none */
    uint64_t write_by;      /* blocked: the same of what must be confirmed; 0: not blocked */
    uint64_t write_confirmed; /* bytes confirmed when it began */
    uint64_t hold_since;      /* the window of fws_conn_drags() began; 0: it holds no topic */
    uint64_t hold_written;    /* bytes written at that time */
    uint64_t unread_at;       /* OPEN: when what came and is not read is looked at; 0: not */
    uint32_t body_n;          /* BODY: bytes wanted */
    uint32_t lingered;        /* LINGER: bytes thrown away since writing was shut down */
    fws_inbuf inbuf;
    fws_link held_link; /* in one of the engine's rings of holders */
    fws_link room_link; /* in the engine's ring of those that have the room they want */
    uint64_t messages_in;
    struct fws_wild *wilds;                  /* its wildcards */
    fws_bytes *received_reason, *own_reason; /* of those two; NULL: an empty one */
    fws_bytes *asked; /* payload of the owner's last ping; NULL: it has none that is unanswered */
    fws_metered *metered;       /* not NULL: data messages are counted there and go no further */
    struct sockaddr_in6 remote; /* sin6_family AF_INET: holds a sockaddr_in */
    uint32_t n_wild;            /* of its subscriptions: by a wildcard */
    fws_reader reader;
} fws_conn;

#define FWS_CONN_HOT offsetof(fws_conn, id)

#define FWS_PLAN_IOV 64
#define FWS_PLAN_RUNS 512
#define FWS_PLAN_BYTES 262144u /* one call's worth; one frame may be larger */
#define FWS_PLAN_COPY 65536u   /* bytes of small pieces copied together for one call */
#define FWS_PLAN_NOTES 8192u   /* more of them, for headers and notices */
#define FWS_COPY_MOST 1024u    /* a larger piece is not copied */
#define FWS_PARTIAL_COPY 4096u /* a larger rest of a frame alone in its slab pins that slab */

enum fws_run_kind {
    FWS_RUN_PARTIAL,
    FWS_RUN_ENTRY,
    FWS_RUN_LOG,
    FWS_RUN_BATCH, /* frames [first, last) as one message: sent whole or not */
    FWS_RUN_GAP    /* the notice of what the subscription has lost */
};

typedef struct fws_run {
    fws_sub *sub;
    fws_slab *slab;
    uint32_t first, last; /* LOG, BATCH: frames [first, last) */
    uint32_t bytes;
    uint8_t kind;
} fws_run;

/* A subscription that the plan has taken frames of, or has found to have none. */
typedef struct fws_taken {
    uint64_t eseq; /* of its next frame behind the plan */
    uint64_t seq;  /* of that frame */
    uint64_t from; /* where it stood */
    fws_sub *sub;
    fws_slab *slab; /* where it lies */
    bool told;      /* what it has lost is in the plan */
} fws_taken;

/* What one call would send: the bytes of all runs in order, in n_iov pieces. */
typedef struct fws_plan {
    uint32_t n_iov, n_runs, n_taken;
    uint32_t copied;  /* bytes of copy that are used */
    uint32_t derived; /* steps of encoding made, and */
    uint32_t encoded; /* bytes encoded since the last one */
    bool merged;      /* of several subscriptions, or with an outbox */
    bool stop;        /* it can go no further */
    bool starved;     /* memory was out for what comes next */
    size_t bytes;
    fws_deflate *codec; /* of the engine; NULL before somebody negotiates compression */
    struct iovec iov[FWS_PLAN_IOV + 3]; /* the last run may take four */
    fws_run runs[FWS_PLAN_RUNS + 1];    /* and have a notice in front of it */
    fws_taken taken[FWS_PLAN_RUNS + 1];
    uint16_t again[FWS_PLAN_RUNS + 1]; /* heap of those taken that have more, by eseq */
    uint32_t n_again;
    uint8_t copy[FWS_PLAN_COPY + FWS_PLAN_NOTES];
} fws_plan;

/* What leaves next, in order: the rest of a half-sent frame, control frames, then direct
 * messages and the frames of all subscriptions merged by engine sequence, up to FWS_PLAN_BYTES (at
 * least one frame), below the engine sequence `before` and never past a Close. Policies are applied
 * to what it comes to when the connection lags. FWS_OK, or FWS_E_SLOW: the connection has to be
 * closed. Each plan is followed by fws_commit() before anything else happens to the
 * connection. */
int fws_gather(fws_conn *conn, fws_plan *plan, uint64_t before);

/* Says that the first `sent` bytes of the plan were taken (0: nothing was, or nothing was there).
 * Moves places, counts whole frames, keeps the rest. */
void fws_commit(fws_conn *conn, fws_plan *plan, size_t sent);

/* Whether anything waits to be sent that is known to the connection: subscriptions that were not
 * woken yet do not count. */
static inline bool fws_conn_pending(const fws_conn *conn)
{
    return conn->partial.data != NULL
           || (!conn->close_sent
               && (!fws_outbox_empty(&conn->outbox) || conn->n_pending > conn->n_left));
}

/* Whether the rest of what is half sent is lost, for want of memory. */
static inline bool fws_partial_torn(const fws_conn *conn)
{
    return conn->partial.data != NULL && conn->partial.n == 0;
}

/* Frees the rest of a half-sent frame, and counts the frame as dropped. */
void fws_partial_drop(fws_conn *conn);

#endif
