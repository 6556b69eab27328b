/* Listening sockets, new connections, and the 503 when memory or descriptors are out. */
#define _GNU_SOURCE /* SOCK_CLOEXEC in accept4 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/engine_internal.h"

int fws_engine_listen(fws_engine *engine, int fd)
{
    uint32_t i = 0;
    while (i < engine->n_listeners && engine->listeners[i] >= 0)
        i++;
    if (i == FWS_LISTENERS)
        return FWS_E_INVALID;
    if (fws_engine_watch(engine, fd, EPOLLIN | EPOLLET, FWS_TAG_SPECIAL | i) < 0)
        return FWS_E_SYSTEM;
    (void)fws_engine_tune(engine, fd); /* what it accepts has the same options */
    engine->listener_ready[i] = true;
    engine->listeners[i] = fd;
    engine->n_listeners += i == engine->n_listeners;
    return FWS_OK;
}

void fws_engine_unlisten(fws_engine *engine, int fd)
{
    for (uint32_t i = 0; i < engine->n_listeners; i++)
        if (engine->listeners[i] == fd) {
            engine->sys->epoll_ctl(engine->epoll, EPOLL_CTL_DEL, fd, NULL);
            engine->listeners[i] = -1;
            engine->listener_ready[i] = false;
        }
}

void fws_engine_keep_reserve(fws_engine *engine)
{
    if (engine->reserve < 0)
        engine->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

const uint8_t *fws_unavailable(size_t *n)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                 "Content-Type: text/plain\r\nContent-Length: 39\r\n"
                                 "Connection: close\r\n\r\n"
                                 "No memory or file descriptors are left\n";
    *n = sizeof answer - 1;
    return (const uint8_t *)answer;
}

void fws_engine_refuse(fws_engine *engine, int fd)
{
    struct iovec bytes;
    bytes.iov_base = (void *)(uintptr_t)fws_unavailable(&bytes.iov_len);
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    engine->counters.refused++;
    /* Bytes already received are read, or closing would reset and destroy the answer. Not into
     * engine->room: a flush between two events comes here. */
    (void)engine->sys->recv(fd, engine->plan.copy, FWS_PLAN_COPY, 0);
    (void)engine->sys->sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    engine->sys->shutdown(fd, SHUT_WR);
}

/* No descriptor is left: the reserve answers one client with 503, instead of letting it wait in
 * the backlog for an unknown time. */
static bool answer_from_reserve(fws_engine *engine, uint32_t listener)
{
    if (engine->reserve < 0)
        return false;
    close(engine->reserve);
    engine->reserve = -1;
    int fd =
        engine->sys->accept4(engine->listeners[listener], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        fws_engine_refuse(engine, fd);
        engine->sys->close(fd);
    }
    fws_engine_keep_reserve(engine);
    return fd >= 0;
}

/* True while the listener may have more. */
static bool accept_one(fws_engine *engine, uint32_t listener)
{
    struct sockaddr_in6 remote = {.sin6_family = AF_UNSPEC};
    socklen_t n = sizeof remote;
    int fd = engine->sys->accept4(engine->listeners[listener], (struct sockaddr *)&remote, &n,
                                  SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == EPERM)
            return true;
        if (errno != EAGAIN) { /* EMFILE and the like */
            bool out_of_files = errno == EMFILE || errno == ENFILE;
            engine->counters.accept_failures++;
            if (out_of_files && answer_from_reserve(engine, listener))
                return true;
            engine->accept_stalled = true;
        }
        return false;
    }
    engine->counters.accepted++;
    bool room = engine->live < (uint64_t)engine->options.max_connections + FWS_REFUSED_ROOM;
    fws_conn *conn =
        room && !fws_engine_full(engine) ? fws_engine_take(engine, fd, FWS_SERVER, &remote) : NULL;
    if (conn == NULL) {
        fws_engine_refuse(engine, fd);
        engine->sys->close(fd);
    } else if (!fws_conn_count_peer(engine, conn)) {
        fws_engine_refuse(engine, fd);
        fws_conn_kill(engine, conn, 1006);
    } else {
        engine->counters.refused += conn->over_limit;
    }
    return true;
}

int fws_engine_accept(fws_engine *engine)
{
    const uint64_t before = engine->counters.accepted;
    int left = FWS_ACCEPT_BATCH;
    for (uint32_t k = 0; k < engine->n_listeners; k++) {
        uint32_t i = (engine->next_listener + k) % engine->n_listeners;
        while (engine->listener_ready[i] && left-- > 0)
            engine->listener_ready[i] = accept_one(engine, i);
    }
    engine->next_listener++; /* a flood on one port does not block the others */
    return (int)(engine->counters.accepted - before);
}
