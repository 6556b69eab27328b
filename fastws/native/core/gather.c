/* Plans the next send of a connection; then counts what the kernel took of it. */
#include <stdlib.h>
#include <string.h>

#include "core/sample.h"

#define AHEAD 7       /* places of the heap that are looked at: three levels */
#define DERIVE_MOST 4 /* steps of compression for one plan */

/* The plan. */

static bool plan_full(const fws_plan *plan)
{
    return plan->n_runs == FWS_PLAN_RUNS || plan->n_iov == FWS_PLAN_IOV
           || plan->bytes >= FWS_PLAN_BYTES || plan->n_taken == FWS_PLAN_RUNS;
}

/* Small pieces are copied behind one another: an iovec costs the kernel more than 100 bytes do. */
static void plan_add(fws_plan *plan, fws_run run, const uint8_t *data)
{
    struct iovec *last = plan->n_iov > 0 ? &plan->iov[plan->n_iov - 1] : NULL;
    uint8_t *end = plan->copy + plan->copied;
    plan->runs[plan->n_runs++] = run;
    plan->bytes += run.bytes;
    if (plan->merged && run.bytes <= FWS_COPY_MOST && FWS_PLAN_COPY - plan->copied >= run.bytes) {
        memcpy(end, data, run.bytes);
        plan->copied += run.bytes;
        data = end;
        if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == end) {
            last->iov_len += run.bytes;
            return;
        }
    }
    plan->iov[plan->n_iov++] =
        (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = run.bytes};
}

/* Direct messages that lie together, up to that engine sequence. False: it is a Close. */
static bool plan_direct(fws_plan *plan, const fws_outbox *outbox, fws_place *place, uint64_t limit)
{
    bool close = place->block->kind == FWS_ENTRY_CLOSE;
    const uint8_t *data;
    fws_run run = {.kind = FWS_RUN_ENTRY, .bytes = fws_outbox_take(outbox, place, limit, &data)};
    plan_add(plan, run, data);
    return !close;
}

/* Frames of one slab from where it stands, with engine sequences below the limit and
 * as many as the plan has bytes for; at least one when the plan is empty. False: none. */
static bool plan_run(fws_plan *plan, fws_taken *taken, uint64_t limit)
{
    fws_slab *slab = taken->slab;
    uint32_t first = (uint32_t)(taken->seq - slab->base_seq), last = slab->n;
    uint32_t start = fws_slab_start(slab, first);
    size_t room = FWS_PLAN_BYTES - plan->bytes;
    uint64_t excluded = fws_sub_next_excluded(taken->sub, taken->seq);
    if (excluded - slab->base_seq < last)
        last = (uint32_t)(excluded - slab->base_seq);
    if (taken->sub->conflating)
        last = first + fws_keys_run(taken->sub->topic->keys, taken->seq, last - first);
    if (fws_slab_eseq(slab, last - 1) >= limit)
        last = fws_slab_frame_eseq(slab, first, limit);
    if (fws_slab_start(slab, last) - start > room) {
        last = fws_slab_frame_at(slab, first, start + (uint32_t)room);
        if (last == first && plan->bytes == 0)
            last = first + 1;
    }
    if (fws_sub_filter(taken->sub) != NULL)
        last = first + fws_filter_run(fws_sub_filter(taken->sub), taken->seq, last - first);
    if (last == first)
        return false;
    fws_run run = {.kind = FWS_RUN_LOG,
                   .first = first,
                   .last = last,
                   .sub = taken->sub,
                   .slab = slab,
                   .bytes = fws_slab_start(slab, last) - start};
    plan_add(plan, run, slab->data + start);
    taken->seq += last - first;
    return true;
}

/* The log that it reads its frame from. A variant is derived here, a step at a time; where it
 * cannot have the frame, the topic's log serves, which is legal for everybody. NULL: enough was
 * derived for one plan, or what the plan holds of the variant would go. */
static const fws_log *log_for(fws_plan *plan, const fws_taken *taken)
{
    const fws_sub *sub = taken->sub;
    fws_variant *variant = sub->extra == NULL ? NULL : sub->extra->variant;
    const fws_log *base = &sub->topic->log;
    if (variant == NULL)
        return base;
    if (taken->seq >= variant->log.next_seq) {
        if ((plan->derived++ >= DERIVE_MOST && plan->bytes > 0)
            || (taken->slab != NULL && taken->seq > variant->log.next_seq))
            return NULL;
        fws_variant_advance(variant, base, taken->seq, plan->codec);
    }
    return taken->seq >= variant->log.first_seq && taken->seq < variant->log.next_seq
               ? &variant->log
               : base;
}

