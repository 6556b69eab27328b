/* What clients of an engine under random commands are promised, checked byte by byte: HTTP answers,
 * one 101, then whole legal frames of their own in the order of publishing; nothing behind a
 * Close. Who comes and what happens is up to the driver of the steps. */
#ifndef FWS_TEST_STREAMS_H
#define FWS_TEST_STREAMS_H

#include "sent.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\n\r\n"
#define CONTINUE_ANSWER "HTTP/1.1 100 Continue\r\n\r\n"

static uint64_t stale[4], n_stale; /* ids of the dead, whose slots and descriptors others have */
static uint64_t received[TOPICS], whole_frames, compressed_frames;
static fws_deflate *codec;
static void (*on_pong)(one *who, const uint8_t *payload, size_t n);

static inline void check_stream(one *who);

/* Where its subscriptions start. */
static inline void learn_starts(one *who)
{
    const fws_conn *conn = conn_of(who->peer);
    for (uint8_t i = 0; conn != NULL && i < TOPICS; i++) {
        const fws_sub *sub = fws_conn_find_sub(conn, topics[i]);
        if (sub == NULL || (who->joined[i] && who->start[i] == sub->start))
            continue;
        CHECK(!who->server);
        check_stream(who); /* all that it got whole is of former ones; what is half sent, too */
        if (conn->partial.data == NULL || !conn->partial.sub->left
            || conn->partial.sub->topic != topics[i])
            who->owed[i] = 0;
        else if (who->owed[i] == 0)
            who->owed[i] = 1 + (who->start[i] > who->next[i] ? who->start[i] : who->next[i]);
        who->joined[i] = true;
        who->start[i] = sub->start;
    }
}

static inline void join(one *who, uint8_t topic)
{
    int status = subscribe(who->peer, topics[topic]);
    CHECK(status != FWS_OK || !who->server || lane == STAGED); /* its frames would be masked */
    learn_starts(who);
}

/* A harvest applies what was staged, in order; all of it that a publisher is promised. */
static inline void harvest_and_learn(void)
{
    const uint64_t before = engine->eseq;
    uint64_t refused = engine->counters.staged_refused;
    harvest();
    refused = engine->counters.staged_refused - refused;
    CHECK_EQ(engine->staging.n, 0);
    for (uint8_t i = 0; i < TOPICS; i++) {
        uint64_t taken = topics[i]->log.next_seq - known[i];
        CHECK(taken <= staged_for[i] && staged_for[i] - taken <= refused);
        CHECK(taken == staged_for[i] || topics[i]->options->on_slow == FWS_SLOW_LOSSLESS);
        staged_for[i] = 0;
        learn_topic(i);
    }
    for (uint32_t i = 0; i < n_staged; i++)
        if (messages[staged[i]].to != 0) {
            messages[staged[i]].first = before + 1;
            messages[staged[i]].last = engine->eseq;
        }
    n_staged = 0;
    for (int i = 0; i < CLIENTS; i++)
        if (ones[i].peer != NULL)
            learn_starts(&ones[i]);
}

/* What each one got. */

static inline bool may_follow(const one *who, uint8_t topic, uint64_t seq)
{
    if (seq == who->next[topic] || seq + 1 == who->owed[topic])
        return true;
    return seq > who->next[topic]
           && (seq == who->start[topic] || topics[topic]->options->on_slow == FWS_SLOW_LATEST);
}

static inline void check_data(one *who, const uint8_t *payload, size_t n)
{
    uint32_t number;
    CHECK(n >= sizeof number);
    memcpy(&number, payload, sizeof number);
    CHECK(number < n_messages);
    const message *sent = &messages[number];
    CHECK_EQ(sent->size, n);
    CHECK(memcmp(payload + sizeof number, filling(number), n - sizeof number) == 0);
    CHECK(sent->last > who->order); /* the order of publishing, across everything */
    who->order = sent->first > who->order ? sent->first : who->order;
    if (sent->to != 0) {
        CHECK_EQ(sent->to, who->peer->tag);
        CHECK(sent->lane == STAGED ? sent->seq >= who->direct[STAGED]
                                   : sent->seq == who->direct[AT_ONCE]);
        who->direct[sent->lane] = sent->seq + 1;
        return;
    }
    CHECK(who->joined[sent->topic] && may_follow(who, sent->topic, sent->seq));
    who->next[sent->topic] = sent->seq + 1;
    who->owed[sent->topic] = 0;
    received[sent->topic]++;
}

