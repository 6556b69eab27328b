/* The budget over what waits in user memory: outboxes, partial messages, heads, bodies, staged
 * commands, by what is allocated. Past it new work is refused, those who hold most are closed,
 * everything is counted, and who reads is served. (check_buffers() counts again at every flush.) */
#include <pthread.h>

#include "engine_fixture.h"

#define MANY 400
#define KIB 1024U

static fake_peer *crowd[MANY];
static uint8_t page[20000];

static void open_with(uint64_t budget)
{
    fws_options options = OPTIONS;
    options.max_connections = 2000;
    options.max_buffered_bytes = budget;
    engine_open(&options);
}

/* Clients that are through their handshake; none of them reads any more. */
static void gather_crowd(int n)
{
    for (int i = 0; i < n; i++) {
        crowd[i] = fake_connect();
        fake_say(crowd[i], HEAD, strlen(HEAD));
    }
    rest();
    for (int i = 0; i < n; i++) {
        CHECK_EQ(crowd[i]->out_n, strlen(ANSWER));
        crowd[i]->out_n = crowd[i]->room = 0;
    }
    CHECK_EQ(engine->buffered, 0);
}

static void expect_served(fake_peer *healthy)
{
    CHECK_EQ(tell(healthy, "well"), FWS_OK);
    turn();
    expect_got(healthy, "T(well) ");
}

/* How many have been told 1013, now that they read again. */
static int told_of_the_limit(int n)
{
    static const uint8_t word[] = "\x88\x0E\x03\xF5memory limit";
    int told = 0;
    for (int i = 0; i < n; i++) {
        size_t length = sizeof word - 1;
        fake_room(crowd[i], PLENTY);
        rest();
        told += crowd[i]->out_n >= length
                && memcmp(crowd[i]->out + crowd[i]->out_n - length, word, length) == 0;
    }
    return told;
}

static void test_what_waits_is_counted_and_no_more(void)
{
    open_with(0);
    fake_peer *peer = client();
    CHECK_EQ(engine->buffered, 0);
    peer->room = 3;
    CHECK_EQ(tell(peer, "a message"), FWS_OK);
    CHECK(engine->buffered >= FWS_BLOCK_LEAST && engine->buffered < 2 * FWS_BLOCK_LEAST);
    turn();
    CHECK(engine->buffered >= FWS_BLOCK_LEAST);
    fake_room(peer, PLENTY);
    turn();
    CHECK_EQ(engine->buffered, 0);
    expect_got(peer, "T(a message) ");
    engine_close();
}

static void test_a_message_in_two_pieces_is_counted_at_every_split(void)
{
    open_with(64 * KIB);
    fake_peer *peer = client();
    static char text[2000];
    uint8_t frame[2100];
    memset(text, 'x', sizeof text);
    size_t n = client_frame(frame, FWS_TEXT, text, sizeof text);
    for (size_t cut = 1; cut < n; cut++) {
        fake_say(peer, frame, cut);
        turn();
        CHECK(cut < n - sizeof text + 1 || engine->buffered >= cut - (n - sizeof text));
        CHECK(engine->buffered < 2 * sizeof text + 64);
        fake_say(peer, frame + cut, n - cut);
        turn();
        CHECK_EQ(engine->buffered, 0);
        CHECK_EQ(heard_n, sizeof text + 1);
        heard_n = 0;
    }
    CHECK_EQ(engine->counters.buffered_closed, 0);
    engine_close();
}

static void test_small_messages_to_many_stay_within_the_budget(void)
{
    open_with(256 * KIB);
    fake_peer *healthy = client();
    gather_crowd(100);
    uint64_t refused = 0, taken = 0;
    for (int i = 0; i < 3000; i++) {
        for (int k = 0; k < 100; k++) {
            int status = tell(crowd[k], "");
            CHECK(status == FWS_OK || status == FWS_E_FULL || status == FWS_E_CLOSED);
            refused += status == FWS_E_FULL;
            taken += status == FWS_OK;
            CHECK(fws_engine_buffered(engine) <= 256 * KIB + FWS_BLOCK_MOST + 16);
        }
        expect_served(healthy);
        CHECK(fws_engine_buffered(engine) <= 256 * KIB);
    }
    CHECK(refused > 0 && taken > 10000);
    CHECK_EQ(engine->counters.log_full, refused);
    uint64_t closed = 0;
    for (int i = 0; i < 100; i++)
        closed += conn_of(crowd[i])->state == FWS_DRAINING;
    CHECK_EQ(engine->counters.buffered_closed, closed);
    CHECK(closed > 0);
    engine_close();
}

