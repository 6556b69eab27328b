/* Memory runs out at each allocation in turn: whoever needed it may lose its connection,
 * nobody else does, no account is wrong, nothing leaks (AddressSanitizer sees to that). */
#include "engine_fixture.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);

static uint64_t countdown, in_a_row; /* allocations that still succeed, then fail; 0, 0: all do */
static uint64_t failed, spoken, unspoken; /* ends with a word, and without */

static bool fails(void)
{
    if (countdown > 0) {
        countdown--;
        return false;
    }
    if (in_a_row == 0)
        return false;
    in_a_row--;
    failed++;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t n)
{
    return fails() ? NULL : __real_realloc(old, n);
}

#if !FWS_NO_DEFLATE
#include <zlib.h>

int __real_inflateInit2_(z_stream *stream, int bits, const char *version, int size);
int __real_deflateInit2_(z_stream *stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __real_inflate(z_stream *stream, int flush);
int __wrap_inflateInit2_(z_stream *stream, int bits, const char *version, int size);
int __wrap_deflateInit2_(z_stream *stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size);
int __wrap_inflate(z_stream *stream, int flush);

int __wrap_inflateInit2_(z_stream *stream, int bits, const char *version, int size)
{
    return fails() ? Z_MEM_ERROR : __real_inflateInit2_(stream, bits, version, size);
}

int __wrap_deflateInit2_(z_stream *stream, int level, int method, int bits, int memory,
                         int strategy, const char *version, int size)
{
    return fails()
               ? Z_MEM_ERROR
               : __real_deflateInit2_(stream, level, method, bits, memory, strategy, version, size);
}

int __wrap_inflate(z_stream *stream, int flush) /* its window comes with the first use */
{
    return fails() ? Z_MEM_ERROR : __real_inflate(stream, flush);
}
#endif

static bool compressed; /* whether clients get permessage-deflate */
static bool envelope;   /* what the one gets that may fail */
static uint16_t batch;

/* As the server does: 500 or 1011 for whom it cannot serve, or the end where not even that can be
 * said. */
static void answer(const fws_event *event)
{
    static const char sorry[] = "HTTP/1.1 500 Internal Server Error\r\n\r\n";
    fws_conn *conn = event->conn;
    fws_command reply = {.kind = FWS_CMD_SEND,
                         .opcode = FWS_TEXT,
                         .conn = conn->id,
                         .data = event->data,
                         .n = event->n};
    const fws_command end = {.kind = FWS_CMD_CLOSE, .conn = conn->id, .code = 1011};
    int status;
    if (event->kind == FWS_EVENT_MESSAGE) {
        status = fws_engine_command(engine, &reply);
        status = status < 0 ? fws_engine_command(engine, &end) : status;
    } else {
        status = compressed ? fws_conn_deflate(engine, conn, 15) : FWS_OK;
        if (status == FWS_OK)
            status = fws_conn_upgrade(engine, conn, (const uint8_t *)ANSWER, strlen(ANSWER));
        if (status < 0)
            status =
                fws_conn_respond(engine, conn, (const uint8_t *)sorry, sizeof sorry - 1, false);
    }
    if (status < 0)
        fws_conn_kill(engine, conn, 1011);
}

static bool begins(const fake_peer *peer, const char *text)
{
    return peer->out_n >= strlen(text) && memcmp(peer->out, text, strlen(text)) == 0;
}

/* The last word of a peer's connection: 500, 503 or the code of a Close; 0 when there is none. */
static int last_word(const fake_peer *peer)
{
    fws_header header = {0};
    if (begins(peer, "HTTP/1.1 500 "))
        return 500;
    if (begins(peer, "HTTP/1.1 503 "))
        return 503;
    size_t at = strlen(ANSWER), last = at;
    int size = 0;
    if (!begins(peer, ANSWER))
        return 0;
    for (; at < peer->out_n; at += (size_t)size + header.length) {
        size = fws_header_decode(peer->out + at, peer->out_n - at, &header);
        bool whole = size > 0 && peer->out_n - at - (size_t)size >= header.length;
        if (!whole && batch > 0 && peer->closed)
            return 0;
        CHECK(whole);
        last = at;
    }
    if (header.opcode != FWS_CLOSE)
        return 0;
    return peer->out[last + 2] << 8 | peer->out[last + 3];
}

/* One failure leaves memory for the last word. Where it stays away the word itself may find none:
 * then the end comes without, and is 1011 in our own books once it was a WebSocket. */
static void check_end(const fake_peer *peer, uint64_t failures)
{
    int word = last_word(peer);
    if (!peer->shut && !peer->closed)
        CHECK(begins(peer, ANSWER) && (word == 0 || word == 1000 || word == 1011));
    else if (word == 0) /* a batch that is half sent, and its rest lost, takes the word away */
        CHECK(peer->closed && (last_code == 1011 ? failures > 1 : last_code == 1006 && batch > 0));
    else
        CHECK(word == 500 || word == 503 || word == 1011);
    spoken += word == 500 || word == 503 || word == 1011;
    unspoken += word == 0 && peer->closed;
}

/* A peer whose own buffers never grow, so that every allocation counted is the engine's. */
static fake_peer *roomy(void)
{
    fake_peer *peer = fake_connect();
    grow(&peer->in, &peer->in_capacity, 100000);
    grow(&peer->out, &peer->out_capacity, 500000);
    return peer;
}

static void say_parts(fake_peer *peer)
{
    uint8_t frame[64];
    for (int i = 0; i < 3; i++) {
        size_t n = client_frame(frame, i == 0 ? FWS_TEXT : FWS_CONTINUATION, "part", 4);
        frame[0] = (uint8_t)(i == 2 ? frame[0] | 0x80 : frame[0] & 0x7F);
        fake_say(peer, frame, n);
        turn();
    }
}

static void say_compressed(fake_peer *peer)
{
    static const uint8_t hello[] = {0xf2, 0x48, 0xcd, 0xc9,
                                    0xc9, 0x07, 0x00}; /* RFC 7692 7.2.3.1 */
    uint8_t frame[64];
    size_t n = client_frame(frame, FWS_TEXT, hello, sizeof hello);
    frame[0] |= FWS_RSV1 << 4;
    fake_say(peer, frame, n);
    turn();
}

/* What one connection can need memory for: its slot and itself, a head in pieces, the 101, a
 * fragmented message, a compressed one, pongs and direct messages, a subscription, a short write,
 * a large frame. */
static void live(fake_peer *peer, fws_topic *topic)
{
    static char large[20000];
    memset(large, 'x', sizeof large - 1);
    fake_say(peer, HEAD, 5);
    turn();
    fake_say(peer, HEAD + 5, strlen(HEAD) - 5);
    turn();
    say_parts(peer);
    if (compressed)
        say_compressed(peer);
    say_frame(peer, FWS_PING, "ping", 4);
    turn();
    (void)command(FWS_CMD_PING, peer, NULL, 0, "mine", 4);
    turn();
    const fws_command join = {.kind = FWS_CMD_SUBSCRIBE,
                              .conn = peer->tag,
                              .topic = topic,
                              .envelope = envelope,
                              .batch = batch};
    (void)fws_engine_command(engine, &join);
    fake_room(peer, 0);
    peer->room = 100;
    for (int i = 0; i < 30; i++) {
        publish(topic, i == 10 ? large : "small");
        tell(peer, i == 20 ? large : "direct");
        turn();
    }
    fake_room(peer, PLENTY);
    turn();
    unsubscribe(peer, topic);
    say_goodbye(peer, 1000);
    turn();
}

static uint64_t live_without(uint64_t n, uint64_t failures)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *neighbour = client();
    grow(&neighbour->out, &neighbour->out_capacity, 500000);
    subscribe(neighbour, topic);
    on_event = answer;
    fake_peer *peer = roomy();
    countdown = n;
    in_a_row = failures;
    failed = 0;
    live(peer, topic);
    uint64_t missed = failed;
    countdown = in_a_row = 0;
    rest();
    check_engine();
    check_end(peer, failures);
    CHECK(conn_of(neighbour) != NULL);
    neighbour->out_n = 0;
    CHECK_EQ(publish(topic, "afterwards"), FWS_OK);
    rest();
    expect_got(neighbour, "T(afterwards) ");
    on_event = usual;
    client(); /* somebody new is welcome */
    engine_close();
    return missed;
}

