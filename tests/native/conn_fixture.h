/* Connections without an engine: topics, subscriptions and the account, for tests. */
#ifndef FWS_TEST_PLAN_H
#define FWS_TEST_PLAN_H

#include "check.h"
#include "core/sub.h"

static uint64_t most_half_sent = 1; /* frames of one message: of those with a batch more */

/* Whether its filter lets a frame through that is retained. */
static inline bool lets_through(const fws_sub *sub, uint64_t seq)
{
    const fws_filter *filter = fws_sub_filter(sub);
    const fws_key *key = filter == NULL ? NULL : fws_keys_at(sub->topic->keys, seq);
    bool wanted = filter == NULL;
    for (uint32_t i = 0; filter != NULL && i < filter->n; i++)
        wanted |= filter->wanted[i] == key;
    return wanted;
}

/* Frames of a subscription that are not delivered, counted by walking the log and the list of what
 * is excluded, frame by frame; a subtraction is what production does. What the log has let go of
 * nobody can walk with a filter. */
static inline uint64_t walk_pending(const fws_sub *sub)
{
    uint64_t count = sub->partial, seq = sub->seq, oldest = sub->topic->log.first_seq;
    if (fws_sub_filter(sub) != NULL && seq < oldest) {
        count += fws_sub_frames(sub, seq, oldest);
        seq = oldest;
    }
    for (; seq < sub->topic->log.next_seq; seq++)
        count += fws_sub_next_excluded(sub, seq) != seq && lets_through(sub, seq);
    return sub->extra == NULL ? count : count - sub->extra->unpublished_ahead;
}

/* Pending frames of a whole topic, half-sent ones of subscriptions that have left not counted. */
static inline uint64_t walk_topic(const fws_topic *topic)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < topic->n; i++)
        count += walk_pending(topic->members[i]);
    return count;
}

/* Readers of a slab, counted by walking the members. */
static inline uint32_t walk_readers(const fws_topic *topic, const fws_slab *slab)
{
    uint32_t count = 0;
    for (uint32_t i = topic->caught; i < topic->n; i++)
        count += topic->members[i]->seq - slab->base_seq < slab->n && !topic->members[i]->ahead
                 && !topic->members[i]->conflating;
    return count;
}

static inline void check_log(const fws_topic *topic)
{
    const fws_log *log = &topic->log;
    uint64_t seq = log->first_seq;
    for (uint64_t id = log->tail; id != log->head; id++) {
        const fws_slab *slab = log->ring[id & (log->capacity - 1)];
        CHECK_EQ(slab->id, id);
        CHECK_EQ(slab->base_seq, seq);
        CHECK_EQ(slab->readers, walk_readers(topic, slab));
        CHECK(slab->unoffered <= slab->readers);
        seq += slab->n;
    }
    CHECK_EQ(seq, log->next_seq);
    uint32_t lapped = 0, conflating = 0;
    for (uint32_t i = topic->caught; i < topic->n; i++) {
        lapped += fws_sub_lapped(topic->members[i]) && !topic->members[i]->ahead;
        conflating += topic->members[i]->conflating;
    }
    CHECK_EQ(topic->lapped, lapped);
    CHECK_EQ(topic->conflating, conflating);
    CHECK_EQ(log->growing != NULL, log->head != log->tail);
}

static inline void check_sub(const fws_topic *topic, uint32_t i)
{
    const fws_sub *sub = topic->members[i];
    uint64_t bytes;
    CHECK_EQ(sub->member, i);
    CHECK(sub->topic == topic && !sub->left && fws_conn_find_sub(sub->conn, topic) == sub);
    CHECK_EQ(sub->pending || sub->resting, i >= topic->caught);
    CHECK(!(sub->pending && sub->resting));
    CHECK(i >= topic->caught || sub->seq >= topic->woken);
    CHECK(!sub->partial || sub->conn->partial.sub == sub);
    CHECK_EQ(fws_sub_pending(sub, &bytes), walk_pending(sub));
    fws_reader_account account = fws_sub_snapshot(sub, 0);
    CHECK_EQ(account.published,
             account.delivered + account.dropped + account.conflated + account.pending);
    CHECK(account.acknowledged <= account.delivered);
    CHECK(i >= topic->caught || sub->extra == NULL || sub->extra->unpublished_ahead == 0);
}

/* What its members' limits come to, counted anew. */
static inline void check_limits(const fws_topic *topic)
{
    uint64_t least = UINT64_MAX, age = UINT64_MAX;
    uint32_t lossless = 0, with_least = 0, from_oldest = 0;
    for (uint32_t i = 0; i < topic->n; i++) {
        const fws_topic_options *options = fws_sub_options(topic->members[i]);
        bool holds = options->on_slow == FWS_SLOW_LOSSLESS;
        lossless += holds;
        from_oldest += options->on_slow == FWS_SLOW_DROP_OLDEST;
        with_least = holds && options->max_lag_bytes < least ? 0 : with_least;
        least = holds && options->max_lag_bytes < least ? options->max_lag_bytes : least;
        with_least += holds && options->max_lag_bytes == least;
        age = !holds && options->max_lag_ns > 0 && options->max_lag_ns < age ? options->max_lag_ns
                                                                             : age;
    }
    CHECK_EQ(topic->lossless, lossless);
    CHECK_EQ(topic->from_oldest, from_oldest);
    CHECK(lossless == 0 || (topic->lossless_lag == least && topic->lossless_least == with_least));
    CHECK(age == UINT64_MAX || (topic->log.slab_ns > 0 && topic->log.slab_ns <= (age + 3) / 4));
}

