/* What becomes of a slow subscriber. */

#include "core/topic.h"

uint64_t fws_topic_room(fws_topic *topic)
{
    uint64_t slowest = topic->log.bytes;
    for (uint32_t i = 0; i < topic->n; i++) {
        uint64_t seq, bytes;
        if (fws_sub_position(topic->members[i], &seq, &bytes) && bytes < slowest)
            slowest = bytes;
    }
    topic->slowest_bytes = slowest;
    uint64_t lag = topic->log.bytes - slowest, limit = topic->options.max_lag_bytes;
    return lag < limit ? limit - lag : 0;
}

bool fws_sub_lapped(const fws_sub *sub)
{
    uint64_t seq, bytes;
    if (sub->variant == NULL && sub->cursor.slab >= sub->topic->log.tail)
        return false; /* the common case */
    return !fws_sub_position(sub, &seq, &bytes);
}

int fws_sub_apply_policy(fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    uint64_t seq, bytes, newest_seq;
    bool here = fws_sub_position(sub, &seq, &bytes);
    if (here && log->bytes - bytes <= sub->max_lag_bytes)
        return FWS_OK;
    if (here && sub->on_slow == FWS_SLOW_LOSSLESS)
        return FWS_OK;
    if (sub->on_slow != FWS_SLOW_LATEST)
        return FWS_E_SLOW;
    fws_cursor newest = fws_log_newest(log);
    fws_log_position(log, newest, &newest_seq, &bytes);
    uint64_t skipped = newest_seq - fws_sub_seq(sub);
    sub->cursor = newest;
    sub->dropped += skipped;
    sub->topic->dropped += skipped;
    return FWS_OK;
}
