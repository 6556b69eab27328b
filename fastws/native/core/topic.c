/* One topic: members, caught up or pending; options; joining and leaving; the wake; its end. */
#include "core/sample.h"

#include <stdlib.h>

#define LINE 64      /* bytes of a cache line */
#define SUB_AHEAD 12 /* members that the wake fetches ahead, */
#define CONN_AHEAD 6 /* and connections */

/* Members. */

static void place(fws_topic *topic, uint32_t at, fws_sub *sub)
{
    topic->members[at] = sub;
    sub->member = at;
}

static void swap(fws_topic *topic, uint32_t left, uint32_t right)
{
    if (left == right)
        return;
    fws_sub *moved = topic->members[left];
    place(topic, left, topic->members[right]);
    place(topic, right, moved);
}

static bool members_resize(fws_topic *topic, uint32_t capacity)
{
    bool inside = topic->capacity <= 1;
    fws_sub **members = realloc(inside ? NULL : topic->members, capacity * sizeof *members);
    if (members == NULL)
        return false;
    if (inside)
        members[0] = topic->one_member;
    topic->members = members;
    topic->capacity = capacity;
    return true;
}

/* Moves it to the pending members, from any part. */
static void to_pending(fws_topic *topic, fws_sub *sub)
{
    if (sub->member < topic->to_wake)
        swap(topic, sub->member, --topic->to_wake);
    if (sub->member < topic->caught)
        swap(topic, sub->member, --topic->caught);
}

/* Moves it to the caught-up members: it stands at the head. */
static void caught(fws_topic *topic, fws_sub *sub)
{
    if (topic->caught == 0)
        topic->woken = topic->log.next_seq; /* no member was there to be woken */
    swap(topic, sub->member, topic->caught++);
}

void fws_topic_caught_up(fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    fws_sub_uncount(sub);
    caught(topic, sub);
    fws_topic_passed(topic);
    if (topic->wild == topic->n && topic->caught == topic->n)
        fws_topic_touch(topic); /* nobody else may need it */
}

/* Options. */

int fws_topic_set_options(fws_topic *topic, const fws_topic_options *options)
{
    const fws_topic_options *shared = fws_topics_share(topic->topics, options);
    if (shared == NULL)
        return FWS_E_NOMEM;
    if (shared == topic->options)
        return FWS_OK;
    topic->options = shared;
    fws_log_unspare(&topic->log);
    fws_topic_renew_limits(topic);
    topic->room_until = 0;
    fws_topic_note_time(topic);
    fws_topic_release(topic);
    return FWS_OK;
}

int fws_sub_set_options(fws_sub *sub, const fws_topic_options *options)
{
    const fws_topic_options *shared = NULL;
    if (options == NULL && sub->extra == NULL)
        return FWS_OK;
    if (options != NULL && (shared = fws_topics_share(sub->topic->topics, options)) == NULL)
        return FWS_E_NOMEM;
    if (sub->extra == NULL && (sub->extra = calloc(1, sizeof *sub->extra)) == NULL)
        return FWS_E_NOMEM;
    fws_topic_uncount_limits(sub->topic, sub);
    sub->extra->options = shared;
    fws_topic_count_limits(sub->topic, sub);
    fws_topic_check_limits(sub->topic);
    fws_topic_release(sub->topic); /* another policy may need less */
    return FWS_OK;
}

/* Joining and leaving. */

static void extra_free(fws_sub *sub)
{
    if (sub->extra != NULL) {
        fws_sub_leave_variant(sub);
        fws_losses_end(sub->topic->topics, sub->extra->losses);
        free(sub->extra->excluded);
        fws_filter_free(sub->extra->filter);
        free(sub->extra->max_rate);
    }
    free(sub->extra);
    sub->extra = NULL;
}

