/* What comes in: heads, frames in the same segment, messages, control frames, too much at once. */
#include "engine_fixture.h"

static void test_a_head_may_come_in_any_two_pieces(void)
{
    uint8_t wire[256];
    size_t n = strlen(HEAD);
    memcpy(wire, HEAD, n);
    n += client_frame(wire + n, FWS_PING, "p", 1);
    n += client_frame(wire + n, FWS_TEXT, "one", 3);
    n += client_frame(wire + n, FWS_TEXT, "two", 3);
    for (size_t cut = 0; cut <= n; cut++) {
        engine_open(&OPTIONS);
        fake_peer *peer = fake_connect();
        fake_say(peer, wire, cut);
        rest();
        fake_say(peer, wire + cut, n - cut);
        rest();
        expect_heard("HEAD one two ");
        CHECK(memcmp(peer->out, ANSWER, strlen(ANSWER)) == 0); /* before anything else */
        peer->out_n -= strlen(ANSWER);
        memmove(peer->out, peer->out + strlen(ANSWER), peer->out_n);
        expect_got(peer, "P(p) ");
        engine_close();
    }
}

static void test_a_head_may_come_byte_by_byte(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = fake_connect();
    for (size_t i = 0; i < strlen(HEAD); i++) {
        expect_heard("");
        fake_say(peer, HEAD + i, 1);
        rest();
    }
    expect_heard("HEAD ");
    engine_close();
}

static void test_bare_line_feeds_end_a_head_too(void)
{
    const char *heads[] = {"GET / HTTP/1.1\n\n", "GET / HTTP/1.1\r\n\n", "GET / HTTP/1.1\n\r\n",
                           "\r\n\r\n", "\n\n"};
    for (size_t i = 0; i < 5; i++) {
        engine_open(&OPTIONS);
        fake_peer *peer = fake_connect();
        fake_say(peer, heads[i], strlen(heads[i]));
        rest();
        expect_heard("HEAD ");
        engine_close();
    }
}

static void test_frames_wait_until_the_head_is_decided_on(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    say_frame(peer, FWS_PING, "p", 1);
    harvest(); /* accepted */
    harvest();
    fws_conn *conn = fws_engine_next_event(engine)->conn;
    for (int i = 0; i < 3; i++) {
        CHECK(fws_engine_next_event(engine) == NULL);
        flush();
        reap();
        harvest();
    }
    CHECK_EQ(peer->out_n, 0);
    CHECK_EQ(fws_conn_upgrade(engine, conn, (const uint8_t *)"101", 3), FWS_OK);
    CHECK_EQ(fws_conn_upgrade(engine, conn, (const uint8_t *)"101", 3), FWS_E_CLOSED);
    rest();
    CHECK(memcmp(peer->out, "101\x8A\x01p", 6) == 0);
    engine_close();
}

static void test_a_pong_does_not_overtake_an_answer_that_is_stuck(void)
{
    for (size_t room = 0; room <= strlen(ANSWER); room++) {
        engine_open(&OPTIONS);
        fake_peer *peer = fake_connect();
        peer->room = room;
        fake_say(peer, HEAD, strlen(HEAD));
        say_frame(peer, FWS_PING, "p", 1);
        rest();
        fake_room(peer, PLENTY);
        rest();
        CHECK(memcmp(peer->out, ANSWER, strlen(ANSWER)) == 0);
        CHECK_EQ(peer->out_n, strlen(ANSWER) + 3);
        engine_close();
    }
}

static void test_a_slow_consumer_still_gets_its_answer_first(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 10);
    fake_peer *peer = fake_connect();
    peer->room = 0;
    fake_say(peer, HEAD, strlen(HEAD));
    rest();
    CHECK_EQ(subscribe(peer, topic), FWS_OK);
    publish(topic, "much too much");
    pass_time(SECOND);
    fake_room(peer, PLENTY);
    rest();
    CHECK(memcmp(peer->out, ANSWER, strlen(ANSWER)) == 0);
    peer->out_n -= strlen(ANSWER);
    memmove(peer->out, peer->out + strlen(ANSWER), peer->out_n);
    expect_got(peer, "C1013(slow consumer) ");
    engine_close();
}

static void refuse_limit(const fws_event *event)
{
    usual(event);
    CHECK(event->kind == FWS_EVENT_HEAD_LIMIT && event->n >= OPTIONS.head_limit);
    fws_conn_respond(engine, event->conn, (const uint8_t *)"431", 3, false);
}

