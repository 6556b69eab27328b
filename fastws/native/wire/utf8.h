/* Incremental validation of UTF-8 (RFC 3629, Unicode table 3-7). Layer 0: pure. */
#ifndef FWS_UTF8_H
#define FWS_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum {
    FWS_UTF8_ACCEPT = 0, /* between characters; also the state to start with */
    FWS_UTF8_REJECT = 1  /* an invalid sequence was seen; final */
};

/* Takes n bytes in the given state and returns the new one: ACCEPT, REJECT, or
 * another value while a character is incomplete. REJECT is returned at the first
 * byte that cannot continue a valid sequence, not at its end. Whole when the
 * state after the last byte is ACCEPT. */
uint32_t fws_utf8_feed(uint32_t state, const uint8_t *data, size_t n);

#endif
