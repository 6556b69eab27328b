/* UTF-8 validation against a slow decoder that follows the text of RFC 3629. */
#include <stdbool.h>

#include "check.h"
#include "wire/utf8.h"

/* Bytes of the character at data[0..n), 0 when it is cut off by the end though it could
 * still become valid, -1 when it cannot. It decodes the code point and judges that, so it
 * shares no idea with the machine under test. */
static int reference_character(const uint8_t *data, size_t n)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t lead = data[0];
    size_t size = lead < 0x80       ? 1
                  : lead >> 5 == 6  ? 2
                  : lead >> 4 == 14 ? 3
                  : lead >> 3 == 30 ? 4
                                    : 0;
    if (size == 0)
        return -1;
    uint32_t low = size == 1 ? lead : lead & (0x7FU >> size), high;
    size_t seen = 1;
    for (; seen < size && seen < n; seen++) {
        if (data[seen] >> 6 != 2)
            return -1;
        low = low << 6 | (data[seen] & 0x3F);
    }
    unsigned missing = (unsigned)(6 * (size - seen));
    high = (low << missing) | ((1U << missing) - 1); /* all code points it can still become */
    low <<= missing;
    if (high < least[size] || low > 0x10FFFF || (low >= 0xD800 && high <= 0xDFFF))
        return -1;
    return seen < size ? 0 : (int)size;
}

enum verdict { WHOLE, CUT, BROKEN };

static enum verdict reference(const uint8_t *data, size_t n)
{
    while (n > 0) {
        int size = reference_character(data, n);
        if (size <= 0)
            return size == 0 ? CUT : BROKEN;
        data += size;
        n -= (size_t)size;
    }
    return WHOLE;
}

static enum verdict verdict_of(uint32_t state)
{
    return state == FWS_UTF8_ACCEPT ? WHOLE : state == FWS_UTF8_REJECT ? BROKEN : CUT;
}

/* Alone, and in front of as much text as the fast ways need. */
static void check_feed(const uint8_t *data, size_t n)
{
    uint8_t text[12];

    CHECK_EQ(verdict_of(fws_utf8_feed(FWS_UTF8_ACCEPT, data, n)), reference(data, n));
    memset(text, '.', sizeof text);
    memcpy(text, data, n);
    CHECK_EQ(verdict_of(fws_utf8_feed(FWS_UTF8_ACCEPT, text, 12)), reference(text, 12));
}

static void check_every_split(const uint8_t *data, size_t n)
{
    enum verdict expected = reference(data, n);

    for (size_t k = 0; k <= n; k++) {
        uint32_t state = fws_utf8_feed(FWS_UTF8_ACCEPT, data, k);
        CHECK_EQ(verdict_of(state), reference(data, k)); /* at the first byte, not later */
        CHECK_EQ(verdict_of(fws_utf8_feed(state, data + k, n - k)), expected);
    }
}

static void test_every_sequence_of_one_to_three_bytes_matches_the_reference(void)
{
    uint8_t *data = guarded(3);

    check_feed(data, 0);
    for (unsigned value = 0; value < 1U << 24; value++) {
        data[0] = (uint8_t)(value >> 16);
        data[1] = (uint8_t)(value >> 8);
        data[2] = (uint8_t)value;
        check_feed(data, 3);
        if (value < 1U << 16)
            check_every_split(data + 1, 2);
        if (value < 1U << 8)
            check_feed(data + 2, 1);
    }
}

/* The bytes at which table 3-7 draws its lines, and one from within each range. */
static const uint8_t EDGES[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0,
                                0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF};

static void test_four_byte_sequences_at_every_edge_match_at_every_split(void)
{
    uint8_t *data = guarded(4);
    size_t edges = sizeof EDGES, all = edges * edges * edges * edges;

    for (size_t i = 0; i < all; i++) {
        size_t rest = i;
        for (int k = 0; k < 4; k++, rest /= edges)
            data[k] = EDGES[rest % edges];
        check_feed(data, 4);
        check_every_split(data, 4);
    }
}

static void test_random_four_byte_sequences_match(void)
{
    uint8_t *data = guarded(4);
    uint64_t seed = 4;

    for (int i = 0; i < 500000; i++) {
        uint64_t value = test_random(&seed);
        memcpy(data, &value, 4);
        data[0] |= 0xF0; /* mostly leads of four */
        if (i % 4) {
            data[1] = (uint8_t)((data[1] & 0x3F) | 0x80);
            data[2] = (uint8_t)((data[2] & 0x3F) | 0x80);
        }
        check_feed(data, 4);
        check_every_split(data, 4);
    }
}

