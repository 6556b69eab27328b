/* Every 250 ms: deadlines, pings, policies of blocked connections, acknowledgements. */

#include "core/engine_internal.h"

#define ACKNOWLEDGE 4096u /* steps of looking for what the peers have confirmed in one sweep */
#define PING_BYTES 6      /* of an empty one, masked: that its own bytes are confirmed is no life */

uint64_t fws_ping_due(const fws_engine *engine, const fws_conn *conn)
{
    uint64_t every = engine->options.ping_ns;
    /* Jitter: clients that connected together must not be pinged together. */
    uint64_t mixed = (conn->id + engine->now) * 0x9E3779B97F4A7C15ULL;
    return engine->now + every - (mixed >> 32) % (every / 10 + 1);
}

static void time_out(fws_engine *engine, fws_conn *conn, uint64_t *counter)
{
    (*counter)++;
    fws_conn_cut_off(engine, conn);
}

/* The owner is late, not the peer: the peer shall have an answer. */
static bool undecided(fws_engine *engine, fws_conn *conn)
{
    if (!conn->overdue) { /* else the turns have not come to it yet */
        engine->counters.handshake_timeouts++;
        conn->overdue = true;
        fws_engine_mark_ready(engine, conn);
    }
    return true;
}

/* False when its state's deadline has passed, and with it the connection. */
static bool in_time(fws_engine *engine, fws_conn *conn, uint64_t grace)
{
    if (conn->deadline == 0)
        return true;
    conn->deadline += grace;
    if (engine->now < conn->deadline)
        return true;
    if (conn->state == FWS_WAITING)
        return undecided(engine, conn);
    if (conn->state < FWS_OPEN)
        (*(conn->answered ? &engine->counters.keep_alive_timeouts
                          : &engine->counters.handshake_timeouts))++;
    else if (conn->state == FWS_CLOSING
             || conn->state == FWS_DRAINING) /* else it lingered, as is usual */
        engine->counters.close_timeouts++;
    fws_conn_cut_off(engine, conn);
    return false;
}

static void check_blocked(fws_engine *engine, fws_conn *conn, uint64_t grace)
{
    conn->progress += grace;
    /* Added, not subtracted: grace may have put progress past now. */
    bool stalled = engine->now > conn->progress + engine->options.max_stall_ns;
    bool end = false;
    for (uint32_t i = 0; i < conn->n_pending; i++) {
        fws_sub *sub = conn->heap[i].sub;
        if (sub->left)
            continue;
        end |= fws_sub_apply_policy(sub) != FWS_OK
               || (stalled && fws_sub_options(sub)->on_slow == FWS_SLOW_LOSSLESS);
        fws_topic_passed(sub->topic);
    }
    if (end)
        fws_conn_end_slow(engine, conn);
}

/* A peer that takes a byte now and then keeps below every other limit: a blocked one has to
 * confirm FWS_WRITE_BYTES in each write_ns. */
static void check_writing(fws_engine *engine, fws_conn *conn, uint64_t grace)
{
    if (!conn->blocked || engine->options.write_ns == 0) {
        conn->write_since = 0;
        return;
    }
    bool fresh = conn->write_since == 0;
    conn->write_since += fresh ? 0 : grace;
    if (!fresh && engine->now - conn->write_since < engine->options.write_ns)
        return;
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    if (!fresh && confirmed - conn->write_confirmed < FWS_WRITE_BYTES) {
        time_out(engine, conn, &engine->counters.write_timeouts);
        return;
    }
    conn->write_since = engine->now;
    conn->write_confirmed = confirmed;
}

static void check_message(fws_engine *engine, fws_conn *conn, uint64_t grace)
{
    static const uint8_t reason[] = "message timeout";
    if (conn->message_since == 0 || engine->options.message_ns == 0)
        return;
    conn->message_since += grace;
    if (engine->now < conn->message_since
        || engine->now - conn->message_since < engine->options.message_ns)
        return;
    engine->counters.message_timeouts++;
    fws_conn_end(engine, conn, 1008, reason, sizeof reason - 1);
}

static void ping(fws_engine *engine, fws_conn *conn)
{
    engine->counters.pings++;
    conn->pong_by = engine->now + engine->options.pong_ns;
    conn->ping_confirmed = fws_conn_confirmed(engine, conn) + PING_BYTES;
    if (fws_conn_push_frame(engine, conn, FWS_PING, 0, NULL, 0) != FWS_OK)
        conn->pong_by = 0; /* no memory for two bytes: the next sweep tries again */
}

/* A slow reader is not a dead one: bytes confirmed since the ping begin its time anew. */
static void check_pong(fws_engine *engine, fws_conn *conn)
{
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    if (conn->acknowledges && confirmed > conn->ping_confirmed) {
        conn->ping_confirmed = confirmed;
        conn->pong_by = engine->now + engine->options.pong_ns;
    } else {
        time_out(engine, conn, &engine->counters.ping_timeouts);
    }
}

static void check_life(fws_engine *engine, fws_conn *conn, uint64_t grace)
{
    if (engine->options.ping_ns == 0)
        return;
    conn->ping_at += grace;
    conn->pong_by += conn->pong_by != 0 ? grace : 0;
    if (conn->pong_by != 0 && engine->now >= conn->pong_by)
        check_pong(engine, conn);
    else if (conn->pong_by == 0 && engine->now >= conn->ping_at)
        ping(engine, conn);
}

static void check_one(fws_engine *engine, fws_conn *conn, uint64_t grace)
{
    if (!in_time(engine, conn, grace) || conn->ending)
        return;
    if (conn->retry) {
        conn->retry = false;
        fws_conn_unblock(engine, conn);
    } else if (conn->blocked) {
        check_blocked(engine, conn, grace);
    }
    check_writing(engine, conn, grace);
    if (conn->state == FWS_OPEN && (conn->credit == 0 || conn->read_paused)) {
        /* We do not read: neither a pong nor the rest of a message can be seen. */
        conn->pong_by = 0;
        conn->ping_at = fws_ping_due(engine, conn);
        conn->message_since = conn->message_since == 0 ? 0 : engine->now;
    } else if (conn->state == FWS_OPEN) {
        check_message(engine, conn, grace);
        check_life(engine, conn, grace);
    }
}

/* Asks the kernel what the peers have confirmed, for a portion of the connections. */
static void acknowledge_some(fws_engine *engine)
{
    uint64_t work = 0; /* a look at the kernel, and a step for each subscription */
    for (uint32_t n = engine->n_slots; n > 0 && work < ACKNOWLEDGE; n--) {
        fws_conn *conn = engine->slots[engine->acknowledge_at++ % engine->n_slots].conn;
        if (conn == NULL || conn->state == FWS_DEAD || conn->unacked == NULL)
            continue;
        fws_conn_acknowledge(engine, conn);
        work += 8 + conn->n_subs;
    }
}

void fws_engine_sweep(fws_engine *engine)
{
    uint64_t late = engine->now - engine->sweep_at;
    uint64_t grace = engine->live > 0 && late > FWS_SWEEP_NS ? late : 0;
    engine->sweep_at = engine->now + FWS_SWEEP_NS;
    if (engine->accept_stalled) {
        engine->accept_stalled = false;
        fws_engine_keep_reserve(engine);
        for (uint32_t i = 0; i < engine->n_listeners; i++)
            engine->listener_ready[i] = engine->listeners[i] >= 0;
    }
    acknowledge_some(engine);
    fws_topics_sweep(&engine->topics);
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        fws_conn *conn = engine->slots[i].conn;
        if (conn != NULL && conn->state != FWS_DEAD)
            check_one(engine, conn, grace);
    }
}
