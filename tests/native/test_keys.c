/* The newest frame of each key, against a plain array. */
#include "log_fixture.h"

#include "log/keys.h"

#define KEYS 60
#define NONE UINT64_MAX
#define KEY (sizeof(fws_key) + 5 + 48) /* allocated for one of the names */

static fws_keys *keys;
static uint64_t newest[KEYS]; /* sequence number of its newest frame; NONE: it was forgotten */

static void begin(void)
{
    start();
    keys = fws_keys_new(&wire, 5);
    CHECK(keys != NULL);
    for (int i = 0; i < KEYS; i++)
        newest[i] = NONE;
}

static void end(void)
{
    fws_keys_free(keys);
    CHECK_EQ(wire.beside, 0);
    stop();
}

static size_t write_name(char *name, int number)
{
    return number == 0 ? 0 : (size_t)sprintf(name, "key %d", number);
}

static void publish(int number, size_t n)
{
    char name[16];
    fws_key *key = fws_keys_reserve(keys, (const uint8_t *)name, write_name(name, number));
    CHECK(key != NULL);
    append(n, wire.next_seq + 1);
    fws_keys_commit(keys, key, wire.next_seq - 1);
    newest[number] = wire.next_seq - 1;
}

static void drop_slab(bool keep)
{
    const fws_slab *oldest = fws_log_oldest(&wire);
    if (oldest == NULL)
        return;
    fws_keys_leave(keys, oldest, keep);
    for (int i = 0; i < KEYS && !keep; i++)
        newest[i] = newest[i] - oldest->base_seq < oldest->n ? NONE : newest[i];
    fws_log_drop_oldest(&wire);
}

static void forget(uint64_t before)
{
    fws_keys_forget(keys, before);
    for (int i = 0; i < KEYS; i++)
        newest[i] = newest[i] < before && newest[i] < wire.first_seq ? NONE : newest[i];
}

/* The frame is there: in the log, or saved. */
static void check_frame(const fws_key *key)
{
    bool in_log = key->seq >= wire.first_seq;
    const fws_slab *slab = in_log ? fws_log_slab(&wire, key->seq, wire.head) : key->saved;
    CHECK_EQ(in_log, key->saved == NULL);
    CHECK(key->seq - slab->base_seq < slab->n);
    uint32_t i = (uint32_t)(key->seq - slab->base_seq), from = fws_slab_start(slab, i);
    uint32_t n = slab->end[i] - from;
    CHECK(memcmp(slab->data + from, &key->seq, n < SEQ_BYTES ? n : SEQ_BYTES) == 0);
    CHECK_EQ(fws_slab_eseq(slab, i), key->seq + 1);
}

/* All that has changed since a place, in order. */
static void check_from(uint64_t seq)
{
    uint64_t expected;
    do {
        expected = NONE;
        for (int i = 0; i < KEYS; i++)
            if (newest[i] != NONE && newest[i] >= seq && newest[i] < expected)
                expected = newest[i];
        const fws_keyed *found = fws_keys_from(keys, seq);
        CHECK_EQ(found == NULL ? NONE : found->seq, expected);
        if (found != NULL)
            check_frame(found->key);
        seq = expected + 1;
    } while (expected != NONE);
}

static void test_the_newest_of_each_key_is_found_from_any_place(void)
{
    uint64_t random = 3;
    for (int busy = 1; busy <= KEYS; busy *= 4) {
        begin();
        for (int i = 0; i < 6000; i++) {
            uint64_t draw = test_random(&random);
            int number = draw % 8 == 0 ? (int)(draw / 8 % KEYS) : (int)(draw / 8 % (uint64_t)busy);
            publish(number, 1 + draw / 1000 % (draw % 97 == 0 ? 30000 : 200));
            if (draw % 61 == 0)
                drop_slab(draw % 7 != 0);
            if (draw % 501 == 0)
                forget(test_random(&random) % (wire.next_seq + 1));
            if (draw % 11 == 0)
                check_from(test_random(&random) % (wire.next_seq + 2));
        }
        check_from(0);
        CHECK(keys->order_capacity <= 256);
        end();
    }
}

static void test_what_is_saved_counts(void)
{
    begin();
    publish(1, 5000);
    publish(2, 5000);
    drop_slab(true);
    while (fws_log_oldest(&wire) != NULL)
        drop_slab(true);
    CHECK(wire.held == wire.beside && wire.held > 10000 && wire.held < 11000);
    CHECK_EQ(logs.bytes, wire.held);
    CHECK(!fws_link_empty(&logs.buckets[wire.bucket]));
    publish(1, 100);
    CHECK(wire.beside > 5000 && wire.beside < 5500);
    forget(wire.next_seq);
    CHECK_EQ(wire.beside, KEY);
    CHECK_EQ(keys->n, 1);
    end();
}

/* A half-sent frame may lie in a saved slab: it stays with its pin. */
static void test_a_pinned_frame_outlives_its_key(void)
{
    begin();
    publish(1, 20000);
    drop_slab(true);
    fws_slab *saved = fws_keys_from(keys, 0)->key->saved;
    fws_slab_pin(saved);
    publish(1, 100);
    CHECK_EQ(wire.beside, KEY);
    CHECK(logs.pinned > 20000);
    CHECK_EQ(saved->data[19999], 0);
    fws_slab_unpin(&logs, saved);
    CHECK_EQ(logs.pinned, 0);
    end();
}

static void test_a_thousand_times_as_many_keys_take_a_thousand_times_the_room(void)
{
    begin();
    for (uint32_t i = 0; i < 60000; i++) {
        uint32_t name = i % 20000;
        fws_key *key = fws_keys_reserve(keys, (const uint8_t *)&name, sizeof name);
        append(10, wire.next_seq + 1);
        fws_keys_commit(keys, key, wire.next_seq - 1);
    }
    CHECK_EQ(keys->n, 20000);
    CHECK(keys->capacity <= 65536 && keys->order_capacity <= 65536);
    CHECK_EQ(fws_keys_from(keys, 0)->seq, 40000);
    while (fws_log_oldest(&wire) != NULL) {
        fws_keys_leave(keys, fws_log_oldest(&wire), false);
        fws_log_drop_oldest(&wire);
    }
    CHECK_EQ(keys->n, 0);
    CHECK(keys->capacity <= 64);
    CHECK(fws_keys_from(keys, 0) == NULL);
    end();
}

int main(void)
{
    RUN(test_the_newest_of_each_key_is_found_from_any_place);
    RUN(test_what_is_saved_counts);
    RUN(test_a_pinned_frame_outlives_its_key);
    RUN(test_a_thousand_times_as_many_keys_take_a_thousand_times_the_room);
    return 0;
}
