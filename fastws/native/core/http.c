/* Connections that speak HTTP: HTTP, WAITING and BODY. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"

#define ALWAYS_ANSWERED 1024u /* bytes of a response for which there is always room */

/* The size of a head that ends with an empty line, 0 while there is none. A bare LF ends a line
 * too, so that a head that uses it is answered and not waited for. */
static uint32_t head_end(fws_inbuf *inbuf)
{
    uint32_t from = inbuf->scanned < 2 ? 0 : inbuf->scanned - 2;
    const uint8_t *data = inbuf->data, *end = data + inbuf->n, *at = data + from;
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if (end - at >= 1 && at[0] == '\n')
            return (uint32_t)(at + 1 - data);
        if (end - at >= 2 && at[0] == '\r' && at[1] == '\n')
            return (uint32_t)(at + 2 - data);
    }
    inbuf->scanned = inbuf->n;
    return 0;
}

/* RFC 9112 2.2 and 3: a method, or empty lines in front of it. The client role's answers, too. */
static bool begins_a_request(uint8_t first)
{
    return (first > ' ' && first < 0x7F) || first == '\r' || first == '\n';
}

/* Past handshake_rate: 429 (RFC 6585 4), without the owner, so that a flood costs little. */
static void refuse_request(fws_engine *engine, fws_conn *conn, uint64_t wait_ns)
{
    static const char text[] = "Too many requests from this address";
    char answer[256];
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\n"
                     "Content-Length: %zu\r\nRetry-After: %u\r\nConnection: close\r\n\r\n%s",
                     sizeof text - 1, (unsigned)(wait_ns / 1000000000U + 1), text);
    if (fws_conn_respond(engine, conn, (const uint8_t *)answer, (size_t)n, false) != FWS_OK)
        fws_conn_kill(engine, conn, 1006);
}

/* Raises the event that is due once a head or a body is whole. */
static bool http_advance(fws_engine *engine, fws_conn *conn)
{
    fws_inbuf *inbuf = &conn->inbuf;
    enum fws_event_kind kind = FWS_EVENT_BODY;
    uint32_t n = conn->state == FWS_BODY && inbuf->n >= conn->body_n ? conn->body_n : 0;
    if (conn->state == FWS_HTTP && inbuf->n > 0) {
        kind = FWS_EVENT_HEAD;
        n = head_end(inbuf);
        if (n == 0 && !begins_a_request(inbuf->data[0]))
            n = inbuf->n; /* TLS and the like: refused now, not when the time is up */
        if (n == 0 && inbuf->n >= engine->options.head_limit) {
            kind = FWS_EVENT_HEAD_LIMIT;
            n = inbuf->n;
        }
    }
    if (n == 0)
        return false;
    uint64_t wait = kind == FWS_EVENT_BODY ? 0 : fws_conn_count_request(engine, conn);
    inbuf->scanned = n; /* taken off when the owner has decided */
    fws_conn_move(conn, FWS_WAITING);
    if (wait > 0)
        refuse_request(engine, conn, wait);
    else
        fws_event_raise(engine, conn, kind, inbuf->data, n);
    return true;
}

void fws_receive_http(fws_engine *engine, fws_conn *conn)
{
    if (http_advance(engine, conn))
        return;
    uint32_t want = conn->state == FWS_BODY ? conn->body_n : engine->options.head_limit;
    size_t n = want - conn->inbuf.n;
    bool fresh = conn->state == FWS_HTTP && conn->inbuf.n == 0;
    if (n > FWS_RECEIVE_CHUNK)
        n = FWS_RECEIVE_CHUNK;
    uint8_t *room = engine->room;
    size_t got = fws_receive_bytes(engine, conn, room, n);
    if (got == 0)
        return;
    if (conn->state == FWS_HTTP && conn->answered && conn->inbuf.n == 0)
        fws_conn_give_time(engine, conn, engine->options.handshake_ns); /* the next request */
    if (!(fresh && fws_engine_full(engine)) && fws_inbuf_add(&conn->inbuf, room, got)) {
        http_advance(engine, conn);
        fws_conn_count(engine, conn);
        return;
    }
    if (conn->role == FWS_SERVER && !fws_conn_pending(conn))
        fws_engine_refuse(engine, conn->fd);
    fws_conn_kill(engine, conn, 1006);
}

