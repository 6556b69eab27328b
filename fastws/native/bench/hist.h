/* Histogram of durations, log-linear: 32 steps to each power of two, so a quantile
 * is at most 3.2 % above the true value. Layer 0: pure, fixed size.
 */
#ifndef FWS_HIST_H
#define FWS_HIST_H

#include <stdint.h>

#define FWS_HIST_BUCKETS 1920 /* 60 powers of two x 32; covers all of uint64_t */

typedef struct fws_hist {
    uint64_t total; /* samples */
    uint64_t max;   /* exact, ns */
    uint64_t sum;   /* exact modulo 2^64, ns: the mean is sum / total */
    uint64_t counts[FWS_HIST_BUCKETS];
} fws_hist;

void fws_hist_clear(fws_hist *hist);
void fws_hist_add(fws_hist *hist, uint64_t ns);
/* The same of `many` samples of 0 ns. */
void fws_hist_add_zeros(fws_hist *hist, uint64_t many);

/* Smallest value that at least q (0..1; what lies outside is clamped) of the samples do
 * not exceed, rounded up to its bucket's upper end and never above max; 0 without samples. */
uint64_t fws_hist_quantile(const fws_hist *hist, double q);

#endif
