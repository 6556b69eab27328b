/* The poller: events of sockets become marks on connections. */
#include <errno.h>

#include "core/engine_internal.h"

static void sort_connection(fws_engine *engine, uint64_t id, uint32_t what)
{
    fws_conn *conn = fws_engine_find(engine, id);
    if (conn == NULL)
        return; /* an event of the dead, or of the slot's last occupant */
    if (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn->hung_up = true;
    conn->broken |= (what & EPOLLERR) != 0;
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        conn->drained = false;
        fws_engine_mark_ready(engine, conn);
    }
    if ((what & EPOLLOUT) && conn->blocked)
        fws_conn_unblock(engine, conn);
}

static void sort_event(fws_engine *engine, uint64_t tag, uint32_t what)
{
    if ((tag & FWS_TAG_SPECIAL) != FWS_TAG_SPECIAL)
        sort_connection(engine, tag, what);
    else if (tag == FWS_TAG_TIMER)
        engine->timer_at = UINT64_MAX; /* it has fired; edge-triggered, so not read */
    else if (tag == FWS_TAG_WAKE)
        engine->woken = true;
    else
        engine->listener_ready[(uint32_t)tag] = engine->listeners[(uint32_t)tag] >= 0;
}

/* Takes all events so far: the kernel reports in order, and those of new connections may be last. */
static int take_events(fws_engine *engine, int timeout_ms)
{
    struct epoll_event events[FWS_POLL_EVENTS];
    int n, rounds = 0;
    do {
        n = engine->sys->epoll_wait(engine->epoll, events, FWS_POLL_EVENTS,
                                    rounds == 0 ? timeout_ms : 0);
        for (int i = 0; i < n; i++)
            sort_event(engine, events[i].data.u64, events[i].events);
    } while (n == FWS_POLL_EVENTS && ++rounds < FWS_POLL_ROUNDS);
    return n;
}

bool fws_engine_poll(fws_engine *engine, int timeout_ms)
{
    engine->topics.looked_at = engine->polled_at;
    int n = take_events(engine, timeout_ms);
    engine->now = engine->polled_at = engine->sys->monotonic();
    return n >= 0 || errno == EINTR;
}

void fws_engine_poll_new(fws_engine *engine)
{
    (void)take_events(engine, 0);
}
