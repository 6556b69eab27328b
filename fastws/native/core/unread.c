/* What is noticed while a connection is not read from: a reset, the peer's end, its Close. */
#include <string.h>
#include <sys/socket.h>

#include "core/engine_internal.h"

static void look_later(const fws_engine *engine, fws_conn *conn, uint64_t ns)
{
    conn->unread_at = fws_engine_time(engine) + ns;
    fws_conn_due(engine, conn, conn->unread_at);
}

void fws_conn_hear(fws_engine *engine, fws_conn *conn)
{
    if (conn->broken || (conn->state == FWS_WAITING && conn->hung_up))
        fws_conn_end(engine, conn, 0, NULL, 0);
    else if (conn->state == FWS_OPEN && conn->unread_at == 0)
        look_later(engine, conn, FWS_UNREAD_NS);
}

/* Copies what came and was not parsed, as far as FWS_UNREAD_BYTES: nothing of it is taken, so that
 * the peer's window stays as full as it is. */
static size_t copy_unread(const fws_engine *engine, const fws_conn *conn, uint8_t *out)
{
    const fws_inbuf *inbuf = &conn->inbuf;
    size_t n = conn->reader.parser.have, kept = inbuf->n;
    kept = kept < FWS_UNREAD_BYTES ? kept : FWS_UNREAD_BYTES;
    memcpy(out, conn->reader.parser.partial, n);
    if (kept > 0)
        memcpy(out + n, inbuf->data, kept);
    n += kept;
    if (kept == FWS_UNREAD_BYTES)
        return n;
    ssize_t got = engine->sys->recv(conn->fd, out + n, FWS_UNREAD_BYTES - kept, MSG_PEEK);
    return got > 0 ? n + (size_t)got : n;
}

/* Where a whole Close begins; n: there is none. */
static size_t find_close(const fws_parser *parser, const uint8_t *data, size_t n)
{
    uint64_t at = parser->in_frame ? parser->remaining : 0;
    fws_header header;
    while (at < n) {
        int size = fws_header_decode(data + at, n - at, &header);
        if (size <= 0)
            return n;
        uint64_t end = at + (uint64_t)size + header.length;
        if (header.opcode == FWS_CLOSE)
            return end <= n ? at : n;
        at = end;
    }
    return n;
}

/* Takes it as if it had been read; what lies before it is dropped. */
static void take_close(fws_engine *engine, fws_conn *conn, uint8_t *data, size_t n)
{
    fws_reader reader;
    fws_message message;
    fws_reader_init(&reader, conn->role);
    int status = fws_reader_next(&reader, &engine->options.limits, &data, &n, &message);
    if (status > 0) {
        fws_conn_take_close(engine, conn, &message);
        return;
    }
    engine->counters.protocol_errors++;
    fws_conn_end(engine, conn, fws_close_code(status), NULL, 0);
}

void fws_conn_look(fws_engine *engine, fws_conn *conn)
{
    uint8_t *room = engine->room;
    conn->unread_at = 0;
    if (!fws_conn_stopped(conn)) {
        conn->end_unread = false;
        return;
    }
    size_t n = copy_unread(engine, conn, room);
    size_t close = find_close(&conn->reader.parser, room, n);
    if (close == n && !conn->hung_up)
        return;
    if (!conn->end_unread) { /* the owner may still take what lies before it, at its rates perhaps */
        conn->end_unread = true;
        look_later(engine, conn, conn->behind ? engine->options.close_ns : FWS_UNREAD_NS);
        return;
    }
    engine->counters.unread_ends++;
    if (close < n) {
        take_close(engine, conn, room + close, n - close);
        return;
    }
    fws_conn_cut_off(engine, conn);
}
