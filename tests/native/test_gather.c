/* What leaves next, in which order, and what a short count leaves behind. */
#include "conn_fixture.h"

#define ROOM (1u << 21)

static const fws_topic_options WIDE = {1ULL << 40, 1ULL << 40, FWS_SLOW_CLOSE};

static fws_pool pool;
static fws_topic left, right;
static fws_conn conn;
static uint64_t eseq;
static uint8_t stream[ROOM], expected[ROOM];
static size_t stream_n, expected_n;

static void begin(void)
{
    pool = (fws_pool){0};
    conn = (fws_conn){0};
    eseq = 0;
    stream_n = expected_n = 0;
    fws_topic_init(&left, &pool, &WIDE);
    fws_topic_init(&right, &pool, &WIDE);
}

static void end(void)
{
    check_account(&left);
    check_account(&right);
    strip(&conn);
    check_account(&left);
    CHECK_EQ(left.partial_frames + right.partial_frames, 0);
    fws_topic_clear(&left);
    fws_topic_clear(&right);
    fws_pool_clear(&pool);
}

static void fill(uint8_t *frame, size_t n, uint64_t number)
{
    for (size_t i = 0; i < n; i++)
        frame[i] = (uint8_t)(number * 31 + i);
}

static void publish(fws_topic *topic, size_t n)
{
    static uint8_t frame[1 << 20];
    fill(frame, n, ++eseq);
    append_frame(topic, frame, n, eseq);
}

static void push(uint64_t at, enum fws_entry_kind kind, size_t n)
{
    uint8_t data[256];
    fill(data, n, 1000 + n);
    CHECK(fws_outbox_push(&conn.outbox, at, kind, 0, data, n, NULL, 0) != NULL);
}

/* What the plan says, taken up to n bytes: appended to the stream and committed. */
static size_t take(size_t n)
{
    static fws_plan plan;
    fws_gather(&conn, &plan);
    size_t total = 0;
    for (uint32_t i = 0; i < plan.n; i++) {
        CHECK_EQ(plan.iov[i].iov_len, plan.runs[i].bytes);
        CHECK(plan.iov[i].iov_len > 0);
        size_t part = plan.iov[i].iov_len < n - total ? plan.iov[i].iov_len : n - total;
        memcpy(stream + stream_n, plan.iov[i].iov_base, part);
        stream_n += part;
        total += part;
    }
    CHECK(total == n || total == plan.bytes);
    fws_commit(&conn, &plan, total);
    check_account(&left);
    check_account(&right);
    return total;
}

static void take_all(void)
{
    while (fws_conn_pending(&conn))
        CHECK(take(SIZE_MAX) > 0);
    CHECK(take(SIZE_MAX) == 0);
}

static void expect_stream(void)
{
    CHECK_EQ(stream_n, expected_n);
    CHECK(memcmp(stream, expected, stream_n) == 0);
}

/* Two topics, direct messages and a slab's border, in one order of publishing; with a rest of
 * half a frame in front and control frames that came after it. */
static void scene(void)
{
    begin();
    fws_topic_join(&left, &conn);
    fws_topic_join(&right, &conn);
    publish(&left, 40);
    CHECK_EQ(take(11), 11);
    publish(&left, 30);
    publish(&left, 20);
    push(++eseq, FWS_ENTRY_BYTES, 50);
    publish(&right, 10);
    publish(&left, 60);
    publish(&right, 70);
    publish(&left, FWS_SLAB_ALONE + 5);
    publish(&left, 8);
    push(++eseq, FWS_ENTRY_BYTES, 9);
    push(0, FWS_ENTRY_CONTROL, 7);
    publish(&right, 12);
    push(0, FWS_ENTRY_CONTROL, 6);
}

static void put(size_t n, uint64_t number)
{
    fill(expected + expected_n, n, number);
    expected_n += n;
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
    CHECK_EQ(left.delivered, 6);
    CHECK_EQ(right.delivered, 3);
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
        fws_topic_join(&left, &conn);
        publish(&left, 50);
        publish(&left, 50);
        take(cut);
        CHECK_EQ(left.partial_frames, cut % 50 != 0);
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
        fws_topic_join(&left, &conn);
        publish(&left, 30);
        push(++eseq, FWS_ENTRY_BYTES, 20);
        push(++eseq, FWS_ENTRY_CLOSE, 4);
        publish(&left, 10);
        take(cut);
        publish(&left, 10);
        take_all();
        put(30, 1);
        put(20, 1020);
        put(4, 1004);
        expect_stream();
        CHECK(conn.close_sent);
        CHECK_EQ(fws_topic_pending(&left), 2);
        end();
        CHECK_EQ(left.dropped, 2);
    }
}

