/* What the log of a topic keeps: what somebody needs, what history was asked for, and no more. */
#ifndef FWS_TEST_KEPT_H
#define FWS_TEST_KEPT_H

#include "sent.h"

static inline bool has_limits(const fws_topic_options *options)
{
    return (options->history_messages | options->history_bytes | options->history_ns) != 0;
}

static inline bool has_history(const fws_topic_options *options)
{
    return options->retain || has_limits(options);
}

/* The oldest message that all limits of history let stay, as the publisher counts them. */
static inline uint64_t wanted_from(const life *it)
{
    const fws_topic_options *asked = it->topic->options;
    uint64_t seq = it->topic->log.next_seq, n = 0, bytes = 0;
    const message *sent;
    for (; has_limits(asked) && seq > 0 && (sent = message_of(it, seq - 1)) != NULL; seq--) {
        n++;
        bytes += sent->size + fws_header_size(sent->size, false);
        if ((asked->history_messages > 0 && n > asked->history_messages)
            || (asked->history_bytes > 0 && bytes > asked->history_bytes)
            || (asked->history_ns > 0 && engine->now - sent->at > asked->history_ns))
            break;
    }
    return seq - (asked->retain && n <= 1 && seq > 0 && seq == it->topic->log.next_seq);
}

/* Whether history, its age aside, explains why the oldest slab is there. */
static inline bool for_history(const fws_topic *topic, const fws_slab *oldest)
{
    const fws_topic_options *asked = topic->options;
    const uint64_t n = topic->log.next_seq - oldest->base_seq - oldest->n;
    const uint64_t bytes = topic->log.bytes - oldest->base_bytes - oldest->bytes;
    if (asked->retain && n == 0)
        return true;
    return has_limits(asked) && (asked->history_messages == 0 || n < asked->history_messages)
           && (asked->history_bytes == 0 || n == 0 || bytes < asked->history_bytes);
}

/* A variant is there while somebody reads it. */
static inline void check_variants(const fws_topic *topic, uint64_t most)
{
    uint32_t all = 0, reading = 0;
    for (uint32_t i = 0; i < topic->n; i++)
        all += topic->members[i]->extra != NULL && topic->members[i]->extra->variant != NULL;
    for (const fws_variant *variant = topic->variants; variant != NULL; variant = variant->next) {
        uint32_t readers = 0;
        for (uint32_t i = 0; i < topic->n; i++)
            readers +=
                topic->members[i]->extra != NULL && topic->members[i]->extra->variant == variant;
        CHECK(readers > 0 && variant->readers == readers);
        CHECK(fws_log_retained(&variant->log) <= most || fws_encoding_strict(variant->encoding));
        CHECK(variant->log.next_seq <= topic->log.next_seq);
        CHECK(variant->log.first_seq + FWS_SLAB_FRAMES >= topic->log.first_seq
              || variant->log.first_seq == variant->log.next_seq);
        reading += readers;
    }
    CHECK_EQ(reading, all);
}

/* A member that goes on at the oldest frame, when its own is gone. */
static inline bool goes_on_at_the_oldest(const fws_topic *topic)
{
    for (uint32_t i = 0; i < topic->n; i++)
        if (fws_sub_options(topic->members[i])->on_slow == FWS_SLOW_DROP_OLDEST)
            return true;
    return false;
}

/* The log holds more than the retention only for those who were not offered it yet, until the
 * next sweep applies policies, or for history. */
static inline void check_kept(const life *it)
{
    const fws_topic *topic = it->topic;
    const fws_slab *oldest = fws_log_oldest(&topic->log);
    uint64_t most = topic->options->retention_bytes + 2 * FWS_SLAB_BYTES + PAYLOAD_MAX;
    CHECK(oldest == NULL || oldest->readers > 0 || topic->ahead > 0
          || (topic->conflating > 0 && oldest == topic->log.growing)
          || (topic->lapped > 0 && (oldest == topic->log.growing || goes_on_at_the_oldest(topic)))
          || (topic->caught > 0 && oldest->base_seq + oldest->n > topic->woken)
          || topic == topic->topics->waking /* the end of the wake looks at what can go */
          || for_history(topic, oldest));
    bool excess =
        oldest != NULL && (oldest->readers > 0 || topic->caught > 0 || has_history(topic->options));
    CHECK(fws_log_retained(&topic->log) <= most || excess);
    check_variants(topic, excess ? UINT64_MAX : most);
    if (engine->topics.logs.most == 0 && has_history(topic->options))
        CHECK(topic->log.first_seq <= wanted_from(it));
}

#endif
