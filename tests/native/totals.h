/* What must hold of all topics of an engine together, those that are gone included: the table of
 * names, the lists, the sums, and what the logs hold. */
#ifndef FWS_TEST_TOTALS_H
#define FWS_TEST_TOTALS_H

#include "conn_fixture.h"

#define CLOSED_MAX 4096

static fws_account gone_sums;                /* sums of topics that were freed */
static fws_topic *closed_topics[CLOSED_MAX]; /* not in the table any more, and not freed yet */
static uint32_t n_closed;

static inline void totals_begin(void)
{
    gone_sums = (fws_account){0};
    n_closed = 0;
}

static inline void add_account(fws_account *sums, const fws_account *account)
{
    sums->published += account->published;
    sums->delivered += account->delivered;
    sums->acknowledged += account->acknowledged;
    sums->dropped += account->dropped;
    sums->conflated += account->conflated;
}

static inline void check_same_account(const fws_account *left, const fws_account *right)
{
    CHECK_EQ(left->published, right->published);
    CHECK_EQ(left->delivered, right->delivered);
    CHECK_EQ(left->acknowledged, right->acknowledged);
    CHECK_EQ(left->dropped, right->dropped);
    CHECK_EQ(left->conflated, right->conflated);
}

/* What keeps a topic (topic.h). */
static inline bool stays(const fws_topics *topics, const fws_topic *topic)
{
    if (topic->n > 0 || topic->refs > 0 || topic->dirty || topic == topics->waking)
        return true;
    return !topic->closed && (topic->configured || topic->log.held > 0);
}

static inline void note_closed(fws_topic *topic)
{
    for (uint32_t i = 0; i < n_closed; i++)
        if (closed_topics[i] == topic)
            return;
    CHECK(n_closed < CLOSED_MAX);
    closed_topics[n_closed++] = topic;
}

static inline void forget_closed(const fws_topic *topic)
{
    for (uint32_t i = 0; i < n_closed; i++)
        if (closed_topics[i] == topic)
            closed_topics[i--] = closed_topics[--n_closed];
}

/* fws_topics_collect(), and what it must do: frees what nothing keeps, up to a topic to tell of. */
static inline fws_topic *collect(fws_topics *topics)
{
    uint32_t left = topics->n;
    fws_topic *topic = topics->touched;
    for (; topic != NULL; topic = topic->next_touched) {
        if (topic->watched && (topic->n > 0) != topic->wanted)
            break;
        if (topic->closed && stays(topics, topic))
            note_closed(topic);
        if (stays(topics, topic))
            continue;
        add_account(&gone_sums, &topic->account);
        left -= !topic->closed;
        if (topic->closed)
            forget_closed(topic);
    }
    fws_topic *told = fws_topics_collect(topics);
    CHECK(told == topic);
    CHECK(told == NULL || told->wanted == (told->n > 0));
    CHECK_EQ(topics->n, left);
    return told;
}

/* The lists that topics stand in say the same as their flags. */
static inline void check_lists(const fws_topics *topics, uint32_t dirty, uint32_t touched)
{
    fws_topic *const *end = &topics->dirty;
    for (const fws_topic *topic = topics->dirty; topic != NULL; topic = topic->next_dirty) {
        CHECK(topic->dirty);
        CHECK(topic->next_dirty == NULL || topic->next_dirty->dirty_eseq >= topic->dirty_eseq);
        dirty -= !topic->closed;
        end = &topic->next_dirty;
    }
    CHECK_EQ(dirty, 0);
    CHECK(topics->dirty == NULL || topics->dirty_end == end);
    for (const fws_topic *topic = topics->touched; topic != NULL; topic = topic->next_touched) {
        CHECK(topic->touched);
        touched -= !topic->closed;
    }
    CHECK_EQ(touched, 0);
}

static inline uint64_t slab_size(const fws_slab *slab)
{
    return sizeof *slab + 2 * (uint64_t)slab->max_frames * sizeof(uint32_t) + slab->max_bytes;
}

