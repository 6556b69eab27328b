/* What is noticed while a connection is not read from: resets, ends, Closes, and silence. */
#include "engine_fixture.h"

#define SETTLED (2 * FWS_UNREAD_NS + 2 * FWS_SWEEP_NS) /* by then an end that came is acted upon */

enum cause { PAUSED, QUEUE_FULL, OUTBOX_FULL, CAUSES };

static bool alive(const fake_peer *peer)
{
    return conn_of(peer) != NULL;
}

/* A client that is not read from any more. */
static fake_peer *stopped(enum cause cause)
{
    static const char text[3000];
    fake_peer *peer = client();
    if (cause == PAUSED) {
        fws_conn_pause(engine, conn_of(peer), true);
    } else if (cause == QUEUE_FULL) {
        fws_conn_credit(engine, conn_of(peer), 2);
        for (int i = 0; i < 20; i++)
            say_text(peer, "m");
    } else {
        peer->room = 0;
        CHECK_EQ(command(FWS_CMD_SEND, peer, NULL, 0, text, sizeof text), FWS_OK);
        say_text(peer, "m");
    }
    rest();
    return peer;
}

static fws_options small_outbox(void)
{
    fws_options options = OPTIONS;
    options.outbox_limit = 8192;
    return options;
}

static void test_a_reset_ends_at_once_who_is_not_read_from(void)
{
    fws_options options = small_outbox();
    for (enum cause cause = PAUSED; cause < CAUSES; cause++) {
        engine_open(&options);
        fake_peer *peer = stopped(cause);
        fake_reset(peer);
        turn();
        CHECK(peer->closed);
        CHECK_EQ(deaths, 1);
        CHECK_EQ(last_code, 1006);
        engine_close();
    }
}

static void test_the_end_of_a_peer_that_is_not_read_from_counts_soon(void)
{
    fws_options options = small_outbox();
    for (enum cause cause = PAUSED; cause < CAUSES; cause++) {
        engine_open(&options);
        fake_peer *peer = stopped(cause);
        pass_time(10 * SECOND);
        CHECK(alive(peer));
        fake_end(peer);
        pass_time(FWS_UNREAD_NS - FWS_SWEEP_NS);
        CHECK(alive(peer));
        pass_time(SETTLED);
        CHECK(peer->closed);
        CHECK_EQ(last_code, 1006);
        engine_close();
    }
}

static void test_an_end_after_others_have_been_looked_at_counts_too(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = stopped(PAUSED);
    for (int i = 0; i < 5; i++) {
        say_text(peer, "m");
        pass_time(SECOND);
    }
    fake_end(peer);
    pass_time(SETTLED);
    CHECK(peer->closed);
    engine_close();
}

/* A peer may have said all it had to say: what it said first is not lost. */
static void test_what_lies_before_an_end_is_heard_when_reading_goes_on(void)
{
    for (int close = 0; close < 2; close++) {
        engine_open(&OPTIONS);
        fake_peer *peer = stopped(PAUSED);
        say_text(peer, "one");
        say_text(peer, "two");
        if (close)
            say_frame(peer, FWS_CLOSE, "\x03\xE8", 2);
        fake_end(peer);
        pass_time(SECOND + FWS_SWEEP_NS);
        fws_conn_pause(engine, conn_of(peer), false);
        rest();
        expect_heard("one two ");
        CHECK(peer->closed);
        CHECK_EQ(last_code, close ? 1000 : 1006);
        engine_close();
    }
}

/* It has read on: the time for the next stop is a whole one. */
static void test_each_stop_has_its_own_time(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = stopped(QUEUE_FULL);
    fake_end(peer);
    for (int i = 0; i < 6; i++) {
        pass_time(FWS_UNREAD_NS + FWS_SWEEP_NS);
        CHECK(alive(peer));
        fws_conn_credit(engine, conn_of(peer), 2);
        rest();
    }
    pass_time(SETTLED);
    CHECK(peer->closed);
    expect_heard("m m m m m m m m m m m m m m ");
    engine_close();
}

