/* Subscriptions that want some keys only, against a record of every frame: what each of them gets,
 * and what it counts, whatever was retained, excluded, conflated or dropped. */
#include "topic_fixture.h"

#define KEYS 6       /* 0: the empty one */
#define FRAMES 65536 /* of one run */
#define SMALL 60     /* bytes of most frames */

static uint8_t key_of[FRAMES];        /* of each frame, by its sequence number */
static uint64_t excluded_for[FRAMES]; /* the connections that it was excluded for, a bit each */
static uint64_t random_state;

/* What one connection's subscription was promised, and what it got. */
static struct reader {
    fws_sub *sub;                         /* NULL: it has none */
    uint32_t keys;                        /* that it wants, a bit each; 0: all */
    uint64_t published, got, start, last; /* last: behind the last frame that it got */
    bool conflates;                       /* it has, since it began */
} readers[CONNS];

static uint64_t draw(uint64_t n)
{
    return test_random(&random_state) % n;
}

static bool wants(const struct reader *reader, uint64_t seq)
{
    bool excluded = excluded_for[seq] >> (reader - readers) & 1;
    return (reader->keys == 0 || reader->keys >> key_of[seq] & 1)
           && (!excluded || seq < reader->start);
}

static uint64_t count(const struct reader *reader, uint64_t from, uint64_t to)
{
    uint64_t n = 0;
    for (; from < to; from++)
        n += wants(reader, from);
    return n;
}

static void begin_readers(const fws_topic_options *options, uint64_t most)
{
    begin_with(options, most);
    memset(readers, 0, sizeof readers);
    memset(excluded_for, 0, sizeof excluded_for);
}

static size_t name_of(uint8_t *name, uint8_t key)
{
    return key == 0 ? 0 : (size_t)sprintf((char *)name, "key %u", key);
}

static size_t names_of(uint8_t *names, uint32_t keys)
{
    size_t n = 0;
    for (uint8_t key = 0; key < KEYS; key++) {
        if (!(keys >> key & 1))
            continue;
        names[n] = (uint8_t)name_of(names + n + 1, key);
        n += 1 + (size_t)names[n];
    }
    return n;
}

/* A frame says its sequence number. */
static void write_frame(uint8_t *room, size_t n)
{
    uint64_t seq = topic->log.next_seq;
    memset(room, 0, n);
    memcpy(room, &seq, sizeof seq);
}

/* Publishes a frame of that key to all but the connections of those bits. */
static void publish_without(uint8_t key, size_t n, uint64_t without)
{
    uint8_t *room, name[16];
    uint64_t seq = topic->log.next_seq, before = topic->account.published, wanted = 0;
    CHECK(seq < FRAMES);
    CHECK_EQ(fws_topic_reserve(topic, n, eseq + 1, &room), FWS_OK);
    fws_key *found = fws_topic_key(topic, name, name_of(name, key));
    CHECK(found != NULL);
    key_of[seq] = key;
    excluded_for[seq] = without;
    for (int i = 0; i < CONNS; i++) {
        struct reader *reader = &readers[i];
        if (reader->sub == NULL)
            continue;
        if (without >> i & 1 && fws_sub_wants(reader->sub, found))
            CHECK_EQ(fws_sub_exclude(reader->sub), FWS_OK);
        reader->published += wants(reader, seq);
        wanted += wants(reader, seq);
    }
    write_frame(room, n);
    fws_topic_commit_keyed(topic, found, n, ++eseq);
    CHECK_EQ(topic->account.published - before, wanted);
}

static void publish_keyed(uint8_t key)
{
    publish_without(key, SMALL, 0);
}

/* Many at once, as a source does. */
static void append_many(uint32_t n)
{
    uint8_t *room;
    uint64_t first = eseq + 1;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t seq = topic->log.next_seq;
        CHECK_EQ(fws_topic_reserve(topic, SMALL, eseq + 1, &room), FWS_OK);
        write_frame(room, SMALL);
        key_of[seq] = 0;
        fws_log_commit(&topic->log, SMALL, ++eseq);
        for (int k = 0; k < CONNS; k++)
            readers[k].published += readers[k].sub != NULL && wants(&readers[k], seq);
    }
    fws_topic_appended(topic, n, first);
}

