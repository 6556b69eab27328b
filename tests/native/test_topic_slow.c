/* Slow subscribers of a topic: policies, accounts, what was acknowledged. */
#include "topic_fixture.h"

static void test_a_lossless_topic_is_full_at_its_slowest_member(void)
{
    uint8_t *room;
    begin(FWS_SLOW_LOSSLESS, 1000, 100000);
    CHECK_EQ(fws_topic_room(&topic), 1000);
    publish(5000); /* nobody listens */
    for (int i = 0; i < 3; i++)
        fws_topic_join(&topic, &conns[i]);
    CHECK_EQ(fws_topic_room(&topic), 1000);
    for (int i = 0; i < 9; i++)
        publish(100);
    CHECK_EQ(fws_topic_room(&topic), 100);
    CHECK_EQ(fws_topic_reserve(&topic, 101, eseq + 1, &room), FWS_E_FULL);
    publish(100);
    CHECK_EQ(fws_topic_reserve(&topic, 1, eseq + 1, &room), FWS_E_FULL);
    deliver(&conns[0], SIZE_MAX);
    deliver(&conns[1], SIZE_MAX);
    CHECK_EQ(fws_topic_reserve(&topic, 1, eseq + 1, &room), FWS_E_FULL);
    deliver(&conns[2], 350);
    CHECK_EQ(fws_topic_room(&topic), 400); /* a half-sent frame is out of the log's way */
    publish(400);
    CHECK_EQ(fws_topic_reserve(&topic, 1, eseq + 1, &room), FWS_E_FULL);
    fws_topic_leave(conns[2].subs);
    publish(600);
    end();
}

static void test_one_frame_past_the_limit_fits_when_all_have_everything(void)
{
    uint8_t *room;
    begin(FWS_SLOW_LOSSLESS, 1000, 100000);
    fws_topic_join(&topic, &conns[0]);
    publish(5000);
    CHECK_EQ(fws_topic_reserve(&topic, 1, eseq + 1, &room), FWS_E_FULL);
    deliver(&conns[0], SIZE_MAX);
    publish(5000);
    end();
}

static void test_no_member_of_a_lossless_topic_is_ever_lapped(void)
{
    uint64_t random = 5;
    uint8_t *room;
    begin(FWS_SLOW_LOSSLESS, 200000, 200000);
    for (int i = 0; i < CONNS; i++)
        fws_topic_join(&topic, &conns[i]);
    for (int i = 0; i < 20000; i++) {
        size_t n = 1 + test_random(&random) % (i % 50 == 0 ? 30000 : 500);
        if (fws_topic_reserve(&topic, n, eseq + 1, &room) == FWS_OK)
            publish(n);
        fws_conn *conn = &conns[test_random(&random) % CONNS];
        deliver(conn, test_random(&random) % 100000);
        CHECK_EQ(fws_sub_apply_policy(conn->subs), FWS_OK);
        CHECK(fws_log_retained(&topic.log) <= 200000 + 2 * FWS_SLAB_BYTES);
    }
    check_account(&topic);
    CHECK_EQ(topic.dropped, 0);
    end();
}

static void test_sizes_out_of_range_are_invalid(void)
{
    uint8_t *room;
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    CHECK_EQ(fws_topic_reserve(&topic, 0, 1, &room), FWS_E_INVALID);
    CHECK_EQ(fws_topic_reserve(&topic, (size_t)FWS_FRAME_LIMIT + 1, 1, &room), FWS_E_INVALID);
    end();
}

static void test_latest_jumps_to_the_newest_frame_and_counts(void)
{
    begin(FWS_SLOW_LATEST, 1000, 1000000);
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    for (int i = 0; i < 10; i++)
        publish(100);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0); /* exactly at the limit */
    publish(100);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 10);
    uint64_t bytes;
    CHECK_EQ(fws_sub_pending(sub, &bytes), 1);
    CHECK_EQ(bytes, 100);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->delivered, 1);
    end();
}

static void test_latest_finishes_the_half_sent_frame_first(void)
{
    begin(FWS_SLOW_LATEST, 1000, 1000000);
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    for (int i = 0; i < 30; i++)
        publish(100);
    deliver(&conns[0], 150);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 27);
    check_account(&topic);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->delivered, 3);
    end();
}

static void test_a_lapped_reader_is_dealt_with_by_its_policy(void)
{
    for (uint8_t policy = FWS_SLOW_CLOSE; policy <= FWS_SLOW_LATEST; policy++) {
        begin(policy, 1000, 1000);
        fws_sub *sub = fws_topic_join(&topic, &conns[0]);
        for (int i = 0; i < 1000; i++)
            publish(1000);
        check_account(&topic);
        CHECK(topic.log.tail > sub->cursor.slab);
        CHECK_EQ(fws_sub_apply_policy(sub), policy == FWS_SLOW_CLOSE ? FWS_E_SLOW : FWS_OK);
        check_account(&topic);
        CHECK_EQ(sub->dropped, policy == FWS_SLOW_CLOSE ? 0 : 999);
        end();
        CHECK_EQ(topic.dropped, 1000);
    }
}

