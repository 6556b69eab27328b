/* So many a second: a token bucket in one u64. Layer 3: pure arithmetic; time is an argument.
 *
 * The state is the time at which the bucket is full again (GCRA's theoretical arrival time), in
 * units of 1/256 ns, modulo 2^64. A full bucket holds what the rate brings in one second. What is
 * taken costs its time, rounded down to a unit: a whole burst is there also when it is taken one by
 * one, and a sum of takes is above the rate by 1/256 ns for each take at most (10^7 takes a
 * second: 40 ppm), never below it.
 *
 * Times are ns of a monotonic clock. A state more than a second ahead of it cannot have come from
 * taking: the clock has jumped back, or has wrapped (after 2.3 years); that counts as full.
 * A rate is 1 to FWS_RATE_MOST.
 */
#ifndef FWS_RATE_H
#define FWS_RATE_H

#include <stdint.h>

#define FWS_RATE_MOST (1ULL << 34)

typedef uint64_t fws_rate; /* state of one bucket */

/* A full one. */
fws_rate fws_rate_full(uint64_t now);

/* How many may be taken now, 0 to rate. */
uint64_t fws_rate_room(fws_rate state, uint64_t rate, uint64_t now);

/* The state after n were taken, at most fws_rate_room(). */
fws_rate fws_rate_take(fws_rate state, uint64_t rate, uint64_t n, uint64_t now);

/* How long until one may be taken, ns; 0: now. */
uint64_t fws_rate_wait(fws_rate state, uint64_t rate, uint64_t now);

#endif
