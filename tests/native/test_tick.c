#include "check.h"
#include "feed/tick.h"

#include <math.h>

#define TS 1769951234567890123ULL
#define TICKS 50000000

static const char *const names[FWS_TICK_SYMBOLS] = {"BTC", "ETH", "SOL", "DOGE", "XRP"};
static const double starts[FWS_TICK_SYMBOLS] = {50000, 3000, 100, 0.1, 0.5};

static fws_ticks ticks;
static uint8_t room[FWS_TICK_MAX];

/* Slow and by other means than the code under test: printf's exact decimal expansion. */
static void slow_price(char *text, size_t n, double price)
{
    snprintf(text, n, "%.6f", price);
    size_t size = strlen(text);
    while (text[size - 1] == '0')
        size--;
    size -= text[size - 1] == '.';
    text[size] = '\0';
}

static void check_price(double price)
{
    char expected[64];
    uint8_t text[FWS_PRICE_MAX + 1];
    size_t size = fws_price_text(text, price);
    CHECK(size >= 1 && size <= 13);
    text[size] = '\0';
    slow_price(expected, sizeof expected, price);
    if (strcmp((char *)text, expected) == 0)
        return;
    /* Half a millionth, to the last bit of a double, may go up where printf goes down. */
    char *end;
    double value = strtod((char *)text, &end), tie = floor(price * 1e6) + 0.5;
    CHECK(*end == '\0');
    CHECK(fabs(price * 1e6 - tie) <= 3e-16 * tie + 1e-10);
    CHECK(fabs(value - price) <= 0.5e-6 + 3e-16 * price);
    slow_price(expected, sizeof expected, value);
    CHECK(strcmp((char *)text, expected) == 0);
}

static void check_text(double price, const char *expected)
{
    uint8_t *text = guarded(FWS_PRICE_MAX);
    size_t size = fws_price_text(text, price);
    CHECK_EQ(size, strlen(expected));
    CHECK(memcmp(text, expected, size) == 0);
}

static void test_prices_have_neither_trailing_zeros_nor_a_trailing_point(void)
{
    check_text(3000, "3000");
    check_text(50000, "50000");
    check_text(0.1, "0.1");
    check_text(0.0001, "0.0001");
    check_text(10, "10");
    check_text(1, "1");
    check_text(0, "0");
    check_text(0.000001, "0.000001");
    check_text(100.000100, "100.0001");
    check_text(50012.345678, "50012.345678");
    check_text(999999.999999, "999999.999999");
    check_text(100000, "100000");
}

static void test_prices_are_rounded_to_the_nearest_millionth(void)
{
    check_text(0.99999949, "0.999999");
    check_text(0.99999951, "1");
    check_text(9.99999951, "10");
    check_text(2999.99999949, "2999.999999");
    check_text(2999.99999951, "3000");
    check_text(99999.9999996, "100000");
    check_text(0.12345649, "0.123456");
    check_text(0.12345651, "0.123457");
    for (int whole = 0; whole < 100000; whole++) {
        check_price(whole + 0.9999995);
        check_price(whole + 0.9999994999);
        check_price(whole + 0.9999995001);
        check_price(whole + 0.0000005);
        check_price(whole + 0.0999995);
        check_price(nextafter(whole + 0.9999995, 0));
        check_price(nextafter(whole + 0.9999995, 1e6));
    }
}

static void test_prices_equal_a_slow_formatter(void)
{
    uint64_t state = 1;
    for (int i = 0; i < 500000; i++) {
        double unit = (double)(test_random(&state) >> 11) / 9007199254740992.0;
        check_price(0.0001 * pow(999999.999999 / 0.0001, unit));
        check_price((double)(test_random(&state) % 1000000000000) / 1e6);
        check_price((double)(1 + test_random(&state) % 1000000) / 1e3);
    }
    for (uint64_t micros = 100; micros < 1100000; micros++)
        check_price((double)micros / 1e6);
}

/* The price of the symbol that the last tick moved, and which symbol that was. */
static int moved(const double before[FWS_TICK_SYMBOLS])
{
    int symbol = 0;
    while (symbol < FWS_TICK_SYMBOLS - 1 && before[symbol] == ticks.price[symbol])
        symbol++;
    return symbol;
}

