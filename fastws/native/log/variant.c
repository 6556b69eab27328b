#include "log/variant.h"

#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

fws_variant *fws_variant_new(const fws_log *base, unsigned window_bits)
{
    fws_variant *variant = malloc(sizeof *variant);
    if (variant == NULL)
        return NULL;
    *variant = (fws_variant){.window_bits = (uint8_t)window_bits};
    fws_log_init(&variant->log, base->pool, base->retention_bytes);
    fws_log_restart(&variant->log, base->next_seq);
    return variant;
}

void fws_variant_free(fws_variant *variant)
{
    fws_log_clear(&variant->log);
    free(variant);
}

/* Appends one frame of the base, compressed when that makes it smaller. */
static bool derive(fws_variant *variant, const uint8_t *frame, size_t n, uint64_t eseq,
                   fws_deflate *codec)
{
    uint8_t head[FWS_HEADER_MAX];
    fws_header header;
    size_t head_n = (size_t)fws_header_decode(frame, n, &header); /* our own: whole and legal */
    const uint8_t *body = frame + head_n;
    size_t body_n = n - head_n;
    size_t shrunk = fws_deflate_message(codec, variant->window_bits, body, body_n, &body);
    if (shrunk > 0)
        body_n = shrunk;
    head_n = fws_header_encode(head, header.opcode, true, shrunk > 0 ? FWS_RSV1 : 0, body_n, NULL);
    uint8_t *room = fws_log_reserve(&variant->log, head_n + body_n, eseq);
    if (room == NULL)
        return false;
    memcpy(room, head, head_n);
    if (body_n > 0)
        memcpy(room + head_n, body, body_n);
    fws_log_commit(&variant->log, head_n + body_n, eseq);
    return true;
}

/* Whether going on where it stands costs more than a step before it reaches seq, or cannot be. */
static bool behind(const fws_variant *variant, const fws_log *base, uint64_t seq)
{
    fws_cursor here, there;
    uint64_t ignored, here_bytes, there_bytes;
    if (seq <= variant->log.next_seq || !fws_log_seek(base, seq, &there))
        return false;
    if (!fws_log_seek(base, variant->log.next_seq, &here))
        return true;
    fws_log_position(base, here, &ignored, &here_bytes);
    fws_log_position(base, there, &ignored, &there_bytes);
    return there_bytes - here_bytes > FWS_DERIVE_STEP;
}

void fws_variant_advance(fws_variant *variant, const fws_log *base, uint64_t seq,
                         fws_deflate *codec)
{
    fws_log *log = &variant->log;
    fws_cursor cursor;
    uint64_t done = 0;
    if (seq >= base->next_seq)
        return;
    log->retention_bytes = base->retention_bytes;
    if (behind(variant, base, seq))
        fws_log_restart(log, seq);
    if (!fws_log_seek(base, log->next_seq, &cursor))
        return;
    bool lapped;
    fws_slab *slab;
    while ((done < FWS_DERIVE_STEP || log->next_seq <= seq)
           && (slab = fws_log_find(base, &cursor, &lapped)) != NULL) {
        uint32_t i = cursor.index++, start = fws_slab_start(slab, i);
        size_t n = slab->end[i] - start;
        if (!derive(variant, slab->data + start, n, slab->base_eseq + slab->eseq[i], codec))
            return;
        done += n;
    }
}
