#include "bench/hist.h"

#include <string.h>

#define STEP_BITS 5 /* 32 steps to each power of two */
#define STEPS (1U << STEP_BITS)

/* Values below STEPS have a bucket each; above, the top STEP_BITS + 1 bits choose it. */
static unsigned bucket_of(uint64_t ns)
{
    if (ns < STEPS)
        return (unsigned)ns;
    unsigned shift = 63U - (unsigned)__builtin_clzll(ns) - STEP_BITS;
    return shift * STEPS + (unsigned)(ns >> shift);
}

static uint64_t upper_end(unsigned bucket)
{
    if (bucket < STEPS)
        return bucket;
    unsigned shift = bucket / STEPS - 1;
    uint64_t lowest = (uint64_t)(STEPS + bucket % STEPS) << shift;
    return lowest + ((UINT64_C(1) << shift) - 1);
}

void fws_hist_clear(fws_hist *hist)
{
    memset(hist, 0, sizeof *hist);
}

void fws_hist_add(fws_hist *hist, uint64_t ns)
{
    hist->counts[bucket_of(ns)]++;
    hist->total++;
    hist->sum += ns;
    if (ns > hist->max)
        hist->max = ns;
}

void fws_hist_add_zeros(fws_hist *hist, uint64_t many)
{
    hist->counts[0] += many;
    hist->total += many;
}

uint64_t fws_hist_quantile(const fws_hist *hist, double q)
{
    if (hist->total == 0)
        return 0;
    if (!(q > 0))
        q = 0;
    if (q >= 1)
        return hist->max;
    /* 0.07 * 100 is a little more than 7 and must still mean the seventh sample. */
    double exact = q * (double)hist->total * (1 - 1e-12);
    uint64_t rank = (uint64_t)exact;
    rank += (double)rank < exact;
    uint64_t seen = 0;
    for (unsigned i = 0; i < FWS_HIST_BUCKETS; i++) {
        seen += hist->counts[i];
        if (hist->counts[i] > 0 && seen >= rank)
            return upper_end(i) < hist->max ? upper_end(i) : hist->max;
    }
    return hist->max;
}
