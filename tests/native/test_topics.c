/* The topics of an engine: names, options that are shared, what keeps a topic, and its end. */
#include "conn_fixture.h"
#include "core/facts.h"

static const fws_topic_options PLAIN = {.retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20};

static fws_topics topics;
static fws_conn conns[3];
static uint64_t eseq;

static void begin(void)
{
    memset(conns, 0, sizeof conns);
    eseq = 0;
    fws_topics_init(&topics, NULL, 0, 2026);
}

static void end(void)
{
    for (int i = 0; i < 3; i++)
        strip(&conns[i]);
    fws_topics_clear(&topics);
    CHECK_EQ(topics.logs.bytes, 0);
}

static fws_topic *get(const char *name)
{
    fws_topic *topic = fws_topics_get(&topics, name, strlen(name), &PLAIN);
    CHECK(topic != NULL);
    return topic;
}

static fws_topic *find(const char *name)
{
    return fws_topics_find(&topics, name, strlen(name));
}

static void publish(fws_topic *topic)
{
    append_frame(topic, "0123456789", 10, ++eseq);
}

/* What fws_topics_collect() answers with nobody watching. */
static void collect(void)
{
    CHECK(fws_topics_collect(&topics) == NULL);
}

static void test_a_name_leads_to_one_topic(void)
{
    begin();
    CHECK(find("a") == NULL);
    fws_topic *a = get("a"), *ab = get("ab"), *none = get("");
    CHECK(a != ab && a != none && ab != none);
    CHECK(get("a") == a && find("a") == a && find("ab") == ab && find("") == none);
    CHECK(find("b") == NULL && find("abc") == NULL);
    CHECK(fws_topics_get(&topics, "a\0b", 3, &PLAIN) != a); /* any bytes */
    CHECK(fws_topics_find(&topics, "a\0b", 3)->name_n == 3);
    CHECK(memcmp(ab->name, "ab", 2) == 0);
    end();
}

static void test_a_name_has_at_most_1024_bytes(void)
{
    static char name[FWS_NAME_MAX + 1];
    memset(name, 'n', sizeof name);
    begin();
    fws_topic *topic = fws_topics_get(&topics, name, FWS_NAME_MAX, &PLAIN);
    CHECK(topic != NULL);
    CHECK(fws_topics_find(&topics, name, FWS_NAME_MAX) == topic);
    CHECK(fws_topics_get(&topics, name, FWS_NAME_MAX + 1, &PLAIN) == NULL);
    CHECK(fws_topics_find(&topics, name, FWS_NAME_MAX + 1) == NULL);
    end();
}

/* The table grows and shrinks; names are found all the time. */
static void test_names_come_and_go_against_a_model(void)
{
    enum { NAMES = 3000 };
    static fws_topic *model[NAMES];
    static uint64_t epochs[NAMES];
    uint64_t random = 4;
    char name[16];
    begin();
    memset(model, 0, sizeof model);
    for (int i = 0; i < 60000; i++) {
        uint32_t which = (uint32_t)test_random(&random) % NAMES;
        size_t n = (size_t)sprintf(name, "room.%u", which);
        CHECK(fws_topics_find(&topics, name, n) == model[which]);
        if (model[which] == NULL && i < 40000) {
            model[which] = fws_topics_get(&topics, name, n, &PLAIN);
            CHECK(model[which] != NULL && model[which]->epoch != epochs[which]);
            epochs[which] = model[which]->epoch;
            model[which]->configured = true;
        } else if (model[which] != NULL) {
            model[which]->configured = false;
            fws_topic_touch(model[which]);
            model[which] = NULL;
        }
        if (i % 3 == 0) {
            collect();
        } else if (model[which] == NULL) { /* taken back before it was collected */
            fws_topic *again = fws_topics_find(&topics, name, n);
            if (again != NULL)
                again->configured = true;
            model[which] = again;
        }
    }
    uint32_t count = 0;
    for (int i = 0; i < NAMES; i++)
        count += model[i] != NULL;
    collect();
    CHECK_EQ(topics.n, count);
    CHECK(topics.capacity <= 8 * count + 64 && topics.capacity >= count);
    end();
}

