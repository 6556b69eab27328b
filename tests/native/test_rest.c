/* Subscriptions with a max_rate: when they send, what they leave out, what they keep. */
#include "topic_fixture.h"

#define MS 1000000ULL

/* Where the engine's flush does it: those whose time has come, and the news of all topics. */
static uint32_t rise(void)
{
    uint32_t risen = 0;
    while (fws_topics_rested(&topics, now) != NULL)
        risen++;
    wake_all(&topics);
    return risen;
}

static fws_sub *join(fws_conn *conn, uint64_t gap_ns)
{
    fws_sub *sub = fws_topic_join(topic, conn, NULL);
    CHECK_EQ(fws_sub_set_max_rate(sub, gap_ns), FWS_OK);
    return sub;
}

/* Publishes every millisecond for so long; returns how many flushes there were. */
static uint32_t run(fws_conn *conn, uint64_t ms, size_t n)
{
    uint32_t flushes = 0;
    for (uint64_t i = 0; i < ms; i++) {
        now += MS;
        publish(n);
        rise();
        flushes += take(conn, SIZE_MAX) > 0;
        check_account(topic);
    }
    return flushes;
}

static void test_it_sends_at_most_so_often(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *sub = join(&conns[0], 20 * MS);
    now = 1000 * MS;
    uint32_t flushes = run(&conns[0], 1000, 100);
    CHECK(flushes == 50 || flushes == 51);
    now += 20 * MS;
    CHECK_EQ(rise(), 1);
    take(&conns[0], SIZE_MAX);
    CHECK_EQ(delivered(sub), 1000); /* nothing is left out but with `latest` */
    CHECK_EQ(sub->seq, topic->log.next_seq);
    end();
}

static void test_being_late_makes_it_no_slower(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    join(&conns[0], 16666667);
    now = 1000 * MS;
    uint32_t flushes = run(&conns[0], 3000, 10); /* it rises up to 1 ms late */
    CHECK(flushes >= 180 && flushes <= 182);
    end();
}

static void test_what_came_last_leaves_without_another_publish(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *sub = join(&conns[0], 100 * MS);
    now = 1000 * MS;
    publish(10);
    rise();
    take(&conns[0], SIZE_MAX);
    publish(10);
    CHECK_EQ(rise(), 0);
    CHECK_EQ(take(&conns[0], SIZE_MAX), 0);
    CHECK(sub->resting && !sub->pending);
    CHECK_EQ(fws_conn_snapshot(&conns[0], now).pending, 1);
    CHECK_EQ(fws_topics_rest_until(&topics), now + 100 * MS);
    now += 100 * MS;
    CHECK_EQ(rise(), 1);
    CHECK_EQ(take(&conns[0], SIZE_MAX), 10);
    CHECK_EQ(fws_topics_rest_until(&topics), UINT64_MAX);
    end();
}

static void test_the_newest_is_all_that_latest_gets(void)
{
    begin(FWS_SLOW_LATEST, 1 << 20, 1 << 20);
    fws_sub *sub = join(&conns[0], 10 * MS);
    now = 1000 * MS;
    CHECK_EQ(run(&conns[0], 100, 100), 10);
    now += 10 * MS;
    rise();
    take(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->seq, topic->log.next_seq);
    fws_reader_account account = fws_sub_snapshot(sub, now);
    CHECK_EQ(account.delivered, 11);
    CHECK_EQ(account.conflated, 89);
    end();
}

static void test_who_rests_keeps_no_slab_that_the_retention_takes(void)
{
    begin(FWS_SLOW_DROP_OLDEST, 10000, 20000);
    fws_sub *sub = join(&conns[0], 1000 * MS);
    now = 1000 * MS;
    publish(100);
    rise();
    take(&conns[0], SIZE_MAX);
    for (int i = 0; i < 10000; i++) {
        publish(100);
        rise();
    }
    CHECK(sub->resting && fws_sub_lapped(sub));
    CHECK(fws_log_retained(&topic->log) < 200000);
    check_account(topic);
    now += 1000 * MS;
    CHECK_EQ(rise(), 1);
    while (take(&conns[0], SIZE_MAX) > 0)
        continue;
    fws_reader_account account = fws_sub_snapshot(sub, now);
    CHECK(account.delivered > 50 && account.delivered <= 2000 && account.pending == 0);
    CHECK_EQ(account.dropped, 10001 - account.delivered);
    end();
}

static void test_a_half_sent_flush_goes_on(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *sub = join(&conns[0], 100 * MS);
    now = 1000 * MS;
    for (int i = 0; i < 10; i++)
        publish(100);
    rise();
    take(&conns[0], 250);
    publish(100); /* belongs to the next flush */
    take(&conns[0], 500);
    CHECK(sub->pending);
    take(&conns[0], 249); /* the last frame of the flush is half sent: it leaves whole */
    CHECK(sub->resting && sub->partial);
    CHECK_EQ(fws_conn_snapshot(&conns[0], now).pending, 2);
    CHECK_EQ(take(&conns[0], SIZE_MAX), 1);
    now += MS;
    CHECK_EQ(take(&conns[0], SIZE_MAX), 0);
    CHECK(sub->resting && !sub->partial);
    end();
}

static void test_leaving_and_ending_while_it_rests(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    now = 1000 * MS;
    for (int i = 0; i < CONNS; i++)
        join(&conns[i], (uint64_t)(100 - i) * MS);
    publish(10);
    rise();
    for (int i = 0; i < CONNS; i++)
        CHECK_EQ(take(&conns[i], SIZE_MAX), 10);
    publish(10);
    rise();
    CHECK_EQ(topics.n_resting, CONNS);
    for (int i = 0; i < CONNS; i += 3) {
        fws_topic_leave(fws_conn_find_sub(&conns[i], topic));
        check_account(topic);
    }
    now += 75 * MS; /* those with a gap of up to 75 ms */
    uint32_t expected = 0;
    for (int i = 25; i < CONNS; i++)
        expected += i % 3 != 0;
    CHECK_EQ(rise(), expected);
    fws_conn_end_rests(&conns[1]); /* that one closes: what rests leaves before the Close */
    CHECK_EQ(take(&conns[1], SIZE_MAX), 10);
    end();
    CHECK_EQ(topics.n_resting, 0);
}

static void test_another_rate_counts_at_once(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *sub = join(&conns[0], 10000 * MS);
    now = 1000 * MS;
    publish(10);
    rise();
    take(&conns[0], SIZE_MAX);
    publish(10);
    rise();
    CHECK(sub->resting);
    CHECK_EQ(fws_sub_set_max_rate(sub, 20 * MS), FWS_OK);
    CHECK_EQ(rise(), 1);
    take(&conns[0], SIZE_MAX);
    CHECK_EQ(fws_sub_set_max_rate(sub, 0), FWS_OK);
    for (int i = 0; i < 5; i++) {
        publish(10);
        rise();
        CHECK_EQ(take(&conns[0], SIZE_MAX), 10);
    }
    end();
}

int main(void)
{
    test_it_sends_at_most_so_often();
    test_being_late_makes_it_no_slower();
    test_what_came_last_leaves_without_another_publish();
    test_the_newest_is_all_that_latest_gets();
    test_who_rests_keeps_no_slab_that_the_retention_takes();
    test_a_half_sent_flush_goes_on();
    test_leaving_and_ending_while_it_rests();
    test_another_rate_counts_at_once();
    return 0;
}
