#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine_internal.h"

/* What happened. */

void fws_engine_mark_ready(fws_engine *engine, fws_conn *conn)
{
    if (conn->ready.next != NULL || conn->state == FWS_DEAD)
        return;
    fws_link_append(&engine->ready, &conn->ready);
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
    struct epoll_event events[256];
    int n = engine->sys->epoll_wait(engine->epoll, events, 256, timeout_ms);
    engine->now = engine->sys->monotonic();
    if (n < 0)
        return errno == EINTR;
    for (int i = 0; i < n; i++)
        sort_event(engine, events[i].data.u64, events[i].events);
    return true;
}

/* Bytes held over. */

static bool hold(fws_held *held, const uint8_t *data, size_t n)
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

static void hold_drop(fws_held *held, uint32_t n)
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

/* Bytes of the peer, or 0 when there are none now; an end or an error ends the connection. */
static size_t receive_bytes(fws_engine *engine, fws_conn *conn, uint8_t *room, size_t n)
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
    else if (got == 0 || errno != EAGAIN)
        fws_conn_end(engine, conn, 0, NULL, 0);
    return 0;
}

static fws_event *event_add(fws_engine *engine, fws_conn *conn, enum fws_event_kind kind,
                            const uint8_t *data, size_t n)
{
    fws_event *event = &engine->events[engine->n_events++];
    *event = (fws_event){.conn = conn, .kind = (uint8_t)kind, .data = data, .n = n};
    conn->known = true;
    return event;
}

/* HTTP. */

/* The size of a head that ends with an empty line, 0 while there is none. A bare LF ends a line
 * too, so that a head that uses it is answered and not waited for. */
static uint32_t head_end(fws_held *held)
{
    uint32_t from = held->scanned < 2 ? 0 : held->scanned - 2;
    const uint8_t *data = held->data, *end = data + held->n, *at = data + from;
    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if (end - at >= 1 && at[0] == '\n')
            return (uint32_t)(at + 1 - data);
        if (end - at >= 2 && at[0] == '\r' && at[1] == '\n')
            return (uint32_t)(at + 2 - data);
    }
    held->scanned = held->n;
    return 0;
}

/* Raises the event that is due once a head or a body is whole. */
static bool http_advance(fws_engine *engine, fws_conn *conn)
{
    fws_held *held = &conn->held;
    enum fws_event_kind kind = FWS_EVENT_BODY;
    uint32_t n = conn->state == FWS_BODY && held->n >= conn->body_n ? conn->body_n : 0;
    if (conn->state == FWS_RAW && held->n > 0) {
        kind = FWS_EVENT_HEAD;
        n = head_end(held);
        if (n == 0 && held->n >= engine->options.head_limit) {
            kind = FWS_EVENT_HEAD_LIMIT;
            n = held->n;
        }
    }
    if (n == 0)
        return false;
    event_add(engine, conn, kind, held->data, n);
    held->scanned = n; /* taken off when the owner has decided */
    conn->state = FWS_WAITING;
    return true;
}

static void receive_http(fws_engine *engine, fws_conn *conn)
{
    if (http_advance(engine, conn))
        return;
    uint32_t want = conn->state == FWS_BODY ? conn->body_n : engine->options.head_limit;
    size_t n = want - conn->held.n;
    if (n > FWS_RECEIVE_CHUNK)
        n = FWS_RECEIVE_CHUNK;
    uint8_t *room = engine->room + engine->room_used;
    size_t got = receive_bytes(engine, conn, room, n);
    if (got == 0)
        return;
    if (!hold(&conn->held, room, got))
        fws_conn_kill(engine, conn, 1006);
    else
        http_advance(engine, conn);
}

static int decided(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n)
{
    if (conn->state != FWS_WAITING)
        return FWS_E_CLOSED;
    /* Ahead of everything: a pong to what lies behind the head may be next. */
    if (n > 0 && !fws_outbox_push(&conn->outbox, 0, FWS_ENTRY_BYTES, 0, data, n, NULL, 0))
        return FWS_E_NOMEM;
    hold_drop(&conn->held, conn->held.scanned);
    fws_engine_mark_dirty(engine, conn);
    fws_engine_mark_ready(engine, conn); /* what lies behind the head, here or in the kernel */
    return FWS_OK;
}

int fws_conn_respond(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n,
                     bool keep_alive)
{
    int status = decided(engine, conn, data, n);
    if (status != FWS_OK)
        return status;
    conn->state = keep_alive ? FWS_RAW : FWS_LINGER;
    conn->finish = !keep_alive;
    conn->deadline = engine->now
                     + (keep_alive ? engine->options.keep_alive_ns : engine->options.close_ns);
    return FWS_OK;
}

