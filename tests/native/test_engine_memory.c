/* Memory runs out at each allocation in turn: whoever needed it may lose its connection,
 * nobody else does, no account is wrong, nothing leaks (AddressSanitizer sees to that). */
#include "house.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);

static uint64_t countdown, in_a_row; /* allocations that still succeed, then fail; 0, 0: all do */
static uint64_t failed;

static bool fails(void)
{
    if (countdown > 0) {
        countdown--;
        return false;
    }
    if (in_a_row == 0)
        return false;
    in_a_row--;
    failed++;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t n)
{
    return fails() ? NULL : __real_realloc(old, n);
}

static void answer(const fws_event *event)
{
    fws_command reply = {.kind = FWS_CMD_SEND, .opcode = FWS_TEXT, .conn = event->conn->id,
                         .data = event->data, .n = event->n};
    if (event->kind == FWS_EVENT_MESSAGE)
        fws_engine_command(engine, &reply);
    else if (fws_conn_upgrade(engine, event->conn, (const uint8_t *)ANSWER, strlen(ANSWER)) < 0)
        fws_conn_kill(engine, event->conn, 1011);
}

/* A peer whose own buffers never grow, so that every allocation counted is the engine's. */
static fake_peer *roomy(void)
{
    fake_peer *peer = fake_connect();
    grow(&peer->in, &peer->in_capacity, 100000);
    grow(&peer->out, &peer->out_capacity, 500000);
    return peer;
}

static void say_parts(fake_peer *peer)
{
    uint8_t frame[64];
    for (int i = 0; i < 3; i++) {
        size_t n = client_frame(frame, i == 0 ? FWS_TEXT : FWS_CONTINUATION, "part", 4);
        frame[0] = (uint8_t)(i == 2 ? frame[0] | 0x80 : frame[0] & 0x7F);
        fake_say(peer, frame, n);
        turn();
    }
}

/* What one connection can need memory for: its slot and itself, a head in pieces, the 101, a
 * fragmented message, pongs and direct messages, a subscription, a short write, a large frame. */
static void live(fake_peer *peer, fws_topic *topic)
{
    static char large[20000];
    memset(large, 'x', sizeof large - 1);
    fake_say(peer, HEAD, 5);
    turn();
    fake_say(peer, HEAD + 5, strlen(HEAD) - 5);
    turn();
    say_parts(peer);
    say_frame(peer, FWS_PING, "ping", 4);
    turn();
    subscribe(peer, topic);
    fake_room(peer, 0);
    peer->room = 100;
    for (int i = 0; i < 30; i++) {
        publish(topic, i == 10 ? large : "small");
        tell(peer, i == 20 ? large : "direct");
        turn();
    }
    fake_room(peer, PLENTY);
    turn();
    unsubscribe(peer, topic);
    say_goodbye(peer, 1000);
    turn();
}

static uint64_t live_without(uint64_t n, uint64_t failures)
{
    house_open(&HOUSE);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *neighbour = client();
    grow(&neighbour->out, &neighbour->out_capacity, 500000);
    subscribe(neighbour, topic);
    on_event = answer;
    fake_peer *peer = roomy();
    countdown = n;
    in_a_row = failures;
    failed = 0;
    live(peer, topic);
    uint64_t missed = failed;
    countdown = in_a_row = 0;
    rest();
    check_house();
    CHECK(conn_of(neighbour) != NULL);
    neighbour->out_n = 0;
    CHECK_EQ(publish(topic, "afterwards"), FWS_OK);
    rest();
    expect_got(neighbour, "T(afterwards) ");
    on_event = usual;
    client(); /* somebody new is welcome */
    house_close();
    return missed;
}

/* HOSTILE X17 */
static void test_each_allocation_may_fail(void)
{
    uint64_t n = 0;
    while (live_without(n, 1) > 0)
        n++;
    printf("   %d allocations failed, one at a time\n", (int)n);
    CHECK(n > 20);
}

/* HOSTILE X17 */
static void test_memory_may_stay_away_for_a_while(void)
{
    const uint64_t failures[] = {2, 5, 20, 1000000};
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
        for (uint64_t n = 0; n < 60; n++)
            live_without(n, failures[i]);
}

/* HOSTILE X02 */
static void test_a_reset_within_the_101_frees_it_once(void)
{
    for (size_t room = 0; room <= strlen(ANSWER); room++) {
        house_open(&HOUSE);
        fake_peer *peer = fake_connect();
        peer->room = room;
        fake_say(peer, HEAD, strlen(HEAD));
        rest();
        CHECK_EQ(peer->out_n, room);
        say_text(peer, "early");
        fake_reset(peer);
        rest();
        CHECK(peer->closed); /* the fake network fails on a second close */
        CHECK_EQ(deaths, 1);
        house_close();
    }
}

int main(void)
{
    RUN(test_each_allocation_may_fail);
    RUN(test_memory_may_stay_away_for_a_while);
    RUN(test_a_reset_within_the_101_frees_it_once);
    return 0;
}
