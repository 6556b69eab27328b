/* A topic and a crowd of connections without an engine, for tests. */
#ifndef FWS_TEST_CROWD_H
#define FWS_TEST_CROWD_H

#include "conn_fixture.h"

#define CONNS 40

static fws_pool pool;
static fws_topic topic;
static fws_conn conns[CONNS];
static uint64_t eseq;

static inline void begin(uint8_t on_slow, uint64_t max_lag, uint64_t retention)
{
    const fws_topic_options options = {retention, max_lag, on_slow};
    memset(conns, 0, sizeof conns);
    pool = (fws_pool){0};
    eseq = 0;
    fws_topic_init(&topic, &pool, &options);
}

static inline void end(void)
{
    check_account(&topic);
    for (int i = 0; i < CONNS; i++)
        strip(&conns[i]);
    check_account(&topic);
    CHECK_EQ(topic.published_to, topic.delivered + topic.dropped + topic.conflated);
    fws_topic_clear(&topic);
    fws_pool_clear(&pool);
}

static inline void publish(size_t n)
{
    static uint8_t frame[1 << 20];
    append_frame(&topic, frame, n, ++eseq);
}

/* What a plan holds, up to that many bytes. */
static inline void deliver(fws_conn *conn, size_t bytes)
{
    static fws_plan plan;
    fws_gather(conn, &plan);
    fws_commit(conn, &plan, bytes < plan.bytes ? bytes : plan.bytes);
}

#endif
