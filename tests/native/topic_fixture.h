/* A topic and a crowd of connections without an engine, for tests. */
#ifndef FWS_TEST_CROWD_H
#define FWS_TEST_CROWD_H

#include "conn_fixture.h"

#define CONNS 40

static fws_topics topics;
static fws_topic *topic;
static fws_conn conns[CONNS];
static uint64_t eseq, now;

/* most: bytes that all logs may hold, 0: no limit. */
static inline void begin_with(const fws_topic_options *options, uint64_t most)
{
    memset(conns, 0, sizeof conns);
    eseq = now = 0;
    fws_topics_init(&topics, &now, most, 1);
    topic = fws_topics_get(&topics, "t", 1, options);
    CHECK(topic != NULL);
    topic->configured = true;
}

static inline void begin(uint8_t on_slow, uint64_t max_lag, uint64_t retention)
{
    const fws_topic_options options = {
        .retention_bytes = retention, .max_lag_bytes = max_lag, .on_slow = on_slow};
    begin_with(&options, 0);
}

static inline void end(void)
{
    check_account(topic);
    for (int i = 0; i < CONNS; i++)
        strip(&conns[i]);
    check_account(topic);
    CHECK_EQ(topic->account.published,
             topic->account.delivered + topic->account.dropped + topic->account.conflated);
    wake_all(&topics);
    CHECK(fws_topics_collect(&topics) == NULL);
    fws_topics_clear(&topics);
}

static inline void publish(size_t n)
{
    static uint8_t frame[1 << 20];
    append_frame(topic, frame, n, ++eseq);
}

/* Its socket refuses more, as fws_conn_block() says it. */
static inline void stall(fws_conn *conn)
{
    for (uint32_t i = 0; i < conn->n_pending && !conn->lagging; i++)
        if (conn->heap[i].sub->counted)
            fws_sub_refused(conn->heap[i].sub);
    conn->lagging = true;
}

static inline uint64_t delivered(const fws_sub *sub)
{
    return fws_sub_snapshot(sub, 0).delivered;
}

/* Plans, and takes what the plan holds, up to that many bytes. Returns how many. */
static inline size_t take(fws_conn *conn, size_t bytes)
{
    static fws_plan plan;
    CHECK_EQ(fws_gather(conn, &plan, UINT64_MAX), FWS_OK);
    size_t n = bytes < plan.bytes ? bytes : plan.bytes;
    fws_commit(conn, &plan, n);
    return n;
}

/* The same, with the news of all topics. */
static inline void deliver(fws_conn *conn, size_t bytes)
{
    wake_all(&topics);
    take(conn, bytes);
}

#endif
