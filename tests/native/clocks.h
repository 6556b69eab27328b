/* Time-outs of an engine under random steps measure progress: nobody is cut off who progressed, and
 * who does not is gone soon. What each peer said and took, and when, is written down as the engine
 * calls the system; its time stands still while the engine is late, and so does this one's. */
#ifndef FWS_TEST_CLOCKS_H
#define FWS_TEST_CLOCKS_H

#include "streams.h"

#define FLOW_ENTRIES 512
#define LATE (3 * FWS_SWEEP_NS) /* at most, until the sweep has acted on what was due */

/* Bytes by the time at which they came or went. */
typedef struct flow {
    uint64_t at[FLOW_ENTRIES], bytes[FLOW_ENTRIES];
    uint32_t n; /* entries ever */
} flow;

/* Until when, at least, something was not the case; as of the last harvest. */
typedef struct watch {
    flow in, out;
    uint64_t came, ended; /* it connected; it said its last, 0: not yet */
    uint64_t asked_at;    /* silence was no reason to let go of it, or it had not begun */
    uint64_t read_at;     /* it was read from no more */
    uint64_t whole_at;    /* no message of it was incomplete, or it was not read from */
    uint64_t begun_at;    /* the same, but at the latest when the present one began */
    uint64_t noted_at;    /* the last harvest */
    uint64_t free_at;     /* it was not blocked */
    uint64_t open_at;     /* it was not closing; when it was seen to be, */
    uint64_t closing_at;
    uint64_t held_at;   /* it held no publisher */
    uint64_t held_rate; /* the least that it had to take since */
    uint64_t messages, caught_up;
    bool mute;    /* it answers no ping */
    bool stopped; /* its kernel confirms nothing any more */
} watch;

static watch watches[CLIENTS];
static fws_counters seen;  /* as of the last look */
static uint64_t held_long; /* looks at who held a publisher for so long, and took enough */
static uint64_t cut_off, told_timeouts;
static bool harvesting;
static bool timed; /* a turn follows as soon as time has passed: else no clock is looked at */
static uint32_t full_reads; /* of WebSockets, in this turn, while the budget was spent */

static void flow_add(flow *of, uint64_t at, uint64_t bytes)
{
    uint32_t last = (of->n - 1) % FLOW_ENTRIES;
    if (of->n == 0 || of->at[last] != at) {
        last = of->n++ % FLOW_ENTRIES;
        of->at[last] = at;
        of->bytes[last] = 0;
    }
    of->bytes[last] += bytes;
}

/* Bytes after that time; `unknown` when too much has been since. */
static uint64_t flow_since(const flow *of, uint64_t from, uint64_t unknown)
{
    uint64_t sum = 0;
    uint32_t n = of->n < FLOW_ENTRIES ? of->n : FLOW_ENTRIES;
    for (uint32_t i = 1; i <= n; i++) {
        uint32_t entry = (of->n - i) % FLOW_ENTRIES;
        if (of->at[entry] <= from)
            return sum;
        sum += of->bytes[entry];
    }
    return of->n > FLOW_ENTRIES ? unknown : sum;
}

static uint64_t window(uint64_t ns)
{
    uint64_t time = fws_engine_time(engine);
    return time > ns ? time - ns : 0;
}

/* The client whose socket that is; NULL: it is none's. */
static watch *watch_of(int fd)
{
    for (int i = 0; i < CLIENTS; i++)
        if (ones[i].peer != NULL && ones[i].peer->fd == fd)
            return &watches[i];
    return NULL;
}

static void watch_begin(const one *who)
{
    uint64_t time = fws_engine_time(engine);
    watches[who - ones] = (watch){.came = time,
                                  .asked_at = time,
                                  .read_at = time,
                                  .whole_at = time,
                                  .free_at = time,
                                  .open_at = time,
                                  .held_at = time};
}

/* Whether its kernel says what it has confirmed, and goes on to. */
static bool confirms(const watch *of, const fws_conn *conn)
{
    return conn->acknowledges && !of->stopped;
}

/* The engine ends a connection that is past a deadline: it may. */

static void check_ping_timeout(const watch *of, const fws_conn *conn)
{
    uint64_t from = window(engine->options.pong_ns);
    CHECK_EQ(flow_since(&of->in, from, 0), 0);
    CHECK(!confirms(of, conn) || flow_since(&of->out, from, 0) <= 10 + 16); /* ping, Close */
    if (!fws_conn_stopped(conn))
        return;
    CHECK(of->stopped);
    /* It may be full by now: for the Close that says so. */
    CHECK(!conn->blocked || (conn->partial.data == NULL && conn->outbox.bytes == 16));
}

