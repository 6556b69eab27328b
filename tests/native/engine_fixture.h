/* An engine in the fake network, with an owner that upgrades everybody and writes down what it
 * hears; and clients as bytes. */
#ifndef FWS_ENGINE_FIXTURE_H
#define FWS_ENGINE_FIXTURE_H

#include "core/engine_internal.h"
#include "fake.h"
#include "wire/mask.h"
#include "totals.h"

#define SECOND 1000000000ULL
#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define REQUEST "GET /feed HTTP/1.1\r\nHost: b\r\n\r\n" /* of ours, in the client role */
#define ANSWER "HTTP/1.1 101 Switching Protocols\r\n\r\n"
#define HEARD_MAX 65536

static const fws_options OPTIONS = {
    .head_limit = 1024,
    .max_connections = 100,
    .handshake_ns = 10 * SECOND,
    .keep_alive_ns = 5 * SECOND,
    .close_ns = 3 * SECOND,
    .max_stall_ns = 5 * SECOND,
    .outbox_limit = 1 << 20,
    .high_mark = 1 << 16,
    .limits = {1 << 20, 1000},
};

static fws_engine *engine;
static char heard[HEARD_MAX]; /* every event in a few letters, then a blank */
static size_t heard_n;
static uint32_t deaths;
static uint64_t overshoot; /* bytes past max_buffered_bytes, the most before a flush */
static uint16_t last_code;
static void (*on_event)(const fws_event *event);
static void (*on_wanted)(fws_topic *topic); /* NULL: no topic is watched */

static inline void note(const char *what, const void *data, size_t n)
{
    CHECK(heard_n + strlen(what) + n + 2 < sizeof heard);
    heard_n += (size_t)sprintf(heard + heard_n, "%s%.*s ", what, (int)n, (const char *)data);
}

static inline void usual(const fws_event *event)
{
    if (event->kind == FWS_EVENT_MESSAGE)
        note("", event->data, event->n);
    else
        note(event->kind == FWS_EVENT_HEAD         ? "HEAD"
             : event->kind == FWS_EVENT_HEAD_LIMIT ? "LIMIT"
                                                   : "BODY",
             "", 0);
    if (event->kind == FWS_EVENT_HEAD)
        CHECK_EQ(fws_conn_upgrade(engine, event->conn, (const uint8_t *)ANSWER, strlen(ANSWER)),
                 FWS_OK);
}

static inline void expect_heard(const char *text)
{
    if (strcmp(heard, text) != 0)
        fprintf(stderr, "heard: %s\n  not: %s\n", heard, text);
    CHECK(strcmp(heard, text) == 0);
    heard_n = 0;
    heard[0] = 0;
}

static inline size_t allocated_in(const fws_block *queue)
{
    size_t n = 0;
    const fws_block *block = queue;
    while (block != NULL) {
        n += fws_allocated(sizeof *block + block->room);
        block = block->next == queue ? NULL : block->next;
    }
    return n;
}

/* Slabs that only half-sent frames keep, each once. */
static inline uint64_t pinned_in_all(void)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        const fws_conn *conn = engine->slots[i].conn;
        const fws_slab *slab = conn == NULL ? NULL : conn->partial.pinned;
        bool seen = slab == NULL || !slab->retired;
        for (uint32_t k = 0; k < i && !seen; k++)
            seen = engine->slots[k].conn != NULL && engine->slots[k].conn->partial.pinned == slab;
        if (!seen)
            sum +=
                sizeof *slab + 2 * (uint64_t)slab->max_frames * sizeof(uint32_t) + slab->max_bytes;
    }
    return sum;
}

/* What waits is counted again, by what is allocated. */
static inline void check_buffers(void)
{
    size_t sum = 0;
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        const fws_conn *conn = engine->slots[i].conn;
        if (conn == NULL || conn->state == FWS_DEAD)
            continue;
        CHECK_EQ(conn->outbox.allocated,
                 allocated_in(conn->outbox.urgent) + allocated_in(conn->outbox.direct));
        CHECK(conn->outbox.bytes <= conn->outbox.allocated);
        size_t rest = conn->partial.pinned == NULL ? fws_allocated(conn->partial.n) : 0;
        CHECK_EQ(conn->held, conn->outbox.allocated + rest + fws_allocated(conn->reader.capacity)
                                 + fws_allocated(conn->inbuf.capacity));
        CHECK((conn->held_link.next != NULL) == (conn->held >= 1024));
        CHECK(conn->wants_room || conn->room_link.next == NULL);
        CHECK(!conn->wants_room || conn->room_link.next != NULL
              || conn->outbox.allocated > engine->options.high_mark / 4);
        sum += conn->held;
    }
    CHECK_EQ(engine->buffered, sum);
    CHECK_EQ(engine->topics.logs.pinned, pinned_in_all());
    const size_t staged =
        fws_allocated(engine->staging.capacity) + fws_allocated(engine->staging.draining_capacity);
    CHECK_EQ(engine->staged, staged);
    CHECK_EQ(fws_engine_buffered(engine), sum + staged + pinned_in_all());
}

