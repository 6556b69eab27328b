#include "log/log.h"

#include <stdlib.h>
#include <string.h>

static const struct grade {
    uint32_t bytes, frames;
} grades[FWS_GRADES] = {{960, 16}, {4096, 64}, {16384, 512}, {FWS_SLAB_BYTES, FWS_SLAB_FRAMES}};

/* Allocated for a slab, its index included. */
static size_t slab_size(uint32_t max_frames, uint32_t max_bytes)
{
    return sizeof(fws_slab) + 2 * (size_t)max_frames * sizeof(uint32_t) + max_bytes;
}

static size_t size_of(const fws_slab *slab)
{
    return slab_size(slab->max_frames, slab->max_bytes);
}

static fws_slab *slab_new(uint8_t grade, uint32_t max_frames, uint32_t max_bytes)
{
    fws_slab *slab = malloc(slab_size(max_frames, max_bytes));
    if (slab == NULL)
        return NULL;
    slab->grade = grade;
    slab->max_frames = max_frames;
    slab->max_bytes = max_bytes;
    slab->end = (uint32_t *)(slab + 1);
    slab->eseq = slab->end + max_frames;
    slab->data = (uint8_t *)(slab->eseq + max_frames);
    return slab;
}

static fws_slab *pool_take(fws_logs *logs, uint8_t grade, uint32_t n)
{
    if (grade == FWS_GRADES)
        return slab_new(grade, 1, n);
    fws_slab *slab = logs->free[grade];
    if (slab == NULL)
        return slab_new(grade, grades[grade].frames, grades[grade].bytes);
    logs->free[grade] = slab->next_free;
    logs->n_free[grade]--;
    return slab;
}

static void slab_retire(fws_logs *logs, fws_slab *slab)
{
    slab->retired = true;
    if (slab->pins > 0) {
        logs->pinned += size_of(slab);
        return;
    }
    uint8_t grade = slab->grade;
    if (grade == FWS_GRADES || logs->n_free[grade] * size_of(slab) >= FWS_POOL_BYTES) {
        free(slab);
        return;
    }
    slab->next_free = logs->free[grade];
    logs->free[grade] = slab;
    logs->n_free[grade]++;
}

void fws_logs_init(fws_logs *logs, const uint64_t *clock, uint64_t most)
{
    *logs = (fws_logs){.clock = clock, .most = most};
    for (int i = 0; i < FWS_LOG_BUCKETS; i++)
        fws_link_init(&logs->buckets[i]);
}

void fws_logs_clear(fws_logs *logs)
{
    for (int grade = 0; grade < FWS_GRADES; grade++) {
        while (logs->free[grade] != NULL) {
            fws_slab *slab = logs->free[grade];
            logs->free[grade] = slab->next_free;
            free(slab);
        }
        logs->n_free[grade] = 0;
    }
}

static void move_to(fws_log *log, uint8_t bucket)
{
    fws_link_remove(&log->link);
    fws_link_append(&log->logs->buckets[bucket], &log->link);
    log->bucket = bucket;
}

/* What a log holds has changed: it moves to the bucket of its size. */
static void account(fws_log *log, uint64_t held)
{
    uint8_t bucket = held == 0 ? 0 : (uint8_t)(63 - __builtin_clzll(held));
    log->logs->bytes += held - log->held;
    log->held = held;
    if (!log->listed)
        return;
    if (held == 0)
        fws_link_remove(&log->link);
    else if (bucket != log->bucket || log->link.next == NULL)
        move_to(log, bucket);
}

void fws_log_spare(fws_log *log)
{
    move_to(log, FWS_LOG_SPARED);
}

void fws_log_unspare(fws_log *log)
{
    if (log->link.next != NULL && log->bucket == FWS_LOG_SPARED)
        account(log, log->held);
}

void fws_log_init(fws_log *log, fws_logs *logs, bool listed)
{
    *log = (fws_log){.logs = logs, .capacity = 1, .listed = listed};
    log->ring = &log->one;
}

static fws_slab *slab_by_id(const fws_log *log, uint64_t id)
{
    return log->ring[id & (log->capacity - 1)];
}

static void ring_free(fws_log *log)
{
    if (log->capacity > 1)
        free(log->ring);
    log->ring = &log->one;
    log->capacity = 1;
}

void fws_log_clear(fws_log *log)
{
    for (; log->tail != log->head; log->tail++)
        slab_retire(log->logs, slab_by_id(log, log->tail));
    log->first_seq = log->next_seq;
    log->growing = NULL;
    ring_free(log);
    account(log, log->beside);
}