static void test_a_half_sent_frame_outlives_its_subscription(void)
{
    for (size_t cut = 0; cut <= 60; cut++) {
        begin();
        fws_sub *sub = fws_topic_join(&left, &conn);
        publish(&left, 30);
        publish(&left, 30);
        take(cut);
        fws_topic_leave(sub);
        check_account(&left);
        CHECK_EQ(left.partial_frames, cut % 30 != 0);
        sub = fws_topic_join(&left, &conn);
        publish(&left, 5);
        take_all();
        for (size_t i = 0; i < (cut + 29) / 30; i++)
            put(30, i + 1);
        put(5, 3);
        expect_stream();
        CHECK_EQ(left.delivered, (cut + 29) / 30 + 1);
        CHECK_EQ(left.dropped, 2 - (cut + 29) / 30);
        CHECK_EQ(sub->delivered, 1);
        end();
    }
}

static void test_death_drops_what_is_half_sent(void)
{
    for (size_t cut = 0; cut <= 60; cut++) {
        begin();
        fws_topic_join(&left, &conn);
        publish(&left, 30);
        publish(&left, 30);
        take(cut);
        end();
        CHECK_EQ(left.delivered, cut / 30);
        CHECK_EQ(left.dropped, 2 - cut / 30);
    }
}

static void test_a_small_rest_pins_nothing(void)
{
    begin();
    fws_topic_join(&left, &conn);
    publish(&left, 8000);
    publish(&left, FWS_SLAB_ALONE);
    const fws_slab *slab = left.log.ring[0];
    take(1);
    CHECK(conn.partial.pinned == NULL);
    take(7999 + 1);
    CHECK_EQ(conn.partial.n, FWS_SLAB_ALONE - 1);
    CHECK(conn.partial.pinned == NULL); /* others' frames lie there */
    CHECK_EQ(slab->pins, 0);
    end();
}

/* HOSTILE X64 */
static void test_a_large_rest_holds_its_slab_and_no_other(void)
{
    begin();
    left.log.retention_bytes = 0;
    fws_topic_join(&left, &conn);
    publish(&left, 100000);
    fws_slab *slab = left.log.ring[0];
    take(1000);
    CHECK(conn.partial.pinned == slab);
    for (int i = 0; i < 10; i++)
        publish(&right, 100000);
    publish(&left, 50000);
    publish(&left, 60000);
    CHECK(slab->retired);
    put(100000, 1);
    CHECK_EQ(take(99000), 99000);
    CHECK(conn.partial.data == NULL);
    expect_stream();
    end();
    begin();
    fws_topic_join(&left, &conn);
    publish(&left, 100000);
    take(100000 - FWS_PARTIAL_COPY);
    CHECK(conn.partial.pinned == NULL && conn.partial.n == FWS_PARTIAL_COPY);
    CHECK_EQ(left.log.ring[0]->pins, 0);
    end();
}

/* HOSTILE X16 */
static void test_a_plan_is_bounded_in_bytes_and_runs(void)
{
    static fws_plan plan;
    begin();
    fws_topic_join(&left, &conn);
    for (int i = 0; i < 600; i++)
        publish(&left, 1000);
    fws_gather(&conn, &plan);
    CHECK(plan.bytes <= FWS_PLAN_BYTES && plan.bytes > FWS_PLAN_BYTES - 1000);
    fws_topic_join(&right, &conn);
    take_all();
    for (int i = 0; i < 100; i++)
        publish(i % 2 == 0 ? &left : &right, 10);
    fws_gather(&conn, &plan);
    CHECK_EQ(plan.n, FWS_PLAN_RUNS);
    CHECK_EQ(plan.bytes, 10 * FWS_PLAN_RUNS);
    end();
}

static void test_a_frame_larger_than_a_plan_leaves_alone(void)
{
    static fws_plan plan;
    begin();
    fws_topic_join(&left, &conn);
    publish(&left, 100);
    publish(&left, FWS_PLAN_BYTES + 1);
    publish(&left, 100);
    fws_gather(&conn, &plan);
    CHECK_EQ(plan.bytes, 100);
    CHECK_EQ(take(SIZE_MAX), 100);
    CHECK_EQ(take(SIZE_MAX), FWS_PLAN_BYTES + 1);
    CHECK_EQ(take(SIZE_MAX), 100);
    end();
}

static void test_gathering_changes_nothing(void)
{
    static fws_plan first, second;
    scene();
    fws_gather(&conn, &first);
    fws_gather(&conn, &second);
    CHECK_EQ(first.n, second.n);
    CHECK(memcmp(first.iov, second.iov, first.n * sizeof *first.iov) == 0);
    fws_commit(&conn, &second, 0);
    fws_gather(&conn, &second);
    CHECK(memcmp(first.iov, second.iov, first.n * sizeof *first.iov) == 0);
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
    RUN(test_a_large_rest_holds_its_slab_and_no_other);
    RUN(test_a_plan_is_bounded_in_bytes_and_runs);
    RUN(test_a_frame_larger_than_a_plan_leaves_alone);
    RUN(test_gathering_changes_nothing);
    return 0;
}
