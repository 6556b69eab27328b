/* Slots and generations, accepting, handlers that change everything, the source, metering. */
#include "engine_fixture.h"

/* HOSTILE X19 */
static void test_a_descriptor_used_again_inherits_nothing(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *old = client();
    subscribe(old, topic);
    old->room = 1;
    tell(old, "direct");
    publish(topic, "old news");
    rest();
    uint64_t id = old->tag;
    int fd = old->fd;
    fake_reset(old);
    rest();
    CHECK(old->closed);
    fake_peer *young = fake_connect();
    rest();
    CHECK_EQ(young->fd, fd);
    CHECK_EQ((uint32_t)young->tag, (uint32_t)id); /* the slot, too */
    CHECK(young->tag != id);
    CHECK(fws_engine_find(engine, id) == NULL);
    CHECK_EQ(subscribe(old, topic), FWS_E_CLOSED);
    CHECK_EQ(tell(old, "late"), FWS_E_CLOSED);
    CHECK_EQ(say_goodbye(old, 1000), FWS_E_CLOSED);
    publish(topic, "news");
    rest();
    CHECK_EQ(young->out_n, 0); /* not a byte before its 101 */
    fake_say(young, HEAD, strlen(HEAD));
    rest();
    CHECK_EQ(young->out_n, strlen(ANSWER));
    engine_close();
}

/* HOSTILE X19 */
static void test_an_event_of_the_dead_is_ignored(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    uint64_t tag = peer->tag;
    fake_peer *stale = fake_new(); /* an event with the dead one's tag, as epoll may have it */
    fake_reset(peer);
    rest();
    fake_peer *young = client();
    fake_open(stale);
    stale->watched = true;
    stale->tag = tag;
    stale->edges = EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLERR;
    rest();
    CHECK(!young->closed && !conn_of(young)->hung_up);
    stale->tag = 0xFFFFFFFEFFFFFFFFULL; /* a slot that never was */
    stale->edges = EPOLLIN;
    rest();
    stale->watched = false;
    fake_close(stale->fd);
    engine_close();
}

/* HOSTILE X19 */
static void test_the_dead_are_closed_at_the_end_of_the_turn(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    fws_conn *conn = conn_of(peer);
    fake_reset(peer);
    fake_peer *other = fake_connect();
    harvest();
    handle();
    flush();
    CHECK(conn->state == FWS_DEAD && !peer->closed && !peer->watched);
    CHECK(engine->first_dead == conn);
    CHECK(fws_engine_more(engine));    /* the owner has to be told */
    fws_conn_kill(engine, conn, 1000); /* once is enough */
    CHECK(engine->first_dead == conn && conn->next_dead == NULL);
    harvest();
    CHECK(other->fd != 0 && other->fd != peer->fd);
    reap();
    CHECK(peer->closed);
    engine_close();
}

static void test_generations_skip_what_is_reserved(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client();
    uint32_t slot = (uint32_t)peer->tag;
    fake_reset(peer);
    rest();
    engine->slots[slot].generation = UINT32_MAX - 1;
    peer = client();
    CHECK_EQ(peer->tag >> 32, UINT32_MAX - 1);
    fake_reset(peer);
    rest();
    peer = client();
    CHECK_EQ(peer->tag >> 32, 1);
    engine_close();
}

static void test_connections_past_the_limit_are_refused(void)
{
    fws_options options = OPTIONS;
    options.max_connections = 10;
    engine_open(&options);
    fake_peer *peers[10 + FWS_REFUSED_ROOM + 5];
    for (uint32_t i = 0; i < 10 + FWS_REFUSED_ROOM + 5; i++)
        peers[i] = fake_connect();
    rest();
    for (uint32_t i = 0; i < 10 + FWS_REFUSED_ROOM + 5; i++) {
        CHECK_EQ(peers[i]->closed, i >= 10 + FWS_REFUSED_ROOM);
        CHECK_EQ(peers[i]->out_n > 0,
                 peers[i]->closed); /* told so; others say first what they want */
    }
    CHECK_EQ(engine->counters.refused, FWS_REFUSED_ROOM + 5);
    CHECK_EQ(engine->live, 10 + FWS_REFUSED_ROOM);
    fake_end(peers[0]);
    rest();
    fake_peer *late = fake_connect();
    rest();
    CHECK(!late->closed);
    engine_close();
}

