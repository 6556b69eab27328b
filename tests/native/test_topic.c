/* Members of a topic and the wake over them, against a plain model. */
#include "topic_fixture.h"

/* The model of a wake: members that are owed news. Whoever leaves is not any more; whoever joins
 * is not either, since it starts behind the newest frame. */
typedef struct model {
    bool member[CONNS], owed[CONNS];
} model;

static void step(model *plain, uint64_t random)
{
    uint32_t which = (uint32_t)(random >> 8) % CONNS;
    fws_conn *conn = &conns[which];
    switch (random % 4) {
    case 0:
        if (!plain->member[which])
            CHECK(fws_topic_join(topic, conn, NULL) != NULL);
        plain->member[which] = true;
        break;
    case 1:
        if (plain->member[which])
            fws_topic_leave(fws_conn_find_sub(conn, topic));
        plain->member[which] = plain->owed[which] = false;
        break;
    case 2:
        publish(10); /* the next wake's */
        break;
    default:
        take(conn, random >> 32);
    }
    check_account(topic);
}

static bool caught_up(const fws_conn *conn)
{
    const fws_sub *sub = fws_conn_find_sub(conn, topic);
    return sub != NULL && !sub->pending;
}

/* A wake as the engine makes it, with everything that may happen between two steps of it. */
static void run_wake(model *plain, uint64_t *random)
{
    fws_sub *sub;
    if (topics.dirty == NULL)
        return;
    topics.dirty = NULL;
    topics.dirty_end = &topics.dirty;
    topic->dirty = false;
    topics.waking = topic;
    fws_topic_begin_wake(topic);
    for (int i = 0; i < CONNS; i++)
        plain->owed[i] = caught_up(&conns[i]) && walk_pending(fws_conn_find_sub(&conns[i], topic));
    check_account(topic);
    while ((sub = fws_topic_wake(topic)) != NULL) {
        CHECK(sub->pending && plain->owed[sub->conn - conns]);
        plain->owed[sub->conn - conns] = false;
        for (uint64_t left = test_random(random) % 4; left > 0; left--)
            step(plain, test_random(random));
    }
    topics.waking = NULL;
    for (int i = 0; i < CONNS; i++)
        CHECK(!plain->owed[i]);
    check_account(topic);
}

static void test_a_wake_finds_every_member_that_has_news_exactly_once(void)
{
    uint64_t random = 2026;
    for (int round = 0; round < 200; round++) {
        model plain = {0};
        begin(FWS_SLOW_CLOSE, 1000, 1000);
        for (uint64_t i = test_random(&random) % 200; i > 0; i--)
            step(&plain, test_random(&random));
        for (int wake = 0; wake < 10; wake++) {
            publish(10);
            run_wake(&plain, &random);
        }
        end();
    }
}

/* The order of what one connection gets needs that: nothing that a wake has not reached may leave
 * before it. */
static void test_a_wake_says_which_frame_it_began_with(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    fws_topic_join(topic, &conns[0], NULL);
    publish(10);
    publish(10);
    CHECK(topics.dirty == topic && topic->next_dirty == NULL);
    CHECK_EQ(topic->dirty_eseq, 1);
    fws_topic_begin_wake(topic);
    CHECK_EQ(topic->wake_eseq, 1);
    wake_all(&topics);
    CHECK_EQ(topic->woken, 2);
    publish(10);
    CHECK(topics.dirty == NULL); /* its only member is pending */
    take(&conns[0], SIZE_MAX);
    publish(10);
    CHECK_EQ(topic->dirty_eseq, 4);
    end();
}

static void test_a_wake_of_nobody_ends_at_once(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    publish(10);
    CHECK(topics.dirty == NULL);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(10);
    fws_topic_leave(sub);
    CHECK(topics.dirty == topic);
    fws_topic_begin_wake(topic);
    CHECK(fws_topic_wake(topic) == NULL);
    CHECK_EQ(topic->woken, 2);
    end();
}

