/* The wire log: the borders of slabs, slabs that grow, what is retired, how a frame is found. */
#include "log_fixture.h"

static void test_an_empty_log_retains_nothing(void)
{
    start();
    CHECK(fws_log_oldest(&wire) == NULL && wire.growing == NULL);
    CHECK_EQ(fws_log_position(&wire, 0), 0);
    CHECK_EQ(fws_log_retained(&wire), 0);
    CHECK(!fws_log_fits(&wire, 1, 1));
    append(10, 1);
    CHECK(fws_log_oldest(&wire) == wire.growing);
    CHECK(fws_log_fits(&wire, 1, 2));
    read_all(0);
    stop();
}

static void test_sizes_out_of_range_are_refused(void)
{
    start();
    CHECK(fws_log_reserve(&wire, 0, 1) == NULL);
    CHECK(fws_log_reserve(&wire, (size_t)FWS_FRAME_LIMIT + 1, 1) == NULL);
    CHECK(fws_log_reserve(&wire, SIZE_MAX, 1) == NULL);
    append(10, 1);
    CHECK(fws_log_reserve(&wire, 0, 2) == NULL);
    CHECK(fws_log_reserve(&wire, SIZE_MAX, 2) == NULL);
    CHECK_EQ(wire.head, 1);
    stop();
}

static void test_slabs_grow_with_a_burst(void)
{
    for (size_t n = 1; n <= 100; n += 99) {
        start();
        for (uint64_t i = 1; wire.head < FWS_GRADES + 2; i++)
            append(n, i);
        for (uint64_t id = 0; id < wire.head; id++) {
            uint64_t grade = id < FWS_GRADES ? id : FWS_GRADES - 1;
            CHECK_EQ(slab_at(id)->max_bytes, GRADE_BYTES[grade]);
            CHECK_EQ(slab_at(id)->max_frames, GRADE_FRAMES[grade]);
        }
        CHECK_EQ(slab_at(0)->n, n == 1 ? GRADE_FRAMES[0] : GRADE_BYTES[0] / n);
        read_all(0);
        stop();
    }
}

static void test_slabs_grow_with_what_the_log_holds(void)
{
    start();
    for (now = 1; wire.grade < FWS_GRADES - 1 && wire.head < 30; now++)
        append(100, now);
    CHECK_EQ(wire.growing->max_bytes, GRADE_BYTES[FWS_GRADES - 1]);
    for (uint64_t id = 0, grade = 0; id < wire.head; id++) {
        const fws_slab *slab = slab_at(id);
        grade += slab->max_bytes != GRADE_BYTES[grade];
        CHECK_EQ(slab->max_bytes, GRADE_BYTES[grade]);
        CHECK(grade == 0 || slab->base_bytes >= slab->max_bytes / 2
              || slab->base_seq >= slab->max_frames / 2);
    }
    read_all(0);
    stop();
}

static void test_slabs_of_a_log_that_keeps_little_stay_small(void)
{
    start();
    for (now = 1; now <= 10000; now++) {
        append(100, now);
        while (wire.head - wire.tail > 1) /* as retain does: the slab of the newest frame stays */
            fws_log_drop_oldest(&wire);
        CHECK_EQ(wire.growing->max_bytes, GRADE_BYTES[0]);
    }
    read_all(0);
    stop();
}

static void test_a_quiet_log_goes_back_to_small_slabs(void)
{
    start_grown();
    for (int grade = FWS_GRADES - 1; grade >= 0; grade--) {
        append(10, wire.next_seq + 1);
        CHECK_EQ(wire.growing->max_bytes, GRADE_BYTES[grade]);
        fws_log_drop_oldest(&wire);
    }
    wire.grade = 1;
    append(GRADE_BYTES[1] / 8, wire.next_seq + 1); /* busy enough to stay */
    fws_log_drop_oldest(&wire);
    append(10, wire.next_seq + 1);
    CHECK_EQ(wire.growing->max_bytes, GRADE_BYTES[1]);
    stop();
}

static void test_a_frame_gets_a_slab_that_it_fits_into(void)
{
    const uint32_t sizes[] = {1, 960, 961, 4096, 4097, 16384};
    const uint32_t grades[] = {0, 0, 1, 1, 2, 2};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        start();
        append(sizes[i], 1);
        CHECK_EQ(wire.growing->max_bytes, GRADE_BYTES[grades[i]]);
        read_all(0);
        stop();
    }
}