/* Frames that a new one gets of those that there are: of the keys' newest ones, or of all. */
static uint64_t count_replayed(const struct reader *reader, bool snapshot)
{
    uint64_t n = 0;
    if (!snapshot)
        return count(reader, reader->sub->seq, topic->log.next_seq);
    for (uint8_t key = 0; key < KEYS; key++) {
        uint64_t seq = 0;
        const fws_keyed *at;
        for (; (at = fws_keys_from(topic->keys, seq)) != NULL; seq = at->seq + 1)
            n += (reader->keys == 0 || reader->keys >> key & 1) && key_of[at->seq] == key;
    }
    return n;
}

static struct reader *join_at(int i, uint32_t keys, const fws_topic_options *own, uint64_t seq)
{
    uint8_t names[128];
    struct reader *reader = &readers[i];
    *reader = (struct reader){.keys = keys, .start = UINT64_MAX};
    reader->sub =
        fws_topic_join_filtered(topic, &conns[i], own, seq, ++eseq, names, names_of(names, keys));
    CHECK(reader->sub != NULL);
    reader->conflates = reader->sub->conflating;
    reader->published = count_replayed(reader, reader->sub->conflating);
    reader->start = topic->log.next_seq;
    reader->last = reader->sub->seq;
    return reader;
}

static struct reader *join(int i, uint32_t keys)
{
    return join_at(i, keys, NULL, FWS_START);
}

/* What it counts is what was published to it, and what it has still to get. */
static void check_reader(const struct reader *reader)
{
    fws_reader_account account = fws_sub_snapshot(reader->sub, 0);
    const fws_sub *sub = reader->sub;
    CHECK_EQ(account.published, reader->published);
    CHECK_EQ(account.delivered, reader->got);
    CHECK_EQ(account.published,
             account.delivered + account.dropped + account.conflated + account.pending);
    if (!reader->conflates)
        CHECK_EQ(account.pending - sub->partial, count(reader, sub->seq, topic->log.next_seq));
}

static void check_all(void)
{
    check_account(topic);
    for (int i = 0; i < CONNS; i++)
        if (readers[i].sub != NULL)
            check_reader(&readers[i]);
}

/* Frames that have left whole: in order, wanted, none left out unless it was dropped or conflated. */
static void take_frame(struct reader *reader, uint64_t seq, bool may_jump)
{
    CHECK(seq >= reader->last && wants(reader, seq));
    CHECK(may_jump || count(reader, reader->last, seq) == 0);
    reader->last = seq + 1;
    reader->got++;
}

/* It takes that many whole frames of the plan, perhaps half of the next one. */
static void read_frames(int i, uint64_t frames, bool half)
{
    static fws_plan plan;
    struct reader *reader = &readers[i];
    fws_sub *sub = reader->sub;
    uint64_t taken = 0, dropped = sub->dropped;
    size_t bytes = 0;
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conns[i], &plan, UINT64_MAX), FWS_OK);
    reader->conflates |= sub->conflating;
    bool may_jump = reader->conflates || sub->dropped > 0;
    (void)dropped;
    for (uint32_t run = 0; run < plan.n_runs && taken < frames; run++) {
        const fws_run *at = &plan.runs[run];
        if (at->kind == FWS_RUN_PARTIAL) {
            bytes += at->bytes;
            reader->got++;
            taken++;
            continue;
        }
        for (uint32_t k = at->first; k < at->last && taken < frames; k++, taken++) {
            uint32_t start = fws_slab_start(at->slab, k);
            uint64_t seq;
            memcpy(&seq, at->slab->data + start, sizeof seq);
            take_frame(reader, seq, may_jump);
            bytes += at->slab->end[k] - start;
        }
    }
    if (half && bytes < plan.bytes
        && !(plan.n_runs > 0 && plan.runs[0].kind == FWS_RUN_PARTIAL && taken == 0)) {
        uint64_t seq = UINT64_MAX, passed = 0;
        for (uint32_t run = 0; run < plan.n_runs && seq == UINT64_MAX; run++) {
            const fws_run *at = &plan.runs[run];
            uint32_t n = at->kind == FWS_RUN_PARTIAL ? 1 : at->last - at->first;
            if (passed + n > taken)
                memcpy(&seq,
                       at->slab->data
                           + fws_slab_start(at->slab, at->first + (uint32_t)(taken - passed)),
                       8);
            passed += n;
        }
        take_frame(reader, seq, may_jump);
        reader->got--; /* when it is whole */
        bytes += SMALL / 2;
    }
    fws_commit(&conns[i], &plan, bytes);
}

static void leave(int i)
{
    fws_topic_leave(readers[i].sub);
    readers[i].sub = NULL;
}

static const fws_topic_options LATEST = {
    .retention_bytes = 1 << 16, .max_lag_bytes = 1 << 15, .on_slow = FWS_SLOW_LATEST};

