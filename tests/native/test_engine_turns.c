/* Turns: who is read, for how long, and what becomes of what a turn leaves over. */
#include <pthread.h>

#include "engine_fixture.h"

static int next_number;
static fws_conn *other_conn;
static bool other_heard;

static void expect_next_number(const fws_event *event)
{
    char text[16];
    if (event->conn == other_conn) {
        other_heard = true;
        return;
    }
    int n = sprintf(text, "%d", next_number++);
    CHECK(event->n == (size_t)n && memcmp(event->data, text, event->n) == 0);
}

/* One says so many numbers at once, and then another one something. */
static fake_peer *flood(int numbers)
{
    char text[16];
    fake_peer *peer = client(), *other = client();
    for (int i = 0; i < numbers; i++) {
        sprintf(text, "%d", i);
        say_text(peer, text);
    }
    say_text(other, "other");
    next_number = 0;
    other_conn = conn_of(other);
    other_heard = false;
    on_event = expect_next_number;
    return peer;
}

static void test_more_messages_than_events_come_in_order_and_whole(void)
{
    engine_open(&OPTIONS);
    flood(5000);
    int turns = 0;
    while (next_number < 5000) {
        turn();
        CHECK(++turns < 100);
        CHECK(other_heard || turns < 3); /* it waits for a turn or two, not for all of them */
    }
    CHECK(turns >= 5000 / FWS_EVENTS);
    rest();
    engine_close();
}

static void slow(const fws_event *event)
{
    expect_next_number(event);
    net.now += 2 * FWS_EVENTS_NS;
}

static void test_a_slow_handler_of_a_flood_leaves_turns_to_others(void)
{
    engine_open(&OPTIONS);
    flood(1000);
    on_event = slow;
    for (int turns = 0; turns < 1000; turns++) {
        harvest();
        handle();
        CHECK(engine->n_events <= 3);
        CHECK(other_heard || turns < 2);
        flush();
        reap();
    }
    CHECK_EQ(next_number, 1000);
    engine_close();
}

static uint32_t other_place; /* among the events of its turn */

static void note_place(const fws_event *event)
{
    if (event->conn == other_conn)
        other_place = engine->n_events;
}

/* Ten that flood, of whom each message costs a slice: who says little is in front of them all. */
static void test_who_is_cheap_does_not_wait_for_those_who_are_costly(void)
{
    engine_open(&OPTIONS);
    fake_peer *peers[10];
    for (int i = 0; i < 10; i++)
        peers[i] = client();
    fake_peer *asker = client();
    for (int i = 0; i < 10; i++)
        for (int k = 0; k < 100; k++)
            say_text(peers[i], "a");
    on_event = note_place;
    other_conn = conn_of(asker);
    net.tick = FWS_SLICE_NS / 2;
    for (int turns = 0; turns < 4; turns++)
        turn();
    for (int round = 0; round < 10; round++) {
        say_text(asker, "b");
        other_place = 0;
        turn();
        CHECK(other_place >= 1 && other_place <= 3); /* behind one whose turn was cut short */
    }
    net.tick = 0;
    rest();
    uint64_t heard_of_all = 0;
    for (int i = 0; i < 10; i++)
        heard_of_all += conn_of(peers[i])->messages_in;
    CHECK_EQ(heard_of_all, 1000);
    engine_close();
}

/* A message costs its handler nothing, and a ping has no handler at all. */
static fake_peer *pinger;
static size_t pong_by; /* bytes that it had got when a costly message came to be handled */

static void note_pong(const fws_event *event)
{
    (void)event;
    pong_by = pinger->out_n;
    net.now += FWS_EVENTS_NS;
}

static void test_a_pong_leaves_before_what_takes_long(void)
{
    engine_open(&OPTIONS);
    fake_peer *flooding = client();
    pinger = client();
    on_event = note_pong;
    for (int i = 0; i < 20; i++)
        say_text(flooding, "a");
    turn();
    turn();
    CHECK(conn_of(flooding)->costly);
    size_t before = pinger->out_n;
    say_frame(pinger, FWS_PING, "?", 1);
    turn();
    CHECK_EQ(pong_by - before, 3);
    rest();
    engine_close();
}