static void test_a_slab_is_filled_to_its_last_byte(void)
{
    start_grown();
    for (uint64_t i = 0; i < 4; i++)
        append(FWS_SLAB_ALONE, i + 1);
    CHECK_EQ(wire.head, 1);
    CHECK_EQ(wire.growing->bytes, FWS_SLAB_BYTES);
    append(1, 5);
    CHECK_EQ(wire.head, 2);
    CHECK_EQ(wire.growing->n, 1);
    CHECK_EQ(wire.growing->base_seq, 4);
    CHECK_EQ(wire.growing->base_bytes, FWS_SLAB_BYTES);
    read_all(0);
    stop();
}

static void test_a_frame_that_just_does_not_fit_opens_a_slab(void)
{
    for (uint32_t over = 0; over <= 1; over++) {
        start_grown();
        for (uint64_t i = 0; i < 3; i++)
            append(FWS_SLAB_ALONE, i + 1);
        append(100, 4);
        CHECK_EQ(fws_log_fits(&wire, FWS_SLAB_ALONE - 100 + over, 5), over == 0);
        append(FWS_SLAB_ALONE - 100 + over, 5);
        CHECK_EQ(wire.head, 1 + over);
        read_all(0);
        stop();
    }
}

static void test_a_slab_takes_so_many_frames_and_no_more(void)
{
    for (uint8_t grade = 0; grade < FWS_GRADES; grade++) {
        start();
        wire.grade = grade;
        for (uint64_t i = 0; i < GRADE_FRAMES[grade]; i++)
            append(2, i + 1);
        CHECK_EQ(wire.head, 1);
        append(2, 5000);
        CHECK_EQ(wire.head, 2);
        read_all(0);
        stop();
    }
}

static void test_a_large_frame_has_a_slab_of_its_own(void)
{
    const size_t sizes[] = {FWS_SLAB_ALONE + 1, FWS_SLAB_BYTES - 1, FWS_SLAB_BYTES,
                            FWS_SLAB_BYTES + 1, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        start();
        append(10, 1);
        append(sizes[i], 2);
        CHECK_EQ(wire.growing->n, 1);
        CHECK_EQ(wire.growing->max_bytes, sizes[i]);
        append(10, 3);
        append(10, 4);
        CHECK_EQ(wire.head, 3);
        CHECK_EQ(wire.growing->n, 2);
        CHECK_EQ(logs.bytes, walk_held());
        read_all(0);
        stop();
    }
}

static void test_a_slab_of_its_own_never_comes_back_as_a_common_one(void)
{
    start_grown();
    for (uint64_t i = 0; i < 8; i++) {
        append(FWS_SLAB_BYTES, i + 1); /* as many bytes as a common slab, room for one frame */
        fws_log_drop_oldest(&wire);
    }
    for (uint64_t i = 0; i < 100; i++)
        append(10, i + 9);
    CHECK_EQ(wire.growing->n, 100);
    stop();
}

static void test_what_is_reserved_need_not_be_used_up(void)
{
    start();
    for (uint64_t i = 1; i <= 2000; i++) {
        CHECK(fws_log_reserve(&wire, 160, i) != NULL);
        CHECK(fws_log_reserve(&wire, FWS_SLAB_ALONE, i) != NULL);
        append(50, i);
    }
    CHECK_EQ(wire.bytes, 2000 * 50);
    read_all(0);
    stop();
}

static void test_a_large_reservation_given_up_leaves_a_legal_log(void)
{
    start();
    append(10, 1);
    CHECK(fws_log_reserve(&wire, 100000, 2) != NULL);
    read_all(0);
    CHECK(fws_log_reserve(&wire, 200000, 2) != NULL);
    append(20, 2);
    append(20, 3);
    read_all(0);
    for (uint64_t hint = 0; hint < 6; hint++)
        read_all(hint);
    fws_log_drop_oldest(&wire);
    CHECK_EQ(wire.first_seq, 1);
    read_all(0);
    stop();
}

