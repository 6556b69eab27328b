/* How connections end: close handshakes, protocol errors, ends of file, deadlines. */
#include "engine_fixture.h"

static void echo(const fws_event *event)
{
    char text[64];
    usual(event);
    if (event->kind != FWS_EVENT_MESSAGE)
        return;
    CHECK(event->n < sizeof text);
    memcpy(text, event->data, event->n);
    text[event->n] = 0;
    const fake_peer *peer = fake_at(event->conn->fd);
    CHECK_EQ(tell(peer, text), FWS_OK);
}

static void test_messages_before_a_close_are_answered_first(void)
{
    uint8_t wire[64];
    size_t n = client_frame(wire, FWS_TEXT, "one", 3);
    n += client_frame(wire + n, FWS_TEXT, "two", 3);
    n += client_frame(wire + n, FWS_CLOSE,
                      "\x03\xE8"
                      "bye",
                      5);
    n += client_frame(wire + n, FWS_TEXT, "three", 5);
    for (size_t cut = 0; cut <= n; cut++) {
        engine_open(&OPTIONS);
        on_event = echo;
        fake_peer *peer = client();
        fake_say(peer, wire, cut);
        rest();
        if (peer->fd != 0)
            fake_say(peer, wire + cut, n - cut);
        rest();
        expect_heard("one two ");
        expect_got(peer, "T(one) T(two) C1000(bye) ");
        CHECK(peer->shut && !peer->closed); /* it lingers for the peer's end */
        fake_end(peer);
        rest();
        CHECK(peer->closed);
        CHECK_EQ(deaths, 1);
        CHECK_EQ(last_code, 1000);
        engine_close();
    }
}

static void test_every_legal_close_is_echoed(void)
{
    const uint16_t codes[] = {1000, 1003, 1007, 1014, 3000, 4999};
    for (size_t i = 0; i <= sizeof codes / sizeof *codes; i++) {
        bool empty = i == sizeof codes / sizeof *codes;
        uint8_t payload[FWS_CONTROL_MAX];
        char expected[200];
        memset(payload, 'r', sizeof payload);
        engine_open(&OPTIONS);
        fake_peer *peer = client();
        if (!empty) {
            payload[0] = (uint8_t)(codes[i] >> 8);
            payload[1] = (uint8_t)codes[i];
            snprintf(expected, sizeof expected, "C%d(%.*s) ", codes[i], 123, payload + 2);
        }
        say_frame(peer, FWS_CLOSE, payload, empty ? 0 : sizeof payload);
        rest();
        expect_got(peer, empty ? "C() " : expected);
        fake_end(peer);
        rest();
        CHECK_EQ(last_code, empty ? 1005 : codes[i]);
        engine_close();
    }
}

