/* Time-outs measure progress: what keeps arriving or being taken is not cut off, a drip is. */
#include "engine_fixture.h"

static bool alive(const fake_peer *peer)
{
    return conn_of(peer) != NULL;
}

static fws_options with_messages(void)
{
    fws_options options = OPTIONS;
    options.message_ns = 60 * SECOND;
    return options;
}

static const uint8_t nothing[65536];

/* n bytes a second for so many seconds, or until it is let go; the seconds that it was there. */
static int arrives(fake_peer *peer, size_t n, int seconds)
{
    for (int second = 0; second < seconds; second++) {
        if (!alive(peer))
            return second;
        fake_say(peer, nothing, n);
        pass_time(SECOND);
    }
    return seconds;
}

static void begin_frame(fake_peer *peer, uint64_t n)
{
    uint8_t head[FWS_HEADER_MAX];
    const uint8_t key[4] = {0};
    fake_say(peer, head, fws_header_encode(head, FWS_BINARY, true, 0, n, key));
}

/* HOSTILE X21 */
static void test_a_large_frame_that_keeps_arriving_is_taken(void)
{
    fws_options options = with_messages();
    engine_open(&options);
    fake_peer *peer = client();
    begin_frame(peer, 20 * 600);
    CHECK_EQ(arrives(peer, 20, 600), 600);
    CHECK_EQ(conn_of(peer)->messages_in, 1);
    CHECK_EQ(engine->counters.message_timeouts, 0);
    engine_close();
}

static void test_a_message_of_many_frames_that_keep_arriving_is_taken(void)
{
    fws_options options = with_messages();
    engine_open(&options);
    fake_peer *peer = client();
    uint8_t frame[64];
    const uint8_t key[4] = {0};
    for (int second = 0; second < 300; second++) {
        unsigned opcode = second == 0 ? FWS_BINARY : FWS_CONTINUATION;
        size_t head = fws_header_encode(frame, opcode, second == 299, 0, 20, key);
        memset(frame + head, 0, 20);
        fake_say(peer, frame, head + 20);
        pass_time(SECOND);
        CHECK(alive(peer));
    }
    CHECK_EQ(conn_of(peer)->messages_in, 1);
    engine_close();
}

/* HOSTILE X21 */
static void test_a_message_that_drips_is_not_waited_for(void)
{
    fws_options options = with_messages();
    engine_open(&options);
    fake_peer *peer = client();
    begin_frame(peer, 60000);
    pass_time(SECOND);
    for (int i = 0; i < 61 && engine->counters.message_timeouts == 0; i++) {
        fake_say(peer, nothing, 16); /* 960 bytes a minute */
        pass_time(SECOND);
    }
    CHECK_EQ(engine->counters.message_timeouts, 1);
    expect_got(peer, "C1008(message timeout) ");
    engine_close();
}

static void test_progress_is_a_kibibyte_in_each_window(void)
{
    for (size_t n = FWS_PROGRESS_BYTES - 1; n <= FWS_PROGRESS_BYTES; n++) {
        fws_options options = with_messages();
        engine_open(&options);
        fake_peer *peer = client();
        begin_frame(peer, 60000);
        pass_time(SECOND);
        fake_say(peer, nothing, n);
        pass_time(60 * SECOND);
        CHECK_EQ(engine->counters.message_timeouts, n < FWS_PROGRESS_BYTES);
        pass_time(60 * SECOND); /* and then nothing */
        CHECK_EQ(engine->counters.message_timeouts, 1);
        engine_close();
    }
}

static void test_bytes_of_a_large_frame_answer_a_ping(void)
{
    fws_options options = OPTIONS;
    options.ping_ns = options.pong_ns = 20 * SECOND;
    engine_open(&options);
    fake_peer *peer = client();
    begin_frame(peer, 60000);
    CHECK_EQ(arrives(peer, 1, 200), 200);
    CHECK(engine->counters.pings > 5);
    pass_time(41 * SECOND);
    CHECK(!alive(peer));
    CHECK_EQ(engine->counters.ping_timeouts, 1);
    engine_close();
}