/* The size of the HTTP message that the bytes begin with, 0 when it is not whole. */
static inline size_t check_http(one *who, const uint8_t *data, size_t n)
{
    const char *const answers[] = {who->server ? REQUEST : ANSWER, OK_ANSWER, CONTINUE_ANSWER};
    for (int i = 0; i < (who->server ? 1 : 3); i++) {
        size_t whole = strlen(answers[i]), there = n < whole ? n : whole;
        if (memcmp(data, answers[i], there) != 0)
            continue;
        who->open = i == 0 && n >= whole;
        CHECK(!who->open || who->upgraded || who->server);
        return n >= whole ? whole : 0;
    }
    CHECK(!"HTTP that nobody wrote");
    return 0;
}

/* A compressed message, as the peer that agreed to it reads it. */
static inline void check_compressed(one *who, const fws_header *header, const uint8_t *payload)
{
    uint8_t *inflated;
    size_t n;
    CHECK(header->rsv == FWS_RSV1 && who->window_bits != 0 && header->opcode < FWS_CLOSE);
    CHECK_EQ(fws_inflate_message(codec, payload, header->length, PAYLOAD_MAX, &inflated, &n),
             FWS_OK);
    CHECK(n >= FWS_DEFLATE_LEAST && n > header->length);
    check_data(who, inflated, n);
    free(inflated);
    compressed_frames++;
}

static inline void check_frame(one *who, const fws_header *header, uint8_t *payload)
{
    CHECK(header->fin && header->masked == who->server && !who->closed);
    if (header->masked)
        fws_mask(payload, header->length, header->key, 0);
    whole_frames++;
    if (header->rsv != 0)
        check_compressed(who, header, payload);
    else if (header->opcode == FWS_BINARY)
        check_data(who, payload, header->length);
    else
        CHECK(header->opcode >= FWS_CLOSE && header->length <= FWS_CONTROL_MAX);
    if (header->opcode == FWS_PONG && on_pong != NULL)
        on_pong(who, payload, header->length);
    who->closed = header->opcode == FWS_CLOSE;
    if (who->closed && header->length > 0) {
        CHECK(header->length >= 2);
        CHECK(fws_close_code_valid((uint16_t)(payload[0] << 8 | payload[1])));
    }
}

static inline void check_stream(one *who)
{
    fake_peer *peer = who->peer;
    size_t at = 0, used;
    fws_header header;
    int size = 0;
    while (!who->open && at < peer->out_n
           && (used = check_http(who, peer->out + at, peer->out_n - at)) > 0)
        at += used;
    while (who->open && (size = fws_header_decode(peer->out + at, peer->out_n - at, &header)) > 0
           && peer->out_n - at - (size_t)size >= header.length) {
        check_frame(who, &header, peer->out + at + size);
        at += (size_t)size + header.length;
    }
    CHECK(size >= 0);
    CHECK(!who->closed || at == peer->out_n); /* nothing follows a Close */
    if (at > 0)
        memmove(peer->out, peer->out + at, peer->out_n - at);
    peer->out_n -= at;
}

/* A variant is there while somebody reads it; the logs hold what somebody needs, and more than the
 * retention only for those who were not offered it yet, or until the next sweep applies policies. */