/* Stopped behind each byte of what comes, which may be the middle of a frame. */
static void test_a_close_among_unread_messages_is_answered(void)
{
    uint8_t wire[400], payload[200];
    memset(payload, 0x88, sizeof payload); /* no Close, though it would be one outside of a frame */
    size_t n = client_frame(wire, FWS_TEXT, "one", 3);
    n += client_frame(wire + n, FWS_BINARY, payload, sizeof payload);
    n += client_frame(wire + n, FWS_PING, "p", 1);
    size_t close = n;
    n += client_frame(wire + n, FWS_CLOSE,
                      "\x0F\xA0"
                      "bye",
                      5);
    for (size_t cut = 0; cut <= close; cut++) {
        engine_open(&OPTIONS);
        fake_peer *peer = client();
        fake_say(peer, wire, cut);
        rest();
        peer->out_n = 0;
        fws_conn_pause(engine, conn_of(peer), true);
        fake_say(peer, wire + cut, n - cut);
        pass_time(FWS_UNREAD_NS);
        CHECK_EQ(peer->out_n, 0);
        pass_time(SETTLED);
        /* The Ping is answered first, unless its header has been parsed. */
        expect_got(peer, cut < close - 1 ? "P(p) C4000(bye) " : "C4000(bye) ");
        fake_end(peer);
        rest();
        CHECK(peer->closed);
        CHECK_EQ(last_code, 4000);
        engine_close();
    }
}

static void test_an_illegal_close_among_them_is_refused(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = stopped(QUEUE_FULL);
    say_frame(peer, FWS_CLOSE, "\x03\xED", 2); /* 1005 */
    pass_time(SETTLED);
    expect_got(peer, "C1002() ");
    CHECK_EQ(engine->counters.protocol_errors, 1);
    engine_close();
}

static void test_messages_that_look_like_a_close_are_none(void)
{
    static uint8_t text[FWS_UNREAD_BYTES];
    engine_open(&OPTIONS);
    fake_peer *peer = stopped(PAUSED);
    memset(text, 0x88, sizeof text);
    const size_t before = peer->in_at;
    say_frame(peer, FWS_BINARY, text, 500);
    say_frame(peer, FWS_BINARY, text, sizeof text);
    say_frame(peer, FWS_CLOSE, "\x03\xE8", 2); /* behind what is looked at */
    pass_time(10 * SECOND);
    CHECK(alive(peer));
    CHECK_EQ(peer->in_at, before);
    CHECK_EQ(conn_of(peer)->inbuf.n, 0); /* nothing was taken from the kernel */
    fws_conn_pause(engine, conn_of(peer), false);
    rest();
    expect_got(peer, "C1000() ");
    engine_close();
}

static void keep_waiting(const fws_event *event)
{
    CHECK_EQ(event->kind, FWS_EVENT_HEAD);
}

static void test_who_is_decided_on_and_goes_is_gone(void)
{
    for (int reset = 0; reset < 2; reset++) {
        engine_open(&OPTIONS);
        on_event = keep_waiting;
        fake_peer *peer = fake_connect();
        fake_say(peer, HEAD, strlen(HEAD));
        rest();
        CHECK_EQ(conn_of(peer)->state, FWS_WAITING);
        if (reset)
            fake_reset(peer);
        else
            fake_end(peer);
        turn();
        CHECK(peer->closed);
        engine_close();
    }
}

static fws_options with_pings(void)
{
    fws_options options = OPTIONS;
    options.ping_ns = options.pong_ns = 20 * SECOND;
    return options;
}

