/* Who waits to publish: a topic takes a message when its lossless members have got further, or when
 * the logs hold less. */
#include <stdlib.h>

#include "core/sub.h"
#include "wire/frame.h"

static size_t frame_size(size_t n)
{
    return fws_header_size(n, false) + n;
}

bool fws_topic_takes(fws_topic *topic, size_t n)
{
    return n > FWS_FRAME_LIMIT || topic->closed || fws_topic_has_room(topic, frame_size(n));
}

bool fws_topic_never_takes(const fws_topic *topic, size_t n)
{
    uint64_t most = topic->topics->logs.most;
    return n <= FWS_FRAME_LIMIT && most != 0 && fws_log_need(&topic->log, frame_size(n)) > most;
}

/* Those that are refused for the budget are looked at again as soon as the logs hold less. */
static void note_budget(fws_topic *topic, size_t n)
{
    const fws_logs *logs = &topic->topics->logs;
    if (logs->most != 0 && logs->bytes + fws_log_need(&topic->log, frame_size(n)) > logs->most)
        topic->topics->starved = logs->bytes;
}

int fws_topic_want_room(fws_topic *topic, size_t n)
{
    if (topic->waiting == NULL) {
        topic->waiting = calloc(1, sizeof *topic->waiting);
        if (topic->waiting == NULL)
            return FWS_E_NOMEM;
        topic->waiting->topic = topic;
    }
    topic->waiting->n = n;
    fws_topic_moved(topic);
    return FWS_OK;
}

static void look_at_all(fws_topics *topics)
{
    topics->starved = 0;
    while (!fws_link_empty(&topics->waiting)) {
        fws_link *link = topics->waiting.next;
        fws_link_remove(link);
        fws_link_append(&topics->moved, link);
    }
}

bool fws_topics_next_room(fws_topics *topics, fws_topic **found)
{
    *found = NULL;
    if (topics->starved > topics->logs.bytes)
        look_at_all(topics);
    if (fws_link_empty(&topics->moved))
        return false;
    fws_waiting *waiting = FWS_CONTAINER(topics->moved.next, fws_waiting, link);
    fws_topic *topic = waiting->topic;
    if (fws_topic_takes(topic, waiting->n)) {
        fws_topic_unwait(topic);
        *found = topic;
        return true;
    }
    fws_link_remove(&waiting->link); /* it may have been put there again meanwhile */
    fws_link_append(&topics->waiting, &waiting->link);
    note_budget(topic, waiting->n);
    return true;
}