static void take_long(const fws_event *event)
{
    usual(event);
    net.now += SECOND / 20;
}

/* The pong stands behind the messages. */
static void test_who_is_not_read_on_is_not_waited_for(void)
{
    fws_options options = OPTIONS;
    options.ping_ns = options.pong_ns = 20 * SECOND;
    engine_open(&options);
    fake_peer *peer = client();
    for (int i = 0; i < 2000; i++)
        say_text(peer, "a");
    on_event = take_long;
    while (heard_n < 2 * 2000) {
        turn();
        CHECK(alive(peer));
    }
    CHECK(engine->counters.pings > 0);
    pass_time(61 * SECOND);
    CHECK(!alive(peer));
    engine_close();
}

/* Their heads are there: that our turns come late is not their fault. */
static void test_who_waits_for_its_head_to_be_read_is_not_timed_out(void)
{
    fws_options options = OPTIONS;
    options.max_connections = 400;
    engine_open(&options);
    on_event = take_long;
    for (int i = 0; i < 300; i++)
        fake_say(fake_connect(), HEAD, strlen(HEAD));
    for (int i = 0; i < 400; i++)
        turn();
    CHECK_EQ(engine->live, 300);
    CHECK_EQ(engine->counters.handshake_timeouts, 0);
    engine_close();
}

static void test_a_head_that_drips_when_its_time_is_up_is_not_waited_for(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = fake_connect();
    for (int i = 0; i < 100 && !peer->closed; i++) {
        fake_say(peer, "G", 1);
        net.now += SECOND / 8;
        turn();
    }
    CHECK(peer->closed);
    CHECK_EQ(engine->counters.handshake_timeouts, 1);
    engine_close();
}

static uint8_t page[20000];
static bool kept_alive;

static void answer_page(const fws_event *event)
{
    note("HEAD", "", 0);
    CHECK_EQ(fws_conn_respond(engine, event->conn, page, sizeof page, kept_alive), FWS_OK);
}

static fake_peer *downloads(bool keep_alive, size_t room)
{
    engine_open(&OPTIONS);
    kept_alive = keep_alive;
    on_event = answer_page;
    fake_peer *peer = fake_connect();
    peer->room = room;
    fake_say(peer, HEAD, strlen(HEAD));
    rest();
    return peer;
}

/* It reads n bytes a second; the seconds until it is let go or has everything. */
static int takes(fake_peer *peer, size_t n)
{
    int second = 0;
    for (; !peer->closed && peer->out_n < sizeof page; second++) {
        fake_room(peer, n);
        pass_time(SECOND);
    }
    return second;
}

static void test_an_answer_that_keeps_being_taken_is_not_cut_off(void)
{
    for (int keep = 0; keep < 2; keep++) {
        fake_peer *peer = downloads(keep, 500);
        CHECK_EQ(takes(peer, 500), 39);
        CHECK(!peer->closed && !peer->reset);
        CHECK_EQ(peer->shut, !keep);
        pass_time((keep ? OPTIONS.keep_alive_ns : FWS_LINGER_NS) + 2 * FWS_SWEEP_NS);
        CHECK(peer->closed && !peer->reset);
        CHECK_EQ(engine->counters.close_timeouts, 0);
        engine_close();
    }
}

/* HOSTILE X46 */
static void test_an_answer_that_drips_is_cut_off(void)
{
    for (int keep = 0; keep < 2; keep++) {
        fake_peer *peer = downloads(keep, 500);
        CHECK(takes(peer, 100) <= 12); /* less than 1 KiB in a window, behind one with the 500 */
        CHECK(peer->closed && peer->reset);
        engine_close();
    }
}

