/* What logs share: the pool of empty slabs, pinned slabs, the clock, and how much they hold. */
#include "log_fixture.h"

static void test_the_pool_keeps_a_mebibyte_of_each_size(void)
{
    start();
    for (uint64_t i = 1; i <= 4000; i++)
        append(1000, i);
    fws_log_clear(&wire);
    uint32_t kept = logs.n_free[FWS_GRADES - 1];
    CHECK(kept >= FWS_POOL_BYTES / (2 * FWS_SLAB_BYTES) && kept <= FWS_POOL_BYTES / FWS_SLAB_BYTES);
    append(1000, 5000);
    CHECK_EQ(logs.n_free[FWS_GRADES - 1], kept - 1); /* taken from there */
    stop();
}

static void test_a_pinned_slab_outlives_its_log(void)
{
    start();
    append(100000, 1);
    fws_slab *slab = wire.growing;
    fws_slab_pin(slab);
    fws_slab_pin(slab);
    append(100000, 2);
    append(100000, 3);
    CHECK(!slab->retired);
    fws_log_drop_oldest(&wire);
    CHECK(slab->retired);
    CHECK(logs.pinned > 100000 && logs.pinned < 101000);
    CHECK_EQ(logs.bytes, walk_held());
    CHECK_EQ(slab->data[99999], 0);
    fws_slab_unpin(&logs, slab);
    CHECK_EQ(slab->data[99999], 0);
    stop();
    CHECK_EQ(slab->data[99999], 0);
    CHECK(logs.pinned > 100000);
    fws_slab_unpin(&logs, slab); /* the leak checker sees whether it was freed */
}

static void test_a_slab_pinned_and_released_in_time_stays(void)
{
    start();
    append(10, 1);
    fws_slab_pin(wire.growing);
    fws_slab_unpin(&logs, wire.growing);
    read_all(0);
    stop();
}

static void test_a_slab_knows_when_it_was_opened(void)
{
    start();
    append(960, 1);
    now = 2000;
    append(960, 2);
    CHECK_EQ(slab_at(0)->opened, 1000);
    CHECK_EQ(slab_at(1)->opened, 2000);
    stop();
    fws_logs_init(&logs, NULL, 0);
    fws_log_init(&wire, &logs, true);
    append(10, 1);
    CHECK_EQ(wire.growing->opened, 0);
    stop();
}

/* The bucket of a log: the one that it would be looked for in, or none. */
static int bucket_of(const fws_log *log)
{
    for (int i = 0; i < FWS_LOG_BUCKETS; i++)
        for (fws_link *link = logs.buckets[i].next; link != &logs.buckets[i]; link = link->next)
            if (link == &log->link)
                return i;
    return -1;
}

static void test_listed_logs_stand_in_the_bucket_of_what_they_hold(void)
{
    uint64_t random = 3;
    start();
    fws_log other;
    fws_log_init(&other, &logs, false);
    CHECK_EQ(bucket_of(&wire), -1);
    for (uint64_t i = 1; i <= 3000; i++) {
        append(1 + test_random(&random) % 2000, i);
        CHECK_EQ(bucket_of(&wire), 63 - __builtin_clzll(wire.held));
        while (wire.head != wire.tail && test_random(&random) % 50 == 0)
            fws_log_drop_oldest(&wire);
    }
    CHECK(fws_log_reserve(&other, 100, 1) != NULL);
    CHECK_EQ(logs.bytes, walk_held() + other.held);
    CHECK_EQ(bucket_of(&other), -1);
    fws_log_clear(&other);
    fws_log_clear(&wire);
    CHECK_EQ(bucket_of(&wire), -1);
    stop();
}

int main(void)
{
    RUN(test_the_pool_keeps_a_mebibyte_of_each_size);
    RUN(test_a_pinned_slab_outlives_its_log);
    RUN(test_a_slab_pinned_and_released_in_time_stays);
    RUN(test_a_slab_knows_when_it_was_opened);
    RUN(test_listed_logs_stand_in_the_bucket_of_what_they_hold);
    return 0;
}