static void test_who_had_everything_is_not_lapped_by_a_burst_that_is_retained(void)
{
    for (uint8_t policy = FWS_SLOW_CLOSE; policy <= FWS_SLOW_LATEST; policy++) {
        begin(policy, 1000000, 1000000);
        fws_sub *sub = fws_topic_join(&topic, &conns[0]);
        publish(600000);
        deliver(&conns[0], SIZE_MAX);
        for (int i = 0; i < 3; i++)
            publish(600000); /* retires the slab of the first, which it has read */
        CHECK(topic.log.tail > sub->cursor.slab);
        CHECK(!fws_sub_lapped(sub));
        deliver(&conns[0], SIZE_MAX);
        deliver(&conns[0], SIZE_MAX);
        deliver(&conns[0], SIZE_MAX);
        CHECK_EQ(sub->delivered, 4);
        CHECK_EQ(sub->dropped, 0);
        check_account(&topic);
        end();
    }
}

static void test_a_frame_larger_than_the_limit_is_the_newest_one(void)
{
    begin(FWS_SLOW_LATEST, 1000, 1000);
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    publish(100000);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0);
    publish(100000);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 1);
    end();
}

static void test_options_may_change_under_its_members(void)
{
    begin(FWS_SLOW_LATEST, 1000000, 1000000);
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    for (int i = 0; i < 500; i++)
        publish(1000);
    const fws_topic_options lossless = {200000, 100000, FWS_SLOW_LOSSLESS};
    fws_topic_set_options(&topic, &lossless);
    uint8_t *room;
    CHECK_EQ(fws_topic_room(&topic), 0);
    CHECK_EQ(fws_topic_reserve(&topic, 1, eseq + 1, &room), FWS_E_FULL);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    while (fws_conn_pending(&conns[0]))
        deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->delivered, 500);
    publish(1000);
    end();
}

static void test_acknowledgements_follow_the_marks(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    conns[0].acknowledges = true;
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    for (int i = 1; i <= 10; i++) {
        publish(100);
        deliver(&conns[0], SIZE_MAX);
        CHECK_EQ(sub->n_marks, i);
    }
    fws_sub_acknowledge(sub, 99);
    CHECK_EQ(sub->acknowledged, 0);
    fws_sub_acknowledge(sub, 100);
    CHECK_EQ(sub->acknowledged, 1);
    fws_sub_acknowledge(sub, 555);
    CHECK_EQ(sub->acknowledged, 5);
    fws_sub_acknowledge(sub, 555);
    CHECK_EQ(sub->acknowledged, 5);
    fws_sub_acknowledge(sub, 1000);
    CHECK_EQ(sub->acknowledged, 10);
    CHECK(sub->marks == NULL && sub->n_marks == 0);
    publish(100);
    deliver(&conns[0], 50);
    deliver(&conns[0], 50);
    fws_sub_acknowledge(sub, 1099);
    CHECK_EQ(sub->acknowledged, 10);
    fws_sub_acknowledge(sub, 1100);
    CHECK_EQ(sub->acknowledged, 11);
    fws_topic_leave(sub);
    CHECK_EQ(topic.acknowledged, 11);
    end();
}

static void test_thinned_marks_never_say_too_much(void)
{
    uint64_t random = 11, confirmed = 0;
    begin(FWS_SLOW_CLOSE, 1 << 30, 1 << 30);
    conns[0].acknowledges = true;
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    for (int i = 1; i <= 5000; i++) {
        publish(100);
        deliver(&conns[0], SIZE_MAX);
        CHECK(sub->n_marks <= FWS_MARKS);
        if (test_random(&random) % 60 == 0) {
            confirmed += test_random(&random) % (conns[0].bytes_written - confirmed + 1);
            fws_sub_acknowledge(sub, confirmed);
            CHECK(sub->acknowledged <= confirmed / 100);
        }
    }
    fws_sub_acknowledge(sub, conns[0].bytes_written);
    CHECK_EQ(sub->acknowledged, 5000); /* the newest mark is never thinned out */
    end();
}

static void test_one_call_makes_one_mark(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_topic other;
    const fws_topic_options options = {1 << 20, 1 << 20, FWS_SLOW_CLOSE};
    fws_topic_init(&other, &pool, &options);
    conns[0].acknowledges = true;
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    fws_topic_join(&other, &conns[0]);
    for (int i = 0; i < 20; i++) {
        publish(10);
        append_frame(&other, "0123456789", 10, ++eseq);
    }
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->n_marks, 1);
    fws_sub_acknowledge(sub, 400);
    CHECK_EQ(sub->acknowledged, 20);
    end();
    fws_topic_clear(&other);
    fws_pool_clear(&pool);
}

int main(void)
{
    RUN(test_a_lossless_topic_is_full_at_its_slowest_member);
    RUN(test_one_frame_past_the_limit_fits_when_all_have_everything);
    RUN(test_no_member_of_a_lossless_topic_is_ever_lapped);
    RUN(test_sizes_out_of_range_are_invalid);
    RUN(test_latest_jumps_to_the_newest_frame_and_counts);
    RUN(test_latest_finishes_the_half_sent_frame_first);
    RUN(test_a_lapped_reader_is_dealt_with_by_its_policy);
    RUN(test_who_had_everything_is_not_lapped_by_a_burst_that_is_retained);
    RUN(test_a_frame_larger_than_the_limit_is_the_newest_one);
    RUN(test_options_may_change_under_its_members);
    RUN(test_acknowledgements_follow_the_marks);
    RUN(test_thinned_marks_never_say_too_much);
    RUN(test_one_call_makes_one_mark);
    return 0;
}
