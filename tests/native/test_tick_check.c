#include "check.h"
#include "bench/tick_check.h"
#include "feed/tick.h"

#define TS 1769951234567890123ULL
#define BTC "{\"symbol\":\"BTC\",\"price\":"
#define SEQ BTC "1,\"ts\":1769951234567,\"seq\":1,\"tsNs\":1769951234567000000"

static uint8_t buffer[FWS_TICK_MAX];

/* One tick as a frame at the buffer's front; returns its bytes. */
static size_t tick_of(enum fws_tick_format format, enum fws_tick_fields fields, uint64_t seq)
{
    static fws_ticks ticks;
    fws_ticks_init(&ticks, seq, format, fields);
    return fws_tick_write(&ticks, buffer, TS, seq);
}

static const char *check_text(const char *text)
{
    uint64_t ts_ns, seq;
    bool has_seq;
    size_t n = strlen(text);
    return fws_tick_check(1, guarded_copy(text, n), n, &ts_ns, &seq, &has_seq);
}

static void test_good_ticks_pass_with_their_fields(void)
{
    uint64_t ts_ns = 0, seq = 0;
    bool has_seq = true;
    const char *text = BTC "50012.345678,\"ts\":1769951234567}";
    CHECK(fws_tick_check(1, (const uint8_t *)text, strlen(text), &ts_ns, &seq, &has_seq) == NULL);
    CHECK_EQ(ts_ns, 1769951234567000000);
    CHECK(!has_seq);
    text = BTC "3000,\"ts\":1769951234567,\"seq\":18446744073709551615,"
               "\"tsNs\":1769951234567890123}";
    CHECK(fws_tick_check(1, (const uint8_t *)text, strlen(text), &ts_ns, &seq, &has_seq) == NULL);
    CHECK_EQ(ts_ns, TS);
    CHECK(has_seq && seq == UINT64_MAX);
    CHECK(check_text("{\"symbol\":\"DOGE\",\"price\":0.1,\"ts\":1769951234567}") == NULL);
    CHECK(check_text("{\"symbol\":\"XRP\",\"price\":0.0001,\"ts\":1769951234567}") == NULL);
    CHECK(check_text(BTC "1,\"ts\":1769951234567,\"seq\":0,\"tsNs\":1769951234567000000}") == NULL);
}

static void test_keys_and_bytes_behind_those_that_are_known_are_ignored(void)
{
    CHECK(check_text(BTC "1,\"ts\":1769951234567,\"x\":1}") == NULL);
    CHECK(check_text(BTC "1,\"ts\":1769951234567,\"venue\":{\"id\":[1]}}") == NULL);
    CHECK(check_text(SEQ ",\"x\":\"a long text, so that it has far more than sixty bytes\"}")
          == NULL);
    CHECK(check_text(SEQ ",\"bid\":0.5,\"ask\":2,\"volume\":0.001}") == NULL);
    CHECK(check_text(SEQ ",\"bid\":0.5,\"ask\":2,\"volume\":0.001,\"x\":1}") == NULL);
}