/* Finds the slab of its next frame. False: it has none, or none for this plan. */
static bool find_slab(fws_plan *plan, fws_taken *taken)
{
    taken->seq = fws_sub_skip(taken->sub, taken->seq);
    if (taken->seq >= taken->sub->topic->log.next_seq)
        return false;
    const fws_log *log = log_for(plan, taken);
    if (log == NULL) {
        plan->stop = true; /* nothing published later may leave before it */
        return false;
    }
    uint64_t hint = taken->slab != NULL ? taken->slab->id : log->head;
    taken->slab = fws_log_slab(log, taken->seq, hint);
    return true;
}

/* Finds its next frame. False: it has none, or none for this plan. */
static bool aim(fws_plan *plan, fws_taken *taken)
{
    if (taken->sub->conflating)
        taken->slab = fws_sub_newer(taken->sub, &taken->seq);
    else if (!find_slab(plan, taken))
        return false;
    if (taken->slab == NULL)
        return false;
    uint32_t index = (uint32_t)(taken->seq - taken->slab->base_seq);
    taken->eseq = fws_sub_leaves_at(taken->sub, fws_slab_eseq(taken->slab, index));
    return true;
}

/* Subscriptions of the plan that have more: a heap of their numbers. */

static void again_push(fws_plan *plan, uint16_t number)
{
    uint32_t at = plan->n_again++;
    uint64_t eseq = plan->taken[number].eseq;
    for (uint32_t parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (plan->taken[plan->again[parent]].eseq <= eseq)
            break;
        plan->again[at] = plan->again[parent];
    }
    plan->again[at] = number;
}

static uint16_t again_pop(fws_plan *plan)
{
    uint16_t first = plan->again[0], moved = plan->again[--plan->n_again];
    uint32_t n = plan->n_again, at = 0;
    uint64_t eseq = plan->taken[moved].eseq;
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n
                 && plan->taken[plan->again[child + 1]].eseq < plan->taken[plan->again[child]].eseq;
        if (eseq <= plan->taken[plan->again[child]].eseq)
            break;
        plan->again[at] = plan->again[child];
    }
    plan->again[at] = moved;
    return first;
}

/* Engine sequence of the next frame of all subscriptions; UINT64_MAX: there is none. */
static uint64_t earliest(const fws_conn *conn, const fws_plan *plan)
{
    uint64_t fresh = conn->n_pending > 0 ? conn->heap[0].eseq : UINT64_MAX;
    uint64_t again = plan->n_again > 0 ? plan->taken[plan->again[0]].eseq : UINT64_MAX;
    return fresh < again ? fresh : again;
}

/* The first one of the connection's heap, its policy applied. 1: here it is; 0: it has no news;
 * FWS_E_SLOW. */
static int take_fresh(fws_conn *conn, fws_plan *plan, fws_taken **taken)
{
    /* The next ones are among the first places of the heap, and rarely in the cache. */
    for (uint32_t i = 1; i < AHEAD && i < conn->n_pending; i++) {
        __builtin_prefetch(conn->heap[i].sub, 1);
        __builtin_prefetch(&conn->heap[i].sub->next_unacked, 1);
    }
    fws_sub *sub = fws_conn_pop(conn).sub;
    if (sub->left) {
        conn->n_left--;
        fws_sub_put(sub);
        return 0;
    }
    *taken = &plan->taken[plan->n_taken++];
    **taken = (fws_taken){.sub = sub, .seq = sub->seq, .from = sub->seq};
    if ((conn->lagging || fws_sub_lapped(sub)) && fws_sub_apply_policy(sub) != FWS_OK)
        return FWS_E_SLOW;
    (*taken)->seq = (*taken)->from = sub->seq;
    return aim(plan, *taken);
}