static void test_only_frames_of_its_keys_are_published_to_it(void)
{
    begin_readers(&LATEST, 0);
    struct reader *two = join(0, 1 << 2), *all = join(1, 0), *unknown = join(2, 1 << 5);
    for (uint32_t i = 0; i < 40; i++)
        publish_keyed(1 + i % 4);
    check_all();
    read_frames(0, UINT64_MAX, false);
    read_frames(1, UINT64_MAX, false);
    CHECK_EQ(two->got, 10);
    CHECK_EQ(all->got, 40);
    CHECK_EQ(unknown->published, 0);
    CHECK_EQ(topic->caught, 3); /* the third one had no news: it was passed to the head */
    CHECK_EQ(unknown->sub->seq, 40);
    publish_keyed(5);
    check_all();
    read_frames(2, UINT64_MAX, false);
    CHECK_EQ(unknown->got, 1);
    check_all();
    end();
}

static void test_scattered_frames_are_copied_together(void)
{
    static fws_plan plan;
    begin_readers(&LATEST, 0);
    join(0, 1 << 2);
    for (uint32_t i = 0; i < 400; i++)
        publish_keyed(1 + i % 4);
    wake_all(&topics);
    CHECK_EQ(fws_gather(&conns[0], &plan, UINT64_MAX), FWS_OK);
    CHECK_EQ(plan.n_runs, 100);
    CHECK_EQ(plan.n_iov, 1);
    CHECK_EQ(plan.bytes, 100 * SMALL);
    fws_commit(&conns[0], &plan, 0);
    end();
}

static void test_frames_without_a_key_are_wanted_by_the_empty_name(void)
{
    begin_readers(&LATEST, 0);
    join(5, 0);
    append_many(30); /* before any key */
    struct reader *plain = join_at(0, 1 << 0 | 1 << 1, NULL, 10), *keyed = join(1, 1 << 1);
    CHECK_EQ(plain->published, 20);
    append_many(100);
    publish_keyed(1);
    append_many(7);
    publish_keyed(2);
    publish_keyed(0);
    append_many(5);
    check_all();
    read_frames(0, UINT64_MAX, false);
    read_frames(1, UINT64_MAX, false);
    CHECK_EQ(plain->got, 20 + 100 + 1 + 7 + 1 + 5);
    CHECK_EQ(keyed->got, 1);
    check_all();
    end();
}

/* exclude= of what the filter leaves out anyway counts once. */
static void test_what_is_excluded_and_filtered_counts_once(void)
{
    begin_readers(&LATEST, 0);
    struct reader *one = join(0, 1 << 1);
    for (uint32_t i = 0; i < 60; i++)
        publish_without(1 + i % 3, SMALL, i % 2);
    check_all();
    CHECK_EQ(one->published, 10);
    read_frames(0, 3, true);
    check_all();
    read_frames(0, UINT64_MAX, false);
    CHECK_EQ(one->got, 10);
    check_all();
    for (uint32_t i = 0; i < 10; i++)
        publish_without(1, SMALL, 1);
    wake_all(&topics);
    CHECK_EQ(topic->caught, 1);
    check_all();
    end();
}

static void test_a_replay_has_its_keys_only(void)
{
    const fws_topic_options options = {
        .retention_bytes = 1 << 16, .max_lag_bytes = 1 << 15, .history_messages = 10000};
    begin_readers(&options, 0);
    for (uint32_t i = 0; i < 3000; i++)
        publish_keyed((uint8_t)(i % KEYS));
    struct reader *some = join_at(0, 1 << 3 | 1 << 4, NULL, 1000);
    struct reader *head = join_at(1, 1 << 3, NULL, 3000), *none = join_at(2, 1 << 3, NULL, 2998);
    CHECK(some->sub->pending && !head->sub->pending && !none->sub->pending);
    check_all();
    publish_keyed(4);
    while (fws_conn_pending(&conns[0]))
        read_frames(0, 50, true);
    CHECK_EQ(some->got, 2000 / 3 + 1 + 1);
    check_all();
    end();
}

/* The key that a filter names first is found in all that is retained; when the last filter is gone
 * nothing of it is left. */