/* The header of a payload of n bytes (RFC 6455 5.2); where the payload begins. */
static const uint8_t *check_header(const uint8_t *frame, size_t size, size_t n)
{
    size_t header = n < 126 ? 2 : 4;
    CHECK_EQ(size, header + n);
    CHECK_EQ(frame[1], n < 126 ? n : 126);
    if (n >= 126)
        CHECK_EQ((frame[2] << 8) + frame[3], n);
    return frame + header;
}

/* A quote of the price as the text of the tick shows it; the volume may be any. */
static int print_quote(char *text, size_t n, const char *price, const char *tail)
{
    char bid[64], ask[64];
    double micros = round(strtod(price, NULL) * 1e6), half = floor(micros / 20000) + 1;
    slow_price(bid, sizeof bid, (micros - half) / 1e6);
    slow_price(ask, sizeof ask, fmin(micros + half, 999999999999) / 1e6);
    const char *found = strstr(tail, ",\"volume\":");
    CHECK(found != NULL);
    char *end, volume[64];
    double value = strtod(found + 10, &end);
    CHECK(value >= 0.001 && value <= 100 && strcmp(end, "}") == 0);
    slow_price(volume, sizeof volume, value);
    return snprintf(text, n, ",\"bid\":%s,\"ask\":%s,\"volume\":%s", bid, ask, volume);
}

/* One JSON tick against printf, with the price that the walk has come to. */
static void check_json_tick(uint64_t ts_ns, uint64_t seq)
{
    static char expected[256], price[64];
    double before[FWS_TICK_SYMBOLS];
    memcpy(before, ticks.price, sizeof before);
    size_t size = fws_tick_write(&ticks, room, ts_ns, seq);
    int symbol = moved(before);
    uint8_t text[FWS_PRICE_MAX]; /* its rounding has tests of its own */
    snprintf(price, sizeof price, "%.*s", (int)fws_price_text(text, ticks.price[symbol]), text);
    int n = snprintf(expected, sizeof expected, "{\"symbol\":\"%s\",\"price\":%s,\"ts\":%" PRIu64,
                     names[symbol], price, ts_ns / 1000000);
    if (ticks.fields != FWS_TICK_BASE)
        n += snprintf(expected + n, sizeof expected - (size_t)n,
                      ",\"seq\":%" PRIu64 ",\"tsNs\":%" PRIu64, seq, ts_ns);
    room[size] = '\0';
    if (ticks.fields == FWS_TICK_QUOTE)
        n += print_quote(expected + n, sizeof expected - (size_t)n, price, (char *)room + 4);
    expected[n++] = '}';
    CHECK_EQ(room[0], 0x81);
    CHECK(memcmp(check_header(room, size, (size_t)n), expected, (size_t)n) == 0);
}

static void test_json_ticks_equal_printf(void)
{
    uint64_t state = 2;
    for (int fields = FWS_TICK_BASE; fields <= FWS_TICK_QUOTE; fields++) {
        fws_ticks_init(&ticks, 7, FWS_TICK_JSON, (enum fws_tick_fields)fields);
        for (uint64_t i = 0; i < 100000; i++)
            check_json_tick(TS + i * 1000, i);
        for (uint64_t i = 0; i < 100000; i++) /* any time, also backwards; any number */
            check_json_tick(test_random(&state) >> (i % 64), test_random(&state) >> (i % 63));
    }
}

static void test_json_ticks_parse_and_their_sizes_keep_the_contract(void)
{
    fws_ticks_init(&ticks, 3, FWS_TICK_JSON, FWS_TICK_BASE);
    for (uint64_t i = 0; i < 300000; i++) {
        if (i % 1000 == 0) /* the extremes of the walk as well */
            for (int k = 0; k < FWS_TICK_SYMBOLS; k++)
                ticks.price[k] = i % 3000 == 0 ? 1e9 : i % 2000 == 0 ? 1e-9 : starts[k];
        size_t size = fws_tick_write(&ticks, room, TS + i, i);
        CHECK(size >= 2 + 45 && size <= 2 + 60);
        room[size] = '\0';
        char symbol[8];
        double price;
        uint64_t ts;
        int end = 0;
        CHECK_EQ(sscanf((char *)room + 2,
                        "{\"symbol\":\"%4[A-Z]\",\"price\":%lf,\"ts\":%13" SCNu64 "}%n", symbol,
                        &price, &ts, &end),
                 3);
        CHECK_EQ(end, size - 2);
        CHECK(price >= 0.0001 && price <= 999999.999999);
        CHECK_EQ(ts, (TS + i) / 1000000);
    }
}

