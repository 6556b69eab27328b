/* Connections that speak WebSocket: frames become messages, pings are answered. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"

#define LOOK_BYTES 4096 /* a chunk of them took time, whatever it was */
#define SHARES 512      /* of the memory that is left: one read takes at most one, */
#define LEAST 4096u     /* but that many bytes at least */

size_t fws_receive_bytes(fws_engine *engine, fws_conn *conn, uint8_t *room, size_t n)
{
    ssize_t got = engine->sys->recv(conn->fd, room, n, 0);
    if (got > 0) {
        conn->heard = true;
        conn->owed -= got < conn->owed ? (uint16_t)got : conn->owed;
        /* A full read may have left some; so may a short one when the end has been announced.
         * Else the next edge will tell (epoll(7), question 9). */
        conn->drained = (size_t)got < n && !conn->hung_up;
        if (!conn->drained)
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

static bool carries(const fws_message *message, const void *payload, size_t n)
{
    return message->len == n && memcmp(message->data, payload, n) == 0;
}

/* A pong, while a ping of the owner is unanswered. It may be for an earlier one: that is the owner's
 * to know. The last one's ends the waiting (RFC 6455 5.5.3). */
static void take_answer(fws_engine *engine, fws_conn *conn, const fws_message *message)
{
    if (carries(message, conn->asked->data, conn->asked->n)) {
        free(conn->asked);
        conn->asked = NULL;
    } else if (carries(message, &engine->ping_mark, sizeof engine->ping_mark)) {
        return;
    }
    fws_event_raise(engine, conn, FWS_EVENT_PONG, message->data, message->len);
}

static void take_message(fws_engine *engine, fws_conn *conn, const fws_message *message)
{
    bool open = conn->state == FWS_OPEN;
    switch (message->opcode) {
    case FWS_PING:
        if (conn->ponged > 0)
            conn->ponged--;
        else if (open /* RFC 6455 5.5.2 */
                 && fws_conn_push_frame(engine, conn, FWS_PONG, 0, message->data, message->len) < 0)
            fws_conn_fail(engine, conn, FWS_E_NOMEM);
        return;
    case FWS_PONG: /* any will do: an unasked one is not answered and does no harm (5.5.3) */
        if (open && conn->pinged) { /* else its deadline is that of the close */
            conn->pongs += conn->pongs < FWS_STRETCHES;
            fws_conn_ping_later(engine, conn, false);
        }
        if (open && conn->asked != NULL)
            take_answer(engine, conn, message);
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
            fws_event_raise(engine, conn, FWS_EVENT_MESSAGE, message->data, message->len);
        event->owned = message->owned;
        if (message->owned != NULL)
            fws_conn_count(engine, conn); /* it is the event's now */
        event->opcode = message->opcode;
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

/* Its part of what is left of the turn. */
static uint64_t slice_for(const fws_engine *engine, const fws_conn *conn)
{
    uint32_t others = engine->n_ready - (conn->ready.next != NULL);
    uint64_t part = fws_turn_left(engine) / (others + 1);
    return part > FWS_SLICE_NS ? part : FWS_SLICE_NS;
}

/* Whether it has had its time: after a message at least, so that it gets on whatever happens. */
static bool slice_over(const fws_engine *engine)
{
    return engine->n_slice > 0
           && (engine->now - engine->slice_began >= engine->slice || fws_turn_left(engine) == 0);
}

/* It has been read: who took long stands behind the others next time. */
static void finish(fws_engine *engine, fws_conn *conn)
{
    engine->reading = NULL;
    if (engine->unlooked >= FWS_EVENT_STEPS || engine->unparsed - engine->room >= LOOK_BYTES)
        fws_engine_look(engine);
    bool costly = engine->now - engine->slice_began >= FWS_SLICE_NS;
    if (costly != conn->costly) {
        conn->costly = costly;
        if (fws_link_remove(&conn->ready)) {
            engine->n_ready--;
            fws_engine_mark_ready(engine, conn);
        }
    }
    if (between_messages(&conn->reader))
        conn->message_by = 0;
    else if (conn->message_by == 0)
        fws_conn_expect_message(engine, conn);
    fws_conn_count(engine, conn);
}

void fws_receive_stop(fws_engine *engine)
{
    fws_conn *conn = engine->reading;
    if (engine->n_unparsed > 0 && parsing(conn)) {
        if (!fws_inbuf_add(&conn->inbuf, engine->unparsed, engine->n_unparsed))
            fws_conn_fail(engine, conn, FWS_E_NOMEM);
        fws_engine_mark_ready(engine, conn);
    }
    finish(engine, conn);
}

static void parse_one(fws_engine *engine, fws_conn *conn)
{
    fws_message message;
    int status = fws_reader_next(&conn->reader, &engine->options.limits, &engine->unparsed,
                                 &engine->n_unparsed, &message);
    engine->n_slice++;
    if (status > 0) {
        if (engine->options.message_rate != 0)
            fws_conn_spend_message(engine, conn);
        take_message(engine, conn, &message);
    } else if (status < 0) {
        engine->counters.protocol_errors++;
        fws_conn_fail(engine, conn, status);
    }
}

/* Whether its next message is parsed: its handler takes one, its rates allow it, and its answers do
 * not pile up (what is compressed may be a thousand times larger than what came in). */
static bool goes_on(const fws_engine *engine, const fws_conn *conn)
{
    return engine->n_unparsed > 0 && parsing(conn) && conn->credit > 0 && !conn->throttled
           && conn->outbox.allocated <= fws_read_paused_above(engine) && !slice_over(engine);
}

void fws_receive_on(fws_engine *engine)
{
    fws_conn *conn = engine->reading;
    while (goes_on(engine, conn)) {
        if (conn->metered != NULL && between_messages(&conn->reader)) {
            size_t used = fws_meter_scan(engine->meter, conn->metered, engine->unparsed,
                                         engine->n_unparsed, engine->sys->realtime());
            engine->unparsed += used;
            engine->n_unparsed -= used;
        }
        parse_one(engine, conn);
        if (engine->raised)
            return; /* its owner handles it first */
        fws_engine_look_after(engine, 1);
    }
    fws_receive_stop(engine);
}

/* How much is read: what is not parsed in time is kept in memory, and counts there. */
static size_t chunk_for(const fws_engine *engine)
{
    uint64_t most = engine->options.max_buffered_bytes, held = fws_engine_buffered(engine);
    uint64_t share = held < most ? (most - held) / SHARES : 0;
    if (most == 0 || share > FWS_RECEIVE_CHUNK)
        return FWS_RECEIVE_CHUNK;
    return share > LEAST ? share : LEAST;
}

static size_t receive_chunk(fws_engine *engine, fws_conn *conn)
{
    size_t most = chunk_for(engine);
    if (engine->allowances == NULL)
        return fws_receive_bytes(engine, conn, engine->room, most);
    most = fws_conn_may_read(engine, conn, most);
    size_t got = most == 0 ? 0 : fws_receive_bytes(engine, conn, engine->room, most);
    fws_conn_spend_bytes(engine, conn, got);
    conn->behind &= got >= most;
    return got;
}

void fws_receive_frames(fws_engine *engine, fws_conn *conn)
{
    size_t got = conn->inbuf.n;
    if (conn->unread_at != 0 && !conn->behind) { /* it was not read from */
        conn->unread_at = 0;
        conn->end_unread = false;
    }
    if (got > 0) {
        assert(got <= FWS_RECEIVE_CHUNK); /* the rest of a head's chunk, or of one of frames */
        memcpy(engine->room, conn->inbuf.data, got);
        fws_inbuf_drop(&conn->inbuf, (uint32_t)got);
        fws_conn_count(engine, conn);
        fws_engine_mark_ready(engine, conn);
    } else {
        got = receive_chunk(engine, conn);
    }
    engine->reading = conn;
    engine->unparsed = engine->room;
    engine->n_unparsed = got;
    engine->slice_began = engine->now;
    engine->slice = slice_for(engine, conn);
    engine->n_slice = 0;
    fws_receive_on(engine);
}
