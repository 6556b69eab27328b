/* Who is let in: connections by address, listening sockets, and what the poller refuses. */
#include "callers.h"

static const char *const HOME = "10.0.0.1";

static bool let_in(const fake_peer *peer)
{
    return conn_of(peer) != NULL && !conn_of(peer)->over_address;
}

static void open_with_limit(uint32_t limit)
{
    fws_options options = OPTIONS;
    options.max_per_address = limit;
    options.max_connections = 1000;
    engine_open(&options);
}

static void test_an_address_has_so_many_connections_and_others_have_theirs(void)
{
    open_with_limit(2);
    fake_peer *first = from(HOME), *second = from(HOME), *third = from(HOME);
    CHECK(let_in(first) && let_in(second) && !let_in(third));
    CHECK(conn_of(third) != NULL); /* it gets an answer */
    CHECK_EQ(engine->counters.address_refused, 1);
    CHECK(let_in(from("10.0.0.2")));
    fake_reset(third);
    fake_reset(first);
    rest();
    CHECK(let_in(from(HOME)));
    CHECK(!let_in(from(HOME)));
    engine_close();
}

static void test_one_refused_for_its_address_takes_no_place_of_another(void)
{
    fws_options options = OPTIONS;
    options.max_per_address = 1;
    options.max_connections = 2;
    engine_open(&options);
    CHECK(let_in(from(HOME)));
    fake_peer *refused[10];
    for (int i = 0; i < 10; i++)
        CHECK(!let_in(refused[i] = from(HOME)));
    fake_peer *other = from("10.0.0.2");
    CHECK(let_in(other) && !conn_of(other)->over_limit);
    for (int i = 0; i < 10; i++)
        fake_reset(refused[i]);
    rest();
    fake_peer *third = from("10.0.0.3"); /* two are there */
    CHECK(conn_of(third) != NULL && conn_of(third)->over_limit);
    engine_close();
}

static void test_the_largest_limits_let_everybody_in(void)
{
    fws_options options = OPTIONS;
    options.max_per_address = options.max_connections = UINT32_MAX;
    engine_open(&options);
    for (uint32_t i = 0; i < 2 * FWS_REFUSED_ROOM; i++)
        CHECK(let_in(from(HOME)));
    CHECK_EQ(engine->counters.refused, 0);
    engine_close();
}

static void test_a_crowd_of_one_address_is_not_asked_what_it_wants(void)
{
    open_with_limit(1);
    CHECK(let_in(from(HOME)));
    for (uint32_t i = 0; i < FWS_REFUSED_ROOM; i++)
        CHECK(conn_of(from(HOME)) != NULL);
    fake_peer *one_more = from(HOME);
    CHECK(one_more->closed && memcmp(one_more->out, "HTTP/1.1 503 ", 13) == 0);
    CHECK_EQ(engine->counters.refused, 1);
    CHECK_EQ(engine->live, 1 + FWS_REFUSED_ROOM);
    CHECK(let_in(from("10.0.0.2")));
    engine_close();
}

static void test_ipv6_counts_by_its_first_half_and_mapped_ipv4_as_ipv4(void)
{
    open_with_limit(1);
    CHECK(let_in(from("2001:db8:1:2::1")));
    CHECK(!let_in(from("2001:db8:1:2:ffff::2")));
    CHECK(let_in(from("2001:db8:1:3::1")));
    CHECK(let_in(from("::ffff:10.0.0.7")));
    CHECK(!let_in(from("10.0.0.7")));
    CHECK(let_in(from("::ffff:10.0.0.8")));
    engine_close();
}

static void test_unix_sockets_have_no_address_to_count(void)
{
    open_with_limit(1);
    for (int i = 0; i < 5; i++) {
        fake_peer *peer = fake_connect();
        peer->remote.sin6_family = AF_UNIX;
        fake_say(peer, HEAD, strlen(HEAD));
        rest();
        CHECK(let_in(peer));
    }
    CHECK_EQ(engine->counters.address_refused, 0);
    engine_close();
}

static void expect_remote(const fake_peer *peer, const char *host, uint16_t port)
{
    char found[INET6_ADDRSTRLEN];
    CHECK_EQ(fws_conn_remote(conn_of(peer), found, sizeof found), port);
    if (strcmp(found, host) != 0)
        fprintf(stderr, "%s, not %s\n", found, host);
    CHECK(strcmp(found, host) == 0);
}

