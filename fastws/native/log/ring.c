#include "log/ring.h"

#include <stdlib.h>

#define FIRST 8 /* frames of the first ring, a power of two */

static bool resize(fws_ring *ring, fws_log *log, uint64_t capacity)
{
    struct fws_key **of = capacity == 0 ? NULL : malloc(capacity * sizeof(struct fws_key *));
    if (of == NULL && capacity > 0)
        return false;
    for (uint64_t seq = ring->first; seq != ring->end; seq++)
        of[seq & (capacity - 1)] = fws_ring_at(ring, seq);
    fws_log_beside(log, ((int64_t)capacity - (int64_t)ring->capacity) * (int64_t)sizeof *of);
    free(ring->of);
    ring->of = of;
    ring->capacity = capacity;
    return true;
}

bool fws_ring_room(fws_ring *ring, fws_log *log)
{
    uint64_t next = log->next_seq, capacity = ring->capacity;
    if (ring->first == ring->end)
        ring->first = ring->end = next;
    while (next - ring->first >= capacity)
        capacity = capacity == 0 ? FIRST : capacity * 2;
    if (capacity != ring->capacity && !resize(ring, log, capacity))
        return false;
    for (; ring->end != next; ring->end++)
        ring->of[ring->end & (capacity - 1)] = NULL;
    return true;
}

void fws_ring_add(fws_ring *ring, uint64_t seq, struct fws_key *key)
{
    ring->of[seq & (ring->capacity - 1)] = key;
    ring->end = seq + 1;
}

void fws_ring_leave(fws_ring *ring, fws_log *log, uint64_t seq)
{
    uint64_t capacity = ring->capacity;
    if (ring->first < seq)
        ring->first = seq < ring->end ? seq : ring->end;
    uint64_t n = ring->end - ring->first;
    if (n == 0 && seq == log->next_seq)
        (void)resize(ring, log, 0); /* the log will be empty */
    else if (capacity > 8 * FIRST && n < capacity / 8)
        (void)resize(ring, log, capacity / 4); /* the larger one serves as well */
}

void fws_ring_clear(fws_ring *ring, fws_log *log)
{
    ring->first = ring->end;
    (void)resize(ring, log, 0);
}
