/* Commands: every change of what clients get, applied on the driving thread. */
#include <stdlib.h>
#include <string.h>

#include "core/engine_internal.h"
#include "core/sample.h"
#include "core/wildcards.h"

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

int fws_engine_apply(fws_engine *engine, const fws_command *command)
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
