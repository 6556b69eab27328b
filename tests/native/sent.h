/* Messages under numbers, with which each of them begins: what it was, and when the engine took it,
 * at once or, from another thread, at the next harvest. */
#ifndef FWS_TEST_SENT_H
#define FWS_TEST_SENT_H

#include "lives.h"

#define CLIENTS 24
#define PAYLOAD_MAX 150000U
#define MESSAGES_MAX (1U << 18)

enum lane { AT_ONCE, STAGED }; /* a command from the driving thread, from another one */

#define GAPS 64U

typedef struct gap {
    uint64_t first, last;
} gap;

/* A client's subscription under one name. */
typedef struct seat {
    uint32_t life, id;     /* of the topic, of the subscription */
    bool joined;           /* it is there */
    bool jumps;            /* its policy may have been to skip, since it last had everything */
    bool rests;            /* it had a max_rate, since then: others may go ahead of it */
    bool waits;            /* its policy has been lossless since then */
    uint32_t keys;         /* that it wants, a bit each; 0: all messages */
    bool counts;           /* from start on everything was published to it that it is to get */
    bool tells;            /* it tells what it loses, from its beginning on */
    uint64_t lost;         /* of them, what it told of */
    uint64_t start, got;   /* its first sequence number; messages that arrived */
    uint64_t head, at;     /* those before head were there when it began, at that engine sequence */
    uint64_t next;         /* sequence number that is due, if nothing is excluded */
    bool began;            /* told where it begins: with an envelope */
    bool drops;            /* its policy may have been to drop the oldest, since then */
    uint64_t newest[KEYS]; /* by key: behind the last message that arrived */
} seat;

typedef struct one {
    fake_peer *peer;                    /* NULL: free */
    bool upgraded, open, closed;        /* it was to get the 101, got it, got a Close */
    bool alone;                         /* it subscribes to nothing */
    bool server;                        /* the peer is: the engine has the client role */
    bool envelope;                      /* of all that it subscribes to */
    uint16_t batch;                     /* likewise; 0: none */
    gap gaps[GAPS];                     /* the last ones that it was told of */
    uint32_t n_gaps;
    unsigned window_bits;               /* that it agreed on; 0: nothing is compressed */
    uint64_t order;                     /* engine sequence that the last message had, at least */
    uint64_t direct[2], direct_next[2]; /* by lane: expected, given */
    seat seats[NAMES];
    uint32_t joined;       /* of the seats */
    seat owed;             /* a former one, of which messages are half sent; life 0: none */
    uint32_t owed_n;       /* so many */
    uint64_t pings, pongs; /* sent, and the number that is due next: the driver's */
} one;

typedef struct message {
    uint64_t first, last; /* engine sequence: at least, at most; last 0: never taken */
    uint64_t seq;         /* of its topic, or of its client and lane */
    uint64_t to;          /* the client's id; 0: those who subscribed */
    uint64_t without;     /* but that one's; 0: all of them */
    uint64_t at;          /* when, at the earliest, ns */
    uint32_t size, life, key;
    uint8_t lane;
} message;

static one ones[CLIENTS];
static message messages[MESSAGES_MAX];
static uint32_t n_messages, staged[MESSAGES_MAX], n_staged;
static enum lane lane;

/* What a message holds behind its number: text that shrinks, or noise that does not. */
static inline const uint8_t *filling(uint32_t number)
{
    static uint8_t text[PAYLOAD_MAX + 4096], noise[PAYLOAD_MAX + 4096];
    uint64_t random = 7;
    if (text[0] == 0)
        for (size_t i = 0; i < sizeof text; i++) {
            noise[i] = (uint8_t)test_random(&random);
            text[i] = (uint8_t)("a message about messages, "[i % 26] + (noise[i] % 64 == 0));
        }
    return (number % 4 == 0 ? noise : text) + number % 4096;
}

static inline fws_command compose(uint8_t kind, size_t n)
{
    static uint8_t payload[PAYLOAD_MAX];
    const uint32_t number = n_messages++;
    CHECK(number < MESSAGES_MAX);
    n = n < sizeof number ? sizeof number : n > PAYLOAD_MAX ? PAYLOAD_MAX : n;
    memcpy(payload, &number, sizeof number);
    memcpy(payload + sizeof number, filling(number), n - sizeof number);
    messages[number] = (message){.size = (uint32_t)n, .lane = (uint8_t)lane};
    return (fws_command){.kind = kind, .opcode = FWS_BINARY, .data = payload, .n = n};
}

