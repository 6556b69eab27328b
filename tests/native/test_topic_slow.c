/* Slow subscribers of a topic: policies, retention, room, what was acknowledged. */
#include "topic_fixture.h"

/* Makes a frame's worth of news known, which the connection does not take. */
static void leave_behind(fws_conn *conn)
{
    wake_all(&topics);
    stall(conn);
}

static void test_a_lossless_topic_is_full_at_its_slowest_member(void)
{
    uint8_t *room;
    begin(FWS_SLOW_LOSSLESS, 1000, 100000);
    CHECK_EQ(fws_topic_room(topic, UINT64_MAX), UINT64_MAX);
    publish(5000); /* nobody listens */
    for (int i = 0; i < 3; i++)
        fws_topic_join(topic, &conns[i], NULL);
    CHECK_EQ(fws_topic_room(topic, UINT64_MAX), 1000);
    for (int i = 0; i < 9; i++)
        publish(100);
    CHECK_EQ(fws_topic_room(topic, UINT64_MAX), 100);
    CHECK_EQ(fws_topic_reserve(topic, 101, eseq + 1, &room), FWS_E_FULL);
    publish(100);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    deliver(&conns[0], SIZE_MAX);
    deliver(&conns[1], SIZE_MAX);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    deliver(&conns[2], 350);
    CHECK_EQ(fws_topic_room(topic, UINT64_MAX),
             400); /* a half-sent frame is out of the log's way */
    publish(400);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    fws_topic_leave(fws_conn_find_sub(&conns[2], topic));
    publish(600);
    end();
}

static void test_one_frame_past_the_limit_fits_when_all_have_everything(void)
{
    uint8_t *room;
    begin(FWS_SLOW_LOSSLESS, 1000, 100000);
    fws_topic_join(topic, &conns[0], NULL);
    publish(5000);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    deliver(&conns[0], SIZE_MAX);
    publish(5000);
    end();
}

static void test_no_frame_past_the_limit_fits_while_a_patient_member_is_behind(void)
{
    static const fws_topic_options patient = {
        .retention_bytes = 10000, .max_lag_bytes = 10000, .on_slow = FWS_SLOW_LOSSLESS};
    uint8_t *room;
    begin(FWS_SLOW_LOSSLESS, 1000, 10000);
    fws_topic_join(topic, &conns[0], NULL);
    fws_sub *sub = fws_topic_join(topic, &conns[1], &patient);
    publish(500);
    deliver(&conns[0], SIZE_MAX);
    leave_behind(&conns[1]);
    CHECK_EQ(fws_topic_reserve(topic, 20000, eseq + 1, &room), FWS_E_FULL);
    CHECK(!fws_sub_lapped(sub));
    deliver(&conns[1], SIZE_MAX);
    publish(20000);
    deliver(&conns[1], SIZE_MAX);
    CHECK_EQ(delivered(sub), 2);
    end();
}

/* Neither history nor what others have not got is in the publisher's way. */
static void test_only_lossless_members_hold_the_publisher(void)
{
    static const fws_topic_options history = {.retention_bytes = 100000,
                                              .max_lag_bytes = 1000,
                                              .on_slow = FWS_SLOW_LOSSLESS,
                                              .history_bytes = 50000};
    static const fws_topic_options latest = {
        .retention_bytes = 100000, .max_lag_bytes = 100000, .on_slow = FWS_SLOW_LATEST};
    for (uint32_t kept = 300; kept <= 3000; kept += 2700) {
        begin(FWS_SLOW_LOSSLESS, 1000, 100000);
        CHECK_EQ(fws_topic_set_options(topic, &history), FWS_OK);
        publish(kept);
        fws_topic_join(topic, &conns[0], NULL);
        publish(900);
        deliver(&conns[0], SIZE_MAX);
        publish(5000);
        end();
        begin(FWS_SLOW_LOSSLESS, 1000, 100000);
        fws_topic_join(topic, &conns[0], &latest);
        publish(kept);
        leave_behind(&conns[0]);
        fws_topic_join(topic, &conns[1], NULL);
        CHECK_EQ(topic->lossless, 1);
        publish(900);
        deliver(&conns[1], SIZE_MAX);
        publish(5000);
        end();
    }
}

