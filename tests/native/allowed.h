/* What each client may send in its rates, counted apart from the engine, in whole units: a bucket
 * of a second's worth each for bytes and messages. */
#ifndef FWS_TEST_ALLOWED_H
#define FWS_TEST_ALLOWED_H

#include "clocks.h"

/* A token is 10^9 of them: what a rate of 1 brings in a nanosecond is one. */
typedef struct allowed {
    uint64_t id, at; /* whose, and as of when */
    __int128 bytes, messages;
} allowed;

static allowed allowances[CLIENTS];
static uint64_t slowed; /* times a client was not read from for its rate */

static inline void fill(__int128 *tokens, uint64_t rate, uint64_t ns)
{
    const __int128 most = (__int128)rate * SECOND;
    *tokens += (__int128)rate * ns;
    *tokens = *tokens > most ? most : *tokens;
}

static inline allowed *allowed_now(const fws_conn *conn, ptrdiff_t i)
{
    const fws_options *options = &engine->options;
    allowed *of = &allowances[i];
    if (of->id != conn->id)
        *of = (allowed){.id = conn->id};
    fill(&of->bytes, options->byte_rate, net.now - of->at);
    fill(&of->messages, options->message_rate, net.now - of->at);
    of->at = net.now;
    return of;
}

/* A unit of 1/256 ns is the engine's to round by, and a look at the clock. */
static inline void spend(__int128 *tokens, uint64_t rate, uint64_t n)
{
    *tokens -= (__int128)n * SECOND;
    CHECK(rate == 0 || *tokens >= -(__int128)rate * 1000);
}

static ssize_t allowed_recv(int fd, void *room, size_t n, int flags)
{
    ssize_t got = watched_recv(fd, room, n, flags);
    const watch *of = watch_of(fd);
    const fws_conn *conn = of == NULL ? NULL : conn_of(ones[of - watches].peer);
    if (got > 0 && conn != NULL && conn->state == FWS_OPEN && (flags & MSG_PEEK) == 0)
        spend(&allowed_now(conn, of - watches)->bytes, engine->options.byte_rate, (uint64_t)got);
    return got;
}

static inline void allowed_message(const fws_conn *conn, ptrdiff_t i)
{
    spend(&allowed_now(conn, i)->messages, engine->options.message_rate, 1);
}

#endif
