/* Makes and frees an engine; attaches client sockets. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/engine_internal.h"

static bool open_descriptors(fws_engine *engine)
{
    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    engine->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    engine->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    fws_engine_keep_reserve(engine);
    engine->room = malloc(FWS_RECEIVE_CHUNK);
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
    engine->forks = *sys->forks;
    engine->options = *options;
    if (engine->options.head_limit > FWS_RECEIVE_CHUNK)
        engine->options.head_limit = FWS_RECEIVE_CHUNK;
    engine->epoll = engine->timer = engine->wake = engine->reserve = -1;
    if (getrandom(&engine->peers.seed, sizeof engine->peers.seed, 0) < 0)
        engine->peers.seed = (uint64_t)(uintptr_t)engine;
    if (getrandom(&engine->ping_mark, sizeof engine->ping_mark, 0) < 0)
        engine->ping_mark = (uint32_t)sys->realtime();
    engine->free_slot = FWS_NO_SLOT;
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) < 0)
        seed = (uint64_t)(uintptr_t)engine ^ sys->realtime();
    fws_topics_init(&engine->topics, &engine->now, options->max_log_bytes, seed);
    if (getrandom(&engine->topics.epochs, sizeof engine->topics.epochs, 0) < 0)
        engine->topics.epochs = sys->realtime();
    engine->timer_at = engine->source_at = UINT64_MAX;
    fws_link_init(&engine->ready);
    fws_link_init(&engine->http);
    fws_link_init(&engine->costly);
    fws_link_init(&engine->dirty);
    fws_link_init(&engine->answers);
    fws_link_init(&engine->lagging);
    fws_link_init(&engine->with_room);
    for (int i = 0; i < FWS_HOLDERS; i++)
        fws_link_init(&engine->holders[i]);
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

static void close_descriptors(fws_engine *engine)
{
    for (uint32_t i = 0; i < engine->n_slots; i++)
        if (engine->slots[i].conn != NULL)
            engine->sys->close(engine->slots[i].conn->fd);
    close_if_open(engine->epoll);
    close_if_open(engine->timer);
    close_if_open(engine->wake);
    close_if_open(engine->reserve);
}

void fws_engine_free(fws_engine *engine)
{
    if (fws_engine_inherited(engine)) {
        /* Shutting a socket down would end the parent's connection, unwatching one deafen the
         * parent's epoll; to free memory that is shared until it is written to costs memory. */
        close_descriptors(engine);
        return;
    }
    for (uint32_t i = 0; i < engine->n_slots; i++)
        if (engine->slots[i].conn != NULL)
            fws_conn_cut_off(engine, engine->slots[i].conn);
    fws_engine_reap(engine);
    fws_event_drop(engine);
    fws_engine_discard(engine);
    fws_topics_clear(&engine->topics);
    fws_deflate_free(engine->codec);
    close_if_open(engine->epoll);
    close_if_open(engine->timer);
    close_if_open(engine->wake);
    close_if_open(engine->reserve);
    fws_peers_clear(&engine->peers);
    pthread_mutex_destroy(&engine->staging.lock);
    free(engine->staging.bytes);
    free(engine->staging.draining);
    free(engine->slots);
    fws_allowances_clear(engine);
    free(engine->meter);
    free(engine->room);
    free(engine);
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
        fws_slot_release(engine, conn);
        errno = ENOMEM;
        return NULL;
    }
    fws_conn_count(engine, conn);
    fws_engine_mark_dirty(engine, conn);
    return conn;
}

fws_topics *fws_engine_topics(fws_engine *engine)
{
    return &engine->topics;
}
