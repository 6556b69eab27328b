/* The members of topics: their place, policy, rate, encoding and account. Layer 3. */
#ifndef FWS_SUB_H
#define FWS_SUB_H

#include "core/topic.h"

/* place.c */

/* From its place on it gets the newest frame of each key only, until it has caught up: it needs no
 * slab any more. False: memory is out. */
bool fws_sub_conflate(fws_sub *sub);

/* A conflating one: the slab of the first such frame from *seq on, and its sequence number. NULL:
 * there is none, *seq is the log's next. */
fws_slab *fws_sub_newer(const fws_sub *sub, uint64_t *seq);

/* The frames from its place up to that one are left out. */
void fws_sub_pass_over(fws_sub *sub, uint64_t seq);

/* A new one with a filter: counts the frames before its place, and passes what it does not want. */
void fws_sub_begin_filtered(fws_sub *sub, bool snapshot);

/* Passes the frames at its place that it is not to get. */
void fws_sub_pass(fws_sub *sub);

/* Moves the place of a pending member to seq (not back), passes what it is not to get there, and
 * moves the mark that keeps its slab. */
void fws_sub_move(fws_sub *sub, uint64_t seq);
void fws_sub_count(fws_sub *sub);
void fws_sub_uncount(fws_sub *sub);
/* Its connection begins to lag: it was offered what lies in its slab. */
void fws_sub_refused(fws_sub *sub);

/* Where fws_log_slab() may find its next frame: the slab that it counts on. */
uint64_t fws_sub_hint(const fws_sub *sub);

/* The slab where its next frame lies; the frame must be retained. */
fws_slab *fws_sub_slab(const fws_sub *sub);

/* Engine sequence of that frame; 0 when it is lapped. There must be news. */
uint64_t fws_sub_eseq(const fws_sub *sub);

/* The engine sequence with which a frame that has this one leaves. */
static inline uint64_t fws_sub_leaves_at(const fws_sub *sub, uint64_t eseq)
{
    return sub->extra != NULL && sub->extra->replay_eseq > eseq ? sub->extra->replay_eseq : eseq;
}

/* Runs of excluded frames that it has not passed. One that is slow and has more is closed, one that
 * rests sends: 64 KiB. */
#define FWS_RUNS_MOST 4096u
uint32_t fws_sub_runs(const fws_sub *sub);

static inline const fws_filter *fws_sub_filter(const fws_sub *sub)
{
    return sub->extra == NULL ? NULL : sub->extra->filter;
}

/* Whether frames of that key are published to it; NULL: the topic has no keys. */
static inline bool fws_sub_wants(const fws_sub *sub, const fws_key *key)
{
    const fws_filter *filter = fws_sub_filter(sub);
    return filter == NULL || fws_filter_wants(filter, key);
}

/* Whether it wants these keys (fws_filter_names()) and no others; n 0: all frames. */
static inline bool fws_sub_has_keys(const fws_sub *sub, const uint8_t *names, size_t n)
{
    const fws_filter *filter = fws_sub_filter(sub);
    return filter == NULL ? n == 0 : n > 0 && fws_filter_same(filter, names, n);
}

/* First frame at or after seq that it is to get. It stands at seq, or seq is retained. Where it
 * wants frames that are gone it stays. */
uint64_t fws_sub_skip(const fws_sub *sub, uint64_t seq);

/* Frames of [from, to) that it is to get. from: its place, or a frame that is retained. Those
 * that the log had let go of when a conflating one passed them count when it is past the last of
 * these. */
uint64_t fws_sub_frames(const fws_sub *sub, uint64_t from, uint64_t to);

/* Before the commit: this subscription, which wants its key, is not to get the frame. FWS_OK,
 * FWS_E_NOMEM. */
int fws_sub_exclude(fws_sub *sub);

/* How many frames of [from, to) are excluded; the first excluded one at or after seq (UINT64_MAX:
 * none). */
