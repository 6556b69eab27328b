/* A storm of WebSocket handshakes: connects, upgrades, resets, and connects again.
 *
 *     storm --port P --at-once N --warmup S --seconds S
 *     storm --port P --at-once N --total N
 *
 * N connections to 127.0.0.1:P are at work at a time. Each answer must be the 101 that belongs to the
 * request (RFC 6455 4.2.2). Then the connection is reset, so that no port stays in TIME_WAIT. With
 * --total so many connections are opened, and all of them stay until the last one is open. Prints one
 * line of JSON. Status 1: a wrong answer, or none; 2: wrong arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "program.h"

#define ROOM 4096U
#define MAX_EVENTS 64
#define PATIENCE_NS 10000000000ULL /* without an answer */

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                              "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
static const char accept_key[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455 1.3 */

typedef struct attempt {
    int fd;
    bool asked;
    size_t got;
    char head[ROOM + 1];
} attempt;

static uint16_t port;
static int epoll;
static uint32_t total; /* 0: as many as there is time for */

/* Sends the request; false: the connection is not there yet. */
static bool ask(attempt *a)
{
    const ssize_t size = sizeof request - 1;
    ssize_t n = send(a->fd, request, (size_t)size, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n != size)
        die(1, "a connection was refused");
    return true;
}

static void begin(attempt *a, uint32_t index)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct linger reset = {.l_onoff = 1};
    a->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    a->got = 0;
    if (a->fd < 0 || setsockopt(a->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) < 0)
        die(1, "a socket");
    if (connect(a->fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS)
        die(1, "connect");
    a->asked = ask(a); /* on the loopback the connection is there at once */
    struct epoll_event event = {.events = a->asked ? EPOLLIN : EPOLLOUT, .data.u32 = index};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, a->fd, &event) < 0)
        die(1, "epoll");
}

static void ask_later(attempt *a, uint32_t index)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
    if (!ask(a))
        return;
    a->asked = true;
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, a->fd, &event) < 0)
        die(1, "epoll");
}

/* Whether the answer is whole, and right. */
static bool answered(attempt *a)
{
    ssize_t n = recv(a->fd, a->head + a->got, ROOM - a->got, 0);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0)
        die(1, "a connection was closed instead of upgraded");
    a->got += (size_t)n;
    a->head[a->got] = '\0';
    if (strstr(a->head, "\r\n\r\n") == NULL)
        return false;
    if (strncmp(a->head, "HTTP/1.1 101 ", 13) != 0 || strstr(a->head, accept_key) == NULL)
        die(1, "a connection was not upgraded");
    return true;
}

/* Lets go of a connection that is open, and keeps it where all are to stay. */
static void finish(attempt *a)
{
    if (total == 0)
        close(a->fd);
    else if (epoll_ctl(epoll, EPOLL_CTL_DEL, a->fd, NULL) < 0)
        die(1, "epoll");
}

/* Until that many seconds have passed, or `total` connections are open; returns how many were opened. */
static uint64_t run(attempt *attempts, uint32_t begun, double seconds)
{
    struct epoll_event events[MAX_EVENTS];
    uint64_t done = 0, now = clock_ns(CLOCK_MONOTONIC), heard = now;
    const uint64_t until = now + (uint64_t)(seconds * 1e9);
    for (; total == 0 ? now < until : done < total; now = clock_ns(CLOCK_MONOTONIC)) {
        int n = epoll_wait(epoll, events, MAX_EVENTS, 100);
        if (n > 0)
            heard = now;
        else if (now - heard > PATIENCE_NS)
            die(1, "no answer for 10 s");
        for (int i = 0; i < n; i++) {
            attempt *a = &attempts[events[i].data.u32];
            if (!a->asked)
                ask_later(a, events[i].data.u32);
            else if (answered(a)) {
                finish(a);
                done++;
                if (total == 0 || begun < total) {
                    begin(a, events[i].data.u32);
                    begun++;
                }
            }
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    double warmup = 0, seconds = 0;
    uint32_t at_once = 64;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0)
            port = (uint16_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--at-once") == 0)
            at_once = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--total") == 0)
            total = (uint32_t)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--warmup") == 0)
            warmup = strtod(argv[i + 1], NULL);
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = strtod(argv[i + 1], NULL);
        else
            die(2, "wrong option");
    }
    attempt *attempts = calloc(at_once, sizeof *attempts);
    epoll = epoll_create1(0);
    if (port == 0 || at_once == 0 || attempts == NULL || epoll < 0 || (total == 0 && !(seconds > 0))
        || (total != 0 && total < at_once))
        die(2, "wrong arguments");
    uint64_t own = clock_ns(CLOCK_PROCESS_CPUTIME_ID), began = clock_ns(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < at_once; i++)
        begin(&attempts[i], i);
    if (total == 0) {
        run(attempts, at_once, warmup);
        own = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        began = clock_ns(CLOCK_MONOTONIC);
    }
    uint64_t done = run(attempts, at_once, seconds);
    double took = (double)(clock_ns(CLOCK_MONOTONIC) - began) / 1e9;
    own = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - own;
    printf("{\"handshakes_per_s\":%.1f,\"client_busy\":%.4f}\n", (double)done / took,
           (double)own / 1e9 / took);
    free(attempts);
    return 0;
}
