#define _GNU_SOURCE /* SOCK_CLOEXEC in accept4 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/engine_internal.h"

#define NO_SLOT UINT32_MAX

int fws_engine_watch(fws_engine *engine, int fd, uint32_t what, uint64_t tag)
{
    struct epoll_event event = {.events = what, .data.u64 = tag};
    return engine->sys->epoll_ctl(engine->epoll, EPOLL_CTL_ADD, fd, &event);
}

static bool open_descriptors(fws_engine *engine)
{
    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    engine->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    engine->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fws_engine_keep_reserve(engine);
    engine->room = malloc(FWS_RECEIVE_ROOM);
    return engine->epoll >= 0 && engine->timer >= 0 && engine->wake >= 0 && engine->room != NULL
           && fws_engine_watch(engine, engine->timer, EPOLLIN | EPOLLET, FWS_TAG_TIMER) == 0
           && fws_engine_watch(engine, engine->wake, EPOLLIN | EPOLLET, FWS_TAG_WAKE) == 0;
}

fws_engine *fws_engine_new(const fws_options *options, const fws_sys *sys)
{
    fws_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL)
        return NULL;
    engine->sys = sys;
    engine->options = *options;
    if (engine->options.head_limit > FWS_RECEIVE_CHUNK)
        engine->options.head_limit = FWS_RECEIVE_CHUNK;
    engine->epoll = engine->timer = engine->wake = engine->reserve = -1;
    if (getrandom(&engine->peers.seed, sizeof engine->peers.seed, 0) < 0)
        engine->peers.seed = (uint64_t)(uintptr_t)engine;
    engine->free_slot = NO_SLOT;
    engine->dirty_end = &engine->dirty_topics;
    engine->timer_at = engine->source_at = UINT64_MAX;
    fws_link_init(&engine->ready);
    fws_link_init(&engine->http);
    fws_link_init(&engine->dirty);
    pthread_mutex_init(&engine->staging.lock, NULL);
    engine->now = sys->monotonic();
    engine->sweep_at = engine->now + FWS_SWEEP_NS;
    if (!open_descriptors(engine)) {
        int why = errno;
        fws_engine_free(engine);
        errno = why;
        return NULL;
    }
    return engine;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void drop_events(fws_engine *engine)
{
    for (uint32_t i = 0; i < engine->n_events; i++)
        free(engine->events[i].owned);
    engine->n_events = 0;
}

void fws_engine_free(fws_engine *engine)
{
    for (uint32_t i = 0; i < engine->n_slots; i++)
        if (engine->slots[i].conn != NULL)
            fws_conn_cut_off(engine, engine->slots[i].conn);
    fws_engine_reap(engine);
    drop_events(engine);
    for (uint32_t i = 0; i < engine->n_topics; i++) {
        fws_topic_clear(engine->topics[i]);
        free(engine->topics[i]);
    }
    fws_pool_clear(&engine->pool);
    fws_deflate_free(engine->codec);
    close_if_open(engine->epoll);
    close_if_open(engine->timer);
    close_if_open(engine->wake);
    close_if_open(engine->reserve);
    fws_peers_clear(&engine->peers);
    pthread_mutex_destroy(&engine->staging.lock);
    free(engine->staging.bytes);
    free(engine->staging.draining);
    free(engine->topics);
    free(engine->slots);
    free(engine->meter);
    free(engine->room);
    free(engine);
}

/* Slots. */

static bool slots_grow(fws_engine *engine)
{
    uint32_t n = engine->n_slots == 0 ? 64 : engine->n_slots * 2;
    fws_slot *slots = realloc(engine->slots, n * sizeof *slots);
    if (slots == NULL)
        return false;
    for (uint32_t i = n; i-- > engine->n_slots;) {
        slots[i] = (fws_slot){.generation = 1, .next_free = engine->free_slot};
        engine->free_slot = i;
    }
    engine->slots = slots;
    engine->n_slots = n;
    return true;
}

static fws_conn *slot_take(fws_engine *engine)
{
    if (engine->free_slot == NO_SLOT && !slots_grow(engine))
        return NULL;
    fws_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL)
        return NULL;
    uint32_t index = engine->free_slot;
    fws_slot *slot = &engine->slots[index];
    engine->free_slot = slot->next_free;
    slot->conn = conn;
    conn->id = (uint64_t)slot->generation << 32 | index;
    conn->over_limit = engine->admitted >= engine->options.max_connections;
    engine->admitted += !conn->over_limit;
    if (engine->live++ == 0)
        engine->sweep_at = engine->now + FWS_SWEEP_NS; /* none was due while nobody was here */
    return conn;
}

