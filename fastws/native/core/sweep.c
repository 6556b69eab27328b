/* Every 250 ms, in portions: deadlines, pings, policies of blocked connections, acknowledgements. */

#include <string.h>

#include "core/engine_internal.h"

#define SLOTS 32768u      /* slots read in one turn */
#define STEPS 2048        /* and work done: a step is about 0.1 us */
#define LOOK 16           /* steps that a look at a connection takes, */
#define CALLS 64          /* and one with system calls: 32 pings leave in 0.2 ms */
#define ACKNOWLEDGE 4096u /* steps of looking for what the peers have confirmed in one pass */
#define PING_BYTES 10     /* of one, masked: that its own bytes are confirmed is no life */

static void time_out(fws_engine *engine, fws_conn *conn, uint64_t *counter)
{
    (*counter)++;
    fws_conn_cut_off(engine, conn);
}

/* The owner is late, not the peer: the peer shall have an answer. */
static void undecided(fws_engine *engine, fws_conn *conn)
{
    if (!conn->overdue) { /* else the turns have not come to it yet */
        engine->counters.handshake_timeouts += !conn->told_late; /* its owner is told again */
        conn->told_late = conn->overdue = true;
        fws_engine_mark_ready(engine, conn);
    }
}

static bool between_requests(const fws_conn *conn)
{
    return conn->state == FWS_HTTP && conn->answered && conn->inbuf.n == 0;
}

static uint64_t time_of_state(const fws_engine *engine, const fws_conn *conn)
{
    if (conn->state < FWS_OPEN)
        return between_requests(conn) ? engine->options.keep_alive_ns
                                      : engine->options.handshake_ns;
    return conn->state == FWS_LINGER ? FWS_LINGER_NS : engine->options.close_ns;
}

static bool waits_to_be_read(const fws_conn *conn)
{
    return (conn->state == FWS_HTTP || conn->state == FWS_BODY) && conn->ready.next != NULL;
}

void fws_conn_past_deadline(fws_engine *engine, fws_conn *conn)
{
    if (conn->state == FWS_WAITING) {
        undecided(engine, conn);
    } else if (waits_to_be_read(conn)) {
        conn->overdue = true; /* what it has sent by then is seen first */
    } else if (fws_conn_progresses(engine, conn)) {
        fws_conn_give_time(engine, conn, time_of_state(engine, conn));
    } else {
        if (conn->state < FWS_OPEN)
            (*(between_requests(conn) ? &engine->counters.keep_alive_timeouts
                                      : &engine->counters.handshake_timeouts))++;
        else if (conn->state != FWS_LINGER) /* lingering to the end is usual */
            engine->counters.close_timeouts++;
        fws_conn_cut_off(engine, conn);
    }
}

/* Looks at pending subscriptions from number `from` on, at most STEPS of them; the number that is
 * next. */
static uint32_t check_blocked(fws_engine *engine, fws_conn *conn, uint32_t from)
{
    /* Added, not subtracted: engine time may have been set back meanwhile. */
    bool stalled = fws_engine_time(engine) > conn->progress + engine->options.max_stall_ns;
    bool end = false;
    uint32_t i = from;
    for (; i < conn->n_pending && i - from < STEPS; i++) {
        fws_sub *sub = conn->heap[i].sub;
        if (sub->left)
            continue;
        end |= fws_sub_apply_policy(sub) != FWS_OK
               || (stalled && fws_sub_options(sub)->on_slow == FWS_SLOW_LOSSLESS);
        fws_topic_passed(sub->topic);
    }
    if (end)
        fws_conn_end_slow(engine, conn);
    return i;
}

/* Not only of a blocked one: it may have taken a little just now. */
static void check_holding(fws_engine *engine, fws_conn *conn)
{
    uint64_t rate = 0;
    for (uint32_t i = 0; i < conn->n_pending && i < STEPS; i++) {
        const fws_sub *sub = conn->heap[i].sub;
        uint64_t own = sub->left ? 0 : fws_sub_held_rate(sub);
        rate = own > rate ? own : rate;
    }
    if (fws_conn_drags(conn, rate, fws_engine_time(engine), engine->options.max_stall_ns))
        fws_conn_end_slow(engine, conn);
}

/* A peer that takes a byte now and then keeps below every other limit: a blocked one has to
 * progress in each write_ns. */
