/* The topics of a run. Each incarnation of a name is one life. The topics of the first TOPICS names
 * exist for the whole run, the others are made, closed, freed and made again. */
#ifndef FWS_TEST_LIVES_H
#define FWS_TEST_LIVES_H

#include "engine_fixture.h"

#define TOPICS 3
#define NAMES 43
#define LIVES_MAX 32768
#define KEYS 5         /* of messages of the topics that have any; 0: without one */
#define NUMBERS 32768U /* the last messages of each name */

typedef struct life {
    fws_topic *topic; /* it may have been freed, unless it is owned or the present one */
    uint64_t epoch;
    uint64_t known;  /* messages before that sequence number were looked at */
    uint64_t unseen; /* those before that one may have been retired before the look */
    uint64_t staged; /* published by other threads since the last harvest */
    uint64_t received;
    uint64_t newest[KEYS]; /* by key: behind its newest message; 0: there is none */
    uint8_t name;
    bool owned; /* there is a reference of ours */
    bool closed, wanted;
    bool keyed; /* it has keys, or a member that gets the newest frame only */
    bool held; /* since the last harvest a lossless member may have been there, or be staged */
} life;

static life lives[LIVES_MAX]; /* lives[0] is none */
static uint32_t n_lives;
static uint32_t life_of[NAMES];          /* the present one; 0: none */
static fws_topic *topics[NAMES];         /* its topic, or NULL */
static uint32_t numbers[NAMES][NUMBERS]; /* the message with that sequence number */

static inline void lives_begin(void)
{
    n_lives = 1;
    memset(lives, 0, sizeof lives[0]);
    memset(life_of, 0, sizeof life_of);
    memset(topics, 0, sizeof topics);
}

/* Its messages have keys, the first one in any case. */
static inline bool is_keyed(uint8_t name)
{
    return name % 3 == 1;
}

static inline life *present(uint8_t name)
{
    return life_of[name] == 0 ? NULL : &lives[life_of[name]];
}

static inline size_t write_name(char *text, uint8_t name)
{
    return (size_t)sprintf(text, "name %u", name);
}

/* A topic that was just made under that name. */
static inline life *begin_life(uint8_t name, fws_topic *topic)
{
    CHECK(n_lives < LIVES_MAX && life_of[name] == 0);
    life *fresh = &lives[life_of[name] = n_lives++];
    *fresh = (life){.topic = topic, .name = name, .epoch = topic->epoch};
    CHECK(topic->log.next_seq == 0 && topic->n == 0 && !topic->closed);
    for (uint32_t i = 1; i < n_lives - 1; i++) /* nobody who knew another one recovers here */
        CHECK(lives[i].name != name || !fws_topic_recovers(topic, lives[i].epoch, 0));
    CHECK(fws_topic_recovers(topic, fresh->epoch, 0));
    topics[name] = topic;
    return fresh;
}

/* One of those that stay. */
static inline void make_lasting(uint8_t name, uint8_t on_slow, uint64_t max_lag)
{
    char text[16];
    const fws_topic_options options = {
        .retention_bytes = max_lag * 2, .max_lag_bytes = max_lag, .on_slow = on_slow, .content = FWS_CONTENT_JSON};
    fws_topic *topic = fws_topics_get(&engine->topics, text, write_name(text, name), &options);
    CHECK(topic != NULL);
    topic->configured = true;
    begin_life(name, topic);
}

/* The name is free, or its topic was freed. */
static inline void end_life(uint8_t name)
{
    life_of[name] = 0;
    topics[name] = NULL;
}

/* A harvest of topics that nothing needs went by: which names have none any more. */
static inline void learn_gone(void)
{
    char text[16];
    for (uint8_t i = TOPICS; i < NAMES; i++)
        if (topics[i] != NULL
            && fws_topics_find(&engine->topics, text, write_name(text, i)) != topics[i]) {
            CHECK(!present(i)->owned && !present(i)->wanted);
            end_life(i);
        }
}

#endif
