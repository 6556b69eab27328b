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

/* Room for direct sends. */

static bool has_room(const fws_engine *engine, const fws_conn *conn)
{
    return conn->outbox.allocated <= engine->options.high_mark / 4;
}

static void check_room(fws_engine *engine, fws_conn *conn)
{
    if (conn->wants_room && conn->room_link.next == NULL && has_room(engine, conn))
        fws_link_append(&engine->with_room, &conn->room_link);
}

bool fws_conn_full(const fws_engine *engine, const fws_conn *conn)
{
    return conn->outbox.allocated > engine->options.high_mark;
}

void fws_conn_want_room(fws_engine *engine, fws_conn *conn)
{
    if (conn->state == FWS_DEAD)
        return;
    conn->wants_room = true;
    check_room(engine, conn);
}

fws_conn *fws_engine_next_room(fws_engine *engine)
{
    while (!fws_link_empty(&engine->with_room)) {
        fws_conn *conn = FWS_CONTAINER(engine->with_room.next, fws_conn, room_link);
        fws_link_remove(&conn->room_link);
        if (has_room(engine, conn)) { /* else more was sent meanwhile: it waits on */
            conn->wants_room = false;
            return conn;
        }
    }
    return NULL;
}

/* What is held. */

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
    check_room(engine, conn);
}

void fws_conn_count(fws_engine *engine, fws_conn *conn)
{
    if (conn->state == FWS_DEAD)
        return;
    conn->held_out = fws_conn_out(conn);
    size_t held = fws_conn_buffered(conn);
    if (held != conn->held)
        hold(engine, conn, held);
    check_room(engine, conn);
}

void fws_conn_uncount(fws_engine *engine, fws_conn *conn)
{
    hold(engine, conn, 0);
    fws_link_remove(&conn->room_link);
    conn->wants_room = false;
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