static void test_a_good_message_comes_before_the_error_behind_it(void)
{
    const struct {
        const char *bytes;
        size_t n;
        const char *close;
        uint16_t code;
    } bad[] = {
        {"\x81\x01x", 3, "C1002() ", 1002},                /* not masked */
        {"\xC1\x80\0\0\0\0", 6, "C1002() ", 1002},         /* RSV1 */
        {"\x83\x80\0\0\0\0", 6, "C1002() ", 1002},         /* opcode 3 */
        {"\x81\x82\0\0\0\0\xC0\x80", 8, "C1007() ", 1007}, /* no UTF-8 */
        {"\x82\xFF\x3F\0\0\0\0\0\0\0\0\0\0\0", 14, "C1009(over max_message_size: 1048576 bytes) ",
         1009},
        {"\x88\x81\0\0\0\0x", 7, "C1002() ", 1002},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (size_t cut = 0; cut <= bad[i].n; cut++) {
            engine_open(&OPTIONS);
            on_event = echo;
            fake_peer *peer = client();
            say_text(peer, "good");
            fake_say(peer, bad[i].bytes, cut);
            rest();
            fake_say(peer, bad[i].bytes + cut, bad[i].n - cut);
            rest();
            expect_heard("good ");
            char expected[64];
            snprintf(expected, sizeof expected, "T(good) %s", bad[i].close);
            expect_got(peer, expected);
            CHECK_EQ(engine->counters.protocol_errors, 1);
            fake_end(peer);
            rest();
            CHECK_EQ(last_code, bad[i].code);
            engine_close();
        }
}

/* HOSTILE X25 X26 */
static void test_our_close_follows_what_was_published_and_nothing_follows_it(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 7;
    publish(topic, "one");
    publish(topic, "two");
    CHECK_EQ(say_goodbye(peer, 1001), FWS_OK);
    CHECK_EQ(say_goodbye(peer, 1001), FWS_OK);
    publish(topic, "three");
    CHECK_EQ(tell(peer, "no"), FWS_E_CLOSED);
    CHECK_EQ(subscribe(peer, topic), FWS_E_CLOSED);
    rest();
    fake_room(peer, PLENTY);
    say_frame(peer, FWS_PING, "p", 1);
    say_text(peer, "not heard");
    rest();
    publish(topic, "four");
    rest();
    expect_got(peer, "T(one) T(two) C1001(bye) ");
    CHECK_EQ(topic->account.delivered, 2);
    CHECK_EQ(topic->account.dropped, 1);
    say_frame(peer, FWS_CLOSE, "\x03\xE9", 2);
    rest();
    CHECK(peer->shut && !peer->closed);
    fake_end(peer);
    rest();
    CHECK(peer->closed);
    CHECK_EQ(last_code, 1001);
    expect_heard("");
    engine_close();
}

static void test_both_may_close_at_once(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    say_frame(peer, FWS_CLOSE, "\x03\xE8", 2);
    harvest();
    handle();
    CHECK_EQ(say_goodbye(peer, 1001), FWS_OK); /* too late, and no second Close */
    rest();
    expect_got(peer, "C1000() ");
    peer = client();
    say_goodbye(peer, 1001);
    say_frame(peer, FWS_CLOSE, "\x03\xE8", 2);
    rest();
    expect_got(peer, "C1001(bye) ");
    CHECK(peer->shut);
    fake_end(peer);
    rest();
    CHECK_EQ(last_code, 1000);
    engine_close();
}

static void test_illegal_close_codes_are_refused(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    const uint16_t codes[] = {0, 999, 1004, 1006, 1015, 2999, 5000, 65535};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        CHECK_EQ(say_goodbye(peer, codes[i]), FWS_E_INVALID);
    char reason[124] = "";
    CHECK_EQ(command(FWS_CMD_CLOSE, peer, NULL, 1000, reason, 124), FWS_E_INVALID);
    CHECK_EQ(command(FWS_CMD_CLOSE, peer, NULL, 1000, reason, 123), FWS_OK);
    peer = client();
    CHECK_EQ(say_goodbye(peer, 1005), FWS_E_INVALID); /* a reason stands behind a code */
    CHECK_EQ(command(FWS_CMD_CLOSE, peer, NULL, 1005, reason, 124), FWS_E_INVALID);
    CHECK_EQ(command(FWS_CMD_CLOSE, peer, NULL, 1005, reason, 0), FWS_OK);
    rest();
    expect_got(peer, "C() ");
    engine_close();
}

/* HOSTILE X69 */
static void test_an_end_without_a_close_is_1006(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    say_text(peer, "last words");
    fake_end(peer);
    rest();
    expect_heard("last words "); /* what was there is read first */
    CHECK(peer->closed);
    CHECK_EQ(last_code, 1006);
    peer = client();
    say_text(peer, "last words");
    peer->edges |= EPOLLHUP | EPOLLERR;
    peer->eof = true;
    rest();
    expect_heard("last words ");
    CHECK(peer->closed);
    peer = client();
    say_text(peer, "last words");
    peer->edges = EPOLLRDHUP; /* and nothing else */
    peer->eof = true;
    rest();
    expect_heard("last words ");
    CHECK(peer->closed);
    peer = client();
    fake_say(peer, "\x81\x85", 2);
    fake_end(peer);
    rest();
    CHECK(peer->closed);
    peer = fake_connect();
    fake_end(peer);
    rest();
    CHECK(peer->closed);
    CHECK_EQ(deaths, 5);
    engine_close();
}

/* HOSTILE X18 */
static void test_a_reset_ends_it_and_counts_what_was_pending(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 7;
    publish(topic, "one");
    publish(topic, "two");
    publish(topic, "three");
    rest();
    fake_reset(peer);
    rest();
    CHECK(peer->closed);
    CHECK_EQ(topic->account.delivered, 1);
    CHECK_EQ(topic->account.dropped, 2);
    CHECK_EQ(topic->refs, 0);
    engine_close();
}

static void test_a_handshake_has_ten_seconds_in_total(void)
{
    engine_open(&OPTIONS);
    fake_peer *silent = fake_connect(), *slow = fake_connect(), *done = client();
    for (int i = 0; i < 10; i++) {
        CHECK(!silent->closed && !slow->closed);
        pass_time(9 * SECOND / 10);
        fake_say(slow, "G", 1);
    }
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK(silent->closed && slow->closed && !done->closed);
    CHECK_EQ(engine->counters.handshake_timeouts, 2);
    engine_close();
}

static void decide_nothing(const fws_event *event)
{
    note(event->kind == FWS_EVENT_UNDECIDED ? "UNDECIDED" : "HEAD", "", 0);
}

/* HOSTILE X03 */
static void test_who_is_not_decided_on_in_time_can_still_be_answered(void)
{
    engine_open(&OPTIONS);
    on_event = decide_nothing;
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    pass_time(10 * SECOND - FWS_SWEEP_NS);
    expect_heard("HEAD ");
    pass_time(3 * FWS_SWEEP_NS);
    expect_heard("UNDECIDED UNDECIDED ");
    CHECK_EQ(engine->counters.handshake_timeouts, 1);
    CHECK(!peer->closed);
    CHECK_EQ(fws_conn_respond(engine, conn_of(peer), (const uint8_t *)"503", 3, false), FWS_OK);
    rest();
    CHECK(peer->shut && peer->out_n == 3);
    engine_close();
}

/* HOSTILE X03 */
static void test_who_hangs_up_before_the_decision_is_gone_at_once(void)
{
    engine_open(&OPTIONS);
    on_event = decide_nothing;
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    rest();
    CHECK(!peer->closed);
    fake_end(peer);
    rest();
    CHECK(peer->closed);
    CHECK_EQ(deaths, 1);
    engine_close();
}

static void test_nobody_gains_from_the_time_before_it_came(void)
{
    engine_open(&OPTIONS);
    net.now += 3600 * SECOND; /* an idle hour without a turn */
    fake_peer *first = fake_connect();
    turn();
    pass_time(SECOND);
    net.now += 5 * SECOND; /* the engine is held up; another one comes meanwhile */
    fake_peer *second = fake_connect();
    turn();
    pass_time(8 * SECOND);
    CHECK(!first->closed); /* granted the time in which nobody listened */
    pass_time(3 * SECOND);
    CHECK(second->closed && first->closed);
    engine_close();
}

static void test_an_attached_socket_does_not_gain_either(void)
{
    engine_open(&OPTIONS);
    net.now += 3600 * SECOND;
    fake_peer *peer = fake_new();
    CHECK(fws_engine_attach(engine, fake_open(peer), FWS_SERVER, NULL, 0) != NULL);
    pass_time(OPTIONS.handshake_ns - SECOND);
    CHECK(!peer->closed);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    engine_close();
}

static void keep_alive(const fws_event *event)
{
    fws_conn_respond(engine, event->conn, (const uint8_t *)"200", 3, true);
}

static void test_a_connection_between_requests_is_let_go(void)
{
    engine_open(&OPTIONS);
    on_event = keep_alive;
    fake_peer *peer = fake_connect();
    for (int i = 0; i < 4; i++) {
        fake_say(peer, HEAD, strlen(HEAD));
        rest();
        pass_time(OPTIONS.keep_alive_ns - SECOND);
        CHECK(!peer->closed);
    }
    CHECK_EQ(peer->out_n, 12);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    CHECK_EQ(engine->counters.keep_alive_timeouts, 1);
    engine_close();
}

/* HOSTILE X26 */
static void test_a_close_that_is_not_answered_ends_in_time(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client(), *stuck = client();
    stuck->room = 1;
    say_goodbye(peer, 1001);
    say_goodbye(stuck, 1001);
    pass_time(OPTIONS.close_ns - SECOND);
    CHECK(!peer->closed && !stuck->closed);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed && stuck->closed);
    CHECK_EQ(engine->counters.close_timeouts, 2);
    CHECK(!peer->reset && stuck->reset); /* who has taken everything is not */
    CHECK_EQ(last_code, 1001);
    engine_close();
}

