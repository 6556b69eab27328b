/* One log and what logs share, for tests. */
#ifndef FWS_TEST_LOG_H
#define FWS_TEST_LOG_H

#include "check.h"
#include "log/log.h"

#define SEQ_BYTES 8u /* bytes of a frame that carry its sequence number */

static const uint32_t GRADE_BYTES[FWS_GRADES] = {960, 4096, 16384, FWS_SLAB_BYTES};
static const uint32_t GRADE_FRAMES[FWS_GRADES] = {16, 64, 512, FWS_SLAB_FRAMES};

static fws_logs logs;
static fws_log wire;
static uint64_t now;

static inline void start(void)
{
    now = 1000;
    fws_logs_init(&logs, &now, 0);
    fws_log_init(&wire, &logs, true);
}

static inline void stop(void)
{
    fws_log_clear(&wire);
    CHECK_EQ(logs.bytes, 0);
    for (int i = 0; i < FWS_LOG_BUCKETS; i++)
        CHECK(fws_link_empty(&logs.buckets[i]));
    fws_logs_clear(&logs);
}

/* A log whose next slab is of the largest size. */
static inline void start_grown(void)
{
    start();
    wire.grade = FWS_GRADES - 1;
}

/* A frame of n bytes that carries its own sequence number, as far as that fits. */
static inline void append(size_t n, uint64_t eseq)
{
    uint64_t seq = wire.next_seq;
    uint8_t *room = fws_log_reserve(&wire, n, eseq);
    CHECK(room != NULL);
    memset(room, (int)(seq & 0xFF), n);
    memcpy(room, &seq, n < SEQ_BYTES ? n : SEQ_BYTES);
    fws_log_commit(&wire, n, eseq);
}

static inline const fws_slab *slab_at(uint64_t id)
{
    return wire.ring[id & (wire.capacity - 1)];
}

/* Reads every frame retained, from the oldest one, and checks what the log says of it. */
static inline void read_all(uint64_t hint)
{
    uint64_t at = wire.bytes - fws_log_retained(&wire);
    for (uint64_t seq = wire.first_seq; seq < wire.next_seq; seq++) {
        const fws_slab *slab = fws_log_slab(&wire, seq, hint);
        uint32_t i = (uint32_t)(seq - slab->base_seq), from = fws_slab_start(slab, i);
        uint32_t n = slab->end[i] - from;
        CHECK(seq >= slab->base_seq && i < slab->n);
        CHECK(memcmp(slab->data + from, &seq, n < SEQ_BYTES ? n : SEQ_BYTES) == 0);
        CHECK_EQ(fws_log_position(&wire, seq), at);
        at += n;
    }
    CHECK_EQ(fws_log_position(&wire, wire.next_seq), at);
    CHECK_EQ(at, wire.bytes);
}

/* What the slabs of the log take, counted one by one. */
static inline uint64_t walk_held(void)
{
    uint64_t held = 0;
    for (uint64_t id = wire.tail; id != wire.head; id++)
        held += sizeof(fws_slab) + 8 * slab_at(id)->max_frames + slab_at(id)->max_bytes;
    return held;
}

#endif
