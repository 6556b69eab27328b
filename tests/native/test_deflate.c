/* Messages compressed one at a time, and back; what is not a compressed message; limits. */
#include "check.h"
#include "wire/deflate.h"
#include "wire/status.h"

#if !FWS_NO_DEFLATE

#include <zlib.h>

#define MOST (1u << 20)
#define COUNT(array) (sizeof(array) / sizeof *(array))

static fws_deflate *codec;
static uint8_t text[MOST];

static void fill_with_prose(void)
{
    static const char *words[] = {"bid ", "ask ", "price ", "50012.34 ", "volume ", "BTC "};
    uint64_t random = 7;
    size_t n = 0;
    while (n < MOST) {
        const char *word = words[test_random(&random) % COUNT(words)];
        for (; *word != 0 && n < MOST; word++)
            text[n++] = (uint8_t)*word;
    }
}

/* Inflates and compares; the input ends at a guard page. */
static void check_inflates(const uint8_t *data, size_t n, const void *expected, size_t expected_n)
{
    uint8_t *out;
    size_t out_n;
    CHECK_EQ(fws_inflate_message(codec, guarded_copy(data, n), n, MOST, &out, &out_n), FWS_OK);
    CHECK_EQ(out_n, expected_n);
    CHECK(expected_n == 0 || memcmp(out, expected, expected_n) == 0);
    free(out);
}

static int refused(const void *data, size_t n, uint64_t limit)
{
    uint8_t *out = NULL;
    size_t out_n = 0;
    int status = fws_inflate_message(codec, guarded_copy(data, n), n, limit, &out, &out_n);
    if (status == FWS_OK)
        free(out);
    return status;
}

static void test_every_window_and_length_comes_back(void)
{
    static const size_t lengths[] = {FWS_DEFLATE_LEAST, 125, 126, 1000, 65535, 65536, MOST};
    for (unsigned bits = FWS_WINDOW_MIN; bits <= FWS_WINDOW_MAX; bits++)
        for (size_t i = 0; i < COUNT(lengths); i++) {
            const uint8_t *out;
            size_t n = fws_deflate_message(codec, bits, text, lengths[i], &out);
            CHECK(n < lengths[i]);
            if (n > 0)
                check_inflates(out, n, text, lengths[i]);
            CHECK(n > 0 || lengths[i] < 126);
        }
}

/* A peer that asked for a window keeps no more than that: zlib refuses what points further back. */
static void test_a_window_that_was_asked_for_is_kept_to(void)
{
    static uint8_t back[MOST];
    for (unsigned bits = FWS_WINDOW_MIN; bits <= FWS_WINDOW_MAX; bits++) {
        const uint8_t *out;
        size_t n = fws_deflate_message(codec, bits, text, MOST, &out), done = 0;
        z_stream stream = {0};
        CHECK_EQ(inflateInit2(&stream, -(int)bits), Z_OK);
        stream.next_in = (Bytef *)(uintptr_t)out;
        stream.avail_in = (uInt)n;
        while (stream.avail_in > 0) { /* in small pieces: only the window reaches back further */
            stream.next_out = back + done;
            stream.avail_out = 64;
            int status = inflate(&stream, Z_SYNC_FLUSH);
            CHECK(status == Z_OK || status == Z_BUF_ERROR);
            done += 64 - stream.avail_out;
        }
        CHECK(memcmp(back, text, done) == 0 && done > MOST - 64);
        inflateEnd(&stream);
    }
}

static void test_what_is_tiny_or_does_not_shrink_goes_as_it_is(void)
{
    static uint8_t noise[70000];
    const uint8_t *out;
    uint64_t random = 3, calls = fws_deflate_calls(codec);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)test_random(&random);
    for (size_t n = 0; n < FWS_DEFLATE_LEAST; n++)
        CHECK_EQ(fws_deflate_message(codec, 15, text, n, &out), 0);
    CHECK_EQ(fws_deflate_calls(codec), calls);
    CHECK_EQ(fws_deflate_message(codec, 15, noise, 100, &out), 0);
    CHECK_EQ(fws_deflate_message(codec, 15, noise, sizeof noise, &out), 0);
    CHECK_EQ(fws_deflate_calls(codec), calls + 2);
}

