/* Messages and bytes of one peer a second, heads of one address: who sends more is not read from,
 * or is told to come back later, and the others notice nothing. */
#include "callers.h"

#define MESSAGE 7 /* bytes of say_text(peer, "x") */

static void open_with(uint64_t message_rate, uint64_t byte_rate)
{
    fws_options options = OPTIONS;
    options.message_rate = message_rate;
    options.byte_rate = byte_rate;
    engine_open(&options);
}

static size_t letters(void)
{
    size_t n = 0;
    for (const char *at = heard; *at != 0; at++)
        n += *at == 'x';
    heard_n = 0;
    heard[0] = 0;
    return n;
}

static void flood(fake_peer *peer, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        say_text(peer, "x");
}

static void test_messages_past_the_rate_come_later_and_none_is_lost(void)
{
    open_with(20, 0);
    fake_peer *peer = client();
    flood(peer, 100);
    rest();
    CHECK_EQ(letters(), 20); /* a second's worth at once */
    CHECK(conn_of(peer)->throttled);
    CHECK_EQ(engine->counters.message_rate_paused, 1);
    for (int second = 0; second < 4; second++) {
        pass_time(SECOND);
        size_t n = letters();
        CHECK(n >= 15 && n <= 25);
    }
    pass_time(SECOND / 2);
    (void)letters();
    CHECK_EQ(conn_of(peer)->messages_in, 100);
    pass_time(2 * SECOND);
    flood(peer, 5); /* it has been quiet: it has its second's worth again */
    rest();
    CHECK_EQ(letters(), 5);
    CHECK(!conn_of(peer)->throttled);
    engine_close();
}

static void test_bytes_past_the_rate_stay_in_the_kernel(void)
{
    open_with(0, 100 * MESSAGE);
    fake_peer *peer = client();
    flood(peer, 1000);
    rest();
    CHECK_EQ(letters(), 100);
    CHECK_EQ(peer->in_at, strlen(HEAD) + 100 * MESSAGE);
    CHECK_EQ(conn_of(peer)->inbuf.n, 0);
    CHECK_EQ(engine->counters.byte_rate_paused, 1);
    pass_time(4 * SECOND);
    size_t n = letters();
    CHECK(n > 370 && n <= 400);
    engine_close();
}

static void test_one_message_may_be_larger_than_a_seconds_worth(void)
{
    static char text[5000];
    memset(text, 'y', sizeof text - 1);
    open_with(0, 1000);
    fake_peer *peer = client();
    say_text(peer, text);
    pass_time(3 * SECOND);
    CHECK_EQ(conn_of(peer)->messages_in, 0);
    pass_time(2 * SECOND);
    CHECK_EQ(conn_of(peer)->messages_in, 1);
    engine_close();
}

static void test_pings_and_pongs_are_messages(void)
{
    open_with(10, 0);
    fake_peer *peer = client();
    for (int i = 0; i < 50; i++)
        say_frame(peer, i % 2 ? FWS_PING : FWS_PONG, "", 0);
    rest();
    CHECK(conn_of(peer)->throttled);
    expect_got(peer, "P() P() P() P() P() ");
    engine_close();
}

static void test_another_connection_is_not_disturbed(void)
{
    open_with(20, 0);
    fake_peer *loud = client(), *quiet = client();
    flood(loud, 1000);
    rest();
    CHECK_EQ(letters(), 20);
    for (int i = 0; i < 15; i++) {
        say_text(quiet, "q");
        turn();
    }
    expect_heard("q q q q q q q q q q q q q q q ");
    CHECK(!conn_of(quiet)->throttled && conn_of(loud)->throttled);
    engine_close();
}

static void test_little_of_a_flood_is_kept_in_memory(void)
{
    open_with(100, 0);
    fake_peer *peer = client();
    for (int i = 0; i < 10; i++) {
        flood(peer, 10000); /* several chunks of 64 KiB */
        pass_time(SECOND);
        CHECK(conn_of(peer)->throttled && conn_of(peer)->inbuf.n <= 4096);
    }
    size_t n = letters();
    CHECK(n >= 1000 && n <= 1100);
    engine_close();
}

static void test_a_large_message_is_read_in_large_chunks_all_the_same(void)
{
    static char text[65000];
    memset(text, 'y', sizeof text - 1);
    open_with(100, 0);
    fake_peer *peer = client();
    say_text(peer, text);
    for (int i = 0; i < 3; i++) /* its header and a little, the rest, the end */
        turn();
    CHECK_EQ(conn_of(peer)->messages_in, 1);
    engine_close();
}

