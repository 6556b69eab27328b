/* Subscriptions with a max_rate in an engine: its timer, and a Close in the middle of a rest. */
#include "engine_fixture.h"

static int subscribe_at_most(const fake_peer *peer, fws_topic *topic, uint64_t gap_ns)
{
    const fws_command what = {
        .kind = FWS_CMD_SUBSCRIBE, .conn = peer->tag, .topic = topic, .gap_ns = gap_ns};
    return fws_engine_command(engine, &what);
}

static void test_the_source_does_not_wait_for_those_who_rest(void)
{
    engine_open(&OPTIONS);
    fws_topic *feed = topic_of(FWS_SLOW_LATEST, 1 << 20),
              *other = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fws_source_init(&engine->source, feed, 1, FWS_TICK_BINARY, FWS_TICK_BASE, FWS_LATE_BURST);
    fws_source_set_rate(&engine->source, net.now, 3333, false);
    const fake_peer *peer = client();
    subscribe(peer, feed);
    CHECK_EQ(subscribe_at_most(peer, other, 7 * SECOND / 1000), FWS_OK);
    uint32_t rested = 0;
    for (int i = 0; i < 2000; i++) {
        net.now += SECOND / 20000;
        CHECK_EQ(publish(other, "news"), FWS_OK);
        turn();
        rested += engine->topics.n_resting;
        CHECK(engine->source_at <= engine->now || engine->timer_at <= engine->source_at);
        CHECK(engine->sweep_at <= engine->now || engine->timer_at <= engine->sweep_at);
    }
    CHECK(rested > 1000);
    engine_close();
}

static void test_what_was_published_before_a_close_leaves_before_it(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client();
    CHECK_EQ(subscribe_at_most(peer, topic, SECOND), FWS_OK);
    CHECK_EQ(publish(topic, "first"), FWS_OK);
    rest();
    CHECK_EQ(publish(topic, "last"), FWS_OK);
    CHECK_EQ(say_goodbye(peer, 1000), FWS_OK);
    rest();
    CHECK_EQ(peer->out_n, 2 + 5 + 2 + 4 + 2 + 2 + 3);
    CHECK(memcmp(peer->out + 7, "\x81\x04last\x88", 7) == 0);
    engine_close();
}

static void test_who_rests_and_is_excluded_holds_few_runs(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 1 << 20);
    const fake_peer *peer = client();
    CHECK_EQ(subscribe_at_most(peer, topic, 10000 * SECOND), FWS_OK);
    const fws_sub *sub = fws_conn_find_sub(conn_of(peer), topic);
    uint32_t most = 0;
    for (uint32_t i = 0; i < 3 * FWS_RUNS_MOST; i++) {
        CHECK_EQ(command(FWS_CMD_PUBLISH, peer, topic, 0, "own", 3), FWS_OK);
        CHECK_EQ(publish(topic, "other"), FWS_OK);
        turn();
        most = fws_sub_runs(sub) > most ? fws_sub_runs(sub) : most;
    }
    CHECK(most > FWS_RUNS_MOST / 2 && most <= FWS_RUNS_MOST + 1);
    CHECK(sub->resting);
    engine_close();
}

int main(void)
{
    RUN(test_the_source_does_not_wait_for_those_who_rest);
    RUN(test_what_was_published_before_a_close_leaves_before_it);
    RUN(test_who_rests_and_is_excluded_holds_few_runs);
    return 0;
}
