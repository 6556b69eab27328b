#include "check.h"
#include "bench/hist.h"

static fws_hist hist;

static void test_an_empty_histogram_says_zero(void)
{
    fws_hist_clear(&hist);
    CHECK_EQ(hist.total, 0);
    CHECK_EQ(fws_hist_quantile(&hist, 0.5), 0);
    CHECK_EQ(fws_hist_quantile(&hist, 1), 0);
}

static void test_values_below_64_are_exact(void)
{
    for (uint64_t value = 0; value < 64; value++) {
        fws_hist_clear(&hist);
        fws_hist_add(&hist, value);
        fws_hist_add(&hist, UINT64_MAX);
        CHECK_EQ(fws_hist_quantile(&hist, 0.5), value);
    }
}

static void check_error_of(uint64_t value)
{
    fws_hist_clear(&hist);
    fws_hist_add(&hist, value);
    fws_hist_add(&hist, UINT64_MAX);
    uint64_t told = fws_hist_quantile(&hist, 0.5);
    CHECK(told >= value);
    CHECK((double)(told - value) <= 0.032 * (double)value);
}

static void test_a_quantile_is_at_most_3_percent_above_for_all_of_uint64(void)
{
    uint64_t state = 1;
    for (int bit = 0; bit < 64; bit++) {
        uint64_t power = UINT64_C(1) << bit;
        check_error_of(power - 1);
        check_error_of(power);
        check_error_of(power + 1);
        for (int i = 0; i < 20; i++)
            check_error_of(power + test_random(&state) % power);
    }
    check_error_of(UINT64_MAX);
}

static void test_quantiles_take_the_sample_of_their_rank(void)
{
    fws_hist_clear(&hist);
    for (uint64_t i = 0; i < 50; i++)
        fws_hist_add(&hist, i);
    CHECK_EQ(fws_hist_quantile(&hist, 0), 0);
    CHECK_EQ(fws_hist_quantile(&hist, 0.02), 0);
    CHECK_EQ(fws_hist_quantile(&hist, 0.0201), 1);
    for (uint64_t rank = 1; rank <= 50; rank++)
        CHECK_EQ(fws_hist_quantile(&hist, (double)rank / 50), rank - 1);
    CHECK_EQ(fws_hist_quantile(&hist, -1), 0);
    CHECK_EQ(fws_hist_quantile(&hist, 7), 49);
}

static void test_a_quantile_is_never_above_the_maximum(void)
{
    fws_hist_clear(&hist);
    fws_hist_add(&hist, 1000001);
    CHECK_EQ(fws_hist_quantile(&hist, 0.5), 1000001);
    CHECK_EQ(hist.max, 1000001);
}

int main(void)
{
    RUN(test_an_empty_histogram_says_zero);
    RUN(test_values_below_64_are_exact);
    RUN(test_a_quantile_is_at_most_3_percent_above_for_all_of_uint64);
    RUN(test_quantiles_take_the_sample_of_their_rank);
    RUN(test_a_quantile_is_never_above_the_maximum);
    return 0;
}
