/* Explicit subscriptions where the connection has the topic by a wildcard. */
#include "core/wildcards.h"
#include "engine_fixture.h"

static int subscribe_all(const fake_peer *peer, const char *prefix)
{
    fws_wild_options own = {.prefix_n = (uint8_t)strlen(prefix)};
    memcpy(own.prefix, prefix, strlen(prefix));
    return command(FWS_CMD_SUBSCRIBE_ALL, peer, NULL, 0, &own, sizeof own);
}

static int subscribe_with(const fake_peer *peer, fws_topic *topic, bool since, bool envelope)
{
    const fws_command what = {.kind = FWS_CMD_SUBSCRIBE,
                              .conn = peer->tag,
                              .topic = topic,
                              .since = since,
                              .envelope = envelope};
    return fws_engine_command(engine, &what);
}

static fws_topic *open_with(uint32_t most)
{
    fws_options options = OPTIONS;
    options.max_subscriptions = most;
    engine_open(&options);
    return topic_of(FWS_SLOW_LATEST, 10000);
}

static void test_a_refused_subscription_leaves_the_wildcard_in_force(void)
{
    fws_topic *first = open_with(1), *second = topic_of(FWS_SLOW_LATEST, 10000);
    fake_peer *peer = client();
    CHECK_EQ(subscribe_all(peer, "topic "), FWS_OK);
    CHECK_EQ(subscribe(peer, first), FWS_OK);
    CHECK_EQ(subscribe_with(peer, second, true, false), FWS_E_MANY);
    CHECK_EQ(subscribe(peer, second), FWS_E_MANY); /* the limit counts what takes over, too */
    const fws_sub *sub = fws_conn_find_sub(conn_of(peer), second);
    CHECK(sub != NULL && sub->wild);
    CHECK_EQ(publish(second, "news"), FWS_OK);
    rest();
    CHECK_EQ(peer->out_n, 2 + 4);
    engine_close();
}

static void test_an_envelope_begins_anew_where_a_wildcard_has_the_topic(void)
{
    fws_topic *topic = open_with(0);
    fake_peer *peer = client();
    CHECK_EQ(subscribe_all(peer, "topic "), FWS_OK);
    CHECK_EQ(subscribe_with(peer, topic, false, true), FWS_OK);
    CHECK(!fws_conn_find_sub(conn_of(peer), topic)->wild);
    CHECK_EQ(conn_of(peer)->n_wild, 0);
    rest();
    engine_close();
}

static void test_a_sample_does_not_wait_for_what_was_taken_over(void)
{
    fws_topic *topic = open_with(0);
    fake_peer *peer = client();
    CHECK_EQ(subscribe_all(peer, "topic "), FWS_OK);
    CHECK_EQ(publish(topic, "news"), FWS_OK);
    CHECK(topic->sample != NULL);
    CHECK_EQ(subscribe(peer, topic), FWS_OK);
    rest();
    CHECK(topic->sample == NULL);
    engine_close();
}

int main(void)
{
    RUN(test_a_refused_subscription_leaves_the_wildcard_in_force);
    RUN(test_an_envelope_begins_anew_where_a_wildcard_has_the_topic);
    RUN(test_a_sample_does_not_wait_for_what_was_taken_over);
    return 0;
}
