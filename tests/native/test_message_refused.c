/* Messages that are refused, why, and at which byte; close frames. */
#include "reader_cases.h"
#include "wire/utf8.h"

static void test_fragments_out_of_order_are_protocol_errors(void) /* G20-G25 */
{
    put_text(fresh(&wire), FWS_CONTINUATION, true, "x");
    check_story(&WIDE, &wire, fresh(&expected), FWS_E_PROTOCOL);
    put_text(fresh(&wire), FWS_CONTINUATION, false, "");
    check_story(&WIDE, &wire, &expected, FWS_E_PROTOCOL);

    for (unsigned opcode = 0; opcode < 4; opcode++) { /* also a bad one inside */
        put_text(fresh(&wire), FWS_TEXT, false, "a");
        if (opcode == FWS_CONTINUATION)
            put_text(&wire, FWS_CONTINUATION, true, "b");
        put_text(&wire, opcode, true, "c");
        fresh(&expected);
        if (opcode == FWS_CONTINUATION)
            tell(&expected, FWS_TEXT, 0, "ab", 2);
        check_story(&WIDE, &wire, &expected, FWS_E_PROTOCOL);
    }
}

static void test_too_many_fragments_are_refused_and_empty_ones_cost_nothing(void) /* G30 G31 */
{
    const fws_limits limits = {100, 5000};
    static bytes story;
    fws_reader reader;

    fws_reader_init(&reader, FWS_SERVER);
    put_text(fresh(&wire), FWS_TEXT, false, "");
    CHECK_EQ(feed(&reader, &limits, wire.at, wire.n, fresh(&story)), 0);
    put_text(fresh(&wire), FWS_CONTINUATION, false, "");
    for (int i = 1; i < 5000; i++)
        CHECK_EQ(feed(&reader, &limits, wire.at, wire.n, &story), 0);
    CHECK(reader.buffer == NULL);
    CHECK_EQ(feed(&reader, &limits, wire.at, wire.n, &story), FWS_E_FRAGMENTS);
    fws_reader_clear(&reader);
}

static void test_the_size_limit_counts_all_fragments_and_falls_at_the_header(void) /* L, F22 F23 */
{
    const fws_limits limits = {100, 10};
    uint8_t payload[100] = {0}, header[FWS_HEADER_MAX];

    put(fresh(&wire), FWS_BINARY, true, payload, 100);
    put(&wire, FWS_BINARY, false, payload, 60);
    put(&wire, FWS_CONTINUATION, true, payload, 40);
    tell(fresh(&expected), FWS_BINARY, 0, payload, 100);
    tell(&expected, FWS_BINARY, 0, payload, 100);
    check_story(&limits, &wire, &expected, 0);

    static const uint64_t too_big[] = {101, 65536, (1ULL << 62) + 1, INT64_MAX};
    for (size_t i = 0; i < COUNT(too_big); i++) {
        fresh(&wire);
        add(&wire, header, fws_header_encode(header, FWS_TEXT, true, 0, too_big[i], KEY));
        check_story(&limits, &wire, fresh(&expected), FWS_E_TOO_BIG);
        put(fresh(&wire), FWS_BINARY, false, payload, 50);
        add(&wire, header,
            fws_header_encode(header, FWS_CONTINUATION, true, 0, too_big[i] - 50, KEY));
        check_story(&limits, &wire, &expected, FWS_E_TOO_BIG);
    }
}

static void test_broken_text_is_refused_before_the_message_ends(void) /* U20-U55 */
{
    static const char *const broken[] = {"\x80",         "\xC0\x80",     "\xC2\x41",
                                         "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                                         "\xF5",         "\xFF"};

    for (size_t i = 0; i < COUNT(broken); i++) {
        size_t size = strlen(broken[i]);
        for (size_t k = 0; k <= size; k++) { /* cut between fragments; the end never comes */
            put_text(fresh(&wire), FWS_TEXT, false, "sound");
            put(&wire, FWS_CONTINUATION, false, broken[i], k);
            put_text(&wire, FWS_PING, true, "?");
            put(&wire, FWS_CONTINUATION, false, broken[i] + k, size - k);
            fresh(&expected);
            if (fws_utf8_feed(0, (const uint8_t *)broken[i], k) != FWS_UTF8_REJECT)
                tell(&expected, FWS_PING, 0, "?", 1);
            check_story(&WIDE, &wire, &expected, FWS_E_UTF8);
        }
        put_text(fresh(&wire), FWS_BINARY, true, broken[i]); /* U51 */
        tell(fresh(&expected), FWS_BINARY, 0, broken[i], size);
        check_story(&WIDE, &wire, &expected, 0);
    }
}

static void test_text_that_ends_in_a_character_is_refused(void)
{
    put_text(fresh(&wire), FWS_TEXT, true, "price \xE2\x82");
    check_story(&WIDE, &wire, fresh(&expected), FWS_E_UTF8);
    put_text(fresh(&wire), FWS_TEXT, false, "\xF0\x9F");
    put_text(&wire, FWS_CONTINUATION, true, "");
    check_story(&WIDE, &wire, &expected, FWS_E_UTF8);
}

static void check_close(const void *payload, size_t n, int status, unsigned code)
{
    put(fresh(&wire), FWS_CLOSE, true, payload, n);
    fresh(&expected);
    if (status == FWS_OK)
        tell(&expected, FWS_CLOSE, code, (const char *)payload + (n ? 2 : 0), n ? n - 2 : 0);
    check_story(&WIDE, &wire, &expected, status);
}

static void test_close_frames_are_decoded_and_judged(void) /* K01-K19, K30-K36, K50-K52 */
{
    uint8_t longest[125] = {0x03, 0xE8};

    memset(longest + 2, 'r', 123);
    check_close("", 0, 0, 1005);
    check_close("\x03\xe8", 2, 0, 1000);
    check_close("\x0b\xb8 bye \xE2\x82\xAC", 10, 0, 3000);
    check_close(longest, 125, 0, 1000);
    check_close("\x03", 1, FWS_E_PROTOCOL, 0);
    check_close("\x03\xe8\xff", 3, FWS_E_UTF8, 0);
    check_close("\x03\xe8 \xE2\x82", 5, FWS_E_UTF8, 0);
    check_close("\x03\xed\xff", 3, FWS_E_PROTOCOL, 0);
    put(fresh(&wire), FWS_CLOSE, true, longest, 125);
    wire.at[1] = 0x80 | 126; /* K52: a length of 126 and over */
    check_story(&WIDE, &wire, fresh(&expected), FWS_E_PROTOCOL);
}

static void test_every_close_code_is_judged(void) /* K40-K45 */
{
    for (unsigned code = 0; code < 65536; code++) {
        bool valid = (code >= 1000 && code < 1015 && (code < 1004 || code > 1006))
                     || (code >= 3000 && code < 5000);
        uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
        CHECK_EQ(fws_close_code_valid((uint16_t)code), valid);
        if (code < 1020 || code % 1000 < 2 || code == 65535)
            check_close(payload, 2, valid ? FWS_OK : FWS_E_PROTOCOL, code);
    }
}

int main(void)
{
    story_init();
    RUN(test_fragments_out_of_order_are_protocol_errors);
    RUN(test_too_many_fragments_are_refused_and_empty_ones_cost_nothing);
    RUN(test_the_size_limit_counts_all_fragments_and_falls_at_the_header);
    RUN(test_broken_text_is_refused_before_the_message_ends);
    RUN(test_text_that_ends_in_a_character_is_refused);
    RUN(test_close_frames_are_decoded_and_judged);
    RUN(test_every_close_code_is_judged);
    return 0;
}
