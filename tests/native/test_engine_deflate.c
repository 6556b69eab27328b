/* Subscribers that negotiated compression: once per message and window, whatever else they do. */
#include "engine_fixture.h"

#define FILLER "the quick brown fox jumps over the lazy dog, the quick brown fox jumps "

static unsigned agreed; /* window bits that the next client gets, 0: none */
static fws_deflate *codec;

static void agree(const fws_event *event)
{
    if (event->kind == FWS_EVENT_HEAD && agreed != 0)
        CHECK_EQ(fws_conn_deflate(engine, event->conn, agreed), FWS_OK);
    usual(event);
}

static fake_peer *client_with(unsigned bits)
{
    agreed = bits;
    on_event = agree;
    return client();
}

/* Inflates what a peer got, in place: the frames in the letters of expect_got(). How many of
 * them were compressed. */
static uint32_t unpack(fake_peer *peer)
{
    static uint8_t plain[1 << 22];
    size_t at = 0, n = 0;
    uint32_t compressed = 0;
    fws_header header;
    int size;
    while ((size = fws_header_decode(peer->out + at, peer->out_n - at, &header)) > 0
           && peer->out_n - at - (size_t)size >= header.length) {
        const uint8_t *payload = peer->out + at + size;
        size_t length = header.length;
        uint8_t *inflated = NULL;
        CHECK(header.rsv == 0 || (header.rsv == FWS_RSV1 && header.opcode < FWS_CLOSE));
        if (header.rsv != 0) {
            CHECK_EQ(fws_inflate_message(codec, payload, length, 1 << 20, &inflated, &length),
                     FWS_OK);
            CHECK(length >= FWS_DEFLATE_LEAST && length > header.length);
            payload = inflated;
            compressed++;
        }
        CHECK(n + length + FWS_HEADER_MAX <= sizeof plain);
        n += fws_header_encode(plain + n, header.opcode, true, 0, length, NULL);
        memcpy(plain + n, payload, length);
        n += length;
        free(inflated);
        at += (size_t)size + header.length;
    }
    size_t left = peer->out_n - at;
    CHECK(n + left <= sizeof plain);
    memcpy(plain + n, peer->out + at, left);
    peer->out_n = n + left;
    if (peer->out_capacity < peer->out_n) {
        peer->out = realloc(peer->out, peer->out_n);
        peer->out_capacity = peer->out_n;
    }
    memcpy(peer->out, plain, peer->out_n);
    return compressed;
}

static void test_a_message_is_compressed_once_for_a_thousand(void)
{
    fws_options options = OPTIONS;
    options.max_connections = 2000;
    static fake_peer *peers[1000];
    engine_open(&options);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    for (size_t i = 0; i < 1000; i++) {
        peers[i] = client_with(15);
        subscribe(peers[i], topic);
    }
    for (uint64_t i = 0; i < 10; i++) {
        CHECK(publish(topic, FILLER FILLER) >= 0);
        CHECK_EQ(engine->counters.deflated, i); /* not in publish() */
        rest();
        CHECK_EQ(engine->counters.deflated, i + 1);
    }
    for (size_t i = 0; i < 1000; i++)
        CHECK_EQ(unpack(peers[i]), 10);
    CHECK_EQ(topic->account.delivered, 10000);
    engine_close();
}

static uint32_t readers_of(const fws_topic *topic, uint8_t window_bits)
{
    const fws_variant *at = topic->variants;
    while (at != NULL && at->encoding.window_bits != window_bits)
        at = at->next;
    return at == NULL ? 0 : at->readers;
}

static void test_each_size_of_window_has_a_variant_and_plain_readers_none(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peers[] = {client_with(15), client_with(9), client_with(15), client_with(0)};
    for (size_t i = 0; i < 4; i++)
        subscribe(peers[i], topic);
    publish(topic, FILLER);
    publish(topic, "tiny");
    rest();
    CHECK_EQ(engine->counters.deflated, 2);
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQ(unpack(peers[i]), i == 3 ? 0 : 1);
        expect_got(peers[i], "T(" FILLER ") T(tiny) ");
    }
    CHECK_EQ(readers_of(topic, 9), 1);
    CHECK_EQ(readers_of(topic, 15), 2);
    unsubscribe(peers[0], topic);
    unsubscribe(peers[2], topic);
    CHECK_EQ(readers_of(topic, 15), 0);
    engine_close();
}

static void test_nobody_who_reads_costs_nothing(void)
{
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 1 << 20);
    fake_peer *peer = client_with(15);
    subscribe(peer, topic);
    peer->room = 0;
    for (int i = 0; i < 100; i++) {
        publish(topic, FILLER);
        turn();
    }
    CHECK_EQ(engine->counters.deflated, 1); /* with the first it met a full socket */
    fake_room(peer, PLENTY);
    rest();
    CHECK_EQ(engine->counters.deflated, 100);
    CHECK_EQ(unpack(peer), 100);
    CHECK_EQ(topic->account.delivered, 100);
    engine_close();
}

static void test_what_a_slow_reader_passed_over_is_not_compressed(void)
{
    static char large[20000];
    memset(large, 'x', sizeof large - 1);
    engine_open(&OPTIONS);
    fws_topic *topic = topic_of(FWS_SLOW_LATEST, 100000);
    fake_peer *peer = client_with(15);
    subscribe(peer, topic);
    peer->room = 0;
    for (int i = 0; i < 100; i++) {
        publish(topic, large);
        turn();
    }
    publish(topic, FILLER);
    fake_room(peer, PLENTY);
    rest();
    CHECK(engine->counters.deflated <= 4);
    unpack(peer);
    expect_got(peer, "T(" FILLER ") ");
    CHECK_EQ(topic->account.dropped, 100);
    engine_close();
}