static void fill_with_noise(uint8_t *data, size_t n)
{
    uint64_t random = 3;
    for (size_t i = 0; i < n; i++)
        data[i] = (uint8_t)test_random(&random);
}

static void test_a_large_message_that_begins_with_noise_goes_as_it_is(void)
{
    static uint8_t data[MOST];
    const uint8_t *out;
    memcpy(data, text, MOST);
    fill_with_noise(data, 4096);
    CHECK(fws_deflate_message(codec, 15, data, 16384, &out) > 0); /* a small one is tried whole */
    CHECK_EQ(fws_deflate_message(codec, 15, data, MOST, &out), 0);
}

static void test_what_ceases_to_shrink_is_stored_from_there_on(void)
{
    static uint8_t data[MOST];
    const uint8_t *out;
    for (unsigned bits = FWS_WINDOW_MIN; bits <= FWS_WINDOW_MAX; bits++) {
        fill_with_noise(data, MOST);
        memcpy(data, text, 20000);
        size_t n = fws_deflate_message(codec, bits, data, MOST, &out);
        CHECK(n > 0 && n < MOST - 5000);
        check_inflates(out, n, data, MOST);
    }
}

static uint64_t clock_ns, tick_ns;

static uint64_t tick(void)
{
    return clock_ns += tick_ns;
}

/* Blocks of 11 bytes that hold nothing, and whose tables take 4 us: 1 MiB of them took 0.2 s. */
static void test_blocks_that_hold_nothing_are_bounded(void)
{
    static uint8_t wire[100 * FWS_BLOCKS];
    static const uint8_t four[] = {
        0x04, 0xc0, 0x81, 0x00, 0x00, 0x00, 0x00, 0x00, 0x90, 0xff, 0x6b, 0x10, 0x00, 0x07, 0x02,
        0x00, 0x00, 0x00, 0x00, 0x40, 0xfe, 0xaf, 0x41, 0x00, 0x1c, 0x08, 0x00, 0x00, 0x00, 0x00,
        0x00, 0xf9, 0xbf, 0x06, 0x01, 0x70, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0xe4, 0xff, 0x1a};
    static const uint8_t final[] = {0x03, 0x00}; /* fixed, with BFINAL */
    size_t n = 0;
    for (size_t blocks = 0; blocks < 4 * FWS_BLOCKS; blocks += 4, n += sizeof four)
        memcpy(wire + n, four, sizeof four);
    wire[n] = 0x00; /* the stored block whose rest is not sent */
    CHECK_EQ(refused(wire, FWS_BLOCKS / 4 * sizeof four, MOST), FWS_E_DATA); /* without that */
    wire[FWS_BLOCKS / 4 * sizeof four] = 0x00;
    CHECK_EQ(refused(wire, FWS_BLOCKS / 4 * sizeof four + 1, MOST), FWS_OK);
    memcpy(wire + FWS_BLOCKS / 4 * sizeof four, four, sizeof four);
    CHECK_EQ(refused(wire, n + 1, MOST), FWS_E_TOO_BIG);
    for (n = 0; n < sizeof wire; n += sizeof final)
        memcpy(wire + n, final, sizeof final);
    CHECK_EQ(refused(wire, FWS_BLOCKS * sizeof final, MOST), FWS_OK);
    CHECK_EQ(refused(wire, sizeof wire, MOST), FWS_E_TOO_BIG);
}

/* Fixed blocks of 10 bits that hold nothing: 1 MiB of them took 10 ms. */
static void test_empty_blocks_of_any_kind_are_bounded(void)
{
    static uint8_t wire[2 * MOST];
    for (size_t bit = 0; bit + 10 <= 8 * sizeof wire; bit += 10) /* 0 10 0000000 */
        wire[(bit + 1) / 8] |= (uint8_t)(1U << (bit + 1) % 8);
    CHECK_EQ(refused(wire, sizeof wire, MOST), FWS_E_TOO_BIG);
    wire[(FWS_EMPTY_BLOCKS / 4 - 2) * 5] = 0x00; /* the stored block whose rest is not sent */
    CHECK_EQ(refused(wire, (FWS_EMPTY_BLOCKS / 4 - 2) * 5 + 1, MOST), FWS_OK);
}

