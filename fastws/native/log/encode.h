/* What one frame of a topic becomes for one class of readers. Layer 2: no I/O, no state. */
#ifndef FWS_ENCODE_H
#define FWS_ENCODE_H

#include "log/keys.h"
#include "wire/deflate.h"
#include "wire/envelope.h"
#include "wire/frame.h"

/* One value for each class. */
typedef struct fws_encoding {
    uint8_t window_bits; /* of compression; 0: none */
    bool envelope;       /* with its number and its key */
    bool batched;        /* several make one WebSocket message; never compressed */
} fws_encoding;

static inline bool fws_encoding_same(fws_encoding left, fws_encoding right)
{
    return left.window_bits == right.window_bits && left.envelope == right.envelope
           && left.batched == right.batched;
}

/* Whether its readers cannot be given frames as they were published. */
static inline bool fws_encoding_strict(fws_encoding encoding)
{
    return encoding.envelope || encoding.batched;
}

/* What the frames of a slab are. */
enum fws_form {
    FWS_FORM_FRAME = 0, /* WebSocket frames */
    FWS_FORM_JSON,      /* each a comma and a JSON text: elements of an array */
    FWS_FORM_BINARY     /* each a u32 size, little endian, and as many bytes */
};

/* What one becomes, before it is written: nothing of it is copied yet. */
typedef struct fws_encoded {
    size_t n; /* bytes in all */
    uint8_t form;
    uint8_t head_n;
    uint8_t head[FWS_HEADER_MAX + 4];
    const uint8_t *body; /* NULL: the message, encoded as it is written */
    size_t body_n;
    fws_enclosed message;
    bool tail; /* a bracket ends it */
} fws_encoded;

/* Encodes a frame of our own, whole and legal, with that sequence number and key (NULL: none),
 * of a topic of that content (enum fws_content). codec may be NULL without compression. scratch
 * holds what is to be compressed: malloc'ed, grown as needed. What comes out is good until the next
 * call with that codec or scratch, and as long as the frame. False: memory is out. */
typedef struct fws_scratch {
    uint8_t *data;
    size_t capacity;
} fws_scratch;

bool fws_encode(fws_encoded *out, fws_encoding encoding, const uint8_t *frame, size_t n,
                uint64_t seq, const fws_key *key, uint8_t content, fws_deflate *codec,
                fws_scratch *scratch);

/* Writes its n bytes. */
void fws_encoded_write(const fws_encoded *encoded, uint8_t *out);

/* Several of one slab as one WebSocket message: data[0..n) is theirs, n is not 0. What stands in
 * front of them goes to head (FWS_BATCH_HEAD bytes); *skip bytes of the first one are left out;
 * behind FWS_FORM_JSON a bracket follows. Returns the size of the head. */
#define FWS_BATCH_HEAD (FWS_HEADER_MAX + 1)
size_t fws_batch_head(uint8_t *head, uint8_t form, size_t n, size_t *skip);

#endif
