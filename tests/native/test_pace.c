#include "check.h"
#include "feed/pace.h"

#define MS 1000000ULL
#define SECOND 1000000000ULL
#define START (977 * SECOND + 123456789)

static fws_pace pace;

static void start(enum fws_late late, uint64_t rate)
{
    fws_pace_init(&pace, late);
    fws_pace_set_rate(&pace, START, rate);
}

static uint64_t exact(uint64_t elapsed, uint64_t rate)
{
    return (uint64_t)((unsigned __int128)elapsed * rate / SECOND);
}

/* One pass: sends what is due, and checks that not one of it is early. */
static uint64_t pass(uint64_t now)
{
    uint64_t n = fws_pace_due(&pace, now);
    if (n > 0)
        CHECK(fws_pace_due_time(&pace, pace.done + n) <= now);
    fws_pace_sent(&pace, now, n);
    return n;
}

static uint64_t jitter(uint64_t *state)
{
    return 1000 + test_random(state) % (30 * MS);
}

static void test_counts_are_exact_at_every_pass_for_all_rates(void)
{
    static const uint64_t rates[] = {1, 3, 7, 600, 1500, 333333, 1000000, 3000000, 100000000};
    uint64_t state = 1;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        start(FWS_LATE_BURST, rates[i]);
        uint64_t now = START;
        for (int turn = 0; turn < 100000; turn++) {
            now += turn % 5000 == 4999 ? 3600 * SECOND + 1 : jitter(&state);
            pass(now);
            CHECK_EQ(pace.done, exact(now - START, rates[i]));
            CHECK(fws_pace_due_time(&pace, pace.done + 1) > now);
        }
        CHECK_EQ(pace.sent, exact(now - START, rates[i]));
        CHECK_EQ(pace.missed, 0);
        CHECK(fws_pace_slope_ppm(&pace) > -1 && fws_pace_slope_ppm(&pace) < 1);
    }
}

static void test_a_tick_is_due_at_its_due_time_and_not_a_nanosecond_before(void)
{
    static const uint64_t rates[] = {1, 3, 7, 600, 333333, 3000000, 99999999, 100000000};
    uint64_t state = 2;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        start(FWS_LATE_BURST, rates[i]);
        for (int turn = 0; turn < 2000; turn++) {
            uint64_t k = 1 + test_random(&state) % (turn < 1000 ? 20 : 1000000000);
            uint64_t due = fws_pace_due_time(&pace, k);
            CHECK(fws_pace_due(&pace, due) >= k);
            CHECK(fws_pace_due(&pace, due - 1) < k);
        }
    }
}

static void test_strides_equal_due_times(void)
{
    static const uint64_t rates[] = {1, 3, 7, 600, 333333, 999999, 3000000, 99999999, 100000000};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        start(FWS_LATE_BURST, rates[i]);
        pass(START + 12345678901);
        fws_stride stride = fws_pace_stride(&pace);
        for (uint64_t k = pace.done + 1; k < pace.done + 2000000; k++) {
            CHECK_EQ(stride.ns, fws_pace_due_time(&pace, k));
            fws_stride_next(&stride);
        }
    }
}

static void test_first_wake_is_one_interval_after_the_anchor(void)
{
    static const uint64_t rates[] = {1, 3, 600, 1000000, 100000000};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        start(FWS_LATE_BURST, rates[i]);
        CHECK_EQ(fws_pace_next(&pace), START + (SECOND + rates[i] - 1) / rates[i]);
        CHECK_EQ(fws_pace_due(&pace, fws_pace_next(&pace) - 1), 0);
        CHECK_EQ(fws_pace_due(&pace, fws_pace_next(&pace)), 1);
    }
}

static void test_at_low_rates_every_wake_is_a_due_time_and_brings_one_tick(void)
{
    start(FWS_LATE_BURST, 600);
    for (uint64_t k = 1; k < 6000; k++) {
        uint64_t now = fws_pace_next(&pace);
        CHECK_EQ(now, fws_pace_due_time(&pace, k));
        CHECK_EQ(pass(now), 1);
    }
    CHECK_EQ(pace.lag.max, 0);
}

static void test_at_high_rates_batches_are_a_quantum_apart(void)
{
    start(FWS_LATE_BURST, 1000000);
    uint64_t now = fws_pace_next(&pace);
    pass(now);
    for (int turn = 0; turn < 1000; turn++) {
        CHECK_EQ(fws_pace_next(&pace), now + FWS_PACE_QUANTUM_NS);
        now = fws_pace_next(&pace);
        CHECK_EQ(pass(now), 200);
    }
}

