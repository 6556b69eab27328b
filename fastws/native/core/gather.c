/* What leaves next, as a plan; and what a send took of it. */
#include <stdlib.h>
#include <string.h>

#include "core/topic.h"

static void plan_add(fws_plan *plan, fws_run run, const uint8_t *data)
{
    plan->iov[plan->n] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = run.bytes};
    plan->runs[plan->n++] = run;
    plan->bytes += run.bytes;
}

static bool plan_full(const fws_plan *plan)
{
    return plan->n == FWS_PLAN_RUNS || plan->bytes >= FWS_PLAN_BYTES;
}

/* Frames of one slab from the planned cursor on, with engine sequences below the limit and
 * as many as the plan has bytes for; at least one when the plan is empty. */
static bool plan_slab(fws_plan *plan, fws_sub *sub, fws_slab *slab, uint64_t limit)
{
    uint32_t first = sub->planned.index, start = fws_slab_start(slab, first), last = slab->n;
    if (slab->base_eseq + slab->eseq[last - 1] >= limit)
        last = fws_slab_frame_eseq(slab, first, limit);
    size_t room = FWS_PLAN_BYTES - plan->bytes;
    if (fws_slab_start(slab, last) - start > room) {
        last = fws_slab_frame_at(slab, first, start + (uint32_t)room);
        if (last == first && plan->bytes == 0)
            last = first + 1;
    }
    if (last == first)
        return false;
    fws_run run = {.kind = FWS_RUN_LOG,
                   .first = first,
                   .last = last,
                   .sub = sub,
                   .slab = slab,
                   .bytes = fws_slab_start(slab, last) - start};
    plan_add(plan, run, slab->data + start);
    sub->planned.index = last;
    return true;
}

/* The whole of one subscription: nothing to merge with, nothing to pay. */
static void gather_one(fws_sub *sub, fws_plan *plan)
{
    bool lapped;
    fws_slab *slab;
    while (!plan_full(plan) && (slab = fws_log_find(sub->log, &sub->planned, &lapped)) != NULL)
        if (!plan_slab(plan, sub, slab, UINT64_MAX))
            return;
}

static void plan_entry(fws_plan *plan, fws_entry *entry)
{
    fws_run run = {.kind = FWS_RUN_ENTRY, .bytes = entry->n - entry->sent};
    plan_add(plan, run, entry->data + entry->sent);
}

/* Whether the topic has more than the variant that the subscription reads, and where that begins:
 * nothing published later may leave before it. */
static bool underived(const fws_sub *sub, uint64_t *eseq)
{
    fws_cursor cursor;
    bool lapped;
    fws_log_seek(&sub->topic->log, sub->log->next_seq, &cursor);
    const fws_slab *slab = fws_log_find(&sub->topic->log, &cursor, &lapped);
    if (slab != NULL)
        *eseq = slab->base_eseq + slab->eseq[cursor.index];
    return slab != NULL;
}

/* The subscription whose next frame was published first, its slab (NULL: that frame is not
 * derived yet), and where the runner-up begins (UINT64_MAX when there is none). */
static fws_sub *earliest(fws_conn *conn, fws_slab **slab_out, uint64_t *first, uint64_t *second)
{
    fws_sub *best = NULL;
    *first = *second = UINT64_MAX;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next) {
        bool lapped;
        fws_slab *slab = fws_log_find(sub->log, &sub->planned, &lapped);
        uint64_t eseq = UINT64_MAX;
        if (slab != NULL)
            eseq = slab->base_eseq + slab->eseq[sub->planned.index];
        else if (sub->log == &sub->topic->log || !underived(sub, &eseq))
            continue;
        if (eseq < *first) {
            *second = *first;
            *first = eseq;
            *slab_out = slab;
            best = sub;
        } else if (eseq < *second) {
            *second = eseq;
        }
    }
    return best;
}

static void gather_merged(fws_conn *conn, fws_plan *plan)
{
    fws_entry *entry = conn->outbox.first;
    while (!plan_full(plan)) {
        fws_slab *slab = NULL;
        uint64_t first, second;
        fws_sub *sub = earliest(conn, &slab, &first, &second);
        if (entry != NULL && (entry->sent > 0 || entry->eseq <= first)) {
            plan_entry(plan, entry);
            if (entry->kind == FWS_ENTRY_CLOSE)
                return;
            entry = entry->next;
            continue;
        }
        if (sub == NULL || slab == NULL)
            return;
        uint64_t limit = entry != NULL && entry->eseq < second ? entry->eseq : second;
        if (!plan_slab(plan, sub, slab, limit))
            return;
    }
}

/* The reader of a variant goes on in it, where it has the next frame, else in the topic's log. */
static void find_place(fws_sub *sub)
{
    uint64_t seq = fws_sub_seq(sub);
    const fws_log *derived = &sub->variant->log;
    sub->log = derived;
    if (seq < derived->next_seq && fws_log_seek(derived, seq, &sub->planned))
        return;
    sub->log = &sub->topic->log;
    if (!fws_log_seek(sub->log, seq, &sub->planned))
        sub->planned = fws_log_end(sub->log); /* lapped: its policy is due */
}

