/* Random steps against a model: whatever happens, each client gets a prefix of legal frames with
 * rising numbers, nothing of anybody else's, and every account balances at every step. Some
 * are compressed, some commands come from other threads. Three topics are there from beginning to
 * end; many small ones come and go, with policies, histories and exclusions of all kinds. In
 * every other run all logs share a small budget, in every third all else that waits. */
#include "many_topics.h"

#define STEPS 10000
#define BUDGET 300000  /* for all logs, in every other run */
#define BUFFERED 60000 /* for all else that waits, in every third */

static uint64_t random_state;
static unsigned window_bits; /* of those who are compressed; deflate takes most of the time */

static uint64_t draw(uint64_t n)
{
    return test_random(&random_state) % n;
}

static void check_pong(one *who, const uint8_t *payload, size_t n)
{
    uint64_t number;
    CHECK_EQ(n, sizeof number);
    memcpy(&number, payload, n);
    CHECK(number >= who->pongs && number < who->pings);
    who->pongs = number + 1;
}

/* What may happen. */

static size_t draw_size(void)
{
    return draw(50) == 0 ? draw(120000) : draw(10) == 0 ? draw(20000) : draw(300);
}

static void come(one *who)
{
    *who = (one){.peer = fake_connect()};
    if (draw(4) == 0)
        who->peer->room = draw(200);
    size_t cut = draw(strlen(HEAD) + 1);
    fake_say(who->peer, HEAD, cut);
    whole_turn();
    fake_say(who->peer, HEAD + cut, strlen(HEAD) - cut);
    if (draw(2) == 0) /* in the same segment */
        say_frame(who->peer, FWS_PING, &who->pings, sizeof who->pings);
    who->pings = 1;
}

static void talk(one *who)
{
    uint64_t number = who->pings;
    uint8_t frame[32], letter = (uint8_t)('a' + draw(6));
    switch (draw(12)) {
    case 0:
        fake_end(who->peer);
        break;
    case 1:
        fake_reset(who->peer);
        break;
    case 2:
        say_frame(who->peer, FWS_CLOSE, "\x03\xE8", 2);
        break;
    case 3:
        fake_say(who->peer, "\x81", draw(2));
        break; /* whatever follows: an error, mostly */
    case 4:
    case 5:
    case 6:
    case 7: {
        size_t n = client_frame(frame, FWS_PING, &number, sizeof number), cut = draw(n + 1);
        fake_say(who->peer, frame, cut);
        who->pings++;
        if (draw(2) == 0)
            whole_turn();
        if (who->peer->fd != 0)
            fake_say(who->peer, frame + cut, n - cut);
        break;
    }
    default:
        say_frame(who->peer, FWS_TEXT, &letter, 1);
    }
}

static void fault(one *who)
{
    const int faults[] = {EINTR, EAGAIN, ENOBUFS, ENOMEM, EPIPE};
    who->peer->send_errno = faults[draw(draw(10) == 0 ? 5 : 4)];
    who->peer->send_errno_count = 1;
    if (who->peer->send_errno == EAGAIN)
        fake_room(who->peer, 0);
}

static void command_of(one *who)
{
    switch (draw(6)) {
    case 0:
        say_goodbye(who->peer, 1001);
        break;
    case 1:
        leave(who, (uint8_t)draw(TOPICS));
        break;
    case 2:
    case 3:
        join(who, (uint8_t)draw(TOPICS));
        break;
    default:
        send_one(who, draw_size());
        break;
    }
}

/* Topics that come and go. */

static uint8_t draw_name(void)
{
    return (uint8_t)(TOPICS + draw(NAMES - TOPICS));
}

static size_t draw_small(void)
{
    return draw(30) == 0 ? draw(30000) : draw(200);
}

static fws_topic_options draw_options(void)
{
    const uint64_t max_lag = 500U << draw(9);
    fws_topic_options options = {.retention_bytes = max_lag * (1 + draw(3)),
                                 .max_lag_bytes = max_lag,
                                 .on_slow = (uint8_t)draw(3),
                                 .max_lag_messages = draw(4) == 0 ? 1 + draw(200) : 0,
                                 .max_lag_ns = draw(4) == 0 ? 1 + draw(SECOND) : 0,
                                 .min_rate = draw(2) * draw(1 << 20)};
    if (draw(3) == 0) {
        options.history_messages = draw(2) * (1 + draw(60));
        options.history_bytes = draw(2) * (1 + draw(20000));
        options.history_ns = draw(2) * (1 + draw(2 * SECOND));
    }
    return options;
}

static void join_small(one *who, uint8_t name)
{
    fws_topic_options own = draw_options();
    (void)join_with(who, name, draw(3) == 0 ? &own : NULL);
}

static void make_one(one *who, uint8_t name)
{
    const fws_topic_options options = draw_options();
    make_topic(name, &options, (unsigned)draw(4));
    if (who->peer != NULL && draw(2) == 0)
        join_small(who, name);
}

/* A rush over all small topics, in any order. */
static void rush(void)
{
    for (uint64_t n = draw(2) == 0 ? draw(10) : draw(100); n > 0; n--)
        publish_without(draw_name(), draw(4) == 0 ? &ones[draw(CLIENTS)] : NULL, draw_small());
}

