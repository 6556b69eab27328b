/* Past max_buffered_bytes: the connections that hold most are closed. */
#include "core/engine_internal.h"

#define SHED_SOME 64     /* connections closed in one flush once the sum is below the limit */
#define LEFT_WITH 16384u /* bytes that one may hold behind its Close */

/* Only what has begun to leave, and a Close, still go out; what came in is let go of. */
static void close_open(fws_engine *engine, fws_conn *conn)
{
    static const uint8_t reason[] = "memory limit";
    conn->slow = true;
    fws_conn_end(engine, conn, fws_close_code(FWS_E_SLOW), reason, sizeof reason - 1);
    fws_conn_begin_ending(engine, conn);
    fws_reader_clear(&conn->reader);
    fws_inbuf_drop(&conn->inbuf, conn->inbuf.n);
    fws_conn_count(engine, conn);
}

static void close_one(fws_engine *engine, fws_conn *conn)
{
    engine->counters.buffered_closed += !conn->slow; /* else it has been counted */
    if (conn->state == FWS_OPEN) {
        close_open(engine, conn);
        if (conn->state == FWS_DEAD || conn->held < LEFT_WITH)
            return;
    } else if (conn->state < FWS_OPEN && conn->role == FWS_SERVER && !fws_conn_pending(conn)) {
        fws_engine_refuse(engine, conn->fd);
    }
    fws_conn_cut_off(engine, conn);
}

/* Half-sent frames that keep a slab which its log has let go of: what they hold is not theirs alone,
 * so they stand in no ring. They are cut off, those that have lagged longest first. */
static void close_pinning(fws_engine *engine, uint64_t enough)
{
    const fws_link *next, *ring = &engine->lagging;
    for (const fws_link *link = ring->next; link != ring; link = next) {
        fws_conn *conn = FWS_CONTAINER(link, fws_conn, lagging_link);
        const fws_slab *pinned = conn->partial.pinned;
        next = link->next;
        if (engine->topics.logs.pinned == 0 || fws_engine_buffered(engine) <= enough)
            return;
        if (pinned == NULL || !pinned->retired)
            continue;
        engine->counters.buffered_closed += !conn->slow;
        fws_conn_cut_off(engine, conn);
    }
}

void fws_engine_shed(fws_engine *engine)
{
    uint64_t most = engine->options.max_buffered_bytes, enough = most - most / 4;
    fws_conn *conn = NULL;
    uint32_t n = 0;
    if (most == 0 || (!engine->pressed && fws_engine_buffered(engine) <= most))
        return;
    if (engine->topics.logs.pinned > most / 2)
        close_pinning(engine, enough);
    while (fws_engine_buffered(engine) > (n < SHED_SOME ? enough : most)
           && (conn = fws_engine_largest(engine)) != NULL) {
        close_one(engine, conn);
        n++;
    }
    close_pinning(engine, most);
    engine->pressed = conn != NULL && fws_engine_buffered(engine) > enough;
}
