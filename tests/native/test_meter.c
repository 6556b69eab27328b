#include "check.h"
#include "bench/meter.h"
#include "feed/tick.h"

#define TS 1769951234567890123ULL
#define NOW (TS + 5000000)

static fws_meter meter;
static fws_metered client;
static uint8_t buffer[1 << 20];

static void start(void)
{
    fws_meter_init(&meter);
    meter.recording = true;
    memset(&client, 0, sizeof client);
}

/* Ticks first..first+count-1 as frames at the buffer's front; returns their bytes. */
static size_t ticks_of(enum fws_tick_format format, enum fws_tick_fields fields, uint64_t first,
                       uint64_t count)
{
    static fws_ticks ticks;
    size_t n = 0;
    fws_ticks_init(&ticks, first, format, fields);
    for (uint64_t i = 0; i < count; i++)
        n += fws_tick_write(&ticks, buffer + n, TS, first + i);
    return n;
}

/* Of the frame at the buffer's `at`, whose header has two or four bytes. */
static size_t frame_size(size_t at)
{
    const uint8_t *frame = buffer + at;
    return frame[1] < 126 ? 2U + frame[1] : 4U + (size_t)(frame[2] << 8) + frame[3];
}

/* Frames before each cut are taken, the cut one is not, and nothing past it is read. */
static void check_all_cuts(size_t n)
{
    size_t whole = 0, frames = 0;
    for (size_t cut = 0; cut <= n; cut++) {
        if (cut == whole + frame_size(whole)) {
            whole = cut;
            frames++;
        }
        start();
        CHECK_EQ(fws_meter_scan(&meter, &client, guarded_copy(buffer, cut), cut, NOW), whole);
        CHECK_EQ(client.frames, frames);
        CHECK_EQ(meter.frames, frames);
        CHECK_EQ(client.bytes, whole);
        CHECK_EQ(meter.bytes, whole);
        CHECK_EQ(meter.bad, 0);
    }
    CHECK_EQ(whole, n);
}

static void test_scan_stops_at_every_cut_of_a_buffer_of_frames(void)
{
    check_all_cuts(ticks_of(FWS_TICK_JSON, FWS_TICK_BASE, 0, 80)); /* across FWS_METER_FEW */
    check_all_cuts(ticks_of(FWS_TICK_JSON, FWS_TICK_SEQ, 0, 8));
    check_all_cuts(ticks_of(FWS_TICK_BINARY, FWS_TICK_SEQ, 0, 8));
    check_all_cuts(ticks_of(FWS_TICK_BINARY, FWS_TICK_BASE, 0, 8));
    size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_QUOTE, 0, 30);
    CHECK(buffer[1] == 126); /* a longer header */
    check_all_cuts(n);
    check_all_cuts(ticks_of(FWS_TICK_BINARY, FWS_TICK_QUOTE, 0, 8));
}

static void test_scan_takes_lengths_of_two_bytes_up_to_its_limit(void)
{
    static const struct {
        size_t length;
        bool taken;
    } cases[] = {{0, false},
                 {125, false}, /* RFC 6455 5.2: that is too long a spelling */
                 {126, true},
                 {FWS_METER_SHORT - 1, true},
                 {FWS_METER_SHORT, false},
                 {65535, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length = cases[i].length, n = 4 + length;
        memset(buffer, 'x', n);
        buffer[0] = 0x82, buffer[1] = 126;
        buffer[2] = (uint8_t)(length >> 8), buffer[3] = (uint8_t)length;
        start();
        meter.any = true;
        CHECK_EQ(fws_meter_scan(&meter, &client, guarded_copy(buffer, n), n, NOW),
                 cases[i].taken ? n : 0);
        CHECK_EQ(fws_meter_scan(&meter, &client, guarded_copy(buffer, 3), 3, NOW), 0);
        CHECK_EQ(fws_meter_scan(&meter, &client, guarded_copy(buffer, n - 1), n - 1, NOW), 0);
    }
}

static void test_scan_stops_in_front_of_all_that_is_not_a_short_data_frame(void)
{
    for (uint64_t before = 0; before < 200; before += 33) {
        size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_BASE, 0, before);
        for (unsigned first = 0; first < 256; first++) {
            for (unsigned second = 0; second < 256; second += first % 2 ? 1 : 125) {
                if ((first == 0x81 || first == 0x82) && second < 126)
                    continue;
                buffer[n] = (uint8_t)first;
                buffer[n + 1] = (uint8_t)second; /* a mask, or more length, or another kind */
                buffer[n + 2] = 0, buffer[n + 3] = 125; /* with 126: fewer than need it */
                start();
                CHECK_EQ(fws_meter_scan(&meter, &client, buffer, n + 500, NOW), n);
                CHECK_EQ(client.frames, before);
            }
        }
    }
}

