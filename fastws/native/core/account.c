/* What was published, delivered, acknowledged, dropped and is pending. */
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"

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
    if (!conn->acknowledges || (conn->subs == NULL && conn->parted == NULL))
        return;
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    fws_parted_acknowledge(conn, confirmed);
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_sub_acknowledge(sub, confirmed);
}

/* Its next frame's place in the topic's log; false when lapped. */
bool fws_sub_position(const fws_sub *sub, uint64_t *seq, uint64_t *bytes)
{
    const fws_log *log = &sub->topic->log;
    fws_cursor cursor = sub->cursor;
    if (sub->variant != NULL && !fws_log_seek(log, fws_sub_seq(sub), &cursor))
        return false;
    return fws_log_position(log, cursor, seq, bytes);
}

/* What was delivered may be confirmed after the subscription is gone. Without memory it
 * stays unconfirmed in the account, and nothing else depends on it. */
void fws_conn_part(fws_conn *conn, fws_topic *topic, uint64_t frames)
{
    if (!conn->acknowledges || frames == 0)
        return;
    fws_parted *parted = malloc(sizeof *parted);
    if (parted == NULL)
        return;
    *parted = (fws_parted){
        .next = conn->parted, .topic = topic, .bytes = conn->bytes_written, .frames = frames};
    conn->parted = parted;
}

void fws_parted_delivered(fws_conn *conn, fws_topic *topic)
{
    topic->delivered++;
    fws_conn_part(conn, topic, 1);
}

void fws_parted_acknowledge(fws_conn *conn, uint64_t bytes_confirmed)
{
    for (fws_parted **link = &conn->parted; *link != NULL;) {
        fws_parted *parted = *link;
        if (parted->bytes > bytes_confirmed) {
            link = &parted->next;
            continue;
        }
        parted->topic->acknowledged += parted->frames;
        *link = parted->next;
        free(parted);
    }
}

void fws_parted_clear(fws_conn *conn)
{
    while (conn->parted != NULL) {
        fws_parted *parted = conn->parted;
        conn->parted = parted->next;
        free(parted);
    }
}

uint64_t fws_sub_pending(const fws_sub *sub, uint64_t *bytes)
{
    const fws_log *log = &sub->topic->log;
    uint64_t seq, at;
    if (!fws_sub_position(sub, &seq, &at)) {
        seq = fws_sub_seq(sub); /* lapped: the log cannot say any more */
        at = log->bytes - fws_log_retained(log);
    }
    *bytes = log->bytes - at;
    return log->next_seq - seq + sub->partial;
}

uint64_t fws_sub_waiting_since(const fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    uint64_t seq = fws_sub_seq(sub) - sub->partial;
    fws_cursor cursor;
    bool lapped;
    if (seq == log->next_seq)
        return UINT64_MAX;
    if (!fws_log_seek(log, seq, &cursor))
        cursor = fws_log_oldest(log);
    const fws_slab *slab = fws_log_find(log, &cursor, &lapped);
    uint64_t opened = slab == NULL ? 0 : slab->opened;
    return opened > sub->conn->caught_up ? opened : sub->conn->caught_up;
}

uint64_t fws_topic_pending(const fws_topic *topic)
{
    uint64_t pending = topic->partial_frames, bytes;
    for (uint32_t i = 0; i < topic->n; i++)
        pending += fws_sub_pending(topic->members[i], &bytes) - topic->members[i]->partial;
    return pending;
}

/* Every second mark goes when there is no room: the newest stays, old ones get coarser. */
static void thin_marks(fws_sub *sub)
{
    for (uint32_t i = 0; i < FWS_MARKS / 2; i++)
        sub->marks[i] = sub->marks[2 * i + 1];
    sub->n_marks = FWS_MARKS / 2;
}

void fws_sub_delivered(fws_sub *sub, uint64_t frames, uint64_t bytes_written)
{
    sub->delivered += frames;
    sub->topic->delivered += frames;
    if (!sub->conn->acknowledges)
        return;
    if (sub->marks == NULL)
        sub->marks = malloc(FWS_MARKS * sizeof *sub->marks);
    if (sub->marks == NULL)
        return; /* acknowledged stays behind until the next mark; nothing else depends on it */
    fws_mark *last = sub->n_marks > 0 ? &sub->marks[sub->n_marks - 1] : NULL;
    if (last != NULL && last->bytes == bytes_written) { /* the same call took more of it */
        last->frames = sub->delivered;
        return;
    }
    if (sub->n_marks == FWS_MARKS)
        thin_marks(sub);
    sub->marks[sub->n_marks++] = (fws_mark){bytes_written, sub->delivered};
}

void fws_sub_acknowledge(fws_sub *sub, uint64_t bytes_confirmed)
{
    uint32_t n = 0;
    while (n < sub->n_marks && sub->marks[n].bytes <= bytes_confirmed)
        n++;
    if (n == 0)
        return;
    sub->acknowledged = sub->marks[n - 1].frames;
    sub->n_marks -= n;
    memmove(sub->marks, sub->marks + n, sub->n_marks * sizeof *sub->marks);
    if (sub->n_marks == 0) {
        free(sub->marks);
        sub->marks = NULL;
    }
}