static void test_an_empty_pass_changes_nothing(void)
{
    start(FWS_LATE_BURST, 1);
    uint64_t wake = fws_pace_next(&pace);
    fws_pace_sent(&pace, START + 999 * MS, 0);
    CHECK_EQ(fws_pace_next(&pace), wake);
    CHECK_EQ(pace.lag.total + pace.burst.total + pace.last, 0);
}

static void test_rate_zero_is_never_due(void)
{
    start(FWS_LATE_BURST, 0);
    CHECK_EQ(fws_pace_due(&pace, START + 86400 * SECOND), 0);
    CHECK(fws_pace_next(&pace) == UINT64_MAX);
    CHECK(fws_pace_due_time(&pace, 1) == UINT64_MAX);
    CHECK(fws_pace_slope_ppm(&pace) == 0);
    fws_pace_set_rate(&pace, START + 5 * SECOND, 1000);
    CHECK_EQ(pace.missed, 0);
    CHECK_EQ(fws_pace_due(&pace, START + 6 * SECOND), 1000);
}

static void test_a_clock_before_the_anchor_gives_nothing(void)
{
    start(FWS_LATE_SKIP, 1000);
    CHECK_EQ(fws_pace_due(&pace, START - SECOND), 0);
    CHECK_EQ(fws_pace_due(&pace, 0), 0);
}

static void test_the_limit_rate_is_exact_after_a_year_and_not_exceeded(void)
{
    start(FWS_LATE_BURST, FWS_RATE_LIMIT);
    CHECK_EQ(pass(START + 365 * 86400 * SECOND + 10), 365 * 86400 * FWS_RATE_LIMIT + 1);
    start(FWS_LATE_BURST, UINT64_MAX);
    CHECK_EQ(pace.rate, FWS_RATE_LIMIT);
    CHECK(fws_pace_due_time(&pace, UINT64_MAX) == UINT64_MAX);
}

static void test_a_change_of_rate_anchors_anew_and_counts_missed(void)
{
    start(FWS_LATE_BURST, 1000);
    CHECK_EQ(pass(START + SECOND), 1000);
    uint64_t change = START + SECOND + 5500000; /* five more are due */
    fws_pace_set_rate(&pace, change, 3);
    CHECK_EQ(pace.missed, 5);
    CHECK_EQ(pace.sent, 1000);
    CHECK_EQ(fws_pace_due(&pace, change + SECOND / 3), 0);
    CHECK_EQ(pass(change + SECOND / 3 + 1), 1);
    CHECK_EQ(pace.sent, 1001);
    CHECK_EQ(pace.n_samples, 2); /* only those since the anchor */
    fws_pace_set_rate(&pace, change + SECOND, 0);
    CHECK_EQ(pace.missed, 5 + 2);
}

static void test_burst_asks_for_all_that_is_late(void)
{
    start(FWS_LATE_BURST, 1000000);
    CHECK_EQ(pass(START + 3 * SECOND), 3000000);
    CHECK_EQ(pace.missed, 0);
}

static void test_skip_counts_what_is_later_than_the_limit(void)
{
    start(FWS_LATE_SKIP, 1000);
    CHECK_EQ(pass(START + FWS_PACE_LATE_NS + MS), 11); /* the oldest is just not too late */
    CHECK_EQ(pace.missed, 0);
    CHECK_EQ(pass(START + SECOND), 11);
    CHECK_EQ(pace.missed, 1000 - 22);
    CHECK_EQ(pace.lag.max, FWS_PACE_LATE_NS);
    uint64_t state = 3, now = START + SECOND;
    for (int turn = 0; turn < 10000; turn++) {
        now += jitter(&state);
        CHECK(pass(now) <= 11);
        CHECK_EQ(pace.sent + pace.missed, exact(now - START, 1000));
    }
}

static void test_smooth_spreads_a_backlog_at_twice_the_rate(void)
{
    start(FWS_LATE_SMOOTH, 1000000);
    uint64_t stalled = START + SECOND, now = stalled;
    CHECK_EQ(pass(now), 1);
    while (pace.catching_up) {
        CHECK_EQ(pace.done, 1 + exact(now - stalled, 2000000));
        now = fws_pace_next(&pace);
        CHECK(pass(now) <= 401);
    }
    CHECK(now > stalled + 999 * MS && now < stalled + 1001 * MS);
    CHECK_EQ(pace.done, exact(now - START, 1000000));
    CHECK_EQ(pace.missed, 0);
    CHECK_EQ(pass(now + 5 * MS), 5000); /* not late enough to be smoothed */
}