static int decided(fws_engine *engine, fws_conn *conn, enum fws_state state, const uint8_t *data,
                   size_t n)
{
    if (conn->state != FWS_WAITING)
        return FWS_E_CLOSED;
    /* Ahead of everything: a pong to what lies behind the head may be next. */
    if (n > 0 && !fws_outbox_push(&conn->outbox, 0, FWS_ENTRY_BYTES, 0, data, n, NULL, 0))
        return FWS_E_NOMEM;
    conn->overdue = conn->told_late = false;
    fws_inbuf_drop(&conn->inbuf, conn->inbuf.scanned);
    fws_conn_count(engine, conn);
    fws_conn_move(conn, state);
    fws_engine_mark_dirty(engine, conn);
    if (fws_link_remove(&conn->dirty)) /* not behind a crowd that a broadcast is for */
        fws_link_append(&engine->answers, &conn->dirty);
    /* What lies behind the head, here or in the kernel; on the ring of its new state. */
    bool ready = fws_link_remove(&conn->ready);
    engine->n_ready -= ready;
    if (ready || !conn->drained || conn->inbuf.n > 0 || state == FWS_DRAINING)
        fws_engine_mark_ready(engine, conn);
    return FWS_OK;
}

/* An answer that ends the connection need not wait for the rest of its request. */
static void cut_short(fws_conn *conn)
{
    if (conn->state == FWS_BODY || (conn->state == FWS_HTTP && conn->inbuf.n > 0)) {
        conn->inbuf.scanned = conn->inbuf.n;
        fws_conn_move(conn, FWS_WAITING);
    }
}

int fws_conn_respond(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n,
                     bool keep_alive)
{
    bool refused = n > ALWAYS_ANSWERED && !fws_conn_has_room(engine, conn, n);
    if (refused) {
        data = fws_unavailable(&n);
        keep_alive = false;
    }
    if (!keep_alive)
        cut_short(conn);
    int status = decided(engine, conn, keep_alive ? FWS_HTTP : FWS_DRAINING, data, n);
    if (status != FWS_OK)
        return status;
    engine->counters.refused += refused;
    conn->answered = true;
    fws_conn_give_time(engine, conn,
                       !keep_alive         ? engine->options.close_ns
                       : conn->inbuf.n > 0 ? engine->options.handshake_ns
                                           : engine->options.keep_alive_ns);
    return FWS_OK;
}

int fws_conn_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n)
{
    int status = decided(engine, conn, FWS_OPEN, data, n);
    if (status != FWS_OK)
        return status;
    conn->read_in = engine->turns - 1; /* what it sent behind its head is read in this turn */
    fws_conn_ping_later(engine, conn, true);
    return FWS_OK;
}

int fws_conn_answer_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n)
{
    if (!fws_outbox_push(&conn->outbox, 0, FWS_ENTRY_BYTES, 0, data, n, NULL, 0))
        return FWS_E_NOMEM;
    fws_conn_count(engine, conn);
    return FWS_OK;
}

int fws_conn_expect_body(fws_engine *engine, fws_conn *conn, uint32_t body_n, const uint8_t *data,
                         size_t n)
{
    int status = body_n == 0 ? FWS_E_INVALID : decided(engine, conn, FWS_BODY, data, n);
    if (status != FWS_OK)
        return status;
    conn->body_n = body_n;
    fws_conn_give_time(engine, conn, engine->options.handshake_ns);
    return FWS_OK;
}