static void test_ranks_are_there_while_a_filter_names_the_key(void)
{
    begin_readers(&LATEST, 0);
    join(5, 0);
    for (uint32_t i = 0; i < 1000; i++)
        publish_keyed(1 + i % 2);
    uint64_t beside = topic->log.beside;
    join(0, 1 << 1);
    join(1, 1 << 1 | 1 << 5);
    CHECK_EQ(topic->keys->n_ranked, 2);
    CHECK(topic->log.beside > beside);
    leave(0);
    CHECK_EQ(topic->keys->n_ranked, 2);
    leave(1);
    CHECK_EQ(topic->keys->n_ranked, 0);
    CHECK_EQ(topic->log.beside, beside);
    end();
}

/* A key that is not published any more does not hold what it held. */
static void test_a_key_that_falls_silent_gives_its_memory_back(void)
{
    const fws_topic_options options = {
        .retention_bytes = 1 << 20, .max_lag_bytes = 1 << 20, .history_messages = 4000};
    begin_readers(&options, 0);
    join(0, 1 << 1 | 1 << 2);
    for (uint32_t i = 0; i < 8000; i++)
        publish_keyed(1 + i % 3);
    uint8_t name[16];
    fws_key *key = fws_topic_key(topic, name, name_of(name, 1));
    CHECK(key->ranks->capacity >= 1024);
    for (uint32_t i = 0; i < 12000; i++) {
        publish_keyed(2 + i % 2);
        if (i % 100 == 0)
            read_frames(0, UINT64_MAX, false);
    }
    CHECK(key->ranks->first == key->ranks->end && key->ranks->capacity <= 32);
    CHECK_EQ(key->ranks->count, 2667);
    check_all();
    end();
}

static void fall_behind(int i)
{
    publish_keyed(1);
    wake_all(&topics);
    stall(&conns[i]);
}

static void test_latest_means_the_newest_of_its_own_keys(void)
{
    begin_readers(&LATEST, 0);
    struct reader *slow = join(0, 1 << 1 | 1 << 2 | 1 << 4);
    fall_behind(0);
    publish_keyed(4); /* old, and the log lets go of it */
    for (uint32_t i = 0; i < 9000; i++)
        publish_keyed(1 + i % 3);
    CHECK(topic->log.first_seq > 2);
    read_frames(0, 1, false);
    check_all();
    read_frames(0, UINT64_MAX, false);
    CHECK_EQ(slow->got, 3);
    CHECK(!slow->sub->conflating);
    CHECK_EQ(slow->sub->extra->conflated, slow->published - 3);
    publish_keyed(3);
    publish_keyed(2);
    read_frames(0, UINT64_MAX, false);
    CHECK_EQ(slow->got, 4);
    check_all();
    end();
}

static void test_dropping_the_oldest_counts_its_own_frames(void)
{
    const fws_topic_options options = {.retention_bytes = 1 << 16,
                                       .max_lag_bytes = 1 << 16,
                                       .max_lag_messages = 20,
                                       .on_slow = FWS_SLOW_DROP_OLDEST};
    begin_readers(&options, 0);
    struct reader *slow = join(0, 1 << 1);
    fall_behind(0);
    for (uint32_t i = 0; i < 76; i++) /* 19 of them are its own */
        publish_keyed(1 + i % 4);
    CHECK_EQ(fws_sub_apply_policy(slow->sub), FWS_OK);
    CHECK_EQ(slow->sub->dropped, 0);
    for (uint32_t i = 0; i < 400; i++)
        publish_keyed(1 + i % 4);
    CHECK_EQ(fws_sub_apply_policy(slow->sub), FWS_OK);
    CHECK_EQ(slow->sub->dropped, 100);
    check_all();
    slow->last = slow->sub->seq;
    read_frames(0, UINT64_MAX, false);
    CHECK_EQ(slow->got, 20);
    for (uint32_t i = 0; i < 9000; i++) /* lapped */
        publish_keyed(1 + i % 4);
    check_all();
    end();
}

static void test_a_snapshot_has_its_own_keys(void)
{
    const fws_topic_options options = {.retention_bytes = 1 << 14,
                                       .max_lag_bytes = 1 << 14,
                                       .on_slow = FWS_SLOW_LATEST,
                                       .retain = true};
    begin_readers(&options, 0);
    struct reader *early = join(3, 1 << 3); /* it has nothing to begin with */
    CHECK_EQ(early->published, 0);
    for (uint32_t i = 0; i < 3000; i++)
        publish_keyed(i < KEYS ? (uint8_t)i : 1 + i % 2);
    struct reader *both = join(0, 1 << 1 | 1 << 4), *old = join(1, 1 << 5 | 1 << 3);
    CHECK_EQ(both->published, 2);
    CHECK_EQ(old->published, 2);
    check_all();
    publish_keyed(4); /* the saved one is no newest one any more */
    publish_keyed(1);
    check_all();
    for (int i = 0; i < 2; i++)
        while (fws_conn_pending(&conns[i])) {
            read_frames(i, 1, true);
            check_all();
        }
    CHECK_EQ(both->got, 2);
    CHECK_EQ(both->sub->extra->conflated, 2);
    CHECK_EQ(old->got, 2);
    end();
}

