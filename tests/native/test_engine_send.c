/* What goes out: short counts at every byte, faults of one peer among many, slow ones. */
#include "engine_fixture.h"

/* A message, a direct one and a pong in every state of a full socket. */
/* HOSTILE X10 */
static void test_a_short_count_at_every_byte_keeps_the_stream(void)
{
    const char *all = "P(ping) T(one) T(direct) T(two) ";
    for (size_t cut = 0; cut <= 30; cut++) {
        engine_open(&OPTIONS);
        fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
        fake_peer *peer = client();
        subscribe(peer, topic);
        peer->room = cut;
        publish(topic, "one");
        tell(peer, "direct");
        say_frame(peer, FWS_PING, "ping", 4);
        harvest();
        handle();
        publish(topic, "two");
        rest();
        CHECK_EQ(peer->out_n, cut < 6 + 5 + 8 + 5 ? cut : 24);
        fake_room(peer, PLENTY);
        rest();
        expect_got(peer, all);
        CHECK_EQ(topic->account.delivered, 2);
        engine_close();
    }
}

/* HOSTILE X10 */
static void test_one_byte_of_room_at_a_time_keeps_the_stream(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 0;
    publish(topic, "one");
    publish(topic, "two");
    tell(peer, "three");
    say_frame(peer, FWS_PING, "ping", 4);
    for (int i = 0; i < 30; i++) {
        rest();
        fake_room(peer, 1);
    }
    expect_got(peer, "P(ping) T(one) T(two) T(three) ");
    engine_close();
}

/* HOSTILE X11 */
static void test_a_blocked_peer_is_asked_once_and_not_again(void)
{
    for (int k = 0; k < 5; k++) {
        engine_open(&OPTIONS);
        fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
        fake_peer *peers[5];
        for (int i = 0; i < 5; i++) {
            peers[i] = client();
            subscribe(peers[i], topic);
            peers[i]->sends = 0;
        }
        peers[k]->room = 0;
        uint32_t before = net.controls;
        for (int i = 0; i < 10; i++) {
            publish(topic, "tick");
            rest();
        }
        for (int i = 0; i < 5; i++)
            CHECK_EQ(peers[i]->sends, i == k ? 1 : 10);
        CHECK_EQ(topic->caught, 4);
        CHECK_EQ(topic->account.delivered, 40);
        fake_room(peers[k], PLENTY);
        rest();
        CHECK_EQ(peers[k]->sends, 2);
        CHECK_EQ(topic->account.delivered, 50);
        CHECK_EQ(engine->counters.would_block, 1);
        CHECK_EQ(net.controls, before); /* registered once, for both directions */
        engine_close();
    }
}

/* HOSTILE X13 */
static void test_an_interrupted_send_is_tried_again(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    peer->send_errno = EINTR;
    peer->send_errno_count = 3;
    tell(peer, "hello");
    turn();
    expect_got(peer, "T(hello) ");
    engine_close();
}

/* HOSTILE X12 X18 */
static void test_the_fault_of_one_peer_is_no_one_elses(void)
{
    const int faults[] = {EPIPE, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOTCONN, EBADF};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        for (int victim = 0; victim < 5; victim++) {
            engine_open(&OPTIONS);
            fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
            fake_peer *peers[5];
            for (int k = 0; k < 5; k++) {
                peers[k] = client();
                subscribe(peers[k], topic);
            }
            publish(topic, "before");
            rest();
            peers[victim]->send_errno = faults[i];
            peers[victim]->send_errno_count = 1;
            publish(topic, "after");
            rest();
            for (int k = 0; k < 5; k++)
                expect_got(peers[k], k == victim ? "T(before) " : "T(before) T(after) ");
            CHECK(peers[victim]->closed);
            CHECK_EQ(deaths, 1);
            CHECK_EQ(last_code, 1006);
            CHECK_EQ(topic->n, 4);
            CHECK_EQ(topic->account.dropped, 1);
            engine_close();
        }
}

/* HOSTILE X14 */
static void test_want_of_kernel_memory_is_tried_again_by_the_sweep(void)
{
    const int faults[] = {ENOBUFS, ENOMEM};
    for (size_t i = 0; i < 2; i++) {
        engine_open(&OPTIONS);
        fake_peer *peer = client();
        peer->send_errno = faults[i];
        peer->send_errno_count = 2;
        tell(peer, "hello");
        rest();
        expect_got(peer, "");
        CHECK_EQ(engine->counters.send_failures, 1);
        pass_time(FWS_SWEEP_NS);
        expect_got(peer, "");
        pass_time(FWS_SWEEP_NS);
        expect_got(peer, "T(hello) ");
        engine_close();
    }
}

