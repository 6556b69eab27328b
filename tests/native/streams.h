/* What clients of an engine under random commands are promised, checked byte by byte: HTTP answers,
 * one 101, then whole legal frames of their own in the order of publishing; nothing behind a
 * Close. Who comes and what happens is up to the driver of the steps. */
#ifndef FWS_TEST_STREAMS_H
#define FWS_TEST_STREAMS_H

#include "seats.h"

#define OK_ANSWER "HTTP/1.1 200 OK\r\n\r\n"
#define CONTINUE_ANSWER "HTTP/1.1 100 Continue\r\n\r\n"
#define BUSY_ANSWER /* of the engine itself */                                               \
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 39\r\n" \
    "Connection: close\r\n\r\nNo memory or file descriptors are left\n"

static uint64_t stale[4], n_stale; /* ids of the dead, whose slots and descriptors others have */
static uint64_t received, whole_frames, compressed_frames; /* received: of any topic */
static uint64_t rested;   /* of them, those of subscriptions with a max_rate */
static uint64_t filtered; /* of them, those of subscriptions to some keys */
static uint64_t replayed; /* of them, those that were there before the subscription */
static uint64_t looks;    /* at everything */
static fws_deflate *codec;
static uint64_t enclosed, batched; /* messages with a number of their own, and in batches */
static uint64_t began, gaps_told, gaps_checked;
/* The driver's; each may be NULL. */
static void (*on_pong)(one *who, const uint8_t *payload, size_t n);
static void (*on_ping)(one *who);
static void (*on_close)(one *who, const uint8_t *payload, size_t n);
static void (*on_harvest)(bool begins);
static void (*on_turn)(void); /* instead of handle(): it may ask for fewer events */

/* A harvest applies what was staged, in order; all of it that a publisher is promised. */

static inline void learn_staged(life *it, uint64_t refused, uint64_t at)
{
    const fws_topic *topic = it->topic; /* what is published to it refers to it until the reap */
    uint64_t taken = topic->log.next_seq - it->known;
    CHECK(taken <= it->staged && it->staged - taken <= refused);
    CHECK(taken == it->staged || it->closed || it->held || may_refuse(topic));
    it->staged = 0;
    learn_life(it, at);
}

static inline void harvest_and_learn(void)
{
    const uint64_t before = engine->eseq, at = engine->now;
    uint64_t refused = engine->counters.staged_refused;
    if (on_harvest != NULL)
        on_harvest(true);
    harvest();
    if (on_harvest != NULL)
        on_harvest(false);
    refused = engine->counters.staged_refused - refused;
    CHECK_EQ(engine->staging.n, 0);
    for (uint32_t i = 0; i < n_staged; i++) {
        message *sent = &messages[staged[i]];
        if (sent->to == 0 && lives[sent->life].staged > 0)
            learn_staged(&lives[sent->life], refused, at);
        if (sent->to != 0) {
            sent->first = before + 1;
            sent->last = engine->eseq;
        }
    }
    n_staged = 0;
    for (uint8_t i = 0; i < NAMES; i++)
        if (topics[i] != NULL)
            present(i)->held = false;
    learn_all_seats();
}

/* What each one got. */

/* With an envelope: what was skipped it was told of, but for keys and a max_rate, where newer ones
 * were sent. */
static inline void check_gap(const one *who, const seat *at, const message *sent)
{
    const life *it = &lives[at->life];
    uint64_t seq = at->next;
    if (!who->envelope || it->keyed || at->rests)
        return;
    while (seq < sent->seq) {
        const message *skipped = message_of(it, seq);
        uint32_t i = who->n_gaps, told = 0;
        uint64_t from = seq;
        if (seq < it->unseen || (skipped != NULL && skipped->without == who->peer->tag)) {
            seq++;
            continue;
        }
        for (; i > 0 && told < GAPS && seq == from; i--, told++) {
            const gap *said = &who->gaps[(i - 1) % GAPS];
            if (said->first <= seq && said->last >= seq)
                seq = said->last + 1;
        }
        CHECK(seq > from);
        gaps_checked++;
    }
}

static inline bool may_follow(const one *who, const seat *at, const message *sent)
{
    uint64_t due = due_next(who, at);
    return at->life == sent->life && sent->seq >= at->start
           && (sent->seq == due
               || (sent->seq > due && (at->jumps || due < lives[at->life].unseen)));
}

static inline void check_published(one *who, const message *sent)
{
    life *it = &lives[sent->life];
    seat *at = &who->seats[it->name];
    it->received++;
    received++;
    if (who->owed.life != 0) { /* nothing else before that one, and nothing more of it */
        CHECK(may_follow(who, &who->owed, sent));
        CHECK(sent->seq < who->owed.head || sent->without != who->peer->tag);
        who->owed.next = sent->seq + 1;
        if (--who->owed_n == 0)
            who->owed.life = 0;
        return;
    }
    CHECK(at->joined && may_follow(who, at, sent) && wants(at->keys, sent->key));
    CHECK(at->began || !who->envelope);
    check_gap(who, at, sent);
    filtered += at->keys != 0;
    CHECK(sent->seq < at->head || sent->without != who->peer->tag);
    replayed += sent->seq < at->head;
    at->next = sent->seq + 1;
    at->newest[sent->key] = sent->seq + 1;
    at->got++;
}

/* The subscription that replays it; NULL: none does. */
static inline const seat *replayed_to(const one *who, const message *sent)
{
    const seat *at = &who->seats[lives[sent->life].name];
    at = who->owed.life != 0 ? &who->owed : at;
    return sent->to == 0 && at->life == sent->life && sent->seq < at->head ? at : NULL;
}

