/* The places of one key's frames in a log. Layer 2: no I/O.
 *
 * Kept while a filter names the key. Consecutive frames are one run, 16 bytes each, so that a search
 * tells how many frames of the key come before any place that the log retains, and which one is
 * next. Runs that the log has let go of are given back (fws_ranks_leave).
 */
#ifndef FWS_RANKS_H
#define FWS_RANKS_H

#include "log/log.h"

typedef struct fws_rank {
    uint64_t seq;    /* of the first frame of a run */
    uint64_t before; /* frames of the key that were counted before it */
} fws_rank;

typedef struct fws_ranks {
    uint32_t filters;    /* that name the key; 0: it is being made */
    uint64_t count;      /* frames of the key since it was made, and those retained by then */
    uint64_t first, end; /* runs, counted from the first one ever: [first, end) are kept */
    uint64_t capacity;
    fws_rank *runs; /* a ring */
} fws_ranks;

/* What it takes counts as beside the log. NULL: memory is out. */
fws_ranks *fws_ranks_new(fws_log *log);
void fws_ranks_free(fws_ranks *ranks, fws_log *log);

/* Room for another run, so that fws_ranks_add() cannot fail. False: memory is out. */
bool fws_ranks_room(fws_ranks *ranks, fws_log *log);

/* n frames of the key (1 up) from that one on, the newest ones. Behind the last run of the key with
 * nothing between them they take no room. */
void fws_ranks_add(fws_ranks *ranks, uint64_t seq, uint64_t n);

/* The log lets go of the frames before that one. */
void fws_ranks_leave(fws_ranks *ranks, fws_log *log, uint64_t seq);

/* Frames of the key before that one, which the log must retain, or which is the next one. */
uint64_t fws_ranks_before(const fws_ranks *ranks, uint64_t seq);

/* The first frame of the key at that place or behind it; the last one before it, which the log may
 * have let go of. UINT64_MAX: there is none. */
uint64_t fws_ranks_next(const fws_ranks *ranks, uint64_t seq);
uint64_t fws_ranks_last(const fws_ranks *ranks, uint64_t seq);

#endif
