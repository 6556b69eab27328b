/* Where a subscription stands: frames that it is not to get, and what becomes of them at a jump, a
 * lap, its end. */
#include "topic_fixture.h"

#define FRAMES 400

/* Publishes one byte, its number, to all but the given connections. */
static void publish_without(fws_conn *first, fws_conn *second)
{
    uint8_t *room, number = (uint8_t)topic->log.next_seq;
    CHECK_EQ(fws_topic_reserve(topic, 1, eseq + 1, &room), FWS_OK);
    if (first != NULL)
        CHECK_EQ(fws_sub_exclude(fws_conn_find_sub(first, topic)), FWS_OK);
    if (second != NULL)
        CHECK_EQ(fws_sub_exclude(fws_conn_find_sub(second, topic)), FWS_OK);
    *room = number;
    fws_topic_commit(topic, 1, ++eseq);
}

static void publish_to_all(void)
{
    publish_without(NULL, NULL);
}

static uint64_t pending(const fws_sub *sub)
{
    uint64_t bytes;
    return fws_sub_pending(sub, &bytes);
}

static const fws_excluded *excluded(const fws_sub *sub)
{
    return sub->extra->excluded;
}

static void test_nobody_else_pays_for_what_one_member_is_not_to_get(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    fws_sub *speaker = fws_topic_join(topic, &conns[0], NULL);
    fws_sub *listener = fws_topic_join(topic, &conns[1], NULL);
    publish_without(&conns[0], NULL);
    CHECK(listener->extra == NULL);
    CHECK_EQ(topic->account.published, 1);
    CHECK_EQ(topics.account.published, 1);
    wake_all(&topics);
    CHECK(!speaker->pending && listener->pending); /* it has no news */
    take(&conns[1], SIZE_MAX);
    CHECK_EQ(delivered(listener), 1);
    CHECK_EQ(fws_sub_snapshot(speaker, 0).published, 0);
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

static void test_consecutive_frames_stand_in_one_run(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    fws_topic_join(topic, &conns[1], NULL);
    for (int i = 0; i < 100; i++)
        publish_without(&conns[0], NULL);
    publish_to_all();
    publish_without(&conns[0], NULL);
    CHECK_EQ(excluded(sub)->n, 2);
    CHECK_EQ(excluded(sub)->total, 101);
    CHECK_EQ(excluded(sub)->ahead, 101);
    CHECK_EQ(fws_sub_skip(sub, 0), 100);
    CHECK_EQ(fws_sub_skip(sub, 99), 100);
    CHECK_EQ(fws_sub_skip(sub, 100), 100);
    CHECK_EQ(fws_sub_skip(sub, 101), 102);
    CHECK_EQ(fws_sub_next_excluded(sub, 0), 0);
    CHECK_EQ(fws_sub_next_excluded(sub, 50), 50);
    CHECK_EQ(fws_sub_next_excluded(sub, 100), 101);
    CHECK_EQ(fws_sub_next_excluded(sub, 102), UINT64_MAX);
    CHECK_EQ(fws_sub_excluded(sub, 0, 102), 101);
    CHECK_EQ(fws_sub_excluded(sub, 40, 60), 20);
    CHECK_EQ(fws_sub_excluded(sub, 99, 101), 1);
    CHECK_EQ(fws_sub_excluded(sub, 100, 101), 0);
    wake_all(&topics);
    CHECK_EQ(sub->seq, 100); /* the first run is passed */
    CHECK_EQ(excluded(sub)->n, 1);
    CHECK_EQ(excluded(sub)->ahead, 1);
    end();
}

static void test_the_questions_agree_with_a_model(void)
{
    static bool model[FRAMES];
    uint64_t random = 13;
    for (int density = 1; density <= 8; density++) {
        begin(FWS_SLOW_CLOSE, 1000, 1000);
        fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
        fws_topic_join(topic, &conns[1], NULL);
        for (int i = 0; i < FRAMES; i++) {
            model[i] = test_random(&random) % 8 < (uint64_t)density;
            publish_without(model[i] ? &conns[0] : NULL, NULL);
        }
        for (uint64_t seq = 0; seq < FRAMES; seq++) {
            uint64_t skip = seq, next = seq, count = 0, to = seq + test_random(&random) % 60;
            to = to < FRAMES ? to : FRAMES;
            while (skip < FRAMES && model[skip])
                skip++;
            while (next < FRAMES && !model[next])
                next++;
            for (uint64_t i = seq; i < to; i++)
                count += model[i];
            CHECK_EQ(fws_sub_skip(sub, seq), skip);
            CHECK(fws_sub_next_excluded(sub, seq) == (next == FRAMES ? UINT64_MAX : next));
            CHECK_EQ(fws_sub_excluded(sub, seq, to), count);
        }
        end();
    }
}

/* Takes what there is for it, at most n bytes, and holds it against what it was to get: frames
 * that were excluded are in no plan. */
static void take_and_compare(fws_conn *conn, const uint8_t *wanted, size_t *at, size_t n)
{
    static fws_plan plan;
    CHECK_EQ(fws_gather(conn, &plan, UINT64_MAX), FWS_OK);
    size_t left = n < plan.bytes ? n : plan.bytes, total = left;
    for (uint32_t i = 0; i < plan.n_iov && left > 0; i++) {
        size_t part = plan.iov[i].iov_len < left ? plan.iov[i].iov_len : left;
        CHECK(memcmp(plan.iov[i].iov_base, wanted + *at, part) == 0);
        *at += part;
        left -= part;
    }
    fws_commit(conn, &plan, total);
    check_account(topic);
}

static void test_every_member_gets_all_but_what_it_is_not_to_get(void)
{
    enum { MEMBERS = 4, ROUNDS = 3000 };
    static uint8_t wanted[MEMBERS][ROUNDS + 1];
    size_t n[MEMBERS] = {0}, got[MEMBERS] = {0};
    uint64_t random = 14;
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    for (int i = 0; i < MEMBERS; i++)
        fws_topic_join(topic, &conns[i], NULL);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t first = test_random(&random) % (MEMBERS + 1);
        uint64_t second = test_random(&random) % (MEMBERS + 1);
        second = first == second ? MEMBERS : second; /* nobody */
        uint8_t number = (uint8_t)topic->log.next_seq;
        publish_without(first == MEMBERS ? NULL : &conns[first],
                        second == MEMBERS ? NULL : &conns[second]);
        for (uint64_t i = 0; i < MEMBERS; i++)
            if (i != first && i != second)
                wanted[i][n[i]++] = number;
        uint64_t which = test_random(&random) % MEMBERS;
        if (round % 3 == 0)
            wake_all(&topics);
        take_and_compare(&conns[which], wanted[which], &got[which], test_random(&random) % 10);
        CHECK_EQ(fws_sub_snapshot(fws_conn_find_sub(&conns[which], topic), 0).published, n[which]);
    }
    wake_all(&topics);
    for (int i = 0; i < MEMBERS; i++) {
        while (fws_conn_pending(&conns[i]))
            take_and_compare(&conns[i], wanted[i], &got[i], SIZE_MAX);
        CHECK_EQ(got[i], n[i]);
        CHECK_EQ(delivered(fws_conn_find_sub(&conns[i], topic)), n[i]);
        CHECK_EQ(excluded(fws_conn_find_sub(&conns[i], topic))->ahead, 0);
    }
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

/* One that gets nothing of a topic for a long time: neither the list nor the log grows. */
static void test_a_member_that_gets_nothing_keeps_nothing(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    fws_topic_join(topic, &conns[1], NULL);
    for (int i = 0; i < 10000; i++) {
        publish_without(&conns[0], i % 2 == 0 ? &conns[1] : NULL);
        deliver(&conns[1], SIZE_MAX);
        CHECK_EQ(excluded(sub)->n, 0);
        CHECK_EQ(sub->seq, topic->log.next_seq);
        CHECK(!sub->pending);
    }
    CHECK_EQ(excluded(sub)->capacity, 2);
    CHECK_EQ(topics.logs.bytes, 0);
    CHECK_EQ(delivered(fws_conn_find_sub(&conns[1], topic)), 5000);
    end();
}

static void test_excluded_frames_are_not_dropped_at_a_jump(void)
{
    for (int newest = 0; newest <= 1; newest++) {
        begin(FWS_SLOW_LATEST, 10, 100000);
        fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
        fws_topic_join(topic, &conns[1], NULL);
        for (int i = 0; i < 30; i++)
            publish_without(i % 3 == 0 ? &conns[0] : NULL, NULL);
        publish_without(newest ? &conns[0] : NULL, NULL);
        wake_all(&topics);
        stall(&conns[0]);
        CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
        CHECK_EQ(sub->dropped, newest ? 19 : 20);
        CHECK_EQ(pending(sub), 1); /* the newest that it is to get */
        check_account(topic);
        publish_to_all();
        check_account(topic);
        while (fws_conn_pending(&conns[0]))
            deliver(&conns[0], SIZE_MAX);
        CHECK_EQ(delivered(sub), 2);
        end();
    }
}

static void test_excluded_frames_do_not_count_as_lag_in_messages(void)
{
    static const fws_topic_options ten = {.retention_bytes = 1000,
                                          .max_lag_bytes = 1000,
                                          .on_slow = FWS_SLOW_LATEST,
                                          .max_lag_messages = 10};
    begin_with(&ten, 0);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    fws_topic_join(topic, &conns[1], NULL);
    for (int i = 0; i < 10; i++)
        publish_to_all();
    wake_all(&topics);
    stall(&conns[0]);
    for (int i = 0; i < 100; i++)
        publish_without(&conns[0], NULL);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 0);
    CHECK_EQ(pending(sub), 10);
    publish_to_all();
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->dropped, 10);
    check_account(topic);
    end();
}

