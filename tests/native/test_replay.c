/* Subscriptions that begin in the past: with the frame that they ask for, or the retained one. */
#include "topic_fixture.h"

#define MS 1000000ULL

static void begin_with_history(uint8_t on_slow, uint64_t max_lag, uint64_t messages)
{
    const fws_topic_options options = {.retention_bytes = max_lag,
                                       .max_lag_bytes = max_lag,
                                       .on_slow = on_slow,
                                       .history_messages = messages};
    begin_with(&options, 0);
}

static void begin_retained(void)
{
    const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20, .retain = true};
    begin_with(&options, 0);
}

static void test_what_follows_comes_once_and_then_what_is_published(void)
{
    for (uint64_t from = 0; from <= 500; from += 50) {
        begin_with_history(FWS_SLOW_CLOSE, 1 << 20, 500);
        for (int i = 0; i < 500; i++)
            publish(100);
        fws_sub *sub = fws_topic_join_at(topic, &conns[0], NULL, from, ++eseq);
        check_account(topic);
        CHECK_EQ(fws_sub_snapshot(sub, 0).published, 500 - from);
        CHECK_EQ(topic->caught, from == 500);
        publish(100);
        CHECK_EQ(take(&conns[0], 250), from < 500 ? 250 : 0); /* it was not woken yet */
        deliver(&conns[0], SIZE_MAX);
        CHECK_EQ(delivered(sub), 501 - from);
        CHECK_EQ(topic->caught, 1);
        publish(100);
        deliver(&conns[0], SIZE_MAX);
        CHECK_EQ(delivered(sub), 502 - from);
        end();
    }
}

static void test_others_are_not_disturbed_by_a_replay(void)
{
    begin_with_history(FWS_SLOW_CLOSE, 1 << 20, 100);
    fws_sub *live = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 300; i++) {
        publish(100);
        if (i % 50 == 49)
            fws_topic_join_at(topic, &conns[1 + i / 50], NULL, topic->log.next_seq - 30, ++eseq);
        check_account(topic);
    }
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(live), 300);
    CHECK_EQ(topic->account.published, 300 + 6 * 30 + (250 + 200 + 150 + 100 + 50));
    end();
}

/* History larger than the limits of a subscriber may be sent to it: they bound what comes after. */
static void test_what_is_replayed_is_no_lag(void)
{
    for (uint8_t policy = FWS_SLOW_CLOSE; policy <= FWS_SLOW_DROP_OLDEST; policy++) {
        if (policy == FWS_SLOW_LOSSLESS)
            continue;
        begin_with_history(policy, 1000, 1000);
        for (int i = 0; i < 1000; i++)
            publish(100);
        fws_sub *sub = fws_topic_join_at(topic, &conns[0], NULL, 0, ++eseq);
        take(&conns[0], 250);
        stall(&conns[0]);
        CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
        for (int i = 0; i < 10; i++)
            publish(100);
        CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
        CHECK_EQ(sub->dropped, 0);
        publish(100);
        CHECK_EQ(fws_sub_apply_policy(sub), policy == FWS_SLOW_CLOSE ? FWS_E_SLOW : FWS_OK);
        CHECK(policy == FWS_SLOW_CLOSE ? sub->dropped == 0 : sub->dropped >= 998);
        if (policy != FWS_SLOW_CLOSE)
            deliver(&conns[0], SIZE_MAX);
        end();
    }
}

/* A lossless subscriber gets all of it: the publisher waits until it has. */
static void test_a_lossless_replay_holds_the_publisher(void)
{
    uint8_t *room;
    begin_with_history(FWS_SLOW_LOSSLESS, 1000, 100);
    for (int i = 0; i < 100; i++)
        publish(100);
    fws_sub *sub = fws_topic_join_at(topic, &conns[0], NULL, 20, ++eseq);
    CHECK_EQ(fws_topic_reserve(topic, 100, eseq + 1, &room), FWS_E_FULL);
    take(&conns[0], 70 * 100 + 50);
    CHECK_EQ(fws_topic_reserve(topic, 100, eseq + 1, &room), FWS_OK);
    CHECK_EQ(fws_topic_reserve(topic, 101, eseq + 1, &room), FWS_E_FULL);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 80);
    publish(5000);
    deliver(&conns[0], SIZE_MAX);
    end();
}

