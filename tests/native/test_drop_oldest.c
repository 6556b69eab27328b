/* The policy that drops the oldest frames: where it moves a subscription, and what it counts. */
#include "topic_fixture.h"

#define MS 1000000ULL

static void leave_behind(fws_conn *conn)
{
    wake_all(&topics);
    stall(conn);
}

/* What is left to it begins on the first frame that the limit allows, and only that is dropped. */
static void test_drop_oldest_moves_forward_to_what_the_limit_allows(void)
{
    begin(FWS_SLOW_DROP_OLDEST, 1000, 1000000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 500; i++)
        publish(90);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->seq, 500 - 11); /* 11 * 90 <= 1000 */
    CHECK_EQ(topic->account.dropped, 500 - 11);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 500 - 11); /* it is within the limit */
    publish(1);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->seq, 500 - 11);
    publish(90);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->seq, 500 - 10);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 12);
    end();
}

static void test_drop_oldest_keeps_the_newest_frame_however_large(void)
{
    begin(FWS_SLOW_DROP_OLDEST, 1000, 1000000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(90);
    publish(5000);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->seq, 1);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 1);
    end();
}

static void test_drop_oldest_counts_messages_too(void)
{
    const fws_topic_options options = {.retention_bytes = 1 << 20,
                                       .max_lag_bytes = 1 << 20,
                                       .on_slow = FWS_SLOW_DROP_OLDEST,
                                       .max_lag_messages = 7};
    begin_with(&options, 0);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 50; i++)
        publish(10);
    leave_behind(&conns[0]);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->seq, 43);
    end();
}

/* Retention has taken more than the policy would have. */
static void test_drop_oldest_goes_on_at_what_is_retained(void)
{
    begin(FWS_SLOW_DROP_OLDEST, 1000000, 1000000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(100);
    leave_behind(&conns[0]);
    for (int i = 0; i < 30000; i++)
        publish(100);
    CHECK(fws_sub_lapped(sub));
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK(sub->seq >= topic->log.first_seq && sub->seq < 30001);
    CHECK(topic->log.next_seq - sub->seq >= 9000);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub) + sub->dropped + fws_sub_snapshot(sub, 0).pending, 30001);
    end();
}

/* By age whole slabs go, each of a quarter of the limit; the newest frame stays, however old. */
static void test_drop_oldest_by_age(void)
{
    const fws_topic_options options = {.retention_bytes = 1 << 20,
                                       .max_lag_bytes = 1 << 20,
                                       .on_slow = FWS_SLOW_DROP_OLDEST,
                                       .max_lag_ns = 400 * MS};
    begin_with(&options, 0);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (uint64_t i = 0; i < 1000; i++) {
        publish(10);
        leave_behind(&conns[0]);
        now += MS;
        topics.looked_at = now;
        CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
        uint64_t kept = topic->log.next_seq - sub->seq;
        CHECK(kept >= (i < 300 ? i + 1 : 300) && kept <= 401);
    }
    now += 5000 * MS;
    topics.looked_at = now;
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->seq, 999);
    end();
}

int main(void)
{
    RUN(test_drop_oldest_moves_forward_to_what_the_limit_allows);
    RUN(test_drop_oldest_keeps_the_newest_frame_however_large);
    RUN(test_drop_oldest_counts_messages_too);
    RUN(test_drop_oldest_goes_on_at_what_is_retained);
    RUN(test_drop_oldest_by_age);
    return 0;
}
