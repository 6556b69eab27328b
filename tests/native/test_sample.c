/* How long a frame takes to the last member: who is waited for, and when that is over. */
#include "core/sample.h"
#include "topic_fixture.h"

/* Publishes and begins to measure. */
static void publish_sampled(uint64_t at)
{
    publish(100);
    fws_topic_sample(topic, at);
    CHECK(topic->sample != NULL);
}

static uint64_t recorded(uint64_t at)
{
    fws_topics_sampled(&topics, at);
    return topics.latency.total;
}

static void test_the_last_member_ends_it(void)
{
    begin(FWS_SLOW_LATEST, 100000, 100000);
    for (int i = 0; i < 3; i++)
        fws_topic_join(topic, &conns[i], NULL);
    publish(100);
    publish_sampled(1000);
    publish(100);
    deliver(&conns[0], SIZE_MAX);
    deliver(&conns[1], SIZE_MAX);
    deliver(&conns[2], 100);
    CHECK_EQ(recorded(2000), 0);
    take(&conns[2], 100);
    CHECK_EQ(topics.n_sampled, 1);
    CHECK_EQ(recorded(6000), 1);
    CHECK_EQ(topics.latency.max, 5000);
    CHECK(topic->sample == NULL && topics.n_sampled == 0);
    take(&conns[2], SIZE_MAX);
    CHECK_EQ(recorded(7000), 1);
    end();
}

static void test_who_joins_later_is_not_waited_for(void)
{
    static const fws_topic_options kept = {.retention_bytes = 100000,
                                           .max_lag_bytes = 100000,
                                           .on_slow = FWS_SLOW_LATEST,
                                           .history_messages = 100};
    begin_with(&kept, 0);
    fws_topic_join(topic, &conns[0], NULL);
    publish_sampled(1000);
    CHECK(fws_topic_join_at(topic, &conns[1], NULL, 0, ++eseq) != NULL);
    take(&conns[1], SIZE_MAX); /* it has passed the frame, in a replay */
    CHECK_EQ(recorded(2000), 0);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(recorded(3000), 1);
    end();
}

static void test_what_is_left_out_is_passed(void)
{
    begin(FWS_SLOW_LATEST, 1000, 100000);
    fws_topic_join(topic, &conns[0], NULL);
    fws_sub *without = fws_topic_join(topic, &conns[1], NULL);
    CHECK_EQ(fws_sub_exclude(without), FWS_OK);
    publish_sampled(1000);
    wake_all(&topics);
    stall(&conns[0]);
    CHECK_EQ(recorded(2000), 0);
    for (int i = 0; i < 50; i++)
        publish(100);
    take(&conns[0], 0); /* its policy jumps */
    take(&conns[1], SIZE_MAX);
    deliver(&conns[1], SIZE_MAX);
    CHECK_EQ(recorded(3000), 1);
    end();
}

static void test_who_leaves_is_not_waited_for_and_makes_no_record(void)
{
    begin(FWS_SLOW_LATEST, 100000, 100000);
    for (int i = 0; i < 2; i++)
        fws_topic_join(topic, &conns[i], NULL);
    publish_sampled(1000);
    fws_topic_leave(fws_conn_find_sub(&conns[0], topic));
    CHECK_EQ(recorded(2000), 0);
    deliver(&conns[1], SIZE_MAX);
    CHECK_EQ(recorded(3000), 1);
    publish_sampled(4000);
    fws_topic_leave(fws_conn_find_sub(&conns[1], topic));
    CHECK(topic->sample == NULL);
    CHECK_EQ(recorded(5000), 1);
    end();
}

static void test_places_are_few_and_an_old_one_gives_way(void)
{
    char name[8];
    begin(FWS_SLOW_LATEST, 100000, 100000);
    fws_topic *others[FWS_SAMPLES + 1];
    for (int i = 0; i <= FWS_SAMPLES; i++) {
        snprintf(name, sizeof name, "o%d", i);
        others[i] = fws_topics_get(&topics, name, strlen(name), topic->options);
        fws_topic_join(others[i], &conns[0], NULL);
        append_frame(others[i], (const uint8_t *)"frame", 5, ++eseq);
        fws_topic_sample(others[i], 1000 + (uint64_t)i);
        CHECK((others[i]->sample != NULL) == (i < FWS_SAMPLES));
    }
    fws_topic_sample(others[FWS_SAMPLES], 1000 + FWS_SAMPLE_NS);
    CHECK(others[0]->sample == NULL && others[FWS_SAMPLES]->sample != NULL);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(recorded(2000), FWS_SAMPLES);
    end();
}

static void test_nobody_makes_no_sample(void)
{
    begin(FWS_SLOW_LATEST, 100000, 100000);
    publish(100);
    fws_topic_sample(topic, 1000);
    CHECK(topic->sample == NULL);
    end();
}

int main(void)
{
    RUN(test_the_last_member_ends_it);
    RUN(test_who_joins_later_is_not_waited_for);
    RUN(test_what_is_left_out_is_passed);
    RUN(test_who_leaves_is_not_waited_for_and_makes_no_record);
    RUN(test_places_are_few_and_an_old_one_gives_way);
    RUN(test_nobody_makes_no_sample);
    return 0;
}
