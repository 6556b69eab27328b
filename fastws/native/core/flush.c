/* Sends what waits: connections, then passes over topics, then the source. */
#define _GNU_SOURCE
#include <sys/timerfd.h>

#include "core/engine_internal.h"

#define BACKLOG_BATCHES 32 /* of FWS_SOURCE_BATCH: half of a log's common retention */

/* A burst is not the reader's fault: one whose socket has never been full is first offered what
 * there is, however much, unless the log has lost it already. */
static bool apply_policies(fws_engine *engine, fws_conn *conn)
{
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        if ((conn->lagging || fws_sub_lapped(sub)) && fws_sub_apply_policy(sub) != FWS_OK) {
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
    if (conn->ending || !apply_policies(engine, conn))
        fws_conn_begin_ending(engine, conn);
    if (conn->state == FWS_DEAD || conn->blocked)
        return;
    if (conn->window_bits != 0)
        fws_conn_derive(engine, conn);
    fws_gather(conn, &engine->plan);
    if (engine->plan.bytes > 0) {
        int status = fws_conn_send_plan(engine, conn);
        if (status < 0) {
            fws_conn_kill(engine, conn, 1006);
            return;
        }
        if (conn->close_sent)
            fws_conn_leave_all(conn);
        if (conn->read_paused && conn->outbox.bytes <= fws_read_paused_above(engine) / 2) {
            conn->read_paused = false;
            fws_engine_mark_ready(engine, conn);
        }
        if (status == 0)
            fws_conn_block(engine, conn);
        else if (!conn->finish && fws_conn_pending(conn))
            fws_engine_mark_dirty(engine, conn);
        else
            caught_up(engine, conn);
        if (conn->subs != NULL && conn->subs->n_marks == FWS_MARKS)
            fws_conn_acknowledge(engine, conn);
    }
    if (conn->finish && !conn->blocked) {
        fws_conn_finish(engine, conn);
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
