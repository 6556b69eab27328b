/* Lag by age, and the least that a lossless subscriber takes which holds the publisher. */
#include "topic_fixture.h"

#define MS 1000000ULL

static void begin_aged(uint8_t on_slow, uint64_t max_lag_ns)
{
    const fws_topic_options options = {.retention_bytes = 1 << 24,
                                       .max_lag_bytes = 1 << 24,
                                       .on_slow = on_slow,
                                       .max_lag_ns = max_lag_ns};
    begin_with(&options, 0);
}

/* As an engine that looks at its sockets all the time. */
static void pass(uint64_t ns)
{
    now += ns;
    topics.looked_at = now;
}

static void refuse(fws_conn *conn)
{
    wake_all(&topics);
    stall(conn);
    conn->lag_since = now;
}

static void test_what_is_too_old_is_passed_over(void)
{
    begin_aged(FWS_SLOW_LATEST, 400 * MS);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(100);
    refuse(&conns[0]);
    for (int i = 0; i < 40; i++) {
        pass(10 * MS);
        publish(100);
        CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
        CHECK_EQ(sub->dropped, 0);
    }
    pass(1);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 40); /* to the newest */
    check_account(topic);
    pass(1000 * MS);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 40); /* which stays, however old */
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 1);
    end();
}

static void test_who_closes_for_slowness_does_so_for_age(void)
{
    begin_aged(FWS_SLOW_CLOSE, 400 * MS);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(100);
    refuse(&conns[0]);
    pass(400 * MS);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    pass(1);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_E_SLOW);
    end();
}

/* Another's slab may be old: that says little of a frame in it, but for a quarter of the limit. */
static void test_the_time_of_a_slab_is_that_of_its_frames(void)
{
    begin_aged(FWS_SLOW_LATEST, 400 * MS);
    fws_topic_join(topic, &conns[0], NULL);
    publish(10);
    refuse(&conns[0]); /* it keeps what comes */
    for (int i = 0; i < 1000; i++) {
        pass(i % 7 * 9 * MS);
        publish(10);
        CHECK(now - topic->log.growing->opened < 100 * MS);
    }
    CHECK(topic->log.head > 200);
    check_account(topic);
    end();
}

static void test_slabs_that_hold_little_when_they_are_closed_are_small(void)
{
    begin_aged(FWS_SLOW_LATEST, 400 * MS);
    fws_topic_join(topic, &conns[0], NULL);
    publish(10);
    refuse(&conns[0]);
    for (int i = 0; i < 20000; i++)
        publish(20);
    CHECK_EQ(topic->log.growing->max_bytes, FWS_SLAB_BYTES);
    for (int i = 0; i < 5; i++) {
        pass(100 * MS);
        publish(20);
    }
    CHECK_EQ(topic->log.growing->max_bytes, 960);
    end();
}

static void test_only_who_may_not_lag_for_long_closes_slabs(void)
{
    static const fws_topic_options quick = {.retention_bytes = 1000,
                                            .max_lag_bytes = 1000,
                                            .on_slow = FWS_SLOW_LATEST,
                                            .max_lag_ns = 40 * MS};
    begin(FWS_SLOW_LATEST, 1000, 1000);
    fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(topic->log.slab_ns, 0);
    fws_sub *sub = fws_topic_join(topic, &conns[1], &quick);
    CHECK_EQ(topic->log.slab_ns, 10 * MS);
    CHECK_EQ(fws_sub_set_options(sub, NULL), FWS_OK);
    fws_topic_leave(sub);
    fws_topic_leave(fws_conn_find_sub(&conns[0], topic));
    CHECK_EQ(topic->log.slab_ns, 0);
    CHECK_EQ(fws_topic_set_options(topic, &quick), FWS_OK);
    fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(topic->log.slab_ns, 10 * MS);
    end();
}

/* What was published before it was offered any is not old by its fault, nor is what grew old while
 * nobody could be sent to. */
static void test_an_age_counts_from_the_first_refusal_to_the_last_look(void)
{
    begin_aged(FWS_SLOW_LATEST, 400 * MS);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(100);
    publish(100);
    pass(1000 * MS);
    refuse(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0);
    pass(400 * MS);
    now += 5000 * MS; /* the engine was away */
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0);
    pass(0);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 1);
    end();
}

static void test_no_age_ends_a_lossless_member(void)
{
    begin_aged(FWS_SLOW_LOSSLESS, 400 * MS);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(topic->log.slab_ns, 0);
    publish(100);
    refuse(&conns[0]);
    pass(100000 * MS);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0);
    end();
}

/* Lossless members. */

static fws_topic_options lossless(uint64_t max_lag)
{
    return (fws_topic_options){.retention_bytes = 100000,
                               .max_lag_bytes = max_lag,
                               .on_slow = FWS_SLOW_LOSSLESS,
                               .min_rate = 5000};
}

static void test_the_least_limit_goes_with_the_last_who_has_it(void)
{
    const fws_topic_options wide = lossless(10000), narrow = lossless(1000);
    begin_with(&wide, 0);
    fws_topic_join(topic, &conns[0], NULL);
    fws_sub *first = fws_topic_join(topic, &conns[1], &narrow);
    fws_sub *second = fws_topic_join(topic, &conns[2], &narrow);
    CHECK_EQ(topic->lossless_lag, 1000);
    fws_topic_leave(first);
    CHECK_EQ(topic->lossless_lag, 1000);
    CHECK_EQ(fws_sub_set_options(second, NULL), FWS_OK);
    CHECK_EQ(topic->lossless_lag, 10000);
    for (int i = 0; i < 5; i++)
        publish(2000);
    uint8_t *room;
    CHECK_EQ(fws_topic_reserve(topic, 2000, eseq + 1, &room), FWS_E_FULL);
    end();
}

