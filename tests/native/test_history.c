/* What is kept without a subscriber who needs it: history, and the budget of all logs. */
#include "topic_fixture.h"

#define SECOND 1000000000ULL
#define OTHERS 10

static fws_topic_options keeping(void)
{
    return (fws_topic_options){.retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20};
}

static uint64_t retained(void)
{
    return fws_log_retained(&topic->log);
}

static void test_without_history_nothing_is_kept(void)
{
    fws_topic_options options = keeping();
    begin_with(&options, 0);
    for (int i = 0; i < 1000; i++)
        publish(100);
    CHECK_EQ(topics.logs.bytes, 0);
    CHECK_EQ(topic->log.next_seq, 1000);
    CHECK(fws_topic_recovers(topic, topic->epoch, 1000));
    end();
}

/* At least so many, at most a slab more. */
static void test_history_keeps_so_many_messages(void)
{
    fws_topic_options options = keeping();
    options.history_messages = 250;
    for (int members = 0; members <= 1; members++) {
        begin_with(&options, 0);
        if (members > 0)
            fws_topic_join(topic, &conns[0], NULL);
        for (uint64_t i = 1; i <= 5000; i++) {
            publish(100);
            deliver(&conns[0], SIZE_MAX);
            uint64_t kept = topic->log.next_seq - topic->log.first_seq;
            CHECK(kept >= (i < 250 ? i : 250) && kept <= 250 + FWS_SLAB_BYTES / 100);
        }
        CHECK(fws_topic_recovers(topic, topic->epoch, 4750));
        CHECK(!fws_topic_recovers(topic, topic->epoch, 100));
        end();
    }
}

static void test_history_keeps_so_many_bytes(void)
{
    fws_topic_options options = keeping();
    options.history_bytes = 30000;
    for (size_t n = 10; n <= 20000; n *= 40) {
        begin_with(&options, 0);
        for (uint64_t bytes = n; bytes < 2000000; bytes += n) {
            publish(n);
            CHECK(retained() >= (bytes < 30000 ? bytes : 30000));
            CHECK(retained() <= 30000 + FWS_SLAB_BYTES + n);
        }
        end();
    }
}

static void test_history_goes_by_age(void)
{
    fws_topic_options options = keeping();
    options.history_ns = 60 * SECOND;
    begin_with(&options, 0);
    for (uint64_t i = 0; i < 3600; i++, now += SECOND) {
        publish(1000);
        fws_topics_sweep(&topics);
        CHECK(retained() >= 1000 * (i < 60 ? i + 1 : 60));
        CHECK(retained() <= 60000 + 2 * FWS_SLAB_BYTES);
    }
    end();
}

/* A topic that was only named goes when its history has gone. */
static void test_a_quiet_topic_goes_with_the_last_of_its_history(void)
{
    fws_topic_options options = keeping();
    options.history_ns = 60 * SECOND;
    begin_with(&options, 0);
    fws_topic *named = fws_topics_get(&topics, "named", 5, &options);
    append_frame(named, "hello", 5, ++eseq);
    CHECK(fws_topics_collect(&topics) == NULL);
    now += 59 * SECOND;
    fws_topics_sweep(&topics);
    CHECK(fws_topics_collect(&topics) == NULL);
    CHECK(fws_topics_find(&topics, "named", 5) == named);
    now += 62 * SECOND;
    fws_topics_sweep(&topics);
    CHECK(fws_topics_collect(&topics) == NULL);
    CHECK(fws_topics_find(&topics, "named", 5) == NULL);
    end();
}

static void test_history_by_age_may_be_asked_for_later(void)
{
    fws_topic_options options = keeping();
    options.history_messages = 10;
    begin_with(&options, 0);
    publish(100);
    now += 3600 * SECOND;
    options.history_ns = 60 * SECOND;
    CHECK_EQ(fws_topic_set_options(topic, &options), FWS_OK);
    CHECK_EQ(retained(), 100);
    now += 61 * SECOND;
    fws_topics_sweep(&topics);
    CHECK_EQ(retained(), 0);
    end();
}

