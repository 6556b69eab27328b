/* The wire log: slab borders, cursors, retention, the pool, slabs that are held. */
#include "check.h"
#include "log/log.h"

#define WIDE (1ULL << 40) /* a retention that nothing reaches */

static fws_pool pool;
static fws_log wire;

static void start(uint64_t retention)
{
    pool = (fws_pool){0};
    fws_log_init(&wire, &pool, retention);
}

static void stop(void)
{
    fws_log_clear(&wire);
    fws_pool_clear(&pool);
}

/* A frame of n bytes that carries its own sequence number, as far as it fits. */
static void append(size_t n, uint64_t eseq)
{
    uint64_t seq = wire.next_seq;
    uint8_t *room = fws_log_reserve(&wire, n, eseq);
    CHECK(room != NULL);
    memset(room, (int)(seq & 0xFF), n);
    memcpy(room, &seq, n < sizeof seq ? n : sizeof seq);
    fws_log_commit(&wire, n, eseq);
}

static const fws_slab *newest_slab(void)
{
    return wire.ring[(wire.head - 1) & (wire.capacity - 1)];
}

/* Reads from the cursor to the end; returns the frames that were there. */
static uint64_t read_on(fws_cursor *cursor, uint64_t expected_seq)
{
    bool lapped;
    uint64_t frames = 0, seq, bytes;
    fws_slab *slab;
    while ((slab = fws_log_find(&wire, cursor, &lapped)) != NULL) {
        CHECK(fws_log_position(&wire, *cursor, &seq, &bytes));
        CHECK_EQ(seq, expected_seq + frames);
        uint32_t from = fws_slab_start(slab, cursor->index), n = slab->end[cursor->index] - from;
        CHECK(memcmp(slab->data + from, &seq, n < sizeof seq ? n : sizeof seq) == 0);
        cursor->index++;
        frames++;
    }
    CHECK(!lapped);
    return frames;
}

static void test_an_empty_log_has_only_an_end(void)
{
    start(WIDE);
    bool lapped;
    uint64_t seq, bytes;
    fws_cursor end = fws_log_end(&wire);
    CHECK(fws_log_find(&wire, &end, &lapped) == NULL && !lapped);
    CHECK(fws_log_position(&wire, end, &seq, &bytes));
    CHECK_EQ(seq, 0);
    CHECK_EQ(bytes, 0);
    CHECK_EQ(fws_log_retained(&wire), 0);
    append(10, 1);
    CHECK_EQ(read_on(&end, 0), 1);
    stop();
}

static void test_sizes_out_of_range_are_refused(void)
{
    start(WIDE);
    CHECK(fws_log_reserve(&wire, 0, 1) == NULL);
    CHECK(fws_log_reserve(&wire, (size_t)FWS_FRAME_LIMIT + 1, 1) == NULL);
    CHECK(fws_log_reserve(&wire, SIZE_MAX, 1) == NULL);
    CHECK_EQ(wire.head, 0);
    stop();
}

static void test_a_slab_is_filled_to_its_last_byte(void)
{
    start(WIDE);
    for (uint64_t i = 0; i < 4; i++)
        append(FWS_SLAB_ALONE, i + 1);
    CHECK_EQ(wire.head, 1);
    CHECK_EQ(newest_slab()->bytes, FWS_SLAB_BYTES);
    fws_cursor newest = fws_log_newest(&wire), end = fws_log_end(&wire);
    CHECK_EQ(newest.index, 3);
    CHECK_EQ(end.index, 4);
    append(1, 5);
    CHECK_EQ(wire.head, 2);
    CHECK_EQ(newest_slab()->n, 1);
    CHECK_EQ(read_on(&end, 4), 1); /* a cursor at a finished slab's end goes on behind it */
    CHECK_EQ(end.slab, 1);
    stop();
}