static fake_peer *asking;

static void answer(const fws_event *event)
{
    usual(event);
    if (event->kind == FWS_EVENT_MESSAGE)
        CHECK_EQ(tell(asking, "well"), FWS_OK);
}

/* What one turn receives may pass the budget; a client that reads is answered all the same. */
static void answer_beside_a_crowd(bool first)
{
    static char text[20000];
    static uint8_t frame[20100];
    memset(text, 'x', sizeof text);
    size_t n = client_frame(frame, FWS_TEXT, text, sizeof text);
    open_with(32 * KIB);
    fake_peer *healthy = asking = client();
    gather_crowd(8);
    heard_n = 0;
    on_event = answer;
    if (first)
        say_text(healthy, "still there?");
    for (int i = 0; i < 8; i++)
        fake_say(crowd[i], frame, n - 1);
    if (!first)
        say_text(healthy, "still there?");
    rest();
    expect_got(healthy, "T(well) ");
    expect_heard("still there? ");
    CHECK(engine->counters.buffered_closed > 0);
    CHECK_EQ(engine->counters.log_full, 0);
    engine_close();
}

static void test_who_reads_is_answered_while_others_pass_the_budget(void)
{
    answer_beside_a_crowd(true);
    answer_beside_a_crowd(false);
}

static void test_one_large_holder_goes_before_many_small_ones(void)
{
    open_with(256 * KIB);
    gather_crowd(50);
    static char large[100 * KIB + 1], small[1000];
    memset(large, 'l', sizeof large - 1);
    memset(small, 's', sizeof small - 1);
    CHECK_EQ(tell(crowd[7], large), FWS_OK);
    CHECK_EQ(tell(crowd[9], large), FWS_OK);
    turn();
    for (int i = 10; i < 50; i++)
        (void)tell(crowd[i], small);
    CHECK_EQ(tell(crowd[0], large), FWS_E_FULL);
    turn();
    CHECK_EQ(engine->counters.buffered_closed, 1);
    CHECK(conn_of(crowd[7])->state == FWS_DRAINING && conn_of(crowd[9])->state == FWS_OPEN);
    CHECK_EQ(tell(crowd[0], "well"), FWS_OK);
    CHECK_EQ(told_of_the_limit(50), 1);
    expect_got(crowd[7], "C1013(memory limit) ");
    engine_close();
}

static void test_a_large_message_that_has_begun_to_leave_is_cut_off(void)
{
    open_with(256 * KIB);
    gather_crowd(2);
    static char large[210 * KIB + 1];
    memset(large, 'l', sizeof large - 1);
    crowd[0]->room = 100;
    CHECK_EQ(tell(crowd[0], large), FWS_OK);
    turn();
    CHECK_EQ(tell(crowd[1], large), FWS_E_FULL);
    turn();
    CHECK(crowd[0]->closed && crowd[0]->reset);
    CHECK_EQ(engine->counters.buffered_closed, 1);
    CHECK_EQ(engine->buffered, 0);
    CHECK_EQ(tell(crowd[1], large), FWS_OK);
    engine_close();
}

static void test_what_could_never_fit_closes_nobody(void)
{
    open_with(64 * KIB);
    gather_crowd(2);
    static char large[70 * KIB + 1], small[1000];
    memset(large, 'l', sizeof large - 1);
    CHECK_EQ(tell(crowd[0], small), FWS_OK);
    CHECK_EQ(tell(crowd[1], large), FWS_E_FULL);
    rest();
    CHECK_EQ(engine->counters.buffered_closed, 0);
    CHECK_EQ(engine->counters.log_full, 1);
    engine_close();
}

/* Each of them sends most of a message and waits. */
static void test_partial_messages_of_many_stay_within_the_budget(void)
{
    open_with(1024 * KIB);
    fake_peer *healthy = client();
    gather_crowd(MANY);
    static char text[30000];
    uint8_t frame[30100];
    size_t n = client_frame(frame, FWS_BINARY, text, sizeof text);
    for (int i = 0; i < MANY; i++)
        crowd[i]->room = PLENTY;
    for (size_t at = 0; at < n - 3000; at += 3000) {
        for (int i = 0; i < MANY; i++)
            if (crowd[i]->fd != 0)
                fake_say(crowd[i], frame + at, 3000);
        for (int i = 0; i < 20; i++) {
            turn();
            CHECK(fws_engine_buffered(engine) <= 1024 * KIB);
        }
        expect_served(healthy);
    }
    CHECK(engine->counters.buffered_closed > MANY / 4);
    CHECK_EQ((uint64_t)told_of_the_limit(MANY), engine->counters.buffered_closed);
    expect_served(healthy);
    engine_close();
}