static inline void check_logs(const fws_topic *topic)
{
    const uint64_t most = topic->options->retention_bytes + 2 * FWS_SLAB_BYTES + PAYLOAD_MAX;
    uint32_t readers[FWS_VARIANTS] = {0};
    const fws_slab *oldest = fws_log_oldest(&topic->log);
    CHECK(oldest == NULL || oldest->readers > 0 || topic->ahead > 0
          || (topic->lapped > 0 && oldest == topic->log.growing)
          || (topic->caught > 0 && oldest->base_seq + oldest->n > topic->woken));
    bool excess = oldest != NULL && (oldest->readers > 0 || topic->caught > 0);
    CHECK(fws_log_retained(&topic->log) <= most || excess);
    for (uint32_t i = 0; i < topic->n; i++)
        if (topic->members[i]->extra != NULL && topic->members[i]->extra->variant != NULL)
            readers[topic->members[i]->extra->variant->window_bits - FWS_WINDOW_MIN]++;
    for (uint32_t i = 0; i < FWS_VARIANTS; i++) {
        const fws_variant *variant = topic->variants == NULL ? NULL : topic->variants[i];
        CHECK_EQ(variant == NULL ? 0 : variant->readers, readers[i]);
        CHECK((variant == NULL) == (readers[i] == 0));
        CHECK(variant == NULL || fws_log_retained(&variant->log) <= most || excess);
    }
}

static inline void check_all(void)
{
    check_engine();
    CHECK(engine->staging.n <= FWS_STAGING_BYTES);
    for (int i = 0; i < CLIENTS; i++) {
        one *who = &ones[i];
        if (who->peer == NULL)
            continue;
        if (who->peer->out_n > 0)
            check_stream(who);
        if (who->peer->closed) {
            stale[n_stale++ % 4] = who->peer->tag;
            *who = (one){0};
        }
    }
    for (int i = 0; i < TOPICS; i++) {
        CHECK_EQ(received[i],
                 topics[i]->account.delivered); /* what counts as delivered arrived whole */
        check_logs(topics[i]);
    }
}

/* The beginning and the end of a run. */

static inline void streams_open(const fws_options *options)
{
    n_stale = n_messages = n_staged = 0;
    whole_frames = compressed_frames = 0;
    memset(stale, 0, sizeof stale);
    memset(known, 0, sizeof known);
    memset(staged_for, 0, sizeof staged_for);
    memset(received, 0, sizeof received);
    memset(ones, 0, sizeof ones);
    if (codec == NULL && fws_deflate_available())
        codec = fws_deflate_new();
    engine_open(options);
    fws_engine_drain(engine); /* from here on there is a thread that drives */
    from_lane(AT_ONCE);
}

static inline one *one_of(const fws_conn *conn)
{
    one *who = ones;
    while (who->peer == NULL || who->peer->fd != conn->fd)
        CHECK(++who < ones + CLIENTS);
    return who;
}

/* Opens a connection in the client role: the peer is a server, which sees the request. */
static inline void call(one *who)
{
    *who = (one){.peer = fake_new(), .server = true};
    CHECK(fws_engine_attach(engine, fake_open(who->peer), FWS_CLIENT, (const uint8_t *)REQUEST,
                            strlen(REQUEST))
          != NULL);
}

static inline void whole_turn(void)
{
    harvest_and_learn();
    handle();
    flush();
    reap();
}

static inline void until_at_rest(void)
{
    for (int i = 0; i < 200; i++) {
        whole_turn();
        if (i > 2 && !fws_engine_more(engine))
            return;
    }
    CHECK(!"it comes to rest");
}

/* Everybody reads: what is promised to those who are still there arrives. */
static inline void settle_down(void)
{
    for (int i = 0; i < CLIENTS; i++)
        if (ones[i].peer != NULL) {
            ones[i].peer->send_errno_count = 0;
            fake_room(ones[i].peer, PLENTY);
        }
    until_at_rest();
    net.now += FWS_SWEEP_NS;
    until_at_rest();
    check_all();
    for (int i = 0; i < TOPICS; i++) {
        CHECK_EQ(fws_topic_snapshot(topics[i]).pending, 0);
        CHECK_EQ(topics[i]->caught, topics[i]->n);
    }
}

#endif