void fws_gather(fws_conn *conn, fws_plan *plan)
{
    plan->n = 0;
    plan->bytes = 0;
    if (conn->partial.data != NULL) {
        fws_run run = {.kind = FWS_RUN_PARTIAL, .bytes = conn->partial.n - conn->partial.sent};
        plan_add(plan, run, conn->partial.data + conn->partial.sent);
    }
    if (conn->close_sent)
        return;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next) {
        sub->planned = sub->cursor;
        if (sub->variant != NULL)
            find_place(sub);
    }
    if (conn->outbox.first == NULL && conn->subs != NULL && conn->subs->next == NULL)
        gather_one(conn->subs, plan);
    else if (conn->outbox.first != NULL || conn->subs != NULL)
        gather_merged(conn, plan);
}

bool fws_conn_pending(const fws_conn *conn)
{
    if (conn->partial.data != NULL)
        return true;
    if (conn->close_sent)
        return false;
    if (conn->outbox.first != NULL)
        return true;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next) {
        fws_cursor cursor = sub->cursor;
        bool lapped;
        if (sub->variant != NULL) {
            if (fws_sub_seq(sub) != sub->topic->log.next_seq)
                return true;
            continue;
        }
        if (fws_log_find(&sub->topic->log, &cursor, &lapped) != NULL || lapped)
            return true;
    }
    return false;
}

static void partial_free(fws_partial *partial)
{
    if (partial->pinned != NULL)
        fws_slab_unpin(partial->pinned);
    else
        free((void *)(uintptr_t)partial->data);
    partial->topic->partial_frames--;
    if (partial->sub != NULL)
        partial->sub->partial = false;
}

void fws_partial_drop(fws_partial *partial)
{
    if (partial->data == NULL)
        return;
    partial_free(partial);
    partial->topic->dropped++;
    if (partial->sub != NULL)
        partial->sub->dropped++;
    *partial = (fws_partial){0};
}

static void partial_advance(fws_conn *conn, size_t taken)
{
    fws_partial *partial = &conn->partial;
    partial->sent += (uint32_t)taken;
    if (partial->sent < partial->n)
        return;
    partial_free(partial);
    if (partial->sub != NULL)
        fws_sub_delivered(partial->sub, 1, conn->bytes_written);
    else
        fws_parted_delivered(conn, partial->topic);
    *partial = (fws_partial){0};
}

static void entry_advance(fws_conn *conn, size_t taken)
{
    fws_entry *entry = conn->outbox.first;
    entry->sent += (uint32_t)taken;
    conn->outbox.bytes -= taken;
    if (entry->sent < entry->n)
        return;
    if (entry->kind == FWS_ENTRY_CLOSE)
        conn->close_sent = true;
    fws_outbox_pop(&conn->outbox);
}

/* Frame `index` has begun to leave, up to byte position at of its slab. The partial is copied, so
 * that a stalled reader pins nothing that others' frames lie in; a large one that has a
 * slab of its own, or one that memory is short for, holds the slab. */
static void partial_begin(fws_conn *conn, const fws_run *run, uint32_t index, uint32_t at)
{
    fws_slab *slab = run->slab;
    uint32_t n = slab->end[index] - at;
    uint8_t *copy = n <= FWS_PARTIAL_COPY || slab->max_frames > 1 ? malloc(n) : NULL;
    conn->partial = (fws_partial){.n = n, .sub = run->sub, .topic = run->sub->topic};
    if (copy != NULL) {
        memcpy(copy, slab->data + at, n);
        conn->partial.data = copy;
    } else {
        fws_slab_pin(slab);
        conn->partial.pinned = slab;
        conn->partial.data = slab->data + at;
    }
    run->sub->partial = true;
    run->sub->topic->partial_frames++;
}

static void run_advance(fws_conn *conn, const fws_run *run, size_t taken)
{
    fws_sub *sub = run->sub;
    fws_slab *slab = run->slab;
    uint32_t index = run->last;
    if (taken < run->bytes) {
        uint32_t at = fws_slab_start(slab, run->first) + (uint32_t)taken;
        index = fws_slab_frame_at(slab, run->first, at);
        if (at > fws_slab_start(slab, index))
            partial_begin(conn, run, index, at);
    }
    sub->cursor = (fws_cursor){slab->id, index + (sub->partial ? 1 : 0)};
    if (index > run->first)
        fws_sub_delivered(sub, index - run->first, conn->bytes_written);
}

void fws_commit(fws_conn *conn, const fws_plan *plan, size_t sent)
{
    conn->bytes_written += sent;
    for (uint32_t i = 0; i < plan->n && sent > 0; i++) {
        const fws_run *run = &plan->runs[i];
        size_t taken = sent < run->bytes ? sent : run->bytes;
        sent -= taken;
        if (run->kind == FWS_RUN_LOG)
            run_advance(conn, run, taken);
        else if (run->kind == FWS_RUN_ENTRY)
            entry_advance(conn, taken);
        else
            partial_advance(conn, taken);
    }
}