static void test_an_empty_frame_is_a_frame_but_no_tick(void)
{
    static const uint8_t frames[] = {0x81, 0, 0x82, 0};
    start();
    CHECK_EQ(fws_meter_scan(&meter, &client, guarded_copy(frames, 4), 4, NOW), 4);
    CHECK_EQ(client.frames, 2);
    CHECK_EQ(meter.bad, 2);
}

static void test_small_scans_look_into_every_frame_and_large_ones_into_one_of_61(void)
{
    start();
    size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_BASE, 0, 60);
    CHECK(n < FWS_METER_FEW);
    fws_meter_scan(&meter, &client, buffer, n, NOW);
    CHECK_EQ(meter.sampled, 60);
    start();
    n = ticks_of(FWS_TICK_JSON, FWS_TICK_BASE, 0, 6100);
    fws_meter_scan(&meter, &client, buffer, n, NOW);
    CHECK_EQ(meter.sampled, 100);
    size_t first = n / 3; /* the count goes on from scan to scan */
    start();
    size_t taken = fws_meter_scan(&meter, &client, buffer, first, NOW);
    taken += fws_meter_scan(&meter, &client, buffer + taken, n - taken, NOW);
    CHECK_EQ(taken, n);
    CHECK_EQ(meter.sampled, 100);
    CHECK_EQ(client.frames, 6100);
}

static void test_the_first_bad_frame_is_described(void)
{
    static const uint8_t frames[] = "\x81\x02{}\x81\x03\x01\xFF?";
    start();
    size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_BASE, 0, 5);
    memcpy(buffer + n, frames, sizeof frames - 1);
    fws_meter_scan(&meter, &client, buffer, n + sizeof frames - 1, NOW);
    CHECK_EQ(meter.bad, 2);
    CHECK(strcmp(meter.first_error, "frame 6, 2 bytes: it does not start with a known symbol: {}")
          == 0);
    start();
    memset(buffer, 0xFF, 100000);
    fws_meter_message(&meter, &client, 1, buffer, 100000, 100010, NOW);
    CHECK_EQ(strlen(meter.first_error), sizeof meter.first_error - 1);
    CHECK_EQ(meter.first_error[158], '.');
}

static void test_latency_is_the_age_of_sampled_frames_while_recording(void)
{
    start();
    size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_SEQ, 0, 10);
    meter.recording = false;
    fws_meter_scan(&meter, &client, buffer, n, NOW);
    CHECK_EQ(meter.latency.total, 0);
    meter.recording = true;
    fws_meter_scan(&meter, &client, buffer, n, NOW);
    CHECK_EQ(meter.latency.total, 10);
    CHECK_EQ(meter.latency.max, 5000000);
    n = ticks_of(FWS_TICK_BINARY, FWS_TICK_BASE, 0, 1);
    fws_meter_scan(&meter, &client, buffer, n, NOW);
    CHECK_EQ(meter.latency.max, 5890123);          /* ts has whole milliseconds */
    fws_meter_scan(&meter, &client, buffer, n, 5); /* a clock that was set back */
    CHECK_EQ(meter.latency.max, 5890123);
    CHECK_EQ(meter.latency.total, 12);
}

static void scan_seqs(uint64_t first, uint64_t count)
{
    size_t n = ticks_of(FWS_TICK_BINARY, FWS_TICK_SEQ, first, count);
    CHECK_EQ(fws_meter_scan(&meter, &client, buffer, n, NOW), n);
}

static void test_gaps_and_steps_back_are_counted_by_seq(void)
{
    start();
    scan_seqs(1000, 5); /* the first one sets the expectation */
    scan_seqs(1005, 5);
    CHECK_EQ(meter.gaps + meter.reordered, 0);
    scan_seqs(1013, 2);
    CHECK(client.gaps == 1 && client.missed == 3);
    scan_seqs(1014, 3); /* one number twice */
    CHECK(meter.duplicates == 1 && meter.reordered == 0);
    CHECK_EQ(client.next_seq, 1017);
    scan_seqs(1011, 1); /* late: two are still missing */
    CHECK(meter.reordered == 1 && meter.missed == 2 && client.missed == 2);
    scan_seqs(1011, 1);
    CHECK_EQ(client.duplicates, 2);
    scan_seqs(1017, 1);
    CHECK_EQ(client.next_seq, 1018);
    scan_seqs(0, 3); /* a new start counts once */
    CHECK(client.reordered == 2 && meter.reordered == 2);
    CHECK(meter.gaps == 1 && meter.missed == 2 && client.duplicates == 2);
    CHECK_EQ(client.next_seq, 3);
}

