/* Slow readers under a clock: how old what they get is, and the least that they must take. */
#include "engine_fixture.h"

#define MS 1000000ULL

static fws_topic *topic_with(const fws_topic_options *options)
{
    fws_topic *topic = fws_topics_get(fws_engine_topics(engine), "slow", 4, options);
    CHECK(topic != NULL);
    topic->configured = true;
    return topic;
}

/* Takes all whole frames that it got; the greatest age of one, in ms. Each begins with its time. */
static uint64_t oldest(fake_peer *peer)
{
    size_t at = 0;
    uint64_t age = 0;
    fws_header header;
    int size;
    while ((size = fws_header_decode(peer->out + at, peer->out_n - at, &header)) > 0
           && peer->out_n - at - (size_t)size >= header.length) {
        char text[32] = {0};
        memcpy(text, peer->out + at + size, 20);
        uint64_t then = strtoull(text, NULL, 10), passed = net.now / MS - then;
        age = passed > age ? passed : age;
        at += (size_t)size + header.length;
    }
    memmove(peer->out, peer->out + at, peer->out_n - at);
    peer->out_n -= at;
    return age;
}

static void publish_times(fws_topic *topic, uint32_t n)
{
    char text[101];
    int length = sprintf(text, "%020llu%80s", (unsigned long long)(net.now / MS), "");
    for (uint32_t i = 0; i < n; i++)
        CHECK(command(FWS_CMD_PUBLISH, NULL, topic, 0, text, (size_t)length) >= 0);
}

/* 200 kB/s take 2 MB/s: a window of 16 KB, and from then on what the reader takes. */
static void test_behind_a_slow_link_nothing_old_leaves(void)
{
    static const fws_topic_options latest = {.retention_bytes = 16 << 20,
                                             .max_lag_bytes = 12 << 20,
                                             .on_slow = FWS_SLOW_LATEST,
                                             .max_lag_ns = 500 * MS};
    engine_open(&OPTIONS);
    fws_topic *topic = topic_with(&latest);
    fake_peer *slow = client(), *fast = client();
    CHECK_EQ(subscribe(slow, topic), FWS_OK);
    CHECK_EQ(subscribe(fast, topic), FWS_OK);
    slow->room = 16384;
    for (uint32_t ms = 1; ms <= 20000; ms++) {
        net.now += MS;
        publish_times(topic, ms < 10000 ? 20 : ms % 5 == 0); /* then much less */
        if (ms % 10 == 0)
            fake_room(slow, 2000);
        turn();
        CHECK(oldest(slow) <= 512); /* a half-sent frame waits for its rest */
        CHECK(oldest(fast) == 0);
    }
    fws_account account = topic->account;
    CHECK(account.dropped > 150000 && account.dropped < 190000);
    CHECK_EQ(fws_sub_snapshot(fws_conn_find_sub(conn_of(fast), topic), 0).dropped, 0);
    rest();
    CHECK_EQ(fws_topic_snapshot(topic).pending, 0); /* it has caught up */
    engine_close();
}

/* Who reads all, but was kept waiting by the engine itself, gets everything. */
static void test_an_engine_that_was_away_drops_nothing(void)
{
    static const fws_topic_options latest = {.retention_bytes = 16 << 20,
                                             .max_lag_bytes = 12 << 20,
                                             .on_slow = FWS_SLOW_LATEST,
                                             .max_lag_ns = 100 * MS};
    engine_open(&OPTIONS);
    fws_topic *topic = topic_with(&latest);
    fake_peer *peer = client();
    CHECK_EQ(subscribe(peer, topic), FWS_OK);
    for (int i = 0; i < 100; i++) {
        peer->room = 5000;
        publish_times(topic, 100);
        turn(); /* refused a part */
        fake_room(peer, PLENTY);
        net.now += 3 * SECOND;
        turn();
    }
    CHECK_EQ(topic->account.dropped, 0);
    CHECK_EQ(topic->account.delivered, 10000);
    engine_close();
}

static fws_topic_options lossless_at_least(uint64_t min_rate)
{
    return (fws_topic_options){.retention_bytes = 100000,
                               .max_lag_bytes = 50000,
                               .on_slow = FWS_SLOW_LOSSLESS,
                               .min_rate = min_rate};
}

static uint64_t publish_all(fws_topic *topic)
{
    char text[1000];
    uint64_t n = 0;
    memset(text, 'x', sizeof text);
    while (command(FWS_CMD_PUBLISH, NULL, topic, 0, text, sizeof text) >= 0)
        n++;
    return n;
}

/* Publishes all there is room for, for a minute; the peer takes so many bytes every 100 ms. */
static uint64_t hold(fws_topic *topic, fake_peer *peer, size_t bytes)
{
    uint64_t published = 0;
    CHECK_EQ(subscribe(peer, topic), FWS_OK);
    peer->room = 0;
    for (int i = 0; i < 600 && topic->n > 0; i++) {
        published += publish_all(topic);
        net.now += 100 * MS;
        if (peer->fd != 0)
            fake_room(peer, bytes);
        turn();
        turn();
    }
    return published;
}

static void test_who_holds_the_publisher_takes_a_minimum(void)
{
    const fws_topic_options options = lossless_at_least(10000);
    for (size_t bytes = 400; bytes <= 1100; bytes += 700) {
        engine_open(&OPTIONS);
        fws_topic *topic = topic_with(&options);
        fake_peer *peer = client();
        const uint64_t began = net.now;
        uint64_t published = hold(topic, peer, bytes);
        CHECK_EQ(topic->n, bytes > 1000);
        if (topic->n == 0) {
            CHECK(net.now - began <= OPTIONS.max_stall_ns + SECOND);
            CHECK_EQ(engine->counters.slow_closed, 1);
        } else {
            fake_room(peer, PLENTY);
            rest();
            CHECK_EQ(topic->account.delivered, published);
        }
        engine_close();
    }
}

static void test_without_a_minimum_little_is_enough(void)
{
    const fws_topic_options options = lossless_at_least(0);
    engine_open(&OPTIONS);
    fws_topic *topic = topic_with(&options);
    hold(topic, client(), 1);
    CHECK_EQ(topic->n, 1);
    engine_close();
}

/* Its socket is full, but nobody waits for it. */
static void test_who_holds_nobody_may_take_little(void)
{
    const fws_topic_options options = lossless_at_least(1 << 20);
    engine_open(&OPTIONS);
    fws_topic *topic = topic_with(&options);
    fake_peer *peer = client();
    CHECK_EQ(subscribe(peer, topic), FWS_OK);
    peer->room = 0;
    for (int i = 0; i < 600; i++) {
        CHECK(publish(topic, "0123456789") >= 0);
        net.now += 100 * MS;
        fake_room(peer, 5);
        turn();
        turn();
    }
    CHECK_EQ(topic->n, 1);
    CHECK(conn_of(peer)->blocked);
    engine_close();
}

int main(void)
{
    RUN(test_behind_a_slow_link_nothing_old_leaves);
    RUN(test_an_engine_that_was_away_drops_nothing);
    RUN(test_who_holds_the_publisher_takes_a_minimum);
    RUN(test_without_a_minimum_little_is_enough);
    RUN(test_who_holds_nobody_may_take_little);
    return 0;
}
