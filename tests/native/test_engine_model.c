/* Random steps against a model: whatever happens, each client gets a prefix of legal frames with
 * rising numbers, nothing of anybody else's, and every account balances at every step. Some
 * are compressed, some commands come from other threads. */
#include "streams.h"

#define STEPS 10000

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
        unsubscribe(who->peer, topics[draw(TOPICS)]);
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

static void act(one *who)
{
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
        unsubscribe(who->peer, topics[draw(TOPICS)]);
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
        publish_one((uint8_t)draw(TOPICS), draw_size());
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
    streams_open(&OPTIONS);
    on_event = answer;
    on_pong = check_pong;
    topics[0] = topic_of(FWS_SLOW_CLOSE, 300000);
    topics[1] = topic_of(FWS_SLOW_LATEST, 100000);
    topics[2] = topic_of(FWS_SLOW_LOSSLESS, 200000);
    for (int i = 0; i < STEPS; i++) {
        step();
        if (i % 2000 == 1999)
            settle_down();
    }
    CHECK(deaths > 50 && whole_frames > STEPS);
    CHECK(compressed_frames > STEPS || !fws_deflate_available());
    CHECK(engine->counters.slow_closed > 5 && engine->counters.would_block > 20);
    CHECK(topics[1]->account.dropped > 100 && topics[2]->account.delivered > 1000);
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