/* HOSTILE X24 */
static void test_many_connect_at_once_and_a_turn_takes_some(void)
{
    fws_options options = OPTIONS;
    options.max_connections = 1000;
    engine_open(&options);
    for (int i = 0; i < 300; i++)
        fake_connect();
    turn();
    CHECK_EQ(engine->live, FWS_ACCEPT_BATCH);
    CHECK(fws_engine_more(engine));
    rest();
    CHECK_EQ(engine->live, 300);
    engine_close();
}

/* HOSTILE X13 X23 */
static void test_accept_goes_on_after_faults_of_one_connection(void)
{
    const int faults[] = {EINTR, ECONNABORTED, EPROTO, EPERM};
    for (size_t i = 0; i < 4; i++) {
        engine_open(&OPTIONS);
        rest();
        net.accept_errno = faults[i];
        net.accept_errno_count = 3;
        fake_connect();
        rest();
        CHECK_EQ(engine->live, 1);
        CHECK_EQ(engine->counters.accept_failures, 0);
        engine_close();
    }
}

/* HOSTILE X22 */
static void test_accept_without_descriptors_waits_for_the_sweep(void)
{
    const int faults[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    for (size_t i = 0; i < 4; i++) {
        int tries = i < 2 ? 2 : 1; /* the reserve tries once more */
        engine_open(&OPTIONS);
        rest();
        net.accept_errno = faults[i];
        net.accept_errno_count = 2 * tries;
        fake_connect();
        rest();
        CHECK_EQ(engine->counters.accept_failures, 1); /* no busy loop */
        CHECK_EQ(engine->live, 0);
        net.now += FWS_SWEEP_NS;
        rest();
        CHECK_EQ(engine->counters.accept_failures, 2);
        net.now += FWS_SWEEP_NS;
        rest();
        CHECK_EQ(engine->live, 1);
        engine_close();
    }
}

/* HOSTILE X22 */
static void test_the_reserve_answers_when_no_descriptor_is_left(void)
{
    engine_open(&OPTIONS);
    rest();
    net.accept_errno = EMFILE;
    net.accept_errno_count = 1;
    fake_peer *refused = fake_connect(), *next = fake_connect();
    fake_say(refused, HEAD, strlen(HEAD));
    rest();
    CHECK(refused->out_n > 20 && memcmp(refused->out, "HTTP/1.1 503 ", 13) == 0);
    CHECK(refused->closed);
    CHECK_EQ(engine->counters.refused, 1);
    CHECK(conn_of(next) != NULL);
    CHECK(engine->reserve >= 0);
    engine_close();
}

static void test_a_listener_may_go_and_come_back(void)
{
    engine_open(&OPTIONS);
    for (int i = 0; i < 3 * FWS_LISTENERS; i++) {
        fws_engine_unlisten(engine, FAKE_LISTENER);
        fake_connect();
        rest();
        CHECK_EQ(engine->live, i);
        CHECK_EQ(fws_engine_listen(engine, FAKE_LISTENER), FWS_OK);
        rest();
        CHECK_EQ(engine->live, i + 1);
    }
    engine_close();
}

static fws_topic *news, *other;

/* Everything that a handler may do, while a turn's events are handled. */
static void busy(const fws_event *event)
{
    usual(event);
    if (event->kind != FWS_EVENT_MESSAGE)
        return;
    const fake_peer *peer = fake_at(event->conn->fd);
    switch (event->data[0]) {
    case 's':
        CHECK_EQ(subscribe(peer, news), FWS_OK);
        break;
    case 'o':
        CHECK_EQ(subscribe(peer, other), FWS_OK);
        break;
    case 'u':
        CHECK_EQ(unsubscribe(peer, news), FWS_OK);
        break;
    case 'p':
        CHECK(publish(news, "news") >= 0);
        break;
    case 'q':
        CHECK(publish(other, "other") >= 0);
        break;
    case 't':
        CHECK_EQ(tell(peer, "direct"), FWS_OK);
        break;
    case 'c':
        CHECK_EQ(say_goodbye(peer, 1000), FWS_OK);
        break;
    default:
        fws_conn_kill(engine, event->conn, 1006);
    }
}

/* HOSTILE X20 */
static void test_handlers_may_change_everything(void)
{
    engine_open(&OPTIONS);
    on_event = busy;
    news = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    other = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *one = client(), *two = client();
    const char *first = "psptoqpupsqp", *second = "spqokpp";
    for (const char *at = first; *at != 0; at++)
        say_frame(one, FWS_TEXT, at, 1);
    for (const char *at = second; *at != 0; at++)
        say_frame(two, FWS_TEXT, at, 1);
    rest();
    CHECK(two->closed);
    CHECK_EQ(two->out_n, 0);
    /* One was handled first, then two: its p and q go to one as well. */
    expect_got(one, "T(direct) T(other) T(other) T(news) T(news) T(other) ");
    say_text(one, "c");
    say_text(one, "p"); /* behind our Close: not heard */
    harvest();
    handle();
    CHECK(publish(news, "news") >= 0);
    rest();
    expect_got(one, "C1000(bye) ");
    CHECK_EQ(news->account.dropped,
             2 + 1 + 1); /* pending at unsubscribe, at death and at the Close */
    engine_close();
}

static void test_commands_are_idempotent_and_checked(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client();
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(subscribe(peer, topic), FWS_OK);
    CHECK_EQ(topic->n, 1);
    publish(topic, "once");
    rest();
    expect_got(peer, "T(once) ");
    for (int i = 0; i < 3; i++)
        CHECK_EQ(unsubscribe(peer, topic), FWS_OK);
    static char large[HEARD_MAX];
    for (uint8_t opcode = 0; opcode < 16; opcode++) {
        const fws_command direct = {.kind = FWS_CMD_SEND,
                                    .opcode = opcode,
                                    .conn = peer->tag,
                                    .data = (const uint8_t *)large,
                                    .n = 1};
        const fws_command all = {.kind = FWS_CMD_PUBLISH,
                                 .opcode = opcode,
                                 .topic = topic,
                                 .data = (const uint8_t *)large,
                                 .n = 1};
        bool data = opcode == FWS_TEXT || opcode == FWS_BINARY;
        CHECK_EQ(fws_engine_command(engine, &direct), data ? FWS_OK : FWS_E_INVALID);
        CHECK_EQ(fws_engine_command(engine, &all), data ? FWS_OK : FWS_E_INVALID);
    }
    CHECK_EQ(command(FWS_CMD_PUBLISH, NULL, topic, 0, large, SIZE_MAX), FWS_E_INVALID);
    CHECK_EQ(command(99, peer, topic, 0, large, 0), FWS_E_INVALID);
    engine_close();
}

static void test_an_outbox_has_its_limit(void)
{
    fws_options options = OPTIONS;
    options.outbox_limit = 1000;
    engine_open(&options);
    static char large[5001];
    memset(large, 'x', sizeof large - 1);
    fake_peer *peer = client();
    peer->room = 0;
    CHECK_EQ(tell(peer, large), FWS_OK); /* one may always wait */
    CHECK_EQ(tell(peer, "more"), FWS_E_FULL);
    CHECK_EQ(engine->counters.log_full, 1);
    fake_room(peer, PLENTY);
    rest();
    CHECK_EQ(tell(peer, "more"), FWS_OK);
    engine_close();
}

static void test_so_much_waits_that_a_flush_is_due(void)
{
    engine_open(&OPTIONS);
    static char large[65001];
    memset(large, 'x', sizeof large - 1);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 24);
    for (int i = 0; i < 10; i++)
        CHECK_EQ(publish(topic, large), FWS_OK); /* nobody waits for it */
    fake_peer *peer = client();
    subscribe(peer, topic);
    for (int i = 1; i <= 5; i++)
        CHECK_EQ(publish(topic, large), i < 5 ? 0 : 1);
    flush();
    CHECK_EQ(publish(topic, large), FWS_OK);
    engine_close();
}