static void test_a_reservation_given_up_in_an_empty_log_may_be_dropped(void)
{
    start();
    CHECK(fws_log_reserve(&wire, 100, 1) != NULL);
    fws_log_drop_oldest(&wire);
    CHECK(wire.growing == NULL && wire.first_seq == wire.next_seq);
    append(10, 1);
    CHECK_EQ(wire.first_seq, 0);
    read_all(0);
    stop();
}

static void test_the_oldest_slab_goes_and_its_frames_with_it(void)
{
    uint64_t random = 1;
    start();
    for (uint64_t i = 1; i <= 20000; i++) {
        append(1 + test_random(&random) % 3000, i);
        while (fws_log_retained(&wire) > 200000) {
            const fws_slab *oldest = fws_log_oldest(&wire);
            uint64_t next = oldest->base_seq + oldest->n;
            fws_log_drop_oldest(&wire);
            CHECK_EQ(wire.first_seq, next);
        }
        CHECK_EQ(logs.bytes, walk_held());
        if (i % 1000 == 0)
            read_all(wire.tail);
    }
    for (int grade = 0; grade < FWS_GRADES; grade++)
        CHECK(logs.n_free[grade] * GRADE_BYTES[grade] <= FWS_POOL_BYTES);
    stop();
}

static void test_a_frame_is_found_with_any_hint(void)
{
    start();
    for (uint64_t i = 1; i <= 3000; i++)
        append(1 + i % (i % 100 == 0 ? 20000 : 90), i);
    while (wire.tail < 3)
        fws_log_drop_oldest(&wire);
    for (uint64_t hint = 0; hint < wire.head + 3; hint++)
        read_all(hint);
    read_all(UINT64_MAX);
    stop();
}

static void test_frames_may_be_counted_and_not_kept(void)
{
    start();
    fws_log_skip(&wire, 70);
    fws_log_skip(&wire, 30);
    CHECK_EQ(wire.first_seq, 2);
    append(10, 3);
    CHECK_EQ(wire.next_seq, 3);
    CHECK_EQ(wire.growing->base_seq, 2);
    CHECK_EQ(wire.growing->base_bytes, 100);
    CHECK_EQ(fws_log_retained(&wire), 10);
    read_all(0);
    stop();
}

static void test_a_cleared_log_goes_on_behind_its_last_frame(void)
{
    start();
    for (uint64_t i = 1; i <= 5000; i++)
        append(1000, i);
    fws_log_clear(&wire);
    CHECK_EQ(logs.bytes, 0);
    CHECK(wire.growing == NULL && fws_log_retained(&wire) == 0);
    CHECK_EQ(wire.first_seq, 5000);
    append(10, 6000);
    CHECK_EQ(wire.next_seq, 5001);
    read_all(0);
    fws_log_restart(&wire, 77);
    append(10, 6001);
    CHECK_EQ(wire.first_seq, 77);
    read_all(0);
    stop();
}

static void test_engine_sequences_far_apart_open_a_slab(void)
{
    start();
    append(10, 5);
    append(10, 5 + (uint64_t)UINT32_MAX);
    CHECK_EQ(wire.head, 1);
    append(10, 6 + (uint64_t)UINT32_MAX);
    CHECK_EQ(wire.head, 2);
    const fws_slab *slab = slab_at(0);
    CHECK_EQ(fws_slab_eseq(slab, 1), 5 + (uint64_t)UINT32_MAX);
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 5), 0);
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 6), 1);
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 5 + (uint64_t)UINT32_MAX), 1);
    CHECK_EQ(fws_slab_frame_eseq(slab, 0, 6 + (uint64_t)UINT32_MAX), 2);
    CHECK_EQ(fws_slab_frame_eseq(slab, 1, 1), 1);
    stop();
}

/* Frames of n bytes, as many as have room in one span, at most `most`. */
static void append_span(uint32_t n, uint32_t most, uint64_t eseq)
{
    CHECK(fws_log_reserve(&wire, n, eseq) != NULL);
    fws_span span = fws_log_span(&wire, eseq);
    uint32_t frames = span.bytes / n;
    frames = frames < span.frames ? frames : span.frames;
    frames = frames < most ? frames : most;
    CHECK(frames >= 1);
    for (uint32_t i = 0; i < frames; i++) {
        uint64_t seq = wire.next_seq + i;
        memset(span.data + i * n, (int)(seq & 0xFF), n);
        memcpy(span.data + i * n, &seq, n < SEQ_BYTES ? n : SEQ_BYTES);
        span.end[i] = span.start + (i + 1) * n;
    }
    fws_log_commit_span(&wire, frames, (size_t)frames * n, eseq);
}

