/* What leaves next, in which order, and what a short count leaves behind. */
#include "gather_fixture.h"

/* Two topics, direct messages and a slab's border, in one order of publishing; with a rest of
 * half a frame in front and control frames that came after it. */
static void scene(void)
{
    begin();
    fws_topic_join(left, &conn, NULL);
    fws_topic_join(right, &conn, NULL);
    publish(left, 40);
    CHECK_EQ(take(11), 11);
    publish(left, 30);
    publish(left, 20);
    push(++eseq, FWS_ENTRY_BYTES, 50);
    publish(right, 10);
    publish(left, 60);
    publish(right, 70);
    publish(left, FWS_SLAB_ALONE + 5);
    publish(left, 8);
    push(++eseq, FWS_ENTRY_BYTES, 9);
    push(0, FWS_ENTRY_CONTROL, 7);
    publish(right, 12);
    push(0, FWS_ENTRY_CONTROL, 6);
}

static void expect_scene(void)
{
    put(40, 1);
    put(7, 1007);
    put(6, 1006);
    put(30, 2);
    put(20, 3);
    put(50, 1050);
    put(10, 5);
    put(60, 6);
    put(70, 7);
    put(FWS_SLAB_ALONE + 5, 8);
    put(8, 9);
    put(9, 1009);
    put(12, 11);
}

static void test_everything_leaves_in_the_order_of_publishing(void)
{
    scene();
    expect_scene();
    take_all();
    expect_stream();
    CHECK_EQ(left->account.delivered, 6);
    CHECK_EQ(right->account.delivered, 3);
    CHECK_EQ(topics.logs.bytes, 0);
    CHECK_EQ(conn.bytes_written, expected_n);
    end();
}

/* HOSTILE X10 */
static void test_every_short_count_keeps_the_stream(void)
{
    scene();
    size_t n = 0;
    for (;;) {
        size_t planned = take(SIZE_MAX);
        if (planned == 0)
            break;
        n += planned;
    }
    end();
    for (size_t cut = 0; cut <= n; cut++) {
        scene();
        expect_scene();
        CHECK_EQ(take(cut), cut);
        CHECK(conn.partial.data == NULL || conn.partial.n <= FWS_PARTIAL_COPY
              || conn.partial.pinned != NULL);
        take_all();
        expect_stream();
        end();
    }
}

static void test_many_short_counts_keep_the_stream(void)
{
    uint64_t random = 42;
    for (int round = 0; round < 300; round++) {
        scene();
        expect_scene();
        size_t most = 1 + test_random(&random) % 400;
        while (fws_conn_pending(&conn))
            take(test_random(&random) % (most + 1));
        expect_stream();
        end();
    }
}

static void test_a_control_frame_never_cuts_a_frame(void)
{
    for (size_t cut = 0; cut <= 100; cut++) {
        begin();
        fws_topic_join(left, &conn, NULL);
        publish(left, 50);
        publish(left, 50);
        take(cut);
        CHECK_EQ(conn.partial.data != NULL, cut % 50 != 0);
        push(0, FWS_ENTRY_CONTROL, 7);
        take_all();
        size_t whole = (cut + 49) / 50;
        for (size_t i = 0; i < whole; i++)
            put(50, i + 1);
        put(7, 1007);
        for (size_t i = whole; i < 2; i++)
            put(50, i + 1);
        expect_stream();
        end();
    }
}

static void test_a_direct_message_half_sent_is_not_cut_either(void)
{
    for (size_t cut = 1; cut < 50; cut++) {
        begin();
        push(++eseq, FWS_ENTRY_BYTES, 50);
        push(++eseq, FWS_ENTRY_BYTES, 51);
        take(cut);
        push(0, FWS_ENTRY_CONTROL, 7);
        take_all();
        put(50, 1050);
        put(7, 1007);
        put(51, 1051);
        expect_stream();
        end();
    }
}

