/* A run of an engine under random commands: how it begins, its turns, how it comes to rest, and what
 * must hold then. What clients are promised meanwhile is in streams.h. */
#ifndef FWS_TEST_RUNS_H
#define FWS_TEST_RUNS_H

#include "streams.h"

static inline void streams_open(const fws_options *options)
{
    n_stale = n_messages = n_staged = 0;
    whole_frames = compressed_frames = 0;
    memset(stale, 0, sizeof stale);
    received = replayed = rested = filtered = keys_checked = filters_checked = 0;
    enclosed = batched = began = gaps_told = gaps_checked = 0;
    most_half_sent = FWS_BATCH_MOST;
    lives_begin();
    told_begin();
    memset(ones, 0, sizeof ones);
    if (codec == NULL && fws_deflate_available())
        codec = fws_deflate_new();
    engine_open(options);
    engine->topics.seed = 1;  /* a run is the same each time */
    fws_engine_drain(engine); /* from here on there is a thread that drives */
    from_lane(AT_ONCE);
}

static inline one *one_of(const fws_conn *conn)
{
    one *who = ones;
    while (who->peer == NULL || who->peer->fd != conn->fd)
        CHECK(++who < ones + CLIENTS);
    return who;
}

/* Opens a connection in the client role: the peer is a server, which sees the request. */
static inline void call(one *who)
{
    *who = (one){.peer = fake_new(), .server = true};
    CHECK(fws_engine_attach(engine, fake_open(who->peer), FWS_CLIENT, (const uint8_t *)REQUEST,
                            strlen(REQUEST))
          != NULL);
}

static inline void reap_and_learn(void)
{
    reap();
    learn_gone();
}

static inline void whole_turn(void)
{
    harvest_and_learn();
    if (on_turn != NULL)
        on_turn();
    else
        handle();
    check_overshoot();
    flush();
    reap_and_learn();
}

static inline void until_at_rest(void)
{
    for (int i = 0; i < 200; i++) {
        whole_turn();
        while (fws_engine_next_room(engine) != NULL)
            continue; /* who has asked is told */
        hear_losses();
        if (i > 2 && !fws_engine_more(engine))
            return;
    }
    CHECK(!"it comes to rest");
}

/* Every one that was to tell of losses has ended, or does. */
static inline void check_tellers(void)
{
    uint64_t n = 0;
    for (int i = 0; i < CLIENTS; i++)
        for (uint8_t name = 0; ones[i].peer != NULL && name < NAMES; name++) {
            const fws_sub *sub = !ones[i].seats[name].joined
                                     ? NULL
                                     : fws_conn_find_sub(conn_of(ones[i].peer), topics[name]);
            n += sub != NULL && sub->extra != NULL && sub->extra->losses != NULL;
        }
    CHECK_EQ(n_tellers, n_tellers_ended + n);
}

/* Everybody reads: what is promised to those who are still there arrives. */
static inline void settle_down(void)
{
    for (int i = 0; i < CLIENTS; i++)
        if (ones[i].peer != NULL) {
            ones[i].peer->send_errno_count = 0;
            fake_room(ones[i].peer, PLENTY);
        }
    until_at_rest();
    for (int i = 0; i < 2; i++) { /* twice: what comes behind a flush with a max_rate rests again */
        net.now += FWS_SWEEP_NS;
        until_at_rest();
    }
    check_all();
    check_tellers();
    for (uint8_t i = 0; i < NAMES; i++) {
        if (topics[i] == NULL)
            continue;
        CHECK_EQ(fws_topic_snapshot(topics[i]).pending, 0);
        CHECK_EQ(topics[i]->caught, topics[i]->n);
    }
    CHECK_EQ(fws_topics_sums(&engine->topics).pending, 0);
}

#endif
