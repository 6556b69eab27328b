/* What the load client counts and checks. Layer 2: no I/O.
 *
 * One meter for the run, one fws_metered for each connection, all sampled alike.
 */
#ifndef FWS_METER_H
#define FWS_METER_H

#include "bench/hist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where ticks carry seq, that of every frame is read, once a frame that was looked into had one. A
 * frame without a number that can be read counts as the one that is expected. */
typedef struct fws_metered { /* per connection */
    uint64_t frames;         /* data frames */
    uint64_t bytes;          /* of frames, headers included */
    uint64_t next_seq;       /* expected next, where ticks carry seq */
    uint64_t recent;         /* bit i: seq next_seq - 1 - i has come */
    uint64_t gaps;           /* times that seq numbers were left out */
    uint64_t missed;         /* numbers left out, less those that came later */
    uint64_t duplicates;     /* numbers that had come, of the last 64 */
    uint64_t reordered;      /* numbers of the last 64 that came later than greater ones, and older
                                ones: there the numbers start again */
    uint64_t last_ns;        /* any messages: when the last one came; 0: none has */
    bool seen_seq;
} fws_metered;

#define FWS_METER_SHORT 4096 /* bytes; ticks with FWS_TICK_QUOTE have more than 125 */
#define FWS_METER_FEW 4096   /* bytes; below it a scan looks into every frame */
#define FWS_METER_EVERY 61   /* prime, so that it does not fall in step with a pattern */

typedef struct fws_meter {
    uint64_t frames, bytes;                       /* over all connections, since init */
    uint64_t sampled;                             /* frames whose content was checked */
    uint64_t bad;                                 /* frames that failed a check */
    uint64_t gaps, missed, duplicates, reordered; /* of seq, the same */
    uint64_t until_sample;                        /* frames to go to the next content check */
    char first_error[160]; /* what the first bad frame was, "" while there is none */
    bool recording;        /* latency is recorded only while set */
    bool any;              /* messages of any content: none is looked into as a tick */
    fws_hist latency;      /* ns from ts (or tsNs) to its arrival, sampled frames; any: from a
                               message to the next one of its connection, all of them. What comes
                               in one read comes at one time */
} fws_meter;

void fws_meter_init(fws_meter *meter);

/* The fast path: takes whole, short, unmasked, final TEXT or BINARY frames (first byte
 * 0x81 or 0x82, length < FWS_METER_SHORT) from data[0..n) and returns the bytes they take; stops
 * in front of anything else (a longer, partial, control or illegal frame; any: text that is not
 * UTF-8, too). Content is checked
 * for every frame when n < FWS_METER_FEW, else for one in FWS_METER_EVERY, counted over
 * all connections. now_ns: CLOCK_REALTIME. */
size_t fws_meter_scan(fws_meter *meter, fws_metered *client, const uint8_t *data, size_t n,
                      uint64_t now_ns);

/* A data message that came the general way; it is always checked. wire_bytes is its size
 * with headers; a message of several frames counts as one. */
void fws_meter_message(fws_meter *meter, fws_metered *client, unsigned opcode, const uint8_t *data,
                       size_t n, size_t wire_bytes, uint64_t now_ns);

#endif
