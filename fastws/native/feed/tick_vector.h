/* JSON ticks written with AVX-512, as of Ice Lake and Zen 4. Layer 2: no I/O.
 *
 * Where the processor lacks it, and for what is no base tick in JSON, tick.c writes the same bytes.
 */
#ifndef FWS_TICK_VECTOR_H
#define FWS_TICK_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FWS_TICK_BLOCK 64 /* frames that are written in one call at most */
#define FWS_LINE_BYTES 64 /* touched from the start of each frame; a frame has 61 at most */
#define FWS_LINE_PRICE 27 /* six digits, a point, six digits */
#define FWS_LINE_TAIL 40

/* A frame with room for every digit. */
typedef struct fws_line {
    uint8_t text[FWS_LINE_BYTES]; /* the price's bytes are filled in */
    uint64_t kept;                /* which bytes outside of the price belong to the frame */
} fws_line;

/* Whether this processor has it. */
bool fws_tick_vector_available(void);

/* Writes n frames (1..FWS_TICK_BLOCK) back to back to out, with FWS_LINE_BYTES of room behind the start of the last
 * one: frame i is lines[symbol[i]] with the price of micros[i] millionths, below 10^12. end[i]
 * becomes start + the bytes up to and including frame i. Returns the bytes of all. */
size_t fws_tick_vector_write(const fws_line *lines, const uint8_t *symbol, const uint64_t *micros,
                             uint32_t n, uint8_t *out, uint32_t *end, uint32_t start);

#endif
