/* Listening sockets, newcomers, and who is told that there is no room. */
#define _GNU_SOURCE /* SOCK_CLOEXEC in accept4 */
#include <arpa/inet.h>
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

/* The key of its address in the engine's peers; false for Unix sockets. */
static bool peer_key(const struct sockaddr_in6 *remote, uint8_t key[16])
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    struct sockaddr_in v4;
    memset(key, 0, 16);
    if (remote->sin6_family == AF_INET) {
        memcpy(&v4, remote, sizeof v4);
        memcpy(key, mapped, sizeof mapped);
        memcpy(key + 12, &v4.sin_addr, 4);
    } else if (remote->sin6_family == AF_INET6) {
        bool is_v4 = IN6_IS_ADDR_V4MAPPED(&remote->sin6_addr);
        memcpy(key, &remote->sin6_addr, is_v4 ? 16 : 8);
    }
    return remote->sin6_family == AF_INET || remote->sin6_family == AF_INET6;
}

/* False when the address has so many that nobody asks what this one wants. */
static bool count_peer(fws_engine *engine, fws_conn *conn)
{
    uint8_t key[16];
    uint32_t limit = engine->options.max_per_address;
    if (limit == 0 || !peer_key(&conn->remote, key))
        return true;
    uint32_t count = fws_peers_add(&engine->peers, key);
    conn->counted = count > 0;
    conn->over_address = count > limit;
    engine->counters.address_refused += conn->over_address;
    return count > 0 && count <= (uint64_t)limit + FWS_REFUSED_ROOM;
}

void fws_engine_keep_reserve(fws_engine *engine)
{
    if (engine->reserve < 0)
        engine->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void fws_engine_refuse(fws_engine *engine, int fd)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\n"
                                 "Content-Length: 0\r\nConnection: close\r\n\r\n";
    struct iovec bytes = {.iov_base = (void *)(uintptr_t)answer, .iov_len = sizeof answer - 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
    engine->counters.refused++;
    /* What the client has said already is taken off, or a reset would outrun the answer. */
    (void)engine->sys->recv(fd, engine->room + engine->room_used, FWS_RECEIVE_CHUNK, 0);
    (void)engine->sys->sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    engine->sys->shutdown(fd, SHUT_WR);
}

/* No descriptor is left: the reserve answers one client with 503, instead of letting it wait in
 * the backlog for nobody knows how long. */
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
    fws_conn *conn = engine->live < (uint64_t)engine->options.max_connections + FWS_REFUSED_ROOM
                         ? fws_engine_take(engine, fd, FWS_SERVER, &remote)
                         : NULL;
    if (conn == NULL) {
        fws_engine_refuse(engine, fd);
        engine->sys->close(fd);
    } else if (!count_peer(engine, conn)) {
        fws_engine_refuse(engine, fd);
        fws_conn_kill(engine, conn, 1006);
    } else {
        engine->counters.refused += conn->over_limit;
    }
    return true;
}

void fws_engine_accept(fws_engine *engine)
{
    int left = FWS_ACCEPT_BATCH;
    for (uint32_t k = 0; k < engine->n_listeners; k++) {
        uint32_t i = (engine->next_listener + k) % engine->n_listeners;
        while (engine->listener_ready[i] && left-- > 0)
            engine->listener_ready[i] = accept_one(engine, i);
    }
    engine->next_listener++; /* a flood on one port keeps nobody from the others */
}

uint16_t fws_conn_remote(const fws_conn *conn, char *host, size_t n)
{
    struct sockaddr_in v4;
    const struct sockaddr_in6 *v6 = &conn->remote;
    memcpy(&v4, v6, sizeof v4);
    host[0] = '\0';
    if (v6->sin6_family == AF_INET)
        inet_ntop(AF_INET, &v4.sin_addr, host, (socklen_t)n);
    else if (v6->sin6_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], host, (socklen_t)n);
    else if (v6->sin6_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, host, (socklen_t)n);
    else
        return 0;
    return ntohs(v6->sin6_port); /* at the same place in both */
}

void fws_engine_forget_peer(fws_engine *engine, const fws_conn *conn)
{
    uint8_t key[16];
    if (conn->counted && peer_key(&conn->remote, key))
        fws_peers_remove(&engine->peers, key);
}
