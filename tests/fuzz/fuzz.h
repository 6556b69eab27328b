/* What the fuzz targets share: the input as a stream of decisions, and cuts of the rest of it. A
 * target ends the process where an oracle does not hold (CHECK); libFuzzer or replay.c calls it. */
#ifndef FWS_FUZZ_H
#define FWS_FUZZ_H

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

typedef struct fuzz_input {
    const uint8_t *at;
    size_t n;
} fuzz_input;

/* The next byte; 0 once the input is used up. */
static inline uint8_t fuzz_byte(fuzz_input *input)
{
    if (input->n == 0)
        return 0;
    input->n--;
    return *input->at++;
}

static inline uint32_t fuzz_word(fuzz_input *input)
{
    uint32_t high = fuzz_byte(input);
    return high << 8 | fuzz_byte(input);
}

/* Sizes of pieces, used in turn: some bytes from the front of the input, 0 standing for all that
 * is left. */
typedef struct fuzz_cuts {
    uint8_t sizes[16];
    uint32_t n, next;
} fuzz_cuts;

static inline fuzz_cuts fuzz_take_cuts(fuzz_input *input)
{
    fuzz_cuts cuts = {.n = 1 + fuzz_byte(input) % 16};
    for (uint32_t i = 0; i < cuts.n; i++)
        cuts.sizes[i] = fuzz_byte(input);
    return cuts;
}

/* The size of the next piece of n bytes (1 up). */
static inline size_t fuzz_cut(fuzz_cuts *cuts, size_t n)
{
    size_t size = cuts->sizes[cuts->next++ % cuts->n];
    return size == 0 || size > n ? n : size;
}

static const fuzz_cuts FUZZ_WHOLE = {.n = 1};
static const fuzz_cuts FUZZ_BYTEWISE = {.sizes = {1}, .n = 1};

#endif