/* It was moved to the head by its policy; then it is lapped there. */
static void test_a_member_that_jumped_to_the_head_may_be_lapped_again(void)
{
    begin(FWS_SLOW_LATEST, 10, 1000);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 30; i++)
        publish_to_all();
    wake_all(&topics);
    stall(&conns[0]);
    for (int i = 0; i < 20000; i++) /* until the log has none of those that it is to get */
        publish_without(&conns[0], NULL);
    CHECK(fws_sub_lapped(sub));
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    CHECK_EQ(sub->seq, topic->log.next_seq);
    CHECK(sub->pending);
    for (int i = 0; i < 20000; i++)
        publish_to_all();
    CHECK(fws_log_retained(&topic->log) <= 1000 + 2 * FWS_SLAB_BYTES);
    check_account(topic);
    CHECK_EQ(fws_sub_apply_policy(sub), FWS_OK);
    check_account(topic);
    CHECK_EQ(pending(sub), 1);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

static void test_excluded_frames_are_not_dropped_when_it_is_lapped(void)
{
    begin(FWS_SLOW_LATEST, 100, 100);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish_to_all();
    wake_all(&topics);
    stall(&conns[0]);
    for (int i = 1; i < 20000; i++)
        publish_without(i % 4 == 0 ? &conns[0] : NULL, NULL);
    CHECK(fws_sub_lapped(sub));
    check_account(topic);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->dropped, 15000);
    CHECK_EQ(delivered(sub), 1);
    end();
}

