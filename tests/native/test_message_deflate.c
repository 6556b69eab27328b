/* Compressed messages at the reader: where RSV1 may stand, fragments, limits, UTF-8. */
#include "reader_cases.h"

static fws_deflate *codec;

/* A masked frame with any reserved bits. */
static void put_rsv(bytes *to, unsigned opcode, bool fin, unsigned rsv, const void *payload,
                    size_t n)
{
    uint8_t header[FWS_HEADER_MAX];
    add(to, header, fws_header_encode(header, opcode, fin, rsv, n, KEY));
    add(to, payload, n);
    fws_mask(to->at + to->n - n, n, KEY, 0);
}

static int play_compressed(const fws_limits *limits, size_t cut, bytes *story)
{
    fws_reader reader;
    fws_reader_init(&reader, FWS_SERVER);
    fws_reader_inflate(&reader, codec);
    story->n = 0;
    int status = feed(&reader, limits, wire.at, cut, story);
    if (status == 0)
        status = feed(&reader, limits, wire.at + cut, wire.n - cut, story);
    fws_reader_clear(&reader);
    return status;
}

static void check_compressed(const fws_limits *limits, int status)
{
    static bytes story;
    for (size_t k = 0; k <= wire.n; k++) {
        CHECK_EQ(play_compressed(limits, k, &story), status);
        CHECK_EQ(story.n, expected.n);
        CHECK(memcmp(story.at, expected.at, story.n) == 0);
    }
}

/* D01 D03 D05 */
static void test_compressed_and_plain_messages_take_turns(void)
{
    static const uint8_t hello[] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    put_rsv(fresh(&wire), FWS_TEXT, true, FWS_RSV1, hello, sizeof hello);
    put_text(&wire, FWS_TEXT, true, "plain");
    put_rsv(&wire, FWS_BINARY, true, FWS_RSV1, hello, sizeof hello);
    put_text(&wire, FWS_TEXT, false, "pl");
    put_text(&wire, FWS_CONTINUATION, true, "ain");
    tell(fresh(&expected), FWS_TEXT, 0, "Hello", 5);
    tell(&expected, FWS_TEXT, 0, "plain", 5);
    tell(&expected, FWS_BINARY, 0, "Hello", 5);
    tell(&expected, FWS_TEXT, 0, "plain", 5);
    check_compressed(&WIDE, 0);
}

/* D04 */
static void test_fragments_are_inflated_together_and_a_ping_may_come_between(void)
{
    static const uint8_t hello[] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    put_rsv(fresh(&wire), FWS_TEXT, false, FWS_RSV1, hello, 3);
    put_text(&wire, FWS_PING, true, "?");
    put(&wire, FWS_CONTINUATION, false, hello, 0);
    put(&wire, FWS_CONTINUATION, true, hello + 3, 4);
    tell(fresh(&expected), FWS_PING, 0, "?", 1);
    tell(&expected, FWS_TEXT, 0, "Hello", 5);
    check_compressed(&WIDE, 0);
}

/* D06 */
static void test_an_empty_message_may_be_compressed(void)
{
    put_rsv(fresh(&wire), FWS_TEXT, true, FWS_RSV1, "\0", 1);
    put_rsv(&wire, FWS_BINARY, true, FWS_RSV1, "", 0);
    tell(fresh(&expected), FWS_TEXT, 0, "", 0);
    tell(&expected, FWS_BINARY, 0, "", 0);
    check_compressed(&WIDE, 0);
}

/* D20 D21 D22 D27 */
static void test_reserved_bits_anywhere_else_are_refused(void)
{
    static const struct {
        uint8_t opcode, rsv;
    } bad[] = {{FWS_CONTINUATION, 4}, {FWS_PING, 4}, {FWS_PONG, 4}, {FWS_CLOSE, 4},
               {FWS_TEXT, 2},         {FWS_TEXT, 1}, {FWS_TEXT, 6}, {FWS_PING, 2}};
    for (size_t i = 0; i < COUNT(bad); i++) {
        fresh(&wire);
        fresh(&expected);
        if (bad[i].opcode == FWS_CONTINUATION)
            put_rsv(&wire, FWS_TEXT, false, FWS_RSV1, "\xf2", 1);
        put_rsv(&wire, bad[i].opcode, true, bad[i].rsv, "", 0);
        check_compressed(&WIDE, FWS_E_PROTOCOL);
    }
}

