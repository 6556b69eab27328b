/* The room event: who has asked is told once, when what waits for it has fallen to a quarter of the
 * high mark. (check_buffers() looks at who is to be told at every flush.) */
#include "engine_fixture.h"

#define HIGH 16384u

static char large[1001];

static void open_with_mark(void)
{
    fws_options options = OPTIONS;
    options.high_mark = HIGH;
    memset(large, 'l', sizeof large - 1);
    engine_open(&options);
}

/* A client that reads nothing, and more than the high mark for it. */
static fake_peer *full_client(void)
{
    fake_peer *peer = client();
    peer->room = 0;
    while (!fws_conn_full(engine, conn_of(peer)))
        CHECK_EQ(tell(peer, large), FWS_OK);
    CHECK(conn_of(peer)->outbox.allocated > HIGH);
    turn();
    return peer;
}

static void expect_no_room(void)
{
    CHECK(fws_engine_next_room(engine) == NULL);
}

static void expect_room(const fake_peer *peer)
{
    CHECK(fws_engine_next_room(engine) == conn_of(peer));
    expect_no_room();
}

static void test_full_is_past_the_high_mark(void)
{
    open_with_mark();
    fake_peer *peer = client();
    peer->room = 0;
    while (conn_of(peer)->outbox.allocated <= HIGH) {
        CHECK(!fws_conn_full(engine, conn_of(peer)));
        CHECK_EQ(tell(peer, large), FWS_OK);
    }
    CHECK(fws_conn_full(engine, conn_of(peer)));
    fake_room(peer, PLENTY);
    rest();
    CHECK(!fws_conn_full(engine, conn_of(peer)));
    engine_close();
}

static void test_who_asked_is_told_once_at_the_low_mark(void)
{
    open_with_mark();
    fake_peer *peer = full_client();
    fws_conn *conn = conn_of(peer);
    fws_conn_want_room(engine, conn);
    fws_conn_want_room(engine, conn); /* twice is once */
    while (conn->outbox.allocated > HIGH / 4) {
        expect_no_room();
        fake_room(peer, 500);
        turn();
    }
    expect_room(peer);
    fake_room(peer, PLENTY);
    rest();
    expect_no_room();
    engine_close();
}

static void test_who_has_not_asked_is_not_told(void)
{
    open_with_mark();
    fake_peer *peer = full_client();
    fake_room(peer, PLENTY);
    rest();
    expect_no_room();
    engine_close();
}

static void test_who_has_room_is_told_in_the_next_turn(void)
{
    open_with_mark();
    fake_peer *peer = client();
    rest();
    fws_conn_want_room(engine, conn_of(peer));
    CHECK(fws_engine_more(engine));
    turn();
    expect_room(peer);
    CHECK(!fws_engine_more(engine));
    engine_close();
}

static void test_who_is_full_again_when_it_would_be_told_waits_on(void)
{
    open_with_mark();
    fake_peer *peer = full_client();
    fws_conn_want_room(engine, conn_of(peer));
    fake_room(peer, PLENTY);
    turn();
    peer->room = 0;
    while (!fws_conn_full(engine, conn_of(peer)))
        CHECK_EQ(tell(peer, large), FWS_OK);
    expect_no_room();
    turn();
    fake_room(peer, PLENTY);
    turn();
    expect_room(peer);
    engine_close();
}

static void test_who_asks_again_is_told_again_in_the_order_of_asking(void)
{
    open_with_mark();
    fake_peer *first = client(), *second = client();
    rest();
    for (int i = 0; i < 3; i++) {
        fws_conn_want_room(engine, conn_of(second));
        fws_conn_want_room(engine, conn_of(first));
        CHECK(fws_engine_next_room(engine) == conn_of(second));
        expect_room(first);
    }
    engine_close();
}

static void test_who_dies_is_not_told_nor_is_the_next_one_in_its_slot(void)
{
    for (int with_room = 0; with_room < 2; with_room++) {
        open_with_mark();
        fake_peer *peer = full_client();
        fws_conn *conn = conn_of(peer);
        uint32_t slot = (uint32_t)fws_conn_id(conn);
        fws_conn_want_room(engine, conn);
        if (with_room) {
            fake_room(peer, PLENTY);
            turn();
        }
        fws_conn_kill(engine, conn, 1006);
        fws_conn_want_room(engine, conn); /* dead, and still to be reaped */
        expect_no_room();
        rest();
        fake_peer *next = client();
        CHECK_EQ((uint32_t)fws_conn_id(conn_of(next)), slot);
        rest();
        expect_no_room();
        fws_conn_want_room(engine, conn_of(next));
        expect_room(next);
        engine_close();
    }
}

static void test_what_a_slow_end_drops_is_room(void)
{
    open_with_mark();
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 20);
    fake_peer *peer = client();
    subscribe(peer, topic);
    peer->room = 0;
    while (!fws_conn_full(engine, conn_of(peer)))
        CHECK_EQ(tell(peer, large), FWS_OK);
    turn();
    fws_conn_want_room(engine, conn_of(peer));
    for (int i = 0; i < 5; i++)
        publish(topic, "0123456789");
    pass_time(2 * FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.slow_closed, 1);
    expect_room(peer); /* who waits to send finds it closed */
    engine_close();
}

int main(void)
{
    RUN(test_full_is_past_the_high_mark);
    RUN(test_who_asked_is_told_once_at_the_low_mark);
    RUN(test_who_has_not_asked_is_not_told);
    RUN(test_who_has_room_is_told_in_the_next_turn);
    RUN(test_who_is_full_again_when_it_would_be_told_waits_on);
    RUN(test_who_asks_again_is_told_again_in_the_order_of_asking);
    RUN(test_who_dies_is_not_told_nor_is_the_next_one_in_its_slot);
    RUN(test_what_a_slow_end_drops_is_room);
    return 0;
}
