/* Subscriptions that tell what they lose: whose they are, and how much of it was told. */
#ifndef FWS_TEST_TOLD_H
#define FWS_TEST_TOLD_H

#include "sent.h"

static bool tell_wanted; /* by subscriptions that are made or changed now */
static uint64_t n_tellers, n_tellers_ended, losses_told;

static inline void told_begin(void)
{
    tell_wanted = false;
    n_tellers = n_tellers_ended = losses_told = 0;
}

/* What a subscription that is made now is given. */
static inline fws_losses *teller(void)
{
    return tell_wanted ? fws_losses_new(++n_tellers) : NULL;
}

/* The call that it was given to has that status. */
static inline void keep_teller(fws_losses *losses, int status)
{
    if (losses == NULL || status >= 0)
        return;
    fws_losses_free(losses);
    n_tellers_ended++;
}

/* Adds up what there is to tell. */
static inline void hear_losses(void)
{
    fws_loss loss;
    while (fws_topics_next_loss(&engine->topics, &loss)) {
        CHECK(loss.id > 0 && loss.id <= n_tellers);
        n_tellers_ended += loss.sub == NULL;
        if (loss.sub == NULL)
            continue;
        CHECK(loss.count > 0 && loss.count <= loss.last - loss.first + 1);
        CHECK(loss.last < loss.topic->log.next_seq);
        one *who = ones;
        while (who->peer == NULL || conn_of(who->peer) != loss.conn)
            CHECK(++who < ones + CLIENTS);
        uint8_t name = 0;
        while (topics[name] != loss.topic)
            CHECK(++name < NAMES);
        who->seats[name].lost += loss.count;
        losses_told += loss.count;
    }
}

#endif