/* Whoever compresses with the least memory ends a block after 127 symbols, or flushes each byte. */
static void test_many_blocks_that_hold_something_are_fine(void)
{
    static uint8_t wire[2 * MOST];
    for (int each = 0; each < 2; each++) {
        z_stream stream = {.next_in = text, .next_out = wire, .avail_out = sizeof wire};
        size_t total = each ? 20000 : MOST;
        CHECK_EQ(deflateInit2(&stream, 6, Z_DEFLATED, -15, 1, Z_DEFAULT_STRATEGY), Z_OK);
        for (size_t i = 0; i < total; i += stream.total_in - i) {
            stream.avail_in = (uInt)(each ? 1 : total);
            CHECK_EQ(deflate(&stream, Z_SYNC_FLUSH), Z_OK);
        }
        check_inflates(wire, sizeof wire - stream.avail_out - 4, text, total);
        deflateEnd(&stream);
    }
}

/* What is left when the time is up is stored; the next message is compressed as ever. */
static void test_compressing_is_bounded_in_time(void)
{
    const uint8_t *out;
    for (unsigned bits = FWS_WINDOW_MIN; bits <= FWS_WINDOW_MAX; bits += 3) {
        size_t whole = fws_deflate_message(codec, bits, text, MOST, &out);
        size_t small = fws_deflate_message(codec, bits, text, 10000, &out);
        fws_deflate_bound(codec, tick, 10);
        tick_ns = 5;
        size_t n = fws_deflate_message(codec, bits, text, MOST, &out);
        CHECK(n > MOST - 100000 && n < MOST - 10000);
        check_inflates(out, n, text, MOST);
        CHECK_EQ(fws_deflate_message(codec, bits, text, 10000, &out), small);
        tick_ns = 0;
        CHECK_EQ(fws_deflate_message(codec, bits, text, MOST, &out), whole);
        fws_deflate_bound(codec, tick, 0);
    }
}

/* The library counts in 32 bits: what it could not count is not given to it. */
static void test_sizes_past_32_bits_are_refused_unread(void)
{
    const uint8_t *small;
    uint8_t *large;
    size_t n, past = (size_t)UINT32_MAX + 1;
    CHECK_EQ(fws_deflate_message(codec, 15, text, past, &small), 0);
    CHECK_EQ(fws_inflate_message(codec, text, past, UINT64_MAX, &large, &n), FWS_E_TOO_BIG);
}