static void test_what_is_replayed_stays_until_it_has_been_sent(void)
{
    begin_with_history(FWS_SLOW_CLOSE, 1 << 20, 100);
    for (int i = 0; i < 5000; i++)
        publish(100);
    uint64_t from = topic->log.next_seq - 100;
    fws_sub *sub = fws_topic_join_at(topic, &conns[0], NULL, from, ++eseq);
    for (int i = 0; i < 9000; i++)
        publish(100);
    CHECK(!fws_sub_lapped(sub));
    while (fws_conn_pending(&conns[0]))
        deliver(&conns[0], 7777);
    CHECK_EQ(delivered(sub), 9100);
    CHECK(topic->log.next_seq - topic->log.first_seq <= 100 + FWS_SLAB_BYTES / 100);
    end();
}

static void test_the_newest_message_is_retained_and_comes_first(void)
{
    begin_retained();
    CHECK_EQ(fws_topic_start(topic, NULL), 0);
    fws_sub *early = fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(fws_sub_snapshot(early, 0).published, 0);
    for (int i = 0; i < 3000; i++) {
        publish(100);
        deliver(&conns[0], SIZE_MAX);
        CHECK(topic->log.held <= 2 * (FWS_SLAB_BYTES + 8 * FWS_SLAB_FRAMES));
    }
    fws_sub *sub = fws_topic_join(topic, &conns[1], NULL);
    CHECK_EQ(fws_sub_snapshot(sub, 0).published, 1);
    CHECK_EQ(take(&conns[1], SIZE_MAX), 100);
    publish(50);
    deliver(&conns[1], SIZE_MAX);
    CHECK_EQ(delivered(sub), 2);
    CHECK_EQ(delivered(early), 3000);
    fws_topic_options without = *topic->options;
    without.retain = false;
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(fws_topic_set_options(topic, &without), FWS_OK);
    CHECK_EQ(topic->log.held, 0);
    CHECK_EQ(fws_topic_start(topic, NULL), topic->log.next_seq);
    end();
}

/* Behind what was sent before the subscription, in front of what comes after it. */
static void test_a_replay_leaves_in_the_place_of_its_subscription(void)
{
    static const uint8_t hello[] = "hello", bye[] = "bye";
    begin_with_history(FWS_SLOW_CLOSE, 1 << 20, 100);
    publish(100);
    fws_outbox *outbox = &conns[0].outbox;
    CHECK(fws_outbox_push(outbox, ++eseq, FWS_ENTRY_BYTES, 0, hello, 5, NULL, 0) != NULL);
    fws_topic_join_at(topic, &conns[0], NULL, 0, ++eseq);
    CHECK(fws_outbox_push(outbox, ++eseq, FWS_ENTRY_BYTES, 0, bye, 3, NULL, 0) != NULL);
    publish(50);
    CHECK_EQ(take(&conns[0], 5), 5);
    CHECK(conns[0].partial.data == NULL && !fws_outbox_empty(outbox));
    CHECK_EQ(take(&conns[0], 100), 100);
    CHECK_EQ(delivered(fws_conn_find_sub(&conns[0], topic)), 1);
    CHECK_EQ(take(&conns[0], 3), 3);
    CHECK(fws_outbox_empty(outbox));
    CHECK_EQ(take(&conns[0], 100), 50);
    end();
}

/* A topic that was only named stays for what it retains. */
static void test_what_is_retained_keeps_a_topic(void)
{
    begin_retained();
    fws_topic *named = fws_topics_get(&topics, "named", 5, topic->options);
    append_frame(named, "hello", 5, ++eseq);
    CHECK(fws_topics_collect(&topics) == NULL);
    CHECK(fws_topics_find(&topics, "named", 5) == named);
    end();
}

int main(void)
{
    RUN(test_what_follows_comes_once_and_then_what_is_published);
    RUN(test_others_are_not_disturbed_by_a_replay);
    RUN(test_what_is_replayed_is_no_lag);
    RUN(test_a_lossless_replay_holds_the_publisher);
    RUN(test_what_is_replayed_stays_until_it_has_been_sent);
    RUN(test_the_newest_message_is_retained_and_comes_first);
    RUN(test_a_replay_leaves_in_the_place_of_its_subscription);
    RUN(test_what_is_retained_keeps_a_topic);
    return 0;
}