static void slot_release(fws_engine *engine, fws_conn *conn)
{
    uint32_t index = (uint32_t)conn->id;
    fws_slot *slot = &engine->slots[index];
    slot->conn = NULL;
    slot->generation++;
    if (slot->generation == UINT32_MAX) /* the special tags */
        slot->generation = 1;
    slot->next_free = engine->free_slot;
    engine->free_slot = index;
    engine->live--;
    engine->admitted -= !conn->over_limit;
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

/* Sockets. */

static void tune(const fws_engine *engine, fws_conn *conn)
{
    const int on = 1, lowat = engine->options.notsent_lowat;
    socklen_t n = sizeof conn->remote;
    if (conn->remote.sin6_family == AF_UNSPEC
        && getpeername(conn->fd, (struct sockaddr *)&conn->remote, &n) < 0)
        conn->remote.sin6_family = AF_UNSPEC; /* still connecting */
    /* Refused by Unix sockets, which have neither delay nor a limit to set. */
    conn->acknowledges = setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0;
    if (conn->acknowledges && lowat > 0)
        (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
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
    conn->allowed = FWS_ANY_MESSAGES;
    conn->progress = conn->caught_up = engine->now;
    conn->deadline = engine->now + engine->options.handshake_ns;
    tune(engine, conn);
    fws_reader_init(&conn->reader, role);
    if (fws_engine_watch(engine, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, conn->id) < 0) {
        int why = errno;
        slot_release(engine, conn);
        errno = why;
        return NULL;
    }
    return conn;
}

fws_conn *fws_engine_attach(fws_engine *engine, int fd, enum fws_role role, const uint8_t *data,
                            size_t n)
{
    const struct sockaddr_in6 unknown = {.sin6_family = AF_UNSPEC};
    engine->now = engine->sys->monotonic();
    fws_conn *conn = fws_engine_take(engine, fd, role, &unknown);
    if (conn == NULL || n == 0)
        return conn;
    if (fws_outbox_push(&conn->outbox, 0, FWS_ENTRY_BYTES, 0, data, n, NULL, 0) == NULL) {
        engine->sys->epoll_ctl(engine->epoll, EPOLL_CTL_DEL, fd, NULL);
        slot_release(engine, conn);
        errno = ENOMEM;
        return NULL;
    }
    fws_engine_mark_dirty(engine, conn);
    return conn;
}

fws_topic *fws_engine_topic(fws_engine *engine, const fws_topic_options *options)
{
    fws_topic **topics = realloc(engine->topics, (engine->n_topics + 1) * sizeof *topics);
    if (topics == NULL)
        return NULL;
    engine->topics = topics;
    fws_topic *topic = malloc(sizeof *topic);
    if (topic == NULL)
        return NULL;
    fws_topic_init(topic, &engine->pool, options);
    topic->log.clock = &engine->now;
    topics[engine->n_topics++] = topic;
    return topic;
}

/* Death. */

void fws_conn_kill(fws_engine *engine, fws_conn *conn, uint16_t code)
{
    if (conn->state == FWS_DEAD)
        return;
    if (conn->close_code == 1006 || conn->close_code == 0)
        conn->close_code = code;
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_sub_acknowledge(sub, confirmed);
    while (conn->subs != NULL)
        fws_topic_leave(conn->subs);
    fws_parted_acknowledge(conn, confirmed);
    fws_rest_drop(&conn->rest);
    engine->n_ready -= fws_link_remove(&conn->ready);
    engine->n_dirty -= fws_link_remove(&conn->dirty);
    engine->sys->epoll_ctl(engine->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
    engine->sys->shutdown(conn->fd, SHUT_RDWR);
    conn->state = FWS_DEAD;
    conn->next_dead = engine->first_dead;
    engine->first_dead = conn;
}

/* What it lacks cannot follow, and the kernel would go on for minutes to offer it the rest. */
void fws_conn_cut_off(fws_engine *engine, fws_conn *conn)
{
    if (conn->state != FWS_DEAD && fws_conn_pending(conn))
        engine->sys->reset_at_close(conn->fd);
    fws_conn_kill(engine, conn, 1006);
}

void fws_engine_reap(fws_engine *engine)
{
    while (engine->first_dead != NULL) {
        fws_conn *conn = engine->first_dead;
        engine->first_dead = conn->next_dead;
        engine->sys->close(conn->fd);
        fws_outbox_clear(&conn->outbox);
        fws_reader_clear(&conn->reader);
        fws_parted_clear(conn);
        fws_engine_forget_peer(engine, conn);
        free(conn->held.data);
        free(conn->metered);
        slot_release(engine, conn);
    }
}
