/* Connections: slots, sockets, the ready and dirty rings, unparsed input, counts by address. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"

/* An IPv4 one as mapped into IPv6; nothing but zeros for a Unix socket. */
static void whole_address(const struct sockaddr_in6 *remote, uint8_t address[16])
{
    static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
    struct sockaddr_in v4;
    memset(address, 0, 16);
    if (remote->sin6_family == AF_INET) {
        memcpy(&v4, remote, sizeof v4);
        memcpy(address, mapped, sizeof mapped);
        memcpy(address + 12, &v4.sin_addr, 4);
    } else if (remote->sin6_family == AF_INET6) {
        memcpy(address, &remote->sin6_addr, 16);
    }
}

static bool is_exempt(const fws_options *options, const struct sockaddr_in6 *remote)
{
    uint8_t address[16];
    whole_address(remote, address);
    for (uint32_t i = 0; i < options->n_exempt; i++) {
        const fws_network *network = &options->exempt[i];
        unsigned whole = network->bits / 8, rest = network->bits % 8;
        if (memcmp(address, network->address, whole) == 0
            && (rest == 0 || (address[whole] ^ network->address[whole]) >> (8 - rest) == 0))
            return true;
    }
    return false;
}

/* The key of its address in the engine's peers; false where addresses do not count: those that
 * are exempt, and Unix sockets. */
static bool peer_key(const fws_engine *engine, const fws_conn *conn, uint8_t key[16])
{
    const struct sockaddr_in6 *remote = &conn->remote;
    if ((remote->sin6_family != AF_INET && remote->sin6_family != AF_INET6)
        || is_exempt(&engine->options, remote))
        return false;
    whole_address(remote, key);
    if (remote->sin6_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&remote->sin6_addr))
        memset(key + 8, 0, 8); /* a household has that many */
    return true;
}

/* False: the address has so many that this one is closed without an answer. */
bool fws_conn_count_peer(fws_engine *engine, fws_conn *conn)
{
    uint8_t key[16];
    uint32_t limit = engine->options.max_per_address;
    if (limit == 0 || !peer_key(engine, conn, key))
        return true;
    uint32_t count = fws_peers_add(&engine->peers, key, engine->now);
    conn->counted = count > 0;
    conn->over_address = count > limit;
    engine->counters.address_refused += conn->over_address;
    if (conn->over_address) {
        engine->admitted -= !conn->over_limit; /* its refusal takes nobody's place */
        fws_conn_met(engine, conn, FWS_MET_PER_ADDRESS);
    }
    return count > 0 && count <= (uint64_t)limit + FWS_REFUSED_ROOM;
}

