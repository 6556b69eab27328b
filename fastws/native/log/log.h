/* The wire log: finished frames back to back, in slabs. Layer 2: no I/O.
 *
 * The head grows, the tail is retired by the owner: the log itself keeps everything. A reader is a
 * sequence number; one that is older than the tail is lapped, which is found out when it is used.
 * Slabs grow with what the log holds: the first ones about 1 KiB, the next ones 4, 16 and 64. A retired
 * slab goes back to the pool that all logs share. Only a half-sent frame too large to copy keeps a
 * slab (fws_slab_pin), and only that one.
 */
#ifndef FWS_LOG_H
#define FWS_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/link.h"

#define FWS_GRADES 4            /* sizes of slabs that are shared */
#define FWS_SLAB_BYTES 65536u   /* of the largest */
#define FWS_SLAB_FRAMES 4096u   /* and frames */
#define FWS_SLAB_ALONE 16384u   /* a frame larger than this has a slab of its own */
#define FWS_POOL_BYTES 1048576u /* of empty slabs of each grade, kept for reuse */
#define FWS_LOG_BUCKETS 48
#define FWS_LOG_SPARED \
    (FWS_LOG_BUCKETS - 1)           /* the bucket of those that nothing may be taken from */
#define FWS_FRAME_LIMIT 0x40000000u /* bytes of one frame, header included */

typedef struct fws_slab {
    uint64_t id;         /* consecutive within a log */
    uint64_t base_seq;   /* sequence number of frame 0 */
    uint64_t base_bytes; /* bytes of the log before frame 0 */
    uint64_t base_eseq;  /* engine sequence of frame 0 */
    uint64_t opened;     /* when, ns; 0 without a clock */
    uint32_t n;          /* frames */
    uint32_t bytes;      /* used */
    uint32_t max_frames, max_bytes;
    uint32_t full_at;   /* frames that it takes: max_frames, fewer once it was closed for its age */
    uint32_t readers;   /* pending members of the topic whose next frame lies here */
    uint32_t unoffered; /* those of them whose socket has not refused anything since, or that read
                           what is replayed to them */
    uint32_t pins;      /* half-sent frames that lie here */
    uint8_t grade;      /* FWS_GRADES: it holds one frame, of more than FWS_SLAB_ALONE bytes */
    uint8_t form;       /* what its frames are: the owner's */
    bool retired;       /* left its log; freed with the last pin */
    struct fws_slab *next_free;
    uint32_t *end;  /* end[i]: bytes up to and including frame i */
    uint32_t *eseq; /* engine sequence of frame i less base_eseq */
    uint8_t *data;
} fws_slab;

/* What the logs of an engine share: empty slabs, the clock, and how much they hold. */
typedef struct fws_logs {
    fws_slab *free[FWS_GRADES];
    uint32_t n_free[FWS_GRADES];
    uint64_t bytes;                    /* allocated for slabs of logs, their indexes included */
    uint64_t most;                     /* the most that it may be; 0: no limit */
    uint64_t pinned;                   /* allocated for retired slabs that are pinned */
    const uint64_t *clock;             /* ns, read when a slab is opened; NULL: none */
    fws_link buckets[FWS_LOG_BUCKETS]; /* logs by the logarithm of what they hold */
} fws_logs;

typedef struct fws_log {
    fws_logs *logs;
    fws_slab **ring;     /* ring[id & (capacity - 1)]; &one while capacity is 1 */
    fws_slab *one;       /* the ring of a log with one slab */
    fws_slab *growing;   /* slab head - 1; NULL when nothing is retained */
    uint64_t tail, head; /* slab ids: [tail, head), head - 1 is the one that grows */
    uint64_t first_seq;  /* sequence number of the oldest frame retained; next_seq: none is */
    uint64_t next_seq;   /* sequence number of the next frame: frames ever appended */
    uint64_t bytes;      /* bytes ever appended */
    uint64_t held;       /* allocated for its slabs, and beside them: for keys and saved frames */
    uint64_t beside;
    uint64_t slab_ns;  /* a slab takes frames for that long; 0: no limit */
    fws_link link;     /* in a bucket of logs, while it is listed and holds something */
    uint32_t capacity; /* of the ring: a power of two */
    uint8_t grade;     /* of the next slab */
    uint8_t bucket;
    bool listed; /* its slabs may be taken when there are too many: in the buckets */
} fws_log;

