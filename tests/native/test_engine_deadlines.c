/* Deadlines in portions: what a turn touches of thousands of connections, counted. The sockets here
 * take everything and say nothing. */
#include <unistd.h>

#include "core/engine_internal.h"
#include "fake.h"

#define SECOND 1000000000ULL
#define STEPS 2048 /* of sweep.c, and the most that one look adds to them */
#define LAST_LOOK (16 + 2048 + 64)

static uint64_t now;
static uint32_t sends, cut_off, refusing;

static ssize_t says_nothing(int fd, void *room, size_t n, int flags)
{
    (void)fd, (void)room, (void)n, (void)flags;
    return fail(EAGAIN);
}

static ssize_t takes_all(int fd, const struct msghdr *message, int flags)
{
    size_t n = 0;
    (void)fd, (void)flags;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        n += message->msg_iov[i].iov_len;
    sends++;
    return refusing ? fail(EAGAIN) : (ssize_t)n;
}

static int no_event(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    (void)epoll, (void)events, (void)n, (void)timeout_ms;
    return 0;
}

static int nothing_to_control(int epoll, int what, int fd, struct epoll_event *event)
{
    (void)epoll, (void)what, (void)fd, (void)event;
    return 0;
}

static int is_shut(int fd, int how)
{
    (void)fd, (void)how;
    return 0;
}

static int is_closed(int fd)
{
    (void)fd;
    cut_off++;
    return 0;
}

static int is_reset(int fd)
{
    (void)fd;
    return 0;
}

static uint64_t stands_still(void)
{
    return now;
}

static const uint32_t no_forks;

static const fws_sys silent_sys = {
    .forks = &no_forks,
    .recv = says_nothing,
    .sendmsg = takes_all,
    .accept4 = fake_accept4,
    .epoll_wait = no_event,
    .epoll_ctl = nothing_to_control,
    .shutdown = is_shut,
    .close = is_closed,
    .unacknowledged = fake_unacknowledged,
    .reset_at_close = is_reset,
    .monotonic = stands_still,
    .realtime = stands_still,
};

static const fws_options OPTIONS = {
    .head_limit = 1024,
    .max_connections = 1 << 20,
    .handshake_ns = 10 * SECOND,
    .keep_alive_ns = 5 * SECOND,
    .close_ns = 3 * SECOND,
    .ping_ns = 20 * SECOND,
    .pong_ns = 20 * SECOND,
    .max_stall_ns = 5 * SECOND,
    .outbox_limit = 1 << 20,
    .limits = {1 << 20, 1000},
};

static fws_engine *engine;

static fws_conn *slot_conn(uint32_t i)
{
    return engine->slots[i].conn;
}

static void engine_open(uint32_t n, bool upgraded)
{
    now = 1000 * SECOND;
    sends = cut_off = refusing = 0;
    engine = fws_engine_new(&OPTIONS, &silent_sys);
    CHECK(engine != NULL);
    for (uint32_t i = 0; i < n; i++) {
        fws_conn *conn = fws_engine_attach(engine, FAKE_BASE + (int)i, FWS_SERVER, NULL, 0);
        CHECK(conn != NULL);
        if (!upgraded)
            continue;
        conn->state = FWS_WAITING;
        CHECK_EQ(fws_conn_upgrade(engine, conn, NULL, 0), FWS_OK);
    }
    for (int i = 0; i < 100000 && fws_engine_more(engine); i++) { /* none has anything to say */
        CHECK(fws_engine_harvest(engine, 0) >= 0);
        fws_engine_flush(engine, FWS_TURN_NS);
    }
}

/* Turns until the pass is over; how many. None does more than it may. */
static uint32_t pass(void)
{
    uint32_t turns = 0;
    do {
        uint32_t sent = sends, cut = cut_off;
        CHECK_EQ(fws_engine_harvest(engine, 0), 0);
        CHECK(engine->swept <= STEPS + LAST_LOOK);
        while (fws_engine_next_event(engine) != NULL)
            continue;
        fws_engine_flush(engine, FWS_TURN_NS);
        fws_engine_reap(engine);
        CHECK(fws_topics_collect(fws_engine_topics(engine)) == NULL);
        CHECK(sends - sent <= 33 || refusing);
        CHECK(cut_off - cut <= 33);
        turns++;
    } while (fws_engine_more(engine));
    return turns;
}