static void test_no_member_of_a_lossless_topic_is_ever_lapped(void)
{
    uint64_t random = 5;
    uint8_t *room;
    begin(FWS_SLOW_LOSSLESS, 200000, 200000);
    for (int i = 0; i < CONNS; i++)
        fws_topic_join(topic, &conns[i], NULL);
    for (int i = 0; i < 20000; i++) {
        size_t n = 1 + test_random(&random) % (i % 50 == 0 ? 30000 : 500);
        if (fws_topic_reserve(topic, n, eseq + 1, &room) == FWS_OK)
            publish(n);
        fws_conn *conn = &conns[test_random(&random) % CONNS];
        if (test_random(&random) % 4 == 0)
            stall(conn);
        deliver(conn, test_random(&random) % 100000);
        CHECK(!fws_sub_lapped(fws_conn_find_sub(conn, topic)));
        CHECK(fws_log_retained(&topic->log) <= 200000 + 2 * FWS_SLAB_BYTES);
    }
    check_account(topic);
    CHECK_EQ(topic->account.dropped, 0);
    end();
}

/* A limit of its own may exceed the topic's retention; the topic's may be lowered later. */
static void test_retention_takes_nothing_from_a_lossless_member(void)
{
    static const fws_topic_options patient = {
        .retention_bytes = 50000, .max_lag_bytes = 50000, .on_slow = FWS_SLOW_LOSSLESS};
    begin(FWS_SLOW_LATEST, 1000, 2000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], &patient);
    publish(100);
    leave_behind(&conns[0]);
    for (int i = 0; i < 49; i++) {
        publish(1000);
        CHECK(!fws_sub_lapped(sub));
    }
    while (conns[0].n_pending > 0)
        deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 50);
    end();
}

static void test_sizes_out_of_range_are_invalid(void)
{
    uint8_t *room;
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    CHECK_EQ(fws_topic_reserve(topic, 0, 1, &room), FWS_E_INVALID);
    CHECK_EQ(fws_topic_reserve(topic, (size_t)FWS_FRAME_LIMIT + 1, 1, &room), FWS_E_INVALID);
    end();
}

static void test_latest_jumps_to_the_newest_frame_and_counts(void)
{
    begin(FWS_SLOW_LATEST, 1000, 1000000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 10; i++)
        publish(100);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0); /* exactly at the limit */
    publish(100);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 10);
    uint64_t bytes;
    CHECK_EQ(fws_sub_pending(sub, &bytes), 1);
    CHECK_EQ(bytes, 100);
    check_account(topic);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 1);
    end();
}

static void test_the_lag_may_be_limited_in_messages(void)
{
    static const fws_topic_options ten = {.retention_bytes = 1000,
                                          .max_lag_bytes = 1000,
                                          .on_slow = FWS_SLOW_LATEST,
                                          .max_lag_messages = 10};
    begin_with(&ten, 0);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 10; i++)
        publish(1);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0);
    publish(1);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 10);
    check_account(topic);
    end();
}

static void test_latest_finishes_the_half_sent_frame_first(void)
{
    begin(FWS_SLOW_LATEST, 1000, 1000000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 30; i++)
        publish(100);
    deliver(&conns[0], 150);
    stall(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 27);
    check_account(topic);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 3);
    end();
}