void fws_logs_init(fws_logs *logs, const uint64_t *clock, uint64_t most);
void fws_logs_clear(fws_logs *logs);

/* Room for frames back to back in the slab at the head. */
typedef struct fws_span {
    uint8_t *data;
    uint32_t *end;   /* of the first frame; to be filled for each of them */
    uint32_t start;  /* what end counts from */
    uint32_t bytes;  /* of room */
    uint32_t frames; /* that may be written there */
} fws_span;

/* listed: see fws_log. The log must not move in memory afterwards. */
void fws_log_init(fws_log *log, fws_logs *logs, bool listed);

/* Retires every slab; a pinned one is freed with its last pin. The next frame keeps its number. */
void fws_log_clear(fws_log *log);

/* Room for one frame of up to n bytes (1..FWS_FRAME_LIMIT) with the given engine sequence
 * at the log's head, valid until the next call on this log; NULL when memory is out
 * or n is out of range; nothing is appended then. */
static inline uint8_t *fws_log_reserve(fws_log *log, size_t n, uint64_t eseq);

/* The same for several frames: the room behind fws_log_reserve(log, n, eseq), which must have given
 * some; the first frame has that eseq. */
static inline fws_span fws_log_span(const fws_log *log, uint64_t eseq);

/* Appends the frames that were written there, of n bytes in sum. The eseq of the first one is
 * given; it rises by one from frame to frame. */
static inline void fws_log_commit_span(fws_log *log, uint32_t frames, size_t n, uint64_t eseq);

/* Before frames are appended: closes a slab that has been open for slab_ns. So the time when a slab
 * was opened says of each of its frames when it was appended, but for slab_ns. */
static inline void fws_log_age(fws_log *log);

/* Bytes of memory that the slab takes which such a frame would open. */
size_t fws_log_need(const fws_log *log, size_t n);

/* Whether that takes no other slab. */
static inline bool fws_log_fits(const fws_log *log, size_t n, uint64_t eseq);

/* Appends the frame of n bytes (n at most what was reserved) that was written there.
 * eseq rises from frame to frame. */
static inline void fws_log_commit(fws_log *log, size_t n, uint64_t eseq);

/* Counts a frame of n bytes that is not kept. The log must be empty. */
void fws_log_skip(fws_log *log, size_t n);

/* The slab that holds the frame with that sequence number, which must be retained. hint: id of the
 * slab where it was last seen, if any. */
fws_slab *fws_log_slab(const fws_log *log, uint64_t seq, uint64_t hint);

/* Bytes ever appended before the frame with that sequence number, which must be retained or the
 * next one. */
uint64_t fws_log_position(const fws_log *log, uint64_t seq);

/* The reverse: the first frame retained that begins at that position or later; next_seq when none
 * does. */
uint64_t fws_log_seq_at(const fws_log *log, uint64_t position);

/* The first frame retained whose slab was opened at that time or later; next_seq when none was. */
uint64_t fws_log_seq_since(const fws_log *log, uint64_t since);

/* Retires the oldest slab; there must be one. */
void fws_log_drop_oldest(fws_log *log);

/* The oldest slab; NULL: none is retained. */
static inline fws_slab *fws_log_oldest(const fws_log *log);

/* Its slabs are not to be taken, until it changes or fws_log_unspare(). */
void fws_log_spare(fws_log *log);
void fws_log_unspare(fws_log *log);

/* Empties a log, so that its next frame has the given sequence number. */
void fws_log_restart(fws_log *log, uint64_t next_seq);

/* Bytes of the frames retained. */
uint64_t fws_log_retained(const fws_log *log);

