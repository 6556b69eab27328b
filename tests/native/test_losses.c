/* What subscriptions lose is told once, with the reason, to an owner that wants to know. */
#include "topic_fixture.h"

#define ID 7

static fws_sub *watched(int i, const fws_topic_options *options)
{
    fws_sub *sub = fws_topic_join(topic, &conns[i], options);
    CHECK_EQ(fws_sub_tell_losses(sub, fws_losses_new(ID + (uint64_t)i)), FWS_OK);
    return sub;
}

static void publish_many(int n, size_t size)
{
    for (int i = 0; i < n; i++)
        publish(size);
}

/* It has not taken a byte of what there is. */
static void fall_behind(int i)
{
    wake_all(&topics);
    stall(&conns[i]);
}

static fws_loss next_loss(void)
{
    fws_loss loss;
    CHECK(fws_topics_next_loss(&topics, &loss));
    return loss;
}

static void check_quiet(void)
{
    fws_loss loss;
    CHECK(!fws_topics_next_loss(&topics, &loss));
}

static void check_loss(int i, uint64_t first, uint64_t last, uint64_t count, enum fws_why why)
{
    fws_loss loss = next_loss();
    CHECK_EQ(loss.id, ID + (uint64_t)i);
    CHECK(loss.conn == &conns[i] && loss.topic == topic);
    CHECK(loss.sub == fws_conn_find_sub(&conns[i], topic));
    CHECK_EQ(loss.first, first);
    CHECK_EQ(loss.last, last);
    CHECK_EQ(loss.count, count);
    CHECK_EQ(loss.why, why);
}

static void check_end(int i)
{
    fws_loss loss = next_loss();
    CHECK_EQ(loss.id, ID + (uint64_t)i);
    CHECK(loss.sub == NULL);
}

static void leave(int i)
{
    fws_topic_leave(fws_conn_find_sub(&conns[i], topic));
}

static void test_what_latest_passes_over_is_lost(void)
{
    begin(FWS_SLOW_LATEST, 1000, 100000);
    fws_sub *sub = watched(0, NULL);
    publish_many(20, 100);
    fall_behind(0);
    check_quiet();
    take(&conns[0], 100);
    check_loss(0, 0, 18, 19, FWS_WHY_SLOW);
    check_quiet();
    CHECK_EQ(sub->dropped, 19);
    leave(0);
    check_end(0);
    check_quiet();
    end();
}

static void test_what_drop_oldest_passes_over_is_lost(void)
{
    begin(FWS_SLOW_DROP_OLDEST, 1000, 100000);
    watched(0, NULL);
    publish_many(25, 100);
    fall_behind(0);
    take(&conns[0], 0);
    check_loss(0, 0, 14, 15, FWS_WHY_SLOW);
    leave(0);
    check_end(0);
    end();
}

static void test_losses_between_two_looks_are_told_as_one(void)
{
    begin(FWS_SLOW_DROP_OLDEST, 1000, 100000);
    watched(0, NULL);
    publish_many(15, 100);
    fall_behind(0);
    take(&conns[0], 300); /* 5, 6 and 7 */
    publish_many(15, 100);
    take(&conns[0], 0);
    check_loss(0, 0, 19, 17, FWS_WHY_SLOW);
    check_quiet();
    publish_many(1, 100);
    take(&conns[0], 0);
    check_loss(0, 20, 20, 1, FWS_WHY_SLOW);
    leave(0);
    check_end(0);
    end();
}

static void test_what_it_was_not_to_get_is_not_lost(void)
{
    begin(FWS_SLOW_LATEST, 1000, 100000);
    fws_sub *sub = watched(0, NULL);
    for (int i = 0; i < 20; i++) {
        if (i % 2 == 1)
            CHECK_EQ(fws_sub_exclude(sub), FWS_OK);
        publish(200);
    }
    fall_behind(0);
    take(&conns[0], 0);
    check_loss(0, 0, 17, 9, FWS_WHY_SLOW);
    leave(0);
    check_end(0);
    end();
}

static void test_what_retention_took_is_known_by_that(void)
{
    static const fws_topic_options patient = {
        .retention_bytes = 100000, .max_lag_bytes = 100000, .on_slow = FWS_SLOW_DROP_OLDEST};
    begin(FWS_SLOW_DROP_OLDEST, 10000, 10000);
    fws_sub *sub = watched(0, &patient);
    publish(1000);
    fall_behind(0);
    publish_many(100, 1000);
    CHECK(fws_sub_lapped(sub));
    uint64_t there = topic->log.first_seq;
    take(&conns[0], 0);
    check_loss(0, 0, there - 1, there, FWS_WHY_RETENTION);
    leave(0);
    check_end(0);
    end();
}