int fws_conn_upgrade(fws_engine *engine, fws_conn *conn, const uint8_t *data, size_t n)
{
    int status = decided(engine, conn, data, n);
    if (status != FWS_OK)
        return status;
    conn->state = FWS_OPEN;
    conn->deadline = 0;
    return FWS_OK;
}

int fws_conn_expect_body(fws_engine *engine, fws_conn *conn, uint32_t body_n,
                         const uint8_t *data, size_t n)
{
    int status = body_n == 0 ? FWS_E_INVALID : decided(engine, conn, data, n);
    if (status != FWS_OK)
        return status;
    conn->state = FWS_BODY;
    conn->body_n = body_n;
    return FWS_OK;
}

void fws_conn_pause(fws_engine *engine, fws_conn *conn, bool paused)
{
    conn->paused = paused;
    if (!paused)
        fws_engine_mark_ready(engine, conn);
}

int fws_conn_meter(fws_engine *engine, fws_conn *conn)
{
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
        if (open) /* RFC 6455 5.5.2 */
            fws_conn_push_frame(engine, conn, FWS_PONG, 0, message->data, message->len);
        return;
    case FWS_PONG:
        return;
    case FWS_CLOSE:
        take_close(engine, conn, message);
        return;
    default:
        break;
    }
    conn->messages_in++;
    if (open && conn->metered == NULL) {
        fws_event *event = event_add(engine, conn, FWS_EVENT_MESSAGE, message->data, message->len);
        event->owned = message->owned;
        event->opcode = message->opcode;
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

/* Whether frames are still listened to. */
static bool parsing(const fws_conn *conn)
{
    return (conn->state == FWS_OPEN || conn->state == FWS_CLOSING) && !conn->ending;
}

static void parse(fws_engine *engine, fws_conn *conn, uint8_t *data, size_t n)
{
    while (n > 0 && parsing(conn)) {
        if (conn->metered != NULL && between_messages(&conn->reader)) {
            size_t used = fws_meter_scan(engine->meter, conn->metered, data, n,
                                         engine->sys->realtime());
            data += used;
            n -= used;
        }
        if (engine->n_events == FWS_EVENTS) {
            if (!hold(&conn->held, data, n))
                fws_conn_kill(engine, conn, 1006);
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
        hold_drop(&conn->held, (uint32_t)got);
        fws_engine_mark_ready(engine, conn);
    } else {
        got = receive_bytes(engine, conn, room, FWS_RECEIVE_CHUNK);
    }
    uint32_t before = engine->n_events;
    parse(engine, conn, room, got);
    if (engine->n_events > before) /* events point into it */
        engine->room_used += got;
}

static void linger(fws_engine *engine, fws_conn *conn)
{
    uint8_t *room = engine->room + engine->room_used;
    ssize_t got = engine->sys->recv(conn->fd, room, FWS_RECEIVE_CHUNK, 0);
    if (got > 0)
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
    if (conn->state == FWS_LINGER)
        linger(engine, conn);
    else if (conn->ending || conn->paused || conn->state == FWS_WAITING)
        return; /* whoever changes that marks it ready again */
    else if (conn->state == FWS_RAW || conn->state == FWS_BODY)
        receive_http(engine, conn);
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

int fws_engine_harvest(fws_engine *engine, int timeout_ms)
{
    for (uint32_t i = 0; i < engine->n_events; i++)
        free(engine->events[i].owned);
    engine->n_events = 0;
    engine->room_used = 0;
    fws_engine_drain(engine);
    if (!fws_engine_poll(engine, fws_engine_more(engine) ? 0 : timeout_ms))
        return FWS_E_SYSTEM;
    if (engine->now >= engine->sweep_at)
        fws_engine_sweep(engine);
    fws_engine_accept(engine); /* after the sweep: its grace is not for newcomers */
    for (uint32_t left = engine->n_ready; left > 0 && engine->n_ready > 0; left--) {
        if (engine->n_events == FWS_EVENTS
            || FWS_RECEIVE_ROOM - engine->room_used < 2 * FWS_RECEIVE_CHUNK)
            break;
        fws_conn *conn = FWS_CONTAINER(engine->ready.next, fws_conn, ready);
        engine->n_ready -= fws_link_remove(&conn->ready);
        receive(engine, conn);
    }
    return (int)engine->n_events;
}
