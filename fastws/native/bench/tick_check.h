/* Whether a payload is a tick of the feed (docs/protocol.md 1). Layer 2: no I/O.
 *
 * By other means than feed/tick, which writes them.
 */
#ifndef FWS_TICK_CHECK_H
#define FWS_TICK_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Checks one payload: a tick in JSON (TEXT; keys in order, no blanks, symbol known, price a
 * positive plain decimal in its shortest form with at most 6 places, ts 13 digits; then, if they
 * are there, seq and tsNs, and behind those bid, ask and volume, prices like it; 45 to 60 bytes
 * without more keys) or binary (BINARY; 20 bytes, seq and tsNs from 36 bytes, bid, ask and volume
 * from 60; symbol < 5, prices finite and positive, ts of 13 digits); tsNs must lie in the
 * millisecond ts, bid below ask. Keys and bytes behind those are ignored. Returns NULL when it is
 * one, else a constant text of what is wrong. On NULL are *ts_ns (tsNs, or ts in ns), *has_seq, and
 * *seq where the tick has one, filled. */
const char *fws_tick_check(unsigned opcode, const uint8_t *data, size_t n, uint64_t *ts_ns,
                           uint64_t *seq, bool *has_seq);

#endif