/* RFC 7692 7.2.3: the examples of the document. */
static void test_samples_of_rfc_7692_inflate(void)
{
    static const uint8_t plain[] = {0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    static const uint8_t stored[] = {0x00, 0x05, 0x00, 0xfa, 0xff, 'H', 'e', 'l', 'l', 'o', 0x00};
    static const uint8_t final[] = {0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00};
    static const uint8_t two[] = {0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff,
                                  0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00};
    check_inflates(plain, sizeof plain, "Hello", 5);
    check_inflates(stored, sizeof stored, "Hello", 5);
    check_inflates(final, sizeof final, "Hello", 5);
    check_inflates(final, sizeof final - 1, "Hello", 5); /* nothing behind the last block */
    check_inflates(two, sizeof two, "Hello", 5);
    check_inflates((const uint8_t *)"\1", 1, "", 0); /* the block that is left off may be final */
    check_inflates((const uint8_t *)"", 1, "", 0);
    check_inflates((const uint8_t *)"", 0, "", 0);
}

static void test_blocks_may_follow_a_final_one(void)
{
    static const uint8_t twice[] = {0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00,
                                    0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    check_inflates(twice, sizeof twice, "HelloHello", 10);
}

static void test_garbage_and_what_is_cut_off_are_refused(void)
{
    static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff};
    static const uint8_t bad_length[] = {0x00, 0x05, 0x00, 0xfa, 0xfe, 'H'};
    CHECK_EQ(refused(garbage, sizeof garbage, MOST), FWS_E_DATA);
    CHECK_EQ(refused(bad_length, sizeof bad_length, MOST), FWS_E_DATA);
    const uint8_t *out;
    size_t n = fws_deflate_message(codec, 15, text, 5000, &out);
    uint8_t *whole = guarded_copy(out, n);
    for (size_t cut = 1; cut < n; cut++)
        CHECK_EQ(refused(whole, cut, MOST), FWS_E_DATA);
}

static void test_nothing_is_remembered_of_the_message_before(void)
{
    /* The second one of a sender that kept its window: it points into the first. */
    z_stream stream = {0};
    uint8_t first[4000], second[4000];
    CHECK_EQ(deflateInit2(&stream, 9, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY), Z_OK);
    stream.next_in = text;
    stream.avail_in = 2000;
    stream.next_out = first;
    stream.avail_out = sizeof first;
    CHECK_EQ(deflate(&stream, Z_SYNC_FLUSH), Z_OK);
    size_t first_n = sizeof first - stream.avail_out - 4;
    stream.next_in = text;
    stream.avail_in = 2000;
    stream.next_out = second;
    stream.avail_out = sizeof second;
    CHECK_EQ(deflate(&stream, Z_SYNC_FLUSH), Z_OK);
    size_t second_n = sizeof second - stream.avail_out - 4;
    deflateEnd(&stream);
    check_inflates(first, first_n, text, 2000);
    CHECK_EQ(refused(second, second_n, MOST), FWS_E_DATA);
}

static void test_inflating_stops_at_the_limit(void)
{
    static uint8_t zeros[MOST];
    const uint8_t *out;
    size_t n = fws_deflate_message(codec, 15, zeros, MOST, &out);
    CHECK(n > 0 && n < MOST / 100);
    uint8_t *bomb = guarded_copy(out, n);
    check_inflates(bomb, n, zeros, MOST);
    CHECK_EQ(refused(bomb, n, MOST - 1), FWS_E_TOO_BIG);
    CHECK_EQ(refused(bomb, n, 0), FWS_E_TOO_BIG);
    CHECK_EQ(refused(bomb, n, 255), FWS_E_TOO_BIG);
    CHECK_EQ(refused(bomb, n, UINT64_MAX), FWS_OK);
    CHECK_EQ(refused("", 1, 0), FWS_OK);
}

int main(void)
{
    codec = fws_deflate_new();
    CHECK(codec != NULL && fws_deflate_available());
    fill_with_prose();
    RUN(test_every_window_and_length_comes_back);
    RUN(test_a_window_that_was_asked_for_is_kept_to);
    RUN(test_what_is_tiny_or_does_not_shrink_goes_as_it_is);
    RUN(test_a_large_message_that_begins_with_noise_goes_as_it_is);
    RUN(test_what_ceases_to_shrink_is_stored_from_there_on);
    RUN(test_blocks_that_hold_nothing_are_bounded);
    RUN(test_empty_blocks_of_any_kind_are_bounded);
    RUN(test_many_blocks_that_hold_something_are_fine);
    RUN(test_compressing_is_bounded_in_time);
    RUN(test_sizes_past_32_bits_are_refused_unread);
    RUN(test_samples_of_rfc_7692_inflate);
    RUN(test_blocks_may_follow_a_final_one);
    RUN(test_garbage_and_what_is_cut_off_are_refused);
    RUN(test_nothing_is_remembered_of_the_message_before);
    RUN(test_inflating_stops_at_the_limit);
    fws_deflate_free(codec);
    fws_deflate_free(NULL);
    return 0;
}

#else

int main(void)
{
    uint8_t *out;
    size_t n;
    CHECK(!fws_deflate_available() && fws_deflate_new() == NULL);
    CHECK_EQ(fws_deflate_message(NULL, 15, (const uint8_t *)"a", 1, (const uint8_t **)&out), 0);
    CHECK_EQ(fws_inflate_message(NULL, (const uint8_t *)"", 1, 1, &out, &n), FWS_E_DATA);
    return 0;
}

#endif