/* Options of its own, a replay and a variant, where it needs them. False: memory is out. */
static bool equip(fws_sub *sub, const fws_topic_options *options, uint64_t eseq)
{
    fws_topic *topic = sub->topic;
    const fws_topic_options *shared = NULL;
    bool replays = sub->seq < topic->log.next_seq;
    if (options != NULL && (shared = fws_topics_share(topic->topics, options)) == NULL)
        return false;
    if (shared == NULL && !replays && sub->conn->window_bits == 0)
        return true;
    if (sub->extra == NULL && (sub->extra = calloc(1, sizeof *sub->extra)) == NULL)
        return false;
    sub->extra->options = shared;
    if (replays) {
        sub->extra->replay_to = topic->log.next_seq;
        sub->extra->replay_eseq = eseq;
    }
    const fws_encoding encoding = {.window_bits = sub->conn->window_bits};
    return encoding.window_bits == 0 || fws_sub_join_variant(sub, encoding);
}

/* The filter of those names. False: memory is out. */
static bool set_filter(fws_sub *sub, const uint8_t *names, size_t n)
{
    fws_topic *topic = sub->topic;
    if (n == 0)
        return true;
    if (fws_topic_key(topic, NULL, 0) == NULL
        || (sub->extra = calloc(1, sizeof *sub->extra)) == NULL)
        return false;
    sub->extra->filter = fws_filter_new(topic->keys, names, n);
    return sub->extra->filter != NULL;
}

/* Finds its first frame. Returns whether it begins with a snapshot. */
static bool begin(fws_sub *sub, const fws_topic_options *options, uint64_t seq)
{
    fws_topic *topic = sub->topic;
    const fws_filter *filter = fws_sub_filter(sub);
    bool snapshot = seq == FWS_START && fws_topic_has_snapshot(topic, options)
                    && (filter == NULL || fws_filter_keys(filter, 0) > 0);
    if (seq == FWS_START)
        seq = filter == NULL ? fws_topic_start(topic, options)
                             : fws_topic_start_filtered(topic, filter, snapshot);
    sub->seq = sub->start = seq;
    if (filter != NULL)
        fws_sub_begin_filtered(sub, snapshot);
    return snapshot;
}

/* It takes part in the topic: caught up, or pending with what is replayed to it. */
static void enter(fws_topic *topic, fws_sub *sub, bool snapshot)
{
    uint64_t replayed = fws_sub_frames(sub, sub->seq, topic->log.next_seq);
    place(topic, topic->n++, sub);
    topic->filtering += fws_sub_filter(sub) != NULL;
    if (snapshot) { /* equip() made its extra: this does not fail */
        const fws_filter *filter = fws_sub_filter(sub);
        uint32_t keys = filter == NULL ? topic->keys->n : fws_filter_keys(filter, 0);
        (void)fws_sub_conflate(sub);
        sub->extra->unpublished = sub->extra->unpublished_ahead = replayed - keys;
        replayed = keys;
    }
    topic->account.published += replayed;
    topic->topics->account.published += replayed;
    if (replayed == 0) {
        caught(topic, sub);
    } else {
        fws_sub_count(sub);
        fws_conn_push(sub->conn, sub, fws_sub_eseq(sub));
    }
    fws_topic_count_limits(topic, sub);
    fws_topic_ref(topic); /* until the subscription is freed: it may outlive its membership */
    if (topic->n == 1)
        fws_topic_touch(topic);
}

fws_sub *fws_topic_join(fws_topic *topic, fws_conn *conn, const fws_topic_options *options)
{
    return fws_topic_join_at(topic, conn, options, FWS_START, 0);
}

fws_sub *fws_topic_join_at(fws_topic *topic, fws_conn *conn, const fws_topic_options *options,
                           uint64_t seq, uint64_t eseq)
{
    return fws_topic_join_filtered(topic, conn, options, seq, eseq, NULL, 0);
}

fws_sub *fws_topic_join_filtered(fws_topic *topic, fws_conn *conn, const fws_topic_options *options,
                                 uint64_t seq, uint64_t eseq, const uint8_t *names, size_t names_n)
{
    uint32_t larger = topic->capacity < 4 ? 4 : topic->capacity * 2;
    bool snapshot = false;
    if (topic->n == topic->capacity && !members_resize(topic, larger))
        return NULL;
    fws_sub *sub = malloc(sizeof *sub);
    if (sub == NULL)
        return NULL;
    *sub = (fws_sub){.topic = topic, .conn = conn, .id = topic->topics->next_sub_id++};
    bool made = set_filter(sub, names, names_n);
    if (made)
        snapshot = begin(sub, options, seq);
    if (!made || !equip(sub, options, eseq) || !fws_conn_add_sub(conn, sub)) {
        extra_free(sub);
        free(sub);
        return NULL;
    }
    enter(topic, sub, snapshot);
    return sub;
}

