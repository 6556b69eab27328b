/* The ticks of the feed, finished as WebSocket frames. Layer 2: no I/O.
 *
 * A random walk per symbol; every tick draws its own symbol and step. The walk reverts
 * weakly to its start, since a pure multiplicative walk drifts down. It keeps full
 * precision inside; both formats show the price rounded to the nearest millionth, so the
 * f64 of a binary tick is the very number that the JSON text of it reads as.
 *
 * JSON (TEXT): {"symbol":"BTC","price":50012.345678,"ts":1769951234567}, 45 to 60 bytes
 * binary (BINARY): u32 symbol, f64 price, i64 ts in ms, little endian, 20 bytes.
 * With FWS_TICK_SEQ: JSON grows ,"seq":41,"tsNs":1769951234567890123 and binary
 * u64 seq at 20, i64 tsNs at 28 (36 bytes).
 * With FWS_TICK_QUOTE also ,"bid":50009.84506,"ask":50014.846296,"volume":41.207 and binary three
 * f64 at 36 (60 bytes): 0.005 % below and above the price, and 0.001 to 100 that follows from seq
 * and price. So the walk is the same with all fields. The frame of such a JSON tick may be longer
 * than 125 bytes; then its header has four bytes (RFC 6455 5.2).
 */
#ifndef FWS_TICK_H
#define FWS_TICK_H

#include "feed/tick_vector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FWS_TICK_MAX 192     /* room that fws_tick_write() may touch, whatever the tick's size */
#define FWS_TICK_BASE_MAX 62 /* bytes of a tick with FWS_TICK_BASE at most */
#define FWS_TICK_SEQ_MAX 117 /* the same with FWS_TICK_SEQ */
#define FWS_TICK_SYMBOLS 5
#define FWS_PRICE_MAX 16 /* room that fws_price_text() may touch */

enum fws_tick_format { FWS_TICK_JSON = 0, FWS_TICK_BINARY = 1 };
enum fws_tick_fields { FWS_TICK_BASE = 0, FWS_TICK_SEQ = 1, FWS_TICK_QUOTE = 2 };

typedef struct fws_ticks {
    double price[FWS_TICK_SYMBOLS];
    uint64_t random[4];  /* xoshiro256++ */
    uint64_t ms_ends_ns; /* the cached ts holds for the millisecond before it */
    int64_t ts_ms;
    uint8_t ts_text[32];            /* the tail of a JSON tick from ,"ts": on, ready to be copied */
    uint32_t ts_size;               /* of that text */
    uint8_t symbol[FWS_TICK_BLOCK]; /* of the ticks that the last call wrote, by number */
    enum fws_tick_format format;
    enum fws_tick_fields fields;
    bool vector; /* blocks are written with AVX-512; false is always right */
} fws_ticks;

/* Starts the walk at its start prices; the same seed gives the same ticks. */
void fws_ticks_init(fws_ticks *ticks, uint64_t seed, enum fws_tick_format format,
                    enum fws_tick_fields fields);

/* Changes the format; the walk goes on. */
void fws_ticks_set_format(fws_ticks *ticks, enum fws_tick_format format);

/* Writes the next tick as one unmasked frame to out, which must have FWS_TICK_MAX
 * bytes of room (bytes behind the frame may be overwritten). ts_ns is its due time in
 * ns since the Unix epoch (any uint64_t; times may also go back), seq its number in the
 * log. Returns the frame's size. */
size_t fws_tick_write(fws_ticks *ticks, uint8_t *out, uint64_t ts_ns, uint64_t seq);

/* Writes the next n ticks (1..FWS_TICK_BLOCK) back to back, the very bytes of n calls of
 * fws_tick_write(), all due at ts_ns, seq the number of the first one. out has room for them
 * (fws_ticks_fit). end[i] becomes start + the bytes up to and including tick i. Returns the bytes
 * of all. */
size_t fws_tick_block(fws_ticks *ticks, uint8_t *out, uint32_t *end, uint32_t start, uint32_t n,
                      uint64_t ts_ns, uint64_t seq);

/* How many of n ticks (n from 1) have room in that many bytes, FWS_TICK_MAX at least: 1..n. */
static inline uint32_t fws_ticks_fit(const fws_ticks *ticks, size_t bytes, uint32_t n)
{
    static const size_t most_of[] = {FWS_TICK_BASE_MAX, FWS_TICK_SEQ_MAX, FWS_TICK_MAX};
    size_t most = most_of[ticks->fields];
    size_t fit = 1 + (bytes - FWS_TICK_MAX) / most;
    return fit < n ? (uint32_t)fit : n;
}

/* The name of a symbol, *n bytes. */
const uint8_t *fws_tick_symbol(unsigned symbol, size_t *n);

/* Writes a price, 0..999999.999999, rounded to the nearest millionth, without trailing
 * zeros and without a trailing point. out has FWS_PRICE_MAX bytes of room (bytes behind
 * the text may be overwritten). Returns the text's size, 1..13. */
size_t fws_price_text(uint8_t *out, double price);

#endif
