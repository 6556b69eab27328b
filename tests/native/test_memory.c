/* Memory runs out at each allocation in turn, once or for good, wherever the engine takes some:
 * what was asked fails, accounts balance, nothing leaks (the sanitized build looks), and it lives on.
 *
 * The linker sends the core's malloc, calloc and realloc here (CMakeLists.txt); the fake network,
 * whose memory never runs out, keeps the real ones. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/types.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *old, size_t n);

/* zlib takes its own memory, the kernel its random bytes: they refuse as an allocation does. */
ssize_t __real_getrandom(void *room, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *room, size_t n, unsigned flags);
int __real_deflateInit2_(void *stream, int level, int method, int bits, int memory, int strategy,
                         const char *version, int size);
int __real_inflateInit2_(void *stream, int bits, const char *version, int size);
int __wrap_deflateInit2_(void *stream, int level, int method, int bits, int memory, int strategy,
                         const char *version, int size);
int __wrap_inflateInit2_(void *stream, int bits, const char *version, int size);

static uint64_t until_failure = UINT64_MAX; /* allocations */
static bool for_good, failed;

static bool refuses(void)
{
    if (until_failure == UINT64_MAX || --until_failure > 0)
        return false;
    until_failure = for_good ? 1 : UINT64_MAX;
    return failed = true;
}

void *__wrap_malloc(size_t n)
{
    return refuses() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
    return refuses() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *old, size_t n)
{
    return refuses() ? NULL : __real_realloc(old, n);
}

ssize_t __wrap_getrandom(void *room, size_t n, unsigned flags)
{
    return refuses() ? -1 : __real_getrandom(room, n, flags);
}

#ifndef FWS_NO_DEFLATE
#define Z_MEM_ERROR (-4) /* zlib.h */

int __wrap_deflateInit2_(void *stream, int level, int method, int bits, int memory, int strategy,
                         const char *version, int size)
{
    return refuses()
               ? Z_MEM_ERROR
               : __real_deflateInit2_(stream, level, method, bits, memory, strategy, version, size);
}

int __wrap_inflateInit2_(void *stream, int bits, const char *version, int size)
{
    return refuses() ? Z_MEM_ERROR : __real_inflateInit2_(stream, bits, version, size);
}
#endif

#define calloc __real_calloc
#define realloc __real_realloc
#include "engine_fixture.h"
#undef calloc
#undef realloc

#define PEERS 3
#define BIG 40000u
#define ROOMS 20 /* more than the first table of topics has places for */

static fws_topic *topic;
static char big[BIG + 1];

