/* Policies of slow subscribers; back-pressure on the publisher of a lossless topic. */
#include "core/topic.h"

/* Bytes of the log behind its next frame; all that is retained when it is lapped. */
static uint64_t lag_of(const fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    if (sub->seq >= log->next_seq)
        return 0;
    if (fws_sub_lapped(sub))
        return fws_log_retained(log);
    const fws_slab *slab = fws_sub_slab(sub);
    uint32_t index = (uint32_t)(sub->seq - slab->base_seq);
    return log->bytes - slab->base_bytes - fws_slab_start(slab, index);
}

/* Below `most` when it is behind at all, however much its own limit leaves. */
static uint64_t room_of(const fws_sub *sub, uint64_t most)
{
    uint64_t lag = lag_of(sub), limit = fws_sub_options(sub)->max_lag_bytes;
    uint64_t room = lag < limit ? limit - lag : 0;
    return lag > 0 && room >= most ? most - 1 : room;
}

/* The least room of all lossless members, lossless_lag when none of them is behind; a caught-up one
 * stands at `woken` or later. */
static uint64_t least_room(const fws_topic *topic)
{
    const fws_log *log = &topic->log;
    uint64_t limit = topic->lossless_lag, room = limit;
    if (topic->caught > 0) {
        uint64_t from = topic->woken > log->first_seq ? topic->woken : log->first_seq;
        uint64_t lag = log->bytes - fws_log_position(log, from);
        room = lag < limit ? limit - lag : 0;
    }
    for (uint32_t i = topic->caught; i < topic->n; i++) {
        const fws_sub *sub = topic->members[i];
        if (fws_sub_options(sub)->on_slow != FWS_SLOW_LOSSLESS)
            continue;
        uint64_t own = room_of(sub, limit);
        room = own < room ? own : room;
    }
    return room;
}

uint64_t fws_topic_room(const fws_topic *topic, uint64_t wanted)
{
    const fws_log *log = &topic->log;
    uint64_t limit = topic->lossless_lag, retained = fws_log_retained(log);
    if (topic->lossless == 0)
        return UINT64_MAX;
    /* No member lags by more than what is retained: with room to spare, that is near enough. */
    if (retained <= limit / 2 && wanted <= limit - retained)
        return limit - retained;
    return least_room(topic);
}

/* Frames that it has still to get: what is kept from it is no lag. */
static uint64_t messages_behind(const fws_sub *sub)
{
    uint64_t next_seq = sub->topic->log.next_seq;
    return next_seq - sub->seq - fws_sub_excluded(sub, sub->seq, next_seq);
}

static bool within(const fws_sub *sub, const fws_topic_options *options)
{
    if (fws_sub_lapped(sub))
        return false;
    if (options->on_slow == FWS_SLOW_LOSSLESS)
        return true;
    return lag_of(sub) <= options->max_lag_bytes
           && (options->max_lag_messages == 0 || messages_behind(sub) <= options->max_lag_messages);
}

int fws_sub_apply_policy(fws_sub *sub)
{
    const fws_topic_options *options = fws_sub_options(sub);
    if (within(sub, options))
        return FWS_OK;
    if (options->on_slow != FWS_SLOW_LATEST)
        return FWS_E_SLOW;
    uint64_t newest = fws_sub_newest(sub);
    fws_sub_dropped(sub, newest - sub->seq - fws_sub_excluded(sub, sub->seq, newest));
    fws_sub_move(sub, newest);
    return FWS_OK;
}
