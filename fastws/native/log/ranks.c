#include "log/ranks.h"

#include <stdlib.h>

#define FIRST 4 /* runs of the first ring, a power of two */

static fws_rank *run_at(const fws_ranks *ranks, uint64_t i)
{
    return &ranks->runs[i & (ranks->capacity - 1)];
}

/* Frames of the key before what follows run i. */
static uint64_t behind(const fws_ranks *ranks, uint64_t i)
{
    return i + 1 == ranks->end ? ranks->count : run_at(ranks, i + 1)->before;
}

/* The first frame behind run i. */
static uint64_t run_end(const fws_ranks *ranks, uint64_t i)
{
    return run_at(ranks, i)->seq + behind(ranks, i) - run_at(ranks, i)->before;
}

/* The first run that ends behind that frame. */
static uint64_t find(const fws_ranks *ranks, uint64_t seq)
{
    uint64_t low = ranks->first, high = ranks->end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (run_end(ranks, middle) > seq)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool resize(fws_ranks *ranks, fws_log *log, uint64_t capacity)
{
    fws_rank *runs = malloc(capacity * sizeof *runs);
    if (runs == NULL)
        return false;
    for (uint64_t i = ranks->first; i != ranks->end; i++)
        runs[i & (capacity - 1)] = *run_at(ranks, i);
    fws_log_beside(log, ((int64_t)capacity - (int64_t)ranks->capacity) * (int64_t)sizeof *runs);
    free(ranks->runs);
    ranks->runs = runs;
    ranks->capacity = capacity;
    return true;
}

fws_ranks *fws_ranks_new(fws_log *log)
{
    fws_ranks *ranks = malloc(sizeof *ranks);
    if (ranks == NULL)
        return NULL;
    *ranks = (fws_ranks){0};
    fws_log_beside(log, (int64_t)sizeof *ranks);
    if (!resize(ranks, log, FIRST)) {
        fws_ranks_free(ranks, log);
        return NULL;
    }
    return ranks;
}

void fws_ranks_free(fws_ranks *ranks, fws_log *log)
{
    fws_log_beside(log, -(int64_t)(sizeof *ranks + ranks->capacity * sizeof *ranks->runs));
    free(ranks->runs);
    free(ranks);
}

bool fws_ranks_room(fws_ranks *ranks, fws_log *log)
{
    return ranks->end - ranks->first < ranks->capacity || resize(ranks, log, ranks->capacity * 2);
}

void fws_ranks_add(fws_ranks *ranks, uint64_t seq, uint64_t n)
{
    if (ranks->first == ranks->end || run_end(ranks, ranks->end - 1) != seq)
        *run_at(ranks, ranks->end++) = (fws_rank){seq, ranks->count};
    ranks->count += n;
}

void fws_ranks_leave(fws_ranks *ranks, fws_log *log, uint64_t seq)
{
    while (ranks->first != ranks->end && run_end(ranks, ranks->first) <= seq)
        ranks->first++;
    if (ranks->capacity > 8 * FIRST && ranks->end - ranks->first < ranks->capacity / 8)
        (void)resize(ranks, log, ranks->capacity / 4); /* the larger one serves as well */
}

uint64_t fws_ranks_before(const fws_ranks *ranks, uint64_t seq)
{
    uint64_t i = find(ranks, seq);
    if (i == ranks->end)
        return ranks->count;
    const fws_rank *run = run_at(ranks, i);
    return run->before + (seq > run->seq ? seq - run->seq : 0);
}

uint64_t fws_ranks_next(const fws_ranks *ranks, uint64_t seq)
{
    uint64_t i = find(ranks, seq);
    if (i == ranks->end)
        return UINT64_MAX;
    return run_at(ranks, i)->seq > seq ? run_at(ranks, i)->seq : seq;
}

uint64_t fws_ranks_last(const fws_ranks *ranks, uint64_t seq)
{
    uint64_t i = find(ranks, seq);
    if (i != ranks->end && run_at(ranks, i)->seq < seq)
        return seq - 1;
    return i == ranks->first ? UINT64_MAX : run_end(ranks, i - 1) - 1;
}