static void later(uint64_t ns)
{
    for (uint64_t end = now + ns; now < end;) {
        now += end - now < FWS_SWEEP_NS ? end - now : FWS_SWEEP_NS;
        pass();
    }
}

static void all_due_at(uint64_t at)
{
    for (uint32_t i = 0; i < engine->n_slots; i++)
        if (slot_conn(i) != NULL)
            slot_conn(i)->deadline = engine->slots[i].due = at;
}

static void test_idle_connections_are_not_touched(void)
{
    engine_open(19000, true);
    all_due_at(now + 5 * SECOND);
    for (int i = 0; i < 19; i++) {
        now += FWS_SWEEP_NS;
        CHECK_EQ(pass(), 1);
        CHECK_EQ(engine->swept, 0);
    }
    fws_engine_free(engine);
}

static void test_first_pings_are_spread_over_half_the_interval(void)
{
    engine_open(8000, true);
    later(10 * SECOND - FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.pings, 0);
    for (uint32_t quarter = 0; quarter < 4; quarter++) {
        uint64_t before = engine->counters.pings;
        later(5 * SECOND / 2 + (quarter == 0) * FWS_SWEEP_NS);
        uint64_t pings = engine->counters.pings - before;
        CHECK(pings > 1800 && pings < 2200);
    }
    CHECK_EQ(engine->counters.pings, 8000);
    fws_engine_free(engine);
}

static void test_pings_that_fall_due_together_leave_in_bounded_turns(void)
{
    engine_open(1000, true);
    all_due_at(now + SECOND);
    later(SECOND - FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.pings, 0);
    now += FWS_SWEEP_NS;
    CHECK(pass() >= 1000 / 33); /* one behind the other, without waiting for the timer */
    CHECK_EQ(engine->counters.pings, 1000);
    CHECK_EQ(sends, 1000);
    fws_engine_free(engine);
}

static void test_deadlines_that_pass_together_are_noticed_in_bounded_turns(void)
{
    engine_open(1000, false);
    later(OPTIONS.handshake_ns - FWS_SWEEP_NS);
    CHECK_EQ(engine->live, 1000);
    now += FWS_SWEEP_NS;
    CHECK(pass() >= 1000 / 33);
    CHECK_EQ(engine->live, 0);
    CHECK_EQ(engine->counters.handshake_timeouts, 1000);
    fws_engine_free(engine);
}

static void test_a_pass_over_many_slots_goes_on_in_the_next_turn(void)
{
    engine_open(70000, true);
    all_due_at(now + 1000 * SECOND);
    engine->slots[69999].due = slot_conn(69999)->deadline = now + SECOND;
    later(SECOND - FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.pings, 0);
    now += FWS_SWEEP_NS;
    CHECK_EQ(pass(), 4); /* of 131,072 slots */
    CHECK_EQ(engine->counters.pings, 1);
    fws_engine_free(engine);
}

static void test_an_answered_ping_stretches_the_interval_to_fifty_seconds(void)
{
    const uint64_t at_most[] = {20, 25, 32, 40, 49, 50, 50};
    engine_open(1, true);
    fws_conn *conn = slot_conn(0);
    for (size_t i = 0; i < sizeof at_most / sizeof *at_most; i++) {
        uint64_t began = now, before = engine->counters.pings;
        while (engine->counters.pings == before)
            later(FWS_SWEEP_NS);
        CHECK(now - began <= at_most[i] * SECOND + FWS_SWEEP_NS);
        CHECK(now - began >= at_most[i] * SECOND * (i == 0 ? 4 : 8) / 10);
        CHECK(conn->pinged);
        conn->pongs += conn->pongs < FWS_STRETCHES; /* as receive.c does with a pong */
        fws_conn_ping_later(engine, conn, false);
    }
    fws_engine_free(engine);
}