uint64_t fws_sub_excluded(const fws_sub *sub, uint64_t from, uint64_t to);
uint64_t fws_sub_next_excluded(const fws_sub *sub, uint64_t seq);
/* The newest frame that is retained and that it is to get; the log's end where there is none. */
uint64_t fws_sub_newest(const fws_sub *sub);

/* policy.c */

/* What the limits of the members come to. A member's are counted when it has got them and uncounted
 * before it loses them; afterwards the least one may be gone, which check finds. renew: all of them
 * anew. That slabs are closed by age is not undone before all have left or the options are set. */
void fws_topic_count_limits(fws_topic *topic, const fws_sub *sub);
void fws_topic_uncount_limits(fws_topic *topic, const fws_sub *sub);
void fws_topic_check_limits(fws_topic *topic);
void fws_topic_renew_limits(fws_topic *topic);

/* Bytes that the topic takes before a lossless member is too far behind: lossless_lag when none of
 * them is behind, else less. Where the wanted ones fit it may say less than that: all members are
 * looked at only when it matters. */
uint64_t fws_topic_room(fws_topic *topic, uint64_t wanted);

static inline const fws_topic_options *fws_sub_options(const fws_sub *sub)
{
    return sub->extra != NULL && sub->extra->options != NULL ? sub->extra->options
                                                             : sub->topic->options;
}

/* Whether the log has retired what it was to read next. */
static inline bool fws_sub_lapped(const fws_sub *sub)
{
    return sub->seq < sub->topic->log.first_seq && !sub->conflating;
}

/* Looks at the lag and applies the policy: may move its place. FWS_OK, or FWS_E_SLOW when the
 * connection has to be closed. */
int fws_sub_apply_policy(fws_sub *sub);

/* It will never get the frames from its place up to that one: all losses of a subscription that
 * goes on pass here, but for what is left out for newer frames of the same keys. Moves it there.
 * The reader of an envelope is told in front of the first frame behind them. */
void fws_sub_lose(fws_sub *sub, uint64_t to);

/* Bytes/s that its connection has to take, because it holds the publisher; 0: it does not. */
uint64_t fws_sub_held_rate(const fws_sub *sub);

/* Told now and then of a connection that lags: the greatest held_rate of its subscriptions.
 * Whether it has held a publisher for window_ns and took less than that. */
bool fws_conn_drags(fws_conn *conn, uint64_t rate, uint64_t now, uint64_t window_ns);

/* rest.c: subscriptions with a max_rate */

/* A flush begins at most every gap_ns; 0: whenever there is news. One that leaves out what is not
 * the newest then leaves it out at each flush, without being slow. FWS_OK, FWS_E_NOMEM. */
int fws_sub_set_max_rate(fws_sub *sub, uint64_t gap_ns);

/* It is pending and not in the heap: whether it has to rest first. If so it counts as it has to;
 * else a flush of it has begun, or runs on. */
bool fws_sub_rests(fws_sub *sub);

/* It has moved: its flush may be over. */
void fws_sub_end_flush(fws_sub *sub);

/* It does not rest any more. */
void fws_sub_end_rest(fws_sub *sub);

/* The connection closes: its subscriptions that rest are pending at once, so that what they have
 * still to send leaves before the Close. */
void fws_conn_end_rests(fws_conn *conn);

/* It may send at the next flush. */
void fws_sub_shorten_rest(fws_sub *sub);

/* The next one that has rested by then, now in its connection's heap; NULL: there is none. */
fws_sub *fws_topics_rested(fws_topics *topics, uint64_t now);

/* When the first of those that rest may send, ns; UINT64_MAX: none does. */
static inline uint64_t fws_topics_rest_until(const fws_topics *topics)
{
    return topics->n_resting > 0 ? topics->resting[0].until : UINT64_MAX;
}

/* variants.c */

/* It reads frames in that encoding, of which it has none yet. False: memory is out. */
bool fws_sub_join_variant(fws_sub *sub, fws_encoding encoding);