static void test_a_number_that_was_sent_before_the_first_one_that_came_is_late(void)
{
    start();
    scan_seqs(10, 1);
    scan_seqs(9, 1);
    CHECK(client.reordered == 1 && client.missed == 0 && client.duplicates == 0);
    scan_seqs(11, 1);
    CHECK(client.gaps == 0 && client.next_seq == 12);
}

/* Some of the numbers, in any order and some twice, against a set of all that came. */
static void check_random_seqs(enum fws_tick_format format, enum fws_tick_fields fields)
{
    enum { NUMBERS = 20000, NEAR = 40 };
    static uint8_t came[NUMBERS + NEAR];
    uint64_t state = 17, duplicates = 0, late = 0, gaps = 0, missed = 0, next = 0;
    size_t n = 0;
    memset(came, 0, sizeof came);
    for (uint64_t i = 0; i < NUMBERS; i++) {
        uint64_t kind = test_random(&state) % 20, seq = next;
        if (kind == 0 && next > NEAR)
            seq = next - 1 - test_random(&state) % NEAR;
        else if (kind == 1)
            seq = next + 1 + test_random(&state) % 3;
        if (seq >= NUMBERS)
            break;
        gaps += seq > next;
        duplicates += came[seq];
        late += seq < next && !came[seq];
        came[seq] = 1;
        next = seq >= next ? seq + 1 : next;
        static fws_ticks ticks;
        if (i == 0)
            fws_ticks_init(&ticks, 5, format, fields);
        n += fws_tick_write(&ticks, buffer + n, TS, seq);
        if (n > sizeof buffer - 100000 || i == NUMBERS - 1) {
            CHECK_EQ(fws_meter_scan(&meter, &client, buffer, n, NOW), n);
            n = 0;
        }
    }
    CHECK_EQ(fws_meter_scan(&meter, &client, buffer, n, NOW), n);
    for (uint64_t seq = 0; seq < next; seq++)
        missed += !came[seq];
    CHECK(duplicates > 20 && late > 5 && gaps > 50);
    CHECK_EQ(client.duplicates, duplicates);
    CHECK_EQ(client.reordered, late);
    CHECK_EQ(client.gaps, gaps);
    CHECK_EQ(client.missed, missed);
    CHECK(meter.duplicates == duplicates && meter.reordered == late);
    CHECK(meter.gaps == gaps && meter.missed == missed && meter.bad == 0);
}

static void test_the_number_of_every_frame_counts_also_of_those_that_are_not_looked_into(void)
{
    for (int format = FWS_TICK_JSON; format <= FWS_TICK_BINARY; format++)
        for (int fields = FWS_TICK_SEQ; fields <= FWS_TICK_QUOTE; fields++) {
            start();
            check_random_seqs((enum fws_tick_format)format, (enum fws_tick_fields)fields);
            CHECK(meter.sampled < meter.frames / 50);
        }
}

static void test_a_frame_without_a_number_among_those_that_have_one_is_looked_into(void)
{
    start();
    size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_SEQ, 0, 1000);
    fws_meter_scan(&meter, &client, buffer, n, NOW);
    uint64_t sampled = meter.sampled;
    start();
    for (size_t at = 0, i = 0; at < n; at += frame_size(at), i++)
        if (i == 500)
            memcpy(strstr((char *)buffer + at, "seq"), "sec", 3);
    fws_meter_scan(&meter, &client, buffer, n, NOW);
    CHECK_EQ(client.frames, 1000);
    CHECK_EQ(meter.sampled, sampled + 1);
    CHECK_EQ(client.gaps + client.duplicates + client.reordered, 0);
}

static void test_unsampled_frames_move_the_expectation_on(void)
{
    start();
    scan_seqs(0, 10000);
    scan_seqs(10000, 10000);
    CHECK(meter.sampled < 400);
    CHECK_EQ(meter.gaps + meter.reordered, 0);
    CHECK_EQ(client.next_seq, 20000);
    scan_seqs(20007, 10000); /* a hole between frames that nobody looked into */
    CHECK(client.gaps == 1 && client.missed == 7);
    scan_seqs(30007, 3);
    CHECK_EQ(meter.missed, 7);
    CHECK_EQ(meter.reordered, 0);
}