static void test_a_frame_that_just_does_not_fit_opens_a_slab(void)
{
    for (uint32_t over = 0; over <= 1; over++) {
        start(WIDE);
        for (uint64_t i = 0; i < 3; i++)
            append(FWS_SLAB_ALONE, i + 1);
        append(100, 4);
        append(FWS_SLAB_ALONE - 100 + over, 5);
        CHECK_EQ(wire.head, 1 + over);
        fws_cursor cursor = fws_log_oldest(&wire);
        CHECK_EQ(read_on(&cursor, 0), 5);
        stop();
    }
}

static void test_a_slab_takes_4096_frames(void)
{
    start(WIDE);
    for (uint64_t i = 0; i < FWS_SLAB_FRAMES; i++)
        append(2, i + 1);
    CHECK_EQ(wire.head, 1);
    append(2, FWS_SLAB_FRAMES + 1);
    CHECK_EQ(wire.head, 2);
    fws_cursor cursor = fws_log_oldest(&wire);
    CHECK_EQ(read_on(&cursor, 0), FWS_SLAB_FRAMES + 1);
    stop();
}

static void test_a_large_frame_has_a_slab_of_its_own(void)
{
    const size_t sizes[] = {FWS_SLAB_ALONE + 1, FWS_SLAB_BYTES - 1, FWS_SLAB_BYTES,
                            FWS_SLAB_BYTES + 1, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        start(WIDE);
        append(10, 1);
        append(sizes[i], 2);
        CHECK_EQ(newest_slab()->n, 1);
        CHECK_EQ(newest_slab()->max_bytes, sizes[i]);
        append(10, 3);
        append(10, 4);
        CHECK_EQ(wire.head, 3);
        CHECK_EQ(newest_slab()->n, 2);
        fws_cursor cursor = fws_log_oldest(&wire);
        CHECK_EQ(read_on(&cursor, 0), 4);
        stop();
    }
}

static void test_a_slab_of_its_own_never_comes_back_as_a_common_one(void)
{
    start(1);
    for (uint64_t i = 0; i < 8; i++)
        append(FWS_SLAB_BYTES, i + 1); /* as many bytes as a common slab, room for one frame */
    for (uint64_t i = 0; i < 100; i++)
        append(10, i + 9);
    CHECK_EQ(newest_slab()->n, 100);
    stop();
}

static void test_what_is_reserved_need_not_be_used_up(void)
{
    start(WIDE);
    for (uint64_t i = 1; i <= 2000; i++) {
        CHECK(fws_log_reserve(&wire, 160, i) != NULL);
        CHECK(fws_log_reserve(&wire, FWS_SLAB_ALONE, i) != NULL);
        append(50, i);
    }
    CHECK_EQ(wire.bytes, 2000 * 50);
    fws_cursor cursor = fws_log_oldest(&wire);
    CHECK_EQ(read_on(&cursor, 0), 2000);
    stop();
}

static void test_a_large_reservation_given_up_leaves_a_legal_log(void)
{
    start(WIDE);
    append(10, 1);
    CHECK(fws_log_reserve(&wire, 100000, 2) != NULL);
    CHECK_EQ(fws_log_newest(&wire).slab, 0);
    CHECK_EQ(fws_log_newest(&wire).index, 0);
    CHECK(fws_log_reserve(&wire, 200000, 2) != NULL);
    append(20, 2);
    append(20, 3);
    fws_cursor cursor = fws_log_oldest(&wire);
    CHECK_EQ(read_on(&cursor, 0), 3);
    stop();
}

static void test_retained_bytes_stay_within_two_slabs_of_the_retention(void)
{
    const uint64_t retention = 200000;
    uint64_t random = 1;
    start(retention);
    for (uint64_t i = 1; i <= 20000; i++) {
        append(1 + test_random(&random) % 3000, i);
        uint64_t retained = fws_log_retained(&wire);
        CHECK(retained <= retention + 2 * FWS_SLAB_BYTES);
        CHECK(retained >= retention || retained == wire.bytes);
    }
    CHECK(pool.n <= FWS_POOL_SLABS);
    stop();
}