/* A subscriber that takes nothing, neither what was published nor the Close behind it. */
static fake_peer *stuck_behind_our_close(fws_topic *topic)
{
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 0;
    publish(topic, "0123456789");
    say_goodbye(peer, 1001);
    return peer;
}

/* HOSTILE X25 */
static void test_a_close_outlives_the_policy_for_slow_ones(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 20);
    fake_peer *peer = stuck_behind_our_close(topic);
    for (int i = 0; i < 5; i++)
        publish(topic, "0123456789");
    pass_time(2 * FWS_SWEEP_NS);
    fws_conn *conn = conn_of(peer);
    CHECK_EQ(engine->counters.slow_closed, 1);
    CHECK_EQ(conn->close_code, 1001); /* what is told is what goes out */
    CHECK(conn->own_reason->n == 3 && memcmp(conn->own_reason->data, "bye", 3) == 0);
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "C1001(bye) ");
    CHECK(peer->shut);
    engine_close();
}

static void test_a_slow_end_gives_our_close_no_more_time(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 20);
    fake_peer *peer = stuck_behind_our_close(topic);
    pass_time(OPTIONS.close_ns - SECOND);
    for (int i = 0; i < 5; i++)
        publish(topic, "0123456789");
    pass_time(2 * FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.slow_closed, 1);
    CHECK(!peer->closed);
    pass_time(SECOND);
    CHECK(peer->closed && peer->reset);
    CHECK_EQ(last_code, 1001);
    engine_close();
}

