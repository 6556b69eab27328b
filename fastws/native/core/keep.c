/* What a log keeps, and when it lets go: for readers, retention, history. */
#include "core/sub.h"

fws_keys *fws_topic_keys(fws_topic *topic)
{
    if (topic->keys == NULL)
        topic->keys = fws_keys_new(&topic->log, topic->topics->seed);
    return topic->keys;
}

/* The first frame that history wants. */
static uint64_t wanted_from(const fws_topic *topic)
{
    const fws_topic_options *wanted = topic->options;
    const fws_log *log = &topic->log;
    uint64_t from = log->first_seq;
    if ((wanted->history_messages | wanted->history_bytes | wanted->history_ns) == 0)
        return log->next_seq;
    if (wanted->history_messages > 0 && log->next_seq - from > wanted->history_messages)
        from = log->next_seq - wanted->history_messages;
    /* By bytes and age only whole slabs go: the oldest one, when what follows it is enough. */
    const fws_slab *oldest = fws_log_oldest(log);
    if (oldest == NULL)
        return from;
    uint64_t behind = log->bytes - oldest->base_bytes - oldest->bytes;
    bool last = oldest == log->growing;
    uint64_t ended =
        last ? topic->appended_at : log->ring[(log->tail + 1) & (log->capacity - 1)]->opened;
    bool enough = !last && wanted->history_bytes > 0 && behind >= wanted->history_bytes;
    bool old = wanted->history_ns > 0 && log->logs->clock != NULL
               && *log->logs->clock - ended > wanted->history_ns;
    return enough || old ? oldest->base_seq + oldest->n : from;
}

/* The frame that retain keeps in the log; the older ones of other keys are saved beside it. */
static uint64_t retained_from(const fws_topic *topic)
{
    const fws_log *log = &topic->log;
    bool retained = topic->options->retain && log->first_seq < log->next_seq;
    return log->next_seq - retained;
}

bool fws_topic_has_snapshot(const fws_topic *topic, const fws_topic_options *options)
{
    uint8_t on_slow = (options == NULL ? topic->options : options)->on_slow;
    return topic->options->retain && on_slow == FWS_SLOW_LATEST && topic->keys != NULL
           && topic->keys->n > 0;
}

uint64_t fws_topic_start(const fws_topic *topic, const fws_topic_options *options)
{
    return fws_topic_has_snapshot(topic, options) ? fws_keys_from(topic->keys, 0)->seq
                                                  : retained_from(topic);
}

uint64_t fws_topic_start_filtered(const fws_topic *topic, const fws_filter *filter, bool snapshot)
{
    if (snapshot)
        return fws_filter_key(filter, 0)->seq;
    uint64_t next = topic->log.next_seq;
    uint64_t last = topic->options->retain ? fws_filter_last(filter, next) : next;
    return last < next ? last : next;
}

uint64_t fws_topic_history_from(const fws_topic *topic)
{
    uint64_t from = wanted_from(topic), newest = retained_from(topic);
    return from < newest ? from : newest;
}

/* Whether somebody may still have to get the newest frames of keys that the log has let go. */
static bool needs_keys(const fws_topic *topic)
{
    return topic->options->retain || topic->conflating > 0 || topic->lapped > 0
           || (topic->caught > 0 && topic->woken < topic->log.first_seq);
}

static void drop_oldest(fws_topic *topic, bool keep)
{
    if (topic->keys != NULL)
        fws_keys_leave(topic->keys, fws_log_oldest(&topic->log), keep);
    fws_log_drop_oldest(&topic->log);
}

void fws_topic_release(fws_topic *topic)
{
    fws_log *log = &topic->log;
    fws_log_unspare(log);
    fws_topic_moved(topic);
    const fws_slab *oldest;
    uint64_t tail = log->tail;
    while ((oldest = fws_log_oldest(log)) != NULL && oldest->readers == 0 && topic->ahead == 0) {
        if (topic->lapped > 0 && (oldest == log->growing || topic->from_oldest > 0))
            break; /* a policy may move them to the newest frame, or to the oldest */
        uint64_t end = oldest->base_seq + oldest->n;
        if ((topic->caught > 0 && end > topic->woken) || end > fws_topic_history_from(topic))
            break;
        drop_oldest(topic, needs_keys(topic));
    }
    if (topic->keys != NULL && topic->keys->n_saved > 0 && !needs_keys(topic))
        fws_keys_forget(topic->keys, log->first_seq);
    if (tail != log->tail)
        fws_topic_trim_variants(topic);
}

void fws_topic_lap(fws_topic *topic)
{
    topic->lapped += fws_log_oldest(&topic->log)->readers;
    drop_oldest(topic, true);
}

void fws_topic_dropped(fws_topic *topic)
{
    fws_topic_trim_variants(topic);
    fws_topic_release(topic); /* the slab that is the oldest now may have no readers */
}

void fws_topic_passed(fws_topic *topic)
{
    const fws_slab *oldest = fws_log_oldest(&topic->log);
    fws_topic_moved(topic);
    if (oldest != NULL && oldest->readers == 0)
        fws_topic_release(topic);
}

/* Subscribers that lag keep at most retention_bytes behind the slab that was opened, lossless ones
 * their limit. What was not offered yet to those who keep up stays. */
void fws_topic_trim(fws_topic *topic)
{
    fws_log *log = &topic->log;
    uint64_t tail = log->tail, most = topic->options->retention_bytes;
    if (topic->lossless > 0 && topic->lossless_most > most)
        most = topic->lossless_most;
    while (log->tail + 1 < log->head) {
        const fws_slab *oldest = fws_log_oldest(log);
        uint64_t end = oldest->base_seq + oldest->n;
        if (log->bytes - (oldest->base_bytes + oldest->bytes) < most || oldest->unoffered > 0
            || (topic->caught > 0 && end > topic->woken) || end > fws_topic_history_from(topic))
            break;
        fws_topic_lap(topic);
    }
    if (tail != log->tail)
        fws_topic_dropped(topic);
}
