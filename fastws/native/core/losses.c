/* What subscriptions will never get, for those whose owner wants to be told. */
#include <stdlib.h>

#include "core/sub.h"

fws_losses *fws_losses_new(uint64_t id)
{
    fws_losses *losses = calloc(1, sizeof *losses);
    if (losses != NULL)
        losses->id = id;
    return losses;
}

void fws_losses_free(fws_losses *losses)
{
    free(losses);
}

static void queue(fws_topics *topics, fws_losses *losses)
{
    if (losses->link.next == NULL)
        fws_link_append(&topics->losses, &losses->link);
}

void fws_losses_end(fws_topics *topics, fws_losses *losses)
{
    if (losses == NULL)
        return;
    losses->sub = NULL;
    queue(topics, losses);
}

int fws_sub_tell_losses(fws_sub *sub, fws_losses *losses)
{
    if (losses == NULL && sub->extra == NULL)
        return FWS_OK;
    if (sub->extra == NULL && (sub->extra = calloc(1, sizeof *sub->extra)) == NULL)
        return FWS_E_NOMEM;
    fws_losses_end(sub->topic->topics, sub->extra->losses);
    sub->extra->losses = losses;
    if (losses != NULL)
        losses->sub = sub;
    return FWS_OK;
}

void fws_losses_add(fws_losses *losses, uint64_t first, uint64_t last, uint64_t count,
                    enum fws_why why)
{
    if (losses->count == 0) {
        losses->first = first;
        losses->why = (uint8_t)why;
    }
    losses->last = last;
    losses->count += count;
    queue(losses->sub->topic->topics, losses);
}

bool fws_topics_next_loss(fws_topics *topics, fws_loss *loss)
{
    if (fws_link_empty(&topics->losses))
        return false;
    fws_losses *losses = FWS_CONTAINER(topics->losses.next, fws_losses, link);
    fws_sub *sub = losses->sub;
    fws_link_remove(&losses->link);
    *loss = (fws_loss){.id = losses->id,
                       .shared = losses->shared,
                       .sub = sub,
                       .conn = sub == NULL ? NULL : sub->conn,
                       .topic = sub == NULL ? NULL : sub->topic,
                       .first = losses->first,
                       .last = losses->last,
                       .count = losses->count,
                       .why = losses->why};
    losses->count = 0;
    if (sub == NULL)
        free(losses);
    return true;
}

void fws_topics_forget_losses(fws_topics *topics)
{
    fws_loss loss;
    while (fws_topics_next_loss(topics, &loss))
        continue;
}