/* HOSTILE X17 */
static void test_each_allocation_may_fail(void)
{
    for (int how = 0; how < 4 * (1 + fws_deflate_available()); how++) {
        uint64_t n = 0;
        compressed = how >= 4;
        envelope = how % 2 > 0;
        batch = how % 4 > 1 ? 5 : 0;
        spoken = unspoken = 0;
        while (live_without(n, 1) > 0)
            n++;
        printf("   %d allocations failed, one at a time; %d ended it\n", (int)n, (int)spoken);
        CHECK(n > 20);
        CHECK(spoken > 5 && unspoken <= (batch > 0));
    }
}

/* HOSTILE X17 */
static void test_memory_may_stay_away_for_a_while(void)
{
    const uint64_t failures[] = {2, 5, 20, 1000000};
    spoken = unspoken = 0;
    for (int deflate = 0; deflate <= fws_deflate_available(); deflate++) {
        compressed = deflate != 0;
        for (size_t i = 0; i < sizeof failures / sizeof *failures; i++)
            for (uint64_t n = 0; n < 70; n++) {
                envelope = n % 2 > 0;
                batch = n % 3 > 0 ? 5 : 0;
                live_without(n, failures[i]);
            }
    }
    printf("   %d ends with a word, %d without\n", (int)spoken, (int)unspoken);
}

/* HOSTILE X02 */
static void test_a_reset_within_the_101_frees_it_once(void)
{
    for (size_t room = 0; room <= strlen(ANSWER); room++) {
        engine_open(&OPTIONS);
        fake_peer *peer = fake_connect();
        peer->room = room;
        fake_say(peer, HEAD, strlen(HEAD));
        rest();
        CHECK_EQ(peer->out_n, room);
        say_text(peer, "early");
        fake_reset(peer);
        rest();
        CHECK(peer->closed); /* the fake network fails on a second close */
        CHECK_EQ(deaths, 1);
        engine_close();
    }
}

int main(void)
{
    RUN(test_each_allocation_may_fail);
    RUN(test_memory_may_stay_away_for_a_while);
    RUN(test_a_reset_within_the_101_frees_it_once);
    return 0;
}