/* The subscription whose next frame was published first. */
static int take(fws_conn *conn, fws_plan *plan, fws_taken **taken)
{
    bool fresh = conn->n_pending > 0
                 && (plan->n_again == 0 || conn->heap[0].eseq <= plan->taken[plan->again[0]].eseq);
    if (fresh)
        return take_fresh(conn, plan, taken);
    *taken = &plan->taken[again_pop(plan)];
    return 1;
}

/* Frames of subscriptions and direct messages, by engine sequence. */
static int gather_merged(fws_conn *conn, fws_plan *plan, uint64_t before)
{
    fws_place place = fws_outbox_first(&conn->outbox);
    while (!plan_full(plan) && !plan->stop) {
        uint64_t first = earliest(conn, plan), direct = fws_place_eseq(&place);
        fws_taken *taken;
        if (place.block != NULL && direct <= first) {
            if (direct >= before
                || !plan_direct(plan, &conn->outbox, &place, first < before ? first : before - 1))
                return FWS_OK;
            continue;
        }
        if (first >= before)
            return FWS_OK;
        int status = take(conn, plan, &taken);
        if (status < 0)
            return status;
        if (status == 0)
            continue;
        uint64_t limit = earliest(conn, plan);
        limit = before < limit ? before : limit;
        limit = direct < limit ? direct : limit;
        /* The heap had its least possible engine sequence: a policy may have moved it. */
        if (taken->eseq < limit) {
            if (!plan_run(plan, taken, limit))
                return FWS_OK;
            if (!aim(plan, taken))
                continue;
        }
        again_push(plan, (uint16_t)(taken - plan->taken));
    }
    return FWS_OK;
}

/* One pending subscription alone: whole runs, nothing to merge with. */
static int gather_one(fws_conn *conn, fws_plan *plan, uint64_t before)
{
    fws_taken *taken;
    int status = take_fresh(conn, plan, &taken);
    plan->merged = status > 0 /* its frames lie scattered */
                   && (taken->sub->conflating || fws_sub_filter(taken->sub) != NULL);
    while (status > 0 && !plan_full(plan) && taken->eseq < before)
        status = plan_run(plan, taken, before) && aim(plan, taken);
    return status < 0 ? status : FWS_OK;
}

int fws_gather(fws_conn *conn, fws_plan *plan, uint64_t before)
{
    plan->n_iov = plan->n_runs = plan->n_taken = plan->n_again = plan->copied = plan->derived = 0;
    plan->bytes = 0;
    plan->stop = plan->merged = false;
    if (conn->partial.data != NULL) {
        fws_run run = {.kind = FWS_RUN_PARTIAL, .bytes = conn->partial.n - conn->partial.sent};
        plan_add(plan, run, conn->partial.data + conn->partial.sent);
    }
    if (conn->close_sent)
        return FWS_OK;
    if (fws_outbox_empty(&conn->outbox) && conn->n_pending == 1)
        return gather_one(conn, plan, before);
    plan->merged = true;
    return gather_merged(conn, plan, before);
}

/* The half-sent frame. */

static void partial_free(fws_conn *conn)
{
    if (conn->partial.pinned != NULL)
        fws_slab_unpin(conn->partial.sub->topic->log.logs, conn->partial.pinned);
    else
        free((void *)(uintptr_t)conn->partial.data);
    conn->partial.sub->partial = false;
    conn->partial = (fws_partial){0};
}

void fws_partial_drop(fws_conn *conn)
{
    fws_sub *sub = conn->partial.sub;
    if (conn->partial.data == NULL)
        return;
    partial_free(conn);
    fws_sub_dropped(sub, 1);
    fws_sub_put(sub);
}

static void partial_advance(fws_conn *conn, size_t taken)
{
    fws_sub *sub = conn->partial.sub;
    conn->partial.sent += (uint32_t)taken;
    if (conn->partial.sent < conn->partial.n)
        return;
    partial_free(conn);
    fws_sub_delivered(sub, 1);
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
    run->sub->partial = true;
}

/* What was taken. */

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
    if (fws_sub_filter(sub) != NULL)
        sub->extra->filter->passed += index - run->first + sub->partial;
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
        else if (run->kind == FWS_RUN_ENTRY)
            conn->close_sent |= fws_outbox_sent(&conn->outbox, taken);
        else
            partial_advance(conn, taken);
    }
    for (uint32_t i = 0; i < plan->n_taken; i++)
        put_back(conn, &plan->taken[i]);
    plan->n_taken = 0;
}
