/* What the load client counts and checks. Floor 2: no I/O.
 *
 * One meter for the run, one fws_metered for each connection, all sampled alike.
 */
#ifndef FWS_METER_H
#define FWS_METER_H

#include "hist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fws_metered { /* per connection */
    uint64_t frames;         /* data frames */
    uint64_t bytes;          /* of frames, headers included */
    uint64_t next_seq;       /* expected next, where ticks carry seq */
    uint64_t gaps;           /* seq numbers that did not come */
    bool seen_seq;
} fws_metered;

typedef struct fws_meter {
    uint64_t frames, bytes;  /* over all connections, since init */
    uint64_t sampled;        /* frames whose content was checked */
    uint64_t bad;            /* frames that failed a check */
    uint64_t gaps, reordered;/* by seq; reordered counts numbers that came late or twice */
    uint64_t until_sample;   /* frames to go to the next content check */
    char first_error[160];   /* what the first bad frame was, "" while there is none */
    bool recording;          /* latency is recorded only while set */
    fws_hist latency;        /* ns from ts (or tsNs) to its arrival, sampled frames */
} fws_meter;

void fws_meter_init(fws_meter *meter);

/* The fast path: takes whole, short, unmasked, final TEXT or BINARY frames (first byte
 * 0x81 or 0x82, length < 126) from data[0..n) and returns the bytes they take; stops in front of
 * anything else (a longer, partial, control or illegal frame). Content is checked
 * for every frame when n < 4096, else for one in 61. now_ns: CLOCK_REALTIME. */
size_t fws_meter_scan(fws_meter *meter, fws_metered *client,
                      const uint8_t *data, size_t n, uint64_t now_ns);

/* A data message that came the general way; wire_bytes is its size with headers. */
void fws_meter_message(fws_meter *meter, fws_metered *client, unsigned opcode,
                       const uint8_t *data, size_t n, size_t wire_bytes, uint64_t now_ns);

/* Checks one payload: a tick in JSON (keys in order, symbol known, price a plain
 * decimal with at most 6 places, ts 13 digits; further keys only seq and tsNs) or
 * binary (20 or 36 bytes, symbol < 5, price finite and positive). Returns NULL
 * when it is one, else a constant text of what is wrong. Fills *ts_ns, and *seq when
 * the tick has one (*has_seq). */
const char *fws_tick_check(unsigned opcode, const uint8_t *data, size_t n,
                           uint64_t *ts_ns, uint64_t *seq, bool *has_seq);

#endif