/* A policy is for connections that lag: what was published at once is offered once. */
static void test_a_burst_larger_than_the_limits_reaches_everybody_who_keeps_up(void)
{
    for (uint8_t policy = FWS_SLOW_CLOSE; policy <= FWS_SLOW_LATEST; policy++) {
        begin(policy, 1000, 1000);
        for (int i = 0; i < 3; i++)
            fws_topic_join(topic, &conns[i], NULL);
        for (int i = 0; i < 1000; i++)
            publish(1000);
        wake_all(&topics);
        publish(1000);
        CHECK_EQ(topic->log.first_seq, 0);
        for (int i = 0; i < 2; i++)
            while (fws_conn_pending(&conns[i]))
                deliver(&conns[i], SIZE_MAX);
        CHECK_EQ(delivered(fws_conn_find_sub(&conns[0], topic)), 1001);
        CHECK_EQ(topic->account.dropped, 0);
        stall(&conns[2]); /* its attempt failed: the next slab lets go of what it keeps */
        for (int i = 0; i < 100; i++)
            publish(1000);
        deliver(&conns[0], SIZE_MAX);
        deliver(&conns[1], SIZE_MAX);
        for (int i = 0; i < 100; i++)
            publish(1000);
        CHECK(fws_log_retained(&topic->log) <= 100000 + 2 * FWS_SLAB_BYTES);
        CHECK(fws_sub_lapped(fws_conn_find_sub(&conns[2], topic)));
        end();
    }
}

static void test_a_lapped_reader_is_dealt_with_by_its_policy(void)
{
    for (uint8_t policy = FWS_SLOW_CLOSE; policy <= FWS_SLOW_LATEST; policy++) {
        begin(policy, 1000, 1000);
        fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
        publish(1000);
        leave_behind(&conns[0]);
        for (int i = 1; i < 1000; i++)
            publish(1000);
        check_account(topic);
        CHECK(fws_sub_lapped(sub));
        CHECK(fws_log_retained(&topic->log) <= 1000 + 2 * FWS_SLAB_BYTES);
        CHECK_EQ(fws_sub_apply_policy(sub), policy == FWS_SLOW_CLOSE ? FWS_E_SLOW : FWS_OK);
        check_account(topic);
        CHECK_EQ(sub->dropped, policy == FWS_SLOW_CLOSE ? 0 : 999);
        if (policy == FWS_SLOW_LATEST)
            deliver(&conns[0], SIZE_MAX);
        fws_topic_leave(sub);
        CHECK_EQ(topic->account.dropped, policy == FWS_SLOW_CLOSE ? 1000 : 999);
        end();
    }
}

static void test_who_had_everything_is_not_lapped_by_a_burst_that_is_retained(void)
{
    for (uint8_t policy = FWS_SLOW_CLOSE; policy <= FWS_SLOW_LATEST; policy++) {
        begin(policy, 1000000, 1000000);
        fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
        publish(600000);
        deliver(&conns[0], SIZE_MAX);
        for (int i = 0; i < 3; i++)
            publish(600000);
        CHECK(!fws_sub_lapped(sub));
        for (int i = 0; i < 3; i++)
            deliver(&conns[0], SIZE_MAX);
        CHECK_EQ(delivered(sub), 4);
        CHECK_EQ(sub->dropped, 0);
        end();
    }
}

static void test_a_frame_larger_than_the_limit_is_the_newest_one(void)
{
    begin(FWS_SLOW_LATEST, 1000, 1000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(100000);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0);
    publish(100000);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 1);
    check_account(topic);
    end();
}

static void test_options_may_change_under_its_members(void)
{
    static const fws_topic_options lossless = {
        .retention_bytes = 200000, .max_lag_bytes = 100000, .on_slow = FWS_SLOW_LOSSLESS};
    begin(FWS_SLOW_LATEST, 1000000, 1000000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 500; i++)
        publish(1000);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_topic_set_options(topic, &lossless), FWS_OK);
    uint8_t *room;
    CHECK_EQ(fws_topic_room(topic, UINT64_MAX), 0);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    while (fws_conn_pending(&conns[0]))
        deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 500);
    publish(1000);
    end();
}