static void test_several_frames_at_once_are_as_if_appended_one_by_one(void)
{
    for (uint32_t n = 1; n <= 100; n += 33) {
        for (uint32_t most = 1; most <= FWS_SLAB_FRAMES; most = most * 5 + 2) {
            start();
            while (wire.head < FWS_GRADES + 2) {
                append_span(n, most, wire.next_seq + 1);
                append(n, wire.next_seq + 1);
            }
            for (uint64_t seq = 0; seq < wire.next_seq; seq++) {
                const fws_slab *slab = fws_log_slab(&wire, seq, wire.head);
                CHECK_EQ(fws_slab_eseq(slab, (uint32_t)(seq - slab->base_seq)), seq + 1);
            }
            for (uint64_t id = 0; id + 1 < wire.head; id++)
                CHECK(slab_at(id)->n == slab_at(id)->max_frames
                      || slab_at(id)->bytes + n > slab_at(id)->max_bytes);
            read_all(0);
            stop();
        }
    }
}

static void test_a_span_ends_where_a_slab_can_say_no_further_engine_sequence(void)
{
    start_grown();
    append(10, 1);
    CHECK_EQ(fws_log_span(&wire, 2).frames, FWS_SLAB_FRAMES - 1);
    CHECK_EQ(fws_log_span(&wire, UINT32_MAX).frames, 2);
    CHECK_EQ(fws_log_span(&wire, 1ULL + UINT32_MAX).frames, 1);
    append_span(10, 100, UINT32_MAX);
    CHECK_EQ(wire.next_seq, 3);
    CHECK_EQ(fws_slab_eseq(slab_at(0), 2), 1ULL + UINT32_MAX);
    CHECK(!fws_log_fits(&wire, 10, 2ULL + UINT32_MAX));
    stop();
}

static void test_bytes_and_sequences_find_their_frame(void)
{
    start();
    const uint32_t ends[] = {1, 4, 10, 11};
    for (uint32_t i = 0; i < 4; i++)
        append(ends[i] - (i == 0 ? 0 : ends[i - 1]), 10 * (i + 1));
    const fws_slab *slab = slab_at(0);
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
    RUN(test_an_empty_log_retains_nothing);
    RUN(test_sizes_out_of_range_are_refused);
    RUN(test_slabs_grow_with_a_burst);
    RUN(test_slabs_grow_with_what_the_log_holds);
    RUN(test_slabs_of_a_log_that_keeps_little_stay_small);
    RUN(test_a_quiet_log_goes_back_to_small_slabs);
    RUN(test_a_frame_gets_a_slab_that_it_fits_into);
    RUN(test_a_slab_is_filled_to_its_last_byte);
    RUN(test_a_frame_that_just_does_not_fit_opens_a_slab);
    RUN(test_a_slab_takes_so_many_frames_and_no_more);
    RUN(test_a_large_frame_has_a_slab_of_its_own);
    RUN(test_a_slab_of_its_own_never_comes_back_as_a_common_one);
    RUN(test_what_is_reserved_need_not_be_used_up);
    RUN(test_a_large_reservation_given_up_leaves_a_legal_log);
    RUN(test_a_reservation_given_up_in_an_empty_log_may_be_dropped);
    RUN(test_the_oldest_slab_goes_and_its_frames_with_it);
    RUN(test_a_frame_is_found_with_any_hint);
    RUN(test_frames_may_be_counted_and_not_kept);
    RUN(test_a_cleared_log_goes_on_behind_its_last_frame);
    RUN(test_engine_sequences_far_apart_open_a_slab);
    RUN(test_several_frames_at_once_are_as_if_appended_one_by_one);
    RUN(test_a_span_ends_where_a_slab_can_say_no_further_engine_sequence);
    RUN(test_bytes_and_sequences_find_their_frame);
    return 0;
}
