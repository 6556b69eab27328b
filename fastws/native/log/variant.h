/* A topic's frames as one class of subscribers gets them: compressed, with one size of window.
 * Layer 2: no I/O.
 *
 * A log of its own beside the topic's, the base: a frame has the same sequence number and
 * engine sequence in both. It is derived when a reader that can be sent to needs it, once for all
 * of its class, and may be behind the base, or hold nothing that a reader wants; the
 * base, whose frames are legal for everybody, then serves instead. Frames that compression
 * does not shrink are the same in both.
 */
#ifndef FWS_VARIANT_H
#define FWS_VARIANT_H

#include "wire/deflate.h"
#include "log/log.h"

#define FWS_DERIVE_STEP 65536u /* bytes of the base that one call compresses, or one frame */

/* What a frame becomes: one value for each class of readers. */
typedef struct fws_encoding {
    uint8_t window_bits; /* of compression; 0: none */
} fws_encoding;

static inline bool fws_encoding_same(fws_encoding left, fws_encoding right)
{
    return left.window_bits == right.window_bits;
}

typedef struct fws_variant {
    fws_log log;
    uint32_t readers;
    fws_encoding encoding;
    struct fws_variant *next; /* of the same topic */
} fws_variant;

/* A variant whose first frame will be the base's next. NULL: memory is out. */
fws_variant *fws_variant_new(const fws_log *base, fws_encoding encoding);
void fws_variant_free(fws_variant *variant);

/* Derives one step further, for a reader whose next frame is seq. Frames that no reader needs any
 * more are skipped: a gap larger than a step. */
void fws_variant_advance(fws_variant *variant, const fws_log *base, uint64_t seq,
                         fws_deflate *codec);

/* Lets go of the slabs that end before that sequence number: the base has none of it any more. */
void fws_variant_trim(fws_variant *variant, uint64_t first_seq);

#endif
