/* One connection, topics, its outbox, and the bytes that its plans came to, for tests. */
#ifndef FWS_TEST_GATHER_H
#define FWS_TEST_GATHER_H

#include "conn_fixture.h"

#define ROOM (1u << 22)
#define FRAME_MAX (1u << 20)

static const fws_topic_options WIDE = {.retention_bytes = 1ULL << 40, .max_lag_bytes = 1ULL << 40};

static fws_topics topics;
static fws_topic *left, *right;
static fws_conn conn;
static uint64_t eseq;
static uint8_t stream[ROOM], expected[ROOM];
static size_t stream_n, expected_n;

static inline fws_topic *topic_named(const char *name)
{
    fws_topic *topic = fws_topics_get(&topics, name, strlen(name), &WIDE);
    CHECK(topic != NULL);
    topic->configured = true;
    return topic;
}

static inline void begin(void)
{
    fws_topics_init(&topics, NULL, 0, 1);
    conn = (fws_conn){0};
    eseq = 0;
    stream_n = expected_n = 0;
    left = topic_named("left");
    right = topic_named("right");
}

static inline void check_topics(void)
{
    for (uint32_t i = 0; i < topics.capacity; i++)
        if (topics.table[i].topic != NULL)
            check_account(topics.table[i].topic);
}

/* Nobody is left: all that was published is accounted for. */
static inline void end(void)
{
    check_topics();
    strip(&conn);
    check_topics();
    const fws_account *sums = &topics.account;
    CHECK_EQ(sums->published, sums->delivered + sums->dropped);
    CHECK_EQ(sums->delivered, conn.delivered);
    CHECK_EQ(sums->dropped, conn.dropped);
    fws_topics_clear(&topics);
    CHECK_EQ(topics.logs.bytes, 0);
}

static inline void fill(uint8_t *frame, size_t n, uint64_t number)
{
    for (size_t i = 0; i < n; i++)
        frame[i] = (uint8_t)(number * 31 + i);
}

static inline void publish(fws_topic *topic, size_t n)
{
    static uint8_t frame[FRAME_MAX];
    fill(frame, n, ++eseq);
    append_frame(topic, frame, n, eseq);
}

static inline void push(uint64_t at, enum fws_entry_kind kind, size_t n)
{
    uint8_t data[256];
    fill(data, n, 1000 + n);
    CHECK(fws_outbox_push(&conn.outbox, at, kind, 0, data, n, NULL, 0) != NULL);
}

/* Plans what was published before that engine sequence, takes up to n bytes: appended to the stream
 * and committed. Returns how many there were to take. */
static inline size_t take_before(uint64_t before, size_t n)
{
    static fws_plan plan;
    size_t total = 0, bytes = 0;
    CHECK_EQ(fws_gather(&conn, &plan, before), FWS_OK);
    CHECK(plan.n_iov <= FWS_PLAN_IOV && plan.n_runs <= FWS_PLAN_RUNS);
    for (uint32_t i = 0; i < plan.n_runs; i++)
        bytes += plan.runs[i].bytes;
    CHECK_EQ(bytes, plan.bytes);
    bytes = 0;
    for (uint32_t i = 0; i < plan.n_iov; i++) {
        CHECK(plan.iov[i].iov_len > 0);
        size_t part = plan.iov[i].iov_len < n - total ? plan.iov[i].iov_len : n - total;
        CHECK(stream_n + part <= ROOM);
        memcpy(stream + stream_n, plan.iov[i].iov_base, part);
        stream_n += part;
        total += part;
        bytes += plan.iov[i].iov_len;
    }
    CHECK_EQ(bytes, plan.bytes);
    fws_commit(&conn, &plan, total);
    check_topics();
    return bytes;
}

/* The same of everything, after all topics were woken. */
static inline size_t take(size_t n)
{
    wake_all(&topics);
    size_t bytes = take_before(UINT64_MAX, n);
    return n < bytes ? n : bytes;
}

static inline void take_all(void)
{
    wake_all(&topics);
    while (fws_conn_pending(&conn))
        CHECK(take(SIZE_MAX) > 0);
    CHECK(take(SIZE_MAX) == 0);
}

static inline void put(size_t n, uint64_t number)
{
    fill(expected + expected_n, n, number);
    expected_n += n;
}

static inline void expect_stream(void)
{
    CHECK_EQ(stream_n, expected_n);
    CHECK(memcmp(stream, expected, stream_n) == 0);
}

#endif