static void test_equal_options_stand_once(void)
{
    fws_topic_options options = PLAIN;
    begin();
    const fws_topic_options *plain = fws_topics_share(&topics, &options);
    CHECK(fws_topics_share(&topics, &PLAIN) == plain && plain != &options);
    uint64_t *members[] = {&options.retention_bytes,  &options.max_lag_bytes,
                           &options.history_messages, &options.history_bytes,
                           &options.history_ns,       &options.max_lag_messages,
                           &options.max_lag_ns,       &options.min_rate};
    const fws_topic_options *seen[9] = {plain};
    for (int i = 0; i < 8; i++) {
        options = PLAIN;
        *members[i] += 1;
        seen[i + 1] = fws_topics_share(&topics, &options);
        for (int before = 0; before <= i; before++)
            CHECK(seen[before] != seen[i + 1]);
        CHECK(memcmp(seen[i + 1], &options, sizeof options) == 0);
    }
    options = PLAIN;
    options.on_slow = FWS_SLOW_LATEST;
    CHECK(fws_topics_share(&topics, &options) != plain);
    CHECK(get("a")->options == plain && get("b")->options == plain);
    end();
}

static void test_an_unneeded_topic_goes_with_the_next_collect(void)
{
    begin();
    get("a");
    CHECK(find("a") != NULL);
    collect();
    CHECK(find("a") == NULL);
    CHECK_EQ(topics.n, 0);
    end();
}

static void test_a_topic_stays_while_something_needs_it(void)
{
    begin();
    fws_topic *topic = get("a");
    fws_topic_ref(topic);
    collect();
    CHECK(find("a") == topic);
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    fws_topic_unref(topic);
    collect();
    CHECK(find("a") == topic);
    topic->configured = true;
    fws_topic_leave(sub);
    collect();
    CHECK(find("a") == topic);
    topic->configured = false;
    fws_topic_touch(topic);
    collect();
    CHECK(find("a") == NULL);
    end();
}

static void test_a_topic_stays_until_its_wake_is_over(void)
{
    begin();
    fws_topic *topic = get("a");
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(topic);
    fws_topic_leave(sub);
    collect();
    CHECK(find("a") == topic && topics.dirty == topic);
    wake_all(&topics);
    collect();
    CHECK(find("a") == NULL);
    end();
}

/* A subscription that has left, but half of whose frame has not. */
static void test_a_topic_outlives_its_last_half_sent_frame(void)
{
    static fws_plan plan;
    begin();
    fws_topic *topic = get("a");
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    publish(topic);
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conns[0], &plan, UINT64_MAX), FWS_OK);
    fws_commit(&conns[0], &plan, 5);
    fws_topic_leave(sub);
    collect();
    CHECK(find("a") == topic);
    CHECK_EQ(fws_gather(&conns[0], &plan, UINT64_MAX), FWS_OK);
    fws_commit(&conns[0], &plan, plan.bytes);
    CHECK_EQ(topics.account.delivered, 1);
    collect();
    CHECK(find("a") == NULL);
    end();
}

/* Nobody may take the new topic for the old one, whose numbers it does not go on with. */
static void test_a_topic_made_again_does_not_recover_readers_of_the_old_one(void)
{
    begin();
    fws_topic *topic = get("a");
    fws_topic_ref(topic);
    uint64_t epoch = topic->epoch;
    for (int i = 0; i < 5; i++)
        publish(topic);
    CHECK(fws_topic_recovers(topic, epoch, 5)); /* stands behind the last frame: nothing is lost */
    CHECK(!fws_topic_recovers(topic, epoch, 4));
    CHECK(!fws_topic_recovers(topic, epoch, 6)); /* it has not come so far */
    CHECK(!fws_topic_recovers(topic, epoch + 1, 5));
    fws_topic_unref(topic);
    collect();
    topic = get("a");
    CHECK(topic->epoch != epoch);
    CHECK(!fws_topic_recovers(topic, epoch, 0));
    for (int i = 0; i < 5; i++)
        publish(topic);
    CHECK(!fws_topic_recovers(topic, epoch, 5));
    CHECK(fws_topic_recovers(topic, topic->epoch, 5));
    end();
}

static void test_closing_ends_all_subscriptions_and_frees_the_name(void)
{
    begin();
    fws_topic *topic = get("a");
    topic->configured = true;
    fws_topic_ref(topic);
    for (int i = 0; i < 3; i++)
        fws_topic_join(topic, &conns[i], NULL);
    publish(topic);
    fws_topic_close(topic);
    fws_topic_close(topic);
    CHECK(topic->closed && topic->n == 0);
    CHECK_EQ(topic->account.dropped, 3);
    for (int i = 0; i < 3; i++)
        CHECK(fws_conn_find_sub(&conns[i], topic) == NULL);
    CHECK_EQ(topics.logs.bytes, 0);
    fws_topic *next = get("a");
    CHECK(next != topic && next->epoch != topic->epoch);
    fws_topic_join(next, &conns[0], NULL);
    publish(next);
    wake_all(&topics);
    collect();
    CHECK_EQ(topics.account.published, 4);
    fws_topic_unref(topic); /* the closed one goes with its last reference, the new one stays */
    collect();
    CHECK(find("a") == next);
    end();
}