static bool ring_grow(fws_log *log)
{
    uint64_t capacity = log->capacity * 2;
    fws_slab **ring = malloc(capacity * sizeof *ring);
    if (ring == NULL)
        return false;
    for (uint64_t id = log->tail; id != log->head; id++)
        ring[id & (capacity - 1)] = slab_by_id(log, id);
    if (log->capacity > 1)
        free(log->ring);
    log->ring = ring;
    log->capacity = (uint32_t)capacity;
    return true;
}

/* Whether a slab that is full was filled in one go, or the log would half fill one of the next
 * grade. A log that keeps little, such as the one frame of `retain`, keeps a whole slab for it: a
 * small one, however many frames go by. */
static bool outgrows(const fws_log *log, const fws_slab *full)
{
    if (log->grade == FWS_GRADES - 1)
        return false;
    if (log->logs->clock == NULL || full->opened == *log->logs->clock)
        return true;
    const struct grade *next = &grades[log->grade + 1];
    return fws_log_retained(log) >= next->bytes / 2
           || log->next_seq - log->first_seq >= next->frames / 2;
}

/* Of the next slab: when one was filled, the log may be busier than that; when one was closed for
 * its age with little in it, it is less busy. */
static uint8_t next_grade(const fws_log *log)
{
    const fws_slab *last = log->growing;
    if (last == NULL)
        return log->grade;
    if (last->full_at == last->max_frames)
        return log->grade + outgrows(log, last);
    bool sparse = last->n < last->max_frames / 8 && last->bytes < last->max_bytes / 8;
    return log->grade - (sparse && log->grade > 0);
}

static uint8_t grade_for(const fws_log *log, size_t n)
{
    uint8_t grade = next_grade(log);
    if (n > FWS_SLAB_ALONE)
        return FWS_GRADES;
    while (n > grades[grade].bytes)
        grade++;
    return grade;
}

size_t fws_log_need(const fws_log *log, size_t n)
{
    uint8_t grade = grade_for(log, n);
    return grade == FWS_GRADES ? slab_size(1, (uint32_t)n)
                               : slab_size(grades[grade].frames, grades[grade].bytes);
}

uint8_t *fws_log_open(fws_log *log, size_t n, uint64_t eseq)
{
    if (n == 0 || n > FWS_FRAME_LIMIT)
        return NULL;
    if (log->head - log->tail == log->capacity && !ring_grow(log))
        return NULL;
    uint8_t grade = grade_for(log, n);
    fws_slab *slab = pool_take(log->logs, grade, (uint32_t)n);
    if (slab == NULL)
        return NULL;
    log->grade = next_grade(log);
    slab->id = log->head;
    slab->base_seq = log->next_seq;
    slab->base_bytes = log->bytes;
    slab->base_eseq = eseq;
    slab->opened = log->logs->clock == NULL ? 0 : *log->logs->clock;
    slab->full_at = slab->max_frames;
    slab->n = slab->bytes = slab->pins = slab->readers = slab->unoffered = 0;
    slab->form = 0;
    slab->retired = false;
    log->ring[log->head & (log->capacity - 1)] = slab;
    log->head++;
    log->growing = slab;
    account(log, log->held + size_of(slab));
    return slab->data;
}

void fws_log_skip(fws_log *log, size_t n)
{
    log->first_seq = ++log->next_seq;
    log->bytes += n;
}

void fws_log_drop_oldest(fws_log *log)
{
    fws_slab *oldest = slab_by_id(log, log->tail++);
    uint64_t held = log->held - size_of(oldest);
    log->first_seq = oldest->base_seq + oldest->n;
    if (log->tail == log->head) {
        if (log->grade > 0 && oldest->bytes < oldest->max_bytes / 8)
            log->grade--; /* it is less busy than that */
        log->growing = NULL;
        ring_free(log);
    }
    slab_retire(log->logs, oldest);
    account(log, held);
}

static bool holds(const fws_slab *slab, uint64_t seq)
{
    return seq - slab->base_seq < slab->n; /* unsigned: false below base_seq, too */
}

/* What slabs of a log are in order of. */

static uint64_t base_seq(const fws_slab *slab)
{
    return slab->base_seq;
}

static uint64_t base_bytes(const fws_slab *slab)
{
    return slab->base_bytes;
}

static uint64_t opened(const fws_slab *slab)
{
    return slab->opened;
}

/* The last slab for which that is at most `most`, the oldest one where it is for none. There must
 * be one. */
