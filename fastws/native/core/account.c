/* Accounts: frames published, delivered, acknowledged, dropped and pending; sums; snapshots. */
#include <stdlib.h>

#include "core/engine_internal.h"

/* Frames that it has not passed and is not to get. */
static uint64_t kept_away(const fws_sub *sub)
{
    const fws_sub_extra *extra = sub->extra;
    if (extra == NULL)
        return 0;
    return extra->unpublished_ahead + (extra->excluded == NULL ? 0 : extra->excluded->ahead);
}

uint64_t fws_sub_pending(const fws_sub *sub, uint64_t *bytes)
{
    const fws_log *log = &sub->topic->log;
    uint64_t seq = sub->seq > log->first_seq ? sub->seq : log->first_seq;
    const fws_filter *filter = fws_sub_filter(sub);
    *bytes = log->bytes - fws_log_position(log, seq);
    uint64_t frames =
        filter == NULL ? log->next_seq - sub->seq : fws_filter_count(filter) - filter->passed;
    return frames - kept_away(sub) + sub->partial;
}

uint64_t fws_sub_waiting_since(const fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    uint64_t seq = sub->seq > log->first_seq ? sub->seq : log->first_seq;
    if (sub->seq == log->next_seq && !sub->partial)
        return UINT64_MAX;
    uint64_t opened = seq == log->next_seq ? 0 : fws_log_slab(log, seq, log->head)->opened;
    return opened > sub->conn->caught_up ? opened : sub->conn->caught_up;
}

/* Frames delivered before the mark are confirmed, and the mark is set anew; all: those behind it,
 * too. */
static void confirm(fws_conn *conn, bool all)
{
    fws_sub **link = &conn->unacked, *sub;
    uint64_t sum = 0;
    while ((sub = *link) != NULL) {
        uint64_t frames = sub->unacked[0] + (all ? sub->unacked[1] : 0);
        sum += frames;
        sub->topic->account.acknowledged += frames;
        sub->topic->topics->account.acknowledged += frames;
        sub->unacked[0] = all ? 0 : sub->unacked[1];
        sub->unacked[1] = 0;
        if (sub->unacked[0] > 0) {
            link = &sub->next_unacked;
            continue;
        }
        *link = sub->next_unacked;
        sub->listed = false;
        fws_sub_put(sub);
    }
    conn->acknowledged += sum;
    conn->marked = conn->bytes_written;
}

void fws_conn_confirm(fws_conn *conn, uint64_t bytes_confirmed)
{
    if (conn->unacked != NULL && bytes_confirmed >= conn->marked)
        confirm(conn, bytes_confirmed >= conn->bytes_written);
}

void fws_sub_delivered(fws_sub *sub, uint32_t frames)
{
    fws_conn *conn = sub->conn;
    fws_topic *topic = sub->topic;
    topic->account.delivered += frames;
    topic->topics->account.delivered += frames;
    conn->delivered += frames;
    if (!conn->acknowledges)
        return;
    sub->unacked[1] += frames;
    if (sub->listed)
        return;
    sub->listed = true;
    sub->next_unacked = conn->unacked;
    conn->unacked = sub;
}

void fws_sub_dropped(fws_sub *sub, uint64_t frames)
{
    sub->dropped += frames;
    sub->topic->account.dropped += frames;
    sub->topic->topics->account.dropped += frames;
    sub->conn->dropped += frames;
}

uint64_t fws_conn_confirmed(const fws_engine *engine, const fws_conn *conn)
{
    int waiting;
    if (!conn->acknowledges || engine->sys->unacknowledged(conn->fd, &waiting) < 0)
        return conn->bytes_written;
    /* More may wait than the engine wrote: the FIN, what was sent before it took the socket. */
    uint64_t unsure = (uint64_t)waiting, written = conn->bytes_written;
    return written > unsure ? written - unsure : 0;
}

void fws_conn_acknowledge(fws_engine *engine, fws_conn *conn)
{
    if (conn->unacked == NULL)
        return;
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    if (confirmed != conn->confirmed_seen) {
        conn->confirmed_seen = confirmed;
        conn->confirmed_at = fws_engine_time(engine);
    }
    fws_conn_confirm(conn, confirmed);
}

/* Snapshots. */

fws_topic_account fws_topic_snapshot(const fws_topic *topic)
{
    const fws_account *sums = &topic->account;
    return (fws_topic_account){
        .published = sums->published,
        .delivered = sums->delivered,
        .acknowledged = sums->acknowledged,
        .dropped = sums->dropped,
        .conflated = sums->conflated,
        .pending = sums->published - sums->delivered - sums->dropped - sums->conflated,
        .subscribers = topic->n,
        .retained_bytes = fws_log_retained(&topic->log),
        .appended = topic->log.next_seq,
    };
}

static double seconds_since(uint64_t since, uint64_t now)
{
    return since >= now ? 0.0 : (double)(now - since) / 1e9;
}

fws_reader_account fws_sub_snapshot(const fws_sub *sub, uint64_t now)
{
    const fws_sub_extra none = {0}, *extra = sub->extra == NULL ? &none : sub->extra;
    uint64_t bytes, pending = fws_sub_pending(sub, &bytes);
    uint64_t frames = extra->filter == NULL
                          ? sub->topic->log.next_seq - sub->start
                          : fws_filter_count(extra->filter) - extra->filter->start;
    uint64_t published =
        frames - extra->unpublished - (extra->excluded == NULL ? 0 : extra->excluded->total);
    uint64_t delivered = published - extra->conflated - sub->dropped - pending;
    return (fws_reader_account){
        .published = published,
        .delivered = delivered,
        .acknowledged = sub->conn->acknowledges ? delivered - sub->unacked[0] - sub->unacked[1] : 0,
        .dropped = sub->dropped,
        .conflated = extra->conflated,
        .pending = pending,
        .lag_bytes = bytes,
        .lag_seconds = seconds_since(fws_sub_waiting_since(sub), now),
    };
}

/* What waits for one connection. */
typedef struct waiting {
    uint64_t frames, bytes, since;
} waiting;

static void add_waiting(waiting *sum, const fws_sub *sub)
{
    uint64_t bytes, since = fws_sub_waiting_since(sub);
    sum->frames += fws_sub_pending(sub, &bytes);
    sum->bytes += bytes;
    sum->since = since < sum->since ? since : sum->since;
}

fws_reader_account fws_conn_snapshot(const fws_conn *conn, uint64_t now)
{
    waiting sum = {.since = now};
    const fws_sub *half_sent = conn->partial.sub;
    for (uint32_t i = 0; i < conn->n_pending; i++)
        if (!conn->heap[i].sub->left)
            add_waiting(&sum, conn->heap[i].sub);
    for (uint32_t i = 0; conn->n_resting > 0 && i < conn->capacity_subs; i++)
        if (conn->subs[i] != NULL && conn->subs[i]->resting)
            add_waiting(&sum, conn->subs[i]);
    if (half_sent != NULL && (half_sent->left || !(half_sent->pending || half_sent->resting)))
        sum.frames += half_sent->partial; /* else these were counted with its subscription */
    return (fws_reader_account){
        .published = conn->delivered + conn->dropped + conn->conflated + sum.frames,
        .delivered = conn->delivered,
        .acknowledged = conn->acknowledged,
        .dropped = conn->dropped,
        .conflated = conn->conflated,
        .pending = sum.frames,
        .lag_bytes = sum.bytes,
        .lag_seconds = seconds_since(sum.since, now),
    };
}