static void take_long(const fws_event *event)
{
    if (event->kind == FWS_EVENT_MESSAGE)
        net.now += 30 * SECOND;
    else
        usual(event);
}

static void test_a_staged_close_has_its_own_time_behind_a_slow_handler(void)
{
    engine_open(&OPTIONS);
    on_event = take_long;
    fake_peer *peer = client();
    say_text(peer, "x");
    turn();
    engine->driver++; /* as from another thread */
    CHECK_EQ(say_goodbye(peer, 1000), FWS_OK);
    engine->driver--;
    turn();
    CHECK_EQ(conn_of(peer)->state, FWS_CLOSING);
    CHECK_EQ(conn_of(peer)->deadline, fws_engine_time(engine) + OPTIONS.close_ns);
    pass_time(OPTIONS.close_ns + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    CHECK_EQ(engine->counters.close_timeouts, 1);
    engine_close();
}

int main(void)
{
    RUN(test_a_staged_close_has_its_own_time_behind_a_slow_handler);
    RUN(test_messages_before_a_close_are_answered_first);
    RUN(test_every_legal_close_is_echoed);
    RUN(test_a_good_message_comes_before_the_error_behind_it);
    RUN(test_our_close_follows_what_was_published_and_nothing_follows_it);
    RUN(test_both_may_close_at_once);
    RUN(test_illegal_close_codes_are_refused);
    RUN(test_an_end_without_a_close_is_1006);
    RUN(test_a_reset_ends_it_and_counts_what_was_pending);
    RUN(test_a_handshake_has_ten_seconds_in_total);
    RUN(test_who_is_not_decided_on_in_time_can_still_be_answered);
    RUN(test_who_hangs_up_before_the_decision_is_gone_at_once);
    RUN(test_nobody_gains_from_the_time_before_it_came);
    RUN(test_an_attached_socket_does_not_gain_either);
    RUN(test_a_connection_between_requests_is_let_go);
    RUN(test_a_close_that_is_not_answered_ends_in_time);
    RUN(test_a_close_outlives_the_policy_for_slow_ones);
    RUN(test_a_slow_end_gives_our_close_no_more_time);
    return 0;
}
