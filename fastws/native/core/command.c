/* Commands: every change of what clients get; staging of those from other threads. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/engine_internal.h"
#include "core/sample.h"
#include "core/wildcards.h"

#define STAGING_KEPT 262144u /* bytes of the buffer that are kept for the next turn */
#define LOOK 16          /* steps between two looks at the clock; a command is one, and one for */
#define STEP_BYTES 1024u /* so many bytes: they may have to be compressed */

static bool is_data(uint8_t opcode)
{
    return opcode == FWS_TEXT || opcode == FWS_BINARY;
}

/* The explicit one goes before a wildcard: it is another one from here on. */
static void take_over(fws_sub *sub)
{
    if (!sub->wild)
        return;
    fws_sub_unsample(sub); /* a sample that waits for it would not know the new one */
    sub->wild = false;
    sub->topic->wild--;
    sub->conn->n_wild--;
    sub->id = sub->topic->topics->next_sub_id++;
}

/* Whether that of a wildcard cannot be what is asked for. */
static bool begins_anew(const fws_sub *sub, const fws_command *command)
{
    return sub->wild
           && (command->since || !fws_sub_encodes(sub, command->envelope, command->batch)
               || !fws_sub_has_keys(sub, command->key, command->key_n));
}

static int subscribe_again(fws_sub *sub, const fws_command *command,
                           const fws_topic_options *options)
{
    if (command->since || !fws_sub_encodes(sub, command->envelope, command->batch)
        || !fws_sub_has_keys(sub, command->key, command->key_n))
        return FWS_E_INVALID;
    take_over(sub);
    int status = fws_sub_set_max_rate(sub, command->gap_ns);
    if (status == FWS_OK)
        status = fws_sub_set_options(sub, options);
    return status == FWS_OK ? fws_sub_tell_losses(sub, command->losses) : status;
}

/* The subscription that is not to get the frame; NULL: all are. */
static fws_sub *excluded(const fws_engine *engine, const fws_command *command)
{
    const fws_conn *conn = command->conn == 0 ? NULL : fws_engine_find(engine, command->conn);
    return conn == NULL ? NULL : fws_conn_find_sub(conn, command->topic);
}

static int exclude(fws_sub *sub)
{
    int status = fws_sub_exclude(sub);
    if (sub->resting && fws_sub_runs(sub) > FWS_RUNS_MOST)
        fws_sub_shorten_rest(sub); /* they are kept until it has passed them */
    return status;
}

void fws_engine_sample(fws_engine *engine, fws_topic *topic)
{
    uint64_t now = engine->sys->monotonic();
    engine->sample_at = now + FWS_SAMPLE_GAP_NS;
    fws_topic_sample(topic, now);
}

static int publish(fws_engine *engine, const fws_command *command)
{
    fws_topic *topic = command->topic;
    size_t n = command->n, head_n = fws_header_size(n, false);
    uint8_t *room;
    if (topic->closed)
        return FWS_E_CLOSED;
    if (n > FWS_FRAME_LIMIT || !is_data(command->opcode))
        return FWS_E_INVALID;
    if (topic->options->history_ns > 0 || topic->log.slab_ns > 0)
        engine->now = engine->sys->monotonic(); /* ages count from here */
    int status = fws_topic_reserve(topic, head_n + n, engine->eseq + 1, &room);
    if (status != FWS_OK)
        return status;
    fws_key *key = NULL;
    if ((command->key_n > 0 || topic->keys != NULL)
        && (key = fws_topic_key(topic, command->key, command->key_n)) == NULL)
        return FWS_E_NOMEM;
    fws_sub *sub = excluded(engine, command);
    if (sub != NULL && fws_sub_wants(sub, key) && exclude(sub) != FWS_OK) {
        if (key != NULL)
            fws_keys_unreserve(topic->keys, key);
        return FWS_E_NOMEM;
    }
    fws_header_encode(room, command->opcode, true, 0, n, NULL);
    if (n > 0)
        memcpy(room + head_n, command->data, n);
    fws_topic_commit_keyed(topic, key, head_n + n, ++engine->eseq);
    engine->waiting_bytes += head_n + n;
    fws_engine_published(engine, topic);
    return engine->waiting_bytes >= FWS_FLUSH_BYTES && topic->dirty ? 1 : FWS_OK;
}