static void test_bad_quotes_are_refused(void)
{
    static const char *const bad[] = {
        SEQ ",\"bid\":1}",
        SEQ ",\"bid\":1,\"ask\":2}",
        SEQ ",\"bid\":2,\"ask\":1,\"volume\":3}",
        SEQ ",\"bid\":1.5,\"ask\":1.5,\"volume\":3}",
        SEQ ",\"bid\":0,\"ask\":1,\"volume\":3}",
        SEQ ",\"bid\":1,\"ask\":2,\"volume\":0}",
        SEQ ",\"bid\":1.50,\"ask\":2,\"volume\":3}",
        SEQ ",\"bid\":1,\"ask\":2,\"volume\":3",
        SEQ ",\"bid\":1,\"ask\":2,\"volume\":3,}",
        SEQ ",\"x\":1",
        SEQ ",}",
        SEQ ",",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK(check_text(bad[i]) != NULL);
}

static void test_bad_json_is_refused(void)
{
    static const char *const bad[] = {
        "",
        "{",
        "{}",
        "[]",
        BTC,
        BTC "1,\"ts\":1769951234567",
        BTC "1,\"ts\":1769951234567}\n",
        BTC "1,\"ts\":1769951234567}}",
        " " BTC "1,\"ts\":1769951234567}",
        "{\"symbol\": \"BTC\",\"price\":1,\"ts\":1769951234567}",
        "{\"symbol\":\"btc\",\"price\":1,\"ts\":1769951234567}",
        "{\"symbol\":\"BTCX\",\"price\":1,\"ts\":1769951234567}",
        "{\"symbol\":\"ADA\",\"price\":1,\"ts\":1769951234567}",
        "{\"symbol\":\"\",\"price\":1.234567,\"ts\":1769951234567}",
        "{\"price\":1,\"symbol\":\"BTC\",\"ts\":1769951234567}",
        "{\"symbol\":\"BTC\",\"ts\":1769951234567,\"price\":1}",
        BTC "\"1.0\",\"ts\":1769951234567}",
        BTC ",\"ts\":1769951234567,\"extra\":123}",
        BTC "1,\"ts\":1769951234567,\"x\":1",
        BTC "1,\"ts\":1769951234567,x}",
        BTC "-1,\"ts\":1769951234567}",
        BTC "+1,\"ts\":1769951234567}",
        BTC "0,\"ts\":1769951234567}",
        BTC "0.000000,\"ts\":1769951234567}",
        BTC "01,\"ts\":1769951234567}",
        BTC ".5,\"ts\":1769951234567}",
        BTC "5.,\"ts\":1769951234567}",
        BTC "5.0,\"ts\":1769951234567}",
        BTC "5.10,\"ts\":1769951234567}",
        BTC "5.1234567,\"ts\":1769951234567}",
        BTC "5.123456789012345678901,\"ts\":1769951234567}",
        BTC "1e5,\"ts\":1769951234567}",
        BTC "1.5E-4,\"ts\":1769951234567}",
        BTC "NaN,\"ts\":1769951234567}",
        BTC "Infinity,\"ts\":1769951234567}",
        BTC "null,\"ts\":1769951234567}",
        BTC "1 ,\"ts\":1769951234567}",
        BTC "123456789012345.67,\"ts\":1769951234567}",
        BTC "1234567890123456,\"ts\":1769951234567}",
        BTC "1,\"ts\":176995123456}",
        BTC "1,\"ts\":17699512345678}",
        BTC "1,\"ts\":0769951234567}",
        BTC "1,\"ts\":\"1769951234567\"}",
        BTC "1,\"ts\":1769951234.56}",
        BTC "1,\"ts\":-769951234567}",
        BTC "1,\"ts\":1769951234567,\"seq\":1}",
        BTC "1,\"ts\":1769951234567,\"seq\":1,\"x\":1}",
        BTC "1,\"ts\":1769951234567,\"seq\":,\"tsNs\":1769951234567000000}",
        BTC "1,\"ts\":1769951234567,\"seq\":01,\"tsNs\":1769951234567000000}",
        BTC "1,\"ts\":1769951234567,\"seq\":-1,\"tsNs\":1769951234567000000}",
        BTC "1,\"ts\":1769951234567,\"seq\":18446744073709551616,\"tsNs\":1769951234567000000}",
        BTC "1,\"ts\":1769951234567,\"seq\":99999999999999999999,\"tsNs\":1769951234567000000}",
        BTC "1,\"ts\":1769951234567,\"seq\":1,\"tsNs\":176995123456700000}",
        BTC "1,\"ts\":1769951234567,\"seq\":1,\"tsNs\":1769951234568000000}",
        BTC "1,\"ts\":1769951234567,\"seq\":1,\"tsNs\":1769951234566999999}",
        "Not a tick, but a text that is as long as one is",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (check_text(bad[i]) == NULL) {
            fprintf(stderr, "accepted: %s\n", bad[i]);
            exit(1);
        }
}

static void test_any_changed_or_cut_byte_of_the_frame_of_a_tick_is_noticed(void)
{
    static const char good[] = BTC "5.25,\"ts\":1769951234567}";
    for (size_t i = 0; i < sizeof good - 1; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        text[i] = '#';
        CHECK(check_text(text) != NULL);
        text[i] = '\0'; /* the text ends here */
        CHECK(check_text(text) != NULL);
    }
}

static const char *check_binary(const void *data, size_t n)
{
    uint64_t ts_ns, seq;
    bool has_seq;
    return fws_tick_check(2, guarded_copy(data, n), n, &ts_ns, &seq, &has_seq);
}

static void test_bad_binary_is_refused(void)
{
    uint8_t tick[70] = {0};
    tick_of(FWS_TICK_BINARY, FWS_TICK_SEQ, 41);
    memcpy(tick, buffer + 2, 36);
    uint64_t ts_ns, seq;
    bool has_seq;
    CHECK(fws_tick_check(2, tick, 36, &ts_ns, &seq, &has_seq) == NULL);
    CHECK(ts_ns == TS && has_seq && seq == 41);
    CHECK(check_binary(tick, 20) == NULL);
    for (size_t n = 0; n <= sizeof tick; n++) /* from 60 bytes on it is a quote: zeros */
        CHECK((check_binary(tick, n) == NULL) == (n >= 20 && n < 60));
    static const double bad[] = {0, -0.0, -1, __builtin_inf(), -__builtin_inf(), __builtin_nan("")};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(tick + 4, &bad[i], 8);
        CHECK(check_binary(tick, 20) != NULL);
    }
    memcpy(tick, buffer + 2, 36);
    static const int64_t bad_ts[] = {0, -1, 999999999999, 10000000000000, INT64_MIN};
    for (size_t i = 0; i < sizeof bad_ts / sizeof *bad_ts; i++) {
        memcpy(tick + 12, &bad_ts[i], 8);
        CHECK(check_binary(tick, 20) != NULL);
    }
    memcpy(tick, buffer + 2, 36);
    tick[0] = 5;
    CHECK(check_binary(tick, 20) != NULL);
    tick[0] = 4, tick[3] = 1;
    CHECK(check_binary(tick, 20) != NULL);
    tick[3] = 0, tick[34] ^= 1; /* tsNs of another millisecond */
    CHECK(check_binary(tick, 36) != NULL);
}

static void test_bad_binary_quotes_are_refused(void)
{
    uint8_t tick[70] = {0};
    tick_of(FWS_TICK_BINARY, FWS_TICK_QUOTE, 41);
    memcpy(tick, buffer + 2, 60);
    CHECK(check_binary(tick, 60) == NULL);
    CHECK(check_binary(tick, 70) == NULL);
    static const double bad[] = {0, -1, __builtin_inf(), __builtin_nan("")};
    for (size_t at = 36; at < 60; at += 8)
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            memcpy(tick, buffer + 2, 60);
            memcpy(tick + at, &bad[i], 8);
            CHECK(check_binary(tick, 60) != NULL);
        }
    memcpy(tick, buffer + 2, 60);
    memcpy(tick + 36, tick + 44, 8); /* the bid is the ask */
    CHECK(check_binary(tick, 60) != NULL);
}

static void test_a_tick_under_the_wrong_opcode_is_refused(void)
{
    uint64_t ts_ns, seq;
    bool has_seq;
    size_t n = tick_of(FWS_TICK_JSON, FWS_TICK_BASE, 0);
    for (unsigned opcode = 0; opcode < 16; opcode++)
        CHECK((fws_tick_check(opcode, buffer + 2, n - 2, &ts_ns, &seq, &has_seq) == NULL)
              == (opcode == 1));
    n = tick_of(FWS_TICK_BINARY, FWS_TICK_BASE, 0);
    CHECK(fws_tick_check(1, buffer + 2, n - 2, &ts_ns, &seq, &has_seq) != NULL);
}

int main(void)
{
    RUN(test_good_ticks_pass_with_their_fields);
    RUN(test_keys_and_bytes_behind_those_that_are_known_are_ignored);
    RUN(test_bad_quotes_are_refused);
    RUN(test_bad_json_is_refused);
    RUN(test_any_changed_or_cut_byte_of_the_frame_of_a_tick_is_noticed);
    RUN(test_bad_binary_is_refused);
    RUN(test_bad_binary_quotes_are_refused);
    RUN(test_a_tick_under_the_wrong_opcode_is_refused);
    return 0;
}
