#include "log/log.h"

#include <stdlib.h>
#include <string.h>

#define NOBODY UINT32_MAX /* an index that no cursor has */

static fws_slab *slab_new(uint32_t max_frames, uint32_t max_bytes)
{
    size_t index = (size_t)max_frames * sizeof(uint32_t);
    fws_slab *slab = malloc(sizeof *slab + 2 * index + max_bytes);
    if (slab == NULL)
        return NULL;
    slab->max_frames = max_frames;
    slab->max_bytes = max_bytes;
    slab->end = (uint32_t *)(slab + 1);
    slab->eseq = slab->end + max_frames;
    slab->data = (uint8_t *)(slab->eseq + max_frames);
    return slab;
}

static fws_slab *pool_take(fws_pool *pool, uint32_t n)
{
    if (n > FWS_SLAB_ALONE)
        return slab_new(1, n);
    fws_slab *slab = pool->free;
    if (slab == NULL)
        return slab_new(FWS_SLAB_FRAMES, FWS_SLAB_BYTES);
    pool->free = slab->next_free;
    pool->n--;
    return slab;
}

static void slab_retire(fws_pool *pool, fws_slab *slab)
{
    slab->retired = true;
    if (slab->pins > 0)
        return;
    if (slab->max_frames != FWS_SLAB_FRAMES || pool->n == FWS_POOL_SLABS) {
        free(slab);
        return;
    }
    slab->next_free = pool->free;
    pool->free = slab;
    pool->n++;
}

void fws_pool_clear(fws_pool *pool)
{
    while (pool->free != NULL) {
        fws_slab *slab = pool->free;
        pool->free = slab->next_free;
        free(slab);
    }
    pool->n = 0;
}

void fws_log_init(fws_log *log, fws_pool *pool, uint64_t retention_bytes)
{
    *log = (fws_log){.pool = pool, .retention_bytes = retention_bytes, .passed = NOBODY};
}

static fws_slab *slab_by_id(const fws_log *log, uint64_t id)
{
    return log->ring[id & (log->capacity - 1)];
}

void fws_log_clear(fws_log *log)
{
    for (; log->tail != log->head; log->tail++)
        slab_retire(log->pool, slab_by_id(log, log->tail));
    log->passed = NOBODY;
    free(log->ring);
    log->ring = NULL;
    log->growing = NULL;
    log->capacity = 0;
}

static bool ring_grow(fws_log *log)
{
    uint64_t capacity = log->capacity == 0 ? 8 : log->capacity * 2;
    fws_slab **ring = malloc(capacity * sizeof *ring);
    if (ring == NULL)
        return false;
    for (uint64_t id = log->tail; id != log->head; id++)
        ring[id & (capacity - 1)] = slab_by_id(log, id);
    free(log->ring);
    log->ring = ring;
    log->capacity = capacity;
    return true;
}

/* The newest slab always stays, so a log whose retention is smaller than its last
 * frame still has a newest frame. */
static void retire_tail(fws_log *log)
{
    while (log->tail + 1 < log->head) {
        fws_slab *oldest = slab_by_id(log, log->tail);
        if (log->bytes - (oldest->base_bytes + oldest->bytes) < log->retention_bytes)
            return;
        log->tail++;
        log->passed = oldest->n;
        slab_retire(log->pool, oldest);
    }
}

static fws_slab *open_slab(fws_log *log, uint32_t n, uint64_t eseq)
{
    if (log->head - log->tail == log->capacity && !ring_grow(log))
        return NULL;
    retire_tail(log);
    fws_slab *slab = pool_take(log->pool, n);
    if (slab == NULL)
        return NULL;
    slab->id = log->head;
    slab->base_seq = log->next_seq;
    slab->base_bytes = log->bytes;
    slab->base_eseq = eseq;
    slab->opened = log->clock == NULL ? 0 : *log->clock;
    slab->n = slab->bytes = slab->pins = 0;
    slab->retired = false;
    log->ring[log->head & (log->capacity - 1)] = slab;
    log->head++;
    log->growing = slab;
    return slab;
}

uint8_t *fws_log_open(fws_log *log, size_t n, uint64_t eseq)
{
    if (n == 0 || n > FWS_FRAME_LIMIT)
        return NULL;
    fws_slab *slab = open_slab(log, (uint32_t)n, eseq);
    return slab == NULL ? NULL : slab->data;
}

/* Behind the last frame of the slab that was retired last is in front of the first one retained. */
static void step_over(const fws_log *log, fws_cursor *cursor)
{
    if (cursor->slab + 1 == log->tail && cursor->index == log->passed)
        *cursor = fws_log_oldest(log);
}

fws_slab *fws_log_find(const fws_log *log, fws_cursor *cursor, bool *lapped)
{
    *lapped = false;
    step_over(log, cursor);
    while (cursor->slab < log->head) {
        if (cursor->slab < log->tail) {
            *lapped = true;
            return NULL;
        }
        fws_slab *slab = slab_by_id(log, cursor->slab);
        if (cursor->index < slab->n)
            return slab;
        if (cursor->slab + 1 == log->head)
            return NULL;
        cursor->slab++;
        cursor->index = 0;
    }
    return NULL;
}

fws_cursor fws_log_end(const fws_log *log)
{
    if (log->head == log->tail)
        return (fws_cursor){log->head, 0};
    return (fws_cursor){log->head - 1, slab_by_id(log, log->head - 1)->n};
}

fws_cursor fws_log_newest(const fws_log *log)
{
    fws_cursor end = fws_log_end(log);
    /* A slab that was opened by reserve and never written to is stepped over. */
    while (end.index == 0 && end.slab > log->tail) {
        end.slab--;
        end.index = slab_by_id(log, end.slab)->n;
    }
    if (end.index > 0)
        end.index--;
    return end;
}

fws_cursor fws_log_oldest(const fws_log *log)
{
    return (fws_cursor){log->tail, 0};
}

bool fws_log_position(const fws_log *log, fws_cursor cursor, uint64_t *seq, uint64_t *bytes)
{
    step_over(log, &cursor);
    if (cursor.slab >= log->head) {
        *seq = log->next_seq;
        *bytes = log->bytes;
        return true;
    }
    if (cursor.slab < log->tail)
        return false;
    const fws_slab *slab = slab_by_id(log, cursor.slab);
    *seq = slab->base_seq + cursor.index;
    *bytes = slab->base_bytes + fws_slab_start(slab, cursor.index);
    return true;
}

bool fws_log_seek(const fws_log *log, uint64_t seq, fws_cursor *cursor)
{
    *cursor = fws_log_end(log);
    if (seq >= log->next_seq || log->head == log->tail)
        return seq == log->next_seq;
    uint64_t low = log->tail, high = log->head - 1; /* the last slab that begins at or before it */
    while (low < high) {
        uint64_t middle = high - (high - low) / 2;
        if (slab_by_id(log, middle)->base_seq <= seq)
            low = middle;
        else
            high = middle - 1;
    }
    const fws_slab *slab = slab_by_id(log, low);
    if (seq < slab->base_seq)
        return false;
    *cursor = (fws_cursor){low, (uint32_t)(seq - slab->base_seq)};
    return true;
}

void fws_log_restart(fws_log *log, uint64_t next_seq)
{
    fws_log_clear(log);
    log->next_seq = next_seq;
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
        if (slab->base_eseq + slab->eseq[middle] >= eseq)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void fws_slab_pin(fws_slab *slab)
{
    slab->pins++;
}

void fws_slab_unpin(fws_slab *slab)
{
    if (--slab->pins == 0 && slab->retired)
        free(slab);
}
