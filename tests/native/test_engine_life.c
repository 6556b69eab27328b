/* Time limits of an open connection: pings, messages, writing; and peers that do not read. */
#include "engine_fixture.h"

static fws_options with_limits(void)
{
    fws_options options = OPTIONS;
    options.ping_ns = 20 * SECOND;
    options.pong_ns = 20 * SECOND;
    options.message_ns = 60 * SECOND;
    options.write_ns = 30 * SECOND;
    return options;
}

static bool alive(const fake_peer *peer)
{
    return conn_of(peer) != NULL;
}

static size_t count_frames(const fake_peer *peer, uint8_t first)
{
    size_t found = 0;
    for (size_t at = 0; at + 2 <= peer->out_n; at += 2 + (size_t)peer->out[at + 1])
        found += peer->out[at] == first;
    return found;
}

/* The first ping comes at random in the second half of the interval. */
static void until_pinged(const fake_peer *peer)
{
    for (int i = 0; i < 81 && count_frames(peer, 0x89) == 0; i++)
        pass_time(FWS_SWEEP_NS);
    CHECK_EQ(count_frames(peer, 0x89), 1);
}

/* HOSTILE R20 R21 */
static void test_a_silent_peer_is_asked_and_then_left(void)
{
    fws_options options = with_limits();
    engine_open(&options);
    fake_peer *peer = client();
    until_pinged(peer);
    pass_time(19 * SECOND);
    CHECK_EQ(count_frames(peer, 0x89), 1);
    CHECK(alive(peer));
    pass_time(2 * SECOND);
    CHECK(!alive(peer));
    CHECK_EQ(engine->counters.ping_timeouts, 1);
    CHECK_EQ(last_code, 1006);
    engine_close();
}

static void test_a_pong_is_all_it_takes(void)
{
    fws_options options = with_limits();
    engine_open(&options);
    fake_peer *peer = client();
    for (int i = 0; i < 20; i++) {
        pass_time(10 * SECOND);
        say_frame(peer, FWS_PONG, NULL, 0);
        rest();
    }
    CHECK(alive(peer));
    CHECK(engine->counters.pings >= 5 && engine->counters.pings <= 8);
    for (int i = 0; i < 100; i++) { /* and other frames are a sign of life as well */
        say_text(peer, "hello");
        pass_time(SECOND);
        CHECK(alive(peer));
    }
    pass_time(72 * SECOND);
    CHECK(!alive(peer));
    engine_close();
}

static void test_without_an_interval_nobody_is_asked(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    pass_time(600 * SECOND);
    CHECK(alive(peer));
    CHECK_EQ(peer->out_n, 0);
    engine_close();
}

/* HOSTILE X36 X37 */
static void test_an_engine_that_was_late_itself_grants_the_time(void)
{
    fws_options options = with_limits();
    engine_open(&options);
    fake_peer *peer = client();
    until_pinged(peer);
    pass_time(15 * SECOND);
    net.now += 3600 * SECOND; /* suspended */
    turn();
    turn();
    CHECK(alive(peer));
    say_frame(peer, FWS_PONG, NULL, 0);
    pass_time(15 * SECOND);
    CHECK(alive(peer));
    CHECK_EQ(count_frames(peer, 0x89), 1);
    engine_close();
}

/* HOSTILE X37 */
static void test_bytes_taken_after_a_late_sweep_was_due_are_no_stall(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LOSSLESS, 1 << 20);
    fake_peer *peer = client();
    CHECK_EQ(subscribe(peer, topic), FWS_OK);
    pass_time(SECOND);
    peer->room = 5;
    harvest();
    net.now += 3 * FWS_SWEEP_NS; /* a handler takes that long */
    flush();
    publish(topic, "one");
    publish(topic, "two");
    flush(); /* some of it leaves at that late time, then the socket is full */
    CHECK(conn_of(peer)->blocked);
    reap();
    turn(); /* the sweep that was due in between */
    CHECK_EQ(engine->counters.slow_closed, 0);
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "T(one) T(two) ");
    engine_close();
}

static void test_a_reader_to_whom_nothing_was_offered_has_not_stalled(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LOSSLESS, 5000);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 10;
    publish(topic, "01234567"); /* it fills the socket to the byte */
    rest();
    CHECK(!conn_of(peer)->blocked);
    pass_time(2 * OPTIONS.max_stall_ns);
    publish(topic, "01234567");
    pass_time(OPTIONS.max_stall_ns - SECOND);
    CHECK_EQ(engine->counters.slow_closed, 0);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.slow_closed, 1);
    engine_close();
}

/* HOSTILE X21 */
static void test_a_message_has_to_end(void)
{
    fws_options options = with_limits();
    options.ping_ns = 0;
    engine_open(&options);
    fake_peer *peer = client(), *other = client();
    uint8_t frame[64];
    size_t n = client_frame(frame, FWS_TEXT, "hello", 5);
    fake_say(peer, frame, n - 1);
    fake_say(other, frame, n - 1);
    pass_time(59 * SECOND);
    fake_say(other, frame + n - 1, 1);
    CHECK(alive(peer));
    pass_time(2 * SECOND);
    CHECK_EQ(engine->counters.message_timeouts, 1);
    CHECK_EQ(count_frames(peer, 0x88), 1);
    CHECK(peer->out[2] == 0x03 && peer->out[3] == 0xF0); /* 1008 */
    pass_time(60 * SECOND);
    CHECK(alive(other));
    engine_close();
}

