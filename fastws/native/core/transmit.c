#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>

#include "core/engine_internal.h"
#include "wire/mask.h"

#define BACKLOG_BATCHES 32 /* of FWS_SOURCE_BATCH: half of a log's common retention */

void fws_engine_mark_dirty(fws_engine *engine, fws_conn *conn)
{
    if (conn->dirty.next != NULL || conn->state == FWS_DEAD || (conn->blocked && !conn->ending))
        return; /* a blocked one comes back when its socket is writable */
    fws_link_append(&engine->dirty, &conn->dirty);
    engine->n_dirty++;
}

void fws_engine_mark_topic(fws_engine *engine, fws_topic *topic)
{
    if (topic->dirty || topic->active == 0)
        return;
    topic->dirty = true;
    topic->next_dirty = NULL;
    *engine->dirty_end = topic;
    engine->dirty_end = &topic->next_dirty;
}

static void block(const fws_engine *engine, fws_conn *conn)
{
    if (!conn->lagging)
        conn->progress = engine->now; /* nothing was offered before: that was no stall */
    conn->blocked = conn->lagging = true;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_topic_block(sub);
}

void fws_conn_unblock(fws_engine *engine, fws_conn *conn)
{
    conn->blocked = false;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_topic_unblock(sub);
    fws_engine_mark_dirty(engine, conn);
}

/* Frames of our own. */

int fws_conn_push_frame(fws_engine *engine, fws_conn *conn, uint8_t opcode, uint64_t eseq,
                        const uint8_t *data, size_t n)
{
    uint8_t head[FWS_HEADER_MAX], key[4];
    bool masked = conn->role == FWS_CLIENT;
    if (masked && getrandom(key, sizeof key, 0) != sizeof key) /* RFC 6455 10.3 */
        return FWS_E_SYSTEM;
    unsigned rsv = conn->window_bits == 0 ? 0 : fws_conn_compress(engine, conn, opcode, &data, &n);
    size_t head_n = fws_header_encode(head, opcode, true, rsv, n, masked ? key : NULL);
    enum fws_entry_kind kind = opcode == FWS_CLOSE                        ? FWS_ENTRY_CLOSE
                               : opcode == FWS_PING || opcode == FWS_PONG ? FWS_ENTRY_CONTROL
                                                                          : FWS_ENTRY_BYTES;
    fws_entry *entry = fws_outbox_push(&conn->outbox, eseq, kind, opcode, head, head_n, data, n);
    if (entry == NULL)
        return FWS_E_NOMEM;
    if (masked)
        fws_mask(entry->data + head_n, n, key, 0);
    fws_engine_mark_dirty(engine, conn);
    return FWS_OK;
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
    return fws_conn_push_frame(engine, conn, FWS_CLOSE, ++engine->eseq, payload, code_n + reason_n);
}

/* The end of a connection. */

void fws_conn_say_why(fws_conn *conn, uint16_t code, const uint8_t *reason, size_t reason_n)
{
    conn->close_code = code;
    conn->reason_n = (uint32_t)reason_n;
    if (reason_n > 0)
        memcpy(conn->reason, reason, reason_n);
}

void fws_conn_end(fws_engine *engine, fws_conn *conn, uint16_t code, const uint8_t *reason,
                  size_t reason_n)
{
    if (conn->ending || conn->state == FWS_DEAD)
        return;
    conn->ending = true;
    conn->ending_code = code;
    if (code != 0 && conn->state < FWS_CLOSING) /* else another Close of ours is what goes out */
        fws_conn_say_why(conn, code, reason, reason_n);
    fws_engine_mark_dirty(engine, conn);
}

void fws_conn_end_slow(fws_engine *engine, fws_conn *conn)
{
    static const uint8_t reason[] = "slow consumer";
    engine->counters.slow_closed++;
    conn->slow = true;
    fws_conn_end(engine, conn, fws_close_code(FWS_E_SLOW), reason, sizeof reason - 1);
}

static void leave_all(fws_conn *conn)
{
    while (conn->subs != NULL)
        fws_topic_leave(conn->subs);
}

static void begin_ending(fws_engine *engine, fws_conn *conn)
{
    conn->ending = false;
    if (conn->ending_code == 0) {
        fws_conn_kill(engine, conn, 1006);
        return;
    }
    fws_conn_acknowledge(engine, conn);
    leave_all(conn);
    if (conn->slow) /* not before: a handler of this turn may still have sent something */
        fws_outbox_drop_unsent(&conn->outbox);
    if (conn->state == FWS_OPEN /* else a Close of ours is there already */
        && fws_conn_push_close(engine, conn, conn->ending_code, conn->reason, conn->reason_n)
               != FWS_OK) {
        fws_conn_kill(engine, conn, conn->ending_code);
        return;
    }
    if (conn->state < FWS_CLOSING) /* else its time runs already */
        conn->deadline = engine->now + engine->options.close_ns;
    conn->state = FWS_LINGER;
    conn->finish = true;
}