static void test_order_holds_among_topics_and_direct_messages(void)
{
    engine_open(&OPTIONS);
    fws_topic *left = topic_of(FWS_SLOW_CLOSE, 1 << 20), *right = topic_of(FWS_SLOW_CLOSE, 1 << 20);
    fake_peer *peer = client_with(12);
    subscribe(peer, left);
    subscribe(peer, right);
    publish(left, FILLER "1");
    tell(peer, FILLER "2");
    publish(right, FILLER "3");
    publish(left, "4");
    tell(peer, "5");
    publish(right, FILLER "6");
    rest();
    CHECK_EQ(unpack(peer), 4);
    expect_got(peer, "T(" FILLER "1) T(" FILLER "2) T(" FILLER "3) T(4) T(5) T(" FILLER "6) ");
    CHECK_EQ(engine->counters.deflated, 4);
    engine_close();
}

static void test_a_compressed_message_of_a_client_is_heard(void)
{
    static const uint8_t hello[] = {0xc1, 0x87, 0,    0,    0,    0,   0xf2,
                                    0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    engine_open(&OPTIONS);
    fake_peer *peer = client_with(15), *plain = client_with(0);
    fake_say(peer, hello, sizeof hello);
    rest();
    expect_heard("Hello ");
    fake_say(plain, hello, sizeof hello);
    rest();
    expect_got(plain, "C1002() ");
    engine_close();
}

static void test_one_message_for_many_is_compressed_once_for_each_window(void)
{
    engine_open(&OPTIONS);
    const unsigned windows[] = {15, 9, 15, 0, 9, 15};
    fake_peer *peers[6];
    fws_shared filler = {(const uint8_t *)FILLER, sizeof FILLER - 1, FWS_TEXT, {{0}}};
    fws_shared tiny = {(const uint8_t *)"tiny", 4, FWS_TEXT, {{0}}};
    for (size_t i = 0; i < 6; i++)
        peers[i] = client_with(windows[i]);
    for (size_t i = 0; i < 6; i++) {
        CHECK_EQ(fws_engine_send_shared(engine, conn_of(peers[i]), &filler), FWS_OK);
        CHECK_EQ(fws_engine_send_shared(engine, conn_of(peers[i]), &tiny), FWS_OK);
    }
    rest();
    CHECK_EQ(fws_deflate_calls(engine->codec), 2);
    for (size_t i = 0; i < 6; i++) {
        CHECK_EQ(unpack(peers[i]), windows[i] > 0);
        expect_got(peers[i], "T(" FILLER ") T(tiny) ");
    }
    fws_shared_clear(&filler);
    fws_shared_clear(&tiny);
    engine_close();
}

static void test_one_message_for_many_passes_over_who_is_full_or_closed(void)
{
    fws_options options = OPTIONS;
    options.outbox_limit = 1000;
    engine_open(&options);
    fake_peer *peer = client_with(0), *full = client_with(0), *closed = client_with(0);
    fws_shared filler = {(const uint8_t *)FILLER, sizeof FILLER - 1, FWS_TEXT, {{0}}};
    full->room = 0;
    while (conn_of(full)->outbox.allocated <= options.outbox_limit)
        CHECK_EQ(tell(full, FILLER), FWS_OK);
    say_goodbye(closed, 1000);
    CHECK_EQ(fws_engine_send_shared(engine, conn_of(full), &filler), FWS_E_FULL);
    CHECK_EQ(fws_engine_send_shared(engine, conn_of(closed), &filler), FWS_E_CLOSED);
    CHECK_EQ(fws_engine_send_shared(engine, conn_of(peer), &filler), FWS_OK);
    CHECK_EQ(engine->counters.log_full, 1);
    rest();
    expect_got(peer, "T(" FILLER ") ");
    expect_got(closed, "C1000(bye) ");
    engine_close();
}

static void test_windows_out_of_range_are_refused(void)
{
    engine_open(&OPTIONS);
    fake_peer *peer = client_with(0);
    CHECK_EQ(fws_conn_deflate(engine, conn_of(peer), 8), FWS_E_INVALID);
    CHECK_EQ(fws_conn_deflate(engine, conn_of(peer), 16), FWS_E_INVALID);
    CHECK_EQ(fws_conn_deflate(engine, conn_of(peer), 15), FWS_E_CLOSED); /* too late */
    CHECK(engine->codec == NULL);
    engine_close();
}

int main(void)
{
    if (!fws_deflate_available()) {
        puts("skipped: built without zlib");
        return 0;
    }
    codec = fws_deflate_new();
    RUN(test_a_message_is_compressed_once_for_a_thousand);
    RUN(test_each_size_of_window_has_a_variant_and_plain_readers_none);
    RUN(test_nobody_who_reads_costs_nothing);
    RUN(test_what_a_slow_reader_passed_over_is_not_compressed);
    RUN(test_order_holds_among_topics_and_direct_messages);
    RUN(test_a_compressed_message_of_a_client_is_heard);
    RUN(test_one_message_for_many_is_compressed_once_for_each_window);
    RUN(test_one_message_for_many_passes_over_who_is_full_or_closed);
    RUN(test_windows_out_of_range_are_refused);
    fws_deflate_free(codec);
    return 0;
}
