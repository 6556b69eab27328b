/* Plans the next send of a connection. */
#include <string.h>

#include "core/sub.h"

#define AHEAD 7       /* places of the heap that are looked at: three levels */
#define DERIVE_MOST 4 /* steps of compression for one plan */

/* The plan. */

static bool plan_full(const fws_plan *plan)
{
    return plan->n_runs >= FWS_PLAN_RUNS || plan->n_iov >= FWS_PLAN_IOV
           || plan->bytes >= FWS_PLAN_BYTES || plan->n_taken == FWS_PLAN_RUNS
           || plan->copied > FWS_PLAN_COPY + FWS_PLAN_NOTES - 2 * FWS_NOTICE_MAX;
}

/* Copied behind what was copied before. */
static void plan_copy(fws_plan *plan, const uint8_t *data, size_t n)
{
    struct iovec *last = plan->n_iov > 0 ? &plan->iov[plan->n_iov - 1] : NULL;
    uint8_t *end = plan->copy + plan->copied;
    memcpy(end, data, n);
    plan->copied += (uint32_t)n;
    if (last != NULL && (uint8_t *)last->iov_base + last->iov_len == end)
        last->iov_len += n;
    else
        plan->iov[plan->n_iov++] = (struct iovec){.iov_base = end, .iov_len = n};
}

static bool copies(const fws_plan *plan, size_t n)
{
    return n <= FWS_COPY_MOST && plan->copied + n <= FWS_PLAN_COPY;
}

static void plan_refer(fws_plan *plan, const uint8_t *data, size_t n)
{
    plan->iov[plan->n_iov++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = n};
}

/* Small pieces are copied behind one another: an iovec costs the kernel more than 100 bytes do. */
static void plan_add(fws_plan *plan, fws_run run, const uint8_t *data)
{
    plan->runs[plan->n_runs++] = run;
    plan->bytes += run.bytes;
    if (plan->merged && copies(plan, run.bytes))
        plan_copy(plan, data, run.bytes);
    else
        plan_refer(plan, data, run.bytes);
}

/* Frames as one message: run.bytes of data, and what stands around them. */
static void plan_batch(fws_plan *plan, fws_run run, const uint8_t *data)
{
    uint8_t head[FWS_BATCH_HEAD];
    size_t skip, head_n = fws_batch_head(head, run.slab->form, run.bytes, &skip),
                 n = run.bytes - skip;
    bool tail = run.slab->form == FWS_FORM_JSON;
    run.kind = FWS_RUN_BATCH;
    run.bytes = (uint32_t)(head_n + n + tail);
    plan->runs[plan->n_runs++] = run;
    plan->bytes += run.bytes;
    plan_copy(plan, head, head_n);
    if (copies(plan, n))
        plan_copy(plan, data + skip, n);
    else
        plan_refer(plan, data + skip, n);
    if (tail)
        plan_copy(plan, (const uint8_t *)"]", 1);
}

/* What it has lost in front of its next frame: once, and it is told. */
static void plan_gap(fws_plan *plan, fws_taken *taken)
{
    const fws_sub_extra *extra = taken->sub->extra;
    uint8_t frame[FWS_NOTICE_FRAME];
    if (extra == NULL || extra->lost_from == extra->lost_to || taken->told)
        return;
    taken->told = true;
    fws_run run = {.kind = FWS_RUN_GAP,
                   .sub = taken->sub,
                   .bytes = (uint32_t)fws_gap_frame(frame, extra->lost_from, extra->lost_to - 1,
                                                    fws_why_name(extra->lost_why))};
    plan->runs[plan->n_runs++] = run;
    plan->bytes += run.bytes;
    plan_copy(plan, frame, run.bytes);
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
    if (slab->form != FWS_FORM_FRAME && last - first > taken->sub->extra->batch)
        last = first + taken->sub->extra->batch;
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
    plan_gap(plan, taken);
    if (slab->form == FWS_FORM_FRAME)
        plan_add(plan, run, slab->data + start);
    else
        plan_batch(plan, run, slab->data + start);
    taken->seq += last - first;
    return true;
}