static void test_a_close_policy_ends_with_1013_after_the_half_sent_frame(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 40);
    fake_peer *peer = client(), *other = client();
    subscribe(peer, topic);
    subscribe(other, topic);
    peer->room = 3;
    for (int i = 0; i < 6; i++) {
        publish(topic, "0123456789");
        tell(peer, "never heard");
        rest();
    }
    pass_time(FWS_SWEEP_NS);
    CHECK_EQ(topic->n, 1);
    CHECK_EQ(topic->account.delivered, 6);
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "T(0123456789) C1013(slow consumer) ");
    CHECK_EQ(topic->account.delivered, 7);
    CHECK(peer->shut);
    fake_end(peer);
    rest();
    CHECK_EQ(last_code, 1013);
    CHECK_EQ(engine->counters.slow_closed, 1);
    engine_close();
}

static void test_a_slow_consumer_gets_no_direct_message_out_of_a_series(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 20);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 0;
    tell(peer, "one");
    for (int i = 0; i < 6; i++)
        publish(topic, "0123456789");
    rest();
    net.now += FWS_SWEEP_NS;
    harvest(); /* the sweep finds it too slow */
    tell(peer, "two");
    flush();
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "C1013(slow consumer) ");
    engine_close();
}

static void test_a_slow_consumer_that_reads_nothing_is_gone_in_time(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 40);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 3;
    for (int i = 0; i < 6; i++)
        publish(topic, "0123456789");
    rest();
    pass_time(OPTIONS.close_ns + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    engine_close();
}

static void test_latest_goes_on_with_the_newest_at_a_frame_border(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 40);
    fake_peer *peer = client();
    char text[16];
    subscribe(peer, topic);
    peer->room = 7;
    for (int i = 0; i < 50; i++) {
        sprintf(text, "%03d", i);
        publish(topic, text);
        rest();
    }
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "T(000) T(001) T(049) ");
    CHECK_EQ(topic->account.dropped, 47);
    engine_close();
}

static void test_a_lossless_publisher_is_held_and_a_stalled_reader_closed(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LOSSLESS, 50);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 0;
    int taken = 0;
    while (publish(topic, "01234567") >= 0)
        taken++;
    CHECK_EQ(publish(topic, "01234567"), FWS_E_FULL);
    CHECK_EQ(taken, 5);
    CHECK_EQ(engine->counters.log_full, 2);
    rest();
    pass_time(OPTIONS.max_stall_ns - SECOND);
    CHECK_EQ(topic->n, 1);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK_EQ(topic->n, 0);
    CHECK(publish(topic, "01234567") >= 0);
    engine_close();
}

static void test_a_lossless_reader_that_takes_little_lives(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LOSSLESS, 5000);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 0;
    int published = 0;
    for (int i = 0; i < 60; i++) {
        while (publish(topic, "01234567") >= 0)
            published++;
        pass_time(SECOND);
        fake_room(peer, 30);
        rest();
    }
    CHECK_EQ(topic->n, 1);
    fake_room(peer, PLENTY);
    rest();
    CHECK_EQ(topic->account.delivered, published);
    CHECK_EQ(peer->out_n, 10 * (size_t)published);
    engine_close();
}

/* HOSTILE X64 */
static void test_large_frames_leave_whole_to_many_at_any_speed(void)
{
    static char large[300000];
    memset(large, 'x', sizeof large - 1);
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 24);
    fake_peer *peers[3];
    for (int i = 0; i < 3; i++) {
        peers[i] = client();
        subscribe(peers[i], topic);
        peers[i]->room = 0;
    }
    for (int i = 0; i < 5; i++) {
        publish(topic, large);
        publish(topic, "small");
    }
    size_t whole = 5 * (10 + sizeof large - 1 + 2 + 5);
    for (int i = 0; i < 200000 && topic->account.delivered < 30; i++) {
        fake_room(peers[i % 3], (size_t)(1 + i % 3) * 1000);
        turn();
    }
    for (int i = 0; i < 3; i++)
        CHECK_EQ(peers[i]->out_n, whole);
    CHECK(memcmp(peers[0]->out, peers[1]->out, whole) == 0);
    CHECK(memcmp(peers[0]->out, peers[2]->out, whole) == 0);
    engine_close();
}

static void test_acknowledged_is_what_the_kernel_says(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client();
    conn_of(peer)->acknowledges = true;
    subscribe(peer, topic);
    for (int i = 0; i < 10; i++) {
        publish(topic, "01234567");
        rest();
        peer->unacknowledged = 1 << 30; /* more than there can be: nothing is confirmed */
        if (i == 5)                     /* a look sets the mark that the next one can count up to */
            fws_conn_acknowledge(engine, conn_of(peer));
    }
    const fws_sub *sub = conn_of(peer)->subs[0];
    CHECK_EQ(fws_sub_snapshot(sub, 0).acknowledged, 0);
    peer->unacknowledged = 41; /* one byte of the sixth frame is missing */
    fws_conn_acknowledge(engine, conn_of(peer));
    CHECK_EQ(fws_sub_snapshot(sub, 0).acknowledged, 0);
    peer->unacknowledged = 35;
    fws_conn_acknowledge(engine, conn_of(peer));
    CHECK_EQ(fws_sub_snapshot(sub, 0).acknowledged, 6);
    peer->unacknowledged = 0;
    fake_reset(peer);
    rest();
    CHECK_EQ(topic->account.acknowledged, 10);
    engine_close();
}