/* As the faces do: what cannot be answered is cut off. */
static void decide(const fws_event *event)
{
    static const uint8_t done[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    fws_conn *conn = event->conn;
    int status = FWS_OK;
    if (event->kind == FWS_EVENT_HEAD && memcmp(event->data, "POST", 4) == 0)
        status = fws_conn_expect_body(engine, conn, 5, done, 0);
    else if (event->kind == FWS_EVENT_HEAD && fws_deflate_available() && engine->live > PEERS)
        status = fws_conn_deflate(engine, conn, 12);
    if (event->kind == FWS_EVENT_HEAD && status == FWS_OK && conn->state == FWS_WAITING)
        status = fws_conn_upgrade(engine, conn, (const uint8_t *)ANSWER, strlen(ANSWER));
    else if (event->kind == FWS_EVENT_BODY)
        status = fws_conn_respond(engine, conn, done, sizeof done - 1, true);
    CHECK(status == FWS_OK || status == FWS_E_NOMEM);
    if (status != FWS_OK)
        fws_conn_kill(engine, conn, 1011);
}

static void may_fail(int status)
{
    CHECK(status >= FWS_OK || status == FWS_E_NOMEM || status == FWS_E_CLOSED
          || status == FWS_E_FULL || status == FWS_E_SYSTEM);
}

/* NULL: memory is out. It stays without subscribers. */
static fws_topic *make_topic(const char *name, const fws_topic_options *options)
{
    fws_topic *made = fws_topics_get(fws_engine_topics(engine), name, strlen(name), options);
    if (made != NULL)
        made->configured = true;
    return made;
}

static void *from_elsewhere(void *unused)
{
    may_fail(publish(topic, "from another thread"));
    return unused;
}

static void publish_and_stall(fake_peer **peers)
{
    for (int i = 0; i < PEERS; i++) {
        may_fail(subscribe(peers[i], topic));
        if (conn_of(peers[i]) != NULL)
            conn_of(peers[i])->acknowledges = true; /* as of a TCP socket */
    }
    peers[0]->room = 10; /* the first frame is cut, its rest is kept */
    for (int i = 0; i < 40; i++)
        may_fail(publish(topic, "a message of some length"));
    turn();
    fake_room(peers[0], PLENTY);
    peers[1]->room = 1000; /* a large one has a slab of its own */
    may_fail(publish(topic, big));
    turn();
    peers[1]->unacknowledged = 100;
    for (int i = 0; i < 8; i++)
        may_fail(publish(topic, big)); /* past what a slow one may lag */
    pass_time(SECOND);
    fake_room(peers[1], PLENTY);
    may_fail(tell(peers[2], big));
    pthread_t other;
    CHECK_EQ(pthread_create(&other, NULL, from_elsewhere, NULL), 0);
    CHECK_EQ(pthread_join(other, NULL), 0);
    turn();
}

static void talk(fake_peer **peers)
{
    uint8_t frame[BIG + FWS_HEADER_MAX];
    say_text(peers[0], "hello");
    say_frame(peers[1], FWS_PING, "ping", 4);
    size_t n = client_frame(frame, FWS_TEXT, big, 20000);
    for (size_t at = 0; at < n; at += 4000) {
        fake_say(peers[2], frame + at, n - at < 4000 ? n - at : 4000);
        turn();
    }
    say_frame(peers[2], FWS_BINARY, big, BIG);
    turn();
}

static void ask_over_http(void)
{
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\n\r\n";
    fake_peer *peer = fake_connect();
    for (size_t at = 0; at < sizeof head - 1; at += 7) {
        fake_say(peer, head + at, sizeof head - 1 - at < 7 ? sizeof head - 1 - at : 7);
        turn();
    }
    fake_say(peer, "he", 2);
    turn();
    fake_say(peer, "llo", 3);
    turn();
}

/* A subscriber that agreed on compression. */
static void compress(void)
{
    static const uint8_t hello[] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    uint8_t frame[64];
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    turn();
    turn();
    may_fail(topic == NULL ? FWS_OK : subscribe(peer, topic));
    may_fail(topic == NULL ? FWS_OK : publish(topic, big));
    may_fail(topic == NULL ? FWS_OK : publish(topic, ""));
    may_fail(tell(peer, big));
    size_t n = client_frame(frame, FWS_TEXT, hello, sizeof hello);
    frame[0] |= 0x40; /* RSV1 */
    fake_say(peer, frame, n);
    turn();
    may_fail(topic == NULL ? FWS_OK : unsubscribe(peer, topic));
}

/* One peer in many topics, with a policy of its own in some, and frames that it is not to get: tables
 * and heaps grow while some of it is pending. */
static void crowd(fake_peer *peer)
{
    static const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 10000, .history_messages = 5};
    static const fws_topic_options own = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 20000, .on_slow = FWS_SLOW_LATEST};
    fws_topic *rooms[ROOMS];
    char name[16];
    for (int i = 0; i < ROOMS; i++) {
        sprintf(name, "room %d", i);
        rooms[i] = make_topic(name, &options);
        if (rooms[i] == NULL)
            continue;
        const void *data = i % 3 == 0 ? &own : NULL;
        may_fail(command(FWS_CMD_SUBSCRIBE, peer, rooms[i], 0, data, i % 3 == 0 ? sizeof own : 0));
        may_fail(publish(rooms[i], "hello"));
        if (i % 4 == 0)
            turn();
    }
    peer->room = 30;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < ROOMS; i++) {
            if (rooms[i] == NULL)
                continue;
            const fws_command what = {.kind = FWS_CMD_PUBLISH,
                                      .opcode = FWS_TEXT,
                                      .conn = i % 2 == 0 ? peer->tag : 0,
                                      .topic = rooms[i],
                                      .data = (const uint8_t *)name,
                                      .n = 6};
            may_fail(fws_engine_command(engine, &what));
            if (i % 5 == round)
                may_fail(unsubscribe(peer, rooms[i]));
            may_fail(publish(rooms[i], "everybody"));
        }
        turn();
    }
    if (rooms[0] != NULL)
        may_fail(fws_topic_set_options(rooms[0], &own));
    if (rooms[1] != NULL)
        fws_topic_close(rooms[1]);
    fake_room(peer, PLENTY);
    turn();
}

/* A frame of the key of that letter; ' ': it has none. */
static void tell_key(fws_topic *to, char key)
{
    const fws_command what = {.kind = FWS_CMD_PUBLISH,
                              .opcode = FWS_TEXT,
                              .topic = to,
                              .key = (const uint8_t *)&key,
                              .key_n = key != ' ',
                              .data = (const uint8_t *)"about it",
                              .n = 8};
    may_fail(fws_engine_command(engine, &what));
    check_account(to);
}

/* Subscriptions to some keys: new ones, ones that have frames, frames without one. */
static void want_some_keys(const fake_peer *peer)
{
    static const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 10000, .history_messages = 40};
    static const char *const names[] = {"\1a\0\1z", "\1a\1b"};
    fws_topic *to = make_topic("some keys", &options);
    for (int i = 0; to != NULL && i < 90; i++) {
        tell_key(to, "ab a c"[i % 6]);
        if (i % 15 == 5) { /* the last one stays */
            const fws_command what = {.kind = FWS_CMD_SUBSCRIBE,
                                      .conn = peer->tag,
                                      .topic = to,
                                      .key = (const uint8_t *)names[i / 15 % 2],
                                      .key_n = i / 15 % 2 ? 4 : 5};
            may_fail(fws_engine_command(engine, &what));
            check_account(to);
        }
        if (i % 15 == 10 && i < 80)
            may_fail(unsubscribe(peer, to));
        if (i % 4 == 0)
            turn();
    }
}

