/* A stream people subscribe to: a log, its members and its account. Layer 3.
 *
 * Invariants
 *   members[0..active) can be sent to, members[active..n) are blocked.
 *   unflushed = active members with flushed_epoch < epoch.
 *   published_to = delivered + dropped + conflated + what fws_topic_pending() counts.
 */
#ifndef FWS_TOPIC_H
#define FWS_TOPIC_H

#include "core/conn.h"

enum fws_on_slow {
    FWS_SLOW_CLOSE = 0, /* past the limit: 1013 */
    FWS_SLOW_LATEST,    /* jump to the newest frame */
    FWS_SLOW_LOSSLESS   /* the publisher is held */
};

typedef struct fws_topic_options {
    uint64_t retention_bytes; /* at least max_lag_bytes */
    uint64_t max_lag_bytes;
    uint8_t on_slow; /* enum fws_on_slow */
} fws_topic_options;

#define FWS_VARIANTS (FWS_WINDOW_MAX - FWS_WINDOW_MIN + 1)

typedef struct fws_topic {
    fws_log log;
    fws_variant *variants[FWS_VARIANTS]; /* by window bits; while there are readers */
    fws_topic_options options;
    struct fws_topic *next_dirty;
    bool dirty; /* frames were appended since the last pass began */
    fws_sub **members;
    uint32_t n, active, capacity;
    uint32_t scan; /* where the pass goes on */
    uint32_t unflushed;
    uint64_t epoch;
    uint64_t published_to; /* sum over subscribers of the frames published to each */
    uint64_t delivered, dropped, conflated;
    uint64_t partial_frames; /* frames half sent */
    uint64_t acknowledged;   /* by subscriptions that are gone */
    uint64_t slowest_bytes;  /* no member is further back than this */
} fws_topic;

void fws_topic_init(fws_topic *topic, fws_pool *pool, const fws_topic_options *options);
void fws_topic_clear(fws_topic *topic);

/* Puts other limits and another policy in force, for present members too. */
void fws_topic_set_options(fws_topic *topic, const fws_topic_options *options);

/* Adds a subscription that starts behind the newest frame. NULL: memory is out. The
 * connection must not have one yet. */
fws_sub *fws_topic_join(fws_topic *topic, fws_conn *conn);

/* Ends it: what is pending counts as dropped; a half-sent frame stays the connection's. */
void fws_topic_leave(fws_sub *sub);

fws_sub *fws_topic_find(const fws_topic *topic, const fws_conn *conn);

/* Moves a member behind the partition, and back. */
void fws_topic_block(fws_sub *sub);
void fws_topic_unblock(fws_sub *sub);

/* A pass: visit the active members that this epoch has not seen. begin starts an epoch over
 * all active ones; next returns one, or NULL when the pass is complete. Members may
 * join, leave, block and unblock between two calls. */
void fws_topic_begin_pass(fws_topic *topic);
fws_sub *fws_topic_next(fws_topic *topic);

/* Room for a frame, FWS_E_FULL when a lossless topic's slowest member is max_lag_bytes behind,
 * FWS_E_NOMEM, FWS_E_INVALID (n out of range). */
int fws_topic_reserve(fws_topic *topic, size_t n, uint64_t eseq, uint8_t **room);
void fws_topic_commit(fws_topic *topic, size_t n, uint64_t eseq);

/* Bytes that a lossless topic takes before its slowest member is max_lag_bytes behind. */
uint64_t fws_topic_room(fws_topic *topic);

/* Whether the log has retired what it was to read next. */
bool fws_sub_lapped(const fws_sub *sub);

/* Sequence number of its next frame, from its account. */
static inline uint64_t fws_sub_seq(const fws_sub *sub)
{
    return sub->start + sub->delivered + sub->dropped + sub->conflated + sub->partial;
}

/* Looks at one member's lag and applies its policy. FWS_OK, or FWS_E_SLOW when the connection
 * has to be closed. */
int fws_sub_apply_policy(fws_sub *sub);

/* Frames published to it that it has not got, counted from cursor and log (independent of
 * the counters, unless it reads a variant); bytes of the topic's log likewise, when the cursor is
 * not lapped. */
uint64_t fws_sub_pending(const fws_sub *sub, uint64_t *bytes);
uint64_t fws_topic_pending(const fws_topic *topic);

/* Since when, at the earliest, the oldest of them has been waiting, ns; UINT64_MAX: nothing is. The
 * log knows times by the slab, the connection when it last had everything. */
uint64_t fws_sub_waiting_since(const fws_sub *sub);

/* Frames handed over: moves the counters, and keeps a mark for acknowledgements. */
void fws_sub_delivered(fws_sub *sub, uint64_t frames, uint64_t bytes_written);

/* A whole frame of a subscription that is gone, begun before it went. */
void fws_parted_delivered(fws_conn *conn, fws_topic *topic);

/* Of bytes_written, so many are confirmed: for subscriptions of the connection that are gone. */
void fws_parted_acknowledge(fws_conn *conn, uint64_t bytes_confirmed);

/* Forgets them: what was not confirmed by now never counts. */
void fws_parted_clear(fws_conn *conn);

/* Of bytes_written, the peer's kernel has confirmed that many. */
void fws_sub_acknowledge(fws_sub *sub, uint64_t bytes_confirmed);

/* Its next frame's place in the topic's log; false when lapped. */
bool fws_sub_position(const fws_sub *sub, uint64_t *seq, uint64_t *bytes);

/* Remembers delivered frames of a subscription that ends, until the peer confirms them. */
void fws_conn_part(fws_conn *conn, fws_topic *topic, uint64_t frames);

#endif
