/* A subscription's position: the frames excluded for it, its count on the slab it reads, and what it
 * leaves out for newer frames of the same keys. */
#include <stdlib.h>

#include "core/topic.h"

static const fws_excluded *excluded_of(const fws_sub *sub)
{
    return sub->extra == NULL ? NULL : sub->extra->excluded;
}

/* The first run that ends behind seq. */
static uint32_t run_at(const fws_excluded *excluded, uint64_t seq)
{
    uint32_t low = 0, high = excluded->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (excluded->runs[middle].seq + excluded->runs[middle].n > seq)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

uint32_t fws_sub_runs(const fws_sub *sub)
{
    const fws_excluded *excluded = excluded_of(sub);
    return excluded == NULL ? 0 : excluded->n;
}

uint64_t fws_sub_skip(const fws_sub *sub, uint64_t seq)
{
    const fws_excluded *excluded = excluded_of(sub);
    if (excluded == NULL || excluded->ahead == 0)
        return seq;
    uint32_t i = run_at(excluded, seq);
    /* Runs do not touch: behind one there is a frame to get. */
    return i < excluded->n && excluded->runs[i].seq <= seq
               ? excluded->runs[i].seq + excluded->runs[i].n
               : seq;
}

uint64_t fws_sub_newest(const fws_sub *sub)
{
    const fws_excluded *excluded = excluded_of(sub);
    const fws_log *log = &sub->topic->log;
    uint64_t behind = log->next_seq; /* the newest one lies before that: runs do not touch */
    if (excluded != NULL && excluded->n > 0) {
        uint64_t first = excluded->runs[excluded->n - 1].seq;
        behind = first + excluded->runs[excluded->n - 1].n == log->next_seq ? first : behind;
    }
    return behind > log->first_seq && behind > sub->seq ? behind - 1 : log->next_seq;
}

uint64_t fws_sub_next_excluded(const fws_sub *sub, uint64_t seq)
{
    const fws_excluded *excluded = excluded_of(sub);
    if (excluded == NULL || excluded->ahead == 0)
        return UINT64_MAX;
    uint32_t i = run_at(excluded, seq);
    return i == excluded->n ? UINT64_MAX
                            : (excluded->runs[i].seq > seq ? excluded->runs[i].seq : seq);
}

uint64_t fws_sub_excluded(const fws_sub *sub, uint64_t from, uint64_t to)
{
    const fws_excluded *excluded = excluded_of(sub);
    uint64_t count = 0;
    if (excluded == NULL || excluded->ahead == 0)
        return 0;
    for (uint32_t i = run_at(excluded, from); i < excluded->n && excluded->runs[i].seq < to; i++) {
        uint64_t first = excluded->runs[i].seq, last = first + excluded->runs[i].n;
        count += (last < to ? last : to) - (first > from ? first : from);
    }
    return count;
}

void fws_sub_pass(fws_sub *sub)
{
    fws_excluded *excluded = sub->extra == NULL ? NULL : sub->extra->excluded;
    if (excluded == NULL || excluded->ahead == 0)
        return;
    sub->seq = fws_sub_skip(sub, sub->seq);
    uint32_t gone = run_at(excluded, sub->seq); /* no run is passed in part */
    for (uint32_t i = 0; i < gone; i++)
        excluded->ahead -= excluded->runs[i].n;
    excluded->n -= gone;
    for (uint32_t i = 0; gone > 0 && i < excluded->n; i++)
        excluded->runs[i] = excluded->runs[i + gone];
}

static bool excluded_grow(fws_sub_extra *extra)
{
    fws_excluded *excluded = extra->excluded;
    uint32_t n = excluded == NULL ? 0 : excluded->n;
    if (excluded != NULL && n < excluded->capacity)
        return true;
    uint32_t capacity = n == 0 ? 2 : n * 2;
    fws_excluded *grown = realloc(excluded, sizeof *excluded + capacity * sizeof excluded->runs[0]);
    if (grown == NULL)
        return false;
    if (excluded == NULL)
        *grown = (fws_excluded){0};
    grown->capacity = capacity;
    extra->excluded = grown;
    return true;
}

int fws_sub_exclude(fws_sub *sub)
{
    uint64_t seq = sub->topic->log.next_seq;
    if (sub->extra == NULL)
        sub->extra = calloc(1, sizeof *sub->extra);
    if (sub->extra == NULL || !excluded_grow(sub->extra))
        return FWS_E_NOMEM;
    fws_excluded *excluded = sub->extra->excluded;
    uint32_t n = excluded->n;
    sub->topic->account.published--; /* the commit counts it for all members */
    sub->topic->topics->account.published--;
    excluded->total++;
    excluded->ahead++;
    if (n > 0 && excluded->runs[n - 1].seq + excluded->runs[n - 1].n == seq) {
        excluded->runs[n - 1].n++;
    } else {
        excluded->runs[n].seq = seq;
        excluded->runs[n].n = 1;
        excluded->n++;
    }
    return FWS_OK;
}

/* The newest frames of keys. */

fws_slab *fws_sub_newer(const fws_sub *sub, uint64_t *seq)
{
    const fws_topic *topic = sub->topic;
    const fws_keyed *at;
    for (; (at = fws_keys_from(topic->keys, *seq)) != NULL; *seq = at->seq + 1) {
        if (fws_sub_skip(sub, at->seq) != at->seq)
            continue;
        *seq = at->seq;
        return at->key->saved != NULL ? at->key->saved
                                      : fws_log_slab(&topic->log, at->seq, topic->log.head);
    }
    *seq = topic->log.next_seq;
    return NULL;
}

void fws_sub_pass_over(fws_sub *sub, uint64_t seq)
{
    uint64_t frames = seq - sub->seq - fws_sub_excluded(sub, sub->seq, seq);
    uint64_t ahead = sub->extra->unpublished_ahead, never = ahead < frames ? ahead : frames;
    sub->extra->unpublished_ahead -= never;
    frames -= never;
    sub->extra->conflated += frames;
    sub->topic->account.conflated += frames;
    sub->topic->topics->account.conflated += frames;
    sub->conn->conflated += frames;
    sub->seq = seq;
    fws_sub_pass(sub); /* what is excluded up to there lies behind it */
}

/* The slab's id from its low bits: the log never holds as many as 2^32. */
uint64_t fws_sub_hint(const fws_sub *sub)
{
    uint64_t tail = sub->topic->log.tail;
    return tail + (uint32_t)(sub->slab - (uint32_t)tail);
}

fws_slab *fws_sub_slab(const fws_sub *sub)
{
    return fws_log_slab(&sub->topic->log, sub->seq, fws_sub_hint(sub));
}

uint64_t fws_sub_eseq(const fws_sub *sub)
{
    if (fws_sub_lapped(sub))
        return 0; /* its policy is due, first of all */
    uint64_t seq = sub->seq;
    const fws_slab *slab = sub->conflating ? fws_sub_newer(sub, &seq) : fws_sub_slab(sub);
    if (slab == NULL)
        return 0; /* nothing is newer: it is passed over when it is its turn */
    return fws_sub_leaves_at(sub, fws_slab_eseq(slab, (uint32_t)(seq - slab->base_seq)));
}

/* Whether its slab is spared: what is replayed to it, and what its socket has not refused. While it
 * rests nothing is offered to it, and that is what it wants. */
static bool unoffered(const fws_sub *sub)
{
    return sub->spared || !(sub->conn->lagging || sub->resting);
}

void fws_sub_count(fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    if (sub->conflating)
        return;
    if (sub->seq < log->first_seq) { /* as if its slab had been taken from it just now */
        sub->slab = (uint32_t)log->tail - 1;
        sub->counted = true;
        sub->topic->lapped++;
        return;
    }
    if (sub->seq >= log->next_seq) {
        sub->ahead = true;
        sub->topic->ahead++;
        return;
    }
    fws_slab *slab = fws_sub_slab(sub);
    sub->spared = sub->extra != NULL && sub->seq < sub->extra->replay_to;
    slab->readers++;
    slab->unoffered += unoffered(sub);
    sub->slab = (uint32_t)slab->id;
    sub->counted = true;
}

void fws_sub_uncount(fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    uint64_t id = fws_sub_hint(sub);
    sub->topic->ahead -= sub->ahead;
    sub->topic->conflating -= sub->conflating;
    if (sub->conflating && sub->topic->conflating == 0 && !sub->topic->options->retain)
        fws_topic_forget_singles(sub->topic); /* else a new subscriber begins with them */
    sub->ahead = sub->conflating = false;
    if (!sub->counted)
        return;
    sub->counted = false;
    if (id >= log->head) { /* it was taken */
        sub->topic->lapped--;
        return;
    }
    fws_slab *slab = log->ring[id & (log->capacity - 1)];
    slab->readers--;
    slab->unoffered -= unoffered(sub);
}

void fws_sub_refused(fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    uint64_t id = fws_sub_hint(sub);
    if (id < log->head && !sub->spared)
        log->ring[id & (log->capacity - 1)]->unoffered--;
}

void fws_sub_move(fws_sub *sub, uint64_t seq)
{
    const fws_log *log = &sub->topic->log;
    sub->seq = seq;
    fws_sub_pass(sub);
    if (sub->conflating) {
        if (fws_sub_newer(sub, &seq) == NULL)
            fws_sub_pass_over(sub, seq);
        return;
    }
    if (sub->counted && sub->seq < log->next_seq && sub->seq >= log->first_seq
        && (uint32_t)fws_sub_slab(sub)->id == sub->slab)
        return; /* the common case */
    fws_sub_uncount(sub);
    fws_sub_count(sub);
}

bool fws_sub_conflate(fws_sub *sub)
{
    if (sub->extra == NULL && (sub->extra = calloc(1, sizeof *sub->extra)) == NULL)
        return false;
    fws_sub_uncount(sub);
    sub->conflating = true;
    sub->topic->conflating++;
    return true;
}