/* HOSTILE X25 */
static void test_nothing_leaves_after_a_close(void)
{
    for (size_t cut = 0; cut <= 30 + 20 + 4; cut++) {
        begin();
        fws_topic_join(left, &conn, NULL);
        publish(left, 30);
        push(++eseq, FWS_ENTRY_BYTES, 20);
        push(++eseq, FWS_ENTRY_CLOSE, 4);
        publish(left, 10);
        take(cut);
        publish(left, 10);
        take_all();
        put(30, 1);
        put(20, 1020);
        put(4, 1004);
        expect_stream();
        CHECK(conn.close_sent);
        CHECK_EQ(fws_topic_snapshot(left).pending, 2);
        end();
        CHECK_EQ(conn.dropped, 2);
    }
}

static void test_a_half_sent_frame_outlives_its_subscription(void)
{
    for (size_t cut = 0; cut <= 60; cut++) {
        begin();
        fws_sub *sub = fws_topic_join(left, &conn, NULL);
        publish(left, 30);
        publish(left, 30);
        take(cut);
        fws_topic_leave(sub);
        check_account(left);
        CHECK_EQ(fws_topic_snapshot(left).pending, cut % 30 != 0);
        sub = fws_topic_join(left, &conn, NULL);
        publish(left, 5);
        take_all();
        for (size_t i = 0; i < (cut + 29) / 30; i++)
            put(30, i + 1);
        put(5, 3);
        expect_stream();
        CHECK_EQ(left->account.delivered, (cut + 29) / 30 + 1);
        CHECK_EQ(left->account.dropped, 2 - (cut + 29) / 30);
        CHECK_EQ(fws_sub_snapshot(sub, 0).delivered, 1);
        CHECK_EQ(left->refs, 1); /* the subscription that has left is freed */
        end();
    }
}

static void test_death_drops_what_is_half_sent(void)
{
    for (size_t cut = 0; cut <= 60; cut++) {
        begin();
        fws_topic_join(left, &conn, NULL);
        publish(left, 30);
        publish(left, 30);
        take(cut);
        end();
        CHECK_EQ(conn.delivered, cut / 30);
        CHECK_EQ(conn.dropped, 2 - cut / 30);
    }
}

static void test_a_small_rest_pins_nothing(void)
{
    begin();
    left->log.grade = FWS_GRADES - 1; /* one slab for all of it */
    fws_topic_join(left, &conn, NULL);
    publish(left, 8000);
    publish(left, FWS_SLAB_ALONE);
    publish(left, 1);
    const fws_slab *slab = left->log.growing;
    take(1);
    CHECK(conn.partial.pinned == NULL);
    take(7999 + 1);
    CHECK_EQ(conn.partial.n, FWS_SLAB_ALONE - 1);
    CHECK(conn.partial.pinned == NULL); /* others' frames lie there */
    CHECK_EQ(slab->pins, 0);
    end();
}