static void check_writing(fws_engine *engine, fws_conn *conn)
{
    uint64_t time = fws_engine_time(engine);
    if (!conn->blocked || engine->options.write_ns == 0) {
        conn->write_by = 0;
        return;
    }
    bool fresh = conn->write_by == 0;
    if (!fresh && time < conn->write_by)
        return;
    uint64_t confirmed = fws_conn_confirmed(engine, conn);
    if (!fresh && confirmed < conn->write_confirmed + FWS_PROGRESS_BYTES) {
        time_out(engine, conn, &engine->counters.write_timeouts);
        return;
    }
    conn->write_by = time + engine->options.write_ns;
    conn->write_confirmed = confirmed;
}

static void check_message(fws_engine *engine, fws_conn *conn)
{
    static const uint8_t reason[] = "message timeout";
    if (conn->message_by == 0 || fws_engine_time(engine) < conn->message_by)
        return;
    if (conn->owed == 0 || fws_conn_stopped(conn)) {
        fws_conn_expect_message(engine, conn);
        return;
    }
    engine->counters.message_timeouts++;
    fws_conn_end(engine, conn, 1008, reason, sizeof reason - 1);
}

static void ping(fws_engine *engine, fws_conn *conn)
{
    uint8_t payload[sizeof engine->ping_mark];
    memcpy(payload, &engine->ping_mark, sizeof payload);
    if (fws_conn_push_frame(engine, conn, FWS_PING, 0, payload, sizeof payload) != FWS_OK)
        return; /* no memory for six bytes: the next sweep tries again */
    engine->counters.pings++;
    conn->pinged = true;
    conn->heard = false;
    conn->confirmed = fws_conn_confirmed(engine, conn) + PING_BYTES;
    conn->deadline = fws_engine_time(engine) + engine->options.pong_ns;
}

/* Whether something of the peer has been seen since the ping. Bytes received are a sign of life,
 * for a pong has to wait behind them; so are bytes confirmed, for a slow reader is not a dead one.
 * While it is not read no pong can be seen: there it is enough that its kernel confirms the ping,
 * or that write_ns decides. */
static bool lives(const fws_engine *engine, const fws_conn *conn)
{
    if (conn->heard || conn->ready.next != NULL) /* it waits for its turn to be read */
        return true;
    if (fws_conn_stopped(conn) && (conn->blocked || !conn->acknowledges))
        return true;
    return conn->acknowledges
           && fws_conn_confirmed(engine, conn) + (fws_conn_stopped(conn) ? PING_BYTES : 0)
                  > conn->confirmed;
}

/* A life sign that is no pong: the ping's answer is awaited on, or another one is sent. */
static void wait_on(fws_engine *engine, fws_conn *conn)
{
    if (!conn->blocked && (conn->heard || fws_conn_stopped(conn))) {
        ping(engine, conn);
        return;
    }
    conn->heard = false; /* one ping at a time waits in the outbox */
    conn->confirmed = fws_conn_confirmed(engine, conn);
    conn->deadline = fws_engine_time(engine) + engine->options.pong_ns;
}

static void give_up(fws_engine *engine, fws_conn *conn)
{
    static const uint8_t reason[] = "ping timeout";
    engine->counters.ping_timeouts++;
    fws_conn_cut_with(engine, conn, 1011, reason, sizeof reason - 1);
}

/* False: nothing was due. */
static bool check_life(fws_engine *engine, fws_conn *conn)
{
    if (conn->deadline == 0 || fws_engine_time(engine) < conn->deadline)
        return false;
    if (!conn->pinged)
        ping(engine, conn);
    else if (lives(engine, conn))
        wait_on(engine, conn);
    else
        give_up(engine, conn);
    return true;
}

/* A lagging one is looked at in every pass. */
static uint64_t next_due(const fws_engine *engine, const fws_conn *conn)
{
    uint64_t due = conn->deadline == 0 ? UINT64_MAX : conn->deadline;
    if (conn->lagging)
        return 0;
    due = conn->unread_at != 0 && conn->unread_at < due ? conn->unread_at : due;
    if (conn->throttled) {
        uint64_t until = fws_conn_throttled_until(engine, conn);
        due = until < due ? until : due;
    }
    return conn->message_by != 0 && conn->message_by < due ? conn->message_by : due;
}

/* Its rates allow more again. */
static void check_throttled(fws_engine *engine, fws_conn *conn)
{
    if (conn->throttled && fws_conn_throttled_until(engine, conn) <= fws_engine_time(engine))
        fws_conn_unthrottle(engine, conn);
}