static void test_the_source_feeds_who_listens_and_stops_with_them(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 1 << 20);
    fws_source_init(&engine->source, topic, 1, FWS_TICK_BINARY, FWS_TICK_BASE, FWS_LATE_BURST);
    fws_source_set_rate(&engine->source, net.now, 1000, false);
    pass_time(SECOND);
    CHECK_EQ(topic->log.next_seq, 0);
    fake_peer *peer = client();
    subscribe(peer, topic);
    turn();
    for (int i = 0; i < 1000; i++) {
        net.now += 1000000;
        rest();
    }
    CHECK_EQ(peer->out_n, 22 * 1000);
    CHECK_EQ(engine->source.pace.missed, 0);
    unsubscribe(peer, topic);
    pass_time(SECOND);
    CHECK_EQ(topic->log.next_seq, 1000);
    engine_close();
}

static void test_at_max_rate_the_slowest_socket_sets_the_pace(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LOSSLESS, 100000);
    fws_source_init(&engine->source, topic, 1, FWS_TICK_JSON, FWS_TICK_BASE, FWS_LATE_BURST);
    fake_peer *fast = client(), *slow = client();
    slow->room = 0;
    subscribe(fast, topic);
    subscribe(slow, topic);
    fws_source_set_rate(&engine->source, net.now, 0, true);
    net.tick = 1000;
    for (int i = 0; i < 20; i++)
        turn();
    CHECK(fast->out_n <= 100000 && fast->out_n > 99000);
    CHECK(!fws_engine_more(engine)); /* it sleeps until there is room */
    fake_room(slow, 50000);
    for (int i = 0; i < 20; i++)
        turn();
    CHECK(fast->out_n <= 150000 && fast->out_n > 149000);
    net.tick = 0;
    engine_close();
}

