/* Masking of payloads (RFC 6455 5.3). Layer 0: bytes to bytes. */
#ifndef FWS_MASK_H
#define FWS_MASK_H

#include <stddef.h>
#include <stdint.h>

/* XORs data[i] with key[(phase + i) % 4] in place, any alignment, reading and
 * writing nothing outside data[0..n). Returns the phase for the bytes that follow,
 * in 0..3. Applying it twice restores the input. */
unsigned fws_mask(uint8_t *data, size_t n, const uint8_t key[4], unsigned phase);

#endif