static void test_a_flood_without_events_leaves_turns_to_others(void)
{
    static uint8_t pings[60000];
    engine_open(&OPTIONS);
    fake_peer *peer = client(), *other = client();
    size_t n = 0;
    while (n < sizeof pings - 16)
        n += client_frame(pings + n, FWS_PING, NULL, 0);
    fake_say(peer, pings, n);
    say_text(other, "other");
    net.tick = FWS_TURN_NS / 2;
    turn();
    net.tick = 0;
    expect_heard("other ");
    CHECK(conn_of(peer)->inbuf.n > 0);
    rest();
    CHECK(peer->in_at == peer->in_n && conn_of(peer)->inbuf.n == 0);
    engine_close();
}

static void test_large_messages_of_many_come_whole(void)
{
    static uint8_t large[60000];
    engine_open(&OPTIONS);
    fake_peer *peers[12];
    for (int i = 0; i < 12; i++)
        peers[i] = client();
    for (int i = 0; i < 12; i++)
        for (int k = 0; k < 5; k++)
            say_frame(peers[i], FWS_BINARY, large, sizeof large);
    uint64_t total = 0;
    for (int turns = 0; total < 60; turns++) {
        const fws_event *event;
        harvest();
        while ((event = fws_engine_next_event(engine)) != NULL) {
            CHECK_EQ(event->n, sizeof large);
            total++;
        }
        flush();
        CHECK(turns < 100);
    }
    rest();
    engine_close();
}

/* What is done to a connection in the middle of its backlog. */

static fake_peer *flooder;
static int stop_at;
static void (*stop_it)(void);

static void stop_in_the_middle(const fws_event *event)
{
    expect_next_number(event);
    if (event->conn != other_conn && next_number == stop_at)
        stop_it();
}

static void flood_and_stop(void (*how)(void))
{
    flooder = flood(1000);
    stop_at = 100;
    stop_it = how;
    on_event = stop_in_the_middle;
    rest();
    CHECK(other_heard);
    CHECK_EQ(next_number, stop_at);
}

static void pause_it(void)
{
    fws_conn_pause(engine, conn_of(flooder), true);
}

static void test_behind_a_pause_no_message_comes_until_it_ends(void)
{
    engine_open(&OPTIONS);
    flood_and_stop(pause_it);
    stop_at = 600;
    fws_conn_credit(engine, conn_of(flooder), 500);
    rest();
    CHECK_EQ(next_number, 600);
    fws_conn_pause(engine, conn_of(flooder), false);
    rest();
    CHECK_EQ(next_number, 1000);
    engine_close();
}

static void close_it(void)
{
    CHECK_EQ(say_goodbye(flooder, 1001), FWS_OK);
}

static void test_behind_a_close_of_ours_no_message_comes(void)
{
    engine_open(&OPTIONS);
    flood_and_stop(close_it);
    say_frame(flooder, FWS_CLOSE, "\x03\xE8", 2);
    fake_end(flooder);
    rest();
    CHECK_EQ(next_number, stop_at);
    CHECK_EQ(last_code, 1000);
    engine_close();
}

static void kill_it(void)
{
    fws_conn_kill(engine, conn_of(flooder), 1006);
}

static void test_behind_an_abort_no_message_comes(void)
{
    engine_open(&OPTIONS);
    flood_and_stop(kill_it);
    CHECK(flooder->closed && deaths == 1);
    engine_close();
}

static void test_an_engine_goes_on_where_its_owner_stopped_asking(void)
{
    engine_open(&OPTIONS);
    flooder = flood(1000);
    for (int i = 0; i < 1000; i++) {
        harvest();
        const fws_event *event = fws_engine_next_event(engine);
        if (event != NULL)
            on_event(event);
        if (i == 500)
            kill_it();
        flush();
        reap();
    }
    CHECK(other_heard);
    CHECK(next_number == 500 || next_number == 501);
    engine_close();
}