static void test_a_frame_half_sent_when_its_subscription_went_is_acknowledged(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client();
    conn_of(peer)->acknowledges = true;
    subscribe(peer, topic);
    peer->room = 5;
    publish(topic, "01234567");
    turn();
    CHECK_EQ(unsubscribe(peer, topic), FWS_OK);
    CHECK_EQ(topic->account.delivered, 0);
    fake_room(peer, PLENTY);
    rest();
    CHECK_EQ(topic->account.delivered, 1);
    fws_conn_acknowledge(engine, conn_of(peer));
    CHECK_EQ(topic->account.acknowledged, 1);
    engine_close();
}

static void subscribe_all(fake_peer **peers, int n, fws_topic *topic)
{
    for (int i = 0; i < n; i++) {
        peers[i] = client();
        subscribe(peers[i], topic);
    }
}

static void test_a_flush_gives_way_and_goes_on_where_it_stopped(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peers[90];
    subscribe_all(peers, 90, topic);
    publish(topic, "tick");
    net.tick = 1000000;
    uint64_t before = 0;
    for (int flushes = 0; topic->account.delivered < 90; flushes++) {
        fws_engine_flush(engine, 1);
        check_engine();
        CHECK(topic->account.delivered > before || flushes < 2); /* the wake takes one */
        CHECK(topic->account.delivered - before <= 16);
        before = topic->account.delivered;
        CHECK(topic->account.delivered == 90 || fws_engine_more(engine));
    }
    net.tick = 0;
    for (int i = 0; i < 90; i++)
        expect_got(peers[i], "T(tick) ");
    engine_close();
}

/* HOSTILE X19 */
static void test_who_gets_a_descriptor_in_the_middle_of_a_broadcast_gets_none_of_it(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peers[90];
    subscribe_all(peers, 90, topic);
    publish(topic, "news");
    net.tick = 1000000;
    while (topic->account.delivered == 0)
        fws_engine_flush(engine, 1); /* it gives way after some */
    net.tick = 0;
    CHECK(engine->n_dirty > 0 && topic->account.delivered < 90);
    fake_peer *gone = NULL, *young = fake_connect();
    for (int i = 0; i < 90 && gone == NULL; i++)
        gone = peers[i]->out_n == 0 ? peers[i] : NULL;
    int fd = gone->fd;
    fws_conn_kill(engine, conn_of(gone), 1006);
    harvest();
    CHECK(young->fd != fd); /* the dead one still has it */
    reap();
    fake_peer *younger = fake_connect();
    harvest();
    CHECK_EQ(younger->fd, fd);
    rest();
    CHECK_EQ(gone->out_n + young->out_n + younger->out_n, 0);
    fake_say(younger, HEAD, strlen(HEAD));
    rest();
    CHECK_EQ(younger->out_n, strlen(ANSWER));
    CHECK_EQ(topic->account.delivered, 89);
    CHECK_EQ(topic->account.dropped, 1);
    engine_close();
}

int main(void)
{
    RUN(test_a_short_count_at_every_byte_keeps_the_stream);
    RUN(test_one_byte_of_room_at_a_time_keeps_the_stream);
    RUN(test_a_blocked_peer_is_asked_once_and_not_again);
    RUN(test_an_interrupted_send_is_tried_again);
    RUN(test_the_fault_of_one_peer_is_no_one_elses);
    RUN(test_want_of_kernel_memory_is_tried_again_by_the_sweep);
    RUN(test_a_close_policy_ends_with_1013_after_the_half_sent_frame);
    RUN(test_a_slow_consumer_gets_no_direct_message_out_of_a_series);
    RUN(test_a_slow_consumer_that_reads_nothing_is_gone_in_time);
    RUN(test_latest_goes_on_with_the_newest_at_a_frame_border);
    RUN(test_a_lossless_publisher_is_held_and_a_stalled_reader_closed);
    RUN(test_a_lossless_reader_that_takes_little_lives);
    RUN(test_large_frames_leave_whole_to_many_at_any_speed);
    RUN(test_acknowledged_is_what_the_kernel_says);
    RUN(test_a_frame_half_sent_when_its_subscription_went_is_acknowledged);
    RUN(test_a_flush_gives_way_and_goes_on_where_it_stopped);
    RUN(test_who_gets_a_descriptor_in_the_middle_of_a_broadcast_gets_none_of_it);
    return 0;
}
