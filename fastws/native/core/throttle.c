/* The rates of one peer: messages and bytes a second. */
#include "core/engine_internal.h"

#define FEW 32u     /* bytes that are read at once for each message that it may send now, and */
#define LEAST 4096u /* that many at least */

/* Once our Close is queued only its answer is waited for, and its time is short. */
static void throttle(fws_engine *engine, fws_conn *conn, enum fws_limit_met limit,
                     uint64_t *counter)
{
    if (conn->state != FWS_OPEN)
        return;
    conn->throttled = conn->behind = true;
    (*counter)++;
    fws_conn_met(engine, conn, limit);
    fws_conn_due(engine, conn, fws_conn_throttled_until(engine, conn));
}

/* What is read and may not be parsed yet is kept in memory: of many small messages that is little,
 * of the payload that is being read nothing. */
static size_t chunk_within(const fws_engine *engine, const fws_conn *conn, size_t n)
{
    const fws_parser *parser = &conn->reader.parser;
    uint64_t rate = engine->options.message_rate;
    if (n <= LEAST || rate == 0)
        return n;
    uint64_t most = fws_rate_room(fws_allowance_of(engine, conn).messages, rate, engine->now) * FEW;
    most = (most > LEAST ? most : LEAST) + (parser->in_frame ? parser->remaining : 0);
    return most < n ? (size_t)most : n;
}

size_t fws_conn_may_read(fws_engine *engine, fws_conn *conn, size_t n)
{
    uint64_t rate = engine->options.byte_rate;
    n = chunk_within(engine, conn, n);
    if (rate == 0 || conn->state != FWS_OPEN)
        return n;
    uint64_t room = fws_rate_room(fws_allowance_of(engine, conn).bytes, rate, engine->now);
    if (room == 0)
        throttle(engine, conn, FWS_MET_BYTE_RATE, &engine->counters.byte_rate_paused);
    return room < n ? (size_t)room : n;
}

void fws_conn_spend_bytes(fws_engine *engine, fws_conn *conn, size_t n)
{
    uint64_t rate = engine->options.byte_rate;
    if (rate == 0 || n == 0 || conn->state != FWS_OPEN)
        return;
    fws_allowance *own = fws_allowance_own(engine, conn);
    if (own != NULL) /* else memory is out, and there is no limit for now */
        own->bytes = fws_rate_take(own->bytes, rate, n, engine->now);
}

void fws_conn_spend_message(fws_engine *engine, fws_conn *conn)
{
    uint64_t rate = engine->options.message_rate;
    fws_allowance *own = fws_allowance_own(engine, conn);
    if (own == NULL)
        return;
    own->messages = fws_rate_take(own->messages, rate, 1, engine->now);
    if (fws_rate_wait(own->messages, rate, engine->now) > 0)
        throttle(engine, conn, FWS_MET_MESSAGE_RATE, &engine->counters.message_rate_paused);
}

void fws_conn_unthrottle(fws_engine *engine, fws_conn *conn)
{
    if (conn->throttled) {
        conn->throttled = false;
        fws_conn_resume(engine, conn);
    }
}

uint64_t fws_conn_throttled_until(const fws_engine *engine, const fws_conn *conn)
{
    const fws_options *options = &engine->options;
    const fws_allowance own = fws_allowance_of(engine, conn);
    uint64_t wait = 0, bytes = 0;
    if (options->message_rate != 0)
        wait = fws_rate_wait(own.messages, options->message_rate, engine->now);
    if (options->byte_rate != 0)
        bytes = fws_rate_wait(own.bytes, options->byte_rate, engine->now);
    return fws_engine_time(engine) + (wait > bytes ? wait : bytes);
}
