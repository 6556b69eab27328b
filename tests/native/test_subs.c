/* The subscriptions of one connection: a table by topic and a heap of those that have news. */
#include "conn_fixture.h"

#define TOPICS 5000

static const fws_topic_options WIDE = {.retention_bytes = 1ULL << 40, .max_lag_bytes = 1ULL << 40};

static fws_topics topics;
static fws_topic *all[TOPICS];
static fws_conn conn;
static uint64_t eseq;

static void begin(uint32_t n)
{
    char name[16];
    conn = (fws_conn){0};
    eseq = 0;
    fws_topics_init(&topics, NULL, 0, 7);
    for (uint32_t i = 0; i < n; i++) {
        size_t length = (size_t)sprintf(name, "%u", i);
        all[i] = fws_topics_get(&topics, name, length, &WIDE);
        CHECK(all[i] != NULL);
        all[i]->configured = true;
    }
}

static void end(void)
{
    strip(&conn);
    CHECK(conn.subs == NULL && conn.heap == NULL);
    CHECK_EQ(topics.account.published, topics.account.delivered + topics.account.dropped);
    fws_topics_clear(&topics);
}

static fws_sub *join(fws_topic *topic)
{
    fws_sub *sub = fws_topic_join(topic, &conn, NULL);
    CHECK(sub != NULL);
    return sub;
}

static void publish(fws_topic *topic)
{
    append_frame(topic, "0123456789", 10, ++eseq);
}

static void take(size_t n)
{
    static fws_plan plan;
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conn, &plan, UINT64_MAX), FWS_OK);
    fws_commit(&conn, &plan, n < plan.bytes ? n : plan.bytes);
}

/* Nobody's engine sequence is less than its parent's; those that have left are counted; there is
 * room for all who may still come. */
static void check_heap(void)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < conn.n_pending; i++) {
        const fws_sub *sub = conn.heap[i].sub;
        CHECK(i == 0 || conn.heap[(i - 1) / 2].eseq <= conn.heap[i].eseq);
        CHECK(sub->pending && sub->conn == &conn);
        left += sub->left;
    }
    CHECK_EQ(left, conn.n_left);
    CHECK(left <= conn.n_pending / 2);
    CHECK(conn.n_subs + conn.n_left <= conn.capacity_pending || conn.n_subs == 0);
}

static void test_a_connection_without_subscriptions_finds_none(void)
{
    begin(1);
    CHECK(fws_conn_find_sub(&conn, all[0]) == NULL);
    CHECK(conn.subs == NULL && conn.heap == NULL);
    end();
}

/* Most connections have one: it costs no table and no heap. */
static void test_one_subscription_needs_no_memory_of_its_own(void)
{
    begin(2);
    fws_sub *sub = join(all[0]);
    CHECK(conn.subs == &conn.one_sub && conn.heap == &conn.one_pending);
    CHECK(fws_conn_find_sub(&conn, all[0]) == sub);
    CHECK(fws_conn_find_sub(&conn, all[1]) == NULL);
    fws_topic_leave(sub);
    CHECK(fws_conn_find_sub(&conn, all[0]) == NULL);
    join(all[1]);
    CHECK(conn.subs == &conn.one_sub);
    publish(all[1]);
    wake_all(&topics);
    CHECK_EQ(conn.n_pending, 1);
    check_heap();
    join(all[0]); /* while the one is pending: both move */
    CHECK(conn.subs != &conn.one_sub && conn.heap != &conn.one_pending);
    check_heap();
    publish(all[0]);
    wake_all(&topics);
    check_heap();
    take(SIZE_MAX);
    CHECK_EQ(conn.delivered, 2);
    end();
}

