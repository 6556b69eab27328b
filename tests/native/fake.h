/* A network and clocks in memory, behind the table of system calls: what each peer sent and got,
 * and faults on demand. Edges are reported as epoll(7) does with EPOLLET: EPOLLIN when
 * something arrives, EPOLLOUT when a socket that had refused bytes takes some again. */
#ifndef FWS_TEST_FAKE_H
#define FWS_TEST_FAKE_H

#include <errno.h>
#include <netinet/in.h>

#include "check.h"
#include "core/sys.h"

#define FAKE_BASE 1000000 /* far from real descriptors */
#define FAKE_FDS 4096
#define FAKE_LISTENER (FAKE_BASE - 1)
#define PLENTY ((size_t)1 << 40)

typedef struct fake_peer {
    struct fake_peer *next; /* of all, for the end */
    int fd;                 /* 0: not accepted or closed by the engine */
    uint64_t tag;
    bool watched, refused; /* refused: it will hear when it may send again */
    uint32_t edges;
    uint8_t *in, *out; /* what it sent, what it got */
    size_t in_n, in_at, in_capacity, out_n, out_capacity;
    size_t room;            /* bytes that the kernel still takes */
    bool eof, shut, closed; /* by the peer; writing, wholly, by the engine */
    bool reset;             /* closed by the engine with an RST */
    int recv_errno;         /* once, before anything else */
    int send_errno, send_errno_count;
    int unacknowledged;         /* negative: the kernel cannot say */
    struct sockaddr_in6 remote; /* as accept(2) tells it; its family 0: does not */
    size_t sends;
} fake_peer;

typedef struct fake_network {
    uint64_t now, tick; /* ns; each look at the clock takes a tick */
    fake_peer *all, *fds[FAKE_FDS], *backlog[FAKE_FDS];
    uint32_t n_backlog;
    int fds_end; /* no descriptor at or above it was ever open */
    uint64_t listener_tag;
    bool listening, listener_edge;
    int accept_errno, accept_errno_count, wait_errno;
    uint32_t controls;               /* calls of epoll_ctl */
    int watch_errno, watches_before; /* of epoll_ctl, once, after so many that succeed */
} fake_network;

static fake_network net;

static inline fake_peer *fake_at(int fd)
{
    CHECK(fd >= FAKE_BASE && fd < FAKE_BASE + FAKE_FDS);
    CHECK(net.fds[fd - FAKE_BASE] != NULL); /* never a descriptor that is closed */
    return net.fds[fd - FAKE_BASE];
}

static inline fake_peer *fake_new(void)
{
    fake_peer *peer = calloc(1, sizeof *peer);
    CHECK(peer != NULL);
    peer->room = PLENTY;
    peer->next = net.all;
    net.all = peer;
    return peer;
}

/* As the kernel does: the lowest descriptor that is free. */
static inline int fake_open(fake_peer *peer)
{
    int i = 0;
    while (net.fds[i] != NULL)
        i++;
    net.fds[i] = peer;
    net.fds_end = i < net.fds_end ? net.fds_end : i + 1;
    return peer->fd = FAKE_BASE + i;
}

static inline fake_peer *fake_connect(void)
{
    fake_peer *peer = fake_new();
    net.backlog[net.n_backlog++] = peer;
    net.listener_edge = true;
    return peer;
}

static inline void grow(uint8_t **bytes, size_t *capacity, size_t n)
{
    if (n > *capacity) {
        *capacity = 2 * n;
        *bytes = realloc(*bytes, *capacity);
        CHECK(*bytes != NULL);
    }
}

static inline void fake_say(fake_peer *peer, const void *data, size_t n)
{
    grow(&peer->in, &peer->in_capacity, peer->in_n + n);
    if (n > 0)
        memcpy(peer->in + peer->in_n, data, n);
    peer->in_n += n;
    peer->edges |= EPOLLIN;
}

static inline void fake_end(fake_peer *peer)
{
    peer->eof = true;
    peer->edges |= EPOLLIN | EPOLLRDHUP;
}

static inline void fake_reset(fake_peer *peer)
{
    peer->recv_errno = ECONNRESET;
    peer->send_errno = EPIPE;
    peer->send_errno_count = 1000000;
    peer->edges |= EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLRDHUP;
}

/* The peer reads: so many more bytes fit. */
static inline void fake_room(fake_peer *peer, size_t n)
{
    peer->room = n > PLENTY - peer->room ? PLENTY : peer->room + n;
    if (peer->refused && peer->room > 0) {
        peer->refused = false;
        peer->edges |= EPOLLOUT;
    }
}

static inline int fail(int why)
{
    errno = why;
    return -1;
}

static inline ssize_t fake_recv(int fd, void *room, size_t n, int flags)
{
    fake_peer *peer = fake_at(fd);
    if (peer->recv_errno != 0) {
        int why = peer->recv_errno;
        peer->recv_errno = 0;
        return fail(why);
    }
    size_t there = peer->in_n - peer->in_at;
    if (there == 0)
        return peer->eof ? 0 : fail(EAGAIN);
    n = n < there ? n : there;
    CHECK(n > 0);
    memcpy(room, peer->in + peer->in_at, n);
    peer->in_at += flags & MSG_PEEK ? 0 : n;
    return (ssize_t)n;
}