/* Whether it takes n bytes more. */
static int may_send(fws_engine *engine, const fws_conn *conn, size_t n)
{
    if (conn->state != FWS_OPEN)
        return FWS_E_CLOSED;
    bool full = conn->outbox.allocated > engine->options.outbox_limit;
    return full || !fws_conn_has_room(engine, conn, n) ? FWS_E_FULL : FWS_OK;
}

/* Puts its encoding in force, and says where it begins: behind what was sent before, and, with the
 * engine sequence of its beginning, in front of its first frame. */
static int begin_encoded(fws_engine *engine, fws_sub *sub, const fws_command *command)
{
    uint8_t text[FWS_NOTICE_MAX];
    if (!command->envelope && command->batch == 0)
        return FWS_OK;
    int status = fws_sub_encode(sub, command->envelope, command->batch);
    if (status != FWS_OK || !command->envelope)
        return status;
    int recovered = command->since ? sub->began == FWS_BEGAN_SINCE : -1;
    size_t n = fws_began_write(text, sub->topic->epoch, (int64_t)sub->seq - 1, recovered);
    return fws_conn_push_frame(engine, sub->conn, FWS_TEXT, engine->eseq, text, n);
}

/* What else it is to have. The losses become its own when all is there. */
static int complete(fws_engine *engine, fws_sub *sub, const fws_command *command)
{
    int status = fws_sub_set_max_rate(sub, command->gap_ns);
    if (status == FWS_OK)
        status = begin_encoded(engine, sub, command);
    return status == FWS_OK ? fws_sub_tell_losses(sub, command->losses) : status;
}

/* Whether an explicit subscription more may begin. */
static int may_begin(fws_engine *engine, const fws_conn *conn, const fws_command *command)
{
    uint32_t most = engine->options.max_subscriptions;
    if (most > 0 && conn->n_subs - conn->n_wild >= most) {
        engine->counters.subscriptions_refused++;
        return FWS_E_MANY;
    }
    if (command->batch > FWS_BATCH_MOST)
        return FWS_E_INVALID;
    return command->envelope ? may_send(engine, conn, FWS_NOTICE_MAX) : FWS_OK;
}

static int begin(fws_engine *engine, fws_conn *conn, const fws_command *command,
                 const fws_topic_options *options)
{
    fws_topic *topic = command->topic;
    bool recovers = command->since && fws_topic_recovers(topic, command->epoch, command->seq);
    uint64_t seq = recovers ? command->seq : FWS_START;
    fws_sub *sub = fws_topic_join_filtered(topic, conn, options, seq, ++engine->eseq, command->key,
                                           command->key_n);
    if (sub == NULL)
        return FWS_E_NOMEM;
    if (command->since)
        sub->began = recovers ? FWS_BEGAN_SINCE : FWS_BEGAN_TOO_LATE;
    int status = complete(engine, sub, command);
    if (status != FWS_OK)
        fws_topic_leave(sub);
    else if (sub->pending)
        fws_engine_mark_dirty(engine, conn);
    return status;
}

static int subscribe(fws_engine *engine, fws_conn *conn, const fws_command *command)
{
    fws_topic *topic = command->topic;
    if (conn->role == FWS_CLIENT)
        return FWS_E_INVALID; /* RFC 6455 5.1: its frames are masked, each with a key of its own */
    if (conn->state != FWS_OPEN || topic->closed)
        return FWS_E_CLOSED;
    fws_topic_options own;
    const fws_topic_options *options = NULL;
    if (command->n == sizeof own)
        options = memcpy(&own, command->data, sizeof own);
    if (command->key_n > 0 && fws_filter_names(command->key, command->key_n) == 0)
        return FWS_E_INVALID;
    fws_sub *sub = fws_conn_find_sub(conn, topic);
    int status = sub == NULL || sub->wild ? may_begin(engine, conn, command) : FWS_OK;
    if (status != FWS_OK)
        return status;
    if (sub != NULL && !begins_anew(sub, command))
        return subscribe_again(sub, command, options);
    if (sub != NULL)
        fws_topic_leave(sub);
    status = begin(engine, conn, command, options);
    if (status != FWS_OK)
        (void)fws_conn_fall_back(conn, topic, &engine->eseq);
    else if (engine->source.topic == topic && !engine->source.running)
        engine->source_at = 0; /* the feed starts with its first subscriber */
    return status;
}