static void test_the_newest_frame_outlives_any_retention(void)
{
    start(0);
    uint64_t seq, bytes;
    for (uint64_t i = 1; i <= 50; i++) {
        append(i % 5 == 0 ? 100000 : 1000, i);
        CHECK(fws_log_position(&wire, fws_log_newest(&wire), &seq, &bytes));
        CHECK_EQ(seq, i - 1);
    }
    stop();
}

static void test_a_cursor_older_than_the_tail_is_lapped(void)
{
    start(FWS_SLAB_BYTES);
    bool lapped;
    uint64_t seq, bytes, i = 0;
    append(1000, ++i);
    fws_cursor cursor = fws_log_oldest(&wire), still;
    while (wire.tail == 0)
        append(1000, ++i);
    CHECK(fws_log_find(&wire, &cursor, &lapped) == NULL);
    CHECK(lapped);
    CHECK(!fws_log_position(&wire, cursor, &seq, &bytes));
    still = fws_log_oldest(&wire);
    CHECK(fws_log_position(&wire, still, &seq, &bytes));
    CHECK_EQ(bytes, wire.bytes - fws_log_retained(&wire));
    CHECK_EQ(read_on(&still, seq), wire.next_seq - seq);
    stop();
}

static void test_a_cursor_behind_all_of_the_slab_retired_last_is_not_lapped(void)
{
    bool lapped;
    uint64_t seq, bytes;
    start(100000);
    append(60000, 1);
    fws_cursor reader = fws_log_end(&wire), early = fws_log_oldest(&wire);
    append(60000, 2);
    append(60000, 3);
    append(60000, 4); /* retires the first: what the reader had */
    CHECK_EQ(wire.tail, 1);
    CHECK(fws_log_position(&wire, reader, &seq, &bytes));
    CHECK_EQ(seq, 1);
    CHECK(!fws_log_position(&wire, early, &seq, &bytes));
    CHECK_EQ(read_on(&reader, 1), 3);
    CHECK(fws_log_find(&wire, &early, &lapped) == NULL && lapped);
    stop();
}

static void test_positions_count_frames_and_bytes_over_slabs(void)
{
    start(WIDE);
    uint64_t random = 7, at = 0, seq, bytes;
    static fws_cursor cursors[3000];
    static uint64_t starts[3000];
    for (uint64_t i = 0; i < 3000; i++) {
        size_t n = 1 + test_random(&random) % (i % 100 == 0 ? 40000 : 200);
        starts[i] = at;
        append(n, i + 1);
        cursors[i] = fws_log_newest(&wire);
        at += n;
    }
    for (uint64_t i = 0; i < 3000; i++) {
        CHECK(fws_log_position(&wire, cursors[i], &seq, &bytes));
        CHECK_EQ(seq, i);
        CHECK_EQ(bytes, starts[i]);
    }
    CHECK(fws_log_position(&wire, fws_log_end(&wire), &seq, &bytes));
    CHECK_EQ(seq, 3000);
    CHECK_EQ(bytes, at);
    stop();
}

static void test_empty_slabs_are_used_again(void)
{
    start(FWS_SLAB_BYTES);
    for (uint64_t i = 1; i <= 5000; i++)
        append(1000, i);
    CHECK(wire.head > 50);
    CHECK(wire.head - wire.tail + pool.n <= 5);
    fws_log_clear(&wire);
    CHECK(pool.n > 0 && pool.n <= FWS_POOL_SLABS);
    CHECK_EQ(fws_log_end(&wire).slab, wire.head);
    append(10, 6000); /* a cleared log can be written to again */
    CHECK_EQ(wire.next_seq, 5001);
    stop();
}

static void test_the_pool_keeps_sixteen(void)
{
    start(WIDE);
    for (uint64_t i = 1; i <= 2000; i++)
        append(1000, i);
    CHECK(wire.head > FWS_POOL_SLABS + 2);
    fws_log_clear(&wire);
    CHECK_EQ(pool.n, FWS_POOL_SLABS);
    stop();
}

