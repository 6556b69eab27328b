/* Legal messages: their order, where they lie, what they cost, under every cut. */
#include "reader_cases.h"

static void test_samples_of_rfc_6455_5_7_become_messages(void)
{
    add(fresh(&wire), "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11);
    add(&wire, "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11);
    tell(fresh(&expected), FWS_TEXT, 0, "Hello", 5);
    tell(&expected, FWS_PONG, 0, "Hello", 5);
    check_story(&WIDE, &wire, &expected, 0);
}

static void test_unmasked_samples_become_messages_for_a_client(void)
{
    static const char sample[] = "\x81\x05Hello\x01\x03Hel\x80\x02lo\x89\x05Hello";
    static bytes story;

    tell(fresh(&expected), FWS_TEXT, 0, "Hello", 5);
    tell(&expected, FWS_TEXT, 0, "Hello", 5);
    tell(&expected, FWS_PING, 0, "Hello", 5);
    for (size_t k = 0; k < sizeof sample; k++) {
        fws_reader reader;
        fws_reader_init(&reader, FWS_CLIENT);
        CHECK_EQ(feed(&reader, &WIDE, (const uint8_t *)sample, k, fresh(&story)), 0);
        CHECK_EQ(feed(&reader, &WIDE, (const uint8_t *)sample + k, sizeof sample - 1 - k, &story),
                 0);
        CHECK(story.n == expected.n && memcmp(story.at, expected.at, story.n) == 0);
        CHECK_EQ(feed(&reader, &WIDE, (const uint8_t *)"\x81\x85", 2, &story), FWS_E_PROTOCOL);
        fws_reader_clear(&reader);
    }
}

static void test_every_length_becomes_a_message_whole_and_cut(void)
{
    static const size_t lengths[] = {0, 1, 125, 126, 127, 65535, 65536};
    static uint8_t payload[65536];
    static bytes story;

    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i >> 3);
    for (size_t i = 0; i < COUNT(lengths); i++) {
        put(fresh(&wire), FWS_BINARY, true, payload, lengths[i]);
        tell(fresh(&expected), FWS_BINARY, 0, payload, lengths[i]);
        if (wire.n < 300)
            check_story(&WIDE, &wire, &expected, 0);
        for (size_t k = 0; k <= wire.n; k += k < 20 || k + 1009 > wire.n ? 1 : 1009) {
            CHECK_EQ(play(&WIDE, &wire, &k, 1, &story), 0);
            CHECK(story.n == expected.n && memcmp(story.at, expected.at, story.n) == 0);
        }
    }
}

/* Takes one message out of the whole wire. */
static fws_message take(fws_reader *reader, uint8_t *room)
{
    fws_message message = {0};
    size_t n = wire.n;

    memcpy(room, wire.at, n);
    CHECK_EQ(fws_reader_next(reader, &WIDE, &room, &n, &message), 1);
    return message;
}

static void test_a_whole_frame_is_handed_out_in_place(void)
{
    uint8_t room[400], payload[300] = {7};
    fws_reader reader;

    fws_reader_init(&reader, FWS_SERVER);
    put(fresh(&wire), FWS_BINARY, true, payload, sizeof payload);
    fws_message message = take(&reader, room);
    CHECK(message.owned == NULL && message.data == room + 8 && message.len == 300);
    put_text(fresh(&wire), FWS_TEXT, true, "Hello");
    message = take(&reader, room);
    CHECK(message.owned == NULL && message.data == room + 6 && reader.buffer == NULL);
    put_text(fresh(&wire), FWS_TEXT, false, "Hel");
    put_text(&wire, FWS_CONTINUATION, true, "lo");
    message = take(&reader, room);
    CHECK(message.owned != NULL && message.data == message.owned && reader.buffer == NULL);
    free(message.owned);
}

static void test_fragments_join_and_control_frames_come_out_between(void) /* G01-G08 */
{
    put_text(fresh(&wire), FWS_TEXT, false, "");
    put_text(&wire, FWS_PING, true, "early");
    put_text(&wire, FWS_CONTINUATION, false, "a\xE2\x82");
    put_text(&wire, FWS_PONG, true, "");
    put_text(&wire, FWS_CONTINUATION, false, "");
    put_text(&wire, FWS_PING, true, "late");
    put_text(&wire, FWS_CONTINUATION, true, "\xAC");
    put_text(&wire, FWS_BINARY, false, "");
    put_text(&wire, FWS_CONTINUATION, true, "");
    put_text(&wire, FWS_TEXT, false, "");
    put_text(&wire, FWS_CONTINUATION, true, "last");
    tell(fresh(&expected), FWS_PING, 0, "early", 5);
    tell(&expected, FWS_PONG, 0, "", 0);
    tell(&expected, FWS_PING, 0, "late", 4);
    tell(&expected, FWS_TEXT, 0, "a\xE2\x82\xAC", 4);
    tell(&expected, FWS_BINARY, 0, "", 0);
    tell(&expected, FWS_TEXT, 0, "last", 4);
    check_story(&WIDE, &wire, &expected, 0);
}

static void test_two_thousand_fragments_of_a_byte_are_one_message(void) /* G05 */
{
    static bytes story, letters;

    fresh(&letters);
    fresh(&wire);
    for (int i = 0; i < 2000; i++) {
        put_text(&wire, i ? FWS_CONTINUATION : FWS_TEXT, i == 1999, "x");
        add(&letters, "x", 1);
    }
    tell(fresh(&expected), FWS_TEXT, 0, letters.at, letters.n);
    CHECK_EQ(play(&WIDE, &wire, NULL, wire.n, &story), 0);
    CHECK(story.n == expected.n && memcmp(story.at, expected.at, story.n) == 0);
}

static void test_memory_follows_what_was_received(void) /* X21 */
{
    const fws_limits limits = {1 << 20, 2};
    uint8_t header[FWS_HEADER_MAX], chunk[1000] = {0};
    static bytes story;
    fws_reader reader;

    fws_reader_init(&reader, FWS_SERVER);
    size_t size = fws_header_encode(header, FWS_BINARY, true, 0, 1 << 20, KEY);
    CHECK_EQ(feed(&reader, &limits, header, size, fresh(&story)), 0);
    CHECK(reader.buffer == NULL);
    CHECK_EQ(feed(&reader, &limits, chunk, 1, &story), 0);
    CHECK(reader.capacity <= 512);
    for (int i = 0; i < 1048; i++) {
        CHECK_EQ(feed(&reader, &limits, chunk, sizeof chunk, &story), 0);
        CHECK(reader.capacity <= 2 * reader.have + 512);
        CHECK(reader.capacity <= limits.max_message_size);
    }
    fws_reader_clear(&reader);
    CHECK(reader.buffer == NULL);
}

static void test_a_message_before_and_a_message_around_a_close_are_kept_apart(void) /* K62 K63 */
{
    put_text(fresh(&wire), FWS_TEXT, true, "last words");
    put_text(&wire, FWS_TEXT, false, "never ends");
    put(&wire, FWS_CLOSE, true, "\x03\xe8", 2);
    tell(fresh(&expected), FWS_TEXT, 0, "last words", 10);
    tell(&expected, FWS_CLOSE, 1000, "", 0);
    check_story(&WIDE, &wire, &expected, 0);
}

/* Letters and characters of 2 to 4 bytes, or any bytes. Returns how many. */
static size_t random_payload(uint64_t *seed, bool text, uint8_t *out, size_t least)
{
    static const char *const characters[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    size_t n = 0;

    while (n < least) {
        uint64_t value = test_random(seed);
        if (!text) {
            memcpy(out + n, &value, 8);
            n += n + 8 <= least ? 8 : least - n;
        } else {
            const char *one = characters[value % 8 < 4 ? value % 4 : 0];
            memcpy(out + n, one, strlen(one));
            n += strlen(one);
        }
    }
    return n;
}

static void put_random_control(uint64_t *seed)
{
    uint8_t payload[FWS_CONTROL_MAX + 8];
    unsigned opcode = test_random(seed) % 2 ? FWS_PING : FWS_PONG;
    size_t n = random_payload(seed, false, payload, test_random(seed) % (FWS_CONTROL_MAX + 1));

    put(&wire, opcode, true, payload, n);
    tell(&expected, opcode, 0, payload, n);
}

static void put_random_message(uint64_t *seed)
{
    static const size_t lengths[] = {0, 1, 5, 60, 125, 126, 127, 300, 1500};
    uint8_t payload[2000];
    bool text = test_random(seed) % 2;
    size_t n = random_payload(seed, text, payload, lengths[test_random(seed) % COUNT(lengths)]);
    size_t frames = 1 + test_random(seed) % 4 * (test_random(seed) % 2), sent = 0;
    unsigned opcode = text ? FWS_TEXT : FWS_BINARY;

    for (size_t i = 1; i <= frames; i++) {
        size_t size = i == frames ? n - sent : test_random(seed) % (n - sent + 1);
        put(&wire, i == 1 ? opcode : FWS_CONTINUATION, i == frames, payload + sent, size);
        sent += size;
        if (i < frames && test_random(seed) % 3 == 0)
            put_random_control(seed);
    }
    tell(&expected, opcode, 0, payload, n);
}

static void test_random_messages_cut_at_random_places_are_what_was_sent(void)
{
    static bytes story;
    uint64_t seed = 6455;

    for (int round = 0; round < 20000; round++) {
        size_t cuts[16], count = test_random(&seed) % COUNT(cuts), at = 0;
        fresh(&wire);
        fresh(&expected);
        for (uint64_t i = 1 + test_random(&seed) % 4; i > 0; i--)
            put_random_message(&seed);
        for (size_t i = 0; i < count; i++)
            cuts[i] = at += test_random(&seed) % ((wire.n - at) / 3 + 1);
        for (int cut = 0; cut < 2; cut++) {
            CHECK_EQ(play(&WIDE, &wire, cuts, cut ? count : 0, &story), 0);
            CHECK_EQ(story.n, expected.n);
            CHECK(memcmp(story.at, expected.at, story.n) == 0);
        }
    }
}

int main(void)
{
    story_init();
    RUN(test_samples_of_rfc_6455_5_7_become_messages);
    RUN(test_unmasked_samples_become_messages_for_a_client);
    RUN(test_every_length_becomes_a_message_whole_and_cut);
    RUN(test_a_whole_frame_is_handed_out_in_place);
    RUN(test_fragments_join_and_control_frames_come_out_between);
    RUN(test_two_thousand_fragments_of_a_byte_are_one_message);
    RUN(test_memory_follows_what_was_received);
    RUN(test_a_message_before_and_a_message_around_a_close_are_kept_apart);
    RUN(test_random_messages_cut_at_random_places_are_what_was_sent);
    return 0;
}
