/* Messages under numbers, with which each of them begins: what it was, and when the engine took it,
 * at once or, from another thread, at the next harvest. */
#ifndef FWS_TEST_SENT_H
#define FWS_TEST_SENT_H

#include "engine_fixture.h"

#define CLIENTS 24
#define TOPICS 3
#define PAYLOAD_MAX 150000U
#define MESSAGES_MAX (1U << 18)

enum lane { AT_ONCE, STAGED }; /* a command from the driving thread, from another one */

typedef struct one {
    fake_peer *peer;                      /* NULL: free */
    bool upgraded, open, closed;          /* it was to get the 101, got it, got a Close */
    bool server;                          /* the peer is: the engine has the client role */
    unsigned window_bits;                 /* that it agreed on; 0: nothing is compressed */
    uint64_t order;                       /* engine sequence that the last message had, at least */
    uint64_t direct[2], direct_next[2];   /* by lane: expected, given */
    uint64_t next[TOPICS], start[TOPICS]; /* sequence number expected; of its subscription */
    uint64_t owed[TOPICS]; /* that of a former one's frame that is half sent, and 1; 0: none */
    bool joined[TOPICS];
    uint64_t pings, pongs; /* sent, and the number that is due next: the driver's */
} one;

typedef struct message {
    uint64_t first, last; /* engine sequence: at least, at most; last 0: never taken */
    uint64_t seq;         /* of its topic, or of its client and lane */
    uint64_t to;          /* the client's id; 0: those who subscribed */
    uint32_t size;
    uint8_t topic, lane;
} message;

static one ones[CLIENTS];
static fws_topic *topics[TOPICS];
static message messages[MESSAGES_MAX];
static uint32_t n_messages, staged[MESSAGES_MAX], n_staged;
static uint64_t known[TOPICS]; /* the topic's messages before that number were looked at */
static uint64_t staged_for[TOPICS];
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
    engine->driver = which == AT_ONCE ? pthread_self() : (pthread_t)0;
}

static inline bool staging_fits(size_t n)
{
    return engine->staging.n + sizeof(fws_command) + ((n + 7) & ~(size_t)7) <= FWS_STAGING_BYTES;
}

/* The bytes wait for the next turn, or there was no room for them. */
static inline int stage_message(const fws_command *what)
{
    bool fits = staging_fits(what->n);
    int status = fws_engine_command(engine, what);
    CHECK_EQ(status, fits ? FWS_OK : FWS_E_FULL);
    if (fits)
        staged[n_staged++] = n_messages - 1;
    return status;
}

/* What the topic's log has got since: its numbers, and when each was taken. What the log has
 * retired since, nobody can have been sent. */
static inline void learn_topic(uint8_t topic)
{
    const fws_log *log = &topics[topic]->log;
    for (; known[topic] < log->next_seq; known[topic]++) {
        fws_header header;
        uint32_t number;
        if (known[topic] < log->first_seq)
            continue;
        const fws_slab *slab = fws_log_slab(log, known[topic], log->head);
        uint32_t index = (uint32_t)(known[topic] - slab->base_seq);
        const uint8_t *frame = slab->data + fws_slab_start(slab, index);
        int head = fws_header_decode(frame, FWS_HEADER_MAX, &header);
        CHECK(head > 0);
        memcpy(&number, frame + head, sizeof number);
        CHECK(number < n_messages && messages[number].last == 0);
        CHECK(messages[number].topic == topic && messages[number].to == 0);
        messages[number].seq = known[topic];
        messages[number].first = fws_slab_eseq(slab, index);
        messages[number].last = messages[number].first;
    }
}

static inline void publish_one(uint8_t topic, size_t n)
{
    bool lossless = topics[topic]->options->on_slow == FWS_SLOW_LOSSLESS;
    fws_command what = compose(FWS_CMD_PUBLISH, n);
    what.topic = topics[topic];
    messages[n_messages - 1].topic = topic;
    if (lane == STAGED) {
        staged_for[topic] += stage_message(&what) == FWS_OK;
        return;
    }
    int status = fws_engine_command(engine, &what);
    CHECK(status >= 0 || (status == FWS_E_FULL && lossless));
    learn_topic(topic);
}

static inline void send_one(one *who, size_t n)
{
    fws_command what = compose(FWS_CMD_SEND, n);
    message *sent = &messages[n_messages - 1];
    what.conn = sent->to = who->peer->tag;
    sent->seq = who->direct_next[lane];
    int status = lane == STAGED ? stage_message(&what) : fws_engine_command(engine, &what);
    CHECK(status == FWS_OK || status == FWS_E_CLOSED || status == FWS_E_FULL);
    who->direct_next[lane] += status == FWS_OK;
    if (status == FWS_OK && lane == AT_ONCE)
        sent->first = sent->last = engine->eseq;
}

#endif
