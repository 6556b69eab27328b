#include "log/encode.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_FIRST 1024u

static void put_u32(uint8_t *out, size_t number)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(number >> 8 * i);
}

static uint8_t *scratch_room(fws_scratch *scratch, size_t n)
{
    size_t capacity = n < SCRATCH_FIRST ? SCRATCH_FIRST : n;
    if (n <= scratch->capacity)
        return scratch->data;
    uint8_t *grown = malloc(capacity);
    if (grown == NULL)
        return NULL;
    free(scratch->data);
    scratch->data = grown;
    scratch->capacity = capacity;
    return grown;
}

/* An element of a batch; one that fills a slab alone is a whole frame, a batch of one. */
static void encode_element(fws_encoded *out)
{
    bool binary = out->message.content == FWS_CONTENT_BINARY;
    size_t n = fws_enclosed_size(&out->message), element = n + (binary ? 4 : 1);
    uint8_t *at = out->head;
    if (element > FWS_SLAB_ALONE) {
        out->tail = !binary;
        at += fws_header_encode(at, binary ? FWS_BINARY : FWS_TEXT, true, 0, element + out->tail,
                                NULL);
    } else {
        out->form = binary ? FWS_FORM_BINARY : FWS_FORM_JSON;
    }
    if (binary)
        put_u32(at, n);
    else
        *at = out->tail ? '[' : ',';
    out->head_n = (uint8_t)(at - out->head + (binary ? 4 : 1));
    out->n = out->head_n + n + out->tail;
}

/* A frame, its body compressed when that makes it smaller. */
static void encode_frame(fws_encoded *out, uint8_t opcode, unsigned window_bits, fws_deflate *codec)
{
    const uint8_t *shrunk;
    size_t n = window_bits == 0
                   ? 0
                   : fws_deflate_message(codec, window_bits, out->body, out->body_n, &shrunk);
    if (n > 0) {
        out->body = shrunk;
        out->body_n = n;
    }
    size_t body_n = out->body == NULL ? fws_enclosed_size(&out->message) : out->body_n;
    out->head_n =
        (uint8_t)fws_header_encode(out->head, opcode, true, n > 0 ? FWS_RSV1 : 0, body_n, NULL);
    out->n = out->head_n + body_n;
}

bool fws_encode(fws_encoded *out, fws_encoding encoding, const uint8_t *frame, size_t n,
                uint64_t seq, const fws_key *key, uint8_t content, fws_deflate *codec,
                fws_scratch *scratch)
{
    fws_header header;
    size_t head_n = (size_t)fws_header_decode(frame, n, &header); /* our own: whole and legal */
    bool strict = fws_encoding_strict(encoding);
    bool binary = content == FWS_CONTENT_BINARY || header.opcode == FWS_BINARY;
    *out = (fws_encoded){.body = frame + head_n, .body_n = n - head_n};
    if (strict)
        out->message = (fws_enclosed){.data = out->body,
                                      .n = out->body_n,
                                      .key = key == NULL ? NULL : (const uint8_t *)key->name,
                                      .key_n = key == NULL ? 0 : key->n,
                                      .seq = seq,
                                      .content = binary ? FWS_CONTENT_BINARY : content,
                                      .envelope = encoding.envelope};
    if (strict)
        out->body = NULL;
    if (encoding.batched) {
        encode_element(out);
        return true;
    }
    if (strict && encoding.window_bits > 0) {
        out->body_n = fws_enclosed_size(&out->message);
        out->body = scratch_room(scratch, out->body_n);
        if (out->body == NULL)
            return false;
        fws_enclosed_write(scratch->data, &out->message);
    }
    uint8_t opcode = !strict ? header.opcode : binary ? FWS_BINARY : FWS_TEXT;
    encode_frame(out, opcode, encoding.window_bits, codec);
    return true;
}

void fws_encoded_write(const fws_encoded *encoded, uint8_t *out)
{
    memcpy(out, encoded->head, encoded->head_n);
    out += encoded->head_n;
    if (encoded->body == NULL)
        out = fws_enclosed_write(out, &encoded->message);
    else if (encoded->body_n > 0)
        memcpy(out, encoded->body, encoded->body_n);
    if (encoded->tail)
        *out = ']';
}

size_t fws_batch_head(uint8_t *head, uint8_t form, size_t n, size_t *skip)
{
    bool json = form == FWS_FORM_JSON;
    *skip = json; /* the comma of the first one */
    size_t head_n = fws_header_encode(head, json ? FWS_TEXT : FWS_BINARY, true, 0, n + json, NULL);
    if (json)
        head[head_n++] = '[';
    return head_n;
}
