/* Subscriptions with a max_rate: a Close and wildcards in the middle of a rest. */
#include "core/wildcards.h"
#include "topic_fixture.h"

#define MS 1000000ULL

static void rise(void)
{
    while (fws_topics_rested(&topics, now) != NULL)
        continue;
    wake_all(&topics);
}

static fws_sub *join(fws_conn *conn, uint64_t gap_ns)
{
    fws_sub *sub = fws_topic_join(topic, conn, NULL);
    CHECK_EQ(fws_sub_set_max_rate(sub, gap_ns), FWS_OK);
    return sub;
}

static void test_a_flush_that_runs_when_the_close_comes_is_the_last(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    conns[0].state = FWS_OPEN;
    fws_sub *sub = join(&conns[0], 100 * MS);
    now = 1000 * MS;
    for (int i = 0; i < 10; i++)
        publish(100);
    rise();
    take(&conns[0], 500);
    publish(100); /* behind the flush, before the Close */
    conns[0].state = FWS_CLOSING;
    fws_conn_end_rests(&conns[0]);
    take(&conns[0], 500);
    CHECK(!sub->resting);
    CHECK_EQ(take(&conns[0], SIZE_MAX), 100);
    end();
}

static void test_what_was_published_just_before_the_close_leaves(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    conns[0].state = FWS_OPEN;
    join(&conns[0], 100 * MS);
    now = 1000 * MS;
    publish(100);
    rise();
    take(&conns[0], SIZE_MAX);
    publish(100); /* within the gap, and not woken yet */
    conns[0].state = FWS_CLOSING;
    fws_conn_end_rests(&conns[0]);
    rise();
    CHECK_EQ(take(&conns[0], SIZE_MAX), 100);
    end();
}

static void test_rests_that_a_close_ends_are_in_the_heap_at_once(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    conns[0].state = FWS_OPEN;
    fws_sub *sub = join(&conns[0], 100 * MS);
    now = 1000 * MS;
    publish(100);
    rise();
    take(&conns[0], SIZE_MAX);
    publish(100);
    rise();
    CHECK(sub->resting);
    conns[0].state = FWS_CLOSING;
    fws_conn_end_rests(&conns[0]);
    CHECK(!sub->resting && sub->pending);
    CHECK_EQ(take(&conns[0], SIZE_MAX), 100);
    end();
}

static void test_a_topic_is_not_made_anew_before_its_members_may_send_again(void)
{
    const fws_topic_options plain = {.retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20};
    fws_wild asked = {.gap_ns = 100 * MS, .own = {.prefix_n = 2, .prefix = "a."}};
    begin_with(&plain, 0);
    conns[0].state = FWS_OPEN;
    now = 1000 * MS;
    CHECK_EQ(fws_conn_join_wild(&topics, &conns[0], &asked, &eseq), FWS_OK);
    uint32_t flushes = 0;
    for (int i = 0; i < 1000; i++, now += MS) {
        fws_topic *named = fws_topics_open(&topics, "a.1", 3, &plain);
        append_frame(named, (const uint8_t *)"frame", 5, ++eseq);
        rise();
        flushes += take(&conns[0], SIZE_MAX) > 0;
        fws_topics_close_idle(&topics);
        CHECK(fws_topics_collect(&topics) == NULL);
    }
    CHECK(flushes == 10 || flushes == 11);
    now += 1000 * MS;
    rise();
    take(&conns[0], SIZE_MAX);
    now += 1000 * MS;
    fws_topics_sweep(&topics);
    fws_topics_close_idle(&topics);
    CHECK(fws_topics_collect(&topics) == NULL);
    CHECK(fws_topics_find(&topics, "a.1", 3) == NULL);
    fws_conn_drop_wilds(&conns[0]);
    end();
}

int main(void)
{
    RUN(test_a_flush_that_runs_when_the_close_comes_is_the_last);
    RUN(test_what_was_published_just_before_the_close_leaves);
    RUN(test_rests_that_a_close_ends_are_in_the_heap_at_once);
    RUN(test_a_topic_is_not_made_anew_before_its_members_may_send_again);
    return 0;
}