/* First byte of frame i, with i up to and including slab->n (the end). */
static inline uint32_t fws_slab_start(const fws_slab *slab, uint32_t i)
{
    return i == 0 ? 0 : slab->end[i - 1];
}

/* Engine sequence of frame i. */
static inline uint64_t fws_slab_eseq(const fws_slab *slab, uint32_t i)
{
    return slab->base_eseq + slab->eseq[i];
}

/* The first frame at or after `from` whose end lies beyond byte position at. */
uint32_t fws_slab_frame_at(const fws_slab *slab, uint32_t from, uint32_t at);

/* The first frame at or after `from` with an engine sequence of eseq or more; n when none. */
uint32_t fws_slab_frame_eseq(const fws_slab *slab, uint32_t from, uint64_t eseq);

/* So many bytes more, or less, are allocated beside its slabs. */
void fws_log_beside(fws_log *log, int64_t bytes);

/* One frame of a slab in a slab of its own, beside the log: it has the same sequence number. NULL:
 * memory is out. */
fws_slab *fws_log_save(fws_log *log, const fws_slab *slab, uint32_t i);

/* The same with n bytes in its place, which the caller writes. */
fws_slab *fws_log_save_as(fws_log *log, const fws_slab *slab, uint32_t i, uint32_t n);

/* Frees a saved one, if it is pinned with its last pin. */
void fws_log_unsave(fws_log *log, fws_slab *slab);

void fws_slab_pin(fws_slab *slab);
void fws_slab_unpin(fws_logs *logs, fws_slab *slab);

/* What a source calls for every frame, in line; fws_log_open() is the rest of reserve: another
 * slab. */
uint8_t *fws_log_open(fws_log *log, size_t n, uint64_t eseq);

static inline fws_slab *fws_log_oldest(const fws_log *log)
{
    return log->head == log->tail ? NULL : log->ring[log->tail & (log->capacity - 1)];
}

static inline void fws_log_age(fws_log *log)
{
    fws_slab *slab = log->growing;
    const uint64_t *clock = log->logs->clock;
    if (log->slab_ns > 0 && clock != NULL && slab != NULL && slab->n > 0
        && *clock - slab->opened >= log->slab_ns)
        slab->full_at = slab->n;
}

static inline bool fws_log_fits(const fws_log *log, size_t n, uint64_t eseq)
{
    const fws_slab *slab = log->growing;
    return slab != NULL && n != 0 && n <= slab->max_bytes - slab->bytes && n <= FWS_SLAB_ALONE
           && slab->n != slab->full_at && eseq - slab->base_eseq <= UINT32_MAX;
}

static inline uint8_t *fws_log_reserve(fws_log *log, size_t n, uint64_t eseq)
{
    if (!fws_log_fits(log, n, eseq))
        return fws_log_open(log, n, eseq);
    return log->growing->data + log->growing->bytes;
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

static inline fws_span fws_log_span(const fws_log *log, uint64_t eseq)
{
    const fws_slab *slab = log->growing;
    uint32_t frames = slab->full_at - slab->n;
    uint64_t numbers = (1ULL << 32) - (eseq - slab->base_eseq); /* that eseq[] can say */
    return (fws_span){.data = slab->data + slab->bytes,
                      .end = slab->end + slab->n,
                      .start = slab->bytes,
                      .bytes = slab->max_bytes - slab->bytes,
                      .frames = numbers < frames ? (uint32_t)numbers : frames};
}

static inline void fws_log_commit_span(fws_log *log, uint32_t frames, size_t n, uint64_t eseq)
{
    fws_slab *slab = log->growing;
    uint32_t *eseqs = slab->eseq + slab->n, first = (uint32_t)(eseq - slab->base_eseq);
    for (uint32_t i = 0; i < frames; i++)
        eseqs[i] = first + i;
    slab->bytes += (uint32_t)n;
    slab->n += frames;
    log->next_seq += frames;
    log->bytes += n;
}

#endif
