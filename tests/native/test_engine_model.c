/* Random steps against a model: whatever happens, each client gets a prefix of legal frames with
 * rising numbers, nothing of anybody else's, and every account balances at every step. Some
 * are compressed, some commands come from other threads. Three topics are there from beginning to
 * end; many small ones come and go, with policies, histories and exclusions of all kinds. In
 * every other run all logs share a small budget, in most all else that waits. Large messages
 * arrive in pieces, quickly or not, some peers answer no ping, some are not read from; deadlines
 * hold, as far as there is no progress (clocks.h). The owner stops asking for events now and then. */
#include "allowed.h"
#include "figures.h"
#include "random_clients.h"

#define STEPS 10000
#define BUDGET 300000ULL /* for all logs, in every other run, at least */

static unsigned window_bits; /* of those who are compressed; deflate takes most of the time */
static uint64_t tcp;         /* quarters of the connections whose kernels confirm */
static uint64_t told_memory, told_slow, told_late, told_silent;
static uint64_t pongs_told, rooms_told;

static void upgrade(one *who, fws_conn *conn)
{
    who->window_bits = fws_deflate_available() && draw(3) == 0 ? window_bits : 0;
    if (who->window_bits != 0)
        CHECK_EQ(fws_conn_deflate(engine, conn, who->window_bits), FWS_OK);
    CHECK_EQ(fws_conn_upgrade(engine, conn, (const uint8_t *)ANSWER, strlen(ANSWER)), FWS_OK);
    who->envelope = draw(3) == 0;
    who->batch = draw(4) == 0 ? (uint16_t)(1 + draw(draw(2) == 0 ? 4 : 1024)) : 0;
    who->upgraded = true;
    conn->acknowledges = draw(4) < tcp;
    watches[who - ones].stopped = conn->acknowledges && draw(3) == 0;
    for (uint8_t i = 0; i < TOPICS; i++) /* who reads slowly holds the lossless one, perhaps */
        if (!who->alone && (i == 2 || talker_of(who)->sips == 0 || draw(4) == 0))
            join(who, i);
}

/* At once, or when its owner is told that it is late. */
static void decide(one *who, const fws_event *event)
{
    const uint8_t *ok = (const uint8_t *)OK_ANSWER;
    undecided += event->kind == FWS_EVENT_UNDECIDED;
    if (event->kind == FWS_EVENT_HEAD && draw(20) == 0)
        return;
    if (event->kind == FWS_EVENT_UNDECIDED && draw(2) == 0)
        CHECK_EQ(fws_conn_respond(engine, event->conn, ok, strlen(OK_ANSWER), false), FWS_OK);
    else
        upgrade(who, event->conn);
}

static void answer_letter(one *who, fws_conn *conn, uint8_t letter)
{
    switch (letter) {
    case 'a':
        send_one(who, draw_size());
        break;
    case 'b':
        publish_one((uint8_t)draw(TOPICS), draw_size());
        break;
    case 'c':
        leave(who, (uint8_t)draw(TOPICS));
        break;
    case 'd':
        if (!who->alone)
            join(who, (uint8_t)draw(TOPICS));
        break;
    case 'e':
        say_goodbye(who->peer, 4000);
        break;
    default:
        fws_conn_kill(engine, conn, 1006);
    }
}

static void answer(const fws_event *event)
{
    one *who = one_of(event->conn);
    if (event->kind == FWS_EVENT_MESSAGE)
        allowed_message(event->conn, who - ones);
    if (event->kind == FWS_EVENT_HEAD || event->kind == FWS_EVENT_UNDECIDED)
        decide(who, event);
    else if (event->kind == FWS_EVENT_PONG)
        pongs_told++;
    else if (event->opcode == FWS_BINARY)
        heard_long(who, event->data, event->n);
    else
        answer_letter(who, event->conn, event->n > 0 ? event->data[0] : 0);
}

/* The owner does not always ask to the end. */
static void ask(void)
{
    const fws_event *event;
    for (const fws_conn *conn; (conn = fws_engine_next_room(engine)) != NULL; rooms_told++)
        CHECK(conn->state != FWS_DEAD && !conn->wants_room
              && conn->outbox.allocated <= engine->options.high_mark / 4);
    if (draw(8) > 0) {
        handle();
        return;
    }
    for (uint64_t n = draw(4); n > 0 && (event = fws_engine_next_event(engine)) != NULL; n--)
        answer(event);
}