/* Derives a step further towards the frame with that sequence number, which it reads next. False:
 * memory is out. */
bool fws_sub_derive(const fws_sub *sub, uint64_t seq, fws_deflate *codec);

/* A conflating one: the frame with that sequence number as it reads it, alone in a slab, from
 * that one, fws_sub_newer(). settle: no plan holds such frames of its. NULL: memory is out. */
fws_slab *fws_sub_derive_single(const fws_sub *sub, const fws_slab *slab, uint64_t seq,
                                fws_deflate *codec, bool settle);

/* Frees the frames that were derived for conflating ones. */
void fws_topic_forget_singles(fws_topic *topic);

/* One that has just begun: in place of what its connection reads it gets that encoding, batch
 * frames (1 up; 0: without a batch) to a message at most. A batch is never compressed. FWS_OK,
 * FWS_E_NOMEM: as it was. */
int fws_sub_encode(fws_sub *sub, bool envelope, uint16_t batch);

/* Whether that is what it has, or nothing in particular. */
bool fws_sub_encodes(const fws_sub *sub, bool envelope, uint16_t batch);

/* It reads none any more: the last reader frees the variant. */
void fws_sub_leave_variant(fws_sub *sub);

/* After slabs of the log were let go: those of the variants follow. */
void fws_topic_trim_variants(fws_topic *topic);

/* subs.c: the subscriptions of one connection */

/* Its subscription to the topic; NULL: none. */
fws_sub *fws_conn_find_sub(const fws_conn *conn, const fws_topic *topic);
/* False: memory is out. Also makes room in the heap. */
bool fws_conn_add_sub(fws_conn *conn, fws_sub *sub);
void fws_conn_remove_sub(fws_conn *conn, const fws_sub *sub);
/* Puts it into the heap. */
void fws_conn_push(fws_conn *conn, fws_sub *sub, uint64_t eseq);
/* Takes the first one off; n_pending must not be 0. */
fws_next fws_conn_pop(fws_conn *conn);
/* Frees what has left from the heap, when that is most of it. */
void fws_conn_thin(fws_conn *conn);
/* Frees table, heap, and what has left; no subscription may be left. */
void fws_conn_clear_subs(fws_conn *conn);
/* Frees a subscription that has left, unless something still refers to it. */
void fws_sub_put(fws_sub *sub);

/* account.c */

/* Frames published to it that it has not got; *bytes: of the topic's log, as far as retained. */
uint64_t fws_sub_pending(const fws_sub *sub, uint64_t *bytes);

/* Since when, at the earliest, the oldest of them has been waiting, ns; UINT64_MAX: nothing is. The
 * log knows times by the slab, the connection when it last had everything. */
uint64_t fws_sub_waiting_since(const fws_sub *sub);

/* Frames handed over. */
void fws_sub_delivered(fws_sub *sub, uint32_t frames);

/* Frames that it will never get: a policy's, or pending at its end. */
void fws_sub_dropped(fws_sub *sub, uint64_t frames);

/* Of bytes_written, the peer's kernel has confirmed that many. */
void fws_conn_confirm(fws_conn *conn, uint64_t bytes_confirmed);

/* Snapshots. */
typedef struct fws_topic_account {
    uint64_t published, delivered, acknowledged, dropped, conflated, pending;
    uint64_t subscribers, retained_bytes, appended;
} fws_topic_account;

typedef struct fws_reader_account {
    uint64_t published, delivered, acknowledged, dropped, conflated, pending;
    uint64_t lag_bytes;
    double lag_seconds; /* how long the oldest pending frame has been waiting, at most */
} fws_reader_account;

fws_topic_account fws_topic_snapshot(const fws_topic *topic);
fws_reader_account fws_sub_snapshot(const fws_sub *sub, uint64_t now);
/* All topics must have been woken: fws_engine_wake(). */
fws_reader_account fws_conn_snapshot(const fws_conn *conn, uint64_t now);

#endif
