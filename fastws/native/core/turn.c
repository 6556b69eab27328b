/* The first half of a turn: poll, accept, receive, parse; and the time budget of a turn. */
#include <stdlib.h>

#include "core/engine_internal.h"

static void receive(fws_engine *engine, fws_conn *conn)
{
    if (conn->state < FWS_DRAINING && conn->outbox.allocated > fws_read_paused_above(engine))
        conn->read_paused = true;
    if (conn->state >= FWS_DRAINING)
        fws_conn_linger(engine, conn);
    else if (conn->ending || fws_conn_stopped(conn) || conn->state == FWS_WAITING)
        fws_conn_hear(engine, conn); /* the change of that marks it ready again */
    else if (conn->state == FWS_HTTP || conn->state == FWS_BODY)
        fws_receive_http(engine, conn);
    else
        fws_receive_frames(engine, conn);
}

bool fws_engine_more(const fws_engine *engine)
{
    if (engine->woken || engine->n_ready > 0 || engine->n_dirty > 0 || engine->pressed
        || engine->source_at <= engine->now)
        return true;
    if (engine->topics.dirty != NULL || engine->topics.waking != NULL
        || engine->topics.touched != NULL || engine->first_dead != NULL)
        return true;
    if (engine->sweep_at <= engine->now && (engine->live > 0 || engine->accept_stalled))
        return true;
    for (uint32_t i = 0; i < engine->n_listeners; i++)
        if (engine->listener_ready[i])
            return true;
    return false;
}

/* Reads each connection of a ring once, at most `most` of them; the others go first next time. */
static void read_ring(fws_engine *engine, fws_link *ring, uint32_t most)
{
    const fws_link *last = ring->previous, *link = NULL;
    for (uint32_t n = 0; n < most && link != last && ring->next != ring; n++) {
        if (fws_turn_full(engine) || FWS_RECEIVE_ROOM - engine->room_used < 2 * FWS_RECEIVE_CHUNK)
            return;
        if (n % 16 == 15 && engine->sys->monotonic() - engine->now > FWS_TURN_NS)
            return; /* reads that raise no event cost time, too */
        if (n > 0 && fws_engine_full(engine))
            return; /* the flush makes room */
        link = ring->next;
        fws_conn *conn = FWS_CONTAINER(ring->next, fws_conn, ready);
        engine->n_ready -= fws_link_remove(&conn->ready);
        receive(engine, conn);
    }
}

static void begin(fws_engine *engine)
{
    for (uint32_t i = 0; i < engine->n_events; i++)
        free(engine->events[i].owned);
    engine->n_events = 0;
    engine->room_used = engine->owned_bytes = 0;
    fws_engine_drain(engine);
}

static int receive_all(fws_engine *engine)
{
    if (engine->now >= engine->sweep_at)
        fws_engine_sweep(engine);
    fws_engine_accept(engine); /* after the sweep: the time lost before it is not theirs */
    /* Few, because a handshake costs the owner many times what a message does; but first, so that
     * open connections never keep new ones waiting. */
    read_ring(engine, &engine->http, FWS_HTTP_BATCH);
    read_ring(engine, &engine->ready, UINT32_MAX);
    /* Before the handlers: who reads is answered, whatever the others have just sent. */
    fws_engine_shed(engine);
    return (int)engine->n_events;
}

int fws_engine_harvest(fws_engine *engine, int timeout_ms)
{
    begin(engine);
    if (!fws_engine_poll(engine, fws_engine_more(engine) ? 0 : timeout_ms))
        return FWS_E_SYSTEM;
    return receive_all(engine);
}

int fws_engine_resume(fws_engine *engine)
{
    begin(engine);
    engine->now = engine->sys->monotonic();
    return receive_all(engine);
}