static int unsubscribe(fws_engine *engine, fws_conn *conn, fws_topic *topic)
{
    fws_sub *sub = fws_conn_find_sub(conn, topic);
    if (sub == NULL || sub->wild)
        return FWS_OK;
    fws_conn_acknowledge(engine, conn);
    fws_topic_leave(sub);
    int status = fws_conn_fall_back(conn, topic, &engine->eseq);
    if (fws_conn_pending(conn))
        fws_engine_mark_dirty(engine, conn);
    return status;
}

static int subscribe_all(fws_engine *engine, fws_conn *conn, const fws_command *command)
{
    fws_wild asked = {.gap_ns = command->gap_ns,
                      .losses = command->losses,
                      .keys = command->key,
                      .keys_n = command->key_n};
    if (conn->role == FWS_CLIENT || command->n != sizeof asked.own
        || (command->key_n > 0 && fws_filter_names(command->key, command->key_n) == 0))
        return FWS_E_INVALID;
    if (conn->state != FWS_OPEN)
        return FWS_E_CLOSED;
    memcpy(&asked.own, command->data, sizeof asked.own);
    int status = fws_conn_join_wild(&engine->topics, conn, &asked, &engine->eseq);
    if (fws_conn_pending(conn))
        fws_engine_mark_dirty(engine, conn);
    if (!engine->source.running)
        engine->source_at = 0; /* its topic may have its first subscriber */
    return status;
}

static int unsubscribe_all(fws_engine *engine, fws_conn *conn, const fws_command *command)
{
    fws_conn_acknowledge(engine, conn);
    fws_conn_leave_wild(conn, command->data, command->n);
    return FWS_OK;
}

static int send_direct(fws_engine *engine, fws_conn *conn, const fws_command *command)
{
    int status = may_send(engine, conn, command->n);
    if (status != FWS_OK)
        return status;
    if (!is_data(command->opcode))
        return FWS_E_INVALID;
    return fws_conn_push_frame(engine, conn, command->opcode, ++engine->eseq, command->data,
                               command->n);
}

static int ping(fws_engine *engine, fws_conn *conn, const fws_command *command)
{
    size_t n = command->n;
    int status = may_send(engine, conn, n);
    if (status != FWS_OK)
        return status;
    if (n > FWS_CONTROL_MAX)
        return FWS_E_INVALID;
    fws_bytes *asked = malloc(sizeof *asked + n);
    status = asked == NULL ? FWS_E_NOMEM
                           : fws_conn_push_frame(engine, conn, FWS_PING, 0, command->data, n);
    if (status != FWS_OK) {
        free(asked);
        return status;
    }
    asked->n = (uint8_t)n;
    if (n > 0)
        memcpy(asked->data, command->data, n);
    free(conn->asked);
    conn->asked = asked;
    return FWS_OK;
}

static int close_conn(fws_engine *engine, fws_conn *conn, const fws_command *command)
{
    if (conn->state != FWS_OPEN || conn->ending)
        return conn->state == FWS_CLOSING || conn->ending ? FWS_OK : FWS_E_CLOSED;
    if (command->code != 1005 && !fws_close_code_valid(command->code))
        return FWS_E_INVALID;
    int status = fws_conn_push_close(engine, conn, command->code, command->data, command->n);
    if (status != FWS_OK)
        return status;
    fws_conn_end_rests(conn);
    fws_conn_pause(engine, conn, false);
    fws_conn_unthrottle(engine, conn);
    fws_conn_move(conn, FWS_CLOSING);
    conn->close_code = command->code;
    fws_conn_give_time(engine, conn, engine->options.close_ns);
    return FWS_OK;
}

static int apply_one(fws_engine *engine, const fws_command *command)
{
    if (command->kind == FWS_CMD_PUBLISH)
        return publish(engine, command);
    if (command->kind == FWS_CMD_UNREF) {
        fws_topic_unref(command->topic);
        return FWS_OK;
    }
    fws_conn *conn = fws_engine_find(engine, command->conn);
    if (conn == NULL)
        return FWS_E_CLOSED;
    switch (command->kind) {
    case FWS_CMD_SUBSCRIBE:
        return subscribe(engine, conn, command);
    case FWS_CMD_UNSUBSCRIBE:
        return unsubscribe(engine, conn, command->topic);
    case FWS_CMD_SUBSCRIBE_ALL:
        return subscribe_all(engine, conn, command);
    case FWS_CMD_UNSUBSCRIBE_ALL:
        return unsubscribe_all(engine, conn, command);
    case FWS_CMD_SEND:
        return send_direct(engine, conn, command);
    case FWS_CMD_PING:
        return ping(engine, conn, command);
    case FWS_CMD_CLOSE:
        return close_conn(engine, conn, command);
    default:
        return FWS_E_INVALID;
    }
}