static void test_a_compressed_message_that_was_not_negotiated_is_refused(void)
{
    put_rsv(fresh(&wire), FWS_TEXT, true, FWS_RSV1, "\0", 1);
    check_story(&WIDE, &wire, fresh(&expected), FWS_E_PROTOCOL);
}

/* D23 D25 */
static void test_garbage_and_bad_text_inside_are_refused(void)
{
    static const uint8_t stored[] = {0x00, 0x02, 0x00, 0xfd, 0xff, 0xc3, 0x28, 0x00};
    put_rsv(fresh(&wire), FWS_TEXT, true, FWS_RSV1, "\xff\xff\xff\xff", 4);
    check_compressed(&WIDE, (fresh(&expected), FWS_E_DATA));
    put_rsv(fresh(&wire), FWS_TEXT, true, FWS_RSV1, stored, sizeof stored);
    check_compressed(&WIDE, FWS_E_UTF8);
    put_rsv(fresh(&wire), FWS_BINARY, true, FWS_RSV1, stored, sizeof stored);
    tell(fresh(&expected), FWS_BINARY, 0, "\xc3\x28", 2);
    check_compressed(&WIDE, 0);
    CHECK_EQ(fws_close_code(FWS_E_DATA), 1007);
}

/* L05 L06 */
static void test_the_limit_holds_after_inflating(void)
{
    static uint8_t zeros[5001];
    const uint8_t *packed;
    const fws_limits limits = {5000, 8};
    for (size_t n = 5000; n <= 5001; n++)
        for (int cut = 0; cut < 2; cut++) {
            size_t packed_n = fws_deflate_message(codec, 15, zeros, n, &packed);
            fresh(&wire);
            put_rsv(&wire, FWS_BINARY, cut == 0, FWS_RSV1, packed, cut ? 5 : packed_n);
            if (cut)
                put(&wire, FWS_CONTINUATION, true, packed + 5, packed_n - 5);
            fresh(&expected);
            if (n == 5000)
                tell(&expected, FWS_BINARY, 0, zeros, n);
            check_compressed(&limits, n == 5000 ? 0 : FWS_E_TOO_BIG);
        }
}

static void test_noise_of_the_largest_size_may_be_a_little_larger_on_the_wire(void)
{
    uint8_t payload[4 * 1005 + 1], noise[4000];
    const fws_limits limits = {sizeof noise, 8};
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)test_random(&random);
    for (size_t i = 0; i < 4; i++) { /* stored blocks of 1,000 bytes */
        memcpy(payload + i * 1005, "\0\xe8\x03\x17\xfc", 5);
        memcpy(payload + i * 1005 + 5, noise + i * 1000, 1000);
    }
    payload[sizeof payload - 1] = 0;
    put_rsv(fresh(&wire), FWS_BINARY, true, FWS_RSV1, payload, sizeof payload);
    tell(fresh(&expected), FWS_BINARY, 0, noise, sizeof noise);
    check_compressed(&limits, 0);
    put_rsv(fresh(&wire), FWS_BINARY, false, FWS_RSV1, payload, sizeof payload);
    put(&wire, FWS_CONTINUATION, true, payload, 200);
    check_compressed(&limits, (fresh(&expected), FWS_E_TOO_BIG));
}

int main(void)
{
    if (!fws_deflate_available()) {
        puts("skipped: built without zlib");
        return 0;
    }
    story_init();
    codec = fws_deflate_new();
    CHECK(codec != NULL);
    RUN(test_compressed_and_plain_messages_take_turns);
    RUN(test_fragments_are_inflated_together_and_a_ping_may_come_between);
    RUN(test_an_empty_message_may_be_compressed);
    RUN(test_reserved_bits_anywhere_else_are_refused);
    RUN(test_a_compressed_message_that_was_not_negotiated_is_refused);
    RUN(test_garbage_and_bad_text_inside_are_refused);
    RUN(test_the_limit_holds_after_inflating);
    RUN(test_noise_of_the_largest_size_may_be_a_little_larger_on_the_wire);
    fws_deflate_free(codec);
    return 0;
}
