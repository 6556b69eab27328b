/* The newest frame of each key of a topic. Layer 2: no I/O.
 *
 * A frame may carry a key; all frames without one share the empty key. The keys stand in the order
 * of their newest frames, so that a reader who wants only those finds what has changed since its
 * place: a search and a walk, whatever lies between. A frame lies in the topic's log; before its
 * slab is let go, those that are still the newest of their keys are saved, each in a slab of its
 * own, or forgotten with their keys. Memory is proportional to the keys that have a frame, and to
 * the frames retained: beside the log stands the key of each, 8 bytes a frame. So a key is not
 * freed before the log has let go of its last frame.
 */
#ifndef FWS_KEYS_H
#define FWS_KEYS_H

#include "log/log.h"
#include "log/ranks.h"
#include "log/ring.h"

#define FWS_KEY_MAX 255u /* bytes of a key */

typedef struct fws_key {
    uint64_t seq;     /* of its newest frame */
    uint64_t place;   /* in the order, counted from the first key ever */
    fws_slab *saved;  /* that frame; NULL: it lies in the log */
    fws_ranks *ranks; /* while filters name the key, which is not freed meanwhile; else NULL */
    uint32_t hash;
    uint8_t n;
    char name[];
} fws_key;

typedef struct fws_keyed {
    uint64_t seq;
    fws_key *key; /* NULL: the key has a newer frame, or was forgotten */
} fws_keyed;

typedef struct fws_keys {
    fws_log *log;
    fws_key **table;          /* by name: open addressing */
    uint32_t named, capacity; /* keys in the table */
    uint32_t n;               /* of them, those that have a newest frame */
    uint32_t n_saved;         /* of these, those whose frames are saved */
    uint32_t n_ranked;        /* keys that filters name */
    uint64_t committed;       /* the key of each frame before that one is known */
    fws_key *plain;           /* the empty key: always there */
    fws_ring frames;          /* their keys; what it does not know has the empty one */
    fws_keyed *order;         /* of the places [first, end) */
    uint64_t first, end;      /* first: at most the place of the first key */
    uint64_t order_capacity;  /* places */
    uint64_t seed;            /* secret: no collisions on purpose */
} fws_keys;

/* All frames that the log retains have the empty key. NULL: memory is out. */
fws_keys *fws_keys_new(fws_log *log, uint64_t seed);
void fws_keys_free(fws_keys *keys);

/* The key of that name (up to FWS_KEY_MAX bytes), made when it is new, and room for a frame of it:
 * so that the commit cannot fail. NULL: memory is out; never for the empty one, whose commit does
 * not fail in any case. */
fws_key *fws_keys_reserve(fws_keys *keys, const uint8_t *name, size_t n);

/* The same without room for a frame: that key is there before any frame of it. */
fws_key *fws_keys_name(fws_keys *keys, const uint8_t *name, size_t n);

/* It is not to be committed: one without a frame goes, unless filters name it. */
void fws_keys_unreserve(fws_keys *keys, fws_key *key);

/* Its newest frame is the one with that sequence number, which is the log's newest. Frames that
 * were appended since the last commit have the empty key, as all do when key is that one. */
void fws_keys_commit(fws_keys *keys, fws_key *key, uint64_t seq);

/* The key of a frame that the log retains: O(1). That of a frame without one is the empty key,
 * whose n is 0. It is good as long as the log retains the frame. */
const fws_key *fws_keys_at(const fws_keys *keys, uint64_t seq);

/* The first key whose newest frame has that sequence number or a higher one; NULL: there is none.
 * It is good until the next change. */
const fws_keyed *fws_keys_from(const fws_keys *keys, uint64_t seq);

/* How many frames from that one on, one behind the other, are the newest of their keys; at most
 * that many. */
uint32_t fws_keys_run(const fws_keys *keys, uint64_t seq, uint32_t most);

/* The oldest slab of the log is about to go: saves the frames that are the newest of their keys,
 * or, keep false or memory out, forgets them. */
void fws_keys_leave(fws_keys *keys, const fws_slab *slab, bool keep);

/* Forgets keys whose newest frames were saved and have lower sequence numbers, in portions: as long
 * as n_saved is not 0 it may be called again. */
void fws_keys_forget(fws_keys *keys, uint64_t before);

/* Forgets those with the oldest saved frames, until that many bytes are free. Returns how many. */
uint32_t fws_keys_shrink(fws_keys *keys, uint64_t bytes);

#endif