static int apply(fws_engine *engine, const fws_command *command)
{
    int status = apply_one(engine, command);
    engine->counters.log_full += status == FWS_E_FULL;
    return status;
}

int fws_engine_send_shared(fws_engine *engine, fws_conn *conn, fws_shared *message)
{
    int status = may_send(engine, conn, message->n);
    if (status == FWS_OK)
        status = fws_conn_push_shared(engine, conn, ++engine->eseq, message);
    engine->counters.log_full += status == FWS_E_FULL;
    return status;
}

/* A staged command of these kinds holds a reference to its topic. */
static bool refers(uint8_t kind)
{
    return kind == FWS_CMD_SUBSCRIBE || kind == FWS_CMD_UNSUBSCRIBE || kind == FWS_CMD_PUBLISH;
}

static bool has_losses(uint8_t kind)
{
    return kind == FWS_CMD_SUBSCRIBE || kind == FWS_CMD_SUBSCRIBE_ALL;
}

static size_t key_size(const fws_command *command)
{
    uint8_t kind = command->kind;
    bool named =
        kind == FWS_CMD_PUBLISH || kind == FWS_CMD_SUBSCRIBE || kind == FWS_CMD_SUBSCRIBE_ALL;
    return named ? command->key_n : 0;
}

/* With its data, and behind that its key. */
static size_t staged_size(const fws_command *command)
{
    return sizeof *command + ((command->n + key_size(command) + 7) & ~(size_t)7);
}

static void staging_count(fws_engine *engine)
{
    const fws_staging *staging = &engine->staging;
    size_t held = fws_allocated(staging->capacity) + fws_allocated(staging->draining_capacity);
    __atomic_store_n(&engine->staged, held, __ATOMIC_RELAXED);
}

/* Whether so much more is within max_buffered_bytes. */
static bool may_hold(fws_engine *engine, size_t more)
{
    uint64_t most = engine->options.max_buffered_bytes;
    uint64_t held = __atomic_load_n(&engine->buffered, __ATOMIC_RELAXED) + engine->staged;
    if (most == 0 || held + more <= most)
        return true;
    __atomic_store_n(&engine->staging.pressed, true, __ATOMIC_RELAXED);
    return false;
}

static bool staging_grow(fws_engine *engine, size_t n, bool always)
{
    fws_staging *staging = &engine->staging;
    size_t need = staging->n + n, capacity = need * 2;
    if (staging->capacity >= need)
        return true;
    if (capacity > FWS_STAGING_BYTES)
        capacity = need > FWS_STAGING_BYTES ? need : FWS_STAGING_BYTES;
    if (!always && !may_hold(engine, capacity - staging->capacity))
        return false;
    uint8_t *grown = realloc(staging->bytes, capacity);
    if (grown == NULL)
        return false;
    staging->bytes = grown;
    staging->capacity = capacity;
    staging_count(engine);
    return true;
}

