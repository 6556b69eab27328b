/* Blocks of ticks, written with and without AVX-512, against ticks written one by one. */
#include "check.h"
#include "feed/tick.h"

#include <math.h>

#define TS 1769951234567890123ULL

static fws_ticks ticks;

/* False: this processor cannot. */
static bool set_vector(fws_ticks *some, int vector)
{
    if (vector && !fws_tick_vector_available())
        return false;
    some->vector = vector;
    return true;
}

static void check_block(fws_ticks *twin, uint32_t n, uint64_t ts_ns, uint64_t seq)
{
    static uint8_t *past, expected[FWS_TICK_BLOCK * FWS_TICK_MAX];
    const size_t most = FWS_TICK_BLOCK * FWS_TICK_MAX;
    past = past == NULL ? guarded(most) + most : past;
    size_t bytes = FWS_TICK_MAX, size = 0;
    while (fws_ticks_fit(&ticks, bytes, n) < n)
        bytes++;
    CHECK(bytes <= most);
    uint32_t end[FWS_TICK_BLOCK], start = (uint32_t)(ts_ns % 60000);
    uint8_t *out = past - bytes;
    CHECK_EQ(fws_ticks_fit(&ticks, bytes + 100000, n), n);
    size_t written = fws_tick_block(&ticks, out, end, start, n, ts_ns, seq);
    for (uint32_t i = 0; i < n; i++) {
        size += fws_tick_write(twin, expected + size, ts_ns, seq + i);
        CHECK_EQ(ticks.symbol[i], twin->symbol[0]);
        CHECK_EQ(end[i], start + size);
    }
    CHECK_EQ(written, size);
    CHECK(memcmp(out, expected, size) == 0);
    CHECK(memcmp(ticks.random, twin->random, sizeof ticks.random) == 0);
    CHECK(memcmp(ticks.price, twin->price, sizeof ticks.price) == 0);
}

static void test_blocks_are_the_ticks_one_by_one(void)
{
    static fws_ticks twin;
    uint64_t state = 11, seq = 0;
    for (int kind = 0; kind < 12; kind++) {
        enum fws_tick_format format = kind & 1 ? FWS_TICK_BINARY : FWS_TICK_JSON;
        fws_ticks_init(&ticks, 12, format, (enum fws_tick_fields)(kind / 4));
        if (!set_vector(&ticks, kind & 2))
            continue;
        twin = ticks;
        for (int i = 0; i < 20000; i++) {
            uint32_t n = 1 + (uint32_t)(test_random(&state) % FWS_TICK_BLOCK);
            for (int k = 0; k < FWS_TICK_SYMBOLS && i % 4 == 0; k++) { /* prices of any size */
                double unit = (double)(test_random(&state) >> 11) / 9007199254740992.0;
                ticks.price[k] = twin.price[k] = 0.00001 * pow(1e12, unit);
            }
            check_block(&twin, n, i % 3 ? TS + (uint64_t)i * 1000 : test_random(&state) >> (i % 64),
                        seq);
            seq += n;
        }
    }
}

/* The price of one frame whose rest is "<text>" and "<tail>", by the vector code. */
static void check_vector_prices(const uint64_t *micros, uint32_t n)
{
    static const fws_line line = {.text = "\x81 text>xxxxxxxxxxxxxxxxxx",
                                  .kept = 0x7f | 0x7ULL << FWS_LINE_TAIL};
    fws_line lines[1] = {line};
    memcpy(lines[0].text + FWS_LINE_TAIL, "end", 3);
    uint8_t symbol[FWS_TICK_BLOCK] = {0}, out[FWS_TICK_BLOCK * FWS_LINE_BYTES],
            price[FWS_PRICE_MAX];
    uint32_t end[FWS_TICK_BLOCK], at = 0;
    size_t written = fws_tick_vector_write(lines, symbol, micros, n, out, end, 0);
    for (uint32_t i = 0; i < n; i++) {
        size_t size = fws_price_text(price, (double)micros[i] / 1e6);
        CHECK_EQ(out[at], 0x81);
        CHECK_EQ(out[at + 1], 5 + size + 3);
        CHECK(memcmp(out + at + 2, "text>", 5) == 0);
        CHECK(memcmp(out + at + 7, price, size) == 0);
        CHECK(memcmp(out + at + 7 + size, "end", 3) == 0);
        at += (uint32_t)(7 + size + 3);
        CHECK_EQ(end[i], at);
    }
    CHECK_EQ(written, at);
}

static void test_vector_prices_equal_the_scalar_ones(void)
{
    uint64_t state = 13, micros[FWS_TICK_BLOCK];
    if (!fws_tick_vector_available())
        return;
    for (uint64_t i = 0; i < 60000; i++) {
        uint32_t n = 1 + (uint32_t)(i % FWS_TICK_BLOCK);
        for (uint32_t k = 0; k < n; k++) {
            static const uint64_t tens[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000};
            uint64_t unit = tens[test_random(&state) % 8]; /* so that zeros end it, too */
            uint64_t digits = 1000000000000 / (tens[test_random(&state) % 6] * unit);
            micros[k] = test_random(&state) % digits * unit;
            if (test_random(&state) % 8 == 0) /* around a whole number */
                micros[k] = (test_random(&state) % 1000000 * 1000000 + 1000000000000 - i % 2)
                            % 1000000000000;
        }
        check_vector_prices(micros, n);
    }
    for (uint64_t first = 0; first < 2100000; first += FWS_TICK_BLOCK) {
        for (uint32_t k = 0; k < FWS_TICK_BLOCK; k++)
            micros[k] = first + k;
        check_vector_prices(micros, FWS_TICK_BLOCK);
    }
}

int main(void)
{
    RUN(test_blocks_are_the_ticks_one_by_one);
    RUN(test_vector_prices_equal_the_scalar_ones);
    return 0;
}
