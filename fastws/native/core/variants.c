/* The variants of a topic: one for each encoding that is read. */
#include <stdlib.h>

#include "core/sub.h"

static fws_variant *variant_of(fws_topic *topic, fws_encoding encoding)
{
    fws_variant *variant = topic->variants;
    while (variant != NULL && !fws_encoding_same(variant->encoding, encoding))
        variant = variant->next;
    if (variant != NULL)
        return variant;
    variant = fws_variant_new(&topic->log, encoding);
    if (variant == NULL)
        return NULL;
    variant->next = topic->variants;
    topic->variants = variant;
    return variant;
}

static void leave(fws_topic *topic, fws_variant *variant)
{
    fws_variant **link = &topic->variants;
    if (--variant->readers > 0)
        return;
    while (*link != variant)
        link = &(*link)->next;
    *link = variant->next;
    fws_variant_free(variant);
}

bool fws_sub_join_variant(fws_sub *sub, fws_encoding encoding)
{
    fws_variant *variant = variant_of(sub->topic, encoding);
    if (variant == NULL)
        return false;
    variant->readers++;
    sub->extra->variant = variant;
    return true;
}

int fws_sub_encode(fws_sub *sub, bool envelope, uint16_t batch)
{
    const fws_encoding encoding = {.window_bits = batch > 0 ? 0 : sub->conn->window_bits,
                                   .envelope = envelope,
                                   .batched = batch > 0};
    if (sub->extra == NULL)
        sub->extra = calloc(1, sizeof *sub->extra);
    if (sub->extra == NULL)
        return FWS_E_NOMEM;
    fws_variant *before = sub->extra->variant;
    if (!fws_sub_join_variant(sub, encoding))
        return FWS_E_NOMEM;
    if (before != NULL)
        leave(sub->topic, before);
    sub->extra->batch = batch;
    return FWS_OK;
}

bool fws_sub_encodes(const fws_sub *sub, bool envelope, uint16_t batch)
{
    const fws_variant *variant = sub->extra == NULL ? NULL : sub->extra->variant;
    if (!envelope && batch == 0)
        return true;
    return variant != NULL && variant->encoding.envelope == envelope && sub->extra->batch == batch;
}

void fws_sub_leave_variant(fws_sub *sub)
{
    if (sub->extra == NULL || sub->extra->variant == NULL)
        return;
    leave(sub->topic, sub->extra->variant);
    sub->extra->variant = NULL;
}

void fws_topic_trim_variants(fws_topic *topic)
{
    for (fws_variant *variant = topic->variants; variant != NULL; variant = variant->next)
        fws_variant_trim(variant, topic->log.first_seq);
}

/* Deriving. */

static fws_origin origin_of(const fws_topic *topic, fws_deflate *codec)
{
    return (fws_origin){.base = &topic->log,
                        .keys = topic->keys,
                        .content = topic->options->content,
                        .codec = codec};
}

/* The first frame that a member may read next, as far as slabs tell; seq at most. */
static uint64_t read_from(const fws_topic *topic, uint64_t seq)
{
    const fws_log *log = &topic->log;
    if (topic->caught > 0 && topic->woken < seq)
        seq = topic->woken;
    for (uint64_t id = log->tail; id != log->head; id++) {
        const fws_slab *slab = log->ring[id & (log->capacity - 1)];
        if (slab->base_seq >= seq)
            break;
        if (slab->readers > 0)
            return slab->base_seq;
    }
    return seq;
}

bool fws_sub_derive(const fws_sub *sub, uint64_t seq, fws_deflate *codec)
{
    const fws_topic *topic = sub->topic;
    fws_variant *variant = sub->extra->variant;
    const fws_origin origin = origin_of(topic, codec);
    if (fws_encoding_strict(variant->encoding)) {
        /* Where it goes on nothing is skipped, and a long history is not looked through. */
        uint64_t from = variant->log.next_seq == seq ? seq : read_from(topic, seq);
        return fws_variant_approach(variant, &origin, seq, from);
    }
    fws_variant_advance(variant, &origin, seq);
    return true;
}

fws_slab *fws_sub_derive_single(const fws_sub *sub, const fws_slab *slab, uint64_t seq,
                                fws_deflate *codec, bool settle)
{
    const fws_origin origin = origin_of(sub->topic, codec);
    const fws_keyed *at = fws_keys_from(origin.keys, seq);
    return fws_variant_single(sub->extra->variant, &origin, slab, (uint32_t)(seq - slab->base_seq),
                              at->key, settle);
}

void fws_topic_forget_singles(fws_topic *topic)
{
    for (fws_variant *variant = topic->variants; variant != NULL; variant = variant->next)
        if (variant->capacity > 0)
            fws_variant_forget(variant);
}