/* HOSTILE X46 X47 */
static void test_a_blocked_peer_has_to_take_something(void)
{
    fws_options options = with_limits();
    options.ping_ns = 0;
    engine_open(&options);
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 1 << 19);
    fake_peer *drip = client(), *zero = client(), *well = client();
    fake_peer *all[] = {drip, zero, well};
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(subscribe(all[i], topic), FWS_OK);
        all[i]->room = i < 2 ? 100 : PLENTY;
    }
    for (int second = 0; second < 62; second++) {
        command(FWS_CMD_PUBLISH, NULL, topic, 0, "0123456789012345678901234567890123456789", 40);
        turn();
        pass_time(SECOND);
        if (alive(drip))
            fake_room(drip, 1);
    }
    CHECK(!alive(zero));
    CHECK(!alive(drip));
    CHECK(alive(well));
    CHECK_EQ(engine->counters.write_timeouts, 2);
    engine_close();
}

/* HOSTILE R06 */
static void test_a_peer_that_does_not_read_its_answers_is_not_read(void)
{
    fws_options options = OPTIONS;
    options.outbox_limit = 4096;
    engine_open(&options);
    fake_peer *peer = client();
    peer->room = 0;
    static char text[600];
    memset(text, 'x', sizeof text);
    CHECK_EQ(command(FWS_CMD_SEND, peer, NULL, 0, text, 600), FWS_OK);
    CHECK_EQ(command(FWS_CMD_SEND, peer, NULL, 0, text, 600), FWS_OK);
    say_text(peer, "a");
    rest();
    CHECK_EQ(conn_of(peer)->messages_in, 0);
    CHECK(peer->in_at < peer->in_n); /* left in the kernel */
    fake_room(peer, PLENTY);
    rest();
    CHECK_EQ(conn_of(peer)->messages_in, 1);
    CHECK_EQ(peer->in_at, peer->in_n);
    engine_close();
}

static uint8_t page[2000];

static void answer_page(const fws_event *event)
{
    CHECK_EQ(fws_conn_respond(engine, event->conn, page, sizeof page, true), FWS_OK);
}

/* HOSTILE R06 */
static void test_requests_of_a_peer_that_hardly_reads_are_not_read(void)
{
    fws_options options = OPTIONS;
    options.outbox_limit = 4096;
    engine_open(&options);
    on_event = answer_page;
    fake_peer *peer = fake_connect();
    peer->room = 0;
    for (int i = 0; i < 100; i++)
        fake_say(peer, HEAD, strlen(HEAD));
    for (size_t got = 0; got < 10 * sizeof page; got += 1000) {
        rest();
        CHECK_EQ(peer->out_n, got);
        CHECK(conn_of(peer)->outbox.bytes <= options.outbox_limit);
        fake_room(peer, 1000);
    }
    fake_room(peer, PLENTY);
    rest();
    CHECK_EQ(peer->out_n, 100 * sizeof page);
    peer->room = 0;
    fake_say(peer, HEAD HEAD HEAD, 3 * strlen(HEAD));
    pass_time(options.handshake_ns + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed); /* it has to take them in time */
    engine_close();
}

static void test_garbage_is_no_head_to_wait_for(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = fake_connect();
    fake_say(peer, "\x16\x03\x01", 3); /* a TLS ClientHello begins so */
    rest();
    expect_heard("HEAD ");
    engine_close();
}

/* Our Close waits for theirs as long as it would have without the pong. */
static void test_a_pong_behind_our_close_is_no_reason_to_wait_longer(void)
{
    fws_options options = with_limits();
    engine_open(&options);
    fake_peer *peer = client();
    until_pinged(peer);
    CHECK_EQ(say_goodbye(peer, 1001), FWS_OK);
    rest();
    say_frame(peer, FWS_PONG, NULL, 0);
    pass_time(options.close_ns - SECOND);
    CHECK(!peer->closed);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    CHECK_EQ(engine->counters.close_timeouts, 1);
    engine_close();
}

int main(void)
{
    RUN(test_a_silent_peer_is_asked_and_then_left);
    RUN(test_a_pong_is_all_it_takes);
    RUN(test_a_pong_behind_our_close_is_no_reason_to_wait_longer);
    RUN(test_without_an_interval_nobody_is_asked);
    RUN(test_an_engine_that_was_late_itself_grants_the_time);
    RUN(test_bytes_taken_after_a_late_sweep_was_due_are_no_stall);
    RUN(test_a_reader_to_whom_nothing_was_offered_has_not_stalled);
    RUN(test_a_message_has_to_end);
    RUN(test_a_blocked_peer_has_to_take_something);
    RUN(test_a_peer_that_does_not_read_its_answers_is_not_read);
    RUN(test_requests_of_a_peer_that_hardly_reads_are_not_read);
    RUN(test_garbage_is_no_head_to_wait_for);
    return 0;
}