/* The sweep looks at each connection before anything of it is due. */
static inline void check_dues(void)
{
    for (uint32_t i = 0; i < engine->n_slots; i++) {
        const fws_conn *conn = engine->slots[i].conn;
        uint64_t due = engine->slots[i].due;
        CHECK(conn != NULL || due == UINT64_MAX);
        if (conn == NULL || conn->state == FWS_DEAD)
            continue;
        CHECK(conn->deadline == 0 ? conn->state == FWS_OPEN : due <= conn->deadline);
        CHECK(conn->message_by == 0 || conn->state != FWS_OPEN || due <= conn->message_by);
        CHECK(!conn->throttled || conn->state != FWS_OPEN
              || due <= fws_engine_time(engine) + SECOND);
        CHECK(!conn->lagging || due == 0);
        CHECK(conn->lagging || !conn->blocked);
        CHECK((conn->unacked == NULL) || engine->slots[i].unacked);
    }
}

static inline void check_engine(void)
{
    check_topics(&engine->topics);
    check_buffers();
    check_dues();
}

static inline void engine_open(const fws_options *options)
{
    net.now = net.now == 0 ? 1000 * SECOND : net.now;
    engine = fws_engine_new(options, &fake_sys);
    CHECK(engine != NULL);
    CHECK_EQ(fws_engine_listen(engine, FAKE_LISTENER), FWS_OK);
    on_event = usual;
    on_wanted = NULL;
    totals_begin();
    heard_n = deaths = last_code = 0;
    heard[0] = 0;
}

static inline void engine_close(void)
{
    check_engine();
    fws_engine_free(engine);
    totals_begin();
    fake_clear();
}

static inline void harvest(void)
{
    CHECK_EQ(fws_engine_harvest(engine, 0), FWS_OK);
}

static inline void handle(void)
{
    const fws_event *event;
    while ((event = fws_engine_next_event(engine)) != NULL) {
        CHECK(event->conn->state != FWS_DEAD);
        on_event(event);
    }
    CHECK(engine->n_events <= FWS_EVENTS + 2); /* a read each of WebSockets, and of costly ones */
}

static inline void flush(void)
{
    fws_engine_flush(engine, FWS_TURN_NS);
    check_engine();
    uint64_t most = engine->options.max_buffered_bytes;
    CHECK(most == 0 || fws_engine_buffered(engine) <= most || fws_engine_largest(engine) == NULL);
}

/* What a turn adds to what waits, past the budget: what one reading takes, the buffers of which
 * double, and one each of the three kinds where the turn began past it. */
static inline void check_overshoot(void)
{
    const uint64_t most = engine->options.max_buffered_bytes;
    uint64_t held = fws_engine_buffered(engine);
    overshoot = most > 0 && held > most && held - most > overshoot ? held - most : overshoot;
    CHECK(most == 0 || held <= 2 * most + 3 * 2 * FWS_RECEIVE_CHUNK);
}

static inline void reap(void)
{
    for (const fws_conn *conn = engine->first_dead; conn != NULL; conn = conn->next_dead) {
        deaths++;
        last_code = conn->close_code;
    }
    fws_engine_reap(engine);
    for (fws_topic *topic; (topic = collect(&engine->topics)) != NULL;) {
        CHECK(on_wanted != NULL);
        on_wanted(topic);
    }
}

static inline void turn(void)
{
    harvest();
    handle();
    flush();
    reap();
}

/* Turns until nothing is left to do; it must come to rest. */
static inline void rest(void)
{
    for (int i = 0; i < 200; i++)
        turn();
    CHECK(!fws_engine_more(engine));
}

static inline void pass_time(uint64_t ns)
{
    for (uint64_t left = ns; left > 0;) {
        uint64_t step = left < FWS_SWEEP_NS ? left : FWS_SWEEP_NS;
        net.now += step;
        left -= step;
        turn();
        turn();
    }
}

static inline fws_conn *conn_of(const fake_peer *peer)
{
    return peer->fd == 0 ? NULL : fws_engine_find(engine, peer->tag);
}