/* Everything is sent: writing is shut down, and what still comes is read and thrown away
 * for a while, because a reset would destroy what the peer has not read yet. */
static void finish(fws_engine *engine, fws_conn *conn)
{
    if (fws_conn_pending(conn))
        return;
    conn->finish = false;
    engine->sys->shutdown(conn->fd, SHUT_WR);
    conn->deadline = engine->now + FWS_LINGER_NS;
    fws_engine_mark_ready(engine, conn);
}

uint64_t fws_conn_confirmed(const fws_engine *engine, const fws_conn *conn)
{
    int waiting;
    if (!conn->acknowledges || engine->sys->unacknowledged(conn->fd, &waiting) < 0)
        return conn->bytes_written;
    /* More may wait than the engine wrote: the FIN, what was sent before it took the socket. */
    uint64_t unsure = (uint64_t)waiting, written = conn->bytes_written;
    return written > unsure ? written - unsure : 0;
}

void fws_conn_acknowledge(fws_engine *engine, fws_conn *conn)
{
    if (!conn->acknowledges || (conn->subs == NULL && conn->parted == NULL))
        return;
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    fws_parted_acknowledge(conn, confirmed);
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_sub_acknowledge(sub, confirmed);
}

/* Sending. */

/* 1: all that was planned is gone; 0: the socket is full; negative: it is dead. */
static int send_plan(fws_engine *engine, fws_conn *conn)
{
    fws_plan *plan = &engine->plan;
    struct msghdr message = {.msg_iov = plan->iov, .msg_iovlen = plan->n};
    ssize_t sent;
    do {
        engine->counters.sends++;
        sent = engine->sys->sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        if (errno == EAGAIN) {
            engine->counters.would_block++;
            return 0;
        }
        engine->counters.send_failures++;
        conn->retry = errno == ENOBUFS || errno == ENOMEM; /* no edge will announce memory */
        return conn->retry ? 0 : -1;
    }
    fws_commit(conn, plan, (size_t)sent);
    conn->progress = engine->now;
    return (size_t)sent == plan->bytes;
}

/* A burst is not the reader's fault: one whose socket has never been full is first offered what
 * there is, however much, unless the log has lost it already. */
static bool settle(fws_engine *engine, fws_conn *conn)
{
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        if ((conn->lagging || fws_sub_lapped(sub)) && fws_sub_settle(sub) != FWS_OK) {
            fws_conn_end_slow(engine, conn);
            return false;
        }
    return true;
}

static void caught_up(const fws_engine *engine, fws_conn *conn)
{
    conn->lagging = false;
    conn->caught_up = engine->now;
}

/* One call's worth for one connection; what is left over stays dirty. */
static void flush_conn(fws_engine *engine, fws_conn *conn)
{
    if (conn->ending || !settle(engine, conn))
        begin_ending(engine, conn);
    if (conn->state == FWS_DEAD || conn->blocked)
        return;
    if (conn->window_bits != 0)
        fws_conn_derive(engine, conn);
    fws_gather(conn, &engine->plan);
    if (engine->plan.bytes > 0) {
        int status = send_plan(engine, conn);
        if (status < 0) {
            fws_conn_kill(engine, conn, 1006);
            return;
        }
        if (conn->close_sent)
            leave_all(conn);
        if (conn->held_back && conn->outbox.bytes <= fws_held_back_above(engine) / 2) {
            conn->held_back = false;
            fws_engine_mark_ready(engine, conn);
        }
        if (status == 0)
            block(engine, conn);
        else if (!conn->finish && fws_conn_pending(conn))
            fws_engine_mark_dirty(engine, conn);
        else
            caught_up(engine, conn);
        if (conn->subs != NULL && conn->subs->n_marks == FWS_MARKS)
            fws_conn_acknowledge(engine, conn);
    }
    if (conn->finish && !conn->blocked) {
        finish(engine, conn);
        if (conn->finish)
            fws_engine_mark_dirty(engine, conn);
    }
}

static bool out_of_time(const fws_engine *engine, uint64_t deadline)
{
    return engine->sys->monotonic() >= deadline;
}

