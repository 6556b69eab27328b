/* What the kernel allows of an echo: unmasks what comes over open WebSockets and sends it back.
 *
 *     bare_echo --seconds S FD...
 *
 * One recv and one send for whatever has come of a socket. The frames are final and below 64 KiB, as
 * the load client of benchmarks/compare sends them: opcodes are given back as they are, nothing is
 * validated. Ends after S seconds, or when every peer has closed. Nothing here is fastws.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROOM 65536U
#define MAX_EVENTS 256

typedef struct peer {
    int fd;
    size_t kept; /* bytes of a frame that has not come whole */
    uint8_t room[ROOM];
} peer;

static void die(const char *why)
{
    fprintf(stderr, "bare_echo: %s%s%s\n", why, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(2);
}

static void unmask(uint8_t *to, const uint8_t *from, size_t n, const uint8_t *key)
{
    uint64_t twice = 0;
    for (int i = 0; i < 8; i++)
        twice |= (uint64_t)key[i % 4] << 8 * i;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t piece;
        memcpy(&piece, from + i, 8);
        piece ^= twice;
        memcpy(to + i, &piece, 8);
    }
    for (; i < n; i++)
        to[i] = from[i] ^ key[i % 4];
}

/* Turns the whole frames among n bytes into answers; returns the bytes read and *answered. */
static size_t turn_round(const uint8_t *in, size_t n, uint8_t *out, size_t *answered)
{
    size_t at = 0, put = 0;
    while (at + 6 <= n) {
        size_t size = in[at + 1] & 0x7fU, head = 2;
        if (size == 126) { /* RFC 6455 5.2 */
            size = (size_t)in[at + 2] << 8 | in[at + 3];
            head = 4;
        }
        if (at + head + 4 + size > n)
            break;
        memcpy(out + put, in + at, head);
        out[put + 1] &= 0x7f;
        unmask(out + put + head, in + at + head + 4, size, in + at + head);
        put += head + size;
        at += head + 4 + size;
    }
    *answered = put;
    return at;
}

/* false: the peer has closed, or does not take the answer. */
static int answer(peer *p)
{
    static uint8_t out[ROOM];
    ssize_t got = recv(p->fd, p->room + p->kept, ROOM - p->kept, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (got <= 0)
        return 0;
    size_t n = p->kept + (size_t)got, size, used = turn_round(p->room, n, out, &size);
    p->kept = n - used;
    memmove(p->room, p->room + used, p->kept);
    return size == 0 || send(p->fd, out, size, MSG_NOSIGNAL) == (ssize_t)size;
}

int main(int argc, char **argv)
{
    double seconds = argc > 3 && strcmp(argv[1], "--seconds") == 0 ? strtod(argv[2], NULL) : 0;
    if (!(seconds > 0 && seconds <= 86400))
        die("--seconds S FD...");
    alarm((unsigned)seconds + 1);
    int n = argc - 3, open = n, epoll = epoll_create1(0);
    peer *peers = calloc((size_t)n, sizeof *peers);
    if (peers == NULL || epoll < 0)
        die("epoll");
    for (int i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)i};
        peers[i].fd = atoi(argv[3 + i]);
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, peers[i].fd, &event) < 0)
            die("a socket");
    }
    while (open > 0) {
        struct epoll_event events[MAX_EVENTS];
        int ready = epoll_wait(epoll, events, MAX_EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            peer *p = &peers[events[i].data.u32];
            if (!answer(p)) {
                close(p->fd);
                open--;
            }
        }
    }
    free(peers);
    return 0;
}
