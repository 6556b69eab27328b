/* A subscription's position: the frames excluded for it and those that its filter leaves out, its
 * count on the slab it reads, and what it leaves out for newer frames of the same keys. */
#include <stdlib.h>

#include "core/sub.h"

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

/* The first frame from seq on that is not excluded. */
static uint64_t skip_excluded(const fws_sub *sub, uint64_t seq)
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

/* The first frame from seq on that its filter lets through. */
static uint64_t skip_unwanted(const fws_sub *sub, uint64_t seq)
{
    uint64_t oldest = sub->topic->log.first_seq;
    if (seq >= oldest)
        return fws_filter_next(sub->extra->filter, seq);
    bool missed = fws_sub_frames(sub, sub->seq, oldest) > 0;
    return missed ? seq : fws_filter_next(sub->extra->filter, oldest);
}

uint64_t fws_sub_skip(const fws_sub *sub, uint64_t seq)
{
    uint64_t wanted, behind = skip_excluded(sub, seq);
    if (fws_sub_filter(sub) == NULL)
        return behind;
    while ((wanted = skip_unwanted(sub, behind)) != behind)
        if ((behind = skip_excluded(sub, wanted)) == wanted)
            break;
    return behind;
}

uint64_t fws_sub_frames(const fws_sub *sub, uint64_t from, uint64_t to)
{
    const fws_filter *filter = fws_sub_filter(sub);
    uint64_t excluded = fws_sub_excluded(sub, from, to);
    if (filter == NULL)
        return to - from - excluded;
    if (to < sub->topic->log.first_seq)
        return 0;
    uint64_t before = from == sub->seq ? filter->passed : fws_filter_before(filter, from);
    return fws_filter_before(filter, to) - before - excluded;
}

/* Of its frames that the log has let go of only those count that are saved: a snapshot has them. */
void fws_sub_begin_filtered(fws_sub *sub, bool snapshot)
{
    fws_filter *filter = sub->extra->filter;
    uint64_t oldest = sub->topic->log.first_seq;
    uint64_t seq = sub->seq > oldest ? sub->seq : oldest;
    filter->passed = fws_filter_before(filter, seq);
    if (sub->seq < oldest)
        filter->passed -= fws_filter_keys(filter, 0) - fws_filter_keys(filter, oldest);
    filter->start = filter->passed;
    if (!snapshot)
        fws_sub_pass(sub);
}

/* The last frame before that one that its filter lets through; UINT64_MAX: none is retained. */
static uint64_t last_before(const fws_sub *sub, uint64_t seq)
{
    const fws_filter *filter = fws_sub_filter(sub);
    return filter == NULL ? seq - 1 : fws_filter_last(filter, seq);
}

uint64_t fws_sub_newest(const fws_sub *sub)
{
    const fws_excluded *excluded = excluded_of(sub);
    const fws_log *log = &sub->topic->log;
    uint64_t least = sub->seq > log->first_seq ? sub->seq : log->first_seq;
    uint64_t seq = last_before(sub, log->next_seq);
    while (seq != UINT64_MAX && seq >= least) {
        uint32_t i = excluded == NULL ? 0 : run_at(excluded, seq);
        if (excluded == NULL || i == excluded->n || excluded->runs[i].seq > seq)
            return seq;
        seq = last_before(sub, excluded->runs[i].seq);
    }
    return log->next_seq;
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
    fws_filter *filter = sub->extra == NULL ? NULL : sub->extra->filter;
    if (filter == NULL && (excluded == NULL || excluded->ahead == 0))
        return;
    sub->seq = fws_sub_skip(sub, sub->seq);
    if (excluded == NULL)
        return;
    uint32_t gone = run_at(excluded, sub->seq); /* no run is passed in part */
    for (uint32_t i = 0; i < gone; i++) {
        excluded->ahead -= excluded->runs[i].n;
        if (filter != NULL)
            filter->passed += excluded->runs[i].n;
    }
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

/* The key whose newest frame is the first from seq on that it wants; NULL: there is none. */
static const fws_key *newest_key(const fws_sub *sub, uint64_t seq)
{
    const fws_filter *filter = fws_sub_filter(sub);
    if (filter != NULL)
        return fws_filter_key(filter, seq);
    const fws_keyed *at = fws_keys_from(sub->topic->keys, seq);
    return at == NULL ? NULL : at->key;
}

fws_slab *fws_sub_newer(const fws_sub *sub, uint64_t *seq)
{
    const fws_topic *topic = sub->topic;
    const fws_key *key;
    for (; (key = newest_key(sub, *seq)) != NULL; *seq = key->seq + 1) {
        if (skip_excluded(sub, key->seq) != key->seq)
            continue;
        *seq = key->seq;
        return key->saved != NULL ? key->saved
                                  : fws_log_slab(&topic->log, key->seq, topic->log.head);
    }
    *seq = topic->log.next_seq;
    return NULL;
}

void fws_sub_pass_over(fws_sub *sub, uint64_t seq)
{
    uint64_t frames = fws_sub_frames(sub, sub->seq, seq);
    if (sub->extra->filter != NULL)
        sub->extra->filter->passed += frames;
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
    if (seq != sub->seq && fws_sub_filter(sub) != NULL)
        sub->extra->filter->passed += fws_sub_frames(sub, sub->seq, seq);
    sub->seq = seq;
    fws_sub_pass(sub);
    if (sub->conflating) {
        if (fws_sub_newer(sub, &seq) == NULL)
            fws_sub_pass_over(sub, seq);
        else
            fws_sub_pass_over(sub,
                              sub->seq); /* what could not be counted before: fws_sub_frames() */
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