static void flush_dirty(fws_engine *engine, uint64_t deadline)
{
    for (uint32_t left = engine->n_dirty; left > 0 && engine->n_dirty > 0; left--) {
        fws_conn *conn = FWS_CONTAINER(engine->dirty.next, fws_conn, dirty);
        engine->n_dirty -= fws_link_remove(&conn->dirty);
        flush_conn(engine, conn);
        if (left % 16 == 0 && out_of_time(engine, deadline))
            return;
    }
}

static fws_topic *pop_topic(fws_engine *engine)
{
    fws_topic *topic = engine->dirty_topics;
    if (topic == NULL)
        return NULL;
    engine->dirty_topics = topic->next_dirty;
    if (engine->dirty_topics == NULL)
        engine->dirty_end = &engine->dirty_topics;
    topic->dirty = false;
    fws_topic_begin_pass(topic);
    engine->counters.passes++;
    return topic;
}

/* True when all passes are complete. */
static bool run_passes(fws_engine *engine, uint64_t deadline)
{
    uint32_t sends = 0;
    if (engine->passing == NULL)
        engine->passing = pop_topic(engine);
    while (engine->passing != NULL) {
        fws_sub *sub = fws_topic_next(engine->passing);
        if (sub == NULL)
            engine->passing = pop_topic(engine);
        else
            flush_conn(engine, sub->conn);
        if (++sends % 16 == 0 && out_of_time(engine, deadline))
            return engine->passing == NULL;
    }
    return true;
}

static void run_source(fws_engine *engine)
{
    engine->now = engine->sys->monotonic();
    if (fws_source_run(&engine->source, engine->now, engine->sys->realtime(), &engine->eseq) > 0)
        fws_engine_mark_topic(engine, engine->source.topic);
}

void fws_engine_set_rate(fws_engine *engine, uint64_t rate, bool max)
{
    engine->now = engine->sys->monotonic();
    /* What is due by now is sent at the old rate, unless that is more than anybody could take. */
    for (int batch = 0; batch < BACKLOG_BATCHES && !engine->source.max; batch++) {
        run_source(engine);
        if (!engine->source.behind)
            break;
    }
    fws_source_set_rate(&engine->source, engine->now, rate, max);
    engine->source_at = 0;
}

static void arm_timer(fws_engine *engine)
{
    bool sweeps = engine->live > 0 || engine->accept_stalled;
    uint64_t at =
        sweeps && engine->sweep_at < engine->source_at ? engine->sweep_at : engine->source_at;
    if (at == engine->timer_at || at == 0 || at == UINT64_MAX)
        return; /* 0: at once, and fws_engine_more() says so */
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)}};
    timerfd_settime(engine->timer, TFD_TIMER_ABSTIME, &when, NULL);
    engine->timer_at = at;
}

/* At max rate it is the sockets that set the pace: wait for one here, without the
 * owner. False when the owner is needed, or nothing came. */
static bool wait_for_room(fws_engine *engine, uint64_t deadline)
{
    if (!engine->source.max || !engine->source.running || out_of_time(engine, deadline))
        return false;
    int timeout_ms = engine->source_at == 0 || engine->n_dirty > 0 ? 0 : 1;
    return fws_engine_poll(engine, timeout_ms) && engine->n_ready == 0
           && engine->first_dead == NULL;
}

void fws_engine_flush(fws_engine *engine, uint64_t budget_ns)
{
    uint64_t deadline = engine->sys->monotonic() + budget_ns;
    engine->waiting_bytes = 0;
    do {
        flush_dirty(engine, deadline);
        if (!run_passes(engine, deadline))
            break;
        run_source(engine);
        if (!run_passes(engine, deadline))
            break;
        /* Not before the pass: what has left makes room. */
        engine->source_at = fws_source_next(&engine->source, engine->now);
    } while (engine->source_at <= engine->now ? !out_of_time(engine, deadline)
                                              : wait_for_room(engine, deadline));
    engine->now = engine->sys->monotonic();
    engine->source_at = fws_source_next(&engine->source, engine->now);
    arm_timer(engine);
}

uint64_t fws_engine_load(const fws_engine *engine)
{
    uint64_t sends = engine->n_dirty;
    if (engine->source.running)
        sends += engine->source.max ? FWS_EVENTS : engine->source.topic->active;
    if (engine->passing != NULL)
        sends += engine->passing->active;
    for (fws_topic *topic = engine->dirty_topics; topic != NULL; topic = topic->next_dirty)
        sends += topic->active;
    return sends;
}
