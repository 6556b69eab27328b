#include <stdbool.h>

#include "check.h"
#include "core/peers.h"

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
            CHECK_EQ(fws_peers_add(&peers, address), model[i]);
        } else if (model[i] > 0) {
            there -= --model[i] == 0;
            fws_peers_remove(&peers, address);
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
            CHECK_EQ(fws_peers_add(&peers, address), 1);
        }
    CHECK_EQ(peers.used, 16 * 255);
    fws_peers_clear(&peers);
}

int main(void)
{
    RUN(test_counts_follow_a_plain_model);
    RUN(test_addresses_differ_in_any_byte);
    return 0;
}
