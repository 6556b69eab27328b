/* Slow subscribers of a topic with keys: the newest frame of each key, and what that counts. */
#include "topic_fixture.h"

#define KEYS 50

static uint32_t got[KEYS + 1]; /* by key: the number of the frame that came last */
static uint64_t taken;         /* frames */
static uint32_t number[KEYS + 1], last_number;

static void begin_keyed(uint64_t max_lag, bool retain)
{
    const fws_topic_options options = {.retention_bytes = max_lag * 2,
                                       .max_lag_bytes = max_lag,
                                       .on_slow = FWS_SLOW_LATEST,
                                       .retain = retain};
    begin_with(&options, 0);
    memset(got, 0, sizeof got);
    memset(number, 0, sizeof number);
    taken = last_number = 0;
}

/* A frame of n bytes that says its key and its number; key 0: none. */
static void publish_keyed(uint32_t key, size_t n)
{
    static uint8_t frame[1 << 20];
    uint8_t *room;
    CHECK_EQ(fws_topic_reserve(topic, n, eseq + 1, &room), FWS_OK);
    fws_key *found = fws_topic_key(topic, (const uint8_t *)&key, key == 0 ? 0 : sizeof key);
    CHECK(found != NULL && n >= 8);
    number[key] = ++last_number;
    memcpy(frame, &key, 4);
    memcpy(frame + 4, &last_number, 4);
    memcpy(room, frame, n);
    fws_topic_commit_keyed(topic, found, n, ++eseq);
}

/* Reads what a plan holds, frame by frame of n bytes; it takes that many of them and a half. */
static void read_frames(fws_conn *conn, uint32_t frames, size_t n, bool half)
{
    static fws_plan plan;
    static uint8_t bytes[1 << 20];
    size_t at = 0;
    wake_all(&topics);
    CHECK_EQ(fws_gather(conn, &plan, UINT64_MAX), FWS_OK);
    for (uint32_t i = 0; i < plan.n_iov; i++) {
        memcpy(bytes + at, plan.iov[i].iov_base, plan.iov[i].iov_len);
        at += plan.iov[i].iov_len;
    }
    CHECK_EQ(at, plan.bytes);
    size_t partial = conn->partial.data == NULL ? 0 : conn->partial.n - conn->partial.sent;
    for (at = partial; at + 8 <= plan.bytes && (at - partial) / n < frames; at += n) {
        uint32_t key, value;
        memcpy(&key, bytes + at, 4);
        memcpy(&value, bytes + at + 4, 4);
        CHECK(key <= KEYS && value > got[key]);
        got[key] = value;
        taken++;
    }
    size_t took = at + (half && at < plan.bytes ? n / 2 : 0);
    fws_commit(conn, &plan, took < plan.bytes ? took : plan.bytes);
    check_account(topic);
}

static void expect_newest(void)
{
    CHECK(memcmp(got, number, sizeof got) == 0);
}

static fws_sub *fall_behind(fws_conn *conn)
{
    fws_sub *sub = fws_topic_join(topic, conn, NULL);
    publish_keyed(1, 100);
    wake_all(&topics);
    stall(conn);
    return sub;
}

static void test_who_is_too_slow_gets_the_newest_of_each_key(void)
{
    begin_keyed(10000, false);
    fws_sub *sub = fall_behind(&conns[0]);
    for (uint32_t i = 0; i < 20000; i++)
        publish_keyed(1 + i % 7, 100);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK(sub->conflating);
    CHECK_EQ(sub->dropped, 0);
    check_account(topic);
    read_frames(&conns[0], UINT32_MAX, 100, false);
    CHECK_EQ(taken, 7);
    expect_newest();
    CHECK(!sub->conflating && topic->caught == 1);
    CHECK_EQ(sub->extra->conflated, 20001 - 7);
    CHECK_EQ(topic->account.conflated, 20001 - 7);
    CHECK_EQ(delivered(sub), 7);
    CHECK_EQ(conns[0].conflated, 20001 - 7);
    publish_keyed(3, 100);
    read_frames(&conns[0], UINT32_MAX, 100, false);
    CHECK_EQ(taken, 8); /* live again */
    end();
}

/* Some keys are old: their frames outlive the slabs that they were written to. */
static void test_an_old_key_outlives_the_retention(void)
{
    begin_keyed(10000, false);
    fws_sub *sub = fall_behind(&conns[0]);
    for (uint32_t key = 0; key <= KEYS; key++)
        publish_keyed(key, 100);
    for (uint32_t i = 0; i < 50000; i++)
        publish_keyed(1 + i % 3, 100);
    CHECK(fws_sub_lapped(sub));
    CHECK(topic->log.first_seq > KEYS);
    CHECK(topic->log.beside > 0 && topic->log.beside < KEYS * 400);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    read_frames(&conns[0], UINT32_MAX, 100, false);
    CHECK_EQ(taken, KEYS + 1);
    expect_newest();
    CHECK_EQ(topic->log.held, 0); /* nobody needs it any more */
    CHECK_EQ(topic->keys->n, 0);
    end();
}