/* It asks once, and then not again in its turn. */
static void test_what_an_owner_has_not_asked_for_is_work_left(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    say_text(peer, "first");
    say_text(peer, "second");
    harvest();
    on_event(fws_engine_next_event(engine));
    flush();
    reap();
    CHECK(fws_engine_more(engine));
    rest();
    expect_heard("first second ");
    engine_close();
}

/* The flush closes a stranger whose head fills the budget, and reads what it has sent on. */
static void test_a_flush_between_two_events_leaves_what_is_not_parsed(void)
{
    static char part[1000], text[500];
    fws_options options = OPTIONS;
    options.max_buffered_bytes = 1200;
    engine_open(&options);
    memset(part, 'a', sizeof part);
    memset(text, 'b', sizeof text - 1);
    fake_peer *peer = client(), *stranger = fake_connect();
    fake_say(stranger, part, 900);
    rest();
    say_text(peer, "first");
    say_text(peer, "second");
    harvest();
    const fws_event *event = fws_engine_next_event(engine);
    fake_say(stranger, part, 60);
    CHECK_EQ(tell(peer, text), FWS_E_FULL);
    flush();
    CHECK_EQ(engine->counters.buffered_closed, 1);
    on_event(event);
    handle();
    reap();
    rest();
    expect_heard("first second ");
    engine_close();
}

/* What other threads ask for. */

#define STAGED 300

static void *stage_numbers(void *to)
{
    char text[16];
    for (int i = 0; i < STAGED; i++) {
        sprintf(text, "%d", i);
        CHECK_EQ(tell(to, text), FWS_OK);
    }
    return NULL;
}

static void test_commands_of_other_threads_share_the_turn_and_stay_in_order(void)
{
    char all[STAGED * 8];
    size_t n = 0;
    pthread_t thread;
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    CHECK(pthread_create(&thread, NULL, stage_numbers, peer) == 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < STAGED; i++)
        n += (size_t)sprintf(all + n, "T(%d) ", i);
    net.tick = FWS_TURN_NS / 2;
    turn();
    net.tick = 0;
    CHECK(peer->out_n > 0 && peer->out_n < STAGED * 3);
    CHECK(fws_engine_more(engine));
    rest();
    expect_got(peer, all);
    engine_close();
}

static void test_commands_that_were_not_applied_are_forgotten_with_the_engine(void)
{
    pthread_t thread;
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    CHECK(pthread_create(&thread, NULL, stage_numbers, peer) == 0);
    pthread_join(thread, NULL);
    net.tick = FWS_TURN_NS;
    harvest();
    net.tick = 0;
    CHECK(engine->staging.drained < engine->staging.draining_n);
    engine_close();
}

int main(void)
{
    RUN(test_more_messages_than_events_come_in_order_and_whole);
    RUN(test_a_slow_handler_of_a_flood_leaves_turns_to_others);
    RUN(test_who_is_cheap_does_not_wait_for_those_who_are_costly);
    RUN(test_a_pong_leaves_before_what_takes_long);
    RUN(test_a_flood_without_events_leaves_turns_to_others);
    RUN(test_large_messages_of_many_come_whole);
    RUN(test_behind_a_pause_no_message_comes_until_it_ends);
    RUN(test_behind_a_close_of_ours_no_message_comes);
    RUN(test_behind_an_abort_no_message_comes);
    RUN(test_an_engine_goes_on_where_its_owner_stopped_asking);
    RUN(test_what_an_owner_has_not_asked_for_is_work_left);
    RUN(test_a_flush_between_two_events_leaves_what_is_not_parsed);
    RUN(test_commands_of_other_threads_share_the_turn_and_stay_in_order);
    RUN(test_commands_that_were_not_applied_are_forgotten_with_the_engine);
    return 0;
}
