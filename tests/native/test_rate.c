/* The bucket of a rate against exact arithmetic, whatever the clock does. */
#include <stdbool.h>

#include "check.h"
#include "core/rate.h"

#define SECOND 1000000000ULL
#define UNIT ((unsigned __int128)256 * SECOND) /* of a token, in the model */

/* What is missing in the bucket, exactly, in UNITs of a token; it grows by takes only. */
typedef struct exact {
    unsigned __int128 missing;
    uint64_t at;
    uint64_t takes; /* since it was full */
} exact;

static void let_pass(exact *model, uint64_t rate, uint64_t now)
{
    unsigned __int128 come = (unsigned __int128)(now - model->at) * 256 * rate;
    model->missing = come < model->missing ? model->missing - come : 0;
    model->at = now;
}

/* It holds no less than the model, and at most 1/256 ns for each take more. */
static void check_room(fws_rate state, uint64_t rate, exact *model)
{
    unsigned __int128 full = (unsigned __int128)rate * UNIT;
    unsigned __int128 rounding = (unsigned __int128)(model->takes + 1) * rate;
    uint64_t room = fws_rate_room(state, rate, model->at);
    CHECK(room <= rate);
    CHECK((unsigned __int128)room * UNIT + model->missing <= full + rounding);
    CHECK((unsigned __int128)(room + 1) * UNIT + model->missing > full);
    CHECK((fws_rate_wait(state, rate, model->at) == 0) == (room > 0));
    if (room == rate)
        model->missing = model->takes = 0;
}

static void run_model(uint64_t seed, uint64_t rate, uint64_t start)
{
    fws_rate state = fws_rate_full(start);
    exact model = {.at = start};
    for (int step = 0; step < 20000; step++) {
        uint64_t draw = test_random(&seed);
        let_pass(&model, rate, model.at + (draw % 50 == 0 ? draw % (3 * SECOND) : draw % 100000));
        check_room(state, rate, &model);
        uint64_t room = fws_rate_room(state, rate, model.at);
        uint64_t n = (draw >> 32) % 4 == 0 ? room : (draw >> 34) % 20;
        n = n < room ? n : room;
        if (n == 0)
            continue;
        state = fws_rate_take(state, rate, n, model.at);
        model.missing += n * UNIT;
        model.takes++;
        check_room(state, rate, &model);
    }
}

static void test_it_holds_what_exact_arithmetic_says(void)
{
    const uint64_t rates[] = {1, 2, 3, 7, 1000, 999983, 65536, 1000000007, FWS_RATE_MOST};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        run_model(i + 1, rates[i], 12345 * SECOND);
}

static void test_it_goes_on_where_its_time_wraps(void)
{
    run_model(3, 7, (1ULL << 56) - SECOND); /* 2^64 units come a second later */
    run_model(4, 1000000, (1ULL << 56) - 1);
}

static void test_a_new_one_holds_one_second_and_no_more_comes_by_waiting(void)
{
    for (uint64_t now = 0; now < UINT64_MAX / 4; now = now * 3 + 1)
        CHECK_EQ(fws_rate_room(fws_rate_full(now), 100, now), 100);
    fws_rate state = fws_rate_take(fws_rate_full(SECOND), 100, 100, 50 * SECOND);
    CHECK_EQ(fws_rate_room(state, 100, 50 * SECOND), 0);
    CHECK_EQ(fws_rate_room(state, 100, 51 * SECOND), 100);
    CHECK_EQ(fws_rate_room(state, 100, 5000 * SECOND), 100);
}

static void test_the_wait_is_as_long_as_it_has_to_be(void)
{
    const uint64_t rates[] = {1, 3, 1000, 999983, 100000000};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        const uint64_t rate = rates[i], now = 77 * SECOND;
        fws_rate state = fws_rate_take(fws_rate_full(now), rate, rate, now);
        uint64_t wait = fws_rate_wait(state, rate, now);
        CHECK(wait >= SECOND / rate && wait <= SECOND / rate + 1);
        CHECK_EQ(fws_rate_room(state, rate, now + wait - 1), 0);
        CHECK(fws_rate_room(state, rate, now + wait) > 0);
        CHECK_EQ(fws_rate_wait(state, rate, now + wait), 0);
    }
}

static void test_a_clock_that_jumps_back_leaves_it_full_not_shut(void)
{
    fws_rate state = fws_rate_take(fws_rate_full(SECOND), 10, 10, 5000 * SECOND);
    CHECK_EQ(fws_rate_room(state, 10, 4000 * SECOND), 10);
    CHECK_EQ(fws_rate_wait(state, 10, 4000 * SECOND), 0);
    state = fws_rate_take(state, 10, 10, 4000 * SECOND);
    CHECK_EQ(fws_rate_room(state, 10, 4000 * SECOND), 0);
}

/* A second's worth is there at once, though it is taken one by one. */
static void test_a_burst_is_a_seconds_worth(void)
{
    const uint64_t rates[] = {1, 2, 3, 7, 13, 1000, 99991};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        fws_rate state = fws_rate_full(SECOND);
        uint64_t n = 0;
        for (; fws_rate_wait(state, rates[i], SECOND) == 0; n++)
            state = fws_rate_take(state, rates[i], 1, SECOND);
        CHECK_EQ(n, rates[i]);
    }
}

/* Who takes all there is for an hour gets the rate, and a second's worth at the beginning. */
static void test_the_rate_does_not_drift(void)
{
    const uint64_t rates[] = {3, 7, 999983, 7777777};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        const uint64_t rate = rates[i], end = 3600 * SECOND;
        uint64_t seed = i, taken = 0, now = 1000 * SECOND, began = now;
        fws_rate state = fws_rate_full(now);
        for (; now - began < end; now += 1 + test_random(&seed) % (SECOND / 400)) {
            uint64_t room = fws_rate_room(state, rate, now);
            state = room == 0 ? state : fws_rate_take(state, rate, room, now);
            taken += room;
        }
        uint64_t most = rate + (uint64_t)((unsigned __int128)rate * (now - began) / SECOND);
        CHECK(taken <= most + 1);
        CHECK(taken + rate / 100 + 1 >= most); /* less than the last 2.5 ms, and no ppm */
    }
}

int main(void)
{
    RUN(test_it_holds_what_exact_arithmetic_says);
    RUN(test_it_goes_on_where_its_time_wraps);
    RUN(test_a_new_one_holds_one_second_and_no_more_comes_by_waiting);
    RUN(test_the_wait_is_as_long_as_it_has_to_be);
    RUN(test_a_clock_that_jumps_back_leaves_it_full_not_shut);
    RUN(test_a_burst_is_a_seconds_worth);
    RUN(test_the_rate_does_not_drift);
    return 0;
}
