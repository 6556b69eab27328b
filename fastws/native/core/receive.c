/* Connections that speak WebSocket: frames become messages, pings are answered. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"

size_t fws_receive_bytes(fws_engine *engine, fws_conn *conn, uint8_t *room, size_t n)
{
    ssize_t got = engine->sys->recv(conn->fd, room, n, 0);
    if (got > 0) {
        conn->heard = true;
        conn->owed -= got < conn->owed ? (uint16_t)got : conn->owed;
        /* A full read may have left some; so may a short one when the end has been announced.
         * Else the next edge will tell (epoll(7), question 9). */
        if ((size_t)got == n || conn->hung_up)
            fws_engine_mark_ready(engine, conn);
        return (size_t)got;
    }
    if (got < 0 && errno == EINTR)
        fws_engine_mark_ready(engine, conn);
    else if (got == 0 && conn->state < FWS_OPEN && conn->answered)
        fws_conn_serve_out(engine, conn);
    else if (got == 0 || errno != EAGAIN)
        fws_conn_end(engine, conn, 0, NULL, 0);
    return 0;
}

int fws_conn_meter(fws_engine *engine, fws_conn *conn)
{
    if (conn->metered != NULL)
        return FWS_OK;
    if (engine->meter == NULL) {
        engine->meter = malloc(sizeof *engine->meter);
        if (engine->meter == NULL)
            return FWS_E_NOMEM;
        fws_meter_init(engine->meter);
    }
    conn->metered = calloc(1, sizeof *conn->metered);
    return conn->metered == NULL ? FWS_E_NOMEM : FWS_OK;
}

static void take_message(fws_engine *engine, fws_conn *conn, const fws_message *message)
{
    bool open = conn->state == FWS_OPEN;
    switch (message->opcode) {
    case FWS_PING:
        if (open /* RFC 6455 5.5.2 */
            && fws_conn_push_frame(engine, conn, FWS_PONG, 0, message->data, message->len) < 0)
            fws_conn_end(engine, conn, fws_close_code(FWS_E_NOMEM), NULL, 0);
        return;
    case FWS_PONG: /* any will do: an unasked one is not answered and does no harm (5.5.3) */
        if (conn->pinged) {
            conn->pongs += conn->pongs < FWS_STRETCHES;
            fws_conn_ping_later(engine, conn, false);
        }
        return;
    case FWS_CLOSE:
        fws_conn_take_close(engine, conn, message);
        return;
    default:
        break;
    }
    conn->messages_in++;
    conn->message_by = 0;
    if (open && conn->metered == NULL) {
        fws_event *event =
            fws_event_add(engine, conn, FWS_EVENT_MESSAGE, message->data, message->len);
        event->owned = message->owned;
        event->opcode = message->opcode;
        engine->owned_bytes += message->owned == NULL ? 0 : message->len;
        if (conn->credit != FWS_ANY_MESSAGES && --conn->credit == 0)
            engine->counters.handler_queue_full++;
        return;
    }
    if (open)
        fws_meter_message(engine->meter, conn->metered, message->opcode, message->data,
                          message->len, fws_header_size(message->len, false) + message->len,
                          engine->sys->realtime());
    free(message->owned); /* RFC 6455 1.4: after our Close only theirs counts */
}

static bool between_messages(const fws_reader *reader)
{
    return !reader->parser.in_frame && reader->parser.have == 0 && reader->fragments == 0;
}

/* Whether frames are still parsed. */
static bool parsing(const fws_conn *conn)
{
    return (conn->state == FWS_OPEN || conn->state == FWS_CLOSING) && !conn->ending;
}

static void parse(fws_engine *engine, fws_conn *conn, uint8_t *data, size_t n)
{
    while (n > 0 && parsing(conn)) {
        if (conn->metered != NULL && between_messages(&conn->reader)) {
            size_t used =
                fws_meter_scan(engine->meter, conn->metered, data, n, engine->sys->realtime());
            data += used;
            n -= used;
        }
        if (fws_turn_full(engine) || conn->credit == 0) {
            if (!fws_inbuf_add(&conn->inbuf, data, n))
                fws_conn_end(engine, conn, fws_close_code(FWS_E_NOMEM), NULL, 0);
            fws_engine_mark_ready(engine, conn);
            return;
        }
        fws_message message;
        int status = fws_reader_next(&conn->reader, &engine->options.limits, &data, &n, &message);
        if (status > 0) {
            take_message(engine, conn, &message);
        } else if (status < 0) {
            engine->counters.protocol_errors++;
            fws_conn_end(engine, conn, fws_close_code(status), NULL, 0);
        }
    }
}

void fws_receive_frames(fws_engine *engine, fws_conn *conn)
{
    uint8_t *room = engine->room + engine->room_used;
    size_t got = conn->inbuf.n;
    if (conn->unread_at != 0) { /* it was not read from */
        conn->unread_at = 0;
        conn->end_unread = false;
    }
    if (got > 0) {
        memcpy(room, conn->inbuf.data, got);
        fws_inbuf_drop(&conn->inbuf, (uint32_t)got);
        fws_engine_mark_ready(engine, conn);
    } else {
        got = fws_receive_bytes(engine, conn, room, FWS_RECEIVE_CHUNK);
    }
    uint32_t before = engine->n_events;
    parse(engine, conn, room, got);
    if (engine->n_events > before) /* events point into it */
        engine->room_used += got;
    fws_conn_count(engine, conn);
    if (between_messages(&conn->reader))
        conn->message_by = 0;
    else if (conn->message_by == 0)
        fws_conn_expect_message(engine, conn);
}
