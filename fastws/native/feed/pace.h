/* Which ticks are due, exactly. Layer 0: pure arithmetic; time is an argument.
 *
 * Due ticks = floor((now - t0) * rate / 10^9), in integers wide enough, re-anchored
 * (t0 = now) when the rate changes. So never early, no fraction lost, no drift.
 * All times are CLOCK_MONOTONIC nanoseconds.
 */
#ifndef FWS_PACE_H
#define FWS_PACE_H

#include "bench/hist.h"

#include <stdbool.h>

#define FWS_RATE_LIMIT 100000000ULL   /* ticks per second */
#define FWS_PACE_LATE_NS 10000000ULL  /* past it the policy acts */
#define FWS_PACE_QUANTUM_NS 200000ULL /* shortest sleep between two batches */
#define FWS_PACE_SAMPLES 600          /* one per 100 ms: a minute */

/* What happens to ticks that fell due more than FWS_PACE_LATE_NS ago. */
enum fws_late {
    FWS_LATE_BURST = 0,  /* all are sent at once */
    FWS_LATE_SMOOTH = 1, /* caught up with at twice the rate until none is left */
    FWS_LATE_SKIP = 2    /* counted as missed */
};

typedef struct fws_pace_sample {
    uint64_t now; /* ns */
    uint64_t due; /* ticks due by then since the anchor */
    uint64_t sent;
} fws_pace_sample;

typedef struct fws_pace {
    uint64_t rate;   /* ticks/s, 0..FWS_RATE_LIMIT; 0: nothing is ever due */
    uint64_t t0;     /* the anchor */
    uint64_t done;   /* ticks sent or missed since the anchor */
    uint64_t sent;   /* ticks sent since init */
    uint64_t missed; /* ticks skipped, or dropped by a change of rate while behind */
    uint64_t last;   /* time of the last batch; 0 before the first one */
    enum fws_late late;
    bool catching_up;       /* SMOOTH is spreading a backlog */
    uint64_t catch_up_from; /* since when */
    uint64_t catch_up_done; /* done at that time */
    fws_hist lag;           /* per batch: now - due time of its oldest tick */
    fws_hist burst;         /* per batch: ticks in it (a count, not ns) */
    uint32_t n_samples, next_sample;
    uint64_t sample_at;                        /* no sample before this time */
    uint64_t anchored_sent;                    /* sent at the anchor */
    fws_pace_sample samples[FWS_PACE_SAMPLES]; /* ring, since the last anchor */
} fws_pace;

/* Due times of consecutive ticks without a division for each. */
typedef struct fws_stride {
    uint64_t ns;                                    /* due time of the next tick */
    uint64_t remainder, step, step_remainder, rate; /* chosen so that ns is the exact ceiling */
} fws_stride;

void fws_pace_init(fws_pace *pace, enum fws_late late);

/* Re-anchors at now, also when the rate stays the same. Ticks due at the old rate and
 * not sent count as missed. A rate above FWS_RATE_LIMIT is taken as the limit. */
void fws_pace_set_rate(fws_pace *pace, uint64_t now, uint64_t rate);

/* How many ticks to send now: those due and not done; 0 when now lies before the anchor.
 * Applies the policy: under SKIP ticks later than FWS_PACE_LATE_NS are moved to missed;
 * under SMOOTH, from the call that finds the oldest later than that until nothing due is
 * left, at most 1 + floor(2 * rate * time since that call) are asked for in sum. */
uint64_t fws_pace_due(fws_pace *pace, uint64_t now);

/* Says that the n oldest due ticks were sent at now (the time given to fws_pace_due, n at
 * most what it said); records lag, burst and, every 100 ms, a sample. n = 0 does nothing. */
void fws_pace_sent(fws_pace *pace, uint64_t now, uint64_t n);

/* When to wake next: the due time of the oldest tick not done (under SMOOTH in a backlog:
 * when fws_pace_due will ask for it), but no earlier than FWS_PACE_QUANTUM_NS after the
 * last batch. So at low rates exactly a due time, and before any batch
 * t0 + ceil(10^9 / rate). UINT64_MAX at rate 0. */
uint64_t fws_pace_next(const fws_pace *pace);

/* Due time of the k-th tick since the anchor, k from 1: t0 + ceil(k * 10^9 / rate);
 * UINT64_MAX at rate 0 and where it would not fit. */
uint64_t fws_pace_due_time(const fws_pace *pace, uint64_t k);

/* A stride that starts at the oldest tick not done; rate must not be 0. Its times
 * equal fws_pace_due_time() for ever. */
fws_stride fws_pace_stride(const fws_pace *pace);

static inline void fws_stride_next(fws_stride *stride)
{
    stride->ns += stride->step;
    stride->remainder += stride->step_remainder;
    if (stride->remainder >= stride->rate) {
        stride->remainder -= stride->rate;
        stride->ns += 1;
    }
}

/* Slope of sent against due, least squares over the samples, as its distance from 1 in
 * parts per million: 0 for a sender that sent what was due (whatever the jitter of its
 * batches), -10,000 for one that loses 1 %; 0 with fewer than two samples. The anchor is
 * the first sample. */
double fws_pace_slope_ppm(const fws_pace *pace);

#endif
