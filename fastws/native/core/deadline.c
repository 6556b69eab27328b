/* Deadlines: when the sweep has to look at a connection. */
#include "core/engine_internal.h"

void fws_engine_note_late(fws_engine *engine)
{
    if (engine->now <= engine->sweep_at || engine->now - engine->sweep_at <= FWS_SWEEP_NS)
        return;
    if (engine->live > 0)
        engine->lost += engine->now - engine->sweep_at; /* what held it up was no peer's fault */
    engine->sweep_at = engine->now;
}

void fws_conn_give_time(fws_engine *engine, fws_conn *conn, uint64_t ns)
{
    conn->deadline = fws_engine_time(engine) + ns;
    conn->confirmed = fws_conn_confirmed(engine, conn);
    conn->owed = FWS_PROGRESS_BYTES;
    fws_conn_due(engine, conn, conn->deadline);
}

bool fws_conn_progresses(const fws_engine *engine, const fws_conn *conn)
{
    if (conn->state == FWS_BODY && conn->owed == 0)
        return true;
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    bool waits = fws_conn_pending(conn) || confirmed < conn->bytes_written;
    return waits && confirmed >= conn->confirmed + FWS_PROGRESS_BYTES;
}

/* The interval is the shorter the less is known of what lies between: routers and proxies that
 * forget an idle connection have shown with each answer that they do not within that time. */
static uint64_t interval(const fws_engine *engine, const fws_conn *conn)
{
    uint64_t every = engine->options.ping_ns, most = every / 2 * 5;
    if (most > FWS_PING_MOST_NS)
        most = every > FWS_PING_MOST_NS ? every : FWS_PING_MOST_NS;
    for (unsigned i = 0; i < conn->pongs; i++)
        every += every / 4;
    return every < most ? every : most;
}

void fws_conn_ping_later(fws_engine *engine, fws_conn *conn, bool first)
{
    conn->pinged = false;
    conn->deadline = 0;
    if (engine->options.ping_ns == 0)
        return;
    /* Jitter: clients that connected together must not be pinged together. */
    uint64_t mixed = (conn->id + engine->now) * 0x9E3779B97F4A7C15ULL;
    uint64_t every = interval(engine, conn), spread = first ? every / 2 : every / 10;
    uint64_t early = (mixed >> 32) % (spread / 1000 + 1) * 1000;
    conn->deadline = fws_engine_time(engine) + every - early;
    fws_conn_due(engine, conn, conn->deadline);
}

void fws_conn_expect_message(fws_engine *engine, fws_conn *conn)
{
    if (engine->options.message_ns == 0)
        return;
    conn->owed = FWS_PROGRESS_BYTES;
    conn->message_by = fws_engine_time(engine) + engine->options.message_ns;
    fws_conn_due(engine, conn, conn->message_by);
}
