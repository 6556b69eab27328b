/* What a turn spends on deadlines: an engine with idle connections that exist in memory only. Their
 * sockets take everything and answer pings; seconds in which nothing happens are skipped.
 *
 *     deadlines [CONNECTIONS]        1,000,000 by default, about 750 MiB
 *
 * Times are those of the processor, so that another program does not count. The kernel's share of a
 * ping (about 5 us to send, 1 us to ask and to read) is not in them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/engine_state.h"
#include "core/facts.h"

#define FIRST_FD (1 << 28) /* no descriptor of this process */
#define SECOND 1000000000ULL

static uint64_t skipped; /* ns that were not waited for */
static uint64_t *tags;   /* by socket */
static bool *answers;    /* a pong waits to be read */
static uint32_t *queue, queued, taken;
static uint64_t longest_sweep, longest_turn;

static uint64_t clock_of(clockid_t which)
{
    struct timespec time;
    clock_gettime(which, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

static uint64_t simulated(void)
{
    return clock_of(CLOCK_PROCESS_CPUTIME_ID) + skipped;
}

static ssize_t peer_recv(int fd, void *room, size_t n, int flags)
{
    static const char pong[6] = "\x8A\x80";
    (void)n, (void)flags;
    if (!answers[fd - FIRST_FD]) {
        errno = EAGAIN;
        return -1;
    }
    answers[fd - FIRST_FD] = false;
    memcpy(room, pong, sizeof pong);
    return sizeof pong;
}

static ssize_t peer_sendmsg(int fd, const struct msghdr *message, int flags)
{
    (void)flags;
    answers[fd - FIRST_FD] = true;
    queue[queued++] = (uint32_t)(fd - FIRST_FD);
    return (ssize_t)message->msg_iov[0].iov_len;
}

static int peers_wait(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    int found = 0;
    (void)epoll, (void)timeout_ms;
    while (found < n && taken < queued)
        events[found++] = (struct epoll_event){.events = EPOLLIN, .data.u64 = tags[queue[taken++]]};
    if (taken == queued)
        taken = queued = 0;
    return found;
}

static int peer_control(int epoll, int what, int fd, struct epoll_event *event)
{
    (void)epoll;
    if (what == EPOLL_CTL_ADD && fd >= FIRST_FD)
        tags[fd - FIRST_FD] = event->data.u64;
    return 0;
}

static int peer_shutdown(int fd, int how)
{
    (void)fd, (void)how;
    return 0;
}

static int peer_close(int fd)
{
    (void)fd;
    return 0;
}

static int peer_unacknowledged(int fd, int *bytes)
{
    (void)fd;
    *bytes = 0;
    return 0;
}

static const uint32_t no_forks;

static const fws_sys SYS = {
    .forks = &no_forks,
    .recv = peer_recv,
    .sendmsg = peer_sendmsg,
    .epoll_wait = peers_wait,
    .epoll_ctl = peer_control,
    .shutdown = peer_shutdown,
    .close = peer_close,
    .unacknowledged = peer_unacknowledged,
    .reset_at_close = peer_close,
    .monotonic = simulated,
    .realtime = simulated,
};

static const fws_options OPTIONS = {
    .head_limit = 16384,
    .max_connections = UINT32_MAX - 64,
    .handshake_ns = 10 * SECOND,
    .keep_alive_ns = 75 * SECOND,
    .close_ns = 5 * SECOND,
    .ping_ns = 20 * SECOND,
    .pong_ns = 20 * SECOND,
    .message_ns = 60 * SECOND,
    .write_ns = 30 * SECOND,
    .max_stall_ns = 5 * SECOND,
    .outbox_limit = 1 << 20,
    .limits = {1 << 20, 16384},
};

/* Linked with --wrap=fws_engine_sweep. */
void __real_fws_engine_sweep(fws_engine *engine);
void __wrap_fws_engine_sweep(fws_engine *engine);

void __wrap_fws_engine_sweep(fws_engine *engine)
{
    uint64_t began = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    __real_fws_engine_sweep(engine);
    uint64_t took = clock_of(CLOCK_PROCESS_CPUTIME_ID) - began;
    longest_sweep = took > longest_sweep ? took : longest_sweep;
}

static void turn(fws_engine *engine)
{
    uint64_t began = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    fws_engine_harvest(engine, 0);
    while (fws_engine_next_event(engine) != NULL)
        continue;
    fws_engine_flush(engine, FWS_TURN_NS);
    fws_engine_reap(engine);
    uint64_t took = clock_of(CLOCK_PROCESS_CPUTIME_ID) - began;
    longest_turn = took > longest_turn ? took : longest_turn;
}

static void run(fws_engine *engine, const char *what, unsigned seconds)
{
    uint64_t began = clock_of(CLOCK_PROCESS_CPUTIME_ID), end = simulated() + seconds * SECOND;
    uint64_t turns = 0, pings = engine->counters.pings;
    longest_sweep = longest_turn = 0;
    for (uint64_t now; (now = simulated()) < end; turns++) {
        if (!fws_engine_more(engine) && taken == queued && engine->sweep_at > now)
            skipped += engine->sweep_at - now;
        turn(engine);
    }
    double busy = (double)(clock_of(CLOCK_PROCESS_CPUTIME_ID) - began) / 1e6 / seconds;
    printf("%-26s %8.2f ms of processor time, %6.0f pings and %5.0f turns each second; "
           "longest on deadlines %6.0f us, longest turn %6.0f us\n",
           what, busy, (double)(engine->counters.pings - pings) / seconds, (double)turns / seconds,
           (double)longest_sweep / 1e3, (double)longest_turn / 1e3);
}

int main(int argc, char **argv)
{
    uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
    fws_engine *engine = fws_engine_new(&OPTIONS, &SYS);
    tags = calloc(n, sizeof *tags);
    answers = calloc(n, sizeof *answers);
    queue = calloc((size_t)n * 2, sizeof *queue);
    if (engine == NULL || tags == NULL || answers == NULL || queue == NULL)
        return 1;
    for (uint32_t i = 0; i < n; i++) {
        fws_conn *conn = fws_engine_attach(engine, FIRST_FD + (int)i, FWS_SERVER, NULL, 0);
        if (conn == NULL)
            return 1;
        conn->acknowledges = true;
        conn->state = FWS_WAITING;
        fws_conn_upgrade(engine, conn, NULL, 0);
        if (i % 64 == 63)
            turn(engine);
    }
    printf("%u idle connections of %zu bytes\n", n, sizeof(fws_conn));
    run(engine, "just opened, 0-20 s:", 20);
    run(engine, "20-60 s:", 40);
    run(engine, "60-300 s:", 240);
    run(engine, "long idle, 300-340 s:", 40);
    printf("%u are left\n", fws_engine_live(engine));
    fws_engine_free(engine);
    free(tags);
    free(answers);
    free(queue);
    return 0;
}