static void test_binary_ticks_are_the_struct_to_the_byte(void)
{
    static fws_ticks twin;
    fws_ticks_init(&ticks, 5, FWS_TICK_BINARY, FWS_TICK_SEQ);
    fws_ticks_init(&twin, 5, FWS_TICK_BINARY, FWS_TICK_BASE);
    for (int i = 0; i < FWS_TICK_SYMBOLS; i++)
        ticks.price[i] = twin.price[i] = 1e9; /* the walk's ceiling: 999999.999999 */
    /* struct.pack('<IdqQq', 0, 999999.999999, 1769951234567, 0x0102030405060708, TS) */
    static const uint8_t golden[] = {0x82, 36,   0x00, 0x00, 0x00, 0x00, 0x72, 0xDE, 0xFF, 0xFF,
                                     0x7F, 0x84, 0x2E, 0x41, 0x07, 0x8A, 0x50, 0x19, 0x9C, 0x01,
                                     0x00, 0x00, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
                                     0xCB, 0xE4, 0x2E, 0x2E, 0x45, 0x21, 0x90, 0x18};
    uint8_t other[FWS_TICK_MAX];
    size_t size = fws_tick_write(&ticks, room, TS, 0x0102030405060708);
    CHECK_EQ(size, sizeof golden);
    CHECK(room[2] < FWS_TICK_SYMBOLS);
    CHECK_EQ(fws_tick_write(&twin, other, TS, 0), 22);
    CHECK(other[0] == 0x82 && other[1] == 20);
    CHECK(memcmp(other + 2, room + 2, 20) == 0);
    room[2] = 0; /* the symbol is drawn */
    CHECK(memcmp(room, golden, sizeof golden) == 0);
}

static void test_binary_quotes_are_the_struct_to_the_byte(void)
{
    fws_ticks_init(&ticks, 5, FWS_TICK_BINARY, FWS_TICK_QUOTE);
    for (int i = 0; i < FWS_TICK_SYMBOLS; i++)
        ticks.price[i] = 1e9; /* the walk's ceiling: 999999.999999, also that of an ask */
    /* struct.pack('<IdqQqddd', 0, 999999.999999, 1769951234567, 0x0102030405060708, TS,
     * 999949.999999, 999999.999999, 32.455) */
    static const uint8_t golden[] = {
        0x82, 0x3C, 0x00, 0x00, 0x00, 0x00, 0x72, 0xDE, 0xFF, 0xFF, 0x7F, 0x84, 0x2E,
        0x41, 0x07, 0x8A, 0x50, 0x19, 0x9C, 0x01, 0x00, 0x00, 0x08, 0x07, 0x06, 0x05,
        0x04, 0x03, 0x02, 0x01, 0xCB, 0xE4, 0x2E, 0x2E, 0x45, 0x21, 0x90, 0x18, 0x72,
        0xDE, 0xFF, 0xFF, 0x1B, 0x84, 0x2E, 0x41, 0x72, 0xDE, 0xFF, 0xFF, 0x7F, 0x84,
        0x2E, 0x41, 0x0A, 0xD7, 0xA3, 0x70, 0x3D, 0x3A, 0x40, 0x40,
    };
    CHECK_EQ(fws_tick_write(&ticks, room, TS, 0x0102030405060708), sizeof golden);
    room[2] = 0; /* the symbol is drawn */
    CHECK(memcmp(room, golden, sizeof golden) == 0);
}