/* The frames of a key that are retained, one by one. */
static inline void check_ranks(const fws_keys *keys, const fws_key *key)
{
    const fws_log *log = keys->log;
    uint64_t n = 0, gone = fws_ranks_before(key->ranks, log->first_seq), last = UINT64_MAX;
    for (uint64_t seq = log->first_seq; seq < log->next_seq; seq++) {
        CHECK_EQ(fws_ranks_before(key->ranks, seq), gone + n);
        if (fws_keys_at(keys, seq) != key)
            continue;
        CHECK_EQ(fws_ranks_next(key->ranks, last == UINT64_MAX ? log->first_seq : last + 1), seq);
        last = seq;
        n++;
    }
    CHECK_EQ(key->ranks->count, gone + n);
    CHECK(last == UINT64_MAX || fws_ranks_last(key->ranks, log->next_seq) == last);
    CHECK(key->ranks->end - key->ranks->first <= n);
}

/* Keys have ranks while filters of members name them. */
static inline void check_filters(const fws_topic *topic)
{
    const fws_keys *keys = topic->keys;
    uint32_t filtering = 0, ranked = 0;
    for (uint32_t i = 0; i < topic->n; i++)
        filtering += fws_sub_filter(topic->members[i]) != NULL;
    CHECK_EQ(topic->filtering, filtering);
    for (uint32_t at = 0; keys != NULL && at < keys->capacity; at++) {
        const fws_key *key = keys->table[at];
        uint32_t named = 0;
        if (key == NULL)
            continue;
        for (uint32_t i = 0; filtering > 0 && i < topic->n; i++)
            named += fws_sub_filter(topic->members[i]) != NULL
                     && fws_filter_wants(fws_sub_filter(topic->members[i]), key);
        CHECK_EQ(key->ranks == NULL ? 0 : key->ranks->filters, named);
        CHECK(key->ranks == NULL || named > 0);
        CHECK(key == keys->plain || key->place != UINT64_MAX || named > 0);
        ranked += key->ranks != NULL;
        if (key->ranks != NULL)
            check_ranks(keys, key);
    }
    CHECK(keys == NULL || keys->n_ranked == ranked);
}

/* What must hold of a topic between two calls (topic.h), and of each of its subscriptions. */
static inline void check_account(const fws_topic *topic)
{
    const fws_account *sums = &topic->account;
    CHECK(topic->to_wake <= topic->caught && topic->caught <= topic->n);
    CHECK(topic->n <= topic->capacity);
    for (uint32_t i = 0; i < topic->n; i++)
        check_sub(topic, i);
    check_limits(topic);
    check_log(topic);
    check_filters(topic);
    uint64_t missing = sums->published - sums->delivered - sums->dropped - sums->conflated;
    CHECK(missing >= walk_topic(topic)); /* half-sent frames of who has left besides */
    CHECK(missing - walk_topic(topic) <= topic->refs * most_half_sent);
    CHECK(sums->acknowledged <= sums->delivered);
}

static inline void append_frame(fws_topic *topic, const void *frame, size_t n, uint64_t eseq)
{
    uint8_t *room;
    CHECK_EQ(fws_topic_reserve(topic, n, eseq, &room), FWS_OK);
    memcpy(room, frame, n);
    /* As the engine does it: once there are keys, a frame without one has the empty key. */
    fws_topic_commit_keyed(topic, topic->keys == NULL ? NULL : fws_topic_key(topic, NULL, 0), n,
                           eseq);
}

/* Wakes all topics, as a flush does first. */
static inline void wake_all(fws_topics *topics)
{
    while (topics->dirty != NULL) {
        fws_topic *topic = topics->dirty;
        topics->dirty = topic->next_dirty;
        topic->dirty = false;
        fws_topic_begin_wake(topic);
        topics->waking = topic;
        while (fws_topic_wake(topic) != NULL)
            continue;
        topics->waking = NULL;
    }
    topics->dirty_end = &topics->dirty;
}

/* Ends all subscriptions of a connection and frees what it holds, as death does. */
static inline void strip(fws_conn *conn)
{
    for (uint32_t i = 0; conn->n_subs > 0; i++)
        while (conn->n_subs > 0 && conn->subs[i & (conn->capacity_subs - 1)] != NULL)
            fws_topic_leave(conn->subs[i & (conn->capacity_subs - 1)]);
    fws_partial_drop(conn);
    fws_conn_clear_subs(conn);
    fws_outbox_clear(&conn->outbox);
}

#endif