/* HOSTILE X36 X37 */
static void test_time_in_which_the_engine_stood_still_is_nobodys(void)
{
    engine_open(100, false);
    later(5 * SECOND);
    now += 3600 * SECOND; /* suspended in the middle of it */
    pass();
    CHECK_EQ(engine->lost, 3600 * SECOND - FWS_SWEEP_NS);
    fws_conn *newcomer = fws_engine_attach(engine, FAKE_BASE + 100, FWS_SERVER, NULL, 0);
    uint64_t id = fws_conn_id(newcomer);
    later(4 * SECOND);
    CHECK_EQ(engine->live, 101);
    later(SECOND);
    CHECK_EQ(engine->live, 1);
    later(4 * SECOND);
    CHECK(fws_engine_find(engine, id) != NULL);
    later(2 * SECOND);
    CHECK(fws_engine_find(engine, id) == NULL);
    fws_engine_free(engine);
}

static fws_topic *topic_of(uint32_t number, uint8_t on_slow)
{
    const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 19, .on_slow = on_slow};
    fws_topic *topic =
        fws_topics_get(fws_engine_topics(engine), (const char *)&number, sizeof number, &options);
    CHECK(topic != NULL);
    return topic;
}

static void command(uint8_t kind, uint32_t conn, fws_topic *topic)
{
    const fws_command what = {.kind = kind,
                              .opcode = FWS_TEXT,
                              .conn = kind == FWS_CMD_PUBLISH ? 0 : fws_conn_id(slot_conn(conn)),
                              .topic = topic,
                              .data = (const uint8_t *)"hello",
                              .n = kind == FWS_CMD_PUBLISH ? 5 : 0};
    CHECK(fws_engine_command(engine, &what) >= 0);
}

static void test_many_pending_subscriptions_of_one_are_looked_at_in_portions(void)
{
    engine_open(1, true);
    for (uint32_t i = 0; i < 10000; i++)
        command(FWS_CMD_SUBSCRIBE, 0, topic_of(i, FWS_SLOW_LOSSLESS));
    refusing = 1;
    for (uint32_t i = 0; i < 10000; i++)
        command(FWS_CMD_PUBLISH, 0, topic_of(i, FWS_SLOW_LOSSLESS));
    pass();
    CHECK(slot_conn(0)->blocked);
    now += FWS_SWEEP_NS;
    CHECK_EQ(pass(), 6); /* 2,048 of them in a turn; the last one has no time for the rest */
    later(OPTIONS.max_stall_ns - SECOND);
    CHECK_EQ(engine->counters.slow_closed, 0);
    later(SECOND + FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.slow_closed, 1);
    fws_engine_free(engine);
}

static void test_many_stalled_readers_are_looked_at_in_portions(void)
{
    engine_open(1000, true);
    fws_topic *topic = topic_of(0, FWS_SLOW_LOSSLESS);
    for (uint32_t i = 0; i < 1000; i++)
        command(FWS_CMD_SUBSCRIBE, i, topic);
    all_due_at(now + 1000 * SECOND);
    refusing = 1;
    command(FWS_CMD_PUBLISH, 0, topic);
    pass();
    now += FWS_SWEEP_NS;
    CHECK(pass() >= 1000 / 130); /* each of them, in each pass */
    later(OPTIONS.max_stall_ns + FWS_SWEEP_NS);
    CHECK_EQ(engine->counters.slow_closed, 1000);
    fws_engine_free(engine);
}

int main(void)
{
    RUN(test_idle_connections_are_not_touched);
    RUN(test_first_pings_are_spread_over_half_the_interval);
    RUN(test_pings_that_fall_due_together_leave_in_bounded_turns);
    RUN(test_deadlines_that_pass_together_are_noticed_in_bounded_turns);
    RUN(test_a_pass_over_many_slots_goes_on_in_the_next_turn);
    RUN(test_an_answered_ping_stretches_the_interval_to_fifty_seconds);
    RUN(test_time_in_which_the_engine_stood_still_is_nobodys);
    RUN(test_many_pending_subscriptions_of_one_are_looked_at_in_portions);
    RUN(test_many_stalled_readers_are_looked_at_in_portions);
    return 0;
}
