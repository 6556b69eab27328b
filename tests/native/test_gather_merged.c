/* Frames of many topics, merged by engine sequence: order, the barrier, pieces that are copied. */
#include "gather_fixture.h"

#define TOPICS 700 /* more than one plan has room for */

static fws_topic *many[TOPICS];
static size_t sizes[1 << 16]; /* of the frame with that engine sequence */

static void begin_many(uint32_t n)
{
    char name[16];
    begin();
    for (uint32_t i = 0; i < n; i++) {
        sprintf(name, "many %u", i);
        many[i] = topic_named(name);
        CHECK(fws_topic_join(many[i], &conn, NULL) != NULL);
    }
}

/* Publishes, and expects it behind everything before. */
static void say(fws_topic *topic, size_t n)
{
    publish(topic, n);
    put(n, eseq);
    sizes[eseq] = n;
}

/* Everything up to that engine sequence, and nothing else. */
static void expect_up_to(uint64_t last)
{
    size_t n = 0;
    for (uint64_t i = 1; i <= last; i++)
        n += sizes[i];
    CHECK_EQ(stream_n, n);
    CHECK(memcmp(stream, expected, n) == 0);
}

static void test_many_topics_leave_in_the_order_of_publishing(void)
{
    const size_t most[] = {1, 40, 900, 2000, 40000}; /* 900: more than is copied together */
    uint64_t random = 8;
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        begin_many(TOPICS);
        for (int k = 0; k < 2000 && expected_n + most[i] < ROOM; k++)
            say(many[test_random(&random) % TOPICS], 1 + test_random(&random) % most[i]);
        take_all();
        expect_stream();
        CHECK_EQ(topics.logs.bytes, 0);
        end();
    }
}

static void test_one_frame_of_each_of_many_topics_leaves_in_order(void)
{
    begin_many(TOPICS);
    for (uint32_t i = TOPICS; i-- > 0;)
        say(many[i], 10);
    take_all();
    expect_stream();
    end();
}

/* Publishing, waking and short writes in any order; what is not woken is behind the barrier, as the
 * engine has it. */
static void test_short_counts_and_barriers_never_change_the_order(void)
{
    uint64_t random = 31;
    for (int round = 0; round < 60; round++) {
        uint32_t n = 1 + (uint32_t)test_random(&random) % 50;
        size_t most = 1 + test_random(&random) % 3000;
        begin_many(n);
        for (int step = 0; step < 300; step++) {
            if (step % 3 > 0)
                say(many[test_random(&random) % n], 1 + test_random(&random) % most);
            else if (test_random(&random) % 4 == 0)
                wake_all(&topics);
            take_before(topics.dirty == NULL ? UINT64_MAX : topics.dirty->dirty_eseq,
                        test_random(&random) % (2 * most));
        }
        take_all();
        expect_stream();
        end();
    }
}

static void test_nothing_from_the_barrier_on_leaves(void)
{
    for (uint32_t n = 1; n <= 7; n += 6) {
        for (uint64_t before = 0; before <= 52; before++) {
            begin_many(n);
            for (int i = 0; i < 50; i++)
                say(many[(uint32_t)i * 5 % n], 20);
            wake_all(&topics);
            take_before(before, SIZE_MAX);
            expect_up_to(before == 0 ? 0 : before > 50 ? 50 : before - 1);
            CHECK(take_before(before, SIZE_MAX) == 0);
            take_all();
            expect_stream();
            end();
        }
    }
}

static void test_direct_messages_wait_for_the_barrier_as_well(void)
{
    begin_many(2);
    say(many[0], 20);
    push(++eseq, FWS_ENTRY_BYTES, 30);
    put(30, 1030);
    say(many[1], 20);
    wake_all(&topics);
    CHECK_EQ(take_before(2, SIZE_MAX), 20);
    CHECK_EQ(take_before(2, SIZE_MAX), 0);
    CHECK_EQ(take_before(3, SIZE_MAX), 30);
    CHECK_EQ(take_before(4, SIZE_MAX), 20);
    expect_stream();
    end();
}

static void test_a_half_sent_message_goes_on_whatever_is_woken_meanwhile(void)
{
    begin_many(2);
    publish(many[0], 20);
    push(++eseq, FWS_ENTRY_BYTES, 30);
    CHECK_EQ(take_before(UINT64_MAX, 11), 30); /* not woken: the message is all that there is */
    take_all();
    put(30, 1030);
    put(20, 1);
    expect_stream();
    end();
}