/* The same seed walks alike with all fields, and both formats show the same quotes. */
static void test_quotes_stand_around_the_price_of_the_same_walk(void)
{
    static fws_ticks twin, plain;
    uint8_t binary[FWS_TICK_MAX], base[FWS_TICK_MAX];
    double sum = 0;
    fws_ticks_init(&ticks, 9, FWS_TICK_JSON, FWS_TICK_QUOTE);
    fws_ticks_init(&twin, 9, FWS_TICK_BINARY, FWS_TICK_QUOTE);
    fws_ticks_init(&plain, 9, FWS_TICK_BINARY, FWS_TICK_BASE);
    for (uint64_t i = 0; i < 200000; i++) {
        size_t size = fws_tick_write(&ticks, room, TS + i, i);
        room[size] = '\0';
        CHECK_EQ(fws_tick_write(&twin, binary, TS + i, i), 62);
        CHECK_EQ(fws_tick_write(&plain, base, TS + i, i), 22);
        CHECK(memcmp(binary + 2, base + 2, 20) == 0);
        double price, quote[3], text[3];
        memcpy(&price, binary + 6, sizeof price);
        memcpy(quote, binary + 38, sizeof quote);
        CHECK(quote[0] > 0 && quote[0] < price && price < quote[1]);
        CHECK(quote[1] - quote[0] <= price * 1.001e-4 + 3e-6);
        const char *tail = strstr((char *)room + 4, ",\"bid\":");
        CHECK_EQ(sscanf(tail, ",\"bid\":%lf,\"ask\":%lf,\"volume\":%lf}", text, text + 1, text + 2),
                 3);
        CHECK(memcmp(text, quote, sizeof quote) == 0);
        CHECK(quote[2] >= 0.001 && quote[2] <= 100);
        sum += quote[2];
    }
    CHECK(fabs(sum / 200000 - 50) < 0.5);
}

static void test_both_formats_show_the_same_ticks(void)
{
    static fws_ticks twin;
    uint8_t binary[FWS_TICK_MAX];
    fws_ticks_init(&ticks, 9, FWS_TICK_JSON, FWS_TICK_BASE);
    fws_ticks_init(&twin, 9, FWS_TICK_BINARY, FWS_TICK_BASE);
    for (uint64_t i = 0; i < 200000; i++) {
        fws_tick_write(&ticks, room, TS + i, i);
        fws_tick_write(&twin, binary, TS + i, i);
        double price;
        memcpy(&price, binary + 6, sizeof price);
        const char *name = names[binary[2]];
        CHECK(memcmp(room + 13, name, strlen(name)) == 0);
        CHECK(strtod((char *)room + 13 + strlen(name) + 10, NULL) == price);
    }
    fws_ticks_set_format(&ticks, FWS_TICK_BINARY);
    CHECK_EQ(fws_tick_write(&ticks, room, TS, 0), 22);
    CHECK_EQ(fws_tick_write(&twin, binary, TS, 0), 22);
    CHECK(memcmp(room, binary, 22) == 0); /* the walk went on */
}

static void test_a_seed_decides_all_ticks(void)
{
    static fws_ticks twin, stranger;
    uint8_t other[FWS_TICK_MAX];
    fws_ticks_init(&ticks, 0, FWS_TICK_JSON, FWS_TICK_BASE);
    fws_ticks_init(&twin, 0, FWS_TICK_JSON, FWS_TICK_BASE);
    fws_ticks_init(&stranger, 1, FWS_TICK_JSON, FWS_TICK_BASE);
    int same = 0;
    for (int i = 0; i < 1000; i++) {
        size_t size = fws_tick_write(&ticks, room, TS, 0);
        CHECK_EQ(fws_tick_write(&twin, other, TS, 0), size);
        CHECK(memcmp(room, other, size) == 0);
        same += fws_tick_write(&stranger, other, TS, 0) == size && memcmp(room, other, size) == 0;
    }
    CHECK(same < 10);
}

static void test_ts_changes_exactly_at_the_millisecond(void)
{
    static const int64_t steps[] = {0, 1, 999999, 1000000, 999999, 0, -1, 0, -1000001, 5000000};
    for (int format = FWS_TICK_JSON; format <= FWS_TICK_BINARY; format++) {
        fws_ticks_init(&ticks, 4, (enum fws_tick_format)format, FWS_TICK_BASE);
        for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
            uint64_t ts_ns = TS / 1000000 * 1000000 + (uint64_t)steps[i], ts = 0;
            size_t size = fws_tick_write(&ticks, room, ts_ns, 0);
            room[size] = '\0';
            if (format == FWS_TICK_BINARY)
                memcpy(&ts, room + 14, sizeof ts);
            else
                ts = strtoull((char *)room + size - 14, NULL, 10);
            CHECK_EQ(ts, ts_ns / 1000000);
        }
    }
}