/* The source with one listener, paced and then as fast as it goes. */
static void feed(const fake_peer *peer)
{
    static const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 20000, .on_slow = FWS_SLOW_LOSSLESS};
    fws_topic *ticks = make_topic("ticks", &options);
    if (ticks == NULL)
        return;
    fws_source_init(&engine->source, ticks, 1, FWS_TICK_JSON, FWS_TICK_BASE, FWS_LATE_BURST);
    may_fail(subscribe(peer, ticks));
    for (int max = 0; max < 2; max++) {
        fws_engine_set_rate(engine, 1000, max);
        net.now += SECOND / 10;
        net.tick = 1000000;
        turn();
        net.tick = 0;
    }
    fws_engine_set_rate(engine, 0, false);
}

static void dial_out(void)
{
    fake_peer *peer = fake_new();
    int fd = fake_open(peer);
    fws_conn *conn = fws_engine_attach(engine, fd, FWS_CLIENT, (const uint8_t *)HEAD, strlen(HEAD));
    if (conn == NULL) {
        CHECK_EQ(errno, ENOMEM);
        fake_close(fd); /* still ours */
        return;
    }
    fake_say(peer, ANSWER, strlen(ANSWER));
    turn();
    conn = conn_of(peer);
    if (conn != NULL && conn->state == FWS_OPEN)
        may_fail(fws_conn_meter(engine, conn));
    may_fail(tell(peer, "masked"));
}

/* Everything that allocates; false when not even an engine came of it. */
static bool live(void)
{
    fake_peer *peers[PEERS];
    static const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 100000, .on_slow = FWS_SLOW_LATEST};
    fws_options with = OPTIONS;
    with.max_per_address = 10;
    with.ping_ns = with.pong_ns = SECOND;
    net.now = 1000 * SECOND;
    engine = fws_engine_new(&with, &fake_sys);
    if (engine == NULL)
        return false;
    CHECK_EQ(fws_engine_listen(engine, FAKE_LISTENER), FWS_OK);
    on_event = decide;
    for (int i = 0; i < PEERS; i++) {
        peers[i] = fake_connect();
        peers[i]->remote = (struct sockaddr_in6){.sin6_family = AF_INET6};
        fake_say(peers[i], HEAD, strlen(HEAD));
    }
    turn();
    turn();
    topic = make_topic("t", &options);
    if (topic != NULL)
        publish_and_stall(peers);
    talk(peers);
    ask_over_http();
    dial_out();
    compress();
    feed(peers[0]);
    crowd(peers[2]);
    want_some_keys(peers[2]);
    may_fail(say_goodbye(peers[0], 1000));
    turn();
    return true;
}

/* With memory again a new client is served as ever. */
static void live_on(void)
{
    on_event = usual;
    heard_n = 0;
    fake_peer *peer = client();
    say_frame(peer, FWS_PING, "there", 5);
    turn();
    expect_got(peer, "P(there) ");
    topic = topic != NULL ? topic : topic_of(FWS_SLOW_LATEST, 100000);
    CHECK_EQ(subscribe(peer, topic), FWS_OK);
    CHECK(publish(topic, "news") >= FWS_OK);
    turn();
    expect_got(peer, "T(news) ");
    engine_close();
}

/* How many allocations there were to fail. */
static uint64_t fail_at_each(bool all_later_too)
{
    uint64_t n = 0;
    do {
        for_good = all_later_too;
        failed = false;
        until_failure = ++n;
        topic = NULL;
        bool alive = live();
        until_failure = UINT64_MAX;
        if (alive)
            live_on();
        else
            fake_clear();
    } while (failed);
    return n - 1;
}

/* HOSTILE X17 */
static void test_one_allocation_fails(void)
{
    CHECK(fail_at_each(false) > 30);
}

/* HOSTILE X17 */
static void test_memory_is_out_from_some_allocation_on(void)
{
    CHECK(fail_at_each(true) > 30);
}

static void test_an_engine_without_descriptors_closes_what_it_had_opened(void)
{
    struct rlimit before, few;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    int first = dup(0);
    CHECK(first >= 0);
    close(first);
    for (rlim_t room = 0; room < 3; room++) {
        few.rlim_cur = (rlim_t)first + room;
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        CHECK(fws_engine_new(&OPTIONS, &fake_sys) == NULL);
        CHECK_EQ(errno, EMFILE);
        CHECK_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        int next = dup(0);
        CHECK_EQ(next, first);
        close(next);
    }
}

int main(void)
{
    memset(big, 'b', BIG);
    RUN(test_one_allocation_fails);
    RUN(test_memory_is_out_from_some_allocation_on);
    RUN(test_an_engine_without_descriptors_closes_what_it_had_opened);
    return 0;
}
