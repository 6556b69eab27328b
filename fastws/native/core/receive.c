#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"

/* What happened. */

void fws_engine_mark_ready(fws_engine *engine, fws_conn *conn)
{
    if (conn->ready.next != NULL || conn->state == FWS_DEAD)
        return;
    fws_link_append(conn->state < FWS_OPEN ? &engine->http : &engine->ready, &conn->ready);
    engine->n_ready++;
}

static void sort_connection(fws_engine *engine, uint64_t id, uint32_t what)
{
    fws_conn *conn = fws_engine_find(engine, id);
    if (conn == NULL)
        return; /* an event of the dead, or of the slot's last occupant */
    if (what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        conn->hung_up = true;
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        fws_engine_mark_ready(engine, conn);
    if ((what & EPOLLOUT) && conn->blocked)
        fws_conn_unblock(engine, conn);
}

static void sort_event(fws_engine *engine, uint64_t tag, uint32_t what)
{
    if ((tag & FWS_TAG_SPECIAL) != FWS_TAG_SPECIAL)
        sort_connection(engine, tag, what);
    else if (tag == FWS_TAG_TIMER)
        engine->timer_at = UINT64_MAX; /* it has fired; edge-triggered, so not read */
    else if (tag == FWS_TAG_WAKE)
        engine->woken = true;
    else
        engine->listener_ready[(uint32_t)tag] = engine->listeners[(uint32_t)tag] >= 0;
}

bool fws_engine_poll(fws_engine *engine, int timeout_ms)
{
    struct epoll_event events[FWS_POLL_EVENTS];
    int n, rounds = 0;
    /* All that is known by now: the kernel tells in order, and a newcomer's news may be last. */
    do {
        n = engine->sys->epoll_wait(engine->epoll, events, FWS_POLL_EVENTS,
                                    rounds == 0 ? timeout_ms : 0);
        for (int i = 0; i < n; i++)
            sort_event(engine, events[i].data.u64, events[i].events);
    } while (n == FWS_POLL_EVENTS && ++rounds < FWS_POLL_ROUNDS);
    engine->now = engine->sys->monotonic();
    return n >= 0 || errno == EINTR;
}

/* Bytes held over. */

bool fws_hold(fws_held *held, const uint8_t *data, size_t n)
{
    if (held->capacity - held->n < n) {
        size_t capacity = held->n + n < 1024 ? 1024 : (held->n + n) * 2;
        uint8_t *grown = realloc(held->data, capacity);
        if (grown == NULL)
            return false;
        held->data = grown;
        held->capacity = (uint32_t)capacity;
    }
    memcpy(held->data + held->n, data, n);
    held->n += (uint32_t)n;
    return true;
}

void fws_hold_drop(fws_held *held, uint32_t n)
{
    held->n -= n;
    held->scanned = 0;
    if (held->n > 0) {
        memmove(held->data, held->data + n, held->n);
        return;
    }
    free(held->data);
    *held = (fws_held){0};
}

/* It asks no more, but may still read its answers. */
static void serve_out(fws_engine *engine, fws_conn *conn)
{
    conn->state = FWS_LINGER;
    conn->finish = true;
    conn->deadline = engine->now + engine->options.close_ns;
    fws_engine_mark_dirty(engine, conn);
}

size_t fws_receive_bytes(fws_engine *engine, fws_conn *conn, uint8_t *room, size_t n)
{
    ssize_t got = engine->sys->recv(conn->fd, room, n, 0);
    if (got > 0) {
        /* A full read may have left some; so may a short one when the end has been announced.
         * Else the next edge will tell (epoll(7), question 9). */
        if ((size_t)got == n || conn->hung_up)
            fws_engine_mark_ready(engine, conn);
        return (size_t)got;
    }
    if (got < 0 && errno == EINTR)
        fws_engine_mark_ready(engine, conn);
    else if (got == 0 && conn->state < FWS_OPEN && conn->answered)
        serve_out(engine, conn);
    else if (got == 0 || errno != EAGAIN)
        fws_conn_end(engine, conn, 0, NULL, 0);
    return 0;
}

fws_event *fws_event_add(fws_engine *engine, fws_conn *conn, enum fws_event_kind kind,
                         const uint8_t *data, size_t n)
{
    fws_event *event = &engine->events[engine->n_events++];
    *event = (fws_event){.conn = conn, .kind = (uint8_t)kind, .data = data, .n = n};
    return event;
}

void fws_conn_allow(fws_engine *engine, fws_conn *conn, uint16_t messages)
{
    if (conn->state > FWS_OPEN)
        return; /* what comes behind our Close is thrown away, but theirs is waited for */
    if (conn->allowed == 0 && messages > 0)
        fws_engine_mark_ready(engine, conn);
    conn->allowed = messages;
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

/* WebSocket. */

static void take_close(fws_engine *engine, fws_conn *conn, const fws_message *message)
{
    if (conn->state == FWS_OPEN) {
        fws_conn_end(engine, conn, message->code, message->data, message->len);
    } else { /* the answer to ours: the server closes TCP first (RFC 6455 7.1.1) */
        conn->state = FWS_LINGER;
        conn->finish = true;
        fws_engine_mark_dirty(engine, conn);
    }
    conn->close_code = message->code;
    conn->reason_n = (uint32_t)message->len;
    memcpy(conn->reason, message->data, message->len);
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
        if (conn->pong_by != 0)
            conn->ping_at = fws_ping_due(engine, conn);
        conn->pong_by = 0;
        return;
    case FWS_CLOSE:
        take_close(engine, conn, message);
        return;
    default:
        break;
    }
    conn->messages_in++;
    conn->message_since = 0;
    if (open && conn->metered == NULL) {
        fws_event *event =
            fws_event_add(engine, conn, FWS_EVENT_MESSAGE, message->data, message->len);
        event->owned = message->owned;
        event->opcode = message->opcode;
        engine->owned_bytes += message->owned == NULL ? 0 : message->len;
        if (conn->allowed != FWS_ANY_MESSAGES && --conn->allowed == 0)
            engine->counters.handler_queue_full++;
        return;
    }
    if (open)
        fws_meter_message(engine->meter, conn->metered, message->opcode, message->data,
                          message->len, fws_header_size(message->len, false) + message->len,
                          engine->sys->realtime());
    free(message->owned); /* RFC 6455 1.4: nothing counts after our Close but theirs */
}

static bool between_messages(const fws_reader *reader)
{
    return !reader->parser.in_frame && reader->parser.have == 0 && reader->fragments == 0;
}

/* Whether the turn has as many messages as it may: in number, and in memory beyond the receive
 * buffer, for what is compressed may be a thousand times larger than what came in. */
static bool turn_full(const fws_engine *engine)
{
    return engine->n_events == FWS_EVENTS || engine->owned_bytes >= FWS_OWNED_BYTES;
}

/* Whether frames are still listened to. */
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
        if (turn_full(engine) || conn->allowed == 0) {
            if (!fws_hold(&conn->held, data, n))
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

static void receive_frames(fws_engine *engine, fws_conn *conn)
{
    uint8_t *room = engine->room + engine->room_used;
    size_t got = conn->held.n;
    if (got > 0) {
        memcpy(room, conn->held.data, got);
        fws_hold_drop(&conn->held, (uint32_t)got);
        fws_engine_mark_ready(engine, conn);
    } else {
        got = fws_receive_bytes(engine, conn, room, FWS_RECEIVE_CHUNK);
    }
    uint32_t before = engine->n_events;
    parse(engine, conn, room, got);
    if (engine->n_events > before) /* events point into it */
        engine->room_used += got;
    if (between_messages(&conn->reader))
        conn->message_since = 0;
    else if (conn->message_since == 0)
        conn->message_since = engine->now;
}

static void linger(fws_engine *engine, fws_conn *conn)
{
    uint8_t *room = engine->room + engine->room_used;
    ssize_t got = engine->sys->recv(conn->fd, room, FWS_RECEIVE_CHUNK, 0);
    if (got > 0 && !conn->finish) /* until then the deadline is what bounds it */
        conn->lingered += (uint32_t)got;
    if (got == 0 && conn->finish)
        return; /* it has said all it has to say, but still reads */
    if (got == 0 || conn->lingered > FWS_LINGER_BYTES
        || (got < 0 && errno != EAGAIN && errno != EINTR))
        fws_conn_kill(engine, conn, conn->close_code);
    else if (got > 0 || errno == EINTR)
        fws_engine_mark_ready(engine, conn);
}

static void receive(fws_engine *engine, fws_conn *conn)
{
    if (conn->state != FWS_LINGER && conn->outbox.bytes > fws_held_back_above(engine))
        conn->held_back = true;
    if (conn->state == FWS_LINGER)
        linger(engine, conn);
    else if (conn->state == FWS_WAITING && conn->hung_up)
        fws_conn_end(engine, conn, 0, NULL, 0); /* nobody waits for the decision */
    else if (conn->ending || conn->allowed == 0 || conn->held_back || conn->state == FWS_WAITING)
        return; /* whoever changes that marks it ready again */
    else if (conn->state == FWS_RAW || conn->state == FWS_BODY)
        fws_receive_http(engine, conn);
    else
        receive_frames(engine, conn);
}

bool fws_engine_more(const fws_engine *engine)
{
    if (engine->woken || engine->n_ready > 0 || engine->n_dirty > 0
        || engine->source_at <= engine->now)
        return true;
    if (engine->dirty_topics != NULL || engine->passing != NULL || engine->first_dead != NULL)
        return true;
    for (uint32_t i = 0; i < engine->n_listeners; i++)
        if (engine->listener_ready[i])
            return true;
    return false;
}

/* Reads each of a ring once, but `most` at most; the others go first next time. */
static void read_ring(fws_engine *engine, fws_link *ring, uint32_t most)
{
    const fws_link *last = ring->previous, *link = NULL;
    for (uint32_t n = 0; n < most && link != last && ring->next != ring; n++) {
        if (turn_full(engine) || FWS_RECEIVE_ROOM - engine->room_used < 2 * FWS_RECEIVE_CHUNK)
            return;
        if (n % 16 == 15 && engine->sys->monotonic() - engine->now > FWS_TURN_NS)
            return; /* what raises no event costs time, too */
        link = ring->next;
        fws_conn *conn = FWS_CONTAINER(ring->next, fws_conn, ready);
        engine->n_ready -= fws_link_remove(&conn->ready);
        receive(engine, conn);
    }
}

int fws_engine_harvest(fws_engine *engine, int timeout_ms)
{
    for (uint32_t i = 0; i < engine->n_events; i++)
        free(engine->events[i].owned);
    engine->n_events = 0;
    engine->room_used = engine->owned_bytes = 0;
    fws_engine_drain(engine);
    if (!fws_engine_poll(engine, fws_engine_more(engine) ? 0 : timeout_ms))
        return FWS_E_SYSTEM;
    if (engine->now >= engine->sweep_at)
        fws_engine_sweep(engine);
    fws_engine_accept(engine); /* after the sweep: its grace is not for newcomers */
    /* Few, for a handshake costs its owner many times what a message does; but first, so that
     * those who are in never keep the others out. */
    read_ring(engine, &engine->http, FWS_HTTP_BATCH);
    read_ring(engine, &engine->ready, UINT32_MAX);
    return (int)engine->n_events;
}