static uint16_t write_address(const struct sockaddr_in6 *v6, char *host, size_t n)
{
    struct sockaddr_in v4;
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

uint16_t fws_conn_remote(const fws_conn *conn, char *host, size_t n)
{
    return write_address(&conn->remote, host, n);
}

uint16_t fws_engine_met_last(const fws_engine *engine, enum fws_limit_met limit, char *host,
                             size_t n)
{
    return write_address(&engine->met_last[limit], host, n);
}

void fws_engine_forget_peer(fws_engine *engine, const fws_conn *conn)
{
    uint8_t key[16];
    if (conn->counted && peer_key(engine, conn, key))
        fws_peers_remove(&engine->peers, key, engine->now);
}

uint64_t fws_conn_count_request(fws_engine *engine, const fws_conn *conn)
{
    uint8_t key[16];
    uint64_t rate = engine->options.handshake_rate;
    if (rate == 0 || conn->role != FWS_SERVER || !peer_key(engine, conn, key))
        return 0;
    uint64_t wait = fws_peers_request(&engine->peers, key, rate, engine->now);
    if (wait > 0) {
        engine->counters.handshakes_refused++;
        fws_conn_met(engine, conn, FWS_MET_HANDSHAKE_RATE);
    }
    return wait;
}

void fws_conn_met(fws_engine *engine, const fws_conn *conn, enum fws_limit_met limit)
{
    engine->met_last[limit] = conn->remote;
}

int fws_engine_watch(fws_engine *engine, int fd, uint32_t what, uint64_t tag)
{
    struct epoll_event event = {.events = what, .data.u64 = tag};
    return engine->sys->epoll_ctl(engine->epoll, EPOLL_CTL_ADD, fd, &event);
}

static bool slots_grow(fws_engine *engine)
{
    uint32_t n = engine->n_slots == 0 ? 64 : engine->n_slots * 2;
    if (!fws_allowances_grow(engine, n))
        return false;
    fws_slot *slots = realloc(engine->slots, n * sizeof *slots);
    if (slots == NULL)
        return false;
    for (uint32_t i = n; i-- > engine->n_slots;) {
        slots[i] = (fws_slot){.generation = 1, .next_free = engine->free_slot, .due = UINT64_MAX};
        engine->free_slot = i;
    }
    engine->slots = slots;
    engine->n_slots = n;
    return true;
}

static fws_conn *slot_take(fws_engine *engine)
{
    if (engine->free_slot == FWS_NO_SLOT && !slots_grow(engine))
        return NULL;
    fws_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    uint32_t index = engine->free_slot;
    fws_slot *slot = &engine->slots[index];
    engine->free_slot = slot->next_free;
    slot->unacked = 0;
    slot->conn = conn;
    fws_allowance_renew(engine, index);
    conn->id = (uint64_t)slot->generation << 32 | index;
    conn->over_limit = engine->admitted >= engine->options.max_connections;
    engine->admitted += !conn->over_limit;
    if (engine->live++ == 0)
        engine->sweep_at = engine->now + FWS_SWEEP_NS; /* none was due without connections */
    return conn;
}

void fws_slot_release(fws_engine *engine, fws_conn *conn)
{
    uint32_t index = (uint32_t)conn->id;
    fws_slot *slot = &engine->slots[index];
    slot->conn = NULL;
    slot->due = UINT64_MAX;
    slot->generation++;
    if (slot->generation == UINT32_MAX) /* the special tags */
        slot->generation = 1;
    slot->next_free = engine->free_slot;
    engine->free_slot = index;
    engine->live--;
    engine->admitted -= !conn->over_limit && !conn->over_address;
    free(conn);
}

fws_conn *fws_engine_find(const fws_engine *engine, uint64_t id)
{
    uint32_t index = (uint32_t)id;
    if (index >= engine->n_slots)
        return NULL;
    fws_conn *conn = engine->slots[index].conn;
    return conn != NULL && conn->id == id && conn->state != FWS_DEAD ? conn : NULL;
}

bool fws_engine_tune(const fws_engine *engine, int fd)
{
    const int on = 1, lowat = engine->options.notsent_lowat;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
        return false;
    if (lowat > 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    return true;
}

/* An accepted socket has the options of its listener (tcp(7)), and says what it is. */
static void look_at_socket(const fws_engine *engine, fws_conn *conn)
{
    const sa_family_t family = conn->remote.sin6_family;
    socklen_t n = sizeof conn->remote;
    if (family == AF_INET || family == AF_INET6) {
        conn->acknowledges = true;
        return;
    }
    if (family == AF_UNSPEC && getpeername(conn->fd, (struct sockaddr *)&conn->remote, &n) < 0)
        conn->remote.sin6_family = AF_UNSPEC; /* still connecting */
    conn->acknowledges = fws_engine_tune(engine, conn->fd);
}

fws_conn *fws_engine_take(fws_engine *engine, int fd, enum fws_role role,
                          const struct sockaddr_in6 *remote)
{
    fws_conn *conn = slot_take(engine);
    if (conn == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    conn->fd = fd;
    conn->role = (uint8_t)role;
    conn->remote = *remote;
    conn->close_code = 1006;
    conn->credit = FWS_ANY_MESSAGES;
    conn->caught_up = engine->now;
    conn->progress = fws_engine_time(engine);
    conn->deadline = conn->progress + engine->options.handshake_ns;
    fws_conn_due(engine, conn, conn->deadline);
    look_at_socket(engine, conn);
    fws_reader_init(&conn->reader, role);
    if (fws_engine_watch(engine, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, conn->id) < 0) {
        int why = errno;
        fws_slot_release(engine, conn);
        errno = why;
        return NULL;
    }
    return conn;
}

void fws_engine_mark_ready(fws_engine *engine, fws_conn *conn)
{
    if (conn->ready.next != NULL || conn->state == FWS_DEAD)
        return;
    fws_link *ring = conn->costly ? &engine->costly : &engine->ready;
    fws_link_append(conn->state < FWS_OPEN ? &engine->http : ring, &conn->ready);
    engine->n_ready++;
}

void fws_conn_resume(fws_engine *engine, fws_conn *conn)
{
    conn->heard = true;
    conn->owed = FWS_PROGRESS_BYTES;
    if (conn->message_by != 0)
        fws_later(&conn->message_by, fws_engine_time(engine) + engine->options.message_ns);
    fws_engine_mark_ready(engine, conn);
}

bool fws_inbuf_add(fws_inbuf *inbuf, const uint8_t *data, size_t n)
{
    if (inbuf->capacity - inbuf->n < n) {
        size_t need = inbuf->n + n, capacity = inbuf->n == 0 ? need : need * 2;
        capacity = capacity < 1024 ? 1024 : capacity;
        uint8_t *grown = realloc(inbuf->data, capacity);
        if (grown == NULL)
            return false;
        inbuf->data = grown;
        inbuf->capacity = (uint32_t)capacity;
    }
    memcpy(inbuf->data + inbuf->n, data, n);
    inbuf->n += (uint32_t)n;
    return true;
}

void fws_inbuf_drop(fws_inbuf *inbuf, uint32_t n)
{
    inbuf->n -= n;
    inbuf->scanned = 0;
    if (inbuf->n > 0) {
        memmove(inbuf->data, inbuf->data + n, inbuf->n);
        return;
    }
    free(inbuf->data);
    *inbuf = (fws_inbuf){0};
}

fws_event *fws_event_raise(fws_engine *engine, fws_conn *conn, enum fws_event_kind kind,
                           const uint8_t *data, size_t n)
{
    engine->event = (fws_event){.conn = conn, .kind = (uint8_t)kind, .data = data, .n = n};
    engine->raised = true;
    engine->n_events++;
    return &engine->event;
}

void fws_event_drop(fws_engine *engine)
{
    if (engine->raised)
        free(engine->event.owned);
    engine->raised = false;
}

void fws_conn_credit(fws_engine *engine, fws_conn *conn, uint16_t messages)
{
    if (conn->state > FWS_OPEN)
        return; /* what comes behind our Close is thrown away, but theirs is waited for */
    if (conn->credit == 0 && messages > 0)
        fws_conn_resume(engine, conn);
    conn->credit = messages;
}

void fws_engine_look(fws_engine *engine)
{
    uint64_t before = engine->now;
    engine->now = engine->sys->monotonic();
    engine->slow = engine->now - before >= FWS_SLOW_NS;
    engine->unlooked = 0;
}

/* Without handlers less time has to do: the GIL is kept all the while. */
uint64_t fws_turn_left(const fws_engine *engine)
{
    uint64_t most = engine->n_events == 0 ? FWS_TURN_NS : FWS_EVENTS_NS;
    uint64_t spent = engine->now - engine->began;
    return engine->n_events >= FWS_EVENTS || spent >= most ? 0 : most - spent;
}

void fws_engine_mark_dirty(fws_engine *engine, fws_conn *conn)
{
    if (conn->dirty.next != NULL || conn->state == FWS_DEAD || (conn->blocked && !conn->ending))
        return; /* a blocked one comes back when its socket is writable */
    fws_link_append(&engine->dirty, &conn->dirty);
    engine->n_dirty++;
}
