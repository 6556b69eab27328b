/* The newest frame of each key, against a plain array. */
#include "log_fixture.h"

#include "log/keys.h"

#define KEYS 60
#define NONE UINT64_MAX
#define KEY (sizeof(fws_key) + 5 + 48) /* allocated for one of the names */
#define RING (8 * sizeof(fws_key *))   /* for the keys of up to eight frames */
#define FRAMES 8192                    /* whose keys are kept here */

static fws_keys *keys;
static uint64_t newest[KEYS]; /* sequence number of its newest frame; NONE: it was forgotten */
static int published[FRAMES]; /* the key of each frame */

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
    published[wire.next_seq - 1] = number;
}

/* As a source does: one commit for all. */
static void append_plain(uint64_t frames)
{
    for (uint64_t i = 0; i < frames; i++) {
        append(20, wire.next_seq + 1);
        published[wire.next_seq - 1] = 0;
    }
    fws_keys_commit(keys, fws_keys_reserve(keys, NULL, 0), wire.next_seq - 1);
    newest[0] = wire.next_seq - 1;
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

/* Each frame that is retained has its key. */
static void check_keys_of_frames(void)
{
    char name[16];
    for (uint64_t seq = wire.first_seq; seq < wire.next_seq; seq++) {
        const fws_key *key = fws_keys_at(keys, seq);
        size_t n = write_name(name, published[seq]);
        CHECK(key->n == n && memcmp(key->name, name, n) == 0);
    }
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
            if (draw % 101 == 0)
                append_plain(1 + draw % 20);
            if (draw % 701 == 0)
                check_keys_of_frames();
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
    CHECK_EQ(wire.beside, KEY + RING);
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
    CHECK_EQ(wire.beside, KEY + RING);
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

/* Frames from before the first key. */
static void test_what_was_there_before_the_keys_has_the_empty_key(void)
{
    start();
    for (int i = 0; i < 100; i++) {
        append(50, wire.next_seq + 1);
        published[i] = 0;
    }
    fws_log_drop_oldest(&wire);
    keys = fws_keys_new(&wire, 5);
    CHECK_EQ(keys->n, 1);
    CHECK_EQ(fws_keys_from(keys, 0)->seq, 99);
    CHECK_EQ(fws_keys_from(keys, 0)->key->n, 0);
    CHECK_EQ(wire.beside, 0);
    publish(1, 50);
    check_keys_of_frames();
    while (fws_log_oldest(&wire) != NULL)
        drop_slab(true);
    CHECK_EQ(keys->n_saved, 2);
    end();
}

/* Nothing is noted of frames without a key until one with a key follows. */
static void test_frames_without_a_key_take_no_room_of_their_own(void)
{
    begin();
    append_plain(1000);
    for (int i = 0; i < 1000; i++)
        append_plain(1);
    CHECK_EQ(wire.beside, 0);
    check_keys_of_frames();
    publish(1, 20);
    append_plain(500);
    CHECK_EQ(wire.beside, KEY + RING);
    publish(2, 20);
    check_keys_of_frames();
    CHECK_EQ(wire.beside, 2 * KEY + 512 * sizeof(fws_key *));
    end();
}

/* With the log the ring grows and shrinks; an empty log has none. */
static void test_keys_of_frames_that_are_gone_take_no_room(void)
{
    begin();
    for (int i = 0; i < 8000; i++)
        publish(1 + i % 5, 20);
    check_keys_of_frames();
    CHECK_EQ(keys->frames.capacity, 8192);
    while (wire.tail + 1 != wire.head) {
        drop_slab(true);
        check_keys_of_frames();
        uint64_t retained = wire.next_seq - wire.first_seq;
        CHECK(keys->frames.capacity <= 64 || keys->frames.capacity <= 8 * retained);
    }
    drop_slab(false);
    CHECK_EQ(keys->frames.capacity, 0);
    CHECK_EQ(wire.beside, 0);
    end();
}

/* Many keys beside one busy empty key: its commit finds room in any case. */
static void test_the_empty_key_always_has_a_place(void)
{
    begin();
    for (int n = 1; n < KEYS; n++) {
        publish(n, 20);
        for (int i = 0; i < 100; i++) {
            append(20, wire.next_seq + 1);
            published[wire.next_seq - 1] = 0;
            newest[0] = wire.next_seq - 1;
            fws_keys_commit(keys, keys->plain, newest[0]);
        }
        check_from(0);
    }
    check_keys_of_frames();
    end();
}

int main(void)
{
    RUN(test_what_was_there_before_the_keys_has_the_empty_key);
    RUN(test_frames_without_a_key_take_no_room_of_their_own);
    RUN(test_keys_of_frames_that_are_gone_take_no_room);
    RUN(test_the_empty_key_always_has_a_place);
    RUN(test_the_newest_of_each_key_is_found_from_any_place);
    RUN(test_what_is_saved_counts);
    RUN(test_a_pinned_frame_outlives_its_key);
    RUN(test_a_thousand_times_as_many_keys_take_a_thousand_times_the_room);
    return 0;
}
