/* Commands from other threads, and the real system calls: edges, wake-ups, sockets that fill. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>

#include "check.h"
#include "core/engine_state.h"
#include "conn_fixture.h"

#define MESSAGES 20000
#define ANSWER "101\r\n\r\n"

static const fws_options OPTIONS = {
    .head_limit = 1024,
    .max_connections = 100,
    .handshake_ns = 10000000000ULL,
    .close_ns = 3000000000ULL,
    .max_stall_ns = 10000000000ULL,
    .outbox_limit = 1 << 20,
    .notsent_lowat = 16384,
    .limits = {1 << 20, 1000},
};

static fws_engine *engine;
static fws_topic *topic;
static atomic_uint seen;

static void begin(uint8_t on_slow)
{
    const fws_topic_options options = {
        .retention_bytes = 1 << 22, .max_lag_bytes = 1 << 21, .on_slow = on_slow};
    engine = fws_engine_new(&OPTIONS, &fws_sys_linux);
    CHECK(engine != NULL);
    topic = fws_topics_get(fws_engine_topics(engine), "t", 1, &options);
    CHECK(topic != NULL);
    topic->configured = true;
    seen = 0;
}

static void turn(int timeout_ms)
{
    const fws_event *event;
    CHECK_EQ(fws_engine_harvest(engine, timeout_ms), FWS_OK);
    while ((event = fws_engine_next_event(engine)) != NULL)
        if (event->kind == FWS_EVENT_HEAD) {
            fws_conn *conn = event->conn;
            fws_conn_upgrade(engine, conn, (const uint8_t *)ANSWER, strlen(ANSWER));
            const fws_command join = {.kind = FWS_CMD_SUBSCRIBE, .conn = conn->id, .topic = topic};
            CHECK_EQ(fws_engine_command(engine, &join), FWS_OK);
        }
    fws_engine_flush(engine, FWS_TURN_NS);
    check_account(topic);
    fws_engine_reap(engine);
    CHECK(fws_topics_collect(fws_engine_topics(engine)) == NULL);
}

static int publish(uint32_t number, size_t n)
{
    uint8_t payload[4096] = {0};
    memcpy(payload, &number, sizeof number);
    const fws_command what = {
        .kind = FWS_CMD_PUBLISH, .opcode = FWS_BINARY, .topic = topic, .data = payload, .n = n};
    return fws_engine_command(engine, &what);
}

/* A loop that sleeps on the engine's epoll must hear of everything that was staged. */
static void *stage_one_by_one(void *unused)
{
    uint64_t random = 3;
    for (uint32_t i = 0; i < MESSAGES; i++) {
        CHECK_EQ(publish(i, 8), FWS_OK);
        for (uint64_t spin = test_random(&random) % 2000; spin > 0; spin--)
            atomic_load(&seen);
        if (i % 4 == 0)
            while (atomic_load(&seen) <= i)
                sched_yield();
    }
    return unused;
}

static void test_no_wake_up_is_lost(void)
{
    begin(FWS_SLOW_CLOSE);
    pthread_t thread;
    turn(0);
    CHECK(pthread_create(&thread, NULL, stage_one_by_one, NULL) == 0);
    while (topic->log.next_seq < MESSAGES) {
        struct pollfd ready = {.fd = engine->epoll, .events = POLLIN};
        if (!fws_engine_more(engine))
            CHECK(poll(&ready, 1, 10000) == 1);
        turn(0);
        atomic_store(&seen, (unsigned)topic->log.next_seq);
    }
    pthread_join(thread, NULL);
    CHECK_EQ(engine->counters.staged_refused, 0);
    fws_engine_free(engine);
}

/* The worst moment: after a turn has applied what was staged, before it looks at its poller. */
static void *stage_one(void *unused)
{
    CHECK_EQ(publish(0, 8), FWS_OK);
    return unused;
}

static int stage_and_wait(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, stage_one, NULL) == 0);
    pthread_join(thread, NULL);
    return epoll_wait(epoll, events, n, timeout_ms);
}

static void test_a_wake_up_within_a_turn_asks_for_another(void)
{
    fws_sys sys = fws_sys_linux;
    begin(FWS_SLOW_CLOSE);
    engine->sys = &sys;
    turn(0);
    CHECK(!fws_engine_more(engine));
    sys.epoll_wait = stage_and_wait;
    turn(0);
    CHECK_EQ(topic->log.next_seq, 0);
    CHECK(fws_engine_more(engine)); /* the poller will not tell again */
    sys.epoll_wait = epoll_wait;
    turn(0);
    CHECK_EQ(topic->log.next_seq, 1);
    CHECK(!fws_engine_more(engine));
    fws_engine_free(engine);
}