static void test_heads_in_the_making_stay_within_the_budget(void)
{
    open_with(128 * KIB);
    fake_peer *healthy = client();
    static char part[900];
    memset(part, 'a', sizeof part);
    memcpy(part, "GET /", 5);
    for (int i = 0; i < MANY; i++) {
        crowd[i] = fake_connect();
        fake_say(crowd[i], part, sizeof part);
        turn();
        CHECK(fws_engine_buffered(engine) <= 128 * KIB);
    }
    rest();
    uint64_t refused = 0;
    for (int i = 0; i < MANY; i++)
        refused += crowd[i]->out_n > 12 && memcmp(crowd[i]->out, "HTTP/1.1 503 ", 13) == 0;
    CHECK(refused > MANY / 2);
    CHECK_EQ(engine->counters.refused, refused);
    CHECK(engine->counters.buffered_closed > 0 && engine->counters.buffered_closed <= refused);
    expect_served(healthy);
    engine_close();
}

/* Newcomers whose heads fill the budget anew in each turn. */
static void test_heads_that_fill_the_budget_leave_turns_to_others(void)
{
    static char part[900];
    open_with(64 * KIB);
    fake_peer *healthy = client();
    memset(part, 'a', sizeof part);
    for (int turns = 0; heard_n == 0; turns++) {
        CHECK(turns < 20);
        if (turns == 10)
            say_text(healthy, "well");
        for (int i = 0; i < 40; i++)
            fake_say(fake_connect(), part, sizeof part);
        turn();
    }
    engine_close();
}

static void take_a_little(const fws_event *event)
{
    (void)event;
    net.now += 10000;
}

/* More than a turn takes waits in the kernel, not in the budget. */
static void test_messages_of_many_that_come_faster_than_they_are_handled_close_nobody(void)
{
    static uint8_t burst[200 * KIB];
    static char text[100];
    size_t n = 0;
    open_with(3200 * KIB);
    gather_crowd(40);
    memset(text, 'x', sizeof text);
    while (n < sizeof burst - 2 * sizeof text)
        n += client_frame(burst + n, FWS_TEXT, text, sizeof text);
    for (int i = 0; i < 40; i++)
        fake_say(crowd[i], burst, n);
    on_event = take_a_little;
    do
        turn();
    while (engine->n_ready > 0);
    CHECK_EQ(engine->counters.buffered_closed, 0);
    engine_close();
}

static void answer_page(const fws_event *event)
{
    if (event->kind == FWS_EVENT_HEAD)
        CHECK_EQ(fws_conn_respond(engine, event->conn, page, sizeof page, true), FWS_OK);
}

static void test_responses_that_nobody_reads_stay_within_the_budget(void)
{
    open_with(512 * KIB);
    fake_peer *healthy = client();
    on_event = answer_page;
    for (int i = 0; i < MANY; i++) {
        crowd[i] = fake_connect();
        crowd[i]->room = 100;
        fake_say(crowd[i], HEAD, strlen(HEAD));
        turn();
        turn();
        CHECK(fws_engine_buffered(engine) <= 512 * KIB);
    }
    rest();
    expect_served(healthy);
    uint64_t cut = 0, refused = 0;
    for (int i = 0; i < MANY; i++) {
        CHECK(crowd[i]->out_n <= 100);
        cut += crowd[i]->closed && crowd[i]->reset;
        refused += crowd[i]->out_n > 12 && memcmp(crowd[i]->out, "HTTP/1.1 503 ", 13) == 0;
    }
    CHECK_EQ(engine->counters.buffered_closed, cut);
    CHECK_EQ(engine->counters.refused, refused);
    CHECK(cut + refused > MANY - 30 && refused > 10);
    engine_close();
}

