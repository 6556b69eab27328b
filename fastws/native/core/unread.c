/* What is noticed while a connection is not read from: a reset, the peer's end, its Close, its
 * Pings. */
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

struct found {
    size_t close;   /* where a whole Close begins; n: there is none */
    size_t ping;    /* where the last whole Ping before that begins */
    uint16_t pings; /* how many there are */
};

static struct found find_control(const fws_parser *parser, const uint8_t *data, size_t n)
{
    struct found found = {.close = n};
    uint64_t at = parser->in_frame ? parser->remaining : 0;
    fws_header header;
    while (at < n) {
        int size = fws_header_decode(data + at, n - at, &header);
        if (size <= 0)
            break;
        uint64_t end = at + (uint64_t)size + header.length;
        if (end <= n && header.opcode == FWS_PING) {
            found.ping = at;
            found.pings++;
        }
        if (header.opcode == FWS_CLOSE) {
            found.close = end <= n ? at : n;
            break;
        }
        at = end;
    }
    return found;
}

/* Answers the last Ping, which may stand for those before it (RFC 6455 5.5.3), unless that was
 * done. They stay unread: when they are parsed they are known to be answered. Who does not take
 * what is sent to it gets no Pong either. */
static void answer_pings(fws_engine *engine, fws_conn *conn, struct found found, uint8_t *data,
                         size_t n)
{
    if (found.pings <= conn->ponged || conn->outbox.allocated > fws_read_paused_above(engine))
        return;
    fws_reader reader;
    fws_message message;
    uint8_t *ping = data + found.ping;
    n -= found.ping;
    fws_reader_init(&reader, conn->role);
    if (fws_reader_next(&reader, &engine->options.limits, &ping, &n, &message) > 0
        && fws_conn_push_frame(engine, conn, FWS_PONG, 0, message.data, message.len) == FWS_OK)
        conn->ponged = found.pings;
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
    fws_conn_fail(engine, conn, status);
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
    struct found found = find_control(&conn->reader.parser, room, n);
    size_t close = found.close;
    answer_pings(engine, conn, found, room, close);
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
