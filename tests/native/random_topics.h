/* Random steps with topics that come and go: made with options of all kinds, joined, left, published
 * to in a rush, changed, closed. */
#ifndef FWS_TEST_RANDOM_TOPICS_H
#define FWS_TEST_RANDOM_TOPICS_H

#include "many_topics.h"

static uint64_t random_state;

static uint64_t draw(uint64_t n)
{
    return test_random(&random_state) % n;
}

static uint8_t draw_name(void)
{
    return (uint8_t)(TOPICS + draw(NAMES - TOPICS));
}

static size_t draw_small(void)
{
    return draw(30) == 0 ? draw(30000) : draw(200);
}

static fws_topic_options draw_options(void)
{
    const uint64_t max_lag = 500U << draw(9);
    fws_topic_options options = {.retention_bytes = max_lag * (1 + draw(3)),
                                 .max_lag_bytes = max_lag,
                                 .on_slow = (uint8_t)draw(4),
                                 .content = FWS_CONTENT_JSON, /* in an envelope as they are */
                                 .max_lag_messages = draw(4) == 0 ? 1 + draw(200) : 0,
                                 .max_lag_ns = draw(4) == 0 ? 1 + draw(SECOND) : 0,
                                 .min_rate = draw(2) * draw(1 << 20),
                                 .retain = draw(8) == 0};
    if (draw(3) == 0) {
        options.history_messages = draw(2) * (1 + draw(60));
        options.history_bytes = draw(2) * (1 + draw(20000));
        options.history_ns = draw(2) * (1 + draw(2 * SECOND));
    }
    return options;
}

static void join_small(one *who, uint8_t name)
{
    fws_topic_options own = draw_options();
    if (who->alone)
        return;
    gap_wanted = draw(5) == 0 ? 1 + draw(FWS_SWEEP_NS) : 0;
    keys_wanted = draw(3) == 0 ? 1 + (uint32_t)draw((1 << KEYS) - 1) : 0;
    if (who->seats[name].joined && draw(4) > 0)
        keys_wanted = who->seats[name].keys; /* others are refused */
    tell_wanted = draw(3) == 0;
    if (topics[name] != NULL && draw(4) == 0) {
        const fws_log *log = &topics[name]->log;
        uint64_t seq = log->first_seq + draw(log->next_seq - log->first_seq + 3);
        join_since(who, name, draw(3) == 0 ? &own : NULL, topics[name]->epoch + (draw(8) == 0),
                   seq - (seq > 0 && draw(4) == 0));
    } else {
        (void)join_with(who, name, draw(3) == 0 ? &own : NULL);
    }
    gap_wanted = keys_wanted = 0;
    tell_wanted = false;
}

static void make_one(one *who, uint8_t name)
{
    const fws_topic_options options = draw_options();
    make_topic(name, &options, (unsigned)draw(4));
    if (who->peer != NULL && draw(2) == 0)
        join_small(who, name);
}

/* A rush over all small topics, in any order. */
static void rush(void)
{
    for (uint64_t n = draw(2) == 0 ? draw(10) : draw(100); n > 0; n--)
        publish_without(draw_name(), draw(4) == 0 ? &ones[draw(CLIENTS)] : NULL, draw_small());
}

static void told(uint8_t name)
{
    if (draw(3) == 0)
        drop_reference(name);
    else if (draw(3) == 0)
        publish_one(name, draw_small());
    else if (draw(8) == 0)
        fws_topic_watch(topics[name], false);
    if (topics[name] != NULL)
        present(name)->wanted = topics[name]->watched && topics[name]->wanted;
}

static void many_topics(one *who)
{
    const uint64_t max_lag = 500U << draw(9);
    uint8_t name = draw_name();
    switch (draw(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
        make_one(who, name);
        break;
    case 4:
        drop_reference(name);
        break;
    case 5:
        if (draw(2) == 0)
            close_topic(name);
        break;
    case 6:
        change_topic(name, (uint8_t)draw(4), max_lag, max_lag * (1 + draw(3)));
        break;
    case 7:
    case 8: /* to all, to half of them, to none */
        for (uint8_t i = TOPICS; who->peer != NULL && i < NAMES; i++)
            if (draw(4) > 0)
                join_small(who, i);
        break;
    case 9:
        for (uint8_t i = TOPICS; who->peer != NULL && i < NAMES; i++)
            if (draw(3) > 0)
                leave(who, i);
        break;
    case 10:
    case 11:
        if (who->peer != NULL)
            leave(who, name);
        break;
    case 12:
        if (who->peer != NULL)
            join_small(who, (uint8_t)draw(TOPICS)); /* a policy of its own, or none again */
        break;
    default:
        rush();
    }
}

#endif
