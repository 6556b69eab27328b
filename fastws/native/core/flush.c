/* The flush: wakes subscriptions, sends to connections, runs the source. */
#define _GNU_SOURCE
#include <sys/timerfd.h>

#include "core/engine_internal.h"
#include "core/sample.h"

#define WAKE_STEPS 64 /* members woken, and */
#define FLUSH_CALLS 8 /* sends, between two looks at the clock */
#define REST_STEP_NS 1000000
#define BACKLOG_BATCHES 32 /* of FWS_SOURCE_BATCH: half of a log's common retention */

/* Waking. */

static bool out_of_time(const fws_engine *engine, uint64_t deadline)
{
    return engine->sys->monotonic() >= deadline;
}

static fws_topic *next_to_wake(fws_engine *engine)
{
    fws_topics *topics = &engine->topics;
    fws_topic *topic = topics->dirty;
    if (topic == NULL)
        return NULL;
    topics->dirty = topic->next_dirty;
    if (topics->dirty == NULL)
        topics->dirty_end = &topics->dirty;
    topic->dirty = false;
    fws_topic_begin_wake(topic);
    engine->counters.wakes++;
    return topic;
}

/* Those that have rested as long as their max_rate asks for. False: the time is up. */
static bool wake_rested(fws_engine *engine, uint64_t deadline)
{
    fws_sub *sub;
    uint32_t steps = 0;
    while ((sub = fws_topics_rested(&engine->topics, engine->now)) != NULL) {
        fws_engine_mark_dirty(engine, sub->conn);
        if (++steps % WAKE_STEPS == 0 && out_of_time(engine, deadline))
            return false;
    }
    return true;
}

/* Moves members with news into their connections' heaps. True: no topic is left to wake. */
static bool wake(fws_engine *engine, uint64_t deadline)
{
    fws_topics *topics = &engine->topics;
    uint32_t steps = 0;
    (void)wake_rested(engine, deadline); /* the rest is due at once: fws_engine_more() */
    if (topics->waking == NULL)
        topics->waking = next_to_wake(engine);
    while (topics->waking != NULL) {
        fws_sub *sub = fws_topic_wake(topics->waking);
        if (sub == NULL)
            topics->waking = next_to_wake(engine);
        else if (!sub->resting)
            fws_engine_mark_dirty(engine, sub->conn);
        if (++steps % WAKE_STEPS == 0 && out_of_time(engine, deadline))
            return topics->waking == NULL;
    }
    return true;
}

void fws_engine_wake(fws_engine *engine)
{
    (void)wake(engine, UINT64_MAX);
}

/* Frames published from there on must not leave yet: some of their subscriptions have not been
 * woken, and a connection gets everything in the order of publishing. One without subscriptions
 * need not wait. */
static uint64_t barrier(const fws_topics *topics)
{
    if (topics->waking != NULL)
        return topics->waking->wake_eseq;
    return topics->dirty != NULL ? topics->dirty->dirty_eseq : UINT64_MAX;
}

/* Connections. */

/* False: there is no plan; the connection has ended or is blocked. */
static bool plan_for(fws_engine *engine, fws_conn *conn)
{
    fws_plan *plan = &engine->plan;
    if (conn->ending)
        fws_conn_begin_ending(engine, conn);
    while (conn->state != FWS_DEAD && !conn->blocked) {
        uint64_t before = conn->n_subs == 0 ? UINT64_MAX : barrier(&engine->topics);
        plan->codec = engine->codec;
        if (fws_gather(conn, plan, before) == FWS_OK)
            return true;
        fws_commit(conn, plan, 0);
        fws_conn_end_slow(engine, conn);
        fws_conn_begin_ending(engine, conn);
    }
    return false;
}

static void sent_some(fws_engine *engine, fws_conn *conn)
{
    fws_conn_count_out(engine, conn);
    if (conn->close_sent)
        fws_conn_leave_all(conn);
    if (conn->read_paused && conn->outbox.allocated <= fws_read_paused_above(engine) / 2) {
        conn->read_paused = false;
        fws_conn_resume(engine, conn);
    }
    if (engine->codec != NULL)
        engine->counters.deflated = fws_deflate_calls(engine->codec);
}

/* One send call for one connection; with more pending it stays dirty. False: nothing of it could be
 * sent, so that another round would not help. */
static bool flush_conn(fws_engine *engine, fws_conn *conn)
{
    int status = 1;
    bool sent = false;
    if (!plan_for(engine, conn))
        return true;
    if (engine->plan.bytes > 0) {
        status = fws_conn_send_plan(engine, conn);
        if (status < 0) {
            fws_conn_kill(engine, conn, 1006);
            return true;
        }
        sent = true;
        if (engine->topics.n_sampled > 0)
            fws_topics_sampled(&engine->topics, engine->sys->monotonic());
        sent_some(engine, conn);
    } else {
        fws_commit(conn, &engine->plan, 0);
        sent = engine->plan.derived > 0; /* what it reads is on its way */
    }
    if (engine->plan.starved) {
        conn->retry = true; /* the sweep tries again, as for the kernel's memory */
        status = 0;
    }
    if (status == 0)
        fws_conn_block(engine, conn);
    else if (fws_conn_pending(conn))
        fws_engine_mark_dirty(engine, conn);
    else if (sent || conn->lagging)
        fws_conn_caught_up(engine, conn);
    if (conn->state == FWS_DRAINING && !conn->blocked && !fws_conn_finish(engine, conn))
        fws_engine_mark_dirty(engine, conn);
    return sent;
}