static void test_at_max_rate_who_is_ready_does_not_wait_for_a_socket(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LOSSLESS, 10000);
    fws_source_init(&engine->source, topic, 1, FWS_TICK_JSON, FWS_TICK_BASE, FWS_LATE_BURST);
    fake_peer *slow = client(), *peer = client();
    slow->room = 0;
    subscribe(slow, topic);
    fws_source_set_rate(&engine->source, net.now, 0, true);
    for (int i = 0; i < 20; i++)
        turn();
    say_text(peer, "first");
    say_text(peer, "second");
    harvest();
    usual(fws_engine_next_event(engine));
    fws_conn *conn = conn_of(peer);
    fws_conn_pause(engine, conn, true);
    fws_conn_pause(engine, conn, false);
    CHECK(conn->ready.next != NULL);
    uint64_t before = net.now;
    fws_engine_flush(engine, FWS_MAX_TURN_NS);
    CHECK_EQ(net.now, before);
    reap();
    for (int i = 0; i < 20; i++)
        turn();
    expect_heard("first second ");
    engine_close();
}

int main(void)
{
    RUN(test_a_descriptor_used_again_inherits_nothing);
    RUN(test_an_event_of_the_dead_is_ignored);
    RUN(test_the_dead_are_closed_at_the_end_of_the_turn);
    RUN(test_generations_skip_what_is_reserved);
    RUN(test_connections_past_the_limit_are_refused);
    RUN(test_many_connect_at_once_and_a_turn_takes_some);
    RUN(test_accept_goes_on_after_faults_of_one_connection);
    RUN(test_accept_without_descriptors_waits_for_the_sweep);
    RUN(test_the_reserve_answers_when_no_descriptor_is_left);
    RUN(test_a_listener_may_go_and_come_back);
    RUN(test_handlers_may_change_everything);
    RUN(test_commands_are_idempotent_and_checked);
    RUN(test_an_outbox_has_its_limit);
    RUN(test_so_much_waits_that_a_flush_is_due);
    RUN(test_the_source_feeds_who_listens_and_stops_with_them);
    RUN(test_at_max_rate_the_slowest_socket_sets_the_pace);
    RUN(test_at_max_rate_who_is_ready_does_not_wait_for_a_socket);
    return 0;
}