static void test_thousands_are_added_found_and_removed_as_in_a_model(void)
{
    static fws_sub *model[TOPICS];
    uint64_t random = 9;
    begin(TOPICS);
    memset(model, 0, sizeof model);
    uint32_t count = 0;
    for (int i = 0; i < 60000; i++) {
        uint32_t which = (uint32_t)test_random(&random) % TOPICS;
        bool grows = i / 20000 != 1; /* up, down, up again */
        if (model[which] == NULL && (grows || i % 4 == 0)) {
            model[which] = join(all[which]);
            count++;
        } else if (model[which] != NULL && (!grows || i % 4 == 0)) {
            fws_topic_leave(model[which]);
            model[which] = NULL;
            count--;
        }
        CHECK_EQ(conn.n_subs, count);
        CHECK(count <= 1 || count <= conn.capacity_subs / 4 * 3);
        for (int k = 0; k < 5; k++) {
            uint32_t asked = (uint32_t)test_random(&random) % TOPICS;
            CHECK(fws_conn_find_sub(&conn, all[asked]) == model[asked]);
        }
    }
    for (uint32_t i = 0; i < TOPICS; i++)
        CHECK(fws_conn_find_sub(&conn, all[i]) == model[i]);
    end();
}

static void test_the_heap_gives_the_earliest_first(void)
{
    uint64_t random = 10;
    for (uint32_t n = 1; n < 600; n = n * 2 + 1) {
        begin(n);
        for (uint32_t i = 0; i < n; i++)
            join(all[i]);
        for (uint32_t i = 0; i < n; i++)
            fws_conn_push(&conn, fws_conn_find_sub(&conn, all[i]), test_random(&random) % 300);
        check_heap();
        uint64_t last = 0;
        while (conn.n_pending > 0) {
            fws_next next = fws_conn_pop(&conn);
            CHECK(next.eseq >= last && !next.sub->pending);
            last = next.eseq;
            check_heap();
        }
        end();
    }
}

static void test_the_heap_is_one_again_after_it_was_thinned(void)
{
    enum { N = 200 };
    uint64_t random = 12;
    for (int round = 0; round < 20; round++) {
        begin(N);
        for (uint32_t i = 0; i < N; i++)
            join(all[i]);
        for (int i = 0; i < 3 * N; i++)
            publish(all[test_random(&random) % N]);
        wake_all(&topics);
        for (uint32_t i = 0; i < N; i++) { /* in any order, as if some had been sent to */
            uint32_t other = (uint32_t)test_random(&random) % conn.n_pending;
            fws_next next = fws_conn_pop(&conn);
            fws_conn_push(&conn, next.sub, next.eseq + other);
        }
        while (conn.n_subs > 0) {
            fws_sub *sub = fws_conn_find_sub(&conn, all[test_random(&random) % N]);
            if (sub != NULL)
                fws_topic_leave(sub);
            check_heap();
        }
        CHECK_EQ(conn.n_pending, 0);
        end();
    }
}

static void test_the_heap_has_room_for_those_that_have_left_as_well(void)
{
    begin(12);
    for (uint32_t i = 0; i < 8; i++)
        join(all[i]);
    CHECK_EQ(conn.capacity_pending, 8);
    for (uint32_t i = 0; i < 8; i++)
        publish(all[i]);
    wake_all(&topics);
    for (uint32_t i = 0; i < 4; i++)
        fws_topic_leave(fws_conn_find_sub(&conn, all[i]));
    for (uint32_t i = 8; i < 12; i++) {
        join(all[i]);
        publish(all[i]);
        wake_all(&topics);
        check_heap();
    }
    CHECK_EQ(conn.n_pending, 12);
    CHECK(conn.capacity_pending >= 12);
    take(SIZE_MAX);
    CHECK_EQ(conn.delivered, 8);
    end();
}

static void test_who_leaves_while_pending_stays_in_the_heap_until_it_is_thinned(void)
{
    begin(8);
    for (uint32_t i = 0; i < 8; i++)
        join(all[i]);
    for (uint32_t i = 0; i < 8; i++)
        publish(all[i]);
    wake_all(&topics);
    for (uint32_t i = 0; i < 4; i++) {
        fws_topic_leave(fws_conn_find_sub(&conn, all[7 - i]));
        CHECK_EQ(conn.n_left, i + 1);
        CHECK_EQ(conn.n_pending, 8);
        CHECK_EQ(all[7 - i]->refs, 1); /* what is left of it */
        check_heap();
    }
    fws_topic_leave(fws_conn_find_sub(&conn, all[3]));
    CHECK_EQ(conn.n_left, 0);
    CHECK_EQ(conn.n_pending, 3);
    for (uint32_t i = 3; i < 8; i++)
        CHECK_EQ(all[i]->refs, 0);
    CHECK(fws_conn_pending(&conn));
    for (uint32_t i = 0; i < 3; i++)
        fws_topic_leave(fws_conn_find_sub(&conn, all[i]));
    CHECK(!fws_conn_pending(&conn));
    CHECK_EQ(conn.n_pending, 0);
    end();
}