void fws_conn_cut_with(fws_engine *engine, fws_conn *conn, uint16_t code, const uint8_t *reason,
                       size_t reason_n)
{
    if (!conn->blocked) {
        fws_conn_end(engine, conn, code, reason, reason_n);
        (void)flush_conn(engine, conn);
    }
    conn->close_code = 1006;
    fws_conn_cut_off(engine, conn);
}

/* The one to send to next, from the two rings by turns. */
static fws_conn *next_dirty(const fws_engine *engine, uint32_t turn)
{
    bool answer =
        !fws_link_empty(&engine->answers) && (turn % 2 == 0 || fws_link_empty(&engine->dirty));
    return FWS_CONTAINER(answer ? engine->answers.next : engine->dirty.next, fws_conn, dirty);
}

/* A send takes microseconds: meanwhile the next connection is fetched. */
static void look_ahead(const fws_engine *engine, uint32_t turn)
{
    if (engine->n_dirty == 0)
        return;
    const fws_conn *next = next_dirty(engine, turn);
    for (size_t at = 0; at < FWS_CONN_HOT; at += 64)
        __builtin_prefetch((const uint8_t *)next + at, 1);
}

/* Rounds over those that wait, first come, first served. True: time is left. */
static bool flush_dirty(fws_engine *engine, uint64_t deadline)
{
    uint32_t calls = 0;
    bool progress = true;
    while (engine->n_dirty > 0 && progress) {
        progress = false;
        for (uint32_t left = engine->n_dirty; left > 0 && engine->n_dirty > 0; left--) {
            fws_conn *conn = next_dirty(engine, calls);
            engine->n_dirty -= fws_link_remove(&conn->dirty);
            look_ahead(engine, calls + 1);
            progress |= flush_conn(engine, conn);
            calls++;
            if ((calls % FLUSH_CALLS == 0 || engine->plan.derived > 0) /* compressing takes long */
                && out_of_time(engine, deadline))
                return false;
        }
    }
    return true;
}

/* Wakes for half of the time, sends, then wakes on: neither starves the other. True: all done. */
static bool send_all(fws_engine *engine, uint64_t deadline)
{
    uint64_t now = engine->sys->monotonic();
    uint64_t half = deadline > now ? now + (deadline - now) / 2 : deadline;
    bool woken = wake(engine, half);
    return flush_dirty(engine, deadline) && (woken || wake(engine, deadline))
           && engine->n_dirty == 0 && engine->topics.waking == NULL;
}

void fws_engine_send_waiting(fws_engine *engine)
{
    (void)send_all(engine, engine->sys->monotonic() + FWS_TURN_NS);
}

/* The source. */

static void run_source(fws_engine *engine)
{
    engine->now = engine->sys->monotonic();
    if (fws_source_run(&engine->source, engine->now, engine->sys->realtime(), &engine->eseq) > 0)
        fws_engine_published(engine, engine->source.topic);
}

void fws_engine_set_rate(fws_engine *engine, uint64_t rate, bool max)
{
    engine->now = engine->sys->monotonic();
    /* Ticks due by now are appended at the old rate, up to half of a log's common retention. */
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
    uint64_t rest_until = fws_topics_rest_until(&engine->topics);
    /* All that rise within the same millisecond send in one turn; nothing else waits for its
     * end. */
    uint64_t rise_at = rest_until / REST_STEP_NS < UINT64_MAX / REST_STEP_NS
                           ? (rest_until / REST_STEP_NS + 1) * REST_STEP_NS
                           : UINT64_MAX;
    at = rise_at < at ? rise_at : at;
    if (at == engine->timer_at || at <= engine->now || at == UINT64_MAX)
        return; /* at once, and fws_engine_more() says so */
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)}};
    timerfd_settime(engine->timer, TFD_TIMER_ABSTIME, &when, NULL);
    engine->timer_at = at;
}

bool fws_engine_waits(const fws_engine *engine)
{
    return engine->source.max && engine->source.running;
}

/* At max rate the sockets set the pace: wait for one here, without the owner. False: the owner is
 * needed, or no event came. */
static bool wait_for_room(fws_engine *engine, uint64_t deadline)
{
    if (!fws_engine_waits(engine) || engine->n_ready > 0 || out_of_time(engine, deadline))
        return false;
    int timeout_ms = engine->source_at == 0 || engine->n_dirty > 0 ? 0 : 1;
    return fws_engine_poll(engine, timeout_ms) && engine->n_ready == 0
           && engine->first_dead == NULL;
}

void fws_engine_flush(fws_engine *engine, uint64_t budget_ns)
{
    engine->now = engine->sys->monotonic();
    uint64_t deadline = engine->now + budget_ns;
    engine->waiting_bytes = 0;
    do {
        if (!send_all(engine, deadline))
            break;
        run_source(engine);
        if (!send_all(engine, deadline))
            break;
        /* Not before sending: what has left makes room. */
        engine->source_at = fws_source_next(&engine->source, engine->now);
    } while (engine->source_at <= engine->now ? !out_of_time(engine, deadline)
                                              : wait_for_room(engine, deadline));
    fws_engine_shed(engine);
    engine->now = engine->sys->monotonic();
    fws_topics_sampled(&engine->topics, engine->now); /* who left it out sent nothing */
    engine->source_at = fws_source_next(&engine->source, engine->now);
    arm_timer(engine);
}