static void test_a_head_past_the_limit_is_told(void)
{
    engine_open(&OPTIONS);
    on_event = refuse_limit;
    fake_peer *peer = fake_connect();
    for (size_t i = 0; i < 3 * OPTIONS.head_limit; i++)
        fake_say(peer, "x", 1);
    rest();
    expect_heard("LIMIT ");
    CHECK_EQ(peer->out_n, 3);
    CHECK(peer->shut);
    fake_end(peer);
    rest();
    CHECK(peer->closed);
    engine_close();
}

/* HOSTILE X32 */
static void test_a_request_may_be_answered_before_it_is_whole(void)
{
    for (size_t cut = 0; cut <= strlen(HEAD); cut++) {
        engine_open(&OPTIONS);
        fake_peer *peer = fake_connect();
        fake_say(peer, HEAD, cut);
        harvest(); /* accepted */
        harvest();
        (void)fws_engine_next_event(engine);
        int status = fws_conn_respond(engine, conn_of(peer), (const uint8_t *)"503", 3, false);
        CHECK_EQ(status, cut == 0 ? FWS_E_CLOSED : FWS_OK);
        rest();
        fake_say(peer, HEAD, strlen(HEAD));
        rest();
        expect_heard(cut == 0 ? "HEAD " : "");
        CHECK_EQ(peer->out_n, cut == 0 ? strlen(ANSWER) : 3);
        CHECK_EQ(peer->shut, cut > 0);
        engine_close();
    }
}

static void upgrade_only(const fws_event *event)
{
    if (event->kind == FWS_EVENT_HEAD)
        usual(event);
}

static void test_a_head_limit_past_the_receive_chunk_is_safe(void)
{
    static uint8_t wire[400000], payload[1000];
    size_t n = strlen(HEAD), frames = 0;
    fws_options options = OPTIONS;
    options.head_limit = 1 << 20;
    engine_open(&options);
    on_event = upgrade_only;
    memcpy(wire, HEAD, n);
    for (; n < sizeof wire - 2000; frames++)
        n += client_frame(wire + n, FWS_TEXT, payload, sizeof payload);
    fake_peer *peer = fake_connect();
    fake_say(peer, wire, n);
    for (int i = 0; i < 1000; i++) {
        harvest();
        handle();
        flush();
    }
    CHECK_EQ(conn_of(peer)->messages_in, frames);
    engine_close();
}

static void routes(const fws_event *event)
{
    note("", event->data, event->n < 4 ? event->n : 4);
    if (event->kind == FWS_EVENT_BODY) {
        fws_conn_respond(engine, event->conn, (const uint8_t *)"body!", 5, true);
    } else if (event->data[0] == 'P') {
        CHECK_EQ(fws_conn_expect_body(engine, event->conn, 0, NULL, 0), FWS_E_INVALID);
        CHECK_EQ(fws_conn_expect_body(engine, event->conn, 4, NULL, 0), FWS_OK);
    } else {
        fws_conn_respond(engine, event->conn, (const uint8_t *)"head!", 5, true);
    }
}

static void test_requests_and_bodies_may_follow_one_another(void)
{
    const char *wire = "POST / HTTP/1.1\r\n\r\nBODY"
                       "GET / HTTP/1.1\r\n\r\n"
                       "PUT / HTTP/1.1\r\n\r\nMORE";
    for (size_t cut = 0; cut <= strlen(wire); cut++) {
        engine_open(&OPTIONS);
        on_event = routes;
        fake_peer *peer = fake_connect();
        fake_say(peer, wire, cut);
        rest();
        fake_say(peer, wire + cut, strlen(wire) - cut);
        rest();
        expect_heard("POST BODY GET  PUT  MORE ");
        CHECK(peer->out_n == 15 && memcmp(peer->out, "body!head!body!", 15) == 0);
        engine_close();
    }
}

static void test_messages_may_be_cut_anywhere(void)
{
    uint8_t wire[256];
    size_t n = client_frame(wire, FWS_TEXT, "hello", 5);
    n += client_frame(wire + n, FWS_PING, "ping", 4);
    n += client_frame(wire + n, FWS_TEXT, "", 0);
    n += client_frame(wire + n, FWS_PONG, "ignored", 7);
    n += client_frame(wire + n, FWS_BINARY, "world", 5);
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    for (size_t cut = 0; cut <= n; cut++) {
        fake_say(peer, wire, cut);
        rest();
        fake_say(peer, wire + cut, n - cut);
        rest();
        expect_heard("hello  world ");
        expect_got(peer, "P(ping) ");
    }
    engine_close();
}

/* HOSTILE X13 */
static void test_an_interrupted_read_is_tried_again(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    peer->recv_errno = EINTR;
    say_text(peer, "hello");
    rest();
    expect_heard("hello ");
    net.wait_errno = EINTR;
    say_text(peer, "again");
    rest();
    expect_heard("again ");
    net.wait_errno = EBADF;
    CHECK_EQ(fws_engine_harvest(engine, 0), FWS_E_SYSTEM);
    engine_close();
}

