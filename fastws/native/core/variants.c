/* The variants of a topic: one for each encoding that is read. */
#include <stdlib.h>

#include "core/topic.h"

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

bool fws_sub_join_variant(fws_sub *sub, fws_encoding encoding)
{
    fws_variant *variant = variant_of(sub->topic, encoding);
    if (variant == NULL)
        return false;
    variant->readers++;
    sub->extra->variant = variant;
    return true;
}

void fws_sub_leave_variant(fws_sub *sub)
{
    fws_variant *variant = sub->extra == NULL ? NULL : sub->extra->variant;
    fws_variant **link = &sub->topic->variants;
    if (variant == NULL)
        return;
    sub->extra->variant = NULL;
    if (--variant->readers > 0)
        return;
    while (*link != variant)
        link = &(*link)->next;
    *link = variant->next;
    fws_variant_free(variant);
}

void fws_topic_trim_variants(fws_topic *topic)
{
    for (fws_variant *variant = topic->variants; variant != NULL; variant = variant->next)
        fws_variant_trim(variant, topic->log.first_seq);
}