static void test_a_peer_has_the_name_that_people_know(void)
{
    engine_open(&OPTIONS);
    expect_remote(from("192.0.2.1"), "192.0.2.1", 4321);
    expect_remote(from("2001:db8::5"), "2001:db8::5", 4321);
    expect_remote(from("::ffff:192.0.2.9"), "192.0.2.9", 4321);
    expect_remote(client(), "", 0);
    engine_close();
}

static void test_so_many_listeners_and_no_more(void)
{
    engine_open(&OPTIONS);
    fws_engine_unlisten(engine, FAKE_LISTENER - 77); /* never was one */
    for (int i = 1; i < FWS_LISTENERS; i++)
        CHECK_EQ(fws_engine_listen(engine, i), FWS_OK); /* the fake poller takes any number */
    CHECK_EQ(fws_engine_listen(engine, 99), FWS_E_INVALID);
    fws_engine_unlisten(engine, 3);
    CHECK_EQ(fws_engine_listen(engine, 99), FWS_OK);
    CHECK_EQ(engine->n_listeners, FWS_LISTENERS);
    for (int i = 1; i < FWS_LISTENERS; i++)
        fws_engine_unlisten(engine, i);
    fws_engine_unlisten(engine, 99);
    CHECK(let_in(from(HOME)));
    engine_close();
}

/* HOSTILE X22 */
static void test_what_the_poller_has_no_room_for_is_closed_and_the_rest_goes_on(void)
{
    engine_open(&OPTIONS);
    net.watch_errno = ENOSPC; /* fs.epoll.max_user_watches */
    fake_peer *unlucky = from(HOME);
    CHECK(unlucky->closed && engine->live == 0 && engine->counters.refused == 1);
    CHECK(memcmp(unlucky->out, "HTTP/1.1 503 ", 13) == 0);
    net.watch_errno = ENOSPC;
    CHECK_EQ(fws_engine_listen(engine, 5), FWS_E_SYSTEM);
    CHECK_EQ(engine->n_listeners, 1);
    net.watch_errno = ENOSPC;
    fake_peer *ours = fake_new();
    int fd = fake_open(ours);
    CHECK(fws_engine_attach(engine, fd, FWS_CLIENT, (const uint8_t *)REQUEST, strlen(REQUEST))
          == NULL);
    CHECK(errno == ENOSPC && !ours->closed); /* still the caller's */
    CHECK_EQ(fake_close(fd), 0);
    CHECK(let_in(from(HOME)));
    engine_close();
}

static void test_an_engine_that_cannot_watch_its_own_is_not_made(void)
{
    for (int i = 0; i < 2; i++) { /* the timer, the wake-up */
        net = (fake_network){.now = 1000 * SECOND, .watch_errno = ENOSPC, .watches_before = i};
        CHECK(fws_engine_new(&OPTIONS, &fake_sys) == NULL);
        CHECK_EQ(errno, ENOSPC);
    }
}

/* HOSTILE X22 */
static void test_without_a_reserve_newcomers_wait_for_a_descriptor(void)
{
    engine_open(&OPTIONS);
    rest();
    close(engine->reserve); /* as when it could not be opened again */
    engine->reserve = -1;
    net.accept_errno = EMFILE;
    net.accept_errno_count = 1;
    fake_peer *peer = fake_connect();
    rest();
    CHECK(engine->accept_stalled && peer->fd == 0);
    net.now += FWS_SWEEP_NS;
    rest();
    CHECK(conn_of(peer) != NULL && engine->reserve >= 0);
    engine_close();
}

/* An engine ends with whatever it has: events not handled, the dead not buried. */
static void test_an_engine_may_end_in_the_middle_of_a_turn(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client(), *other = client();
    uint8_t frame[200], half[100] = {0};
    size_t n = client_frame(frame, FWS_BINARY, half, sizeof half);
    fake_say(peer, frame, n / 2);
    turn();
    fake_say(peer, frame + n / 2, n - n / 2); /* put together: the event owns its bytes */
    harvest();
    CHECK(fws_engine_next_event(engine)->owned != NULL);
    fws_conn_kill(engine, conn_of(other), 1006);
    engine_close();
}

static uint32_t told[FWS_EVENT_UNDECIDED + 1]; /* events of this turn, by kind */
static uint8_t first_told;

static void count(const fws_event *event)
{
    if (engine->n_events == 1)
        first_told = event->kind;
    told[event->kind]++;
    if (event->kind == FWS_EVENT_HEAD)
        usual(event);
}

static void harvest_and_count(void)
{
    memset(told, 0, sizeof told);
    on_event = count;
    harvest();
    handle();
}

/* So many connect, are accepted, and then ask all at once. */
static void crowd_asks(fake_peer **crowd, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        crowd[i] = fake_connect();
    turn();
    for (uint32_t i = 0; i < n; i++)
        fake_say(crowd[i], HEAD, strlen(HEAD));
}