static void check_cut_off(const watch *of, const fws_conn *conn)
{
    const fws_counters *now = &engine->counters;
    const fws_options *options = &engine->options;
    if (now->ping_timeouts != seen.ping_timeouts) {
        check_ping_timeout(of, conn);
    } else if (now->write_timeouts != seen.write_timeouts) {
        CHECK(conn->blocked);
        CHECK(conn->acknowledges
              || flow_since(&of->out, window(options->write_ns), 0) < FWS_PROGRESS_BYTES);
    } else if (now->close_timeouts != seen.close_timeouts) {
        CHECK(conn->state >= FWS_CLOSING);
        CHECK(fws_engine_time(engine) - of->open_at >= options->close_ns);
        CHECK(conn->acknowledges
              || flow_since(&of->out, window(options->close_ns), 0) < FWS_PROGRESS_BYTES);
    } else if (conn->state == FWS_HTTP && now->handshake_timeouts != seen.handshake_timeouts) {
        CHECK(fws_engine_time(engine) - of->came >= options->handshake_ns);
    } else {
        return;
    }
    cut_off++;
    seen = *now;
}

static int watched_shutdown(int fd, int how)
{
    const watch *of = watch_of(fd);
    if (harvesting && how == SHUT_RDWR && of != NULL)
        check_cut_off(of, conn_of(ones[of - watches].peer));
    return fake_shutdown(fd, how);
}

static ssize_t watched_recv(int fd, void *room, size_t n, int flags)
{
    ssize_t got = fake_recv(fd, room, n, flags);
    watch *of = watch_of(fd);
    if (got <= 0 || of == NULL || (flags & MSG_PEEK) != 0)
        return got;
    flow_add(&of->in, fws_engine_time(engine), (uint64_t)got);
    const fws_conn *conn = conn_of(ones[of - watches].peer);
    full_reads += conn != NULL && conn->state == FWS_OPEN && fws_engine_full(engine);
    CHECK(full_reads <= 3); /* one of each ring, when the turn began like that */
    return got;
}

static void sent_to(int fd, ssize_t sent)
{
    watch *of = watch_of(fd);
    if (sent <= 0 || of == NULL)
        return;
    flow_add(&of->out, fws_engine_time(engine), (uint64_t)sent);
    if (of->stopped)
        ones[of - watches].peer->unacknowledged += (int)sent;
}

/* What is told: a message that is not whole in time. */
static void check_message_timeout(const watch *of, const fws_conn *conn)
{
    static const char reason[] = "message timeout";
    if (!conn->ending || conn->own_reason == NULL || conn->own_reason->n != sizeof reason - 1
        || memcmp(conn->own_reason->data, reason, sizeof reason - 1) != 0)
        return;
    CHECK_EQ(conn->ending_code, 1008);
    CHECK(!fws_conn_stopped(conn)); /* nor has it been since the window began */
    CHECK(fws_engine_time(engine) - of->begun_at >= engine->options.message_ns);
    CHECK(flow_since(&of->in, window(engine->options.message_ns), 0) < FWS_PROGRESS_BYTES);
    told_timeouts++;
}

static uint64_t rate_held(const fws_conn *conn)
{
    uint64_t rate = 0;
    for (uint32_t i = 0; i < conn->n_pending; i++) {
        const fws_sub *sub = conn->heap[i].sub;
        uint64_t own = sub->left ? 0 : fws_sub_held_rate(sub);
        rate = own > rate ? own : rate;
    }
    return rate;
}

/* Whether an unanswered ping is no reason: its kernel lives; it is not read, so that no pong can be
 * seen; it is read again, and what came meanwhile is still to be seen. */
static bool excused(const watch *of, const fws_conn *conn)
{
    return confirms(of, conn) || (fws_conn_stopped(conn) && (conn->blocked || !conn->acknowledges))
           || (conn->heard && conn->owed == FWS_PROGRESS_BYTES);
}

static void note_held(watch *of, const fws_conn *conn, uint64_t time)
{
    uint64_t rate = conn->lagging ? rate_held(conn) : 0;
    if (rate == 0 || conn->caught_up != of->caught_up) {
        of->held_at = time;
        of->held_rate = UINT64_MAX;
    }
    if (rate > 0 && rate < of->held_rate)
        of->held_rate = rate;
    of->caught_up = conn->caught_up;
}