static void test_who_is_caught_up_and_not_lossless_leaves_the_room_as_it_is(void)
{
    const fws_topic_options wide = lossless(10000);
    static const fws_topic_options latest = {
        .retention_bytes = 100000, .max_lag_bytes = 100000, .on_slow = FWS_SLOW_LATEST};
    begin_with(&latest, 0);
    fws_topic_join(topic, &conns[0], &wide);
    fws_topic_join(topic, &conns[1], NULL);
    publish(3000);
    refuse(&conns[0]);
    deliver(&conns[1], SIZE_MAX);
    for (int i = 0; i < 3; i++)
        publish(2000); /* not woken yet */
    CHECK_EQ(take(&conns[0], 7000), 7000);
    CHECK_EQ(topic->caught, 1);
    CHECK_EQ(fws_topic_room(topic, 9000), 8000);
    end();
}

/* Only while the next frame is refused for its sake. */
static void test_who_is_at_the_limit_holds_the_publisher(void)
{
    const fws_topic_options wide = lossless(10000);
    uint8_t *room;
    begin_with(&wide, 0);
    fws_sub *slow = fws_topic_join(topic, &conns[0], NULL);
    fws_sub *other = fws_topic_join(topic, &conns[1], NULL);
    for (int i = 0; i < 5; i++)
        publish(1000);
    refuse(&conns[0]);
    deliver(&conns[1], SIZE_MAX);
    for (int i = 0; i < 5; i++)
        publish(1000);
    refuse(&conns[1]);
    CHECK_EQ(fws_sub_held_rate(slow), 0);
    CHECK_EQ(fws_topic_reserve(topic, 1000, eseq + 1, &room), FWS_E_FULL);
    CHECK_EQ(fws_sub_held_rate(slow), 5000);
    CHECK_EQ(fws_sub_held_rate(other), 0);
    deliver(&conns[0], 1000);
    CHECK_EQ(fws_sub_held_rate(slow), 0);
    publish(1000);
    CHECK_EQ(fws_sub_held_rate(slow), 0);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    CHECK_EQ(fws_sub_held_rate(slow), 5000);
    end();
}

/* With many of them each has a share of what the machine may be trusted with. */
static void test_a_crowd_is_asked_for_a_share_each(void)
{
    fws_topic_options fast = lossless(1000);
    fast.min_rate = 1 << 30;
    uint8_t *room;
    begin_with(&fast, 0);
    for (int i = 0; i < CONNS; i++)
        fws_topic_join(topic, &conns[i], NULL);
    publish(1000);
    refuse(&conns[0]);
    CHECK_EQ(fws_topic_reserve(topic, 1000, eseq + 1, &room), FWS_E_FULL);
    CHECK_EQ(fws_sub_held_rate(fws_conn_find_sub(&conns[0], topic)), FWS_HELD_RATE / CONNS);
    end();
}

static void test_a_window_counts_what_was_taken_in_it(void)
{
    fws_conn conn = {.bytes_written = 1 << 20};
    uint64_t at = 2000 * MS, window = 5000 * MS;
    CHECK(!fws_conn_drags(&conn, 1000, at, window));
    conn.bytes_written += 4999;
    CHECK(!fws_conn_drags(&conn, 1000, at + window - 1, window));
    CHECK(fws_conn_drags(&conn, 1000, at + window, window));
    conn.bytes_written += 5000; /* the next window */
    at += window;
    CHECK(!fws_conn_drags(&conn, 1000, at + window, window));
    at += window;
    CHECK(!fws_conn_drags(&conn, 0, at + window - 1, window)); /* it let go once */
    CHECK(!fws_conn_drags(&conn, 1000, at + window, window));
    at += window;
    conn.hold_since = 0; /* it had everything */
    CHECK(!fws_conn_drags(&conn, 1000, at + window, window));
    at += window;
    CHECK(!fws_conn_drags(&conn, 1000, at - 1, window)); /* grace may put it past now */
    CHECK(fws_conn_drags(&conn, 1000, at + window, window));
}

int main(void)
{
    RUN(test_what_is_too_old_is_passed_over);
    RUN(test_who_closes_for_slowness_does_so_for_age);
    RUN(test_the_time_of_a_slab_is_that_of_its_frames);
    RUN(test_slabs_that_hold_little_when_they_are_closed_are_small);
    RUN(test_only_who_may_not_lag_for_long_closes_slabs);
    RUN(test_an_age_counts_from_the_first_refusal_to_the_last_look);
    RUN(test_no_age_ends_a_lossless_member);
    RUN(test_the_least_limit_goes_with_the_last_who_has_it);
    RUN(test_who_is_caught_up_and_not_lossless_leaves_the_room_as_it_is);
    RUN(test_who_is_at_the_limit_holds_the_publisher);
    RUN(test_a_crowd_is_asked_for_a_share_each);
    RUN(test_a_window_counts_what_was_taken_in_it);
    return 0;
}