static void *stage_until_full(void *taken)
{
    while (publish(0, 4096) == FWS_OK)
        ++*(uint64_t *)taken;
    CHECK_EQ(publish(0, 4096), FWS_E_FULL);
    const fws_command late = {.kind = FWS_CMD_SEND, .opcode = FWS_TEXT, .conn = 12345};
    CHECK_EQ(fws_engine_command(engine, &late), FWS_OK);
    const fws_command large = {
        .kind = FWS_CMD_PUBLISH, .opcode = FWS_TEXT, .topic = topic, .n = SIZE_MAX - 3};
    CHECK_EQ(fws_engine_command(engine, &large), FWS_E_FULL);
    return NULL;
}

static void test_staging_is_bounded_and_what_fails_later_is_counted(void)
{
    begin(FWS_SLOW_CLOSE);
    pthread_t thread;
    uint64_t taken = 0;
    turn(0);
    for (int round = 0; round < 3; round++) {
        taken = 0;
        CHECK(pthread_create(&thread, NULL, stage_until_full, &taken) == 0);
        pthread_join(thread, NULL);
        CHECK(taken * 4096 <= FWS_STAGING_BYTES && taken > 900);
        uint64_t before = topic->log.next_seq;
        do
            turn(0);
        while (fws_engine_more(engine));
        CHECK_EQ(topic->log.next_seq - before, taken);
        CHECK_EQ(engine->counters.staged_refused, round + 1);
    }
    fws_engine_free(engine);
}

/* Readers of the real thing. */

typedef struct reader {
    int fd;
    size_t message, chunk;
    useconds_t pause; /* µs between reads: what makes it slow, not what is waited for */
    uint32_t expected;
} reader;

static void read_whole(int fd, uint8_t *room, size_t n, const reader *how)
{
    while (n > 0) {
        size_t most = how->chunk < n ? how->chunk : n;
        ssize_t got = read(fd, room, most);
        CHECK(got > 0);
        room += got;
        n -= (size_t)got;
        if (how->pause > 0)
            usleep(how->pause);
    }
}

static void *read_all(void *which)
{
    reader *how = which;
    uint8_t room[8192];
    const char *head = "GET / HTTP/1.1\r\n\r\n";
    size_t frame = fws_header_size(how->message, false) + how->message;
    CHECK(write(how->fd, head, strlen(head)) == (ssize_t)strlen(head));
    read_whole(how->fd, room, strlen(ANSWER), how);
    CHECK(memcmp(room, ANSWER, strlen(ANSWER)) == 0);
    for (; how->expected < MESSAGES; how->expected++) {
        uint32_t number;
        read_whole(how->fd, room, frame, how);
        memcpy(&number, room + frame - how->message, sizeof number);
        CHECK_EQ(number, how->expected);
        CHECK_EQ(room[0], 0x82);
    }
    close(how->fd);
    return NULL;
}

static int listen_here(struct sockaddr_in *address)
{
    socklen_t n = sizeof *address;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)address, n) == 0 && listen(fd, 16) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)address, &n) == 0);
    return fd;
}

static int connected_to(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 4096;
    CHECK(fd >= 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    CHECK(connect(fd, (const struct sockaddr *)address, sizeof *address) == 0);
    return fd;
}

static int paired(void)
{
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    CHECK(fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0);
    CHECK(fws_engine_attach(engine, pair[0], FWS_SERVER, NULL, 0) != NULL);
    return pair[1];
}

static void test_slow_readers_of_real_sockets_get_everything(void)
{
    enum { READERS = 4 };
    struct sockaddr_in address;
    pthread_t threads[READERS];
    begin(FWS_SLOW_LOSSLESS);
    int listener = listen_here(&address);
    CHECK_EQ(fws_engine_listen(engine, listener), FWS_OK);
    reader readers[READERS] = {
        {.fd = connected_to(&address), .message = 300, .chunk = 8192},
        {.fd = connected_to(&address), .message = 300, .chunk = 8192, .pause = 1},
        {.fd = paired(), .message = 300, .chunk = 8192},
        {.fd = paired(), .message = 300, .chunk = 100},
    };
    for (int i = 0; i < READERS; i++)
        CHECK(pthread_create(&threads[i], NULL, read_all, &readers[i]) == 0);
    while (topic->n < READERS)
        turn(1000);
    for (uint32_t number = 0; number < MESSAGES;) {
        int status = publish(number, 300);
        CHECK(status >= 0 || status == FWS_E_FULL);
        number += status >= 0;
        if (status != FWS_OK)
            turn(status == FWS_E_FULL ? 1000 : 0);
    }
    while (engine->live > 0)
        turn(1000);
    for (int i = 0; i < READERS; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQ(topic->account.delivered, (uint64_t)READERS * MESSAGES);
    CHECK_EQ(topic->account.dropped, 0);
    CHECK(topic->account.acknowledged > 0 && topic->account.acknowledged <= 2 * MESSAGES);
    fws_engine_free(engine);
    close(listener);
}

int main(void)
{
    RUN(test_no_wake_up_is_lost);
    RUN(test_a_wake_up_within_a_turn_asks_for_another);
    RUN(test_staging_is_bounded_and_what_fails_later_is_counted);
    RUN(test_slow_readers_of_real_sockets_get_everything);
    return 0;
}