static int stage(fws_engine *engine, const fws_command *command)
{
    fws_staging *staging = &engine->staging;
    size_t n = staged_size(command);
    pthread_mutex_lock(&staging->lock);
    bool first = staging->n == 0;
    bool always = command->kind == FWS_CMD_UNREF;
    bool fits = always || (command->n <= FWS_STAGING_BYTES && staging->n + n <= FWS_STAGING_BYTES);
    fits = fits && staging_grow(engine, n, always);
    if (fits) {
        if (refers(command->kind))
            fws_topic_ref(command->topic); /* until it is applied */
        memcpy(staging->bytes + staging->n, command, sizeof *command);
        if (command->n > 0)
            memcpy(staging->bytes + staging->n + sizeof *command, command->data, command->n);
        if (key_size(command) > 0)
            memcpy(staging->bytes + staging->n + sizeof *command + command->n, command->key,
                   command->key_n);
        staging->n += n;
    } else {
        __atomic_add_fetch(&staging->refused, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&staging->lock);
    if (!fits)
        return FWS_E_FULL;
    const uint64_t one = 1;
    if (first && write(engine->wake, &one, sizeof one) < 0)
        return FWS_E_SYSTEM;
    return FWS_OK;
}

/* Takes the bytes of all staged commands; those taken before have been applied. */
static void take_staged(fws_staging *staging)
{
    pthread_mutex_lock(&staging->lock);
    uint8_t *bytes = staging->bytes;
    size_t capacity = staging->capacity;
    staging->draining_n = staging->n;
    staging->drained = 0;
    staging->bytes = staging->draining;
    staging->capacity = staging->draining_capacity;
    staging->n = 0;
    staging->draining = bytes;
    staging->draining_capacity = capacity;
    pthread_mutex_unlock(&staging->lock);
}

/* The next one that was taken; false: there is none. */
static bool next_taken(fws_staging *staging, fws_command *command)
{
    if (staging->drained == staging->draining_n)
        return false;
    const uint8_t *at = staging->draining + staging->drained;
    memcpy(command, at, sizeof *command);
    command->data = at + sizeof *command;
    command->key = command->data + command->n;
    staging->drained += staged_size(command);
    return true;
}

/* A number that no other thread ever has: a pthread_t is used again when its thread has ended. */
static uint64_t this_thread(void)
{
    static uint64_t threads;
    static _Thread_local uint64_t number;
    if (number == 0)
        number = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    return number;
}

void fws_engine_drive(fws_engine *engine)
{
    __atomic_store_n(&engine->driver, this_thread(), __ATOMIC_RELEASE);
}

/* What was drained is freed when it was much: threads that do nothing any more hold nothing. */
static void let_go(fws_engine *engine)
{
    fws_staging *staging = &engine->staging;
    if (staging->draining_capacity <= STAGING_KEPT)
        return;
    pthread_mutex_lock(&staging->lock);
    free(staging->draining);
    staging->draining = NULL;
    staging->draining_capacity = 0;
    staging_count(engine);
    pthread_mutex_unlock(&staging->lock);
}

/* Applies what was taken, for FWS_TURN_NS. False: the rest is left to the next turn. */
static bool apply_taken(fws_engine *engine)
{
    fws_command command;
    uint64_t began = engine->sys->monotonic();
    for (size_t steps = 0; next_taken(&engine->staging, &command);) {
        bool refused = apply(engine, &command) < 0;
        engine->counters.staged_refused += refused;
        if (refused && has_losses(command.kind))
            fws_losses_end(&engine->topics, command.losses);
        if (refers(command.kind))
            fws_topic_unref(command.topic);
        steps += 1 + command.n / STEP_BYTES;
        if (steps < LOOK)
            continue;
        if (engine->sys->monotonic() - began >= FWS_TURN_NS)
            break;
        steps = 0;
    }
    return engine->staging.drained == engine->staging.draining_n;
}

void fws_engine_drain(fws_engine *engine)
{
    fws_staging *staging = &engine->staging;
    if (engine->driver == 0)
        fws_engine_drive(engine);
    engine->woken = false;
    if (staging->drained == staging->draining_n)
        take_staged(staging);
    if (staging->drained < staging->draining_n) {
        engine->now = engine->sys->monotonic();
        fws_engine_note_late(engine); /* or the deadlines that they set had that time in addition */
        engine->woken = !apply_taken(engine);
    }
    if (!engine->woken)
        let_go(engine);
    engine->pressed |= __atomic_exchange_n(&staging->pressed, false, __ATOMIC_RELAXED);
}

static void discard_taken(fws_staging *staging)
{
    fws_command command;
    while (next_taken(staging, &command)) {
        if (has_losses(command.kind))
            fws_losses_free(command.losses);
        if (refers(command.kind) || command.kind == FWS_CMD_UNREF)
            fws_topic_unref(command.topic);
    }
}

void fws_engine_discard(fws_engine *engine)
{
    discard_taken(&engine->staging);
    take_staged(&engine->staging);
    discard_taken(&engine->staging);
}

bool fws_engine_foreign(const fws_engine *engine)
{
    uint64_t driver = __atomic_load_n(&engine->driver, __ATOMIC_ACQUIRE);
    return driver != 0 && driver != this_thread();
}

bool fws_engine_inherited(const fws_engine *engine)
{
    return *engine->sys->forks != engine->forks;
}

int fws_engine_command(fws_engine *engine, const fws_command *command)
{
    if (fws_engine_inherited(engine))
        return FWS_E_CLOSED;
    if (fws_engine_foreign(engine))
        return stage(engine, command);
    return apply(engine, command);
}
