/* Subscriptions by the beginning of names: members of topics that are there and that are made. */
#include "core/wildcards.h"
#include "topic_fixture.h"

#define NAMES 300

static const fws_topic_options plain = {
    .retention_bytes = 100000, .max_lag_bytes = 100000, .on_slow = FWS_SLOW_LATEST};

static int subscribe(fws_conn *conn, const char *prefix)
{
    fws_wild asked = {.own = {.prefix_n = (uint8_t)strlen(prefix)}};
    memcpy(asked.own.prefix, prefix, strlen(prefix));
    return fws_conn_join_wild(&topics, conn, &asked, &eseq);
}

static void unsubscribe(fws_conn *conn, const char *prefix)
{
    fws_conn_leave_wild(conn, (const uint8_t *)prefix, strlen(prefix));
}

static fws_topic *open_topic(const char *name)
{
    return fws_topics_open(&topics, name, strlen(name), &plain);
}

static void begin_open(void)
{
    begin_with(&plain, 0);
    for (int i = 0; i < CONNS; i++)
        conns[i].state = FWS_OPEN;
}

/* As a turn does it. */
static void collect(void)
{
    wake_all(&topics);
    fws_topics_close_idle(&topics);
    CHECK(fws_topics_collect(&topics) == NULL);
}

static void end_wild(void)
{
    for (int i = 0; i < CONNS; i++)
        fws_conn_drop_wilds(&conns[i]);
    CHECK(topics.patterns == NULL);
    end();
}

static void test_topics_there_and_topics_made_have_it_as_a_member_once(void)
{
    begin_open();
    fws_topic *there = open_topic("a.1");
    there->configured = true;
    CHECK_EQ(subscribe(&conns[0], "a."), FWS_OK);
    CHECK_EQ(subscribe(&conns[0], ""), FWS_OK);
    CHECK_EQ(subscribe(&conns[0], "a.1"), FWS_OK);
    CHECK_EQ(subscribe(&conns[1], "a."), FWS_OK);
    fws_topic *made = open_topic("a.2");
    CHECK(open_topic("a.2") == made);
    CHECK_EQ(there->n, 2);
    CHECK_EQ(made->n, 2);
    CHECK_EQ(topic->n, 1);
    CHECK_EQ(conns[0].n_wild, 3);
    unsubscribe(&conns[0], "");
    CHECK_EQ(topic->n, 0);
    CHECK_EQ(there->n, 2);
    unsubscribe(&conns[0], "a.");
    CHECK_EQ(made->n, 1);
    CHECK_EQ(there->n, 2);
    unsubscribe(&conns[0], "a.1");
    unsubscribe(&conns[0], "a.1");
    CHECK_EQ(there->n, 1);
    CHECK_EQ(conns[0].n_wild, 0);
    end_wild();
}

static void test_a_topic_that_holds_nothing_for_them_goes(void)
{
    begin_open();
    CHECK_EQ(subscribe(&conns[0], "a."), FWS_OK);
    fws_topic *made = open_topic("a.1");
    append_frame(made, (const uint8_t *)"frame", 5, ++eseq);
    collect();
    CHECK(fws_topics_find(&topics, "a.1", 3) == made); /* one has still to get it */
    deliver(&conns[0], SIZE_MAX);
    collect();
    CHECK(fws_topics_find(&topics, "a.1", 3) == NULL);
    CHECK_EQ(conns[0].n_subs, 0);
    made = open_topic("a.1");
    CHECK_EQ(made->n, 1);
    fws_topic_ref(made);
    collect();
    CHECK(fws_topics_find(&topics, "a.1", 3) == made);
    fws_topic_unref(made);
    collect();
    CHECK(fws_topics_find(&topics, "a.1", 3) == NULL);
    end_wild();
}

static void test_a_connection_that_ends_is_made_no_member_of_anything(void)
{
    begin_open();
    CHECK_EQ(subscribe(&conns[0], "a."), FWS_OK);
    conns[0].state = FWS_CLOSING;
    CHECK_EQ(open_topic("a.1")->n, 0);
    collect();
    end_wild();
}

/* The table of its subscriptions shrinks and is shifted while those that match leave it. */
static void test_all_that_match_are_left_and_no_other(void)
{
    uint64_t random = 3;
    char name[32];
    for (int round = 0; round < 40; round++) {
        begin_open();
        int odd = 0, explicit = 0;
        CHECK_EQ(subscribe(&conns[0], "odd"), FWS_OK);
        for (int i = 0; i < NAMES; i++) {
            uint64_t kind = test_random(&random) % 3;
            snprintf(name, sizeof name, "%s%d", kind == 0 ? "even" : "odd", i);
            fws_topic *each = open_topic(name);
            each->configured = true;
            odd += kind > 0;
            explicit += kind == 0;
            if (kind == 0)
                CHECK(fws_topic_join(each, &conns[0], NULL) != NULL);
        }
        CHECK_EQ(conns[0].n_wild, odd);
        CHECK_EQ(conns[0].n_subs, odd + explicit);
        unsubscribe(&conns[0], "odd");
        CHECK_EQ(conns[0].n_wild, 0);
        CHECK_EQ(conns[0].n_subs, explicit);
        for (uint32_t place = 0; fws_conn_next_wild(&conns[0], NULL, 0, &place) != NULL;)
            CHECK(false);
        end_wild();
    }
}

static void test_patterns_are_as_many_as_there_are_prefixes(void)
{
    char prefix[32];
    begin_open();
    for (int i = 0; i < CONNS; i++)
        for (int j = 0; j < 60; j++) {
            snprintf(prefix, sizeof prefix, "p%d.", i / 2 * 1000 + j);
            CHECK_EQ(subscribe(&conns[i], prefix), FWS_OK);
        }
    CHECK_EQ(open_topic("p1001.x")->n, 2);
    CHECK_EQ(open_topic("p9.")->n, 2);
    CHECK_EQ(open_topic("p9")->n, 0);
    for (int j = 60; j < 64; j++) {
        snprintf(prefix, sizeof prefix, "p%d.", j);
        CHECK_EQ(subscribe(&conns[0], prefix), FWS_OK);
    }
    CHECK_EQ(subscribe(&conns[0], "q"), FWS_E_MANY);
    CHECK(!fws_conn_has_wild(&conns[0], (const uint8_t *)"q", 1));
    CHECK(fws_conn_has_wild(&conns[0], (const uint8_t *)"p60.", 4));
    collect();
    end_wild();
}

int main(void)
{
    RUN(test_topics_there_and_topics_made_have_it_as_a_member_once);
    RUN(test_a_topic_that_holds_nothing_for_them_goes);
    RUN(test_a_connection_that_ends_is_made_no_member_of_anything);
    RUN(test_all_that_match_are_left_and_no_other);
    RUN(test_patterns_are_as_many_as_there_are_prefixes);
    return 0;
}