void fws_topic_leave(fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    fws_conn *conn = sub->conn;
    uint64_t bytes;
    fws_sub_unsample(sub);
    fws_sub_dropped(sub, fws_sub_pending(sub, &bytes) - sub->partial);
    fws_sub_uncount(sub);
    fws_sub_end_rest(sub);
    fws_topic_uncount_limits(topic, sub);
    topic->wild -= sub->wild;
    conn->n_wild -= sub->wild;
    fws_conn_remove_sub(conn, sub);
    to_pending(topic, sub);
    swap(topic, sub->member, --topic->n);
    topic->filtering -= fws_sub_filter(sub) != NULL;
    fws_topic_check_limits(topic);
    if (topic->capacity > 64 && topic->n < topic->capacity / 8)
        (void)members_resize(topic, topic->capacity / 4); /* the larger one serves as well */
    extra_free(sub);
    sub->left = true;
    sub->seq = topic->log.next_seq;
    conn->n_left += sub->pending;
    fws_topic_release(topic);
    if (topic->n == topic->wild)
        fws_topic_touch(topic);
    fws_sub_put(sub);
    fws_conn_thin(conn);
}

/* The wake. */

void fws_topic_begin_wake(fws_topic *topic)
{
    topic->to_wake = topic->caught;
    topic->wake_to = topic->log.next_seq;
    topic->wake_eseq = topic->dirty_eseq;
}

static inline __attribute__((always_inline)) void fetch(const void *object, size_t n)
{
    for (size_t at = 0; at < n; at += LINE)
        __builtin_prefetch((const uint8_t *)object + at, 1);
}

/* With a thousand members none of this is in the cache any more. In line, because gcc leaves out
 * calls of what does nothing but prefetch. */
static inline __attribute__((always_inline)) void look_ahead(const fws_topic *topic)
{
    uint32_t left = topic->to_wake;
    if (left > SUB_AHEAD)
        fetch(topic->members[left - 1 - SUB_AHEAD], sizeof(fws_sub));
    if (left > CONN_AHEAD) {
        const fws_conn *near = topic->members[left - 1 - CONN_AHEAD]->conn;
        fetch(&near->fd, LINE);
        fetch(&near->heap, 2 * LINE);
        fetch(&near->dirty, sizeof near->dirty);
    }
}

fws_sub *fws_topic_wake(fws_topic *topic)
{
    while (topic->to_wake > 0) {
        look_ahead(topic);
        fws_sub *sub = topic->members[topic->to_wake - 1];
        uint64_t from = sub->seq;
        fws_sub_pass(sub);
        fws_sub_passed(sub, from);
        if (sub->seq == topic->log.next_seq) {
            topic->to_wake--; /* it stays caught up */
            continue;
        }
        to_pending(topic, sub);
        if (fws_sub_rests(sub))
            return sub;
        fws_sub_count(sub);
        fws_conn_push(sub->conn, sub, fws_sub_eseq(sub));
        return sub;
    }
    topic->woken = topic->wake_to > topic->woken ? topic->wake_to : topic->woken;
    fws_topic_release(topic);
    if (topic->n == topic->wild)
        fws_topic_touch(topic); /* the wake was what kept it */
    return NULL;
}

/* The end. */

void fws_topic_close(fws_topic *topic)
{
    if (topic->closed)
        return;
    fws_topic_ref(topic);
    while (topic->n > 0)
        fws_topic_leave(topic->members[topic->n - 1]);
    fws_topics_unname(topic->topics, topic);
    fws_topic_unwait(topic);
    fws_keys_free(topic->keys);
    topic->keys = NULL;
    fws_log_clear(&topic->log);
    topic->closed = true;
    fws_topic_unref(topic);
}
