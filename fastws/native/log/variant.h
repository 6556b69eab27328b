/* A topic's frames as one class of subscribers gets them: compressed, in an envelope, as elements of
 * batches. Layer 2: no I/O.
 *
 * A log of its own beside the topic's, the base: a frame has the same sequence number and
 * engine sequence in both. It is derived when a reader that can be sent to needs it, once for all
 * of its class, and may be behind the base, or hold nothing that a reader wants. Where the class is
 * told apart by compression alone, the base, whose frames are legal for everybody, then serves
 * instead; and frames that compression does not shrink are the same in both. The readers of the other
 * classes (fws_encoding_strict) wait until it is derived.
 *
 * Readers that get the newest frames of keys only may need frames from anywhere, also those that the
 * base has let go: each of these is a single, derived on demand once for the class.
 */
#ifndef FWS_VARIANT_H
#define FWS_VARIANT_H

#include "log/encode.h"

#define FWS_DERIVE_STEP 65536u /* bytes of the base that one call encodes, or one frame */

typedef struct fws_single {
    uint64_t seq;
    fws_slab *slab; /* of one frame; NULL: free */
} fws_single;

typedef struct fws_variant {
    fws_log log; /* its slabs have a form (enum fws_form) */
    uint32_t readers;
    fws_encoding encoding;
    fws_scratch scratch;
    fws_single *singles; /* by sequence number: open addressing */
    uint32_t n_singles, capacity;
    uint32_t settle_at;       /* so many are looked through for those that may go */
    struct fws_variant *next; /* of the same topic */
} fws_variant;

/* What it is derived from. */
typedef struct fws_origin {
    const fws_log *base;
    const fws_keys *keys; /* NULL: no frame has one */
    uint8_t content;      /* enum fws_content */
    fws_deflate *codec;
} fws_origin;

/* A variant whose first frame will be the base's next. NULL: memory is out. */
fws_variant *fws_variant_new(const fws_log *base, fws_encoding encoding);
void fws_variant_free(fws_variant *variant);

/* Derives one step further, for a reader whose next frame is seq, and which the base serves
 * where that is not enough. Frames that no reader needs any more are skipped: a gap larger than
 * a step. */
void fws_variant_advance(fws_variant *variant, const fws_origin *origin, uint64_t seq);

/* The same for a reader that nothing else can serve, which calls it again until its frame is
 * derived. Where the frames before `from` (seq at most) are read by nobody, they are skipped. When
 * seq lies before what is derived, it begins anew with all that the base has. False: memory is out.
 */
bool fws_variant_approach(fws_variant *variant, const fws_origin *origin, uint64_t seq,
                          uint64_t from);

/* Whether it has that frame. */
static inline bool fws_variant_has(const fws_variant *variant, uint64_t seq)
{
    return seq >= variant->log.first_seq && seq < variant->log.next_seq;
}

/* Frame i of that slab, which is of the base or saved for that key (NULL: it has none), as a
 * single. settle: singles of frames that are no newest ones of their keys may go. NULL: memory is
 * out. */
fws_slab *fws_variant_single(fws_variant *variant, const fws_origin *origin, const fws_slab *slab,
                             uint32_t i, const fws_key *key, bool settle);

/* Nobody reads singles any more. */
void fws_variant_forget(fws_variant *variant);

/* Lets go of the slabs that end before that sequence number: the base has none of it any more. */
void fws_variant_trim(fws_variant *variant, uint64_t first_seq);

#endif