static void test_a_close_of_ours_is_answered_though_it_was_not_read_from(void)
{
    open_with(1, 0);
    fake_peer *peer = client();
    flood(peer, 100);
    rest();
    CHECK(conn_of(peer)->throttled);
    CHECK_EQ(say_goodbye(peer, 1000), FWS_OK);
    say_frame(peer, FWS_CLOSE, "\x03\xE8", 2);
    rest();
    CHECK(conn_of(peer) == NULL || conn_of(peer)->state >= FWS_DRAINING);
    engine_close();
}

static void test_the_end_and_the_close_of_who_is_not_read_from_are_noticed(void)
{
    open_with(1, 0);
    fake_peer *resets = client(), *ends = client();
    flood(resets, 100);
    flood(ends, 100);
    rest();
    say_frame(ends, FWS_CLOSE, "\x03\xE8", 2);
    fake_reset(resets);
    rest();
    CHECK_EQ(deaths, 1);
    CHECK(conn_of(resets) == NULL);
    (void)letters();
    pass_time(OPTIONS.close_ns); /* what lies before it is taken meanwhile */
    CHECK(letters() >= OPTIONS.close_ns / SECOND - 1 && conn_of(ends)->state == FWS_OPEN);
    pass_time(2 * SECOND);
    CHECK(conn_of(ends) == NULL || conn_of(ends)->state >= FWS_DRAINING);
    CHECK_EQ(engine->counters.unread_ends, 1);
    engine_close();
}

static void test_who_is_not_read_from_for_its_rate_meets_no_time_out(void)
{
    fws_options options = OPTIONS;
    options.byte_rate = 1000;
    options.message_ns = 2 * SECOND;
    options.ping_ns = options.pong_ns = SECOND;
    engine_open(&options);
    static char text[30000];
    memset(text, 'y', sizeof text - 1);
    fake_peer *peer = client();
    say_text(peer, text);
    pass_time(25 * SECOND);
    CHECK(conn_of(peer) != NULL);
    CHECK_EQ(engine->counters.message_timeouts + engine->counters.ping_timeouts, 0);
    pass_time(5 * SECOND);
    CHECK_EQ(conn_of(peer)->messages_in, 1);
    engine_close();
}

static void test_the_time_for_which_the_engine_is_late_counts_as_time(void)
{
    open_with(20, 0);
    fake_peer *peer = client();
    flood(peer, 100);
    rest();
    CHECK_EQ(letters(), 20);
    net.now += 10 * SECOND; /* a handler, say */
    rest();
    pass_time(FWS_SWEEP_NS * 5); /* engine time stood still: it is due a second later at most */
    CHECK(letters() >= 20);
    engine_close();
}

static void test_a_slot_used_again_begins_with_a_seconds_worth(void)
{
    open_with(10, 0);
    for (int i = 0; i < 3; i++) {
        fake_peer *peer = client();
        flood(peer, 20);
        rest();
        CHECK_EQ(letters(), 10);
        fake_reset(peer);
        rest();
        CHECK(conn_of(peer) == NULL);
    }
    engine_close();
}

static void test_who_says_nothing_takes_no_memory_for_it(void)
{
    open_with(10, 1000);
    fake_peer *idle[5];
    for (int i = 0; i < 5; i++)
        idle[i] = client();
    CHECK(engine->allowances[0] == NULL);
    say_text(idle[3], "x");
    rest();
    CHECK(engine->allowances[0] != NULL);
    engine_close();
}

static void test_without_a_rate_there_is_no_state(void)
{
    open_with(0, 0);
    fake_peer *peer = client();
    CHECK(engine->allowances == NULL);
    flood(peer, 2000);
    rest();
    CHECK_EQ(letters(), 2000);
    CHECK_EQ(engine->counters.message_rate_paused + engine->counters.byte_rate_paused, 0);
    engine_close();
}

/* Heads by address. */

static bool let_in(const fake_peer *peer)
{
    return conn_of(peer) != NULL && conn_of(peer)->state == FWS_OPEN;
}

static void open_with_handshakes(uint64_t rate, uint32_t n_exempt, const fws_network *exempt)
{
    fws_options options = OPTIONS;
    options.handshake_rate = rate;
    options.n_exempt = n_exempt;
    for (uint32_t i = 0; i < n_exempt; i++)
        options.exempt[i] = exempt[i];
    engine_open(&options);
}

static void test_heads_past_the_rate_get_429_with_retry_after(void)
{
    open_with_handshakes(2, 0, NULL);
    CHECK(let_in(from("10.0.0.1")) && let_in(from("10.0.0.1")));
    fake_peer *third = from("10.0.0.1");
    CHECK(!let_in(third));
    CHECK(strstr((char *)third->out, "HTTP/1.1 429 Too Many Requests\r\n") == (char *)third->out);
    CHECK(strstr((char *)third->out, "\r\nRetry-After: 1\r\n") != NULL);
    CHECK(third->shut);
    CHECK_EQ(engine->counters.handshakes_refused, 1);
    char host[INET6_ADDRSTRLEN];
    CHECK_EQ(fws_engine_met_last(engine, FWS_MET_HANDSHAKE_RATE, host, sizeof host), 4321);
    CHECK_EQ(strcmp(host, "10.0.0.1"), 0);
    CHECK(let_in(from("10.0.0.2")));
    pass_time(SECOND / 2);
    CHECK(let_in(from("10.0.0.1")));
    CHECK(!let_in(from("10.0.0.1")));
    engine_close();
}