static void test_smooth_wakes_when_the_next_late_tick_may_leave(void)
{
    start(FWS_LATE_SMOOTH, 1);
    uint64_t stalled = START + 5 * SECOND + 15 * MS;
    CHECK_EQ(pass(stalled), 1);
    for (uint64_t k = 1; k < 8; k++) {
        CHECK_EQ(fws_pace_next(&pace), stalled + k * SECOND / 2);
        CHECK_EQ(fws_pace_due(&pace, fws_pace_next(&pace) - 1), 0);
        CHECK_EQ(pass(fws_pace_next(&pace)), 1);
    }
    CHECK(!pace.catching_up);
    CHECK_EQ(fws_pace_next(&pace), START + 9 * SECOND);
}

static void test_smooth_catches_up_over_slow_and_uneven_passes(void)
{
    static const uint64_t rates[] = {3, 2506, 333333, 3000000};
    uint64_t state = 4;
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        start(FWS_LATE_SMOOTH, rates[i]);
        uint64_t now = START + 2 * SECOND;
        pass(now);
        for (int turn = 0; pace.catching_up; turn++) {
            CHECK(turn < 1000000);
            now += jitter(&state);
            pass(now);
        }
        CHECK(now < START + 5 * SECOND);
        CHECK_EQ(pace.done, exact(now - START, rates[i]));
    }
}

static void test_slope_shows_a_sender_that_loses_one_percent(void)
{
    start(FWS_LATE_BURST, 1000000);
    uint64_t state = 5, now = START;
    for (int turn = 0; turn < 10000; turn++) {
        now += jitter(&state);
        uint64_t due = fws_pace_due(&pace, now);
        uint64_t lost = (pace.done + due) / 100 - pace.done / 100;
        fws_pace_sent(&pace, now, due - lost);
        pace.done += lost; /* this sender does not know */
    }
    CHECK_EQ(pace.n_samples, FWS_PACE_SAMPLES);
    CHECK(fws_pace_slope_ppm(&pace) > -10010 && fws_pace_slope_ppm(&pace) < -9980);
}

static void test_slope_needs_two_samples(void)
{
    start(FWS_LATE_SKIP, 1000);
    CHECK(fws_pace_slope_ppm(&pace) == 0);
    pass(START + 50 * MS);
    CHECK(fws_pace_slope_ppm(&pace) == 0);
    pass(START + 500 * MS); /* what was skipped shows */
    CHECK(fws_pace_slope_ppm(&pace) < -900000);
}

static void test_lag_and_burst_are_recorded_per_batch(void)
{
    start(FWS_LATE_BURST, 1000);
    CHECK_EQ(pass(START + MS), 1);
    CHECK_EQ(pass(START + 2 * MS + 7), 1);
    CHECK_EQ(pass(START + 42 * MS), 40);
    CHECK_EQ(pace.lag.total, 3);
    CHECK_EQ(pace.lag.max, 39 * MS);
    CHECK_EQ(fws_hist_quantile(&pace.lag, 0.5), 7);
    CHECK_EQ(pace.burst.total, 3);
    CHECK_EQ(pace.burst.max, 40);
    CHECK_EQ(fws_hist_quantile(&pace.burst, 0.5), 1);
}

int main(void)
{
    RUN(test_counts_are_exact_at_every_pass_for_all_rates);
    RUN(test_a_tick_is_due_at_its_due_time_and_not_a_nanosecond_before);
    RUN(test_strides_equal_due_times);
    RUN(test_first_wake_is_one_interval_after_the_anchor);
    RUN(test_at_low_rates_every_wake_is_a_due_time_and_brings_one_tick);
    RUN(test_at_high_rates_batches_are_a_quantum_apart);
    RUN(test_an_empty_pass_changes_nothing);
    RUN(test_rate_zero_is_never_due);
    RUN(test_a_clock_before_the_anchor_gives_nothing);
    RUN(test_the_limit_rate_is_exact_after_a_year_and_not_exceeded);
    RUN(test_a_change_of_rate_anchors_anew_and_counts_missed);
    RUN(test_burst_asks_for_all_that_is_late);
    RUN(test_skip_counts_what_is_later_than_the_limit);
    RUN(test_smooth_spreads_a_backlog_at_twice_the_rate);
    RUN(test_smooth_wakes_when_the_next_late_tick_may_leave);
    RUN(test_smooth_catches_up_over_slow_and_uneven_passes);
    RUN(test_slope_shows_a_sender_that_loses_one_percent);
    RUN(test_slope_needs_two_samples);
    RUN(test_lag_and_burst_are_recorded_per_batch);
    return 0;
}