/* What is due of one connection; the steps that it took. sweep_sub: not all was looked at. */
static uint32_t look_at(fws_engine *engine, fws_conn *conn)
{
    uint32_t steps = LOOK, from = engine->sweep_sub;
    engine->sweep_sub = 0;
    if (conn->state == FWS_DEAD || conn->ending)
        return steps;
    if (conn->state != FWS_OPEN && fws_engine_time(engine) >= conn->deadline) {
        fws_conn_past_deadline(engine, conn);
        steps = CALLS;
    }
    if (conn->state == FWS_OPEN && conn->unread_at != 0
        && fws_engine_time(engine) >= conn->unread_at) {
        fws_conn_look(engine, conn);
        steps = CALLS;
    }
    if (conn->state == FWS_DEAD)
        return steps;
    check_throttled(engine, conn);
    if (conn->retry) {
        conn->retry = false;
        fws_conn_unblock(engine, conn);
    } else if (conn->blocked) {
        uint32_t to = check_blocked(engine, conn, from);
        engine->sweep_sub = to < conn->n_pending && !conn->ending ? to : 0;
        steps += to - from;
    }
    if (conn->lagging && !conn->ending)
        check_holding(engine, conn);
    check_writing(engine, conn);
    if (conn->state == FWS_OPEN && !conn->ending) {
        check_message(engine, conn);
        steps += check_life(engine, conn) ? CALLS : 0;
    }
    return steps;
}

/* Looks at the connections that are due, for one turn. True: the last slot has been reached. */
static bool sweep_slots(fws_engine *engine)
{
    uint64_t time = fws_engine_time(engine), began = engine->sys->monotonic();
    uint32_t at = engine->sweep_slot, n = engine->n_slots;
    uint32_t end = n - at > SLOTS ? at + SLOTS : n;
    for (uint32_t looks = 0; at < end; at++) {
        fws_slot *slot = &engine->slots[at];
        if (slot->due > time)
            continue;
        if (engine->swept >= STEPS
            || (++looks % 8 == 0 && engine->sys->monotonic() - began >= FWS_SWEEP_TURN_NS))
            break;
        engine->swept += look_at(engine, slot->conn);
        if (engine->sweep_sub != 0)
            break;
        slot->due = next_due(engine, slot->conn);
    }
    engine->sweep_slot = at;
    return at == n;
}

/* Asks the kernel what the peers have confirmed, for a portion of the connections. */
static void acknowledge_some(fws_engine *engine)
{
    uint32_t n = engine->n_slots < SLOTS ? engine->n_slots : SLOTS, asked = 0;
    uint64_t began = engine->sys->monotonic();
    for (uint32_t work = 0; n > 0 && work < ACKNOWLEDGE; n--) {
        fws_slot *slot = &engine->slots[engine->acknowledge_at++ % engine->n_slots];
        if (slot->conn == NULL || slot->unacked == 0)
            continue;
        fws_conn *conn = slot->conn;
        fws_conn_acknowledge(engine, conn);
        work += LOOK / 2 + conn->n_subs;
        conn->asked_for = conn->unacked != NULL;
        slot->unacked = conn->asked_for;
        if (++asked % 16 == 0 && engine->sys->monotonic() - began >= FWS_SWEEP_TURN_NS)
            return;
    }
}

/* What is done once in a pass, when time is left. */
static void end_pass(fws_engine *engine)
{
    if (engine->accept_stalled) {
        engine->accept_stalled = false;
        fws_engine_keep_reserve(engine);
        for (uint32_t i = 0; i < engine->n_listeners; i++)
            engine->listener_ready[i] = engine->listeners[i] >= 0;
    }
    acknowledge_some(engine);
    fws_topics_sweep(&engine->topics);
    engine->sweeping = false;
}

void fws_engine_sweep(fws_engine *engine)
{
    fws_engine_note_late(engine);
    if (!engine->sweeping) {
        engine->sweeping = true;
        engine->sweep_slot = engine->sweep_sub = 0;
        engine->pass_at = engine->now + FWS_SWEEP_NS;
    }
    engine->swept = 0;
    if (sweep_slots(engine) && engine->swept < STEPS / 2)
        end_pass(engine);
    bool over = !engine->sweeping && engine->pass_at > engine->now;
    engine->sweep_at = over ? engine->pass_at : engine->now;
}