static inline ssize_t fake_sendmsg(int fd, const struct msghdr *message, int flags)
{
    fake_peer *peer = fake_at(fd);
    CHECK((flags & MSG_NOSIGNAL) && (flags & MSG_DONTWAIT)); /* X15 */
    CHECK(message->msg_iovlen > 0 && message->msg_iovlen <= 1024);
    CHECK(!peer->shut);
    peer->sends++;
    if (peer->send_errno_count > 0) {
        peer->send_errno_count--;
        peer->refused |= peer->send_errno == EAGAIN;
        return fail(peer->send_errno);
    }
    size_t sent = 0;
    for (size_t i = 0; i < message->msg_iovlen && !peer->refused; i++) {
        const struct iovec *piece = &message->msg_iov[i];
        size_t n = piece->iov_len < peer->room ? piece->iov_len : peer->room;
        grow(&peer->out, &peer->out_capacity, peer->out_n + n);
        if (n > 0)
            memcpy(peer->out + peer->out_n, piece->iov_base, n);
        peer->out_n += n;
        peer->room -= peer->room == PLENTY ? 0 : n;
        sent += n;
        peer->refused = n < piece->iov_len;
    }
    return sent > 0 ? (ssize_t)sent : fail(EAGAIN);
}

static inline int fake_accept4(int fd, struct sockaddr *address, socklen_t *n, int flags)
{
    CHECK(fd == FAKE_LISTENER && (flags & SOCK_NONBLOCK) && (flags & SOCK_CLOEXEC));
    if (net.accept_errno_count > 0) {
        net.accept_errno_count--;
        return fail(net.accept_errno);
    }
    if (net.n_backlog == 0)
        return fail(EAGAIN);
    fake_peer *peer = net.backlog[0];
    memmove(net.backlog, net.backlog + 1, --net.n_backlog * sizeof *net.backlog);
    if (address != NULL && peer->remote.sin6_family != 0)
        memcpy(address, &peer->remote, *n);
    return fake_open(peer);
}

static inline int fake_epoll_wait(int epoll, struct epoll_event *events, int n, int timeout_ms)
{
    int found = 0;
    (void)epoll;
    if (net.wait_errno != 0) {
        int why = net.wait_errno;
        net.wait_errno = 0;
        return fail(why);
    }
    if (net.listening && net.listener_edge) {
        net.listener_edge = false;
        events[found++] = (struct epoll_event){.events = EPOLLIN, .data.u64 = net.listener_tag};
    }
    for (int i = 0; i < net.fds_end && found < n; i++) {
        fake_peer *peer = net.fds[i];
        if (peer == NULL || !peer->watched || peer->edges == 0)
            continue;
        uint32_t what = peer->edges | (peer->refused ? 0u : (uint32_t)EPOLLOUT);
        events[found++] = (struct epoll_event){.events = what, .data.u64 = peer->tag};
        peer->edges = 0;
    }
    if (found == 0 && timeout_ms > 0)
        net.now += (uint64_t)timeout_ms * 1000000;
    return found;
}

static inline int fake_epoll_ctl(int epoll, int what, int fd, struct epoll_event *event)
{
    (void)epoll;
    net.controls++;
    if (what == EPOLL_CTL_ADD && net.watch_errno != 0 && net.watches_before-- == 0) {
        int why = net.watch_errno;
        net.watch_errno = net.watches_before = 0;
        return fail(why);
    }
    if (fd < FAKE_LISTENER)
        return 0; /* the engine's own timer and wake-up, which these tests do without */
    if (fd == FAKE_LISTENER) {
        net.listening = what == EPOLL_CTL_ADD;
        net.listener_edge |= net.n_backlog > 0;
        net.listener_tag = event != NULL ? event->data.u64 : 0;
        return 0;
    }
    fake_peer *peer = fake_at(fd);
    peer->watched = what == EPOLL_CTL_ADD;
    if (peer->watched) {
        CHECK(event->events & EPOLLET);
        peer->tag = event->data.u64;
        peer->edges |= EPOLLOUT;
    }
    return 0;
}

static inline int fake_shutdown(int fd, int how)
{
    CHECK(how == SHUT_WR || how == SHUT_RDWR);
    fake_at(fd)->shut = true;
    return 0;
}

static inline int fake_close(int fd)
{
    fake_peer *peer = fake_at(fd);
    CHECK(!peer->watched); /* taken out of the poller first */
    peer->closed = true;
    peer->fd = 0;
    net.fds[fd - FAKE_BASE] = NULL;
    return 0;
}

static inline int fake_unacknowledged(int fd, int *bytes)
{
    *bytes = fake_at(fd)->unacknowledged;
    return *bytes < 0 ? fail(EINVAL) : 0;
}

static inline int fake_reset_at_close(int fd)
{
    fake_at(fd)->reset = true;
    return 0;
}

static inline uint64_t fake_monotonic(void)
{
    return net.now += net.tick;
}

static inline uint64_t fake_realtime(void)
{
    return net.now + 1769951234000000000ULL;
}

static uint32_t fake_forks;

static const fws_sys fake_sys = {
    .recv = fake_recv,
    .sendmsg = fake_sendmsg,
    .accept4 = fake_accept4,
    .epoll_wait = fake_epoll_wait,
    .epoll_ctl = fake_epoll_ctl,
    .shutdown = fake_shutdown,
    .close = fake_close,
    .unacknowledged = fake_unacknowledged,
    .reset_at_close = fake_reset_at_close,
    .monotonic = fake_monotonic,
    .realtime = fake_realtime,
    .forks = &fake_forks,
};

/* Frees what the peers got; every socket must have been closed by then. */
static inline void fake_clear(void)
{
    for (int i = 0; i < net.fds_end; i++)
        CHECK(net.fds[i] == NULL);
    while (net.all != NULL) {
        fake_peer *peer = net.all;
        net.all = peer->next;
        free(peer->in);
        free(peer->out);
        free(peer);
    }
    net = (fake_network){.now = 1000000000000ULL};
}

#endif