static void test_a_subscription_may_have_a_policy_of_its_own(void)
{
    static const fws_topic_options lossless = {
        .retention_bytes = 5000, .max_lag_bytes = 2000, .on_slow = FWS_SLOW_LOSSLESS};
    uint8_t *room;
    begin(FWS_SLOW_LATEST, 1000, 100000);
    fws_topic_join(topic, &conns[0], NULL);
    fws_sub *sub = fws_topic_join(topic, &conns[1], &lossless);
    CHECK_EQ(topic->lossless, 1);
    CHECK_EQ(topic->lossless_lag, 2000);
    for (int i = 0; i < 20; i++)
        publish(100);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_sub_set_options(sub, NULL), FWS_OK);
    CHECK_EQ(topic->lossless, 0);
    CHECK_EQ(fws_sub_options(sub)->on_slow, FWS_SLOW_LATEST);
    publish(1);
    CHECK_EQ(fws_sub_set_options(fws_conn_find_sub(&conns[0], topic), &lossless), FWS_OK);
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_E_FULL);
    fws_topic_leave(fws_conn_find_sub(&conns[0], topic));
    CHECK_EQ(topic->lossless, 0);
    publish(5000);
    end();
}

/* Frames count from the connection's mark on, so that what is said to be acknowledged never is too
 * much; all of it, once everything was confirmed. */
static void test_acknowledgements_never_say_too_much(void)
{
    uint64_t random = 11, confirmed = 0;
    begin(FWS_SLOW_CLOSE, 1 << 30, 1 << 30);
    conns[0].acknowledges = true;
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 1; i <= 5000; i++) {
        publish(100);
        deliver(&conns[0], i % 7 == 0 ? 50 : SIZE_MAX);
        if (test_random(&random) % 60 > 0)
            continue;
        confirmed += test_random(&random) % (conns[0].bytes_written - confirmed + 1);
        fws_conn_confirm(&conns[0], confirmed);
        CHECK(fws_sub_snapshot(sub, 0).acknowledged <= confirmed / 100);
        check_account(topic);
    }
    deliver(&conns[0], SIZE_MAX);
    fws_conn_confirm(&conns[0], conns[0].bytes_written);
    CHECK_EQ(fws_sub_snapshot(sub, 0).acknowledged, 5000);
    CHECK_EQ(conns[0].acknowledged, 5000);
    CHECK_EQ(topic->account.acknowledged, 5000);
    CHECK(conns[0].unacked == NULL && !sub->listed);
    end();
}

static void test_what_was_confirmed_counts_after_its_subscription_has_ended(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    conns[0].acknowledges = true;
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 20; i++)
        publish(10);
    deliver(&conns[0], SIZE_MAX);
    fws_topic_leave(sub);
    CHECK_EQ(topic->refs, 1); /* the subscription that waits for its confirmation */
    fws_conn_confirm(&conns[0], 199);
    CHECK_EQ(topic->account.acknowledged, 0);
    fws_conn_confirm(&conns[0], 200);
    CHECK_EQ(topic->account.acknowledged, 20);
    CHECK_EQ(topic->refs, 0);
    end();
}

int main(void)
{
    RUN(test_a_lossless_topic_is_full_at_its_slowest_member);
    RUN(test_one_frame_past_the_limit_fits_when_all_have_everything);
    RUN(test_no_frame_past_the_limit_fits_while_a_patient_member_is_behind);
    RUN(test_only_lossless_members_hold_the_publisher);
    RUN(test_no_member_of_a_lossless_topic_is_ever_lapped);
    RUN(test_retention_takes_nothing_from_a_lossless_member);
    RUN(test_sizes_out_of_range_are_invalid);
    RUN(test_latest_jumps_to_the_newest_frame_and_counts);
    RUN(test_the_lag_may_be_limited_in_messages);
    RUN(test_latest_finishes_the_half_sent_frame_first);
    RUN(test_a_burst_larger_than_the_limits_reaches_everybody_who_keeps_up);
    RUN(test_a_lapped_reader_is_dealt_with_by_its_policy);
    RUN(test_who_had_everything_is_not_lapped_by_a_burst_that_is_retained);
    RUN(test_a_frame_larger_than_the_limit_is_the_newest_one);
    RUN(test_options_may_change_under_its_members);
    RUN(test_a_subscription_may_have_a_policy_of_its_own);
    RUN(test_acknowledgements_never_say_too_much);
    RUN(test_what_was_confirmed_counts_after_its_subscription_has_ended);
    return 0;
}
