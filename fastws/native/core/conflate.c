/* Subscriptions that get the newest frame of each key: where one reads next, what it leaves out. */
#include <stdlib.h>

#include "core/topic.h"

fws_key *fws_topic_key(fws_topic *topic, const uint8_t *name, size_t n)
{
    if (topic->keys == NULL)
        topic->keys = fws_keys_new(&topic->log, topic->topics->seed);
    return topic->keys == NULL ? NULL : fws_keys_reserve(topic->keys, name, n);
}

bool fws_sub_conflate(fws_sub *sub)
{
    if (sub->extra == NULL && (sub->extra = calloc(1, sizeof *sub->extra)) == NULL)
        return false;
    fws_sub_uncount(sub);
    sub->conflating = true;
    sub->topic->conflating++;
    return true;
}

fws_slab *fws_sub_newer(const fws_sub *sub, uint64_t *seq)
{
    const fws_topic *topic = sub->topic;
    const fws_keyed *at;
    for (; (at = fws_keys_from(topic->keys, *seq)) != NULL; *seq = at->seq + 1) {
        if (fws_sub_skip(sub, at->seq) != at->seq)
            continue;
        *seq = at->seq;
        return at->key->saved != NULL ? at->key->saved
                                      : fws_log_slab(&topic->log, at->seq, topic->log.head);
    }
    *seq = topic->log.next_seq;
    return NULL;
}

void fws_sub_pass_over(fws_sub *sub, uint64_t seq)
{
    uint64_t frames = seq - sub->seq - fws_sub_excluded(sub, sub->seq, seq);
    sub->extra->conflated += frames;
    sub->topic->account.conflated += frames;
    sub->topic->topics->account.conflated += frames;
    sub->conn->conflated += frames;
    sub->seq = seq;
    fws_sub_pass(sub); /* what is excluded up to there lies behind it */
}