static void test_a_held_slab_outlives_its_log(void)
{
    start(0);
    append(100000, 1);
    fws_slab *slab = wire.ring[0];
    fws_slab_pin(slab);
    fws_slab_pin(slab);
    append(100000, 2);
    append(100000, 3);
    CHECK(slab->retired);
    CHECK_EQ(slab->data[99999], 0);
    fws_slab_unpin(slab);
    CHECK_EQ(slab->data[99999], 0);
    stop();
    CHECK_EQ(slab->data[99999], 0);
    fws_slab_unpin(slab); /* the leak checker sees whether it went */
}

static void test_a_slab_held_and_released_in_time_stays(void)
{
    start(WIDE);
    append(10, 1);
    fws_slab_pin(wire.ring[0]);
    fws_slab_unpin(wire.ring[0]);
    fws_cursor cursor = fws_log_oldest(&wire);
    CHECK_EQ(read_on(&cursor, 0), 1);
    stop();
}

static void test_engine_sequences_far_apart_open_a_slab(void)
{
    start(WIDE);
    append(10, 5);
    append(10, 5 + (uint64_t)UINT32_MAX);
    CHECK_EQ(wire.head, 1);
    append(10, 6 + (uint64_t)UINT32_MAX);
    CHECK_EQ(wire.head, 2);
    const fws_slab *slab = wire.ring[0];
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 5), 0);
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 6), 1);
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 5 + (uint64_t)UINT32_MAX), 1);
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 6 + (uint64_t)UINT32_MAX), 2);
    CHECK_EQ(fws_slab_frame_eseq(slab, 1, 1), 1);
    stop();
}

static void test_bytes_and_sequences_find_their_frame(void)
{
    start(WIDE);
    const uint32_t ends[] = {1, 4, 10, 11};
    for (uint32_t i = 0; i < 4; i++)
        append(ends[i] - (i == 0 ? 0 : ends[i - 1]), 10 * (i + 1));
    const fws_slab *slab = wire.ring[0];
    for (uint32_t at = 0, frame = 0; at < 11; at++) {
        frame += at == ends[frame];
        CHECK_EQ(fws_slab_frame_at(slab, 0, at), frame);
    }
    CHECK_EQ(fws_slab_frame_at(slab, 0, 11), 4);
    CHECK_EQ(fws_slab_frame_at(slab, 2, 0), 2);
    for (uint64_t eseq = 0; eseq <= 45; eseq++)
        CHECK_EQ(fws_slab_frame_eseq(slab, 0, eseq), eseq == 0 ? 0 : (eseq - 1) / 10);
    stop();
}

int main(void)
{
    RUN(test_an_empty_log_has_only_an_end);
    RUN(test_sizes_out_of_range_are_refused);
    RUN(test_a_slab_is_filled_to_its_last_byte);
    RUN(test_a_frame_that_just_does_not_fit_opens_a_slab);
    RUN(test_a_slab_takes_4096_frames);
    RUN(test_a_large_frame_has_a_slab_of_its_own);
    RUN(test_a_slab_of_its_own_never_comes_back_as_a_common_one);
    RUN(test_what_is_reserved_need_not_be_used_up);
    RUN(test_a_large_reservation_given_up_leaves_a_legal_log);
    RUN(test_retained_bytes_stay_within_two_slabs_of_the_retention);
    RUN(test_the_newest_frame_outlives_any_retention);
    RUN(test_a_cursor_older_than_the_tail_is_lapped);
    RUN(test_a_cursor_behind_all_of_the_slab_retired_last_is_not_lapped);
    RUN(test_positions_count_frames_and_bytes_over_slabs);
    RUN(test_empty_slabs_are_used_again);
    RUN(test_the_pool_keeps_sixteen);
    RUN(test_a_held_slab_outlives_its_log);
    RUN(test_a_slab_held_and_released_in_time_stays);
    RUN(test_engine_sequences_far_apart_open_a_slab);
    RUN(test_bytes_and_sequences_find_their_frame);
    return 0;
}
