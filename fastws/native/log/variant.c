#include "log/variant.h"

#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"

fws_variant *fws_variant_new(const fws_log *base, fws_encoding encoding)
{
    fws_variant *variant = malloc(sizeof *variant);
    if (variant == NULL)
        return NULL;
    *variant = (fws_variant){.encoding = encoding};
    fws_log_init(&variant->log, base->logs, false);
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
    size_t shrunk = fws_deflate_message(codec, variant->encoding.window_bits, body, body_n, &body);
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
    uint64_t here = variant->log.next_seq;
    if (seq <= here || seq < base->first_seq)
        return false;
    return here < base->first_seq
           || fws_log_position(base, seq) - fws_log_position(base, here) > FWS_DERIVE_STEP;
}

void fws_variant_advance(fws_variant *variant, const fws_log *base, uint64_t seq,
                         fws_deflate *codec)
{
    fws_log *log = &variant->log;
    const fws_slab *slab = NULL;
    uint64_t done = 0;
    if (seq >= base->next_seq)
        return;
    if (behind(variant, base, seq))
        fws_log_restart(log, seq);
    if (log->next_seq < base->first_seq)
        return;
    while ((done < FWS_DERIVE_STEP || log->next_seq <= seq) && log->next_seq < base->next_seq) {
        slab = fws_log_slab(base, log->next_seq, slab == NULL ? base->head : slab->id);
        uint32_t i = (uint32_t)(log->next_seq - slab->base_seq), start = fws_slab_start(slab, i);
        size_t n = slab->end[i] - start;
        if (!derive(variant, slab->data + start, n, fws_slab_eseq(slab, i), codec))
            return;
        done += n;
    }
}

void fws_variant_trim(fws_variant *variant, uint64_t first_seq)
{
    fws_log *log = &variant->log;
    const fws_slab *oldest;
    while ((oldest = fws_log_oldest(log)) != NULL && oldest->base_seq + oldest->n <= first_seq)
        fws_log_drop_oldest(log);
}