static void test_a_paused_connection_is_not_read_from(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    fws_conn_pause(engine, conn_of(peer), true);
    say_text(peer, "one");
    rest();
    expect_heard("");
    fws_conn_pause(engine, conn_of(peer), false);
    rest();
    expect_heard("one ");
    engine_close();
}

static void test_no_more_messages_come_than_are_allowed(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    fws_conn_credit(engine, conn_of(peer), 2);
    for (const char *text = "a\0b\0c\0d\0"; *text != 0; text += 2)
        say_text(peer, text); /* one read brings them all */
    rest();
    expect_heard("a b ");
    CHECK_EQ(engine->counters.handler_queue_full, 1);
    fws_conn_credit(engine, conn_of(peer), 1);
    rest();
    expect_heard("c ");
    say_text(peer, "e");
    fws_conn_credit(engine, conn_of(peer), FWS_ANY_MESSAGES);
    rest();
    expect_heard("d e ");
    CHECK_EQ(engine->counters.handler_queue_full, 2);
    engine_close();
}

static void test_a_close_of_ours_ends_a_pause(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    fws_conn_pause(engine, conn_of(peer), true);
    say_text(peer, "unheard");
    CHECK_EQ(say_goodbye(peer, 1000), FWS_OK);
    fws_conn_pause(engine, conn_of(peer), true); /* too late for that */
    say_frame(peer, FWS_CLOSE, "\x03\xe8", 2);
    rest();
    expect_heard("");
    CHECK_EQ(conn_of(peer)->state, FWS_LINGER);
    engine_close();
}

static void test_pings_that_are_never_read_cost_bounded_memory(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    peer->room = 0;
    for (int i = 0; i < 20000; i++)
        say_frame(peer, FWS_PING, "0123456789", 10);
    rest();
    CHECK(conn_of(peer)->outbox.bytes < 20000);
    fake_room(peer, PLENTY);
    rest();
    CHECK(peer->out_n > 0 && peer->out_n % 12 == 0);
    engine_close();
}

static void answer_200(const fws_event *event)
{
    fws_conn_respond(engine, event->conn, (const uint8_t *)"200", 3, true);
}

/* HOSTILE X41 X66 */
static void test_an_answer_does_not_stand_behind_a_crowd(void)
{
    static fake_peer *crowd[900];
    fws_options options = OPTIONS;
    options.max_connections = 1000;
    engine_open(&options);
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 1 << 20);
    for (int i = 0; i < 900; i++) {
        crowd[i] = fake_connect();
        fake_say(crowd[i], HEAD, strlen(HEAD));
    }
    rest();
    for (int i = 0; i < 900; i++) {
        subscribe(crowd[i], topic);
        crowd[i]->room = 0;
    }
    publish(topic, "news");
    rest(); /* all are blocked */
    on_event = answer_200;
    fake_peer *late = fake_connect();
    turn();
    for (int i = 0; i < 900; i++) /* and now all are writable, which is earlier news */
        fake_room(crowd[i], PLENTY);
    fake_say(late, HEAD, strlen(HEAD));
    net.tick = 200000; /* a flush has time for 160 of them */
    turn();
    CHECK(topic->account.delivered < 900);
    CHECK_EQ(late->out_n, 3);
    net.tick = 0;
    rest();
    CHECK_EQ(topic->account.delivered, 900);
    engine_close();
}

int main(void)
{
    RUN(test_a_head_may_come_in_any_two_pieces);
    RUN(test_a_head_may_come_byte_by_byte);
    RUN(test_bare_line_feeds_end_a_head_too);
    RUN(test_frames_wait_until_the_head_is_decided_on);
    RUN(test_a_pong_does_not_overtake_an_answer_that_is_stuck);
    RUN(test_a_slow_consumer_still_gets_its_answer_first);
    RUN(test_a_head_past_the_limit_is_told);
    RUN(test_a_request_may_be_answered_before_it_is_whole);
    RUN(test_a_head_limit_past_the_receive_chunk_is_safe);
    RUN(test_requests_and_bodies_may_follow_one_another);
    RUN(test_messages_may_be_cut_anywhere);
    RUN(test_an_interrupted_read_is_tried_again);
    RUN(test_a_paused_connection_is_not_read_from);
    RUN(test_no_more_messages_come_than_are_allowed);
    RUN(test_a_close_of_ours_ends_a_pause);
    RUN(test_pings_that_are_never_read_cost_bounded_memory);
    RUN(test_an_answer_does_not_stand_behind_a_crowd);
    return 0;
}