/* Another policy than latest: the newest frame of its keys, if the log has it. */
static void test_retain_gives_the_newest_frame_of_its_keys(void)
{
    const fws_topic_options options = {.retention_bytes = 1 << 20,
                                       .max_lag_bytes = 1 << 20,
                                       .history_messages = 100,
                                       .retain = true};
    begin_readers(&options, 0);
    for (uint32_t i = 0; i < 50; i++)
        publish_keyed(1 + i % 3);
    struct reader *one = join(0, 1 << 1 | 1 << 2), *none = join(1, 1 << 5);
    CHECK_EQ(one->published, 1);
    CHECK_EQ(none->published, 0);
    read_frames(0, UINT64_MAX, false);
    CHECK_EQ(one->last, 50);
    check_all();
    end();
}

/* Random members, keys, policies, exclusions, short writes and laps. */
static void play(uint64_t seed, uint64_t most)
{
    random_state = seed;
    fws_topic_options options = {.retention_bytes = 6000 << draw(4),
                                 .max_lag_bytes = 1000 << draw(3),
                                 .max_lag_messages = draw(2) * (1 + draw(60)),
                                 .on_slow = draw(2) ? FWS_SLOW_LATEST : FWS_SLOW_DROP_OLDEST,
                                 .history_messages = draw(2) * draw(300),
                                 .retain = draw(2)};
    begin_readers(&options, most);
    while (topic->log.next_seq < FRAMES - 200) {
        int i = (int)draw(12);
        uint64_t dice = draw(100);
        if (readers[i].sub == NULL && dice < 40) {
            fws_topic_options own = options;
            own.on_slow = draw(2) ? FWS_SLOW_LATEST : FWS_SLOW_DROP_OLDEST;
            uint64_t seq =
                topic->log.first_seq + draw(topic->log.next_seq - topic->log.first_seq + 1);
            conns[i].lagging = false;
            join_at(i, (uint32_t)draw(1 << KEYS), draw(3) == 0 ? &own : NULL,
                    draw(3) == 0 ? seq : FWS_START);
        } else if (readers[i].sub != NULL && dice < 3) {
            leave(i);
            strip(&conns[i]);
        } else if (readers[i].sub != NULL && dice < 50) {
            read_frames(i, draw(draw(4) == 0 ? 400 : 20), draw(2));
            if (!fws_conn_pending(&conns[i]))
                conns[i].lagging = false;
            else if (draw(2))
                stall(&conns[i]);
        }
        for (uint64_t n = draw(draw(10) == 0 ? 200 : 10); n > 0; n--)
            publish_without((uint8_t)draw(draw(2) ? KEYS : 2), draw(300) == 0 ? 30000 : SMALL,
                            draw(4) == 0 ? 1ULL << draw(12) : 0);
        if (draw(30) == 0)
            append_many((uint32_t)draw(40));
        if (draw(16) == 0)
            check_all();
    }
    check_all();
    end();
}

static void test_random_readers_get_and_count_what_they_want(void)
{
    for (uint64_t seed = 1; seed <= 12; seed++)
        play(seed, seed % 3 == 0 ? 200000 : 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        for (uint64_t seed = 1; seed <= strtoull(argv[1], NULL, 10); seed++)
            play(seed, seed % 3 == 0 ? 200000 : 0);
        return 0;
    }
    RUN(test_only_frames_of_its_keys_are_published_to_it);
    RUN(test_scattered_frames_are_copied_together);
    RUN(test_frames_without_a_key_are_wanted_by_the_empty_name);
    RUN(test_what_is_excluded_and_filtered_counts_once);
    RUN(test_a_replay_has_its_keys_only);
    RUN(test_ranks_are_there_while_a_filter_names_the_key);
    RUN(test_a_key_that_falls_silent_gives_its_memory_back);
    RUN(test_latest_means_the_newest_of_its_own_keys);
    RUN(test_dropping_the_oldest_counts_its_own_frames);
    RUN(test_a_snapshot_has_its_own_keys);
    RUN(test_retain_gives_the_newest_frame_of_its_keys);
    RUN(test_random_readers_get_and_count_what_they_want);
    return 0;
}
