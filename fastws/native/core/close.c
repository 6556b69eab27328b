/* The end of a connection: RFC 6455 7, from the first Close to the closed descriptor. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"
#include "core/wildcards.h"

/* The legal moves (RFC 6455 4 and 7): from each state, the set of those that may follow. */
#define TO(state) (1U << FWS_##state)
static const uint16_t legal[] __attribute__((unused)) = {
    [FWS_HTTP] = TO(WAITING) | TO(DRAINING) | TO(DEAD),
    [FWS_WAITING] = TO(HTTP) | TO(BODY) | TO(OPEN) | TO(DRAINING) | TO(DEAD),
    [FWS_BODY] = TO(WAITING) | TO(DRAINING) | TO(DEAD),
    [FWS_OPEN] = TO(CLOSING) | TO(DRAINING) | TO(DEAD),
    [FWS_CLOSING] = TO(DRAINING) | TO(DEAD),
    [FWS_DRAINING] = TO(DRAINING) | TO(LINGER) | TO(DEAD),
    [FWS_LINGER] = TO(DEAD),
    [FWS_DEAD] = 0,
};

void fws_conn_move(fws_conn *conn, enum fws_state state)
{
    assert(legal[conn->state] & (1U << state));
    conn->state = (uint8_t)state;
}

void fws_conn_kill(fws_engine *engine, fws_conn *conn, uint16_t code)
{
    if (conn->state == FWS_DEAD)
        return;
    if (conn->close_code == 1006 || conn->close_code == 0)
        conn->close_code = code;
    fws_conn_acknowledge(engine, conn);
    fws_conn_leave_all(conn);
    fws_partial_drop(conn);
    fws_conn_clear_subs(conn);
    fws_link_remove(&conn->lagging_link);
    engine->n_ready -= fws_link_remove(&conn->ready);
    engine->n_dirty -= fws_link_remove(&conn->dirty);
    if (engine->reading == conn)
        engine->reading = NULL;
    engine->sys->epoll_ctl(engine->epoll, EPOLL_CTL_DEL, conn->fd, NULL);
    engine->sys->shutdown(conn->fd, SHUT_RDWR);
    fws_conn_uncount(engine, conn);
    fws_conn_move(conn, FWS_DEAD);
    conn->next_dead = engine->first_dead;
    engine->first_dead = conn;
}

/* Unsent bytes remain: reset, or the kernel would retransmit them for minutes. */
void fws_conn_cut_off(fws_engine *engine, fws_conn *conn)
{
    if (conn->state != FWS_DEAD && fws_conn_pending(conn))
        engine->sys->reset_at_close(conn->fd);
    fws_conn_kill(engine, conn, 1006);
}

void fws_engine_reap(fws_engine *engine)
{
    while (engine->first_dead != NULL) {
        fws_conn *conn = engine->first_dead;
        engine->first_dead = conn->next_dead;
        engine->sys->close(conn->fd);
        fws_outbox_clear(&conn->outbox);
        fws_reader_clear(&conn->reader);
        fws_engine_forget_peer(engine, conn);
        free(conn->inbuf.data);
        free(conn->metered);
        free(conn->received_reason);
        free(conn->own_reason);
        free(conn->asked);
        fws_slot_release(engine, conn);
    }
}

void fws_conn_serve_out(fws_engine *engine, fws_conn *conn)
{
    fws_conn_move(conn, FWS_DRAINING);
    fws_conn_give_time(engine, conn, engine->options.close_ns);
    fws_engine_mark_dirty(engine, conn);
}

/* False: memory is out, and an empty one is kept. Without that a connection holds none. */
static bool keep_reason(fws_bytes **kept, const uint8_t *text, size_t n)
{
    if (*kept != NULL && (*kept)->data == text)
        return true;
    free(*kept);
    *kept = n == 0 ? NULL : malloc(sizeof **kept + n);
    if (*kept == NULL)
        return n == 0;
    (*kept)->n = (uint8_t)n;
    memcpy((*kept)->data, text, n);
    return true;
}

void fws_conn_take_close(fws_engine *engine, fws_conn *conn, const fws_message *message)
{
    conn->peer_first = conn->state == FWS_OPEN;
    if (conn->state == FWS_OPEN) {
        fws_conn_end(engine, conn, message->code, message->data, message->len);
    } else { /* the answer to ours: the server closes TCP first (RFC 6455 7.1.1) */
        fws_conn_move(conn, FWS_DRAINING);
        fws_engine_mark_dirty(engine, conn);
    }
    conn->close_code = conn->received_code = message->code;
    (void)keep_reason(&conn->received_reason, message->data, message->len);
}

void fws_conn_linger(fws_engine *engine, fws_conn *conn)
{
    ssize_t got = engine->sys->recv(conn->fd, engine->room, FWS_RECEIVE_CHUNK, 0);
    if (got > 0 && conn->state == FWS_LINGER) /* until then the deadline is what bounds it */
        conn->lingered += (uint32_t)got;
    if (got == 0 && conn->state == FWS_DRAINING)
        return; /* the peer will send no more, but still reads */
    if (got == 0 || conn->lingered > FWS_LINGER_BYTES
        || (got < 0 && errno != EAGAIN && errno != EINTR))
        fws_conn_kill(engine, conn, conn->close_code);
    else if (got > 0 || errno == EINTR)
        fws_engine_mark_ready(engine, conn);
}