static void test_an_ipv6_network_of_64_bits_is_one_address(void)
{
    open_with_handshakes(1, 0, NULL);
    CHECK(let_in(from("2001:db8::1")));
    CHECK(!let_in(from("2001:db8::ffff:2")));
    CHECK(let_in(from("2001:db8:0:1::1")));
    CHECK(let_in(from("10.0.0.1")));
    CHECK(!let_in(from("::ffff:10.0.0.1"))); /* the same, on a socket of both families */
    engine_close();
}

static void test_later_requests_of_a_connection_count_as_well(void)
{
    open_with_handshakes(3, 0, NULL);
    fake_peer *peer = fake_connect();
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x0A000001)};
    memcpy(&peer->remote, &v4, sizeof v4);
    on_event = NULL;
    for (int i = 0; i < 5 && conn_of(peer) == NULL; i++)
        turn();
    for (int i = 0; i < 5; i++) {
        const fws_event *event;
        fake_say(peer, HEAD, strlen(HEAD));
        harvest();
        while ((event = fws_engine_next_event(engine)) != NULL)
            CHECK_EQ(fws_conn_respond(engine, event->conn, (const uint8_t *)"yes", 3, true),
                     FWS_OK);
        flush();
        reap();
    }
    CHECK_EQ(memcmp(peer->out, "yesyesyesHTTP/1.1 429", 21), 0);
    CHECK_EQ(engine->counters.handshakes_refused, 1);
    engine_close();
}

static void test_exempt_networks_and_unix_sockets_do_not_count(void)
{
    const fws_network loopback[] = {
        {.address = {[10] = 0xFF, [11] = 0xFF, [12] = 127}, .bits = 104},
        {.address = {[15] = 1}, .bits = 128},
        {.address = {0x20, 0x01, 0x0D, 0xB8, 0x12, 0x80}, .bits = 41},
    };
    open_with_handshakes(1, 3, loopback);
    for (int i = 0; i < 5; i++) {
        CHECK(let_in(from("127.3.2.1")) && let_in(from("::1")) && let_in(client()));
        CHECK(let_in(from("2001:db8:12ff::5")));
    }
    CHECK(let_in(from("128.0.0.1")) && !let_in(from("128.0.0.1")));
    CHECK(let_in(from("::2")) && !let_in(from("::2")));
    CHECK(let_in(from("2001:db8:1240::5")) && !let_in(from("2001:db8:1240::5")));
    engine_close();
}

static void test_an_exempt_address_has_any_number_of_connections(void)
{
    fws_options options = OPTIONS;
    options.max_per_address = 2;
    options.n_exempt = 1;
    options.exempt[0] = (fws_network){.bits = 0}; /* everybody */
    engine_open(&options);
    for (int i = 0; i < 5; i++)
        CHECK(let_in(from("10.0.0.1")));
    CHECK_EQ(engine->counters.address_refused, 0);
    CHECK_EQ(engine->peers.used, 0);
    engine_close();
}

int main(void)
{
    RUN(test_messages_past_the_rate_come_later_and_none_is_lost);
    RUN(test_bytes_past_the_rate_stay_in_the_kernel);
    RUN(test_one_message_may_be_larger_than_a_seconds_worth);
    RUN(test_pings_and_pongs_are_messages);
    RUN(test_another_connection_is_not_disturbed);
    RUN(test_little_of_a_flood_is_kept_in_memory);
    RUN(test_a_large_message_is_read_in_large_chunks_all_the_same);
    RUN(test_a_close_of_ours_is_answered_though_it_was_not_read_from);
    RUN(test_the_end_and_the_close_of_who_is_not_read_from_are_noticed);
    RUN(test_who_is_not_read_from_for_its_rate_meets_no_time_out);
    RUN(test_the_time_for_which_the_engine_is_late_counts_as_time);
    RUN(test_a_slot_used_again_begins_with_a_seconds_worth);
    RUN(test_who_says_nothing_takes_no_memory_for_it);
    RUN(test_without_a_rate_there_is_no_state);
    RUN(test_heads_past_the_rate_get_429_with_retry_after);
    RUN(test_an_ipv6_network_of_64_bits_is_one_address);
    RUN(test_later_requests_of_a_connection_count_as_well);
    RUN(test_exempt_networks_and_unix_sockets_do_not_count);
    RUN(test_an_exempt_address_has_any_number_of_connections);
    return 0;
}
