/* What clients of an engine under random commands are promised, checked byte by byte: HTTP answers,
 * one 101, then whole legal frames of their own whose numbers rise; nothing behind a Close. */
#ifndef FWS_FUZZ_STREAMS_H
#define FWS_FUZZ_STREAMS_H

#include "fuzz.h"
#include "house.h"

#define CLIENTS 6
#define TOPICS 3
#define DIRECT 9
#define STARTS 32
#define PAYLOAD_MAX 40000U /* alone in a slab, and a rest too large to copy */
#define OK_ANSWER "HTTP/1.1 200 OK\r\n\r\n"
#define CONTINUE_ANSWER "HTTP/1.1 100 Continue\r\n\r\n"

typedef struct payload_head { /* how every payload begins */
    uint64_t seq, order;      /* of its topic or connection; over all that is sent */
    uint32_t size;
    uint8_t topic;
} payload_head;

typedef struct one {
    fake_peer *peer;        /* NULL: free */
    bool upgraded, open, closed; /* it was to get the 101, got it, got a Close */
    uint64_t order, direct, direct_next;
    uint64_t next[TOPICS];  /* sequence number expected */
    uint64_t starts[TOPICS][STARTS]; /* where its subscriptions started */
    uint32_t n_starts[TOPICS];
} one;

static one ones[CLIENTS];
static uint64_t stale[4], n_stale; /* ids of the dead, whose slots and descriptors others have */
static fws_topic *topics[TOPICS];
static uint64_t order, received[TOPICS];

static inline size_t compose(uint8_t *payload, uint8_t topic, uint64_t seq, size_t n)
{
    payload_head head = {.seq = seq, .order = ++order, .topic = topic};
    n = n < sizeof head ? sizeof head : n > PAYLOAD_MAX ? PAYLOAD_MAX : n;
    head.size = (uint32_t)n;
    memcpy(payload, &head, sizeof head);
    memset(payload + sizeof head, (uint8_t)order, n - sizeof head);
    return n;
}

static inline bool may_follow(const one *who, uint8_t topic, uint64_t seq)
{
    if (seq == who->next[topic])
        return true;
    for (uint32_t i = 0; i < who->n_starts[topic]; i++)
        if (who->starts[topic][i] == seq)
            return seq > who->next[topic];
    return topics[topic]->options.on_slow == FWS_SLOW_LATEST && seq > who->next[topic];
}

static inline void check_data(one *who, const uint8_t *payload, size_t n)
{
    payload_head head;
    CHECK(n >= sizeof head);
    memcpy(&head, payload, sizeof head);
    CHECK_EQ(head.size, n);
    CHECK(head.order > who->order); /* the order of publishing, across everything */
    who->order = head.order;
    const uint8_t *fill = payload + sizeof head;
    size_t fill_n = n - sizeof head;
    CHECK(fill_n == 0 || *fill == (uint8_t)head.order);
    CHECK(fill_n < 2 || memcmp(fill, fill + 1, fill_n - 1) == 0); /* and so on to the end */
    if (head.topic == DIRECT) {
        CHECK_EQ(head.seq, who->direct++);
        return;
    }
    CHECK(head.topic < TOPICS && who->n_starts[head.topic] > 0);
    CHECK(may_follow(who, head.topic, head.seq));
    who->next[head.topic] = head.seq + 1;
    received[head.topic]++;
}

/* The size of the HTTP answer that the bytes begin with, 0 when it is not whole. */
static inline size_t check_http(one *who, const uint8_t *data, size_t n)
{
    const char *const answers[] = {OK_ANSWER, CONTINUE_ANSWER, ANSWER};
    for (int i = 0; i < 3; i++) {
        size_t whole = strlen(answers[i]), there = n < whole ? n : whole;
        if (memcmp(data, answers[i], there) != 0)
            continue;
        who->open = i == 2 && n >= whole;
        CHECK(!who->open || who->upgraded);
        return n >= whole ? whole : 0;
    }
    CHECK(!"an answer that nobody gave");
    return 0;
}

static inline void check_frame(one *who, const fws_header *header, const uint8_t *payload)
{
    CHECK(header->fin && header->rsv == 0 && !header->masked && !who->closed);
    if (header->opcode == FWS_BINARY)
        check_data(who, payload, header->length);
    else
        CHECK(header->opcode >= FWS_CLOSE && header->length <= FWS_CONTROL_MAX);
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
    while (who->open
           && (size = fws_header_decode(peer->out + at, peer->out_n - at, &header)) > 0
           && peer->out_n - at - (size_t)size >= header.length) {
        check_frame(who, &header, peer->out + at + size);
        at += (size_t)size + header.length;
    }
    CHECK(size >= 0);
    CHECK(!who->closed || at == peer->out_n); /* nothing follows a Close */
    memmove(peer->out, peer->out + at, peer->out_n - at);
    peer->out_n -= at;
}

static inline void check_bounds(void)
{
    for (int i = 0; i < TOPICS; i++) {
        const fws_topic *topic = topics[i];
        CHECK(fws_log_retained(&topic->log) <= topic->options.retention_bytes
                                                   + 2 * FWS_SLAB_BYTES);
        CHECK_EQ(received[i], topic->delivered); /* what counts as delivered arrived whole */
    }
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        const fws_conn *conn = engine->slots[i].conn;
        if (conn == NULL)
            continue;
        CHECK(conn->outbox.bytes <= engine->options.outbox_limit + PAYLOAD_MAX + 1024);
        CHECK(conn->held.n <= FWS_RECEIVE_CHUNK);
        CHECK(conn->reader.have <= engine->options.limits.max_message_size);
    }
}

static inline void check_all(void)
{
    check_house();
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
    check_bounds();
}

#endif