static void test_nothing_past_the_room_is_touched(void)
{
    uint8_t *out = guarded(FWS_TICK_MAX);
    for (int format = FWS_TICK_JSON; format <= FWS_TICK_BINARY; format++) {
        for (int fields = FWS_TICK_BASE; fields <= FWS_TICK_QUOTE; fields++) {
            fws_ticks_init(&ticks, 6, (enum fws_tick_format)format, (enum fws_tick_fields)fields);
            for (int i = 0; i < 1000; i++) {
                for (int k = 0; k < FWS_TICK_SYMBOLS; k++)
                    ticks.price[k] = i % 2 ? 1e9 : starts[k];
                out[-1] = 0xA5;
                uint64_t seq = i % 3 ? UINT64_MAX : UINT64_C(1) << 63;
                size_t size = fws_tick_write(&ticks, out, i % 5 ? TS : UINT64_MAX, seq);
                size_t header = size > 2 + 125 ? 4 : 2;
                CHECK(header == 2 || fields == FWS_TICK_QUOTE);
                check_header(out, size, size - header);
                CHECK_EQ(out[-1], 0xA5);
            }
        }
    }
}

static void test_50_million_ticks_stay_near_the_start(void)
{
    uint64_t count[FWS_TICK_SYMBOLS] = {0};
    double sum[FWS_TICK_SYMBOLS] = {0};
    fws_ticks_init(&ticks, 8, FWS_TICK_BINARY, FWS_TICK_BASE);
    for (uint64_t i = 0; i < TICKS; i++) {
        fws_tick_write(&ticks, room, TS + i, i);
        double price;
        memcpy(&price, room + 6, sizeof price);
        CHECK(price > starts[room[2]] / 3 && price < starts[room[2]] * 3);
        sum[room[2]] += price / starts[room[2]];
        count[room[2]]++;
    }
    for (int i = 0; i < FWS_TICK_SYMBOLS; i++) {
        CHECK(fabs((double)count[i] / (TICKS / 5.0) - 1) < 0.005);
        CHECK(fabs(sum[i] / (double)count[i] - 1) < 0.1);
    }
}

static void test_the_floor_holds(void)
{
    fws_ticks_init(&ticks, 8, FWS_TICK_JSON, FWS_TICK_BASE);
    for (int i = 0; i < 1000; i++) {
        memset(ticks.price, 0, sizeof ticks.price);
        fws_tick_write(&ticks, room, TS, 0);
        for (int k = 0; k < FWS_TICK_SYMBOLS; k++)
            CHECK(ticks.price[k] == 0 || ticks.price[k] >= 0.0001);
    }
}

static void test_the_symbol_of_a_tick_is_told(void)
{
    fws_ticks_init(&ticks, 8, FWS_TICK_JSON, FWS_TICK_BASE);
    for (int i = 0; i < 1000; i++) {
        char expected[64];
        size_t n;
        fws_tick_write(&ticks, room, TS, 0);
        const char *name = (const char *)fws_tick_symbol(ticks.symbol[0], &n);
        int head = snprintf(expected, sizeof expected, "{\"symbol\":\"%.*s\",", (int)n, name);
        CHECK(memcmp(room + 2, expected, (size_t)head) == 0);
    }
}

int main(void)
{
    RUN(test_prices_have_neither_trailing_zeros_nor_a_trailing_point);
    RUN(test_prices_are_rounded_to_the_nearest_millionth);
    RUN(test_prices_equal_a_slow_formatter);
    RUN(test_json_ticks_equal_printf);
    RUN(test_json_ticks_parse_and_their_sizes_keep_the_contract);
    RUN(test_binary_ticks_are_the_struct_to_the_byte);
    RUN(test_binary_quotes_are_the_struct_to_the_byte);
    RUN(test_quotes_stand_around_the_price_of_the_same_walk);
    RUN(test_both_formats_show_the_same_ticks);
    RUN(test_a_seed_decides_all_ticks);
    RUN(test_ts_changes_exactly_at_the_millisecond);
    RUN(test_nothing_past_the_room_is_touched);
    RUN(test_50_million_ticks_stay_near_the_start);
    RUN(test_the_floor_holds);
    RUN(test_the_symbol_of_a_tick_is_told);
    return 0;
}