/* Allocated for keys, and for the frames that are saved for them. */
static inline uint64_t saved_by(const fws_keys *keys)
{
    uint64_t bytes = 0, seq = 0;
    uint32_t n = 0, saved = 0;
    const fws_keyed *at;
    for (uint32_t i = 0; keys != NULL && i < keys->capacity; i++) {
        const fws_key *key = keys->table[i];
        if (key == NULL)
            continue;
        bytes += key == keys->plain ? 0 : sizeof *key + key->n + 48;
        if (key->ranks != NULL)
            bytes += sizeof *key->ranks + key->ranks->capacity * sizeof(fws_rank);
    }
    for (; keys != NULL && (at = fws_keys_from(keys, seq)) != NULL; seq = at->seq + 1) {
        CHECK_EQ(at->key->saved == NULL, at->seq >= keys->log->first_seq);
        bytes += at->key->saved == NULL ? 0 : slab_size(at->key->saved);
        saved += at->key->saved != NULL;
        n++;
    }
    CHECK(keys == NULL || (keys->n == n && keys->n_saved == saved));
    return bytes + (keys == NULL ? 0 : keys->frames.capacity * sizeof(fws_key *));
}

/* What a log holds, with so much beside its slabs. */
static inline uint64_t held_with(const fws_log *log, uint64_t held)
{
    CHECK_EQ(log->beside, held);
    for (uint64_t id = log->tail; id != log->head; id++)
        held += slab_size(log->ring[id & (log->capacity - 1)]);
    CHECK_EQ(log->held, held);
    CHECK_EQ(log->link.next != NULL, log->listed && held > 0);
    return held;
}

static inline uint64_t held_by(const fws_log *log, const fws_keys *keys)
{
    return held_with(log, saved_by(keys));
}

/* Allocated for one variant, its singles included. */
static inline uint64_t held_by_variant(const fws_variant *variant)
{
    uint64_t beside = variant->capacity * sizeof *variant->singles;
    uint32_t n = 0;
    for (uint32_t i = 0; i < variant->capacity; i++) {
        beside += variant->singles[i].slab == NULL ? 0 : slab_size(variant->singles[i].slab);
        n += variant->singles[i].slab != NULL;
    }
    CHECK_EQ(variant->n_singles, n);
    return held_with(&variant->log, beside);
}

/* Allocated for the logs of a topic's variants. */
static inline uint64_t held_by_variants(const fws_topic *topic)
{
    uint64_t held = 0;
    for (const fws_variant *at = topic->variants; at != NULL; at = at->next)
        held += held_by_variant(at);
    return held;
}

/* What the logs hold is counted, and each stands in the bucket of its size. */
static inline void check_held(const fws_logs *logs, uint64_t held, uint64_t derived, uint32_t n)
{
    CHECK_EQ(logs->bytes, held + derived);

    for (uint32_t i = 0; i < FWS_LOG_BUCKETS; i++)
        for (const fws_link *at = logs->buckets[i].next; at != &logs->buckets[i]; at = at->next) {
            const fws_log *log = FWS_CONTAINER(at, fws_log, link);
            CHECK((i == FWS_LOG_SPARED || log->held >> i == 1) && log->bucket == i);
            n--;
        }
    CHECK_EQ(n, 0);
    /* A slab may be larger than the frame that it was opened for. */
    CHECK(logs->most == 0 || held <= logs->most + 2 * FWS_SLAB_BYTES);
}

static inline void check_topics(const fws_topics *topics)
{
    fws_account sums = gone_sums;
    uint64_t held = 0, derived = 0;
    uint32_t n = 0, dirty = 0, touched = 0, holding = 0;
    for (uint32_t i = 0; i < topics->capacity; i++) {
        const fws_topic *topic = topics->table[i].topic;
        if (topic == NULL)
            continue;
        CHECK(topic->topics == topics && !topic->closed);
        CHECK_EQ(topics->table[i].hash, topic->hash);
        CHECK(fws_topics_find(topics, topic->name, topic->name_n) == topic);
        CHECK(topic->touched || stays(topics, topic)); /* it will go when nothing keeps it */
        CHECK(topic->touched || !topic->watched || topic->wanted == (topic->n > 0));
        CHECK(topic->refs >= topic->n);
        check_account(topic);
        add_account(&sums, &topic->account);
        held += held_by(&topic->log, topic->keys);
        derived += held_by_variants(topic);
        holding += topic->log.held > 0;
        n++;
        dirty += topic->dirty;
        touched += topic->touched;
    }
    CHECK_EQ(n, topics->n);
    for (uint32_t i = 0; i < n_closed; i++)
        add_account(&sums, &closed_topics[i]->account);
    for (const fws_topic *topic = topics->touched; topic != NULL; topic = topic->next_touched) {
        bool noted = !topic->closed;
        for (uint32_t i = 0; i < n_closed; i++)
            noted |= closed_topics[i] == topic;
        if (!noted) /* closed since the last look */
            add_account(&sums, &topic->account);
    }
    check_same_account(&topics->account, &sums);
    check_lists(topics, dirty, touched);
    check_held(&topics->logs, held, derived, holding);
}

#endif
