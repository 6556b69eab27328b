/* Pings that the owner asked for, beside the engine's own; and what a ping without answer ends in. */
#include "engine_fixture.h"

static void hear(const fws_event *event)
{
    if (event->kind == FWS_EVENT_PONG)
        note("PONG", event->data, event->n);
    else
        usual(event);
}

static fake_peer *asked_client(const fws_options *options)
{
    engine_open(options);
    on_event = hear;
    return client();
}

static int ask(const fake_peer *peer, const char *payload)
{
    return command(FWS_CMD_PING, peer, NULL, 0, payload, strlen(payload));
}

static void say_pong(fake_peer *peer, const char *payload)
{
    say_frame(peer, FWS_PONG, payload, strlen(payload));
}

static fws_options with_pings(void)
{
    fws_options options = OPTIONS;
    options.ping_ns = options.pong_ns = 20 * SECOND;
    return options;
}

static void test_a_ping_goes_ahead_and_its_pong_is_told(void)
{
    fake_peer *peer = asked_client(&OPTIONS);
    peer->room = 0;
    CHECK_EQ(tell(peer, "data"), FWS_OK);
    CHECK_EQ(ask(peer, "one"), FWS_OK);
    fake_room(peer, PLENTY);
    rest();
    expect_got(peer, "I(one) T(data) ");
    say_pong(peer, "one");
    rest();
    expect_heard("PONGone ");
    engine_close();
}

static void test_unsolicited_pongs_are_silent(void)
{
    fake_peer *peer = asked_client(&OPTIONS);
    say_pong(peer, "");
    say_pong(peer, "nobody asked");
    rest();
    expect_heard("");
    CHECK_EQ(ask(peer, "one"), FWS_OK);
    say_pong(peer, "one");
    say_pong(peer, "one"); /* answered already */
    rest();
    expect_heard("PONGone ");
    engine_close();
}

static void test_the_latest_one_is_what_is_waited_for(void)
{
    fake_peer *peer = asked_client(&OPTIONS);
    CHECK_EQ(ask(peer, "one"), FWS_OK);
    CHECK_EQ(ask(peer, "two"), FWS_OK);
    rest();
    say_pong(peer, "one"); /* RFC 6455 5.5.3: it may answer both, or the latest alone */
    rest();
    expect_heard("PONGone ");
    say_pong(peer, "two");
    say_pong(peer, "one");
    rest();
    expect_heard("PONGtwo ");
    engine_close();
}

static void test_the_engines_own_pings_are_not_mistaken(void)
{
    const fws_options options = with_pings();
    const char *const payloads[] = {"mine", ""};
    for (size_t i = 0; i < 2; i++) {
        fake_peer *peer = asked_client(&options);
        pass_time(20 * SECOND);
        CHECK(conn_of(peer)->pinged);
        CHECK_EQ(peer->out_n, 2 + sizeof engine->ping_mark);
        CHECK(memcmp(peer->out + 2, &engine->ping_mark, sizeof engine->ping_mark) == 0);
        peer->out_n = 0;
        CHECK_EQ(ask(peer, payloads[i]), FWS_OK);
        say_frame(peer, FWS_PONG, &engine->ping_mark, sizeof engine->ping_mark);
        rest();
        CHECK(!conn_of(peer)->pinged);
        expect_heard("");
        say_pong(peer, payloads[i]);
        rest();
        expect_heard(i == 0 ? "PONGmine " : "PONG ");
        engine_close();
    }
}

static void test_its_payload_has_at_most_125_bytes(void)
{
    char payload[FWS_CONTROL_MAX + 2] = "";
    fake_peer *peer = asked_client(&OPTIONS);
    memset(payload, 'p', FWS_CONTROL_MAX + 1);
    CHECK_EQ(ask(peer, payload), FWS_E_INVALID);
    payload[FWS_CONTROL_MAX] = 0;
    CHECK_EQ(ask(peer, payload), FWS_OK);
    rest();
    CHECK_EQ(peer->out_n, 2 + FWS_CONTROL_MAX);
    say_pong(peer, payload);
    rest();
    CHECK_EQ(heard_n, 4 + FWS_CONTROL_MAX + 1);
    engine_close();
}

static void test_only_an_open_connection_can_be_asked(void)
{
    fake_peer *peer = asked_client(&OPTIONS);
    CHECK_EQ(ask(peer, "early"), FWS_OK);
    CHECK_EQ(say_goodbye(peer, 1000), FWS_OK);
    CHECK_EQ(ask(peer, "late"), FWS_E_CLOSED);
    say_pong(peer, "early");
    rest();
    expect_heard("");
    engine_close();
}

static void test_pings_that_nobody_reads_are_bounded(void)
{
    fake_peer *peer = asked_client(&OPTIONS);
    peer->room = 0;
    int status = FWS_OK;
    for (int i = 0; i < 1000000 && status == FWS_OK; i++)
        status = ask(peer, "there?");
    CHECK_EQ(status, FWS_E_FULL);
    CHECK(conn_of(peer)->outbox.allocated <= OPTIONS.outbox_limit + 1024);
    engine_close();
}