/* Commands. In the lane STAGED they take the door that other threads have. */

static inline void from_lane(enum lane which)
{
    lane = which;
    if (which == AT_ONCE)
        fws_engine_drive(engine);
    else
        engine->driver = UINT64_MAX; /* no thread has that number */
}

static inline bool staging_fits(size_t n)
{
    return engine->staging.n + sizeof(fws_command) + ((n + 7) & ~(size_t)7) <= FWS_STAGING_BYTES;
}

/* The bytes wait for the next turn, or there was no room for them. */
static inline int stage_message(const fws_command *what)
{
    bool fits = staging_fits(what->n + what->key_n);
    int status = fws_engine_command(engine, what);
    bool budget = engine->options.max_buffered_bytes > 0;
    CHECK(status == (fits ? FWS_OK : FWS_E_FULL) || (budget && status == FWS_E_FULL));
    if (status == FWS_OK)
        staged[n_staged++] = n_messages - 1;
    return status;
}

static inline void learn_one(life *it, const fws_slab *slab, uint64_t seq, uint64_t at)
{
    fws_header header;
    uint32_t number, index = (uint32_t)(seq - slab->base_seq);
    const uint8_t *frame = slab->data + fws_slab_start(slab, index);
    int head = fws_header_decode(frame, FWS_HEADER_MAX, &header);
    CHECK(head > 0);
    memcpy(&number, frame + head, sizeof number);
    CHECK(number < n_messages && messages[number].last == 0);
    CHECK(&lives[messages[number].life] == it);
    messages[number].seq = seq;
    messages[number].at = at;
    messages[number].first = messages[number].last = fws_slab_eseq(slab, index);
    it->newest[messages[number].key] = seq + 1;
    numbers[it->name][seq % NUMBERS] = number;
}

/* What the topic's log has got since: its numbers, and when each was taken. What the log has
 * retired since, nobody can have been sent, but the newest frames of keys. */
static inline void learn_life(life *it, uint64_t at)
{
    const fws_log *log = &it->topic->log;
    const fws_keyed *saved;
    while (it->known < log->first_seq && it->topic->keys != NULL
           && (saved = fws_keys_from(it->topic->keys, it->known)) != NULL
           && saved->seq < log->first_seq) {
        learn_one(it, saved->key->saved, saved->seq, at);
        it->known = it->unseen = saved->seq + 1;
    }
    if (it->known < log->first_seq)
        it->known = it->unseen = log->first_seq;
    for (; it->known < log->next_seq; it->known++)
        learn_one(it, fws_log_slab(log, it->known, log->head), it->known, at);
}

/* Its message with that sequence number; NULL: not known any more. */
static inline const message *message_of(const life *it, uint64_t seq)
{
    uint32_t number = numbers[it->name][seq % NUMBERS];
    const message *found = &messages[number];
    bool same = number < n_messages && found->seq == seq && &lives[found->life] == it;
    return same && found->last != 0 ? found : NULL;
}

/* A log may refuse: to keep what lossless members need, within their limits or the budget. */
static inline bool may_refuse(const fws_topic *topic)
{
    return topic->lossless > 0 || topic->topics->logs.most > 0;
}

/* A topic without lossless members may refuse only what does not fit into the budget, and only while
 * all that the logs hold belongs to topics with lossless members. n: bytes of the payload. */
static inline void check_refusal(const fws_topic *topic, size_t n)
{
    const fws_logs *logs = &topic->topics->logs;
    if (topic->lossless > 0)
        return;
    size_t need = fws_log_need(&topic->log, fws_header_size(n, false) + n);
    CHECK(logs->most > 0 && logs->bytes + need > logs->most);
    for (uint32_t i = 0; need <= logs->most && i < FWS_LOG_BUCKETS; i++)
        for (fws_link *at = logs->buckets[i].next; at != &logs->buckets[i]; at = at->next) {
            const fws_log *log = FWS_CONTAINER(at, fws_log, link);
            /* Without a slab it holds what filters need. */
            CHECK(log->head == log->tail || FWS_CONTAINER(log, fws_topic, log)->lossless > 0);
        }
}