static void test_while_many_have_to_go_newcomers_are_refused(void)
{
    open_with(470 * KIB);
    fake_peer *healthy = client();
    gather_crowd(MANY);
    static char text[1001], large[60 * KIB + 1];
    memset(text, 'x', sizeof text - 1);
    memset(large, 'x', sizeof large - 1);
    for (int i = 0; i < MANY; i++)
        CHECK_EQ(tell(crowd[i], text), FWS_OK);
    turn();
    CHECK_EQ(engine->counters.buffered_closed, 0);
    CHECK_EQ(tell(crowd[0], large), FWS_E_FULL);
    fws_engine_flush(engine, FWS_TURN_NS);
    CHECK_EQ(engine->counters.buffered_closed, 64); /* in one flush */
    CHECK(engine->pressed && fws_engine_more(engine));
    fake_peer *late = fake_connect();
    turn();
    CHECK(late->closed && memcmp(late->out, "HTTP/1.1 503 ", 13) == 0);
    rest();
    CHECK(!engine->pressed);
    CHECK(fws_engine_buffered(engine) <= 470 * KIB / 4 * 3);
    fake_peer *later = fake_connect();
    turn();
    CHECK(!later->closed);
    expect_served(healthy);
    engine_close();
}

/* Each stalls in the middle of another large frame, which the log has let go of since. */
static void test_frames_that_only_half_sent_ones_keep_are_counted(void)
{
    open_with(512 * KIB);
    fake_peer *healthy = client();
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 1 << 20);
    gather_crowd(40);
    static char large[40 * KIB + 1];
    memset(large, 'l', sizeof large - 1);
    for (int i = 0; i < 40; i++) {
        CHECK_EQ(subscribe(crowd[i], topic), FWS_OK);
        crowd[i]->room = 1000;
        CHECK_EQ(publish(topic, large), FWS_OK);
        rest();
        CHECK_EQ(unsubscribe(crowd[i], topic), FWS_OK); /* the frame that has begun leaves whole */
        turn();
        CHECK(fws_engine_buffered(engine) <= 512 * KIB);
    }
    CHECK(engine->counters.buffered_closed > 20 && engine->topics.logs.pinned > 200 * KIB);
    expect_served(healthy);
    for (int i = 0; i < 40; i++)
        fake_room(crowd[i], PLENTY);
    rest();
    CHECK_EQ(fws_engine_buffered(engine), 0);
    engine_close();
}

static int staged_full, staged_ok;

static void *stage_much(void *to)
{
    static char text[2000];
    const fake_peer *peer = to;
    for (int i = 0; i < 1000; i++) {
        const fws_command what = {.kind = FWS_CMD_SEND,
                                  .opcode = FWS_BINARY,
                                  .conn = peer->tag,
                                  .data = (const uint8_t *)text,
                                  .n = sizeof text};
        int status = fws_engine_command(engine, &what);
        CHECK(status == FWS_OK || status == FWS_E_FULL);
        *(status == FWS_OK ? &staged_ok : &staged_full) += 1;
    }
    return NULL;
}

static void test_commands_of_other_threads_stay_within_the_budget(void)
{
    open_with(1024 * KIB); /* so that the buffer is larger than what is kept of it */
    fake_peer *peer = client();
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, stage_much, peer) == 0);
    pthread_join(thread, NULL);
    CHECK(staged_ok > 100 && staged_full > 100);
    CHECK(fws_engine_buffered(engine) <= 1024 * KIB);
    CHECK_EQ(fws_engine_counters(engine).staged_refused, staged_full);
    rest();
    CHECK_EQ(fws_engine_buffered(engine), 0);
    engine_close();
}

int main(void)
{
    RUN(test_what_waits_is_counted_and_no_more);
    RUN(test_a_message_in_two_pieces_is_counted_at_every_split);
    RUN(test_small_messages_to_many_stay_within_the_budget);
    RUN(test_who_reads_is_answered_while_others_pass_the_budget);
    RUN(test_one_large_holder_goes_before_many_small_ones);
    RUN(test_a_large_message_that_has_begun_to_leave_is_cut_off);
    RUN(test_what_could_never_fit_closes_nobody);
    RUN(test_partial_messages_of_many_stay_within_the_budget);
    RUN(test_heads_in_the_making_stay_within_the_budget);
    RUN(test_heads_that_fill_the_budget_leave_turns_to_others);
    RUN(test_messages_of_many_that_come_faster_than_they_are_handled_close_nobody);
    RUN(test_responses_that_nobody_reads_stay_within_the_budget);
    RUN(test_while_many_have_to_go_newcomers_are_refused);
    RUN(test_frames_that_only_half_sent_ones_keep_are_counted);
    RUN(test_commands_of_other_threads_stay_within_the_budget);
    return 0;
}