/* Small pieces stand behind one another in one iovec; larger ones are sent from where they lie. */
static void test_small_pieces_are_copied_together(void)
{
    static fws_plan plan;
    begin_many(2);
    const size_t pieces[] = {10, 1, FWS_COPY_MOST, FWS_COPY_MOST + 1, 30, 40, 2000, 3000, 7};
    const size_t together[] = {11 + FWS_COPY_MOST, FWS_COPY_MOST + 1, 70, 2000, 3000, 7};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        say(many[i % 2], pieces[i]);
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conn, &plan, UINT64_MAX), FWS_OK);
    CHECK_EQ(plan.n_runs, sizeof pieces / sizeof *pieces);
    CHECK_EQ(plan.n_iov, sizeof together / sizeof *together);
    for (uint32_t i = 0; i < plan.n_iov; i++)
        CHECK_EQ(plan.iov[i].iov_len, together[i]);
    CHECK_EQ(plan.copied, 11 + FWS_COPY_MOST + 70 + 7);
    fws_commit(&conn, &plan, 0);
    take_all();
    expect_stream();
    end();
}

static void test_one_subscription_alone_is_never_copied(void)
{
    static fws_plan plan;
    begin_many(1);
    for (int i = 0; i < 300; i++)
        say(many[0], 10);
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conn, &plan, UINT64_MAX), FWS_OK);
    CHECK_EQ(plan.copied, 0);
    CHECK_EQ(plan.n_iov, many[0]->log.head); /* one for each slab */
    fws_commit(&conn, &plan, 0);
    take_all();
    expect_stream();
    end();
}

/* HOSTILE X10: the same merged plan, cut at every byte. */
static void test_a_merged_plan_may_be_cut_at_every_byte(void)
{
    size_t n = 1;
    for (size_t cut = 0; cut <= n; cut++) {
        begin_many(5);
        for (size_t i = 0; i < 40; i++)
            say(many[i * i % 5], i % 13 == 12 ? FWS_COPY_MOST + i : 1 + i % 7);
        push(0, FWS_ENTRY_CONTROL, 3);
        memmove(expected + 3, expected, expected_n);
        fill(expected, 3, 1003);
        expected_n += 3;
        wake_all(&topics);
        n = take_before(UINT64_MAX, cut);
        CHECK_EQ(n, expected_n); /* one plan has all of it */
        take_all();
        expect_stream();
        end();
    }
}

/* A subscription ends between two plans: what is pending of it does not leave, what is half sent
 * does, and the order of the others is kept. */
static void test_who_leaves_while_pending_takes_its_frames_along(void)
{
    for (uint32_t leaver = 0; leaver < 6; leaver++) {
        begin_many(6);
        for (uint32_t i = 0; i < 60; i++) {
            publish(many[i % 6], 20);
            if (i % 6 != leaver || i == leaver)
                put(20, eseq);
        }
        wake_all(&topics);
        take_before(UINT64_MAX, 20 * leaver + 7);
        fws_topic_leave(fws_conn_find_sub(&conn, many[leaver]));
        CHECK_EQ(conn.dropped, 9);
        take_all();
        expect_stream();
        end();
    }
}

/* It jumps while others wait with frames older than the one it jumps to. */
static void test_a_jump_to_the_newest_frame_keeps_the_order(void)
{
    static const fws_topic_options latest = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 100, .on_slow = FWS_SLOW_LATEST};
    begin_many(2);
    CHECK_EQ(fws_topic_set_options(many[0], &latest), FWS_OK);
    for (int i = 0; i < 20; i++)
        publish(many[0], 20);
    say(many[1], 30);
    say(many[0], 20); /* the newest one */
    say(many[1], 30);
    wake_all(&topics);
    for (uint32_t i = 0; i < conn.n_pending; i++)
        fws_sub_refused(conn.heap[i].sub);
    conn.lagging = true;
    take_all();
    expect_stream();
    CHECK_EQ(conn.dropped, 20);
    end();
}

/* Slabs of every size, and frames that have one of their own, in two topics at once. */
static void test_growing_slabs_change_nothing(void)
{
    uint64_t random = 12;
    begin_many(2);
    for (int i = 0; expected_n + 200000 < ROOM; i++)
        say(many[test_random(&random) % 2], i % 100 == 99
                                                ? FWS_SLAB_ALONE + test_random(&random) % 100000
                                                : 1 + test_random(&random) % 500);
    CHECK(many[0]->log.head > 10);
    while (fws_conn_pending(&conn) || topics.dirty != NULL)
        take(test_random(&random) % 300000);
    expect_stream();
    end();
}

int main(void)
{
    RUN(test_many_topics_leave_in_the_order_of_publishing);
    RUN(test_one_frame_of_each_of_many_topics_leaves_in_order);
    RUN(test_short_counts_and_barriers_never_change_the_order);
    RUN(test_nothing_from_the_barrier_on_leaves);
    RUN(test_direct_messages_wait_for_the_barrier_as_well);
    RUN(test_a_half_sent_message_goes_on_whatever_is_woken_meanwhile);
    RUN(test_small_pieces_are_copied_together);
    RUN(test_one_subscription_alone_is_never_copied);
    RUN(test_a_merged_plan_may_be_cut_at_every_byte);
    RUN(test_who_leaves_while_pending_takes_its_frames_along);
    RUN(test_a_jump_to_the_newest_frame_keeps_the_order);
    RUN(test_growing_slabs_change_nothing);
    return 0;
}