static void test_a_subscription_starts_behind_the_newest_frame(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    publish(10);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    CHECK_EQ(sub->start, 1);
    publish(20);
    uint64_t bytes;
    CHECK_EQ(fws_sub_pending(sub, &bytes), 1);
    CHECK_EQ(bytes, 20);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(fws_sub_snapshot(sub, 0).delivered, 1);
    CHECK_EQ(fws_sub_snapshot(sub, 0).published, 1);
    end();
}

static void test_a_member_that_joins_between_a_publish_and_its_wake_gets_nothing_of_it(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    fws_topic_join(topic, &conns[0], NULL);
    publish(10);
    fws_sub *late = fws_topic_join(topic, &conns[1], NULL);
    wake_all(&topics);
    CHECK(!late->pending && fws_conn_find_sub(&conns[0], topic)->pending);
    end();
}

/* DESIGN 5: 10,000 stalled members cost a publish nothing. */
static void test_pending_members_are_not_woken_again(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    for (int i = 0; i < CONNS; i++)
        fws_topic_join(topic, &conns[i], NULL);
    publish(10);
    wake_all(&topics);
    deliver(&conns[7], SIZE_MAX);
    publish(10);
    fws_topic_begin_wake(topic);
    CHECK_EQ(topic->to_wake, 1);
    CHECK(fws_topic_wake(topic)->conn == &conns[7]);
    CHECK(fws_topic_wake(topic) == NULL);
    end();
}

static void test_what_everybody_has_is_let_go(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    publish(10);
    CHECK(fws_log_oldest(&topic->log) == NULL); /* nobody to keep it for */
    for (int i = 0; i < 3; i++)
        fws_topic_join(topic, &conns[i], NULL);
    for (int i = 0; i < 1000; i++)
        publish(100);
    CHECK_EQ(fws_log_retained(&topic->log), 100000);
    deliver(&conns[0], SIZE_MAX);
    deliver(&conns[1], SIZE_MAX);
    CHECK_EQ(fws_log_retained(&topic->log), 100000);
    deliver(&conns[2], 50000);
    CHECK(fws_log_retained(&topic->log) < 50000 + FWS_SLAB_BYTES);
    deliver(&conns[2], SIZE_MAX);
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

static void test_a_member_that_leaves_lets_go_of_what_it_kept(void)
{
    begin(FWS_SLOW_CLOSE, 1 << 20, 1 << 20);
    for (int i = 0; i < 2; i++)
        fws_topic_join(topic, &conns[i], NULL);
    for (int i = 0; i < 1000; i++)
        publish(100);
    deliver(&conns[0], SIZE_MAX);
    fws_topic_leave(fws_conn_find_sub(&conns[1], topic));
    CHECK_EQ(topics.logs.bytes, 0);
    end();
}

/* A connection, or a topic, has half a thousand subscriptions, and all of them leave, in any
 * order. */
static void test_members_come_and_go_in_any_order(void)
{
    uint64_t random = 17;
    begin(FWS_SLOW_LATEST, 1000, 1000);
    for (int round = 0; round < 3000; round++) {
        fws_conn *conn = &conns[test_random(&random) % CONNS];
        fws_sub *sub = fws_conn_find_sub(conn, topic);
        if (sub == NULL)
            CHECK(fws_topic_join(topic, conn, NULL) != NULL);
        else
            fws_topic_leave(sub);
        if (round % 3 == 0)
            publish(1 + test_random(&random) % 50);
        if (round % 5 == 0)
            deliver(conn, test_random(&random) % 200);
        check_account(topic);
    }
    end();
}

int main(void)
{
    RUN(test_a_wake_finds_every_member_that_has_news_exactly_once);
    RUN(test_a_wake_says_which_frame_it_began_with);
    RUN(test_a_wake_of_nobody_ends_at_once);
    RUN(test_a_subscription_starts_behind_the_newest_frame);
    RUN(test_a_member_that_joins_between_a_publish_and_its_wake_gets_nothing_of_it);
    RUN(test_pending_members_are_not_woken_again);
    RUN(test_what_everybody_has_is_let_go);
    RUN(test_a_member_that_leaves_lets_go_of_what_it_kept);
    RUN(test_members_come_and_go_in_any_order);
    return 0;
}