/* HOSTILE X64 */
static void test_a_large_rest_pins_its_slab_and_no_other(void)
{
    begin();
    fws_topic_join(left, &conn, NULL);
    publish(left, 100000);
    fws_slab *slab = left->log.growing;
    take(1000);
    CHECK(conn.partial.pinned == slab);
    publish(left, 50000);
    CHECK(slab->retired); /* it has left the log, nobody else needs it */
    CHECK_EQ(left->log.first_seq, 1);
    put(100000, 1);
    CHECK_EQ(take(99000), 99000);
    CHECK(conn.partial.data == NULL);
    expect_stream();
    end();
    begin();
    fws_topic_join(left, &conn, NULL);
    publish(left, 100000);
    slab = left->log.growing;
    take(100000 - FWS_PARTIAL_COPY);
    CHECK(conn.partial.pinned == NULL && conn.partial.n == FWS_PARTIAL_COPY);
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

/* HOSTILE X16 */
static void test_a_plan_is_bounded_in_bytes_runs_and_pieces(void)
{
    static fws_plan plan;
    begin();
    fws_topic_join(left, &conn, NULL);
    for (int i = 0; i < 600; i++)
        publish(left, 1000);
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conn, &plan, UINT64_MAX), FWS_OK);
    CHECK(plan.bytes <= FWS_PLAN_BYTES && plan.bytes > FWS_PLAN_BYTES - 1000);
    fws_commit(&conn, &plan, 0);
    fws_topic_join(right, &conn, NULL);
    take_all();
    for (int i = 0; i < 1000; i++)
        publish(i % 2 == 0 ? left : right, 10);
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conn, &plan, UINT64_MAX), FWS_OK);
    CHECK_EQ(plan.n_runs, FWS_PLAN_RUNS);
    CHECK_EQ(plan.n_iov, 1);
    CHECK_EQ(plan.bytes, 10 * FWS_PLAN_RUNS);
    fws_commit(&conn, &plan, plan.bytes);
    take_all();
    for (int i = 0; i < 200; i++)
        publish(i % 2 == 0 ? left : right, FWS_COPY_MOST + 1);
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conn, &plan, UINT64_MAX), FWS_OK);
    CHECK_EQ(plan.n_iov, FWS_PLAN_IOV);
    CHECK_EQ(plan.bytes, FWS_PLAN_IOV * (FWS_COPY_MOST + 1));
    CHECK_EQ(plan.copied, 0);
    fws_commit(&conn, &plan, 0);
    end();
}

static void test_a_frame_larger_than_a_plan_leaves_alone(void)
{
    for (int topics_n = 1; topics_n <= 2; topics_n++) {
        begin();
        fws_topic_join(left, &conn, NULL);
        if (topics_n == 2)
            fws_topic_join(right, &conn, NULL);
        publish(left, 100);
        publish(topics_n == 2 ? right : left, FWS_PLAN_BYTES + 1);
        publish(left, 100);
        CHECK_EQ(take(SIZE_MAX), 100);
        CHECK_EQ(take(SIZE_MAX), FWS_PLAN_BYTES + 1);
        CHECK_EQ(take(SIZE_MAX), 100);
        put(100, 1);
        put(FWS_PLAN_BYTES + 1, 2);
        put(100, 3);
        expect_stream();
        end();
    }
}

static void test_a_plan_that_nothing_was_taken_of_changes_nothing(void)
{
    static fws_plan first, second;
    scene();
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conn, &first, UINT64_MAX), FWS_OK);
    fws_commit(&conn, &first, 0);
    check_topics();
    CHECK_EQ(fws_gather(&conn, &second, UINT64_MAX), FWS_OK);
    CHECK_EQ(first.n_runs, second.n_runs);
    CHECK_EQ(first.n_iov, second.n_iov);
    CHECK_EQ(first.bytes, second.bytes);
    CHECK_EQ(first.copied, second.copied);
    CHECK(memcmp(first.copy, second.copy, first.copied) == 0);
    fws_commit(&conn, &second, 0);
    expect_scene();
    take_all();
    expect_stream();
    end();
}

int main(void)
{
    RUN(test_everything_leaves_in_the_order_of_publishing);
    RUN(test_every_short_count_keeps_the_stream);
    RUN(test_many_short_counts_keep_the_stream);
    RUN(test_a_control_frame_never_cuts_a_frame);
    RUN(test_a_direct_message_half_sent_is_not_cut_either);
    RUN(test_nothing_leaves_after_a_close);
    RUN(test_a_half_sent_frame_outlives_its_subscription);
    RUN(test_death_drops_what_is_half_sent);
    RUN(test_a_small_rest_pins_nothing);
    RUN(test_a_large_rest_pins_its_slab_and_no_other);
    RUN(test_a_plan_is_bounded_in_bytes_runs_and_pieces);
    RUN(test_a_frame_larger_than_a_plan_leaves_alone);
    RUN(test_a_plan_that_nothing_was_taken_of_changes_nothing);
    return 0;
}
