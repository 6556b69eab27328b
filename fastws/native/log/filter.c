#include "log/filter.h"

#include <stdlib.h>
#include <string.h>

/* Names. */

uint32_t fws_filter_names(const uint8_t *names, size_t n)
{
    uint32_t count = 0;
    for (size_t at = 0; at < n; at += 1 + (size_t)names[at]) {
        if (n - at < 1 + (size_t)names[at] || ++count > FWS_FILTER_MOST)
            return 0;
    }
    return count;
}

static const fws_key *named(const fws_filter *filter, const uint8_t *name, size_t n)
{
    for (uint32_t i = 0; i < filter->n; i++) {
        const fws_key *key = filter->wanted[i];
        if (key->n == n && (n == 0 || memcmp(key->name, name, n) == 0))
            return key;
    }
    return NULL;
}

bool fws_filter_same(const fws_filter *filter, const uint8_t *names, size_t n)
{
    bool found[FWS_FILTER_MOST] = {false};
    uint32_t count = 0;
    for (size_t at = 0; at < n; at += 1 + (size_t)names[at]) {
        const fws_key *key = named(filter, names + at + 1, names[at]);
        if (key == NULL)
            return false;
        for (uint32_t i = 0; i < filter->n; i++) {
            count += filter->wanted[i] == key && !found[i];
            found[i] |= filter->wanted[i] == key;
        }
    }
    return count == filter->n;
}

/* The beginning and the end. */

/* The key of that name, with ranks; those of no filter yet are to be made. NULL: memory is out. */
static fws_key *rank(fws_keys *keys, const uint8_t *name, size_t n)
{
    fws_key *key = fws_keys_name(keys, name, n);
    if (key == NULL || key->ranks != NULL)
        return key;
    key->ranks = fws_ranks_new(keys->log);
    keys->n_ranked += key->ranks != NULL;
    if (key->ranks != NULL)
        return key;
    fws_keys_unreserve(keys, key);
    return NULL;
}

static void unrank(fws_keys *keys, fws_key *key)
{
    if (key->ranks->filters > 0)
        return;
    fws_ranks_free(key->ranks, keys->log);
    key->ranks = NULL;
    keys->n_ranked--;
    fws_keys_unreserve(keys, key);
}

static bool is_new(const fws_key *key)
{
    return key->ranks != NULL && key->ranks->filters == 0;
}

/* A name that no frame has, such as one that a client made up, costs no walk over the frames. */
static bool has_frames(const fws_keys *keys, const fws_key *key)
{
    return key->place != UINT64_MAX && key->seq >= keys->log->first_seq;
}

/* Makes those of all new keys in one walk over what the log retains. False: memory is out. */
static bool rank_frames(fws_keys *keys)
{
    for (uint64_t seq = keys->log->first_seq; seq < keys->log->next_seq; seq++) {
        const fws_key *key = fws_keys_at(keys, seq);
        if (!is_new(key))
            continue;
        if (!fws_ranks_room(key->ranks, keys->log))
            return false;
        fws_ranks_add(key->ranks, seq, 1);
    }
    /* Frames without a key are committed without a reserve. */
    return !is_new(keys->plain) || fws_ranks_room(keys->plain->ranks, keys->log);
}

/* Its keys, and their ranks. False: memory is out. */
static bool fill(fws_filter *filter, const uint8_t *names, size_t n)
{
    bool fresh = false;
    for (size_t at = 0; at < n; at += 1 + (size_t)names[at]) {
        if (named(filter, names + at + 1, names[at]) != NULL)
            continue;
        fws_key *key = rank(filter->keys, names + at + 1, names[at]);
        if (key == NULL)
            return false;
        fresh |= is_new(key) && has_frames(filter->keys, key);
        filter->wanted[filter->n++] = key;
    }
    return !fresh || rank_frames(filter->keys);
}

