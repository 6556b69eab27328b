/* Counts what the kernel took of a plan: places move on, and the rest of a half-sent message is
 * kept. */
#include <stdlib.h>
#include <string.h>

#include "core/sample.h"

/* The half-sent message. */

static void partial_free(fws_conn *conn)
{
    if (conn->partial.pinned != NULL)
        fws_slab_unpin(conn->partial.sub->topic->log.logs, conn->partial.pinned);
    else if (!fws_partial_torn(conn))
        free((void *)(uintptr_t)conn->partial.data);
    if (conn->partial.sub != NULL)
        conn->partial.sub->partial = 0;
    conn->partial = (fws_partial){0};
}

void fws_partial_drop(fws_conn *conn)
{
    fws_sub *sub = conn->partial.sub;
    uint16_t frames = sub == NULL ? 0 : sub->partial;
    if (conn->partial.data == NULL)
        return;
    partial_free(conn);
    if (sub == NULL)
        return;
    fws_sub_dropped(sub, frames);
    fws_sub_put(sub);
}

static void partial_advance(fws_conn *conn, size_t taken)
{
    fws_sub *sub = conn->partial.sub;
    conn->partial.sent += (uint32_t)taken;
    if (conn->partial.sent < conn->partial.n)
        return;
    uint16_t frames = sub == NULL ? 0 : sub->partial;
    partial_free(conn);
    if (sub == NULL)
        return;
    fws_sub_delivered(sub, frames);
    fws_sub_put(sub);
}

/* Frame `index` has begun to leave, up to byte position at of its slab. The rest is copied, so
 * that a stalled reader pins nothing that others' frames lie in; a large one that has a
 * slab of its own, or one that memory is short for, pins the slab. */
static void partial_begin(fws_conn *conn, const fws_run *run, uint32_t index, uint32_t at)
{
    fws_slab *slab = run->slab;
    uint32_t n = slab->end[index] - at;
    uint8_t *copy = n <= FWS_PARTIAL_COPY || slab->max_frames > 1 ? malloc(n) : NULL;
    conn->partial = (fws_partial){.n = n, .sub = run->sub};
    if (copy != NULL) {
        memcpy(copy, slab->data + at, n);
        conn->partial.data = copy;
    } else {
        fws_slab_pin(slab);
        conn->partial.pinned = slab;
        conn->partial.data = slab->data + at;
    }
    run->sub->partial = 1;
}

/* The same of a message that was put together: all of it is kept. */
static void partial_keep(fws_conn *conn, uint8_t *whole, uint32_t n, size_t taken)
{
    static const uint8_t nothing;
    if (whole == NULL)
        conn->partial = (fws_partial){.data = &nothing};
    else
        conn->partial = (fws_partial){.data = whole, .n = n, .sent = (uint32_t)taken};
}

static uint8_t *batch_copy(const fws_run *run)
{
    const fws_slab *slab = run->slab;
    uint32_t start = fws_slab_start(slab, run->first), n = slab->end[run->last - 1] - start;
    uint8_t *whole = malloc(run->bytes);
    size_t skip;
    if (whole == NULL)
        return NULL;
    size_t head_n = fws_batch_head(whole, slab->form, n, &skip);
    memcpy(whole + head_n, slab->data + start + skip, n - skip);
    if (head_n + n - skip < run->bytes)
        whole[run->bytes - 1] = ']';
    return whole;
}

/* What was taken. */

/* What a filter let through, a half-sent message included. */
static void passed(const fws_sub *sub, uint32_t frames)
{
    if (fws_sub_filter(sub) != NULL)
        sub->extra->filter->passed += frames;
}

static void run_advance(fws_conn *conn, const fws_run *run, size_t taken)
{
    fws_sub *sub = run->sub;
    fws_slab *slab = run->slab;
    uint32_t index = run->last;
    uint64_t first = slab->base_seq + run->first;
    if (sub->conflating && first > sub->seq)
        fws_sub_pass_over(sub, first);
    if (taken < run->bytes) {
        uint32_t at = fws_slab_start(slab, run->first) + (uint32_t)taken;
        index = fws_slab_frame_at(slab, run->first, at);
        if (at > fws_slab_start(slab, index))
            partial_begin(conn, run, index, at);
    }
    if (index > run->first)
        fws_sub_delivered(sub, index - run->first);
    sub->seq = slab->base_seq + index + sub->partial;
    passed(sub, index - run->first + sub->partial);
}

static void batch_advance(fws_conn *conn, const fws_run *run, size_t taken)
{
    fws_sub *sub = run->sub;
    uint64_t base = run->slab->base_seq;
    uint16_t frames = (uint16_t)(run->last - run->first);
    if (sub->conflating && base + run->first > sub->seq)
        fws_sub_pass_over(sub, base + run->first);
    if (taken == run->bytes) {
        fws_sub_delivered(sub, frames);
    } else {
        partial_keep(conn, batch_copy(run), run->bytes, taken);
        conn->partial.sub = sub;
        sub->partial = frames;
    }
    sub->seq = base + run->last;
    passed(sub, frames);
}

/* The notice is on its way: half of it leaves whole. */
static void gap_advance(fws_conn *conn, const fws_run *run, size_t taken)
{
    fws_sub_extra *extra = run->sub->extra;
    if (taken < run->bytes) {
        uint8_t *whole = malloc(FWS_NOTICE_FRAME);
        if (whole != NULL)
            fws_gap_frame(whole, extra->lost_from, extra->lost_to - 1,
                          fws_why_name(extra->lost_why));
        partial_keep(conn, whole, run->bytes, taken);
    }
    extra->lost_from = extra->lost_to;
}

/* Back to the caught-up members, into the heap, or to rest. */
static void put_back(fws_conn *conn, const fws_taken *taken)
{
    fws_sub *sub = taken->sub;
    fws_sub_move(sub, sub->seq);
    fws_sub_passed(sub, taken->from);
    fws_sub_end_flush(sub);
    if (sub->seq == sub->topic->log.next_seq) {
        fws_topic_caught_up(sub);
        return;
    }
    if (!fws_sub_rests(sub))
        fws_conn_push(conn, sub, fws_sub_eseq(sub));
    fws_topic_passed(sub->topic);
}

void fws_commit(fws_conn *conn, fws_plan *plan, size_t sent)
{
    conn->bytes_written += sent;
    for (uint32_t i = 0; i < plan->n_runs && sent > 0; i++) {
        const fws_run *run = &plan->runs[i];
        size_t taken = sent < run->bytes ? sent : run->bytes;
        sent -= taken;
        if (run->kind == FWS_RUN_LOG)
            run_advance(conn, run, taken);
        else if (run->kind == FWS_RUN_BATCH)
            batch_advance(conn, run, taken);
        else if (run->kind == FWS_RUN_GAP)
            gap_advance(conn, run, taken);
        else if (run->kind == FWS_RUN_ENTRY)
            conn->close_sent |= fws_outbox_sent(&conn->outbox, taken);
        else
            partial_advance(conn, taken);
    }
    for (uint32_t i = 0; i < plan->n_taken; i++)
        put_back(conn, &plan->taken[i]);
    plan->n_taken = 0;
}