/* A client that is through its handshake, with nothing in its account. */
static inline fake_peer *client(void)
{
    fake_peer *peer = fake_connect();
    fake_say(peer, HEAD, strlen(HEAD));
    rest();
    CHECK_EQ(peer->out_n, strlen(ANSWER));
    CHECK(conn_of(peer) != NULL && conn_of(peer)->state == FWS_OPEN);
    peer->out_n = 0;
    heard_n = 0;
    heard[0] = 0;
    return peer;
}

static inline size_t client_frame(uint8_t *out, unsigned opcode, const void *payload, size_t n)
{
    const uint8_t key[4] = {1, 2, 3, 4};
    size_t head = fws_header_encode(out, opcode, true, 0, n, key);
    if (n > 0)
        memcpy(out + head, payload, n);
    fws_mask(out + head, n, key, 0);
    return head + n;
}

static inline void say_frame(fake_peer *peer, unsigned opcode, const void *payload, size_t n)
{
    uint8_t frame[70000];
    CHECK(n <= sizeof frame - FWS_HEADER_MAX);
    fake_say(peer, frame, client_frame(frame, opcode, payload, n));
}

static inline void say_text(fake_peer *peer, const char *text)
{
    say_frame(peer, FWS_TEXT, text, strlen(text));
}

static inline int command(uint8_t kind, const fake_peer *peer, fws_topic *topic, uint16_t code,
                          const void *data, size_t n)
{
    const fws_command what = {.kind = kind,
                              .opcode = FWS_TEXT,
                              .code = code,
                              .conn = peer == NULL ? 0 : peer->tag,
                              .topic = topic,
                              .data = data,
                              .n = n};
    return fws_engine_command(engine, &what);
}

static inline int subscribe(const fake_peer *peer, fws_topic *topic)
{
    return command(FWS_CMD_SUBSCRIBE, peer, topic, 0, NULL, 0);
}

static inline int unsubscribe(const fake_peer *peer, fws_topic *topic)
{
    return command(FWS_CMD_UNSUBSCRIBE, peer, topic, 0, NULL, 0);
}

static inline int publish(fws_topic *topic, const char *text)
{
    return command(FWS_CMD_PUBLISH, NULL, topic, 0, text, strlen(text));
}

static inline int tell(const fake_peer *peer, const char *text)
{
    return command(FWS_CMD_SEND, peer, NULL, 0, text, strlen(text));
}

static inline int say_goodbye(const fake_peer *peer, uint16_t code)
{
    return command(FWS_CMD_CLOSE, peer, NULL, code, "bye", 3);
}

static inline fws_topic *topic_of(uint8_t on_slow, uint64_t max_lag)
{
    static uint32_t made;
    char name[16];
    const fws_topic_options options = {
        .retention_bytes = max_lag * 2, .max_lag_bytes = max_lag, .on_slow = on_slow};
    int n = sprintf(name, "topic %u", made++);
    fws_topic *topic = fws_topics_get(fws_engine_topics(engine), name, (size_t)n, &options);
    CHECK(topic != NULL);
    topic->configured = true;
    return topic;
}

/* What a peer got, in a few letters: T(text) for a message, P(..) pong, I(..) ping,
 * C1000(reason) close. Bytes that are no whole frame yet are left there. */
static inline void expect_got(fake_peer *peer, const char *text)
{
    static char got[HEARD_MAX];
    size_t at = 0, n = 0;
    fws_header header;
    int size;
    got[0] = 0;
    while ((size = fws_header_decode(peer->out + at, peer->out_n - at, &header)) > 0
           && peer->out_n - at - (size_t)size >= header.length) {
        const uint8_t *payload = peer->out + at + size;
        size_t length = header.length;
        bool close = header.opcode == FWS_CLOSE;
        CHECK(!header.masked && header.fin && header.rsv == 0);
        n += (size_t)sprintf(got + n, "%c",
                             header.opcode == FWS_PONG   ? 'P'
                             : header.opcode == FWS_PING ? 'I'
                             : close                     ? 'C'
                                                         : 'T');
        if (close && length >= 2)
            n += (size_t)sprintf(got + n, "%d", payload[0] << 8 | payload[1]);
        size_t skip = close && length >= 2 ? 2 : 0;
        n += (size_t)sprintf(got + n, "(%.*s) ", (int)(length - skip), payload + skip);
        at += (size_t)size + length;
    }
    CHECK(size >= 0);
    if (strcmp(got, text) != 0)
        fprintf(stderr, "got: %s\nnot: %s\n", got, text);
    CHECK(strcmp(got, text) == 0);
    memmove(peer->out, peer->out + at, peer->out_n - at);
    peer->out_n -= at;
}

#endif
