/* Which Close frames were received and sent, with their reasons, and which came first. */
#include "engine_fixture.h"

static fws_closes closes;

/* Until it is dead, but not reaped. */
static void end(fake_peer *peer)
{
    fws_conn *conn = conn_of(peer);
    fake_end(peer);
    for (int i = 0; i < 20 && conn->state != FWS_DEAD; i++) {
        harvest();
        handle();
        flush();
    }
    CHECK_EQ(conn->state, FWS_DEAD);
    closes = fws_conn_closes(conn);
}

static void expect_frame(uint16_t code, const char *reason, const fws_close *frame)
{
    CHECK_EQ(frame->code, code);
    CHECK_EQ(frame->n, strlen(reason));
    CHECK(frame->n == 0 || memcmp(frame->reason, reason, frame->n) == 0);
}

static void expect_closes(uint16_t received, const char *their_reason, uint16_t sent,
                          const char *our_reason)
{
    expect_frame(received, their_reason, &closes.received);
    expect_frame(sent, our_reason, &closes.sent);
}

static void test_the_peers_comes_first_and_is_echoed(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    closes = fws_conn_closes(conn_of(peer));
    expect_closes(0, "", 0, "");
    say_frame(peer, FWS_CLOSE, "\x0F\xA1theirs", 8);
    harvest();
    handle();
    closes = fws_conn_closes(conn_of(peer));
    expect_closes(4001, "theirs", 0, ""); /* the echo leaves at the flush */
    CHECK(closes.peer_first);
    rest();
    closes = fws_conn_closes(conn_of(peer));
    expect_closes(4001, "theirs", 4001, "theirs");
    end(peer);
    expect_closes(4001, "theirs", 4001, "theirs");
    CHECK(closes.peer_first);
    engine_close();
}

static void test_ours_comes_first_and_is_answered(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    say_goodbye(peer, 1001);
    closes = fws_conn_closes(conn_of(peer));
    expect_closes(0, "", 0, ""); /* it has not left */
    rest();
    closes = fws_conn_closes(conn_of(peer));
    expect_closes(0, "", 1001, "bye");
    CHECK(!closes.peer_first);
    say_frame(peer, FWS_CLOSE, "\x0F\xA2other", 7);
    rest();
    end(peer);
    expect_closes(4002, "other", 1001, "bye");
    CHECK(!closes.peer_first);
    reap();
    CHECK_EQ(last_code, 4002);
    engine_close();
}

static void test_empty_ones_have_code_1005(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    CHECK_EQ(command(FWS_CMD_CLOSE, peer, NULL, 1005, NULL, 0), FWS_OK);
    say_frame(peer, FWS_CLOSE, NULL, 0);
    rest();
    end(peer);
    expect_closes(1005, "", 1005, "");
    engine_close();
}

static void test_an_error_of_the_peer_is_told_by_ours_alone(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    fake_say(peer, "\x83\x80\0\0\0\0", 6);
    rest();
    end(peer);
    expect_closes(0, "", 1002, "");
    CHECK(!closes.peer_first);
    engine_close();
}

static void test_a_close_that_never_left_was_not_sent(void)
{
    for (int answered = 0; answered < 2; answered++) {
        engine_open(&OPTIONS);
        fake_peer *peer = client();
        peer->room = 4;
        say_goodbye(peer, 1001);
        if (answered)
            say_frame(peer, FWS_CLOSE, "\x03\xE8", 2);
        rest();
        CHECK_EQ(peer->out_n, 4);
        fws_conn *conn = conn_of(peer);
        fws_conn_cut_off(engine, conn);
        closes = fws_conn_closes(conn);
        expect_closes(answered ? 1000 : 0, "", 0, "");
        CHECK_EQ(closes.peer_first, answered); /* the only one there is */
        rest();
        engine_close();
    }
}

static void test_who_vanishes_has_sent_none(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    end(peer);
    expect_closes(0, "", 0, "");
    CHECK(!closes.peer_first);
    engine_close();
}

static void test_reasons_of_123_bytes_are_kept(void)
{
    char payload[FWS_CONTROL_MAX + 1] = "\x0F\xA1", ours[FWS_REASON_MAX + 1] = "";
    memset(payload + 2, 't', FWS_REASON_MAX);
    memset(ours, 'o', FWS_REASON_MAX);
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    CHECK_EQ(command(FWS_CMD_CLOSE, peer, NULL, 4000, ours, FWS_REASON_MAX), FWS_OK);
    say_frame(peer, FWS_CLOSE, payload, FWS_CONTROL_MAX);
    rest();
    end(peer);
    expect_closes(4001, payload + 2, 4000, ours);
    engine_close();
}

/* The text is in no connection that has none. */
static void test_a_connection_is_small(void)
{
    CHECK(sizeof(fws_conn) <= 768);
}

int main(void)
{
    RUN(test_the_peers_comes_first_and_is_echoed);
    RUN(test_ours_comes_first_and_is_answered);
    RUN(test_empty_ones_have_code_1005);
    RUN(test_an_error_of_the_peer_is_told_by_ours_alone);
    RUN(test_a_close_that_never_left_was_not_sent);
    RUN(test_who_vanishes_has_sent_none);
    RUN(test_reasons_of_123_bytes_are_kept);
    RUN(test_a_connection_is_small);
    return 0;
}