static void test_excluded_frames_are_not_dropped_at_the_end(void)
{
    for (int woken = 0; woken <= 1; woken++) {
        begin(FWS_SLOW_CLOSE, 1000, 1000);
        fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
        for (int i = 0; i < 30; i++)
            publish_without(i % 3 == 0 ? &conns[0] : NULL, NULL);
        if (woken)
            deliver(&conns[0], 5);
        fws_topic_leave(sub);
        CHECK_EQ(topic->account.dropped, woken ? 15 : 20);
        CHECK_EQ(topic->account.published, 20);
        end();
    }
}

/* The place of a pending member is what keeps a slab, wherever it is moved to. */
static void test_a_member_counts_in_the_slab_of_its_next_frame(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    for (int i = 0; i < 200; i++)
        publish(100);
    wake_all(&topics);
    for (uint64_t seq = 0; seq < 200; seq += 7) {
        fws_sub_move(sub, seq);
        const fws_slab *slab = fws_sub_slab(sub);
        CHECK(seq - slab->base_seq < slab->n);
        CHECK_EQ(slab->readers, 1);
        CHECK_EQ(slab->unoffered, 1);
        CHECK_EQ(fws_sub_eseq(sub), seq + 1);
        check_log(topic);
    }
    stall(&conns[0]);
    CHECK_EQ(fws_sub_slab(sub)->unoffered, 0);
    CHECK_EQ(fws_sub_slab(sub)->readers, 1);
    topic->account.dropped += 196; /* as a policy counts what it passes over */
    topics.account.dropped += 196;
    sub->dropped += 196;
    CHECK_EQ(sub->seq, 196);
    end();
}

int main(void)
{
    RUN(test_nobody_else_pays_for_what_one_member_is_not_to_get);
    RUN(test_consecutive_frames_stand_in_one_run);
    RUN(test_the_questions_agree_with_a_model);
    RUN(test_every_member_gets_all_but_what_it_is_not_to_get);
    RUN(test_a_member_that_gets_nothing_keeps_nothing);
    RUN(test_excluded_frames_are_not_dropped_at_a_jump);
    RUN(test_a_member_that_jumped_to_the_head_may_be_lapped_again);
    RUN(test_excluded_frames_do_not_count_as_lag_in_messages);
    RUN(test_excluded_frames_are_not_dropped_when_it_is_lapped);
    RUN(test_excluded_frames_are_not_dropped_at_the_end);
    RUN(test_a_member_counts_in_the_slab_of_its_next_frame);
    return 0;
}