/* The strictest limit decides. */
static void test_limits_of_history_hold_together(void)
{
    fws_topic_options options = keeping();
    options.history_messages = 100;
    options.history_bytes = 1000000;
    options.history_ns = 1000000 * SECOND;
    begin_with(&options, 0);
    for (int i = 0; i < 5000; i++)
        publish(100);
    CHECK(topic->log.next_seq - topic->log.first_seq <= 100 + FWS_SLAB_BYTES / 100);
    options.history_messages = 10000;
    options.history_bytes = 20000;
    CHECK_EQ(fws_topic_set_options(topic, &options), FWS_OK);
    for (int i = 0; i < 5000; i++)
        publish(100);
    CHECK(retained() <= 20000 + FWS_SLAB_BYTES);
    options = keeping();
    CHECK_EQ(fws_topic_set_options(topic, &options), FWS_OK);
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

/* The budget: all logs together. */

static fws_topic *other[OTHERS];

/* Topics besides the fixture's, each with a history that nothing but the budget limits. */
static void begin_with_others(uint64_t most)
{
    fws_topic_options options = keeping();
    options.history_bytes = 1 << 30;
    begin_with(&options, most);
    for (int i = 0; i < OTHERS; i++) {
        char name = (char)('0' + i);
        other[i] = fws_topics_get(&topics, &name, 1, &options);
        CHECK(other[i] != NULL);
        other[i]->configured = true;
    }
}

static int try_append(fws_topic *to, size_t n)
{
    uint8_t *room;
    int status = fws_topic_reserve(to, n, eseq + 1, &room);
    if (status != FWS_OK)
        return status;
    memset(room, 'x', n);
    fws_topic_commit(to, n, ++eseq);
    return FWS_OK;
}

static void test_the_logs_that_hold_most_go_first(void)
{
    begin_with_others(600000);
    for (int i = 0; i < OTHERS; i++)
        for (int k = 0; k < 20; k++)
            CHECK_EQ(try_append(other[i], 500), FWS_OK);
    for (int k = 0; k < 5000; k++) {
        CHECK_EQ(try_append(topic, 500), FWS_OK);
        CHECK(topics.logs.bytes <= 600000);
    }
    for (int i = 0; i < OTHERS; i++)
        CHECK_EQ(other[i]->log.first_seq, 0); /* small ones keep what they have */
    CHECK(topic->log.first_seq > 0);
    CHECK(retained() >= 150000);
    CHECK_EQ(topics.budget_dropped, 0); /* nobody had to get it */
    end();
}

static void test_a_reader_lapped_by_the_budget_meets_its_policy(void)
{
    for (uint8_t policy = FWS_SLOW_CLOSE; policy <= FWS_SLOW_LATEST; policy++) {
        fws_topic_options options = keeping();
        options.on_slow = policy;
        begin_with(&options, 300000);
        fws_sub *woken = fws_topic_join(topic, &conns[0], NULL);
        publish(1000);
        wake_all(&topics);
        fws_sub *caught_up = fws_topic_join(topic, &conns[1], NULL);
        for (int i = 0; i < 2000; i++)
            CHECK_EQ(try_append(topic, 1000), FWS_OK);
        CHECK(fws_sub_lapped(woken) && fws_sub_lapped(caught_up));
        CHECK(topics.budget_dropped > 0);
        wake_all(&topics);
        check_account(topic);
        for (int i = 0; i < 2; i++) {
            static fws_plan plan;
            int status = fws_gather(&conns[i], &plan, UINT64_MAX);
            CHECK_EQ(status, policy == FWS_SLOW_CLOSE ? FWS_E_SLOW : FWS_OK);
            fws_commit(&conns[i], &plan, plan.bytes);
            check_account(topic);
        }
        CHECK_EQ(topic->account.delivered, policy == FWS_SLOW_CLOSE ? 0 : 2);
        end();
    }
}

static void test_a_reader_whose_log_the_budget_emptied_goes_on_with_the_next_frame(void)
{
    static const fws_topic_options latest = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20, .on_slow = FWS_SLOW_LATEST};
    begin_with_others(300000);
    CHECK_EQ(fws_topic_set_options(topic, &latest), FWS_OK);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(try_append(topic, 250000), FWS_OK);
    wake_all(&topics);
    stall(&conns[0]);
    CHECK_EQ(try_append(other[0], 200000), FWS_OK);
    CHECK(fws_log_oldest(&topic->log) == NULL && fws_sub_lapped(sub));
    check_account(topic);
    CHECK_EQ(take(&conns[0], SIZE_MAX), 0);
    CHECK_EQ(sub->dropped, 1);
    CHECK(!sub->pending);
    CHECK_EQ(try_append(topic, 1000), FWS_OK);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 1);
    end();
}

