#include "engine_internal.h"

static void look_at_blocked(fws_engine *engine, fws_conn *conn)
{
    bool stalled = engine->now - conn->progress > engine->options.max_stall_ns;
    bool end = false;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        end |= fws_sub_settle(sub) != FWS_OK || (stalled && sub->on_slow == FWS_SLOW_LOSSLESS);
    if (end)
        fws_conn_end_slow(engine, conn);
}

static void look_at(fws_engine *engine, fws_conn *conn, uint64_t grace)
{
    if (conn->deadline != 0) {
        conn->deadline += grace;
        if (engine->now >= conn->deadline) {
            if (conn->state < FWS_OPEN)
                engine->counters.handshake_timeouts++;
            fws_conn_kill(engine, conn, 1006);
            return;
        }
    }
    if (conn->retry) {
        conn->retry = false;
        fws_conn_unblock(engine, conn);
    } else if (conn->blocked && !conn->ending) {
        look_at_blocked(engine, conn);
    }
}

void fws_engine_sweep(fws_engine *engine)
{
    uint64_t late = engine->now - engine->sweep_at;
    uint64_t grace = engine->live > 0 && late > FWS_SWEEP_NS ? late : 0;
    engine->sweep_at = engine->now + FWS_SWEEP_NS;
    if (engine->accept_stalled) {
        engine->accept_stalled = false;
        for (uint32_t i = 0; i < engine->n_listeners; i++)
            engine->listener_ready[i] = engine->listeners[i] >= 0;
    }
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        fws_conn *conn = engine->slots[i].conn;
        if (conn != NULL && conn->state != FWS_DEAD)
            look_at(engine, conn, grace);
    }
}
