/* Masking against the definition of RFC 6455 5.3, one byte at a time. */
#include "check.h"
#include "wire/mask.h"

static const uint8_t KEY[4] = {0x37, 0xFA, 0x21, 0x3D};

static void test_sample_of_the_rfc_is_unmasked(void)
{
    uint8_t *data = guarded_copy("\x7f\x9f\x4d\x51\x58", 5);

    CHECK_EQ(fws_mask(data, 5, KEY, 0), 1);
    CHECK(memcmp(data, "Hello", 5) == 0);
}

/* Bytes around the payload are compared, too: none may change. */
static void check_one(uint8_t *room, size_t room_n, size_t at, size_t n, unsigned phase)
{
    uint8_t expected[512];

    for (size_t i = 0; i < room_n; i++)
        expected[i] = room[i] = (uint8_t)(i * 7 + 3);
    for (size_t i = 0; i < n; i++)
        expected[at + i] ^= KEY[(phase + i) % 4];
    CHECK_EQ(fws_mask(room + at, n, KEY, phase), (phase + n) % 4);
    CHECK(memcmp(room, expected, room_n) == 0);
}

static void test_every_alignment_length_and_phase_follows_the_definition(void)
{
    static uint8_t room[400] __attribute__((aligned(64)));

    for (size_t at = 0; at < 64; at++)
        for (size_t n = 0; n <= 300; n++)
            for (unsigned phase = 0; phase < 4; phase++)
                check_one(room, at + n + 8, at, n, phase);
}

static void test_nothing_behind_the_payload_is_touched(void)
{
    uint8_t *room = guarded(300);

    for (size_t n = 0; n <= 300; n++)
        check_one(room + 300 - n, n, 0, n, (unsigned)n % 4);
}

static void test_every_cut_gives_what_one_call_gives(void)
{
    uint8_t whole[150], cut[150];

    for (size_t k = 0; k <= sizeof cut; k++) {
        for (size_t i = 0; i < sizeof cut; i++)
            whole[i] = cut[i] = (uint8_t)i;
        fws_mask(whole, sizeof whole, KEY, 3);
        unsigned phase = fws_mask(cut, k, KEY, 3);
        CHECK_EQ(fws_mask(cut + k, sizeof cut - k, KEY, phase), (3 + 150) % 4);
        CHECK(memcmp(whole, cut, sizeof cut) == 0);
    }
}

static void test_masking_twice_restores_the_input(void)
{
    uint8_t data[200], copy[200];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = copy[i] = (uint8_t)(i * i);
    fws_mask(data, sizeof data, KEY, 2);
    CHECK(memcmp(data, copy, sizeof data) != 0);
    fws_mask(data, sizeof data, KEY, 2);
    CHECK(memcmp(data, copy, sizeof data) == 0);
}

static void test_a_key_of_zero_changes_nothing(void)
{
    uint8_t data[100] = {1, 2, 3}, copy[100] = {1, 2, 3};

    fws_mask(data, sizeof data, (const uint8_t[4]){0}, 1);
    CHECK(memcmp(data, copy, sizeof data) == 0);
}

int main(void)
{
    RUN(test_sample_of_the_rfc_is_unmasked);
    RUN(test_every_alignment_length_and_phase_follows_the_definition);
    RUN(test_nothing_behind_the_payload_is_touched);
    RUN(test_every_cut_gives_what_one_call_gives);
    RUN(test_masking_twice_restores_the_input);
    RUN(test_a_key_of_zero_changes_nothing);
    return 0;
}
