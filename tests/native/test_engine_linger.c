/* The last words of a connection: they leave and can be read, whatever the peer does meanwhile. */
#include "engine_fixture.h"

/* HOSTILE X69 */
static void test_a_peer_that_only_stopped_writing_gets_its_answer(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    peer->room = 2;
    say_frame(peer, FWS_CLOSE,
              "\x03\xE8"
              "reason",
              8);
    fake_end(peer);
    rest();
    CHECK_EQ(peer->out_n, 2);
    CHECK(!peer->closed);
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "C1000(reason) ");
    CHECK(peer->closed);
    engine_close();
}

static void answer_404(const fws_event *event)
{
    fws_conn_respond(engine, event->conn, (const uint8_t *)"404 and some more", 17, false);
}

/* HOSTILE X70 */
static void test_a_last_answer_lingers_so_that_it_is_read(void)
{
    engine_open(&OPTIONS);
    on_event = answer_404;
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    fake_say(peer, "more of it", 10);
    rest();
    CHECK(peer->out_n == 17 && peer->shut && !peer->closed);
    CHECK_EQ(peer->in_at, peer->in_n); /* read, so that no reset destroys the answer */
    pass_time(FWS_LINGER_NS + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed);
    peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    rest();
    for (int i = 0; i < 100 && !peer->closed; i++) {
        static const uint8_t flood[10000];
        fake_say(peer, flood, sizeof flood);
        rest();
    }
    CHECK(peer->closed);
    CHECK(peer->in_at <= FWS_LINGER_BYTES + FWS_RECEIVE_CHUNK + strlen(HEAD));
    engine_close();
}

/* HOSTILE X70 X26 */
static void test_a_flood_in_front_of_our_close_does_not_cost_it(void)
{
    static const uint8_t flood[FWS_LINGER_BYTES];
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    peer->room = 1;
    tell(peer, "hello");
    rest();
    fake_say(peer, "\x83\x80\0\0\0\0", 6); /* opcode 3 */
    fake_say(peer, flood, sizeof flood);
    fake_say(peer, flood, sizeof flood);
    rest();
    CHECK_EQ(peer->in_at, peer->in_n);
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "T(hello) C1002() ");
    CHECK(peer->shut && !peer->closed);
    fake_say(peer, flood, sizeof flood);
    rest();
    CHECK(!peer->closed); /* only now it counts */
    fake_say(peer, flood, 1);
    rest();
    CHECK(peer->closed);
    engine_close();
}

static uint8_t page[200000];

static void answer_page(const fws_event *event)
{
    CHECK_EQ(fws_conn_respond(engine, event->conn, page, sizeof page, true), FWS_OK);
}

/* HOSTILE X69 */
static void test_who_half_closes_behind_its_requests_gets_whole_answers(void)
{
    engine_open(&OPTIONS);
    on_event = answer_page;
    fake_peer *peer = fake_connect();
    peer->room = 60000;
    fake_say(peer, HEAD HEAD "GET / HT", 2 * strlen(HEAD) + 8);
    fake_end(peer);
    for (size_t got = 60000; got < 2 * sizeof page; got += 60000) {
        rest();
        CHECK_EQ(peer->out_n, got);
        CHECK(!peer->closed);
        fake_room(peer, 60000);
    }
    rest();
    CHECK_EQ(peer->out_n, 2 * sizeof page);
    CHECK(peer->closed && !peer->reset);
    peer = fake_connect();
    peer->room = 60000;
    fake_say(peer, HEAD, strlen(HEAD));
    fake_end(peer);
    pass_time(2 * OPTIONS.close_ns + 2 * FWS_SWEEP_NS);
    CHECK(peer->closed && peer->reset); /* it did not take them in time */
    engine_close();
}

int main(void)
{
    RUN(test_a_peer_that_only_stopped_writing_gets_its_answer);
    RUN(test_a_last_answer_lingers_so_that_it_is_read);
    RUN(test_a_flood_in_front_of_our_close_does_not_cost_it);
    RUN(test_who_half_closes_behind_its_requests_gets_whole_answers);
    return 0;
}
