/* RFC 7692 section 7: a message's payload compressed on its own, and back. Layer 1: no I/O.
 *
 * Nothing is kept from one message to the next (no_context_takeover, both ways), so all
 * connections share one fws_deflate. It owns the library's state, made on demand (about
 * 40 KiB to inflate, 256 KiB for each size of window to compress), and one buffer.
 * Built without zlib, everything here answers that it cannot.
 */
#ifndef FWS_DEFLATE_H
#define FWS_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FWS_WINDOW_MIN 9u /* bits; RFC 7692 has 8, too, which zlib cannot do here */
#define FWS_WINDOW_MAX 15u
#define FWS_WINDOWS (FWS_WINDOW_MAX - FWS_WINDOW_MIN + 1)
/* Bytes of payload: a smaller message hardly shrinks (a tick of 56: to 55); a call takes 2 us. */
#define FWS_DEFLATE_LEAST 64u
#define FWS_BLOCKS 512u
#define FWS_BLOCK_BYTES 256u
#define FWS_EMPTY_BLOCKS 4096u
#define FWS_DEFLATE_KEPT 1048576u /* a larger buffer is not kept for the next message */

typedef struct fws_deflate fws_deflate;

/* Whether this build can compress. */
bool fws_deflate_available(void);

/* NULL: memory is out, or the build cannot. */
fws_deflate *fws_deflate_new(void);
void fws_deflate_free(fws_deflate *codec); /* NULL is fine */

/* Bounds the time of compressing one message by that clock (ns; 0: no bound): what is left of the
 * message then is stored in it as it is. */
void fws_deflate_bound(fws_deflate *codec, uint64_t (*now)(void), uint64_t budget_ns);

/* How often fws_deflate_message() has compressed something. */
uint64_t fws_deflate_calls(const fws_deflate *codec);

/* Compresses data[0..n) with a window of 2^window_bits bytes. Returns the size, less than n, with
 * *out good until the next call; 0 when the message is to go as it is: it is smaller than
 * FWS_DEFLATE_LEAST, it does not shrink (of one above 16 KiB: its first 4 KiB do not, by a
 * sixteenth), or memory is out. */
size_t fws_deflate_message(fws_deflate *codec, unsigned window_bits, const uint8_t *data, size_t n,
                           const uint8_t **out);

/* Inflates a whole message. FWS_OK with *out (never NULL, the caller's to free) and *out_n;
 * FWS_E_TOO_BIG as soon as it passes limit bytes, or has more than FWS_BLOCKS dynamic or final
 * blocks and one for each FWS_BLOCK_BYTES of output (an empty one takes 11 bytes and 4 us), or more
 * than FWS_EMPTY_BLOCKS of any kind without output and one for each byte of it (10 bits, 12 ns);
 * FWS_E_DATA when it is not what RFC 7692 7.2.2 describes, or ends in the middle; FWS_E_NOMEM. At
 * no time are more than limit + 1 bytes of output held (twice while they are moved). */
int fws_inflate_message(fws_deflate *codec, const uint8_t *data, size_t n, uint64_t limit,
                        uint8_t **out, size_t *out_n);

#endif
