/* The first half of a turn: poll, accept, then event by event: which connection is read next, and
 * for how long. */
#include "core/engine_internal.h"

#define RINGS 3
#define COSTLY 2     /* the last ring */
#define READ_STEPS 4 /* a read costs as much as so many small messages without an event */

static void tell_overdue(fws_engine *engine, fws_conn *conn)
{
    conn->overdue = false;
    fws_event_raise(engine, conn, FWS_EVENT_UNDECIDED, NULL, 0);
}

/* The turns came to it after its deadline: a request that is whole now has come in time. */
static void receive_overdue(fws_engine *engine, fws_conn *conn)
{
    conn->overdue = false;
    fws_receive_http(engine, conn);
    if (conn->state == FWS_WAITING)
        fws_conn_give_time(engine, conn, engine->options.handshake_ns);
    else if (conn->state < FWS_OPEN && !conn->ending && fws_engine_time(engine) >= conn->deadline)
        fws_conn_past_deadline(engine, conn);
}

static void receive(fws_engine *engine, fws_conn *conn)
{
    if (conn->state < FWS_DRAINING && conn->outbox.allocated > fws_read_paused_above(engine))
        conn->read_paused = true;
    if (conn->state >= FWS_DRAINING)
        fws_conn_linger(engine, conn);
    else if (conn->state == FWS_WAITING && conn->overdue && !conn->broken && !conn->hung_up)
        tell_overdue(engine, conn);
    else if (conn->ending || fws_conn_stopped(conn) || conn->state == FWS_WAITING)
        fws_conn_hear(engine, conn); /* the change of that marks it ready again */
    else if (conn->state < FWS_OPEN && conn->overdue)
        receive_overdue(engine, conn);
    else if (conn->state == FWS_HTTP || conn->state == FWS_BODY)
        fws_receive_http(engine, conn);
    else
        fws_receive_frames(engine, conn);
}

bool fws_engine_more(const fws_engine *engine)
{
    if (engine->woken || engine->n_ready > 0 || engine->n_dirty > 0 || engine->pressed
        || engine->reading != NULL || engine->source_at <= engine->now)
        return true;
    if (engine->topics.dirty != NULL || engine->topics.waking != NULL
        || fws_topics_rest_until(&engine->topics) <= engine->now || engine->topics.touched != NULL
        || engine->first_dead != NULL || !fws_link_empty(&engine->with_room)
        || !fws_link_empty(&engine->topics.losses) || fws_topics_room_due(&engine->topics))
        return true;
    if (engine->sweep_at <= engine->now && (engine->live > 0 || engine->accept_stalled))
        return true;
    for (uint32_t i = 0; i < engine->n_listeners; i++)
        if (engine->listener_ready[i])
            return true;
    return false;
}

/* Which connection is read next. */

static fws_link *present_ring(fws_engine *engine)
{
    fws_link *const rings[RINGS] = {&engine->http, &engine->ready, &engine->costly};
    return rings[engine->ring];
}

static void begin_ring(fws_engine *engine, uint8_t ring)
{
    engine->ring = ring;
    engine->ring_began = engine->now;
    engine->ring_events = engine->n_events;
    engine->n_reads = 0;
}

/* Few heads, because a handshake costs the owner many times what a message does; but first, so
 * that open connections never keep new ones waiting. Each ring raises one event at least, if it
 * has any to raise soon. */
static bool ring_over(const fws_engine *engine)
{
    if (engine->ring == 0 && engine->n_reads == FWS_HTTP_BATCH)
        return true;
    if (fws_engine_full(engine) && (engine->n_reads > 0 || !engine->began_full))
        return true; /* the flush makes room: the next handlers are not refused it */
    if (engine->n_events == engine->ring_events)
        return engine->now - engine->ring_began >= FWS_TURN_NS;
    return fws_turn_left(engine) == 0
           || (engine->ring == 0 && engine->now - engine->began >= FWS_EVENTS_NS / 2);
}

/* The next one of the three rings; NULL: no more in this turn. Each connection is read once in a
 * turn: what its handlers began is ahead of what comes next. One that is ready again stands behind
 * all those that have still to be read. */
static fws_conn *next_to_read(fws_engine *engine)
{
    for (; engine->ring < RINGS; begin_ring(engine, engine->ring + 1)) {
        const fws_link *ring = present_ring(engine);
        if (fws_link_empty(ring))
            continue;
        if (ring_over(engine)) {
            if (engine->n_reads == 0 && engine->passed_over == 0)
                engine->passed_over = engine->ring;
            continue;
        }
        fws_conn *conn = FWS_CONTAINER(ring->next, fws_conn, ready);
        if (conn->read_in == engine->turns)
            continue;
        if (engine->ring == COSTLY && engine->n_reads == 0 && engine->n_dirty > 0)
            fws_engine_send_waiting(engine); /* before what takes long */
        engine->n_reads++;
        conn->read_in = engine->turns;
        return conn;
    }
    return NULL;
}

const fws_event *fws_engine_next_event(fws_engine *engine)
{
    if (engine->raised) {
        fws_event_drop(engine);
        fws_engine_look_after(engine, engine->slow ? FWS_LOOK_STEPS : FWS_EVENT_STEPS);
    }
    while (!engine->raised) {
        if (engine->reading != NULL) {
            fws_receive_on(engine);
            continue;
        }
        fws_conn *conn = next_to_read(engine);
        if (conn == NULL)
            return NULL;
        engine->n_ready -= fws_link_remove(&conn->ready);
        receive(engine, conn);
        fws_engine_look_after(engine, READ_STEPS); /* without an event it costs time, too */
    }
    return &engine->event;
}

/* The turn. */

static void begin(fws_engine *engine)
{
    fws_event_drop(engine);
    if (engine->reading != NULL)
        fws_receive_stop(engine); /* the owner has not asked to the end */
    fws_engine_drain(engine);
}

static void begin_reading(fws_engine *engine)
{
    engine->began = engine->now;
    engine->turns++;
    engine->n_events = engine->unlooked = 0;
    engine->slow = true; /* until a handler has shown otherwise */
    engine->began_full = fws_engine_full(engine);
    begin_ring(engine, engine->passed_over); /* those before it have had a turn */
    engine->passed_over = 0;
    if (engine->now >= engine->sweep_at)
        fws_engine_sweep(engine);
    if (fws_engine_accept(engine) > 0) /* after the sweep: the time lost before it is not theirs */
        fws_engine_poll_new(engine);
}

int fws_engine_harvest(fws_engine *engine, int timeout_ms)
{
    begin(engine);
    if (!fws_engine_poll(engine, fws_engine_more(engine) ? 0 : timeout_ms))
        return FWS_E_SYSTEM;
    begin_reading(engine);
    return FWS_OK;
}

void fws_engine_resume(fws_engine *engine)
{
    begin(engine);
    engine->now = engine->sys->monotonic();
    begin_reading(engine);
}