/* The keys that a subscription wants, a bit each; 0: it has no filter. */
static inline uint32_t keys_of(const fws_sub *sub)
{
    uint32_t keys = 0, key;
    fws_key_name name;
    for (uint32_t i = 0; (name = fws_sub_key_name(sub, i)).data != NULL; i++) {
        key = 0;
        CHECK(name.n == 0 || name.n == sizeof key);
        memcpy(&key, name.data, name.n);
        CHECK(key < KEYS && !(keys >> key & 1));
        keys |= 1U << key;
    }
    return keys;
}

static inline bool wants(uint32_t keys, uint32_t key)
{
    return keys == 0 || keys >> key & 1;
}

static inline uint32_t wanted_by(const fws_topic *topic, uint32_t key)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < topic->n; i++)
        n += wants(keys_of(topic->members[i]), key);
    return n;
}

/* Publishes n bytes for all subscribers but that client. */
static inline int publish_without(uint8_t name, const one *but, size_t n)
{
    life *it = present(name);
    if (it == NULL)
        return FWS_E_CLOSED;
    const fws_topic *topic = it->topic;
    fws_command what = compose(FWS_CMD_PUBLISH, n);
    message *sent = &messages[n_messages - 1];
    what.topic = it->topic;
    what.opcode = name % 2 == 0 ? FWS_BINARY : FWS_TEXT;
    if (is_keyed(name)) {
        sent->key = (n_messages * 7 + (uint32_t)n) % KEYS;
        what.key = (const uint8_t *)&sent->key;
        what.key_n = sent->key == 0 ? 0 : sizeof sent->key;
    }
    sent->life = (uint32_t)(it - lives);
    what.conn = sent->without = but == NULL || but->peer == NULL ? 0 : but->peer->tag;
    if (lane == STAGED) {
        int status = stage_message(&what);
        it->staged += status == FWS_OK;
        it->held |= may_refuse(topic);
        return status;
    }
    const fws_conn *conn = what.conn == 0 ? NULL : conn_of(but->peer);
    const fws_sub *but_sub = conn == NULL ? NULL : fws_conn_find_sub(conn, topic);
    bool excluded = but_sub != NULL && wants(keys_of(but_sub), sent->key);
    uint64_t before = topic->account.published, full = engine->counters.log_full;
    int status = fws_engine_command(engine, &what);
    CHECK_EQ(engine->counters.log_full - full, status == FWS_E_FULL);
    CHECK(status >= 0 || (status == FWS_E_FULL && may_refuse(topic))
          || (status == FWS_E_CLOSED && it->closed));
    if (status == FWS_E_FULL)
        check_refusal(topic, what.n);
    CHECK_EQ(topic->account.published - before,
             status < 0 ? 0 : wanted_by(topic, sent->key) - excluded);
    learn_life(it, engine->now);
    return status;
}

static inline int publish_one(uint8_t name, size_t n)
{
    return publish_without(name, NULL, n);
}

/* Refused for its own limit or the budget, a part of which is kept for others; never past it. */
static inline int send_at_once(const one *who, const fws_command *what)
{
    const uint64_t most = engine->options.max_buffered_bytes;
    const fws_conn *conn = conn_of(who->peer);
    const uint64_t waits = conn == NULL ? 0 : conn->outbox.allocated;
    const uint64_t before = fws_engine_buffered(engine) + what->n;
    uint64_t full = engine->counters.log_full;
    int status = fws_engine_command(engine, what);
    CHECK_EQ(engine->counters.log_full - full, status == FWS_E_FULL);
    CHECK(status != FWS_OK || most == 0 || before <= most);
    CHECK(status != FWS_E_FULL || waits > engine->options.outbox_limit
          || (most > 0 && before + most / 8 > most));
    return status;
}

static inline void send_one(one *who, size_t n)
{
    fws_command what = compose(FWS_CMD_SEND, n);
    message *sent = &messages[n_messages - 1];
    what.conn = sent->to = who->peer->tag;
    sent->seq = who->direct_next[lane];
    int status = lane == STAGED ? stage_message(&what) : send_at_once(who, &what);
    CHECK(status == FWS_OK || status == FWS_E_CLOSED || status == FWS_E_FULL);
    who->direct_next[lane] += status == FWS_OK;
    if (status == FWS_OK && lane == AT_ONCE)
        sent->first = sent->last = engine->eseq;
}

#endif
