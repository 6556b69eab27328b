#include <stdbool.h>

#include "check.h"
#include "core/peers.h"

#define SECOND 1000000000ULL

static void address_of(uint32_t i, uint8_t address[16])
{
    memset(address, 0, 16);
    memcpy(address + 12, &i, 4);
}

static void test_counts_follow_a_plain_model(void)
{
    enum { ADDRESSES = 300, STEPS = 200000 };
    static uint32_t model[ADDRESSES];
    fws_peers peers = {.seed = 7};
    uint64_t random = 1;
    uint32_t there = 0;
    for (int step = 0; step < STEPS; step++) {
        uint64_t draw = test_random(&random);
        uint32_t i = (uint32_t)(draw % ADDRESSES);
        uint8_t address[16];
        address_of(i, address);
        bool rising = (step / 5000) % 2 == 0;
        if (draw >> 62 != 0 ? rising : !rising) {
            there += model[i]++ == 0;
            CHECK_EQ(fws_peers_add(&peers, address, SECOND), model[i]);
        } else if (model[i] > 0) {
            there -= --model[i] == 0;
            fws_peers_remove(&peers, address, SECOND);
        }
        CHECK_EQ(peers.used, there);
    }
    CHECK(peers.capacity <= 1024);
    fws_peers_clear(&peers);
}

static void test_addresses_differ_in_any_byte(void)
{
    fws_peers peers = {.seed = 99};
    for (int byte = 0; byte < 16; byte++)
        for (int value = 1; value < 256; value++) {
            uint8_t address[16] = {0};
            address[byte] = (uint8_t)value;
            CHECK_EQ(fws_peers_add(&peers, address, SECOND), 1);
        }
    CHECK_EQ(peers.used, 16 * 255);
    fws_peers_clear(&peers);
}

/* Buckets and counts of the same addresses, through growing, removing and making anew. */
static void test_each_address_has_the_bucket_that_a_model_has(void)
{
    enum { ADDRESSES = 500, STEPS = 200000 };
    const uint64_t rate = 5;
    static fws_rate buckets[ADDRESSES];
    static uint32_t counts[ADDRESSES];
    fws_peers peers = {.seed = 3};
    uint64_t random = 9, now = 100 * SECOND, refused = 0;
    for (uint32_t i = 0; i < ADDRESSES; i++)
        buckets[i] = fws_rate_full(now);
    for (int step = 0; step < STEPS; step++) {
        uint64_t draw = test_random(&random);
        uint32_t i = (uint32_t)(draw % (step % 20000 < 10000 ? ADDRESSES : 20));
        uint8_t address[16];
        address_of(i, address);
        now += draw >> 43;
        if (draw >> 62 == 0) {
            CHECK_EQ(fws_peers_add(&peers, address, now), ++counts[i]);
        } else if (draw >> 62 == 1 && counts[i] > 0) {
            counts[i]--;
            fws_peers_remove(&peers, address, now);
        } else {
            uint64_t wait = fws_rate_wait(buckets[i], rate, now);
            CHECK_EQ(fws_peers_request(&peers, address, rate, now), wait);
            refused += wait > 0;
            if (wait == 0)
                buckets[i] = fws_rate_take(buckets[i], rate, 1, now);
        }
    }
    CHECK(refused > 1000);
    fws_peers_clear(&peers);
}

static void test_addresses_that_came_once_are_forgotten(void)
{
    fws_peers peers = {.seed = 3};
    uint64_t now = 100 * SECOND;
    for (uint32_t i = 0; i < 200000; i++) { /* 100 at a time are within the second */
        uint8_t address[16];
        address_of(i, address);
        CHECK_EQ(fws_peers_request(&peers, address, 1, now), 0);
        now += SECOND / 100;
        CHECK(peers.capacity <= 512);
    }
    fws_peers_clear(&peers);
}

static void test_a_crowd_of_addresses_takes_a_bounded_table_and_nothing_of_those_who_stay(void)
{
    enum { STAY = 1000 };
    fws_peers peers = {.seed = 3};
    uint8_t address[16];
    for (uint32_t i = 0; i < STAY; i++) {
        address_of(i, address);
        CHECK_EQ(fws_peers_add(&peers, address, SECOND), 1);
    }
    for (uint32_t i = STAY; i < 2000000; i++) { /* all within one second */
        address_of(i, address);
        CHECK_EQ(fws_peers_request(&peers, address, 1, SECOND), 0);
        CHECK(peers.capacity <= 4 * FWS_PEERS_IDLE);
    }
    for (uint32_t i = 0; i < STAY; i++) {
        address_of(i, address);
        CHECK_EQ(fws_peers_add(&peers, address, SECOND), 2);
    }
    for (uint32_t i = 0; i < 2 * STAY; i++) {
        address_of(i / 2, address);
        fws_peers_remove(&peers, address, SECOND);
    }
    for (uint32_t i = 0; i < 200000; i++) { /* a quieter time: the table is small again */
        address_of(i, address);
        CHECK_EQ(fws_peers_request(&peers, address, 1, 10 * SECOND + i * SECOND / 100), 0);
    }
    CHECK(peers.capacity <= 512);
    fws_peers_clear(&peers);
}

int main(void)
{
    RUN(test_counts_follow_a_plain_model);
    RUN(test_addresses_differ_in_any_byte);
    RUN(test_each_address_has_the_bucket_that_a_model_has);
    RUN(test_addresses_that_came_once_are_forgotten);
    RUN(test_a_crowd_of_addresses_takes_a_bounded_table_and_nothing_of_those_who_stay);
    return 0;
}