static void test_the_budget_never_takes_what_a_lossless_member_needs(void)
{
    static const fws_topic_options lossless = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20, .on_slow = FWS_SLOW_LOSSLESS};
    for (int woken = 0; woken <= 1; woken++) {
        begin_with_others(300000);
        fws_sub *sub = fws_topic_join(topic, &conns[0], &lossless);
        int status;
        while ((status = try_append(topic, 1000)) == FWS_OK)
            if (woken)
                wake_all(&topics);
        CHECK_EQ(status, FWS_E_FULL);
        CHECK(retained() > 100000);
        CHECK(!fws_sub_lapped(sub));
        CHECK_EQ(try_append(other[0], 200000), FWS_E_FULL); /* nothing else could go */
        while (fws_topic_snapshot(topic).pending > 0)
            deliver(&conns[0], SIZE_MAX);
        CHECK_EQ(try_append(topic, 1000), FWS_OK);
        CHECK_EQ(try_append(other[0], 500), FWS_OK);
        CHECK_EQ(topic->account.dropped, 0);
        end();
    }
}

static void test_a_frame_larger_than_the_budget_costs_nobody_anything(void)
{
    begin_with_others(300000);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(try_append(topic, 1000), FWS_OK);
    CHECK_EQ(try_append(other[0], 300001), FWS_E_FULL);
    CHECK_EQ(topic->log.first_seq, 0);
    end();
}

/* What a topic was only named for goes when the budget takes its history. */
static void test_a_topic_goes_with_history_that_the_budget_takes(void)
{
    begin_with_others(300000);
    other[0]->configured = false;
    for (int i = 0; i < 250; i++)
        CHECK_EQ(try_append(other[0], 1000), FWS_OK);
    CHECK(fws_topics_collect(&topics) == NULL);
    CHECK(fws_topics_find(&topics, "0", 1) == other[0]);
    fws_topic_options options = keeping();
    CHECK_EQ(fws_topic_set_options(topic, &options), FWS_OK);
    fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(try_append(topic, 290000), FWS_OK);
    CHECK(fws_topics_collect(&topics) == NULL);
    CHECK(fws_topics_find(&topics, "0", 1) == NULL);
    end();
}

int main(void)
{
    RUN(test_without_history_nothing_is_kept);
    RUN(test_history_keeps_so_many_messages);
    RUN(test_history_keeps_so_many_bytes);
    RUN(test_history_goes_by_age);
    RUN(test_a_quiet_topic_goes_with_the_last_of_its_history);
    RUN(test_history_by_age_may_be_asked_for_later);
    RUN(test_limits_of_history_hold_together);
    RUN(test_the_logs_that_hold_most_go_first);
    RUN(test_a_reader_lapped_by_the_budget_meets_its_policy);
    RUN(test_a_reader_whose_log_the_budget_emptied_goes_on_with_the_next_frame);
    RUN(test_the_budget_never_takes_what_a_lossless_member_needs);
    RUN(test_a_frame_larger_than_the_budget_costs_nobody_anything);
    RUN(test_a_topic_goes_with_history_that_the_budget_takes);
    return 0;
}
