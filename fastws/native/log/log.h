/* The wire log: finished frames back to back, in slabs. Layer 2: no I/O.
 *
 * A topic's log owns its slabs; the head grows, the tail is retired when the bytes held
 * pass the retention. A cursor is a plain value that holds no reference: one
 * that is older than the tail is lapped, and finds out when it is used. Only a
 * half-sent frame too large to copy keeps a slab (fws_slab_pin), and only that one.
 */
#ifndef FWS_LOG_H
#define FWS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FWS_SLAB_BYTES 65536u
#define FWS_SLAB_FRAMES 4096u
#define FWS_SLAB_ALONE (FWS_SLAB_BYTES / 4) /* a frame larger than this has a slab of its own */
#define FWS_POOL_SLABS 16u                  /* empty slabs kept for reuse */
#define FWS_FRAME_LIMIT 0x40000000u         /* bytes of one frame, header included */

typedef struct fws_slab {
    uint64_t id;         /* consecutive within a log */
    uint64_t base_seq;   /* sequence number of frame 0 */
    uint64_t base_bytes; /* bytes of the log before frame 0 */
    uint64_t base_eseq;  /* engine sequence of frame 0 */
    uint64_t opened;     /* when, ns; 0 without a clock */
    uint32_t n;          /* frames */
    uint32_t bytes;      /* used */
    uint32_t max_frames, max_bytes;
    uint32_t pins; /* half-sent frames that lie here */
    bool retired;  /* left its log; freed with the last hold */
    struct fws_slab *next_free;
    uint32_t *end;  /* end[i]: bytes up to and including frame i */
    uint32_t *eseq; /* engine sequence of frame i less base_eseq */
    uint8_t *data;
} fws_slab;

/* Empty slabs of the common size, shared by the logs of an engine. */
typedef struct fws_pool {
    fws_slab *free;
    uint32_t n;
} fws_pool;

typedef struct fws_cursor {
    uint64_t slab;  /* id */
    uint32_t index; /* of the next frame; may equal the slab's n */
} fws_cursor;

typedef struct fws_log {
    fws_pool *pool;
    fws_slab **ring;     /* ring[id & (capacity - 1)] */
    uint64_t capacity;   /* a power of two, or 0 before the first frame */
    uint64_t tail, head; /* slab ids: [tail, head), head - 1 is the one that grows */
    uint32_t passed;     /* frames of slab tail - 1: a cursor behind them all has lost nothing */
    fws_slab *growing;   /* slab head - 1; NULL before the first frame */
    uint64_t next_seq;   /* sequence number of the next frame: frames ever appended */
    uint64_t bytes;      /* bytes ever appended */
    uint64_t retention_bytes;
    const uint64_t *clock; /* ns, read when a slab is opened; NULL: none */
} fws_log;

void fws_pool_clear(fws_pool *pool);

void fws_log_init(fws_log *log, fws_pool *pool, uint64_t retention_bytes);

/* Retires every slab; those that are held go with their last hold. */
void fws_log_clear(fws_log *log);

/* Room for one frame of up to n bytes (1..FWS_FRAME_LIMIT) with the given engine sequence
 * at the log's head, valid until the next call on this log; NULL when memory is out
 * or n is out of range; nothing is appended then. May retire slabs at the tail. */
static inline uint8_t *fws_log_reserve(fws_log *log, size_t n, uint64_t eseq);

/* Appends the frame of n bytes (n at most what was reserved) that was written there.
 * eseq rises from frame to frame. */
static inline void fws_log_commit(fws_log *log, size_t n, uint64_t eseq);

/* The slab that a cursor points into, after moving it past finished slabs. NULL: caught up
 * (*lapped false) or older than the tail (*lapped true). */
fws_slab *fws_log_find(const fws_log *log, fws_cursor *cursor, bool *lapped);

/* Cursor behind the newest frame, at the newest frame (log not empty), at the oldest. */
fws_cursor fws_log_end(const fws_log *log);
fws_cursor fws_log_newest(const fws_log *log);
fws_cursor fws_log_oldest(const fws_log *log);

/* Sequence number and byte position of a cursor's next frame. False when lapped. */
bool fws_log_position(const fws_log *log, fws_cursor cursor, uint64_t *seq, uint64_t *bytes);

/* Cursor to the frame with that sequence number; next_seq gives the end. False: it is retired, or
 * not there yet. */
bool fws_log_seek(const fws_log *log, uint64_t seq, fws_cursor *cursor);

/* Empties a log, so that its next frame has the given sequence number. */
void fws_log_restart(fws_log *log, uint64_t next_seq);

/* Bytes in retained slabs. */
uint64_t fws_log_retained(const fws_log *log);

/* First byte of frame i, with i up to and including slab->n (the end). */
static inline uint32_t fws_slab_start(const fws_slab *slab, uint32_t i)
{
    return i == 0 ? 0 : slab->end[i - 1];
}

/* The first frame at or after `from` whose end lies beyond byte position at. */
uint32_t fws_slab_frame_at(const fws_slab *slab, uint32_t from, uint32_t at);

/* The first frame at or after `from` with an engine sequence of eseq or more; n when none. */
uint32_t fws_slab_frame_eseq(const fws_slab *slab, uint32_t from, uint64_t eseq);

void fws_slab_pin(fws_slab *slab);
void fws_slab_unpin(fws_slab *slab);

/* The two that a source calls for every frame, in line; the rest of reserve is
 * fws_log_open(): another slab. */
uint8_t *fws_log_open(fws_log *log, size_t n, uint64_t eseq);

static inline uint8_t *fws_log_reserve(fws_log *log, size_t n, uint64_t eseq)
{
    fws_slab *slab = log->growing;
    if (slab == NULL || n == 0 || n > slab->max_bytes - slab->bytes || n > FWS_SLAB_ALONE
        || slab->n == slab->max_frames || eseq - slab->base_eseq > UINT32_MAX)
        return fws_log_open(log, n, eseq);
    return slab->data + slab->bytes;
}

static inline void fws_log_commit(fws_log *log, size_t n, uint64_t eseq)
{
    fws_slab *slab = log->growing;
    slab->bytes += (uint32_t)n;
    slab->end[slab->n] = slab->bytes;
    slab->eseq[slab->n] = (uint32_t)(eseq - slab->base_eseq);
    slab->n++;
    log->next_seq++;
    log->bytes += n;
}

#endif