/* The log of a variant that alone can serve it. NULL: for now it has not got that far. */
static const fws_log *strict_log(fws_plan *plan, const fws_taken *taken)
{
    const fws_variant *variant = taken->sub->extra->variant;
    while (!fws_variant_has(variant, taken->seq)) {
        bool leaps = taken->seq < variant->log.first_seq || taken->seq > variant->log.next_seq;
        if (leaps && taken->slab != NULL)
            return NULL; /* what the plan holds of the variant could go */
        if (plan->derived >= DERIVE_MOST)
            return NULL;
        plan->derived++;
        plan->starved = !fws_sub_derive(taken->sub, taken->seq, plan->codec);
        if (plan->starved)
            return NULL;
    }
    return &variant->log;
}

/* The log that it reads its frame from. A variant is derived here, a step at a time; where it
 * cannot have the frame, the topic's log serves, which is legal for everybody, but those who read a
 * strict one. NULL: enough was derived for one plan, or what the plan holds of the variant would
 * go. */
static const fws_log *log_for(fws_plan *plan, const fws_taken *taken)
{
    const fws_sub *sub = taken->sub;
    const fws_variant *variant = sub->extra == NULL ? NULL : sub->extra->variant;
    if (variant == NULL)
        return &sub->topic->log;
    if (fws_encoding_strict(variant->encoding))
        return strict_log(plan, taken);
    if (taken->seq >= variant->log.next_seq) {
        if ((plan->derived++ >= DERIVE_MOST && plan->bytes > 0)
            || (taken->slab != NULL && taken->seq > variant->log.next_seq))
            return NULL;
        (void)fws_sub_derive(sub, taken->seq, plan->codec);
    }
    return fws_variant_has(variant, taken->seq) ? &variant->log : &sub->topic->log;
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

/* That slab, of a frame that the base or a key holds, as a conflating one reads it. NULL: none for
 * this plan. */
static fws_slab *newer_encoded(fws_plan *plan, const fws_taken *taken, fws_slab *slab)
{
    const fws_sub *sub = taken->sub;
    const fws_variant *variant = sub->extra->variant;
    uint32_t i = (uint32_t)(taken->seq - slab->base_seq);
    if (fws_variant_has(variant, taken->seq))
        return fws_log_slab(&variant->log, taken->seq, variant->log.head);
    if (plan->derived >= DERIVE_MOST && plan->bytes > 0) {
        plan->stop = true;
        return NULL;
    }
    plan->encoded += slab->end[i] - fws_slab_start(slab, i);
    plan->derived += plan->encoded / FWS_DERIVE_STEP;
    plan->encoded %= FWS_DERIVE_STEP;
    bool settle = taken->slab == NULL; /* else the plan holds some */
    fws_slab *single = fws_sub_derive_single(sub, slab, taken->seq, plan->codec, settle);
    if (single != NULL || !fws_encoding_strict(variant->encoding))
        return single == NULL ? slab : single;
    plan->stop = plan->starved = true;
    return NULL;
}

/* The slab of the newest frame of a key. */
static fws_slab *find_newer(fws_plan *plan, fws_taken *taken)
{
    fws_slab *slab = fws_sub_newer(taken->sub, &taken->seq);
    bool encoded = slab != NULL && taken->sub->extra->variant != NULL;
    return encoded ? newer_encoded(plan, taken, slab) : slab;
}

/* Finds its next frame. False: it has none, or none for this plan. */
static bool aim(fws_plan *plan, fws_taken *taken)
{
    if (taken->sub->conflating)
        taken->slab = find_newer(plan, taken);
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
    plan->encoded = 0;
    plan->bytes = 0;
    plan->stop = plan->starved = plan->merged = false;
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