static void test_what_the_budget_took_is_known_by_that(void)
{
    static const fws_topic_options options = {
        .retention_bytes = 10000000, .max_lag_bytes = 10000000, .on_slow = FWS_SLOW_DROP_OLDEST};
    uint8_t *room;
    begin_with(&options, 300000);
    fws_sub *sub = watched(0, NULL);
    publish(1000);
    fall_behind(0);
    for (int i = 0; i < 500; i++) {
        CHECK_EQ(fws_topic_reserve(topic, 1000, eseq + 1, &room), FWS_OK);
        publish(1000);
    }
    CHECK(fws_sub_lapped(sub) && topics.budget_dropped > 0);
    uint64_t there = topic->log.first_seq;
    take(&conns[0], 0);
    check_loss(0, 0, there - 1, there, FWS_WHY_BUDGET);
    /* What its own limit takes from it later is not the budget's. */
    static const fws_topic_options hasty = {
        .retention_bytes = 10000000, .max_lag_bytes = 5000, .on_slow = FWS_SLOW_LATEST};
    CHECK_EQ(fws_sub_set_options(sub, &hasty), FWS_OK);
    take(&conns[0], 0);
    check_loss(0, there, topic->log.next_seq - 2, topic->log.next_seq - there - 1, FWS_WHY_SLOW);
    leave(0);
    check_end(0);
    end();
}

static void test_conflated_frames_are_not_lost(void)
{
    static const uint8_t name[] = "k";
    uint8_t *room;
    begin(FWS_SLOW_LATEST, 1000, 100000);
    fws_sub *sub = watched(0, NULL);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(fws_topic_reserve(topic, 100, eseq + 1, &room), FWS_OK);
        memset(room, 0, 100);
        fws_topic_commit_keyed(topic, fws_topic_key(topic, name, 1), 100, ++eseq);
    }
    fall_behind(0);
    take(&conns[0], SIZE_MAX);
    check_quiet();
    CHECK_EQ(sub->extra->conflated, 19);
    leave(0);
    check_end(0);
    end();
}

static void test_who_does_not_ask_is_not_told(void)
{
    begin(FWS_SLOW_LATEST, 1000, 100000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(fws_sub_tell_losses(sub, NULL), FWS_OK);
    CHECK(sub->extra == NULL);
    publish_many(20, 100);
    fall_behind(0);
    take(&conns[0], 0);
    CHECK_EQ(sub->dropped, 19);
    check_quiet();
    leave(0);
    check_quiet();
    end();
}

static void test_who_asks_no_more_hears_of_the_end_only(void)
{
    begin(FWS_SLOW_LATEST, 1000, 100000);
    fws_sub *sub = watched(0, NULL);
    publish_many(20, 100);
    fall_behind(0);
    take(&conns[0], 0);
    CHECK_EQ(fws_sub_tell_losses(sub, fws_losses_new(ID + 1)), FWS_OK);
    check_end(0);
    publish_many(20, 100);
    take(&conns[0], 0);
    fws_loss loss = next_loss();
    CHECK_EQ(loss.id, ID + 1);
    CHECK_EQ(loss.count, 20);
    CHECK_EQ(fws_sub_tell_losses(sub, NULL), FWS_OK);
    check_end(1);
    leave(0);
    check_quiet();
    end();
}

static void test_what_is_lost_at_the_end_is_not_told(void)
{
    begin(FWS_SLOW_LATEST, 1000, 100000);
    watched(0, NULL);
    watched(1, NULL);
    publish_many(20, 100);
    fall_behind(0);
    take(&conns[0], 0);
    leave(0); /* before the owner looked */
    leave(1);
    check_end(0);
    check_end(1);
    check_quiet();
    end();
}

static void test_what_nobody_has_looked_at_is_freed_with_the_topics(void)
{
    begin(FWS_SLOW_LATEST, 1000, 100000);
    watched(0, NULL);
    watched(1, NULL);
    fws_losses_end(&topics, fws_losses_new(9)); /* its subscription was refused */
    publish_many(20, 100);
    fall_behind(0);
    take(&conns[0], 0);
    end();
}

int main(void)
{
    RUN(test_what_latest_passes_over_is_lost);
    RUN(test_what_drop_oldest_passes_over_is_lost);
    RUN(test_losses_between_two_looks_are_told_as_one);
    RUN(test_what_it_was_not_to_get_is_not_lost);
    RUN(test_what_retention_took_is_known_by_that);
    RUN(test_what_the_budget_took_is_known_by_that);
    RUN(test_conflated_frames_are_not_lost);
    RUN(test_who_does_not_ask_is_not_told);
    RUN(test_who_asks_no_more_hears_of_the_end_only);
    RUN(test_what_is_lost_at_the_end_is_not_told);
    RUN(test_what_nobody_has_looked_at_is_freed_with_the_topics);
    return 0;
}