/* One that has left and one that came again, for the same topic, at the same time. */
static void test_a_topic_may_be_joined_again_while_the_old_subscription_is_in_the_heap(void)
{
    begin(3);
    for (uint32_t i = 0; i < 3; i++)
        join(all[i]);
    for (uint32_t i = 0; i < 3; i++)
        publish(all[i]);
    wake_all(&topics);
    fws_sub *old = fws_conn_find_sub(&conn, all[1]);
    fws_topic_leave(old);
    CHECK_EQ(conn.n_left, 1);
    fws_sub *again = join(all[1]);
    CHECK(again != old && fws_conn_find_sub(&conn, all[1]) == again);
    CHECK(again->id != old->id);
    publish(all[1]);
    wake_all(&topics);
    check_heap();
    take(SIZE_MAX);
    CHECK_EQ(conn.delivered, 3);
    CHECK_EQ(conn.dropped, 1);
    CHECK_EQ(all[1]->refs, 1);
    check_heap();
    end();
}

/* The heap always has room for whoever is woken, however many have left. */
static void test_subscriptions_come_and_go_while_pending(void)
{
    enum { N = 300 };
    uint64_t random = 11;
    begin(N);
    for (int i = 0; i < 40000; i++) {
        fws_topic *topic = all[test_random(&random) % N];
        fws_sub *sub = fws_conn_find_sub(&conn, topic);
        switch (test_random(&random) % 8) {
        case 0:
        case 1:
        case 2:
            if (sub == NULL)
                join(topic);
            break;
        case 3:
        case 4:
            if (sub != NULL)
                fws_topic_leave(sub);
            break;
        case 5:
        case 6:
            publish(topic);
            break;
        default:
            if (i % 5 == 0)
                take(test_random(&random) % 500);
            else
                wake_all(&topics);
        }
        check_heap();
        if (i % 100 == 0)
            for (uint32_t k = 0; k < N; k++)
                check_account(all[k]);
    }
    wake_all(&topics);
    fws_reader_account account = fws_conn_snapshot(&conn, 0);
    CHECK_EQ(account.published, topics.account.published);
    uint64_t pending = conn.partial.data != NULL && conn.partial.sub->left;
    for (uint32_t k = 0; k < N; k++)
        pending += walk_topic(all[k]);
    CHECK_EQ(account.pending, pending);
    end();
}

/* A closed topic's name may come back: another topic with the same hash. */
static void test_two_topics_of_one_name_have_a_subscription_each(void)
{
    begin(3);
    for (uint32_t i = 0; i < 3; i++)
        join(all[i]);
    fws_topic_ref(all[0]);
    fws_topic_close(all[0]);
    fws_topic *next = fws_topics_get(&topics, "0", 1, &WIDE);
    CHECK_EQ(next->hash, all[0]->hash);
    fws_sub *sub = join(next);
    CHECK(fws_conn_find_sub(&conn, next) == sub);
    CHECK(fws_conn_find_sub(&conn, all[0]) == NULL);
    CHECK_EQ(conn.n_subs, 3);
    fws_topic_unref(all[0]);
    end();
}

int main(void)
{
    RUN(test_a_connection_without_subscriptions_finds_none);
    RUN(test_one_subscription_needs_no_memory_of_its_own);
    RUN(test_thousands_are_added_found_and_removed_as_in_a_model);
    RUN(test_the_heap_gives_the_earliest_first);
    RUN(test_the_heap_is_one_again_after_it_was_thinned);
    RUN(test_the_heap_has_room_for_those_that_have_left_as_well);
    RUN(test_who_leaves_while_pending_stays_in_the_heap_until_it_is_thinned);
    RUN(test_a_topic_may_be_joined_again_while_the_old_subscription_is_in_the_heap);
    RUN(test_subscriptions_come_and_go_while_pending);
    RUN(test_two_topics_of_one_name_have_a_subscription_each);
    return 0;
}
