/* Frames of our own, compression, and the send call. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/engine_internal.h"
#include "wire/mask.h"

void fws_conn_block(fws_engine *engine, fws_conn *conn)
{
    conn->blocked = true;
    if (conn->lagging)
        return;
    /* Nothing was offered before: that was no stall, and what is old is not so by its fault. */
    conn->progress = fws_engine_time(engine);
    conn->lag_since = engine->now;
    for (uint32_t i = 0; i < conn->n_pending; i++)
        if (conn->heap[i].sub->counted)
            fws_sub_refused(conn->heap[i].sub);
    conn->lagging = true;
    fws_link_append(&engine->lagging, &conn->lagging_link);
    fws_conn_due(engine, conn, 0);
}

void fws_conn_unblock(fws_engine *engine, fws_conn *conn)
{
    conn->blocked = false;
    fws_engine_mark_dirty(engine, conn);
}

void fws_conn_caught_up(fws_engine *engine, fws_conn *conn)
{
    conn->caught_up = engine->now;
    if (conn->lagging) { /* else this is as it was, and not in the cache */
        fws_link_remove(&conn->lagging_link);
        conn->lagging = false;
        conn->hold_since = 0;
    }
    if (conn->state == FWS_HTTP && conn->answered && conn->inbuf.n == 0)
        fws_later(&conn->deadline, fws_engine_time(engine) + engine->options.keep_alive_ns);
    else if (conn->state == FWS_CLOSING)
        fws_later(&conn->deadline, fws_engine_time(engine) + engine->options.close_ns);
}

static int push(fws_engine *engine, fws_conn *conn, uint8_t opcode, unsigned rsv, uint64_t eseq,
                const uint8_t *data, size_t n)
{
    uint8_t head[FWS_HEADER_MAX], key[4];
    bool masked = conn->role == FWS_CLIENT;
    if (masked && getrandom(key, sizeof key, 0) != sizeof key) /* RFC 6455 10.3 */
        return FWS_E_SYSTEM;
    size_t head_n = fws_header_encode(head, opcode, true, rsv, n, masked ? key : NULL);
    enum fws_entry_kind kind = opcode == FWS_CLOSE                        ? FWS_ENTRY_CLOSE
                               : opcode == FWS_PING || opcode == FWS_PONG ? FWS_ENTRY_CONTROL
                                                                          : FWS_ENTRY_BYTES;
    uint8_t *frame = fws_outbox_push(&conn->outbox, eseq, kind, opcode, head, head_n, data, n);
    if (frame == NULL)
        return FWS_E_NOMEM;
    if (masked)
        fws_mask(frame + head_n, n, key, 0);
    fws_conn_count_out(engine, conn);
    fws_engine_mark_dirty(engine, conn);
    return FWS_OK;
}

int fws_conn_push_frame(fws_engine *engine, fws_conn *conn, uint8_t opcode, uint64_t eseq,
                        const uint8_t *data, size_t n)
{
    unsigned rsv = conn->window_bits == 0 ? 0 : fws_conn_compress(engine, conn, opcode, &data, &n);
    return push(engine, conn, opcode, rsv, eseq, data, n);
}

static void shrink(fws_engine *engine, const fws_conn *conn, const fws_shared *message,
                   struct fws_shrunk *shrunk)
{
    const uint8_t *data = message->data;
    size_t n = message->n;
    shrunk->known = true;
    if (fws_conn_compress(engine, conn, message->opcode, &data, &n) == 0)
        return;
    shrunk->data = malloc(n);
    if (shrunk->data == NULL)
        return; /* it leaves as it is */
    memcpy(shrunk->data, data, n);
    shrunk->n = n;
}

int fws_conn_push_shared(fws_engine *engine, fws_conn *conn, uint64_t eseq, fws_shared *message)
{
    if (conn->window_bits == 0)
        return push(engine, conn, message->opcode, 0, eseq, message->data, message->n);
    struct fws_shrunk *shrunk = &message->shrunk[conn->window_bits - FWS_WINDOW_MIN];
    if (!shrunk->known)
        shrink(engine, conn, message, shrunk);
    if (shrunk->data == NULL)
        return push(engine, conn, message->opcode, 0, eseq, message->data, message->n);
    return push(engine, conn, message->opcode, FWS_RSV1, eseq, shrunk->data, shrunk->n);
}

void fws_shared_clear(fws_shared *message)
{
    for (unsigned i = 0; i < FWS_WINDOWS; i++)
        free(message->shrunk[i].data);
}

/* 1: all that was planned is gone; 0: the socket is full; negative: it is dead. */
int fws_conn_send_plan(fws_engine *engine, fws_conn *conn)
{
    fws_plan *plan = &engine->plan;
    struct msghdr message = {.msg_iov = plan->iov, .msg_iovlen = plan->n_iov};
    ssize_t sent;
    do {
        engine->counters.sends++;
        sent = engine->sys->sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        int why = errno;
        fws_commit(conn, plan, 0);
        engine->counters.would_block += why == EAGAIN;
        engine->counters.send_failures += why != EAGAIN;
        conn->retry = why == ENOBUFS || why == ENOMEM; /* no edge will announce memory */
        return why == EAGAIN || conn->retry ? 0 : -1;
    }
    fws_commit(conn, plan, (size_t)sent);
    if (fws_partial_torn(conn))
        return -1;
    conn->progress = fws_engine_time(engine);
    if (conn->unacked != NULL && !conn->asked_for) {
        conn->asked_for = true;
        engine->slots[(uint32_t)conn->id].unacked = 1;
    }
    return (size_t)sent == plan->bytes;
}

int fws_conn_deflate(fws_engine *engine, fws_conn *conn, unsigned window_bits)
{
    if (window_bits < FWS_WINDOW_MIN || window_bits > FWS_WINDOW_MAX || !fws_deflate_available())
        return FWS_E_INVALID;
    if (conn->state != FWS_WAITING)
        return FWS_E_CLOSED;
    if (engine->codec == NULL) {
        engine->codec = fws_deflate_new();
        if (engine->codec == NULL)
            return FWS_E_NOMEM;
        fws_deflate_bound(engine->codec, engine->sys->monotonic, FWS_DEFLATE_NS);
    }
    conn->window_bits = (uint8_t)window_bits;
    fws_reader_inflate(&conn->reader, engine->codec);
    return FWS_OK;
}

unsigned fws_conn_compress(fws_engine *engine, const fws_conn *conn, uint8_t opcode,
                           const uint8_t **data, size_t *n)
{
    if (opcode >= FWS_CLOSE) /* RFC 7692 5: control frames are never compressed */
        return 0;
    size_t shrunk = fws_deflate_message(engine->codec, conn->window_bits, *data, *n, data);
    engine->counters.deflated = fws_deflate_calls(engine->codec);
    if (shrunk == 0)
        return 0;
    *n = shrunk;
    return FWS_RSV1;
}