int fws_conn_push_close(fws_engine *engine, fws_conn *conn, uint16_t code, const uint8_t *reason,
                        size_t reason_n)
{
    uint8_t payload[FWS_CONTROL_MAX] = {(uint8_t)(code >> 8), (uint8_t)code};
    size_t code_n = code == 1005 ? 0 : 2; /* RFC 6455 7.1.5: 1005 is never on the wire */
    if (reason_n > (code_n == 0 ? 0 : FWS_REASON_MAX))
        return FWS_E_INVALID;
    if (reason_n > 0)
        memcpy(payload + 2, reason, reason_n);
    if (!keep_reason(&conn->own_reason, reason, reason_n))
        return FWS_E_NOMEM;
    int status =
        fws_conn_push_frame(engine, conn, FWS_CLOSE, ++engine->eseq, payload, code_n + reason_n);
    if (status == FWS_OK)
        conn->own_code = code;
    else
        (void)keep_reason(&conn->own_reason, NULL, 0);
    return status;
}

void fws_conn_end(fws_engine *engine, fws_conn *conn, uint16_t code, const uint8_t *reason,
                  size_t reason_n)
{
    if (conn->ending || conn->state == FWS_DEAD)
        return;
    conn->ending = true;
    conn->ending_code = code;
    if (code != 0 && conn->state < FWS_CLOSING) { /* else another Close of ours is what goes out */
        conn->close_code = code;
        (void)keep_reason(&conn->own_reason, reason, reason_n); /* it goes without, at worst */
    }
    fws_engine_mark_dirty(engine, conn);
}

void fws_conn_end_slow(fws_engine *engine, fws_conn *conn)
{
    static const uint8_t reason[] = "slow consumer";
    engine->counters.slow_closed++;
    conn->slow = true;
    fws_conn_end(engine, conn, fws_close_code(FWS_E_SLOW), reason, sizeof reason - 1);
}

void fws_conn_fail(fws_engine *engine, fws_conn *conn, int status)
{
    const fws_limits *limits = &engine->options.limits;
    char reason[FWS_REASON_MAX + 1];
    int n = 0;
    if (status == FWS_E_TOO_BIG)
        n = snprintf(reason, sizeof reason, "over max_message_size: %llu bytes",
                     (unsigned long long)limits->max_message_size);
    else if (status == FWS_E_FRAGMENTS)
        n = snprintf(reason, sizeof reason, "over max_fragments: %u", limits->max_fragments);
    else if (status == FWS_E_NOMEM)
        n = snprintf(reason, sizeof reason, "out of memory");
    fws_conn_end(engine, conn, fws_close_code(status), (const uint8_t *)reason,
                 n > 0 ? (size_t)n : 0);
}

void fws_conn_leave_all(fws_conn *conn)
{
    fws_conn_drop_wilds(conn);
    /* Meanwhile others move up into its place, and the table shrinks. */
    for (uint32_t i = 0; conn->n_subs > 0; i++)
        while (conn->n_subs > 0 && conn->subs[i & (conn->capacity_subs - 1)] != NULL)
            fws_topic_leave(conn->subs[i & (conn->capacity_subs - 1)]);
}

static int push_ending(fws_engine *engine, fws_conn *conn)
{
    const fws_bytes *reason = conn->own_reason;
    return fws_conn_push_close(engine, conn, conn->ending_code,
                               reason == NULL ? NULL : reason->data,
                               reason == NULL ? 0 : reason->n);
}

void fws_conn_begin_ending(fws_engine *engine, fws_conn *conn)
{
    conn->ending = false;
    if (conn->ending_code == 0) {
        fws_conn_kill(engine, conn, 1006);
        return;
    }
    fws_conn_acknowledge(engine, conn);
    fws_conn_leave_all(conn);
    if (conn->slow) /* not before: a handler of this turn may still have sent something */
        fws_outbox_drop_unsent(&conn->outbox);
    fws_conn_count_out(engine, conn);
    if (conn->state == FWS_OPEN /* else a Close of ours is there already */
        && push_ending(engine, conn) != FWS_OK) {
        fws_conn_kill(engine, conn, conn->ending_code);
        return;
    }
    if (conn->state < FWS_CLOSING) /* else its time runs already */
        fws_conn_give_time(engine, conn, engine->options.close_ns);
    if (conn->state != FWS_LINGER)
        fws_conn_move(conn, FWS_DRAINING);
    fws_engine_mark_ready(engine, conn); /* while it was ending it was not read */
}

/* Everything is sent: writing is shut down, and what still comes is read and thrown away
 * for a while, because a reset would destroy what the peer has not read yet. */
bool fws_conn_finish(fws_engine *engine, fws_conn *conn)
{
    if (fws_conn_pending(conn))
        return false;
    fws_conn_move(conn, FWS_LINGER);
    engine->sys->shutdown(conn->fd, SHUT_WR);
    fws_conn_give_time(engine, conn, FWS_LINGER_NS);
    fws_engine_mark_ready(engine, conn);
    return true;
}
