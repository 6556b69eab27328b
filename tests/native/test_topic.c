/* Members of a topic and passes over them, against a plain model. */
#include "topic_fixture.h"

static void block(fws_conn *conn)
{
    conn->blocked = true;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_topic_block(sub);
}

static void unblock(fws_conn *conn)
{
    conn->blocked = false;
    for (fws_sub *sub = conn->subs; sub != NULL; sub = sub->next)
        fws_topic_unblock(sub);
}

/* The model of a pass: who is owed a visit. Whoever leaves or blocks is not any more; whoever
 * joins or unblocks is not either, since the engine flushes it on its own account. */
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
            CHECK(fws_topic_join(&topic, conn) != NULL);
        plain->member[which] = true;
        break;
    case 1:
        if (plain->member[which])
            fws_topic_leave(conn->subs);
        plain->member[which] = plain->owed[which] = false;
        break;
    case 2:
        block(conn);
        plain->owed[which] = false;
        break;
    default:
        unblock(conn);
    }
    check_account(&topic);
}

static void run_pass(model *plain, uint64_t *random)
{
    fws_sub *sub;
    fws_topic_begin_pass(&topic);
    for (int i = 0; i < CONNS; i++)
        plain->owed[i] = plain->member[i] && !conns[i].blocked;
    check_account(&topic);
    while ((sub = fws_topic_next(&topic)) != NULL) {
        CHECK(plain->owed[sub->conn - conns]);
        plain->owed[sub->conn - conns] = false;
        uint64_t what = test_random(random);
        if (what % 8 == 0)
            block(sub->conn);
        else if (what % 8 == 1) {
            plain->member[sub->conn - conns] = false;
            fws_topic_leave(sub);
        }
        for (uint64_t left = test_random(random) % 4; left > 0; left--)
            step(plain, test_random(random));
    }
    for (int i = 0; i < CONNS; i++)
        CHECK(!plain->owed[i]);
}

static void test_a_pass_visits_every_active_member_exactly_once(void)
{
    uint64_t random = 2026;
    for (int round = 0; round < 200; round++) {
        model plain = {0};
        begin(FWS_SLOW_CLOSE, 1000, 1000);
        for (uint64_t i = test_random(&random) % 200; i > 0; i--)
            step(&plain, test_random(&random));
        for (int pass = 0; pass < 10; pass++) {
            publish(10);
            run_pass(&plain, &random);
        }
        end();
    }
}

static void test_the_member_that_starts_rotates(void)
{
    bool first[CONNS] = {false};
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    for (int i = 0; i < CONNS; i++)
        fws_topic_join(&topic, &conns[i]);
    for (int pass = 0; pass < CONNS; pass++) {
        fws_topic_begin_pass(&topic);
        fws_sub *sub = fws_topic_next(&topic);
        CHECK(!first[sub->conn - conns]);
        first[sub->conn - conns] = true;
        for (int i = 1; i < CONNS; i++)
            CHECK(fws_topic_next(&topic) != NULL);
        CHECK(fws_topic_next(&topic) == NULL);
    }
    end();
}

static void test_a_pass_over_nobody_ends_at_once(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    fws_topic_begin_pass(&topic);
    CHECK(fws_topic_next(&topic) == NULL);
    block(&conns[0]);
    fws_topic_join(&topic, &conns[0]);
    fws_topic_begin_pass(&topic);
    CHECK(fws_topic_next(&topic) == NULL);
    end();
}

static void test_a_subscription_starts_behind_the_newest_frame(void)
{
    begin(FWS_SLOW_CLOSE, 1000, 1000);
    publish(10);
    fws_sub *sub = fws_topic_join(&topic, &conns[0]);
    CHECK_EQ(sub->start, 1);
    publish(20);
    uint64_t bytes;
    CHECK_EQ(fws_sub_pending(sub, &bytes), 1);
    CHECK_EQ(bytes, 20);
    deliver(&conns[0], SIZE_MAX);
    CHECK_EQ(sub->delivered, 1);
    end();
}

int main(void)
{
    RUN(test_a_pass_visits_every_active_member_exactly_once);
    RUN(test_the_member_that_starts_rotates);
    RUN(test_a_pass_over_nobody_ends_at_once);
    RUN(test_a_subscription_starts_behind_the_newest_frame);
    return 0;
}