static inline bool rests(const one *who, const message *sent)
{
    const seat *at = who->owed.life != 0 ? &who->owed : &who->seats[lives[sent->life].name];
    return sent->to == 0 && at->life == sent->life && at->rests;
}

/* The order of publishing, across everything but what a max_rate holds back; what is replayed counts
 * as of the subscribing. */
static inline void check_order(one *who, const message *sent)
{
    const seat *at = replayed_to(who, sent);
    if (rests(who, sent)) {
        rested++;
        return;
    }
    CHECK(at != NULL ? at->at >= who->order : sent->last > who->order);
    uint64_t first = at != NULL ? at->at : sent->first;
    who->order = first > who->order ? first : who->order;
}

/* Returns what it is. */
static inline const message *check_data(one *who, const uint8_t *payload, size_t n)
{
    uint32_t number;
    CHECK(n >= sizeof number);
    memcpy(&number, payload, sizeof number);
    CHECK(number < n_messages);
    const message *sent = &messages[number];
    CHECK_EQ(sent->size, n);
    CHECK(memcmp(payload + sizeof number, filling(number), n - sizeof number) == 0);
    check_order(who, sent);
    if (sent->to == 0) {
        check_published(who, sent);
        return sent;
    }
    CHECK_EQ(sent->to, who->peer->tag);
    CHECK(sent->lane == STAGED ? sent->seq >= who->direct[STAGED]
                               : sent->seq == who->direct[AT_ONCE]);
    CHECK(who->owed.life == 0);
    who->direct[sent->lane] = sent->seq + 1;
    return sent;
}

/* The size of the HTTP message that the bytes begin with, 0 when it is not whole. */
static inline size_t check_http(one *who, const uint8_t *data, size_t n)
{
    const char *const answers[] = {who->server ? REQUEST : ANSWER, OK_ANSWER, CONTINUE_ANSWER,
                                   BUSY_ANSWER};
    for (int i = 0; i < (who->server ? 1 : 4); i++) {
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

#include "envelopes.h"

/* A compressed message, as the peer that agreed to it reads it. */
static inline void check_compressed(one *who, const fws_header *header, const uint8_t *payload)
{
    uint8_t *inflated;
    size_t n;
    CHECK(header->rsv == FWS_RSV1 && who->window_bits != 0 && header->opcode < FWS_CLOSE);
    CHECK_EQ(fws_inflate_message(codec, payload, header->length, PAYLOAD_MAX, &inflated, &n),
             FWS_OK);
    CHECK(n >= FWS_DEFLATE_LEAST && n > header->length);
    check_message(who, header->opcode, inflated, n);
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
    else if (header->opcode < FWS_CLOSE)
        check_message(who, header->opcode, payload, header->length);
    else
        CHECK(header->opcode >= FWS_CLOSE && header->length <= FWS_CONTROL_MAX);
    if (header->opcode == FWS_PONG && on_pong != NULL)
        on_pong(who, payload, header->length);
    if (header->opcode == FWS_PING && on_ping != NULL)
        on_ping(who);
    if (header->opcode == FWS_CLOSE && on_close != NULL)
        on_close(who, payload, header->length);
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

/* What a subscription's account says was delivered has arrived; what it says was dropped, was told. */
static inline void check_seat(const seat *at, const fws_sub *sub)
{
    const fws_reader_account account = fws_sub_snapshot(sub, 0);
    CHECK_EQ(account.published,
             account.delivered + account.conflated + account.dropped + account.pending);
    CHECK_EQ(account.delivered, at->got);
    CHECK(!at->tells || account.dropped == at->lost);
}

static inline void check_seats(one *who)
{
    const fws_conn *conn = conn_of(who->peer);
    learn_seats(who);
    for (uint8_t i = 0; who->joined > 0 && i < NAMES; i++)
        if (who->seats[i].joined)
            check_seat(&who->seats[i], fws_conn_find_sub(conn, topics[i]));
    if (who - ones != (ptrdiff_t)(looks % CLIENTS)) /* it takes long */
        return;
    for (uint8_t i = 0; who->joined > 0 && i < NAMES; i++)
        if (who->seats[i].joined)
            check_published_to(who, &who->seats[i], fws_conn_find_sub(conn, topics[i]));
}

/* What is pending of a topic is what its members have still to get, and what is half sent of former
 * ones. */
static inline void check_pending(const fws_topic *topic)
{
    uint64_t pending = walk_topic(topic);
    for (int i = 0; i < CLIENTS; i++) {
        const fws_conn *conn = ones[i].peer == NULL ? NULL : conn_of(ones[i].peer);
        const fws_sub *sub = conn == NULL ? NULL : conn->partial.sub;
        if (sub != NULL && sub->left && sub->topic == topic)
            pending += sub->partial;
    }
    CHECK_EQ(fws_topic_snapshot(topic).pending, pending);
}

static inline void check_all(void)
{
    check_engine();
    looks++;
    hear_losses();
    CHECK(engine->staging.n <= FWS_STAGING_BYTES);
    for (int i = 0; i < CLIENTS; i++) {
        one *who = &ones[i];
        if (who->peer == NULL)
            continue;
        check_seats(who);
        if (who->peer->closed) {
            stale[n_stale++ % 4] = who->peer->tag;
            *who = (one){0};
        }
    }
    CHECK_EQ(received, engine->topics.account.delivered); /* what counts as delivered arrived */
    for (uint8_t i = 0; i < NAMES; i++)
        if (topics[i] != NULL) {
            CHECK_EQ(present(i)->received, topics[i]->account.delivered);
            check_kept(present(i));
            check_pending(topics[i]);
        }
}

#endif