static void test_a_topic_may_be_closed_during_its_wake(void)
{
    begin();
    fws_topic *topic = get("a");
    for (int i = 0; i < 3; i++)
        fws_topic_join(topic, &conns[i], NULL);
    publish(topic);
    topics.dirty = NULL;
    topics.dirty_end = &topics.dirty;
    topic->dirty = false;
    topics.waking = topic;
    fws_topic_begin_wake(topic);
    CHECK(fws_topic_wake(topic) != NULL);
    fws_topic_close(topic);
    collect();
    CHECK(fws_topic_wake(topic) == NULL); /* still there */
    topics.waking = NULL;
    collect();
    end();
}

/* The sums outlive the topics, whatever they ended with. */
static void test_closed_topics_go_with_the_rest(void)
{
    begin();
    fws_topic *topic = get("a");
    fws_topic_join(topic, &conns[0], NULL);
    publish(topic);
    fws_topic_close(topic); /* dirty, and not collected */
    get("b");
    CHECK_EQ(topics.account.dropped, 1);
    strip(&conns[0]);
    fws_topics_clear(&topics); /* the leak checker sees whether all went */
}

static void test_the_owner_hears_of_the_first_and_the_last_subscriber(void)
{
    begin();
    fws_topic *topic = get("a"), *other = get("b");
    topic->configured = topic->watched = other->configured = true;
    collect();
    fws_sub *first = fws_topic_join(topic, &conns[0], NULL);
    fws_topic_join(other, &conns[0], NULL);
    CHECK(fws_topics_collect(&topics) == topic && topic->wanted);
    collect();
    fws_sub *second = fws_topic_join(topic, &conns[1], NULL);
    fws_topic_leave(first);
    collect();
    fws_topic_leave(second);
    fws_topic_join(topic, &conns[2], NULL);
    collect(); /* it is as it was */
    fws_topic_leave(fws_conn_find_sub(&conns[2], topic));
    CHECK(fws_topics_collect(&topics) == topic && !topic->wanted);
    collect();
    end();
}

static void test_who_watches_already_still_hears_what_was_to_be_told(void)
{
    begin();
    fws_topic *topic = get("a");
    fws_topic_configure(topic, true);
    fws_topic_join(topic, &conns[0], NULL);
    fws_topic_watch(topic, true);
    collect(); /* what came before is no news */
    fws_topic_leave(fws_conn_find_sub(&conns[0], topic));
    fws_topic_watch(topic, true); /* for a second callback */
    CHECK(fws_topics_collect(&topics) == topic && !topic->wanted);
    fws_topic_join(topic, &conns[1], NULL);
    fws_topic_watch(topic, false);
    collect();
    end();
}

static void test_a_watched_topic_that_nothing_needs_goes_after_it_was_told_of(void)
{
    begin();
    fws_topic *topic = get("a");
    topic->watched = true;
    fws_sub *sub = fws_topic_join(topic, &conns[0], NULL);
    CHECK(fws_topics_collect(&topics) == topic);
    fws_topic_leave(sub);
    CHECK(fws_topics_collect(&topics) == topic && !topic->wanted);
    collect();
    CHECK(find("a") == NULL);
    topic = get("a");
    topic->watched = true;
    fws_topic_join(topic, &conns[0], NULL);
    CHECK(fws_topics_collect(&topics) == topic);
    fws_topic_close(topic);
    CHECK(fws_topics_collect(&topics) == topic);
    collect(); /* the leak checker sees whether the closed one went */
    end();
}

int main(void)
{
    RUN(test_a_name_leads_to_one_topic);
    RUN(test_a_name_has_at_most_1024_bytes);
    RUN(test_names_come_and_go_against_a_model);
    RUN(test_equal_options_stand_once);
    RUN(test_an_unneeded_topic_goes_with_the_next_collect);
    RUN(test_a_topic_stays_while_something_needs_it);
    RUN(test_a_topic_stays_until_its_wake_is_over);
    RUN(test_a_topic_outlives_its_last_half_sent_frame);
    RUN(test_a_topic_made_again_does_not_recover_readers_of_the_old_one);
    RUN(test_closing_ends_all_subscriptions_and_frees_the_name);
    RUN(test_a_topic_may_be_closed_during_its_wake);
    RUN(test_closed_topics_go_with_the_rest);
    RUN(test_the_owner_hears_of_the_first_and_the_last_subscriber);
    RUN(test_who_watches_already_still_hears_what_was_to_be_told);
    RUN(test_a_watched_topic_that_nothing_needs_goes_after_it_was_told_of);
    return 0;
}