/* HOSTILE X42 */
static void test_who_is_in_is_heard_beside_a_crowd_that_comes(void)
{
    open_with_limit(0);
    fake_peer *peer = client();
    fake_peer *crowd[FWS_ACCEPT_BATCH];
    crowd_asks(crowd, FWS_ACCEPT_BATCH);
    say_text(peer, "still there?");
    for (uint32_t came = 0; came < FWS_ACCEPT_BATCH; came += FWS_HTTP_BATCH) {
        harvest_and_count();
        CHECK_EQ(told[FWS_EVENT_HEAD], FWS_HTTP_BATCH);
        CHECK_EQ(told[FWS_EVENT_MESSAGE], came == 0);
        flush();
    }
    rest();
    CHECK_EQ(engine->live, 1 + FWS_ACCEPT_BATCH);
    engine_close();
}

/* 32 of those who came first are let in; each has said something behind its head, in the same
 * packet, and is heard in the same turn; the next one lets in the other 32. */
static void test_who_was_let_in_stands_with_those_who_are_in(void)
{
    open_with_limit(0);
    fake_peer *crowd[2 * FWS_HTTP_BATCH];
    crowd_asks(crowd, 2 * FWS_HTTP_BATCH);
    for (uint32_t i = 0; i < 2 * FWS_HTTP_BATCH; i++) {
        say_text(crowd[i], "hello");
        if (i % 2 == 0)
            fake_end(crowd[i]); /* it is ready to be read again before it is let in */
    }
    for (int turns = 0; turns < 2; turns++) {
        harvest_and_count();
        CHECK_EQ(told[FWS_EVENT_HEAD], FWS_HTTP_BATCH);
        CHECK_EQ(told[FWS_EVENT_MESSAGE], FWS_HTTP_BATCH);
    }
    rest();
    engine_close();
}

static void test_a_slow_crowd_leaves_time_for_those_who_are_in(void)
{
    open_with_limit(0);
    fake_peer *peer = client();
    fake_peer *crowd[FWS_HTTP_BATCH];
    crowd_asks(crowd, FWS_HTTP_BATCH);
    say_text(peer, "still there?");
    net.tick = 2 * FWS_TURN_NS;
    harvest_and_count();
    CHECK(told[FWS_EVENT_HEAD] > 0 && told[FWS_EVENT_HEAD] < FWS_HTTP_BATCH);
    CHECK_EQ(told[FWS_EVENT_MESSAGE], 1);
    net.tick = 0;
    rest();
    engine_close();
}

static void test_who_comes_is_let_in_beside_those_who_never_stop_talking(void)
{
    engine_open(&OPTIONS);
    fake_peer *loud = client();
    for (int i = 0; i < 3 * FWS_EVENTS; i++)
        say_text(loud, "");
    turn();
    fake_peer *newcomer = fake_connect();
    fake_say(newcomer, HEAD, strlen(HEAD));
    harvest_and_count(); /* accepted and read, before what is left over of the other */
    CHECK_EQ(first_told, FWS_EVENT_HEAD);
    CHECK_EQ(told[FWS_EVENT_MESSAGE], FWS_EVENTS - 1);
    engine_close();
}

int main(void)
{
    RUN(test_an_address_has_so_many_connections_and_others_have_theirs);
    RUN(test_one_refused_for_its_address_takes_no_place_of_another);
    RUN(test_the_largest_limits_let_everybody_in);
    RUN(test_a_crowd_of_one_address_is_not_asked_what_it_wants);
    RUN(test_ipv6_counts_by_its_first_half_and_mapped_ipv4_as_ipv4);
    RUN(test_unix_sockets_have_no_address_to_count);
    RUN(test_a_peer_has_the_name_that_people_know);
    RUN(test_so_many_listeners_and_no_more);
    RUN(test_what_the_poller_has_no_room_for_is_closed_and_the_rest_goes_on);
    RUN(test_an_engine_that_cannot_watch_its_own_is_not_made);
    RUN(test_without_a_reserve_newcomers_wait_for_a_descriptor);
    RUN(test_an_engine_may_end_in_the_middle_of_a_turn);
    RUN(test_who_is_in_is_heard_beside_a_crowd_that_comes);
    RUN(test_who_was_let_in_stands_with_those_who_are_in);
    RUN(test_a_slow_crowd_leaves_time_for_those_who_are_in);
    RUN(test_who_comes_is_let_in_beside_those_who_never_stop_talking);
    return 0;
}