static void told(uint8_t name)
{
    if (draw(3) == 0)
        drop_reference(name);
    else if (draw(3) == 0)
        publish_one(name, draw_small());
    else if (draw(8) == 0)
        fws_topic_watch(topics[name], false);
    if (topics[name] != NULL)
        present(name)->wanted = topics[name]->watched && topics[name]->wanted;
}

static void many_topics(one *who)
{
    const uint64_t max_lag = 500U << draw(9);
    uint8_t name = draw_name();
    switch (draw(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
        make_one(who, name);
        break;
    case 4:
        drop_reference(name);
        break;
    case 5:
        if (draw(2) == 0)
            close_topic(name);
        break;
    case 6:
        change_topic(name, (uint8_t)draw(3), max_lag, max_lag * (1 + draw(3)));
        break;
    case 7:
    case 8: /* to all, to half of them, to none */
        for (uint8_t i = TOPICS; who->peer != NULL && i < NAMES; i++)
            if (draw(4) > 0)
                join_small(who, i);
        break;
    case 9:
        for (uint8_t i = TOPICS; who->peer != NULL && i < NAMES; i++)
            if (draw(3) > 0)
                leave(who, i);
        break;
    case 10:
    case 11:
        if (who->peer != NULL)
            leave(who, name);
        break;
    case 12:
        if (who->peer != NULL)
            join_small(who, (uint8_t)draw(TOPICS)); /* a policy of its own, or none again */
        break;
    default:
        rush();
    }
}

/* It is read from no more, or for so many messages, or again. */
static void pause_or_not(const one *who)
{
    fws_conn *conn = conn_of(who->peer);
    if (conn != NULL && conn->state == FWS_OPEN)
        fws_conn_credit(engine, conn, draw(3) == 0 ? (uint16_t)draw(3) : FWS_ANY_MESSAGES);
}

static void act(one *who)
{
    if (draw(20) == 0)
        pause_or_not(who);
    switch (draw(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
        command_of(who);
        break;
    case 6:
        fault(who);
        break;
    case 7:
        who->peer->room = who->peer->room == PLENTY ? draw(50000) : PLENTY;
        break;
    case 8:
    case 9:
        talk(who);
        break;
    default:
        fake_room(who->peer, draw(3) == 0 ? draw(200000) : draw(500));
        break;
    }
}

static void upgrade(one *who, fws_conn *conn)
{
    who->window_bits = fws_deflate_available() && draw(3) == 0 ? window_bits : 0;
    if (who->window_bits != 0)
        CHECK_EQ(fws_conn_deflate(engine, conn, who->window_bits), FWS_OK);
    CHECK_EQ(fws_conn_upgrade(engine, conn, (const uint8_t *)ANSWER, strlen(ANSWER)), FWS_OK);
    who->upgraded = true;
    for (uint8_t i = 0; i < TOPICS; i++)
        join(who, i);
}

static void answer(const fws_event *event)
{
    one *who = one_of(event->conn);
    if (event->kind == FWS_EVENT_HEAD) {
        upgrade(who, event->conn);
        return;
    }
    switch (event->data[0]) {
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
        join(who, (uint8_t)draw(TOPICS));
        break;
    case 'e':
        say_goodbye(who->peer, 4000);
        break;
    default:
        fws_conn_kill(engine, event->conn, 1006);
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
    if (draw(20) == 0)
        net.now += draw(20) == 0 ? 4 * SECOND : draw(FWS_SWEEP_NS);
    if (draw(8) == 0) { /* a flush that is interrupted */
        net.tick = 100000;
        fws_engine_flush(engine, draw(300000));
        net.tick = 0;
    }
    if (draw(3) > 0)
        whole_turn();
    check_all();
}

static void play(uint64_t seed)
{
    random_state = seed;
    window_bits = FWS_WINDOW_MIN + seed % FWS_VARIANTS;
    fws_options options = OPTIONS;
    options.max_log_bytes = seed % 2 == 0 ? BUDGET : 0;
    options.max_buffered_bytes = seed % 3 == 2 ? BUFFERED : 0;
    streams_open(&options);
    on_event = answer;
    on_pong = check_pong;
    on_wanted = hear;
    on_told = told;
    make_lasting(0, FWS_SLOW_CLOSE, 300000);
    make_lasting(1, FWS_SLOW_LATEST, 100000);
    make_lasting(2, FWS_SLOW_LOSSLESS, 200000);
    for (int i = 0; i < STEPS; i++) {
        step();
        if (i % 2000 == 1999) {
            settle_down();
            check_age();
        }
    }
    CHECK(deaths > 50 && whole_frames > STEPS);
    CHECK(compressed_frames > STEPS / 4 || !fws_deflate_available());
    CHECK(engine->counters.slow_closed > 50 && engine->counters.would_block > 5);
    CHECK(topics[1]->account.dropped > 100 && topics[2]->account.delivered > 1000);
    CHECK((engine->counters.buffered_closed > 20) == (seed % 3 == 2));
    CHECK(n_lives > 200 && (engine->topics.budget_dropped > 100) == (seed % 2 == 0));
    engine_close();
}

static void test_ten_thousand_random_steps_keep_every_promise(void)
{
    play(1);
}

static void test_other_seeds_do_too(void)
{
    for (uint64_t seed = 2; seed <= 4; seed++)
        play(seed);
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
        printf("%" PRIu64 " steps\n", n * STEPS);
        return 0;
    }
    RUN(test_ten_thousand_random_steps_keep_every_promise);
    RUN(test_other_seeds_do_too);
    return 0;
}