static void test_a_silent_kernel_is_noticed_though_no_pong_can_be_seen(void)
{
    fws_options options = with_pings();
    for (int there = 0; there < 2; there++) {
        engine_open(&options);
        fake_peer *peer = stopped(PAUSED);
        conn_of(peer)->acknowledges = true;
        for (int i = 0; i < 100 && alive(peer); i++) {
            pass_time(SECOND);
            if (peer->out_n > 0 && !there)
                peer->unacknowledged = 6; /* the ping */
        }
        CHECK_EQ(alive(peer), there);
        CHECK_EQ(engine->counters.ping_timeouts, !there);
        CHECK(there ? engine->counters.pings > 1 : engine->counters.pings == 1);
        engine_close();
    }
}

static void test_a_pong_that_lay_unread_is_not_late(void)
{
    fws_options options = with_pings();
    engine_open(&options);
    fake_peer *peer = client();
    conn_of(peer)->acknowledges = true;
    pass_time(21 * SECOND);
    uint64_t by = conn_of(peer)->deadline;
    CHECK(conn_of(peer)->pinged);
    peer->unacknowledged = 2;
    fws_conn_pause(engine, conn_of(peer), true);
    say_frame(peer, FWS_PONG, NULL, 0);
    while (net.now + FWS_SWEEP_NS < by)
        pass_time(FWS_SWEEP_NS);
    fws_conn_pause(engine, conn_of(peer), false); /* at the last moment */
    net.now += FWS_SWEEP_NS;
    turn();
    CHECK(alive(peer));
    CHECK(!conn_of(peer)->pinged);
    engine_close();
}

/* A client that pings must not take a handler that is busy for a dead server. */
static void test_pings_are_answered_while_nothing_is_read_and_only_once(void)
{
    for (enum cause cause = PAUSED; cause < OUTBOX_FULL; cause++) {
        engine_open(&OPTIONS);
        fake_peer *peer = stopped(cause);
        say_frame(peer, FWS_PING, "a", 1);
        say_text(peer, "one");
        say_frame(peer, FWS_PING, "b", 1);
        pass_time(FWS_UNREAD_NS + 2 * FWS_SWEEP_NS);
        expect_got(peer, "P(b) ");
        pass_time(10 * SECOND);
        say_frame(peer, FWS_PING, "c", 1);
        pass_time(FWS_UNREAD_NS + 2 * FWS_SWEEP_NS);
        expect_got(peer, "P(c) ");
        if (cause == PAUSED)
            fws_conn_pause(engine, conn_of(peer), false);
        else
            fws_conn_credit(engine, conn_of(peer), 100);
        rest();
        say_frame(peer, FWS_PING, "d", 1); /* it is read again */
        rest();
        expect_got(peer, "P(d) ");
        engine_close();
    }
}

static void test_pings_of_a_peer_that_takes_nothing_are_not_answered_ahead(void)
{
    fws_options options = small_outbox();
    engine_open(&options);
    fake_peer *peer = stopped(OUTBOX_FULL);
    size_t before = conn_of(peer)->outbox.allocated;
    for (int i = 0; i < 5; i++) {
        say_frame(peer, FWS_PING, "a", 1);
        pass_time(2 * SECOND);
    }
    CHECK_EQ(conn_of(peer)->outbox.allocated, before);
    engine_close();
}

int main(void)
{
    RUN(test_a_reset_ends_at_once_who_is_not_read_from);
    RUN(test_the_end_of_a_peer_that_is_not_read_from_counts_soon);
    RUN(test_an_end_after_others_have_been_looked_at_counts_too);
    RUN(test_what_lies_before_an_end_is_heard_when_reading_goes_on);
    RUN(test_each_stop_has_its_own_time);
    RUN(test_a_close_among_unread_messages_is_answered);
    RUN(test_an_illegal_close_among_them_is_refused);
    RUN(test_messages_that_look_like_a_close_are_none);
    RUN(test_who_is_decided_on_and_goes_is_gone);
    RUN(test_a_silent_kernel_is_noticed_though_no_pong_can_be_seen);
    RUN(test_a_pong_that_lay_unread_is_not_late);
    RUN(test_pings_are_answered_while_nothing_is_read_and_only_once);
    RUN(test_pings_of_a_peer_that_takes_nothing_are_not_answered_ahead);
    return 0;
}