static void be_pinged(one *who)
{
    if (!watches[who - ones].mute)
        talker_of(who)->pongs_owed++;
}

static bool says(const uint8_t *payload, size_t n, const char *reason)
{
    return n == 2 + strlen(reason) && memcmp(payload + 2, reason, n - 2) == 0;
}

/* Why the engine closes: what it says is what it counts. */
static void hear_close(one *who, const uint8_t *payload, size_t n)
{
    uint16_t code = n < 2 ? 1005 : (uint16_t)(payload[0] << 8 | payload[1]);
    (void)who;
    told_memory += says(payload, n, "memory limit");
    told_slow += says(payload, n, "slow consumer");
    told_late += says(payload, n, "message timeout");
    told_silent += says(payload, n, "ping timeout");
    CHECK((code == 1013)
          == (says(payload, n, "memory limit") || says(payload, n, "slow consumer")));
    CHECK((code == 1008) == says(payload, n, "message timeout"));
    CHECK(told_memory <= engine->counters.buffered_closed + engine->counters.slow_closed);
    CHECK(told_slow <= engine->counters.slow_closed);
    CHECK(told_late <= engine->counters.message_timeouts);
    CHECK(told_silent <= engine->counters.ping_timeouts);
}

/* Time passes, and mostly a turn begins with it. */
static void pass_some(void)
{
    net.now += draw(20) == 0 ? 4 * SECOND : draw(FWS_SWEEP_NS);
    if (timed)
        whole_turn();
}

static void wait_a_while(void)
{
    const bool busy = draw(12) == 0; /* with a publisher that is held, perhaps */
    for (uint64_t n = busy ? draw(200) : draw(8); n > 0; n--) {
        net.now += FWS_SWEEP_NS;
        talk_on();
        for (uint8_t k = 0; busy && k < 8; k++) /* the last ones are refused, mostly */
            publish_one(k < TOPICS ? k : 2, k < 2 ? 100 : 60000);
        whole_turn();
        if (timed)
            check_clocks();
    }
}

static void step(void)
{
    one *who = &ones[draw(CLIENTS)];
    if (who->peer == NULL)
        come(who);
    else if (draw(2) == 0)
        act(who);
    from_lane(draw(8) == 0 ? STAGED : AT_ONCE);
    for (uint64_t n = draw(12); n > 0; n--)
        publish_without((uint8_t)draw(TOPICS), draw(8) == 0 ? &ones[draw(CLIENTS)] : NULL,
                        draw_size());
    if (draw(2) == 0)
        many_topics(&ones[draw(CLIENTS)]);
    if (lane == STAGED && who->peer != NULL)
        command_of(who);
    from_lane(AT_ONCE);
    talk_on();
    if (draw(20) == 0)
        pass_some();
    if (draw(60) == 0)
        wait_a_while();
    if (draw(8) == 0) { /* a flush that is interrupted */
        net.tick = 100000;
        fws_engine_flush(engine, draw(300000));
        net.tick = 0;
    }
    if (draw(3) > 0)
        whole_turn();
    check_all();
    if (timed)
        check_clocks();
}

/* Everybody reads: the ends of those who are read from have been noticed. */
static void settle(void)
{
    on_turn = NULL;
    on_told = NULL; /* nothing is published meanwhile, whoever goes */
    settle_down();
    check_age();
    on_turn = ask;
    on_told = told;
    for (int i = 0; i < CLIENTS; i++) {
        const fws_conn *conn = ones[i].peer == NULL ? NULL : conn_of(ones[i].peer);
        CHECK(watches[i].ended == 0 || conn == NULL || conn->state != FWS_OPEN
              || fws_conn_stopped(conn));
    }
}

