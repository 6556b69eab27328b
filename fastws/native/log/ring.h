/* What belongs to each frame of a log: a pointer, 8 bytes. Layer 2: no I/O.
 *
 * Only some frames have one. Nothing is noted of the frames before the first that does and behind
 * the last; between them each frame takes its place. What the ring takes counts as beside the log,
 * and a log that is empty has none of it.
 */
#ifndef FWS_RING_H
#define FWS_RING_H

#include "log/log.h"

typedef struct fws_ring {
    struct fws_key **of; /* of the frames [first, end) */
    uint64_t first, end;
    uint64_t capacity;
} fws_ring;

/* Room for the log's next frame, so that fws_ring_add() cannot fail. False: memory is out. */
bool fws_ring_room(fws_ring *ring, fws_log *log);

/* That of the log's newest frame; room was made for it, and nothing has been added since. */
void fws_ring_add(fws_ring *ring, uint64_t seq, struct fws_key *key);

/* The log lets go of the frames before that one. */
void fws_ring_leave(fws_ring *ring, fws_log *log, uint64_t seq);

void fws_ring_clear(fws_ring *ring, fws_log *log);

/* NULL: nothing was noted of that frame. */
static inline struct fws_key *fws_ring_at(const fws_ring *ring, uint64_t seq)
{
    bool noted =
        seq - ring->first < ring->end - ring->first; /* unsigned: false before first, too */
    return noted ? ring->of[seq & (ring->capacity - 1)] : NULL;
}

#endif
