/* Topics that come and go under a few names, and what is promised of them: nobody gets a message of
 * another life, a closed topic takes nothing, first and last subscribers are told of in turn. The
 * driver of the steps decides what happens when. */
#ifndef FWS_TEST_MANY_TOPICS_H
#define FWS_TEST_MANY_TOPICS_H

#include "runs.h"

enum how { OWNED = 1, WATCHED = 2 };

static void (*on_told)(uint8_t name); /* NULL: what is told is only checked */

/* Makes the topic of that name, or finds it. A topic that is not OWNED is freed at the end of the
 * turn unless it has a subscriber by then. */
static inline void make_topic(uint8_t name, const fws_topic_options *options, unsigned how)
{
    char text[16];
    size_t n = write_name(text, name);
    fws_topic *topic = fws_topics_get(&engine->topics, text, n, options);
    CHECK(topic != NULL && (topics[name] == NULL || topics[name] == topic));
    if (topics[name] != NULL)
        return;
    life *it = begin_life(name, topic);
    it->owned = how & OWNED;
    if (it->owned)
        fws_topic_ref(topic);
    fws_topic_watch(topic, how & WATCHED);
}

static inline void drop_reference(uint8_t name)
{
    life *it = present(name);
    if (it == NULL || !it->owned)
        return;
    it->owned = false;
    CHECK_EQ(command(FWS_CMD_UNREF, NULL, it->topic, 0, NULL, 0), FWS_OK);
}

static inline void close_topic(uint8_t name)
{
    const uint32_t was = life_of[name];
    fws_topic *topic = topics[name];
    if (topic == NULL)
        return;
    fws_topic_ref(topic);
    fws_topic_watch(topic, false); /* as the binding does */
    fws_topic_close(topic);
    lives[was].closed = true;
    CHECK_EQ(topic->n, 0);
    CHECK_EQ(topic->log.held, 0);
    int status = publish_one(name, 10);
    CHECK(status == FWS_E_CLOSED || lane == STAGED);
    for (int i = 0; lane == AT_ONCE && i < CLIENTS; i++)
        if (ones[i].peer != NULL)
            CHECK(subscribe(ones[i].peer, topic) < 0);
    drop_reference(name);
    end_life(name);
    learn_all_seats();
    fws_topic_unref(topic);
}

/* Other limits, another policy; history stays as it is. */
static inline void change_topic(uint8_t name, uint8_t on_slow, uint64_t max_lag, uint64_t retention)
{
    if (topics[name] == NULL)
        return;
    fws_topic_options changed = *topics[name]->options;
    changed.on_slow = on_slow;
    changed.max_lag_bytes = max_lag;
    changed.retention_bytes = retention;
    present(name)->held |= on_slow == FWS_SLOW_LOSSLESS || topics[name]->lossless > 0;
    CHECK_EQ(fws_topic_set_options(topics[name], &changed), FWS_OK);
    learn_all_seats();
}

/* What fws_topics_collect() told of. */
static inline void hear(fws_topic *topic)
{
    for (uint8_t i = TOPICS; i < NAMES; i++) {
        life *it = present(i);
        if (topics[i] != topic)
            continue;
        CHECK(topic->watched && topic->wanted != it->wanted);
        it->wanted = topic->wanted;
        if (on_told != NULL)
            on_told(i);
        return;
    }
    CHECK(!"it is watched");
}

/* Nothing is published for longer than any history is asked for: none is there any more. */
static inline void check_age(void)
{
    uint64_t longest = 0;
    for (uint8_t i = 0; i < NAMES; i++)
        if (topics[i] != NULL && topics[i]->options->history_ns > longest)
            longest = topics[i]->options->history_ns;
    for (uint64_t passed = 0; passed <= longest + FWS_SWEEP_NS; passed += FWS_SWEEP_NS) {
        net.now += FWS_SWEEP_NS;
        until_at_rest();
    }
    check_all();
    for (uint8_t i = 0; i < NAMES; i++)
        if (topics[i] != NULL && topics[i]->options->history_ns > 0 && !topics[i]->options->retain)
            CHECK(topics[i]->log.held == 0
                  || (topics[i]->filtering > 0 && topics[i]->log.head == topics[i]->log.tail));
}

#endif
