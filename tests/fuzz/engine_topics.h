/* Steps of fuzz_engine.c with topics that come and go. Only inputs that ask for them make such
 * steps, so that all others mean what they meant before. */
#ifndef FWS_FUZZ_ENGINE_TOPICS_H
#define FWS_FUZZ_ENGINE_TOPICS_H

#include "fuzz.h"
#include "many_topics.h"

#define SEATS 6
#define SIZE_MOST 40960U
#define WORK_MAX 1500000U /* bytes published in one run, so that it stays quick */

static fuzz_input input;
static size_t work;

static void publish_some(uint8_t name, const one *but, size_t size)
{
    if ((work += size + 32) <= WORK_MAX)
        (void)publish_without(name, but, size);
}

/* A size that is small as often as not; the largest is alone in a slab, with a rest too large to
 * copy. */
static size_t take_size(void)
{
    size_t size = fuzz_byte(&input);
    return size < 192 ? size : (size - 191) * SIZE_MOST / 64;
}

static fws_topic_options take_topic_options(void)
{
    uint8_t what = fuzz_byte(&input), amount = fuzz_byte(&input);
    const uint64_t max_lag = 500ULL << what % 8;
    return (fws_topic_options){.retention_bytes = max_lag * (1 + amount % 3),
                               .max_lag_bytes = max_lag,
                               .on_slow = what >> 3 & 3,
                               .content = FWS_CONTENT_JSON, /* in an envelope as they are */
                               .retain = (amount & 0x60) == 0x60,
                               .max_lag_ns = (amount & 0x18) == 0x18 ? amount * 4000000ULL : 0,
                               .history_messages = what & 0x20 ? amount : 0,
                               .history_bytes = what & 0x40 ? amount * 64U : 0,
                               .history_ns = what & 0x80 ? amount * 8000000ULL : 0,
                               .max_lag_messages = amount & 0x80 ? amount : 0};
}

/* Behind a frame that there is, or is not; of this life of the topic, or of another one. */
static void join_since_some(one *who, uint8_t name, const fws_topic_options *own)
{
    const uint8_t what = fuzz_byte(&input), back = fuzz_byte(&input);
    const fws_topic *topic = topics[name];
    if (topic == NULL)
        return;
    uint64_t seq = what & 0x40 ? topic->log.first_seq + back : topic->log.next_seq + 1 - back;
    join_since(who, name, own, topic->epoch + (what & 0x20 ? 1 : 0), seq);
}

/* Subscribes it; how: with a byte about its rate, whether it tells of losses, and a position. */
static void join_small(one *who, uint8_t name, bool own, bool how)
{
    fws_topic_options options;
    const uint8_t asked = how ? fuzz_byte(&input) : 0;
    if (own)
        options = take_topic_options();
    if (who->peer == NULL)
        return;
    keys_wanted = own ? options.history_messages % (1 << KEYS) : 0; /* it is a topic's, not its */
    gap_wanted = asked & 1 ? (asked >> 3) * FWS_SWEEP_NS / 32 : 0;
    tell_wanted = asked & 2;
    if (asked & 4)
        join_since_some(who, name, own ? &options : NULL);
    else
        (void)join_with(who, name, own ? &options : NULL);
    keys_wanted = 0;
    gap_wanted = 0;
    tell_wanted = false;
}

static void leave_small(one *who, uint8_t name)
{
    if (who->peer != NULL)
        leave(who, name);
}

/* A few messages to each of some topics, in the order of their names. */
static void rush(uint8_t name, const one *but, uint8_t n)
{
    size_t size = take_size();
    for (uint32_t i = 0; i < n; i++)
        publish_some((uint8_t)(TOPICS + (name + i) % (NAMES - TOPICS)), but, size);
}

/* The owner, told of a first or last subscriber, lets go of the topic, or publishes to it. */
static void told(uint8_t name)
{
    uint8_t what = fuzz_byte(&input) % 8;
    if (what == 1)
        drop_reference(name);
    else if (what == 2)
        publish_some(name, NULL, take_size());
}

static void of_topic(one *who, uint8_t what, uint8_t name)
{
    const fws_topic_options options = take_topic_options();
    switch (what % 4) {
    case 0:
        close_topic(name);
        break;
    case 1:
        change_topic(name, options.on_slow, options.max_lag_bytes, options.retention_bytes);
        break;
    default:
        make_topic(name, &options, what >> 2);
        if (what & 0x10)
            join_small(who, name, what & 0x20, what & 0x40);
    }
}

static void of_many(one *who, uint8_t what, uint8_t name)
{
    const uint8_t stride = 1 + what % 4;
    for (uint8_t i = name; i < NAMES; i += stride)
        if (what & 0x20)
            leave_small(who, i);
        else
            join_small(who, i, what & 0x10, what & 0x08);
}

/* Bit 7: the command comes from another thread, where one may give it. */
static void topics_step(one *who, uint8_t kind, uint8_t what)
{
    const uint8_t small = TOPICS + fuzz_byte(&input) % (NAMES - TOPICS);
    const one *but = what & 0x40 ? &ones[what % SEATS] : NULL;
    from_lane(what & 0x80 ? STAGED : AT_ONCE);
    switch (kind % 8) {
    case 0:
    case 1:
        from_lane(AT_ONCE);
        of_topic(who, what, small);
        break;
    case 2:
        of_many(who, what, small);
        break;
    case 3:
        drop_reference(small);
        break;
    case 4:
        rush(small, but, fuzz_byte(&input) % 64);
        break;
    case 5:
        publish_some(what % TOPICS, but, take_size());
        break;
    case 6:
        join_small(who, what & 1 ? small : what % TOPICS, what & 2, what & 4);
        break;
    default:
        leave_small(who, small);
    }
    from_lane(AT_ONCE);
}

#endif