fws_filter *fws_filter_new(fws_keys *keys, const uint8_t *names, size_t n)
{
    uint32_t most = fws_filter_names(names, n);
    fws_filter *filter = malloc(sizeof *filter + most * sizeof filter->wanted[0]);
    if (filter == NULL)
        return NULL;
    *filter = (fws_filter){.keys = keys};
    bool filled = fill(filter, names, n);
    for (uint32_t i = 0; i < filter->n; i++) {
        if (filled)
            filter->wanted[i]->ranks->filters++;
        else
            unrank(keys, filter->wanted[i]);
    }
    if (filled)
        return filter;
    free(filter);
    return NULL;
}

void fws_filter_free(fws_filter *filter)
{
    if (filter == NULL)
        return;
    for (uint32_t i = 0; i < filter->n; i++) {
        filter->wanted[i]->ranks->filters--;
        unrank(filter->keys, filter->wanted[i]);
    }
    free(filter);
}

/* Frames. */

bool fws_filter_wants(const fws_filter *filter, const fws_key *key)
{
    if (key->ranks == NULL)
        return false;
    for (uint32_t i = 0; i < filter->n; i++)
        if (filter->wanted[i] == key)
            return true;
    return false;
}

uint64_t fws_filter_count(const fws_filter *filter)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < filter->n; i++)
        count += filter->wanted[i]->ranks->count;
    return count;
}

uint64_t fws_filter_before(const fws_filter *filter, uint64_t seq)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < filter->n; i++)
        count += fws_ranks_before(filter->wanted[i]->ranks, seq);
    return count;
}

/* With many keys the next one is near; with few a search of each is short. */
uint64_t fws_filter_next(const fws_filter *filter, uint64_t seq)
{
    uint64_t next = filter->keys->log->next_seq;
    uint64_t near = next - seq > filter->n ? seq + filter->n : next;
    bool news = false;
    for (uint32_t i = 0; i < filter->n && !news; i++)
        news = filter->wanted[i]->seq >= seq;
    if (!news)
        return next;
    for (; seq < near; seq++)
        if (fws_filter_wants(filter, fws_keys_at(filter->keys, seq)))
            return seq;
    for (uint32_t i = 0; i < filter->n; i++) {
        const fws_key *key = filter->wanted[i];
        uint64_t found = key->seq < seq ? next : fws_ranks_next(key->ranks, seq);
        next = found < next ? found : next;
    }
    return next;
}

uint64_t fws_filter_last(const fws_filter *filter, uint64_t seq)
{
    uint64_t last = UINT64_MAX, first = filter->keys->log->first_seq;
    for (uint32_t i = 0; i < filter->n; i++) {
        uint64_t found = fws_ranks_last(filter->wanted[i]->ranks, seq);
        if (found != UINT64_MAX && found >= first && (last == UINT64_MAX || found > last))
            last = found;
    }
    return last;
}

uint32_t fws_filter_run(const fws_filter *filter, uint64_t seq, uint32_t most)
{
    uint32_t n = most > 0; /* that one may be saved: its key is not known by its place */
    while (n < most && fws_filter_wants(filter, fws_keys_at(filter->keys, seq + n)))
        n++;
    return n;
}

uint64_t fws_filter_newest(const fws_filter *filter, uint64_t most)
{
    uint64_t low = filter->keys->log->first_seq, high = filter->keys->log->next_seq;
    uint64_t count = fws_filter_count(filter);
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (count - fws_filter_before(filter, middle) <= most)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Newest frames of keys. */

static bool has_newest(const fws_key *key, uint64_t seq)
{
    return key->place != UINT64_MAX && key->seq >= seq;
}

const fws_key *fws_filter_key(const fws_filter *filter, uint64_t seq)
{
    const fws_key *found = NULL;
    for (uint32_t i = 0; i < filter->n; i++) {
        const fws_key *key = filter->wanted[i];
        if (has_newest(key, seq) && (found == NULL || key->seq < found->seq))
            found = key;
    }
    return found;
}

uint32_t fws_filter_keys(const fws_filter *filter, uint64_t seq)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < filter->n; i++)
        n += has_newest(filter->wanted[i], seq);
    return n;
}
