/* Who waits to publish is told when a lossless member has got further, or the logs hold less. */
#include "topic_fixture.h"

static fws_topic *next_room(void)
{
    fws_topic *found;
    while (fws_topics_next_room(&topics, &found))
        if (found != NULL)
            return found;
    return NULL;
}

/* A full topic with one member that has got nothing. */
static void begin_full(void)
{
    begin(FWS_SLOW_LOSSLESS, 1000, 100000);
    fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 10; i++)
        publish(100);
    wake_all(&topics);
    stall(&conns[0]);
    CHECK(!fws_topic_takes(topic, 98));
}

static void test_it_is_told_when_the_member_has_taken_enough(void)
{
    begin_full();
    CHECK_EQ(fws_topic_want_room(topic, 148), FWS_OK);
    CHECK(next_room() == NULL);
    CHECK(!fws_topics_room_due(&topics));
    take(&conns[0], 100);
    CHECK(fws_topics_room_due(&topics));
    CHECK(next_room() == NULL); /* 100 of 152 bytes */
    CHECK(!fws_topics_room_due(&topics));
    take(&conns[0], 100);
    CHECK(next_room() == topic);
    CHECK(next_room() == NULL);
    take(&conns[0], 100);
    CHECK(next_room() == NULL); /* once */
    end();
}

static void test_it_is_told_when_the_member_leaves(void)
{
    begin_full();
    CHECK_EQ(fws_topic_want_room(topic, 98), FWS_OK);
    CHECK(next_room() == NULL);
    fws_topic_leave(fws_conn_find_sub(&conns[0], topic));
    CHECK(next_room() == topic);
    end();
}

static void test_it_is_told_when_the_member_has_another_policy(void)
{
    static const fws_topic_options latest = {
        .retention_bytes = 100000, .max_lag_bytes = 1000, .on_slow = FWS_SLOW_LATEST};
    for (int of_topic = 0; of_topic < 2; of_topic++) {
        begin_full();
        CHECK_EQ(fws_topic_want_room(topic, 98), FWS_OK);
        CHECK(next_room() == NULL);
        if (of_topic)
            CHECK_EQ(fws_topic_set_options(topic, &latest), FWS_OK);
        else
            CHECK_EQ(fws_sub_set_options(fws_conn_find_sub(&conns[0], topic), &latest), FWS_OK);
        CHECK(next_room() == topic);
        end();
    }
}

static void test_it_is_told_when_a_wake_has_passed_what_its_members_are_not_to_get(void)
{
    begin(FWS_SLOW_LOSSLESS, 1000, 100000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(fws_sub_exclude(sub), FWS_OK);
        publish(100);
    }
    CHECK(!fws_topic_takes(topic, 98));
    CHECK_EQ(fws_topic_want_room(topic, 98), FWS_OK);
    CHECK(next_room() == NULL);
    wake_all(&topics);
    CHECK(next_room() == topic);
    end();
}

static void test_where_there_is_room_it_is_told_at_once(void)
{
    begin(FWS_SLOW_LOSSLESS, 1000, 100000);
    CHECK_EQ(fws_topic_want_room(topic, 5000), FWS_OK);
    CHECK_EQ(fws_topic_want_room(topic, 98), FWS_OK);
    CHECK(next_room() == topic);
    CHECK(next_room() == NULL);
    end();
}

static void test_the_last_size_that_was_asked_for_counts(void)
{
    begin_full();
    CHECK_EQ(fws_topic_want_room(topic, 98), FWS_OK);
    CHECK(next_room() == NULL);
    CHECK_EQ(fws_topic_want_room(topic, 400), FWS_OK);
    take(&conns[0], 200);
    CHECK(next_room() == NULL);
    take(&conns[0], 300);
    CHECK(next_room() == topic);
    end();
}

static void test_a_message_past_the_limit_waits_until_nobody_is_behind(void)
{
    begin_full();
    CHECK(!fws_topic_never_takes(topic, 5000));
    CHECK_EQ(fws_topic_want_room(topic, 5000), FWS_OK);
    take(&conns[0], 900);
    CHECK(next_room() == NULL);
    take(&conns[0], SIZE_MAX);
    CHECK(next_room() == topic);
    end();
}

/* The budget. */

static const fws_topic_options patient = {
    .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20, .on_slow = FWS_SLOW_LOSSLESS};