static fws_options draw_run(uint64_t seed)
{
    fws_options options = OPTIONS;
    options.max_log_bytes = seed % 2 == 0 ? BUDGET << draw(3) : 0;
    options.max_buffered_bytes = seed % 3 == 0 ? 0 : 6000ULL << draw(6);
    options.outbox_limit = draw(4) == 0 ? 1 << 15 : 1 << 20;
    options.max_stall_ns = SECOND + draw(4 * SECOND);
    options.ping_ns = draw(4) > 0 ? SECOND + draw(4 * SECOND) : 0;
    options.pong_ns = SECOND + draw(2 * SECOND);
    options.message_ns = draw(4) > 0 ? SECOND + draw(5 * SECOND) : 0;
    options.write_ns = draw(2) > 0 ? SECOND + draw(5 * SECOND) : 0;
    tcp = draw(4);
    options.message_rate = seed % 3 == 2 ? 1 + draw(4) : 0;
    options.byte_rate = seed % 3 == 2 ? 500 + draw(20000) : 0;
    return options;
}

/* The engine's calls of the system, looked at. */

static ssize_t sendmsg_looked_at(int fd, const struct msghdr *what, int flags)
{
    ssize_t sent = send_and_look(fd, what, flags);
    sent_to(fd, sent);
    return sent;
}

static void open_run(uint64_t seed)
{
    static fws_sys sys;
    random_state = seed;
    window_bits = FWS_WINDOW_MIN + seed % FWS_WINDOWS;
    timed = seed % 4 != 3;
    told_memory = told_slow = told_late = told_silent = undecided = 0;
    pongs_told = rooms_told = 0;
    begun_late = cut_off = told_timeouts = long_messages = held_long = 0;
    const fws_options options = draw_run(seed);
    streams_open(&options);
    sys = fake_sys;
    sys.recv = allowed_recv;
    sys.sendmsg = sendmsg_looked_at;
    sys.shutdown = watched_shutdown;
    engine->sys = &sys;
    on_event = answer;
    on_pong = check_pong;
    on_ping = be_pinged;
    on_close = hear_close;
    on_harvest = watch_harvest;
    on_turn = ask;
    on_wanted = hear;
    on_told = told;
    make_lasting(0, FWS_SLOW_CLOSE, 300000);
    make_lasting(1, FWS_SLOW_LATEST, 100000);
    make_lasting(2, FWS_SLOW_LOSSLESS, 200000);
    for (int i = 0; i < TOPICS; i++) {
        fws_topic_options more = *topics[i]->options;
        more.max_lag_ns = draw(2) * (1 + draw(2 * SECOND));
        more.min_rate = draw(1 << 17) >> draw(8);
        CHECK_EQ(fws_topic_set_options(topics[i], &more), FWS_OK);
    }
}

static void play(uint64_t seed)
{
    open_run(seed);
    for (int i = 0; i < STEPS; i++) {
        step();
        if (i % 2000 == 1999)
            settle();
    }
    CHECK(pongs_told > 0 && rooms_told > 0);
    CHECK( rested > 0 && replayed > 0);
    CHECK(deaths > 20 && whole_frames > STEPS / 4 && n_lives > 100);
    CHECK(engine->options.max_buffered_bytes > 0 || engine->counters.buffered_closed == 0);
    CHECK(engine->options.max_log_bytes > 0 || engine->topics.budget_dropped == 0);
    slowed += engine->counters.message_rate_paused + engine->counters.byte_rate_paused;
    add_figures();
    engine_close();
    talkers_end();
}

static void test_ten_thousand_random_steps_keep_every_promise(void)
{
    play(1);
}

static void test_other_seeds_do_too(void)
{
    for (uint64_t seed = 2; seed <= 6; seed++)
        play(seed);
    CHECK(slowed > 30);
    check_figures();
}

int main(int argc, char **argv)
{
    if (argc > 1) { /* by hand: the first seed, and how many, of STEPS each */
        uint64_t seed = strtoull(argv[1], NULL, 10), n = 1;
        if (argc > 2)
            n = strtoull(argv[2], NULL, 10);
        for (uint64_t i = 0; i < n; i++) {
            printf("seed %" PRIu64 "\n", seed + i);
            fflush(stdout); /* so that a failure is behind its seed */
            play(seed + i);
        }
        print_figures();
        printf("%" PRIu64 " steps\n", n * STEPS);
        return 0;
    }
    RUN(test_ten_thousand_random_steps_keep_every_promise);
    RUN(test_other_seeds_do_too);
    return 0;
}