static void test_a_last_answer_lingers_while_it_is_being_confirmed(void)
{
    fake_peer *peer = downloads(false, 0);
    conn_of(peer)->acknowledges = true;
    peer->unacknowledged = sizeof page; /* all of it in the kernel, none of it at the peer */
    fake_room(peer, PLENTY);
    rest();
    CHECK(peer->shut);
    for (; peer->unacknowledged > 0; peer->unacknowledged -= 2000) {
        pass_time(SECOND - FWS_SWEEP_NS);
        CHECK(!peer->closed);
    }
    pass_time(2 * FWS_LINGER_NS + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    engine_close();
}

static void test_a_kept_connection_waits_from_the_end_of_its_answer_on(void)
{
    fake_peer *peer = downloads(true, 500);
    CHECK_EQ(takes(peer, 1000), 20); /* four times keep_alive_ns */
    pass_time(OPTIONS.keep_alive_ns - SECOND);
    CHECK(!peer->closed);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    CHECK_EQ(engine->counters.keep_alive_timeouts, 1);
    engine_close();
}

static void test_each_request_has_a_time_of_its_own(void)
{
    fake_peer *peer = downloads(true, PLENTY);
    for (int i = 0; i < 3; i++) { /* from its first byte, however long it was idle before */
        pass_time(OPTIONS.keep_alive_ns - SECOND);
        fake_say(peer, HEAD, 5);
        pass_time(OPTIONS.handshake_ns - SECOND);
        fake_say(peer, &HEAD[5], strlen(HEAD) - 5);
        rest();
        CHECK(!peer->closed);
    }
    expect_heard("HEAD HEAD HEAD HEAD ");
    fake_say(peer, HEAD HEAD, strlen(HEAD) + 5); /* the next one begins behind that one */
    pass_time(OPTIONS.handshake_ns - SECOND);
    CHECK(!peer->closed);
    CHECK_EQ(engine->counters.handshake_timeouts, 0);
    pass_time(SECOND + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    CHECK_EQ(engine->counters.handshake_timeouts, 1);
    CHECK_EQ(engine->counters.keep_alive_timeouts, 0);
    engine_close();
}

static bool decided;

static void decide_on_the_first(const fws_event *event)
{
    note(event->kind == FWS_EVENT_UNDECIDED ? "UNDECIDED" : "HEAD", "", 0);
    if (!decided)
        CHECK_EQ(fws_conn_respond(engine, event->conn, page, 9, true), FWS_OK);
    decided = true;
}

static void test_a_later_request_is_decided_on_in_its_own_time(void)
{
    engine_open(&OPTIONS);
    decided = false;
    on_event = decide_on_the_first;
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    pass_time(OPTIONS.keep_alive_ns - SECOND);
    fake_say(peer, HEAD, strlen(HEAD));
    pass_time(OPTIONS.handshake_ns - SECOND);
    expect_heard("HEAD HEAD ");
    pass_time(SECOND + FWS_SWEEP_NS);
    CHECK(strncmp(heard, "UNDECIDED ", 10) == 0);
    engine_close();
}

static void expect_a_body(const fws_event *event)
{
    note(event->kind == FWS_EVENT_HEAD ? "HEAD" : "BODY", "", 0);
    if (event->kind == FWS_EVENT_HEAD)
        CHECK_EQ(fws_conn_expect_body(engine, event->conn, 20000, NULL, 0), FWS_OK);
    else
        CHECK_EQ(fws_conn_respond(engine, event->conn, page, 9, true), FWS_OK);
}

static void test_a_body_that_keeps_arriving_is_taken_and_one_that_drips_is_not(void)
{
    engine_open(&OPTIONS);
    on_event = expect_a_body;
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    pass_time(SECOND);
    for (int second = 0; second < 125; second++) {
        fake_say(peer, nothing, 160);
        pass_time(SECOND);
    }
    expect_heard("HEAD BODY ");
    engine_close();
    engine_open(&OPTIONS);
    on_event = expect_a_body;
    fake_peer *drip = fake_connect();
    fake_say(drip, HEAD, strlen(HEAD));
    pass_time(SECOND);
    CHECK(arrives(drip, 100, 60) <= 11);
    CHECK_EQ(engine->counters.handshake_timeouts, 1);
    engine_close();
}

static void test_a_close_waits_for_what_keeps_being_taken_before_it(void)
{
    for (int drip = 0; drip < 2; drip++) {
        engine_open(&OPTIONS);
        fake_peer *peer = client();
        peer->room = 1;
        CHECK_EQ(command(FWS_CMD_SEND, peer, NULL, 0, page, sizeof page), FWS_OK);
        CHECK_EQ(say_goodbye(peer, 1001), FWS_OK);
        rest();
        if (drip) {
            CHECK(takes(peer, 100) <= 4);
            CHECK(peer->closed && peer->reset);
        } else {
            CHECK_EQ(takes(peer, 500), 40);
            fake_room(peer, PLENTY);
            pass_time(OPTIONS.close_ns - SECOND); /* for its answer, from there on */
            CHECK(!peer->closed);
            pass_time(SECOND + 2 * FWS_SWEEP_NS);
            CHECK(peer->closed && !peer->reset);
        }
        CHECK_EQ(engine->counters.close_timeouts, 1);
        engine_close();
    }
}

static void test_who_is_not_read_lives_as_long_as_its_kernel_confirms_pings(void)
{
    fws_options options = with_messages();
    options.ping_ns = options.pong_ns = 20 * SECOND;
    engine_open(&options);
    fake_peer *well = client(), *gone = client();
    fake_peer *both[] = {well, gone};
    for (int i = 0; i < 2; i++) {
        conn_of(both[i])->acknowledges = true;
        fake_say(both[i], "\x82\xFE", 2); /* the beginning of a message */
        rest();
        fws_conn_pause(engine, conn_of(both[i]), true);
    }
    gone->unacknowledged = (int)conn_of(gone)->bytes_written;
    for (int second = 0; second < 200; second++) {
        size_t before = gone->out_n;
        pass_time(SECOND);
        gone->unacknowledged += (int)(gone->out_n - before);
    }
    CHECK(alive(well) && !alive(gone));
    CHECK(engine->counters.pings > 5);
    CHECK_EQ(engine->counters.message_timeouts, 0);
    fws_conn_pause(engine, conn_of(well), false);
    pass_time(SECOND); /* what it sent meanwhile is still to be read */
    CHECK(alive(well));
    pass_time(62 * SECOND);
    CHECK(!alive(well) || conn_of(well)->state != FWS_OPEN);
    engine_close();
}

int main(void)
{
    RUN(test_a_large_frame_that_keeps_arriving_is_taken);
    RUN(test_a_message_of_many_frames_that_keep_arriving_is_taken);
    RUN(test_a_message_that_drips_is_not_waited_for);
    RUN(test_progress_is_a_kibibyte_in_each_window);
    RUN(test_bytes_of_a_large_frame_answer_a_ping);
    RUN(test_who_is_not_read_on_is_not_waited_for);
    RUN(test_who_waits_for_its_head_to_be_read_is_not_timed_out);
    RUN(test_a_head_that_drips_when_its_time_is_up_is_not_waited_for);
    RUN(test_an_answer_that_keeps_being_taken_is_not_cut_off);
    RUN(test_an_answer_that_drips_is_cut_off);
    RUN(test_a_last_answer_lingers_while_it_is_being_confirmed);
    RUN(test_a_kept_connection_waits_from_the_end_of_its_answer_on);
    RUN(test_each_request_has_a_time_of_its_own);
    RUN(test_a_later_request_is_decided_on_in_its_own_time);
    RUN(test_a_body_that_keeps_arriving_is_taken_and_one_that_drips_is_not);
    RUN(test_a_close_waits_for_what_keeps_being_taken_before_it);
    RUN(test_who_is_not_read_lives_as_long_as_its_kernel_confirms_pings);
    return 0;
}