/* Publishes until the budget is full of what one lossless member needs; how many were taken. */
static int fill_budget(fws_topic *filled)
{
    int taken = 0;
    uint8_t *room;
    while (fws_topic_reserve(filled, 10000, eseq + 1, &room) == FWS_OK) {
        memset(room, 0, 10000);
        fws_topic_commit(filled, 10000, ++eseq);
        taken++;
    }
    wake_all(&topics);
    return taken;
}

static void test_another_topic_that_lets_go_makes_room_in_the_budget(void)
{
    begin_with(&patient, 300000);
    fws_topic *other = fws_topics_get(&topics, "o", 1, &patient);
    other->configured = true;
    fws_topic_join(topic, &conns[0], NULL);
    CHECK(fill_budget(topic) > 10);
    CHECK(!fws_topic_takes(other, 100000));
    CHECK_EQ(fws_topic_want_room(other, 100000), FWS_OK);
    CHECK(next_room() == NULL);
    CHECK(!fws_topics_room_due(&topics));
    take(&conns[0], 5000); /* less than a slab */
    CHECK(next_room() == NULL);
    fws_topic *found = NULL;
    for (int i = 0; i < 50 && found == NULL; i++) {
        take(&conns[0], 10000);
        found = next_room();
    }
    CHECK(found == other);
    end();
}

static void test_a_policy_that_needs_less_makes_room_in_the_budget(void)
{
    static const fws_topic_options latest = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20, .on_slow = FWS_SLOW_LATEST};
    begin_with(&patient, 300000);
    fws_topic *other = fws_topics_get(&topics, "o", 1, &patient);
    other->configured = true;
    fws_topic_join(topic, &conns[0], NULL);
    fill_budget(topic);
    CHECK_EQ(fws_topic_want_room(other, 100000), FWS_OK);
    CHECK(next_room() == NULL);
    CHECK_EQ(fws_topic_set_options(topic, &latest), FWS_OK);
    CHECK(next_room() == other);
    end();
}

static void test_what_is_larger_than_the_budget_never_fits(void)
{
    begin_with(&patient, 300000);
    CHECK(fws_topic_never_takes(topic, 300000));
    CHECK(!fws_topic_never_takes(topic, 200000));
    CHECK(fws_topic_takes(topic, 200000));
    CHECK(!fws_topic_never_takes(topic, (size_t)FWS_FRAME_LIMIT + 1)); /* that is another error */
    CHECK(fws_topic_takes(topic, (size_t)FWS_FRAME_LIMIT + 1));
    end();
}

/* The end. */

static void test_a_topic_that_is_closed_or_freed_is_not_told_of(void)
{
    begin_full();
    fws_topic *other = fws_topics_get(&topics, "o", 1, topic->options);
    CHECK_EQ(fws_topic_want_room(other, 98), FWS_OK);
    CHECK_EQ(fws_topic_want_room(topic, 98), FWS_OK);
    CHECK(fws_topics_collect(&topics) == NULL); /* nothing needs the other one */
    CHECK(next_room() == NULL);
    fws_topic_close(topic);
    CHECK(next_room() == NULL);
    CHECK(fws_topic_takes(topic, 98)); /* to fail at once */
    CHECK_EQ(topics.account.published, topics.account.delivered + topics.account.dropped);
    for (int i = 0; i < CONNS; i++)
        strip(&conns[i]);
    topic->configured = false;
    fws_topics_clear(&topics);
}

int main(void)
{
    RUN(test_it_is_told_when_the_member_has_taken_enough);
    RUN(test_it_is_told_when_the_member_leaves);
    RUN(test_it_is_told_when_the_member_has_another_policy);
    RUN(test_it_is_told_when_a_wake_has_passed_what_its_members_are_not_to_get);
    RUN(test_where_there_is_room_it_is_told_at_once);
    RUN(test_the_last_size_that_was_asked_for_counts);
    RUN(test_a_message_past_the_limit_waits_until_nobody_is_behind);
    RUN(test_another_topic_that_lets_go_makes_room_in_the_budget);
    RUN(test_a_policy_that_needs_less_makes_room_in_the_budget);
    RUN(test_what_is_larger_than_the_budget_never_fits);
    RUN(test_a_topic_that_is_closed_or_freed_is_not_told_of);
    return 0;
}