static inline fws_slab *last_slab(const fws_log *log, uint64_t (*of)(const fws_slab *),
                                  uint64_t most)
{
    uint64_t low = log->tail, high = log->head - 1;
    while (low < high) {
        uint64_t middle = high - (high - low) / 2;
        if (of(slab_by_id(log, middle)) <= most)
            low = middle;
        else
            high = middle - 1;
    }
    return slab_by_id(log, low);
}

fws_slab *fws_log_slab(const fws_log *log, uint64_t seq, uint64_t hint)
{
    if (hint - log->tail < log->head - log->tail) { /* it may lie there, or in the next one */
        fws_slab *slab = slab_by_id(log, hint);
        if (holds(slab, seq))
            return slab;
        if (hint + 1 < log->head && holds(slab_by_id(log, hint + 1), seq))
            return slab_by_id(log, hint + 1);
    }
    if (holds(log->growing, seq))
        return log->growing;
    return last_slab(log, base_seq, seq);
}

uint64_t fws_log_position(const fws_log *log, uint64_t seq)
{
    if (seq >= log->next_seq)
        return log->bytes;
    const fws_slab *slab = fws_log_slab(log, seq, log->head);
    return slab->base_bytes + fws_slab_start(slab, (uint32_t)(seq - slab->base_seq));
}

uint64_t fws_log_seq_at(const fws_log *log, uint64_t position)
{
    if (log->head == log->tail || position > log->bytes)
        return log->next_seq;
    const fws_slab *slab = last_slab(log, base_bytes, position);
    if (position <= slab->base_bytes)
        return slab->base_seq;
    uint32_t at = (uint32_t)(position - slab->base_bytes);
    return slab->base_seq + fws_slab_frame_at(slab, 0, at - 1) + 1;
}

uint64_t fws_log_seq_since(const fws_log *log, uint64_t since)
{
    const fws_slab *oldest = fws_log_oldest(log);
    if (oldest == NULL || oldest->opened >= since)
        return log->first_seq;
    const fws_slab *before = last_slab(log, opened, since - 1);
    return before->base_seq + before->n;
}

void fws_log_restart(fws_log *log, uint64_t next_seq)
{
    fws_log_clear(log);
    log->first_seq = log->next_seq = next_seq;
}

uint64_t fws_log_retained(const fws_log *log)
{
    return log->head == log->tail ? 0 : log->bytes - slab_by_id(log, log->tail)->base_bytes;
}

uint32_t fws_slab_frame_at(const fws_slab *slab, uint32_t from, uint32_t at)
{
    uint32_t low = from, high = slab->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (slab->end[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

uint32_t fws_slab_frame_eseq(const fws_slab *slab, uint32_t from, uint64_t eseq)
{
    uint32_t low = from, high = slab->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (fws_slab_eseq(slab, middle) >= eseq)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void fws_log_beside(fws_log *log, int64_t bytes)
{
    log->beside += (uint64_t)bytes;
    account(log, log->held + (uint64_t)bytes);
}

fws_slab *fws_log_save_as(fws_log *log, const fws_slab *slab, uint32_t i, uint32_t n)
{
    uint32_t start = fws_slab_start(slab, i);
    fws_slab *saved = slab_new(FWS_GRADES, 1, n);
    if (saved == NULL)
        return NULL;
    saved->id = UINT64_MAX; /* it is no hint in a log */
    saved->base_seq = slab->base_seq + i;
    saved->base_bytes = slab->base_bytes + start;
    saved->base_eseq = fws_slab_eseq(slab, i);
    saved->opened = slab->opened;
    saved->n = saved->full_at = 1;
    saved->bytes = saved->end[0] = n;
    saved->eseq[0] = saved->readers = saved->unoffered = saved->pins = 0;
    saved->form = slab->form;
    saved->retired = false;
    fws_log_beside(log, (int64_t)size_of(saved));
    return saved;
}

fws_slab *fws_log_save(fws_log *log, const fws_slab *slab, uint32_t i)
{
    uint32_t start = fws_slab_start(slab, i), n = slab->end[i] - start;
    fws_slab *saved = fws_log_save_as(log, slab, i, n);
    if (saved != NULL)
        memcpy(saved->data, slab->data + start, n);
    return saved;
}

void fws_log_unsave(fws_log *log, fws_slab *slab)
{
    fws_log_beside(log, -(int64_t)size_of(slab));
    slab_retire(log->logs, slab);
}

void fws_slab_pin(fws_slab *slab)
{
    slab->pins++;
}

void fws_slab_unpin(fws_logs *logs, fws_slab *slab)
{
    if (--slab->pins > 0 || !slab->retired)
        return;
    logs->pinned -= size_of(slab);
    free(slab);
}