static void test_a_flood_of_pongs_is_shared_out_like_messages(void)
{
    static uint8_t flood[FWS_RECEIVE_CHUNK];
    size_t n = 0, all = 0;
    fake_peer *peer = asked_client(&OPTIONS), *other = client();
    CHECK_EQ(ask(peer, "one"), FWS_OK);
    while (n < sizeof flood - 16) {
        n += client_frame(flood + n, FWS_PONG, "two", 3);
        all++;
    }
    rest();
    fake_say(peer, flood, n);
    turn();
    CHECK(heard_n / strlen("PONGtwo ") <= FWS_EVENTS + 2);
    say_text(other, "well");
    turn();
    turn(); /* as behind a flood of messages */
    CHECK(strstr(heard, "well ") != NULL);
    rest();
    CHECK_EQ(heard_n, all * strlen("PONGtwo ") + strlen("well "));
    engine_close();
}

static void test_a_ping_without_answer_ends_in_1011_and_the_cut(void)
{
    const fws_options options = with_pings();
    for (int blocked = 0; blocked < 2; blocked++) {
        fake_peer *peer = asked_client(&options);
        pass_time(20 * SECOND);
        CHECK_EQ(engine->counters.pings, 1);
        peer->out_n = 0;
        if (blocked) {
            peer->room = 1;
            CHECK_EQ(tell(peer, "data"), FWS_OK);
        }
        for (int i = 0; i < 80 && engine->counters.ping_timeouts == 0; i++) {
            net.now += FWS_SWEEP_NS;
            harvest();
            handle();
        }
        const fws_conn *conn = fws_engine_next_dead(engine, NULL);
        CHECK(conn != NULL && conn->state == FWS_DEAD && peer->shut);
        fws_closes closes = fws_conn_closes(conn);
        CHECK_EQ(closes.received.code, 0);
        CHECK_EQ(closes.sent.code, blocked ? 0 : 1011);
        CHECK_EQ(fws_conn_facts_of(conn).reason_n, 0);
        CHECK_EQ(peer->reset, blocked);
        flush();
        reap();
        CHECK(peer->closed);
        CHECK_EQ(last_code, 1006); /* RFC 6455 7.1.5: no Close was received */
        if (!blocked)
            expect_got(peer, "C1011(ping timeout) ");
        engine_close();
    }
}

static void test_what_was_sent_before_leaves_before_that_close(void)
{
    const fws_options options = with_pings();
    fake_peer *peer = asked_client(&options);
    pass_time(20 * SECOND);
    peer->out_n = 0;
    uint64_t due = conn_of(peer)->deadline;
    while (fws_engine_time(engine) + FWS_SWEEP_NS < due)
        pass_time(FWS_SWEEP_NS);
    CHECK_EQ(tell(peer, "data"), FWS_OK);
    net.now += 2 * FWS_SWEEP_NS;
    turn();
    turn();
    expect_got(peer, "T(data) C1011(ping timeout) ");
    CHECK(peer->closed && !peer->reset);
    engine_close();
}

/* Its subscriptions end with it: what was published meanwhile holds its Close up no more. */
static void test_what_is_still_to_be_woken_does_not_hold_that_close_up(void)
{
    const fws_options options = with_pings();
    fake_peer *peer = asked_client(&options), *other = client();
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    subscribe(peer, topic);
    subscribe(other, topic);
    pass_time(20 * SECOND);
    peer->out_n = other->out_n = 0;
    say_frame(other, FWS_PONG, NULL, 0);
    uint64_t due = conn_of(peer)->deadline;
    while (fws_engine_time(engine) + FWS_SWEEP_NS < due)
        pass_time(FWS_SWEEP_NS);
    net.now += 2 * FWS_SWEEP_NS;
    CHECK(publish(topic, "news") >= 0);
    turn();
    turn();
    CHECK(peer->closed);
    expect_got(peer, "C1011(ping timeout) ");
    expect_got(other, "T(news) ");
    engine_close();
}

int main(void)
{
    RUN(test_a_ping_goes_ahead_and_its_pong_is_told);
    RUN(test_unsolicited_pongs_are_silent);
    RUN(test_the_latest_one_is_what_is_waited_for);
    RUN(test_the_engines_own_pings_are_not_mistaken);
    RUN(test_its_payload_has_at_most_125_bytes);
    RUN(test_only_an_open_connection_can_be_asked);
    RUN(test_pings_that_nobody_reads_are_bounded);
    RUN(test_a_flood_of_pongs_is_shared_out_like_messages);
    RUN(test_a_ping_without_answer_ends_in_1011_and_the_cut);
    RUN(test_what_was_sent_before_leaves_before_that_close);
    RUN(test_what_is_still_to_be_woken_does_not_hold_that_close_up);
    return 0;
}