static void test_gaps_are_kept_apart_by_connection(void)
{
    static fws_metered second;
    start();
    memset(&second, 0, sizeof second);
    scan_seqs(0, 3);
    size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_SEQ, 50, 3);
    fws_meter_scan(&meter, &second, buffer, n, NOW);
    scan_seqs(5, 3);
    CHECK_EQ(client.missed, 2);
    CHECK_EQ(second.missed, 0);
    CHECK_EQ(meter.missed, 2);
    CHECK_EQ(meter.frames, 9);
    CHECK_EQ(second.frames, 3);
}

static void test_messages_of_the_general_way_are_counted_with_their_headers(void)
{
    start();
    size_t n = ticks_of(FWS_TICK_JSON, FWS_TICK_SEQ, 7, 1);
    fws_meter_message(&meter, &client, 1, buffer + 2, n - 2, n + 10, NOW);
    CHECK_EQ(client.frames, 1);
    CHECK_EQ(client.bytes, n + 10);
    CHECK_EQ(meter.sampled, 1);
    CHECK_EQ(meter.bad, 0);
    CHECK_EQ(client.next_seq, 8);
}

/* A frame at the buffer's `at`; where the next one begins. */
static size_t frame_at(size_t at, uint8_t first, const char *payload, size_t n)
{
    buffer[at] = first;
    buffer[at + 1] = (uint8_t)n;
    memcpy(buffer + at + 2, payload, n);
    return at + 2 + n;
}

static void test_any_messages_are_counted_with_the_time_between_them(void)
{
    start();
    meter.any = true;
    size_t one = frame_at(0, 0x81, "gr\xC3\xBC\xC3\x9F", 6);
    size_t n = frame_at(frame_at(one, 0x82, "\xFF", 1), 0x81, "", 0);
    CHECK_EQ(fws_meter_scan(&meter, &client, buffer, n, NOW), n);
    CHECK_EQ(fws_meter_scan(&meter, &client, buffer, one, NOW + 20), one);
    fws_meter_message(&meter, &client, 2, buffer, 200, 204, NOW + 50);
    CHECK_EQ(meter.frames, 5);
    CHECK_EQ(client.bytes, n + one + 204);
    CHECK_EQ(meter.bad + meter.sampled, 0);
    CHECK_EQ(meter.latency.total, 4); /* two within a read, and between the three */
    CHECK_EQ(meter.latency.max, 30);
    CHECK_EQ(meter.latency.sum, 50);
    static fws_metered second;
    CHECK_EQ(fws_meter_scan(&meter, &second, buffer, one, NOW + 9000), one);
    CHECK_EQ(meter.latency.total, 4); /* its first */
    CHECK_EQ(fws_meter_scan(&meter, &second, buffer, one, NOW), one);
    CHECK_EQ(meter.latency.max, 30); /* the clock was set back */
}

static void test_any_stops_in_front_of_text_that_is_not_utf8(void)
{
    static const char *const bad[] = {"\xC3", "\xC0\x80", "\xED\xA0\x80", "ab\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        start();
        meter.any = true;
        size_t one = frame_at(0, 0x82, bad[i], strlen(bad[i]));
        size_t n = frame_at(one, 0x81, bad[i], strlen(bad[i]));
        CHECK_EQ(fws_meter_scan(&meter, &client, buffer, n, NOW), one);
        CHECK_EQ(meter.frames, 1);
    }
}

int main(void)
{
    RUN(test_scan_stops_at_every_cut_of_a_buffer_of_frames);
    RUN(test_scan_takes_lengths_of_two_bytes_up_to_its_limit);
    RUN(test_scan_stops_in_front_of_all_that_is_not_a_short_data_frame);
    RUN(test_an_empty_frame_is_a_frame_but_no_tick);
    RUN(test_small_scans_look_into_every_frame_and_large_ones_into_one_of_61);
    RUN(test_the_first_bad_frame_is_described);
    RUN(test_latency_is_the_age_of_sampled_frames_while_recording);
    RUN(test_gaps_and_steps_back_are_counted_by_seq);
    RUN(test_a_number_that_was_sent_before_the_first_one_that_came_is_late);
    RUN(test_the_number_of_every_frame_counts_also_of_those_that_are_not_looked_into);
    RUN(test_a_frame_without_a_number_among_those_that_have_one_is_looked_into);
    RUN(test_unsampled_frames_move_the_expectation_on);
    RUN(test_gaps_are_kept_apart_by_connection);
    RUN(test_messages_of_the_general_way_are_counted_with_their_headers);
    RUN(test_any_messages_are_counted_with_the_time_between_them);
    RUN(test_any_stops_in_front_of_text_that_is_not_utf8);
    return 0;
}