/* As the sweep saw it. */
static void note_one(watch *of, const fws_conn *conn)
{
    uint64_t time = fws_engine_time(engine);
    if (!fws_conn_stopped(conn))
        of->read_at = time;
    if (fws_conn_stopped(conn) || conn->message_by == 0 || conn->messages_in != of->messages)
        of->whole_at = time;
    if (fws_conn_stopped(conn) || conn->message_by == 0)
        of->begun_at = time;
    else if (conn->messages_in != of->messages)
        of->begun_at = of->noted_at;
    of->noted_at = time;
    of->messages = conn->messages_in;
    if (conn->state < FWS_OPEN || excused(of, conn))
        of->asked_at = time;
    if (!conn->blocked)
        of->free_at = time;
    if (conn->state < FWS_CLOSING)
        of->open_at = of->closing_at = time;
    else if (of->closing_at == of->open_at)
        of->closing_at = time;
    note_held(of, conn, time);
    check_message_timeout(of, conn);
}

static void watch_harvest(bool begins)
{
    harvesting = begins && timed;
    full_reads = 0;
    seen = begins ? engine->counters : seen;
    if (begins || !timed)
        return;
    for (int i = 0; i < CLIENTS; i++) {
        const fws_conn *conn = ones[i].peer == NULL ? NULL : conn_of(ones[i].peer);
        if (conn != NULL && conn->state != FWS_DEAD)
            note_one(&watches[i], conn);
    }
}

/* Nobody is there who would have been gone long ago. */

/* Whether that has been so for longer than two windows. */
static bool over(uint64_t since, uint64_t ns)
{
    return ns > 0 && fws_engine_time(engine) > since + 2 * ns + LATE;
}

static void check_silence(const watch *of)
{
    uint64_t longest = engine->options.ping_ns / 2 * 5 + engine->options.pong_ns + 2 * LATE;
    if (engine->options.ping_ns == 0 || fws_engine_time(engine) - of->asked_at <= longest)
        return;
    CHECK(flow_since(&of->in, window(longest), 1) > 0);
}

static void check_open(const watch *of, const fws_conn *conn)
{
    const fws_options *options = &engine->options;
    uint64_t message_ns = options->message_ns, write_ns = options->write_ns;
    uint64_t unread = of->ended > of->read_at ? of->ended : of->read_at;
    check_silence(of);
    CHECK(!over(of->whole_at, message_ns)
          || flow_since(&of->in, window(2 * message_ns + LATE), UINT64_MAX) >= FWS_PROGRESS_BYTES);
    CHECK(!over(of->free_at, write_ns) || conn->acknowledges
          || flow_since(&of->out, window(2 * write_ns + LATE), UINT64_MAX) >= FWS_PROGRESS_BYTES);
    uint64_t unread_ns = FWS_UNREAD_NS + (conn->behind ? options->close_ns : 0);
    CHECK(of->ended == 0 || !over(unread, unread_ns) || !fws_conn_stopped(conn));
    held_long += over(of->held_at, options->max_stall_ns);
    CHECK(!over(of->held_at, options->max_stall_ns)
          || (double)flow_since(&of->out, window(2 * options->max_stall_ns + LATE), UINT64_MAX)
                     * 1e9
                 >= (double)of->held_rate * (double)options->max_stall_ns);
}

static void check_closing(const watch *of, const fws_conn *conn)
{
    uint64_t ns = 2 * engine->options.close_ns + FWS_LINGER_NS;
    uint64_t last = of->out.n == 0 ? 0 : of->out.at[(of->out.n - 1) % FLOW_ENTRIES];
    last = last > of->closing_at ? last : of->closing_at;
    CHECK(conn->state != FWS_CLOSING || conn->acknowledges || fws_conn_pending(conn)
          || of->closing_at == of->open_at /* not seen yet */
          || fws_engine_time(engine) <= last + engine->options.close_ns + LATE);
    CHECK(!over(of->open_at, ns) || conn->acknowledges
          || flow_since(&of->out, window(2 * ns), UINT64_MAX) >= FWS_PROGRESS_BYTES);
}

static void check_clocks(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        const watch *of = &watches[i];
        const fws_conn *conn = ones[i].peer == NULL ? NULL : conn_of(ones[i].peer);
        if (conn == NULL || conn->ending)
            continue;
        if (conn->state == FWS_HTTP)
            CHECK(fws_engine_time(engine) - of->came <= engine->options.handshake_ns + LATE);
        else if (conn->state == FWS_OPEN)
            check_open(of, conn);
        else if (conn->state >= FWS_CLOSING && conn->state < FWS_DEAD)
            check_closing(of, conn);
    }
}

#endif