/* The topic had no key when it fell behind: what was published by then has the empty key. */
static void test_frames_from_before_the_first_key_have_a_newest_one(void)
{
    begin_keyed(10000, false);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (uint32_t i = 1; i <= 500; i++) {
        uint32_t frame[25] = {0, ++last_number};
        append_frame(topic, frame, sizeof frame, ++eseq);
    }
    number[0] = last_number;
    wake_all(&topics);
    stall(&conns[0]);
    CHECK(topic->keys == NULL);
    publish_keyed(1, 100);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK(sub->conflating);
    read_frames(&conns[0], UINT32_MAX, 100, false);
    CHECK_EQ(taken, 2);
    expect_newest();
    CHECK_EQ(topic->account.conflated, 499);
    end();
}

/* It is never caught up: each time it gets what has changed, in the order of publishing. */
static void test_a_reader_of_some_frames_at_a_time_stays_current(void)
{
    uint64_t random = 9;
    begin_keyed(5000, false);
    fws_sub *sub = fall_behind(&conns[0]);
    for (int round = 0; round < 3000; round++) {
        for (uint64_t n = test_random(&random) % 60; n > 0; n--)
            publish_keyed((uint32_t)(test_random(&random) % KEYS), 100);
        read_frames(&conns[0], (uint32_t)(test_random(&random) % 9), 100, round % 3 == 0);
    }
    CHECK(sub->extra->conflated > 10000 && delivered(sub) > 5000);
    while (fws_conn_pending(&conns[0]))
        read_frames(&conns[0], UINT32_MAX, 100, false);
    expect_newest();
    end();
}

static void test_who_keeps_up_gets_every_frame(void)
{
    begin_keyed(100000, false);
    fws_sub *fast = fws_topic_join(topic, &conns[1], NULL);
    fws_sub *slow = fall_behind(&conns[0]);
    read_frames(&conns[1], UINT32_MAX, 100, false);
    for (uint32_t i = 0; i < 5000; i++) {
        publish_keyed(1 + i % 5, 100);
        read_frames(&conns[1], UINT32_MAX, 100, false);
    }
    CHECK_EQ(delivered(fast), 5001);
    CHECK_EQ(fws_sub_apply_policy(slow), FWS_OK);
    check_account(topic);
    fws_topic_leave(slow);
    check_account(topic);
    CHECK_EQ(topic->conflating, 0);
    end();
}

static void test_a_new_subscriber_gets_the_retained_frame_of_each_key(void)
{
    begin_keyed(1 << 20, true);
    for (uint32_t i = 0; i < 20000; i++)
        publish_keyed(i < KEYS ? i : 1 + i % 4, 100);
    CHECK(topic->log.first_seq > KEYS);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    check_account(topic);
    CHECK_EQ(sub->seq, fws_topic_start(topic, NULL));
    CHECK_EQ(fws_sub_snapshot(sub, 0).published, KEYS);
    publish_keyed(2, 100);
    read_frames(&conns[0], UINT32_MAX, 100, false);
    CHECK_EQ(taken, KEYS);
    expect_newest();
    CHECK_EQ(delivered(sub), KEYS);
    end();
}

/* What one member is not to get is left out of what it gets, and of what it counts. */
static void test_what_is_excluded_is_no_newest_frame(void)
{
    begin_keyed(5000, false);
    fws_sub *sub = fall_behind(&conns[0]);
    for (uint32_t i = 0; i < 3000; i++) {
        if (i % 3 == 0)
            CHECK_EQ(fws_sub_exclude(sub), FWS_OK);
        publish_keyed(1 + i % 9, 100);
    }
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    read_frames(&conns[0], UINT32_MAX, 100, false);
    CHECK_EQ(taken, 6); /* the others have nothing but excluded frames */
    CHECK_EQ(fws_sub_snapshot(sub, 0).published, 2001);
    end();
}

/* The budget takes saved frames as well, the oldest first. */
static void test_the_budget_takes_retained_frames_of_keys(void)
{
    const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20, .retain = true};
    begin_with(&options, 600000);
    memset(number, 0, sizeof number);
    for (uint32_t i = 0; i < 60; i++)
        publish_keyed(i % KEYS, 15000);
    CHECK(topics.logs.bytes <= 600000);
    CHECK(topics.budget_dropped > 0);
    CHECK(topic->keys->n >= 20 && topic->keys->n < KEYS);
    end();
}

int main(void)
{
    RUN(test_who_is_too_slow_gets_the_newest_of_each_key);
    RUN(test_an_old_key_outlives_the_retention);
    RUN(test_frames_from_before_the_first_key_have_a_newest_one);
    RUN(test_a_reader_of_some_frames_at_a_time_stays_current);
    RUN(test_who_keeps_up_gets_every_frame);
    RUN(test_a_new_subscriber_gets_the_retained_frame_of_each_key);
    RUN(test_what_is_excluded_is_no_newest_frame);
    RUN(test_the_budget_takes_retained_frames_of_keys);
    return 0;
}