static void test_every_code_point_is_judged_like_the_reference(void)
{
    for (uint32_t code = 0x10000; code < 0x110000 + 0x1000; code++) {
        uint8_t data[4] = {(uint8_t)(0xF0 | code >> 18), (uint8_t)(0x80 | (code >> 12 & 0x3F)),
                           (uint8_t)(0x80 | (code >> 6 & 0x3F)), (uint8_t)(0x80 | (code & 0x3F))};
        check_feed(data, 4);
        CHECK_EQ(reference(data, 4), code <= 0x10FFFF ? WHOLE : BROKEN);
    }
}

/* HOSTILE U20-U37: each at each offset of 97 bytes, so that it meets every lane of the
 * fast way and its end. */
static const char *const BROKEN_TEXT[] = {"\x80",
                                          "\xBF",
                                          "\xC0\x80",
                                          "\xC1\xBF",
                                          "\xC2\x41",
                                          "\xE0\x80\x80",
                                          "\xE0\x9F\xBF",
                                          "\xE2\x82\x41",
                                          "\xED\xA0\x80",
                                          "\xED\xBF\xBF",
                                          "\xF0\x80\x80\x80",
                                          "\xF0\x8F\xBF\xBF",
                                          "\xF4\x90\x80\x80",
                                          "\xF5\x80\x80\x80",
                                          "\xF8\x88\x80\x80\x80",
                                          "\xFC\x84\x80\x80\x80\x80",
                                          "\xFE",
                                          "\xFF"};

static void test_broken_sequences_are_found_at_every_offset_and_split(void)
{
    uint8_t *text = guarded(97);

    for (size_t i = 0; i < sizeof BROKEN_TEXT / sizeof *BROKEN_TEXT; i++) {
        size_t size = strlen(BROKEN_TEXT[i]);
        for (size_t at = 0; at + size <= 97; at++) {
            memset(text, 'a', 97);
            memcpy(text + at, BROKEN_TEXT[i], size);
            CHECK_EQ(fws_utf8_feed(FWS_UTF8_ACCEPT, text, 97), FWS_UTF8_REJECT);
            check_every_split(text, 97);
        }
    }
}

static void test_valid_text_passes_at_every_offset_and_split(void)
{
    static const char *const valid[] = {"\xC2\x80",         "\xDF\xBF",         "\xE0\xA0\x80",
                                        "\xED\x9F\xBF",     "\xEE\x80\x80",     "\xEF\xBF\xBF",
                                        "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\xEF\xB7\x90"};
    uint8_t *text = guarded(97);

    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        size_t size = strlen(valid[i]);
        for (size_t at = 0; at + size <= 97; at++) {
            memset(text, at % 2 ? 0 : 'z', 97);
            memcpy(text + at, valid[i], size);
            CHECK_EQ(fws_utf8_feed(FWS_UTF8_ACCEPT, text, 97), FWS_UTF8_ACCEPT);
            check_every_split(text, 97);
        }
    }
}

static void test_random_text_of_all_lengths_is_judged_like_the_reference(void)
{
    static const char *const pieces[] = {"a",
                                         "plain text of many letters, ",
                                         "\xC3\xA9",
                                         "\xE2\x82\xAC",
                                         "\xF0\x9F\x98\x80",
                                         "\xED\x9F\xBF"};
    uint8_t *room = guarded(128), *text;
    uint64_t seed = 3629;

    for (int round = 0; round < 20000; round++) {
        size_t n = test_random(&seed) % 129;
        text = room + 128 - n;
        for (size_t i = 0; i < n;) {
            const char *piece = pieces[test_random(&seed) % 6];
            for (; *piece && i < n; i++)
                text[i] = (uint8_t)*piece++;
        }
        if (n > 0 && round % 2)
            text[test_random(&seed) % n] ^= (uint8_t)(1U << test_random(&seed) % 8);
        check_every_split(text, n);
    }
}

static void test_reject_is_final(void)
{
    CHECK_EQ(fws_utf8_feed(FWS_UTF8_REJECT, (const uint8_t *)"abcdefgh", 8), FWS_UTF8_REJECT);
    CHECK_EQ(fws_utf8_feed(FWS_UTF8_REJECT, (const uint8_t *)"", 0), FWS_UTF8_REJECT);
}

int main(void)
{
    RUN(test_every_sequence_of_one_to_three_bytes_matches_the_reference);
    RUN(test_four_byte_sequences_at_every_edge_match_at_every_split);
    RUN(test_random_four_byte_sequences_match);
    RUN(test_every_code_point_is_judged_like_the_reference);
    RUN(test_broken_sequences_are_found_at_every_offset_and_split);
    RUN(test_valid_text_passes_at_every_offset_and_split);
    RUN(test_random_text_of_all_lengths_is_judged_like_the_reference);
    RUN(test_reject_is_final);
    return 0;
}
