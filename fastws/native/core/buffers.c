/* What waits in user memory apart from the logs: who holds how much, and the sum. */
#include "core/engine_internal.h"

#define LISTED_FROM 10 /* logarithm of the bytes: who holds less is in no ring */
#define LITTLE 4096u   /* bytes */

static unsigned ring_of(size_t held)
{
    unsigned bits = held == 0 ? 0 : (unsigned)(63 - __builtin_clzll(held));
    unsigned ring = bits < LISTED_FROM ? 0 : bits - LISTED_FROM + 1;
    return ring < FWS_HOLDERS ? ring : FWS_HOLDERS - 1;
}

/* The sum is read by other threads, too. */
static void hold(fws_engine *engine, fws_conn *conn, size_t held)
{
    unsigned before = ring_of(conn->held), now = ring_of(held);
    __atomic_store_n(&engine->buffered, engine->buffered + held - conn->held, __ATOMIC_RELAXED);
    conn->held = held;
    if (before == now)
        return;
    fws_link_remove(&conn->held_link);
    if (now > 0)
        fws_link_append(&engine->holders[now], &conn->held_link);
}

size_t fws_conn_buffered(const fws_conn *conn)
{
    return fws_conn_out(conn) + fws_allocated(conn->reader.capacity)
           + fws_allocated(conn->inbuf.capacity);
}

void fws_conn_recount_out(fws_engine *engine, fws_conn *conn)
{
    size_t out = fws_conn_out(conn), held = conn->held - conn->held_out + out;
    if (conn->state == FWS_DEAD)
        return;
    conn->held_out = out;
    hold(engine, conn, held);
}

void fws_conn_count(fws_engine *engine, fws_conn *conn)
{
    if (conn->state == FWS_DEAD)
        return;
    conn->held_out = fws_conn_out(conn);
    size_t held = fws_conn_buffered(conn);
    if (held != conn->held)
        hold(engine, conn, held);
}

void fws_conn_uncount(fws_engine *engine, fws_conn *conn)
{
    hold(engine, conn, 0);
}

fws_conn *fws_engine_largest(const fws_engine *engine)
{
    for (unsigned ring = FWS_HOLDERS - 1; ring > 0; ring--)
        if (!fws_link_empty(&engine->holders[ring]))
            return FWS_CONTAINER(engine->holders[ring].next, fws_conn, held_link);
    return NULL;
}

uint64_t fws_engine_buffered(const fws_engine *engine)
{
    return engine->buffered + engine->topics.logs.pinned
           + __atomic_load_n(&engine->staged, __ATOMIC_RELAXED);
}

/* What is kept for others: who reads is served while others fill the rest. */
static uint64_t reserve_from(uint64_t most, size_t held, size_t n)
{
    if (held + n > LITTLE)
        return most / 8;
    return held > 0 ? most / 16 : 0;
}

bool fws_conn_has_room(fws_engine *engine, const fws_conn *conn, size_t n)
{
    uint64_t most = engine->options.max_buffered_bytes;
    uint64_t reserve = reserve_from(most, conn->held_out, n);
    if (most == 0 || fws_engine_buffered(engine) + reserve + n <= most)
        return true;
    engine->pressed |= n <= most - reserve; /* else not even if everything else went */
    return false;
}
