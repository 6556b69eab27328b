/* A topic's members: who is caught up, who is pending; and its publishing. */
#include "core/topic.h"

#include <stdlib.h>
#include <string.h>

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

static bool members_grow(fws_topic *topic)
{
    uint32_t capacity = topic->capacity < 4 ? 4 : topic->capacity * 2;
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

/* From wherever it is behind both borders. */
static void to_pending(fws_topic *topic, fws_sub *sub)
{
    if (sub->member < topic->to_wake)
        swap(topic, sub->member, --topic->to_wake);
    if (sub->member < topic->caught)
        swap(topic, sub->member, --topic->caught);
}

/* It stands at the head: it has everything. */
static void caught(fws_topic *topic, fws_sub *sub)
{
    if (topic->caught == 0)
        topic->woken = topic->log.next_seq; /* nobody was there to be woken */
    swap(topic, sub->member, topic->caught++);
}

void fws_topic_caught_up(fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    fws_sub_uncount(sub);
    caught(topic, sub);
    fws_topic_passed(topic);
}

/* Variants: the one that a connection reads. */

static fws_variant *variant_of(fws_topic *topic, const fws_conn *conn)
{
    if (topic->variants == NULL)
        topic->variants = calloc(FWS_VARIANTS, sizeof *topic->variants);
    if (topic->variants == NULL)
        return NULL;
    fws_variant **place = &topic->variants[conn->window_bits - FWS_WINDOW_MIN];
    if (*place == NULL)
        *place = fws_variant_new(&topic->log, conn->window_bits);
    return *place;
}

static void leave_variant(fws_topic *topic, fws_variant *variant)
{
    if (variant == NULL || --variant->readers > 0)
        return;
    topic->variants[variant->window_bits - FWS_WINDOW_MIN] = NULL;
    fws_variant_free(variant);
    for (unsigned i = 0; i < FWS_VARIANTS; i++)
        if (topic->variants[i] != NULL)
            return;
    free(topic->variants);
    topic->variants = NULL;
}

/* Options. */

static void count_lossless(fws_topic *topic, const fws_sub *sub)
{
    const fws_topic_options *options = fws_sub_options(sub);
    if (options->on_slow != FWS_SLOW_LOSSLESS)
        return;
    bool first = topic->lossless++ == 0;
    if (first || options->max_lag_bytes < topic->lossless_lag)
        topic->lossless_lag = options->max_lag_bytes;
    if (first || options->max_lag_bytes > topic->lossless_most)
        topic->lossless_most = options->max_lag_bytes;
    topic->room_until = 0;
}

static void uncount_lossless(fws_topic *topic, const fws_sub *sub)
{
    topic->lossless -= fws_sub_options(sub)->on_slow == FWS_SLOW_LOSSLESS;
    topic->room_until = 0;
}

/* For history by age: the newest frame is at most that old. */
static void note_time(fws_topic *topic)
{
    if (topic->options->history_ns > 0 && topic->topics->logs.clock != NULL)
        topic->appended_at = *topic->topics->logs.clock;
}

int fws_topic_set_options(fws_topic *topic, const fws_topic_options *options)
{
    const fws_topic_options *shared = fws_topics_share(topic->topics, options);
    if (shared == NULL)
        return FWS_E_NOMEM;
    topic->options = shared;
    topic->lossless = 0;
    for (uint32_t i = 0; i < topic->n; i++)
        count_lossless(topic, topic->members[i]);
    topic->room_until = 0;
    note_time(topic);
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
    uncount_lossless(sub->topic, sub);
    sub->extra->options = shared;
    count_lossless(sub->topic, sub);
    return FWS_OK;
}

/* Joining and leaving. */

static void extra_free(fws_sub *sub)
{
    if (sub->extra != NULL)
        free(sub->extra->excluded);
    free(sub->extra);
    sub->extra = NULL;
}

/* What a subscription needs besides itself. False: memory is out. */
static bool equip(fws_sub *sub, const fws_topic_options *options)
{
    fws_topic *topic = sub->topic;
    const fws_topic_options *shared = NULL;
    if (options != NULL && (shared = fws_topics_share(topic->topics, options)) == NULL)
        return false;
    if (shared == NULL && sub->conn->window_bits == 0)
        return true;
    sub->extra = calloc(1, sizeof *sub->extra);
    if (sub->extra == NULL)
        return false;
    sub->extra->options = shared;
    if (sub->conn->window_bits == 0)
        return true;
    sub->extra->variant = variant_of(topic, sub->conn);
    if (sub->extra->variant == NULL)
        return false;
    sub->extra->variant->readers++;
    return true;
}

fws_sub *fws_topic_join(fws_topic *topic, fws_conn *conn, const fws_topic_options *options)
{
    if (topic->n == topic->capacity && !members_grow(topic))
        return NULL;
    fws_sub *sub = malloc(sizeof *sub);
    if (sub == NULL)
        return NULL;
    *sub = (fws_sub){.topic = topic,
                     .conn = conn,
                     .seq = topic->log.next_seq,
                     .start = topic->log.next_seq,
                     .id = topic->topics->next_sub_id++};
    if (!equip(sub, options) || !fws_conn_add_sub(conn, sub)) {
        if (sub->extra != NULL)
            leave_variant(topic, sub->extra->variant);
        extra_free(sub);
        free(sub);
        return NULL;
    }
    place(topic, topic->n++, sub);
    caught(topic, sub);
    count_lossless(topic, sub);
    fws_topic_ref(topic); /* until the subscription is freed: it may outlive its membership */
    if (topic->n == 1)
        fws_topic_touch(topic);
    return sub;
}

void fws_topic_leave(fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    fws_conn *conn = sub->conn;
    uint64_t bytes;
    fws_sub_dropped(sub, fws_sub_pending(sub, &bytes) - sub->partial);
    fws_sub_uncount(sub);
    uncount_lossless(topic, sub);
    fws_conn_remove_sub(conn, sub);
    to_pending(topic, sub);
    swap(topic, sub->member, --topic->n);
    if (sub->extra != NULL)
        leave_variant(topic, sub->extra->variant);
    extra_free(sub);
    sub->left = true;
    sub->seq = topic->log.next_seq;
    conn->n_left += sub->pending;
    fws_topic_release(topic);
    if (topic->n == 0)
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
        fws_sub_pass(sub);
        if (sub->seq == topic->log.next_seq) {
            topic->to_wake--; /* it stays caught up */
            continue;
        }
        to_pending(topic, sub);
        fws_sub_count(sub);
        fws_conn_push(sub->conn, sub, fws_sub_eseq(sub));
        return sub;
    }
    topic->woken = topic->wake_to > topic->woken ? topic->wake_to : topic->woken;
    fws_topic_release(topic);
    if (topic->n == 0)
        fws_topic_touch(topic); /* the wake was what kept it */
    return NULL;
}

/* What is kept. */

/* The first frame that history wants. */
static uint64_t history_from(const fws_topic *topic)
{
    const fws_topic_options *wanted = topic->options;
    const fws_log *log = &topic->log;
    uint64_t from = log->first_seq;
    if ((wanted->history_messages | wanted->history_bytes | wanted->history_ns) == 0)
        return log->next_seq;
    if (wanted->history_messages > 0 && log->next_seq - from > wanted->history_messages)
        from = log->next_seq - wanted->history_messages;
    /* By bytes and age only whole slabs go: the oldest one, when what follows it is enough. */
    const fws_slab *oldest = fws_log_oldest(log);
    if (oldest == NULL)
        return from;
    uint64_t behind = log->bytes - oldest->base_bytes - oldest->bytes;
    bool last = oldest == log->growing;
    uint64_t ended =
        last ? topic->appended_at : log->ring[(log->tail + 1) & (log->capacity - 1)]->opened;
    bool enough = !last && wanted->history_bytes > 0 && behind >= wanted->history_bytes;
    bool old = wanted->history_ns > 0 && log->logs->clock != NULL
               && *log->logs->clock - ended > wanted->history_ns;
    return enough || old ? oldest->base_seq + oldest->n : from;
}

static void trim_variants(fws_topic *topic)
{
    for (unsigned i = 0; topic->variants != NULL && i < FWS_VARIANTS; i++)
        if (topic->variants[i] != NULL)
            fws_variant_trim(topic->variants[i], topic->log.first_seq);
}

void fws_topic_release(fws_topic *topic)
{
    fws_log *log = &topic->log;
    const fws_slab *oldest;
    uint64_t tail = log->tail;
    while ((oldest = fws_log_oldest(log)) != NULL && oldest->readers == 0 && topic->ahead == 0) {
        if (topic->lapped > 0 && oldest == log->growing)
            break; /* the newest frame is what they may get next */
        uint64_t end = oldest->base_seq + oldest->n;
        if ((topic->caught > 0 && end > topic->woken) || end > history_from(topic))
            break;
        fws_log_drop_oldest(log);
    }
    if (tail != log->tail)
        trim_variants(topic);
}

void fws_topic_lap(fws_topic *topic)
{
    topic->lapped += fws_log_oldest(&topic->log)->readers;
    fws_log_drop_oldest(&topic->log);
}

void fws_topic_dropped(fws_topic *topic)
{
    trim_variants(topic);
    fws_topic_release(topic); /* nobody may stand in what is the oldest slab now */
}

void fws_topic_passed(fws_topic *topic)
{
    const fws_slab *oldest = fws_log_oldest(&topic->log);
    if (oldest != NULL && oldest->readers == 0)
        fws_topic_release(topic);
}

/* Another slab was opened: subscribers that lag keep at most retention_bytes behind it, lossless
 * ones their limit. What was not offered yet to those who keep up stays. */
static void trim(fws_topic *topic)
{
    fws_log *log = &topic->log;
    uint64_t tail = log->tail, most = topic->options->retention_bytes;
    if (topic->lossless > 0 && topic->lossless_most > most)
        most = topic->lossless_most;
    while (log->tail + 1 < log->head) {
        const fws_slab *oldest = fws_log_oldest(log);
        uint64_t end = oldest->base_seq + oldest->n;
        if (log->bytes - (oldest->base_bytes + oldest->bytes) < most || oldest->unoffered > 0
            || (topic->caught > 0 && end > topic->woken) || end > history_from(topic))
            break;
        fws_topic_lap(topic);
    }
    if (tail != log->tail)
        fws_topic_dropped(topic);
}

/* Publishing. */

static bool in_the_way(fws_topic *topic, size_t n)
{
    if (topic->lossless == 0 || topic->log.bytes + n <= topic->room_until)
        return false;
    uint64_t room = fws_topic_room(topic, n);
    topic->room_until = topic->log.bytes + room;
    return room < n && room < topic->lossless_lag; /* one frame passes when nobody is behind */
}

int fws_topic_reserve(fws_topic *topic, size_t n, uint64_t eseq, uint8_t **room)
{
    if (n == 0 || n > FWS_FRAME_LIMIT)
        return FWS_E_INVALID;
    if (in_the_way(topic, n))
        return FWS_E_FULL;
    if (!fws_log_fits(&topic->log, n, eseq) && !fws_topics_make_room(topic->topics, n))
        return FWS_E_FULL;
    *room = fws_log_reserve(&topic->log, n, eseq);
    return *room == NULL ? FWS_E_NOMEM : FWS_OK;
}

/* Marks it to be woken, and lets go of what is too much. */
static void appended(fws_topic *topic, uint64_t first_eseq)
{
    fws_topics *topics = topic->topics;
    note_time(topic);
    if (topic->n == 0) {
        fws_topic_release(topic);
        return;
    }
    if (topic->log.head - topic->log.tail > 1) {
        trim(topic);
        fws_topic_passed(topic); /* the last slab may have been kept for those who are lapped */
    }
    if (topic->dirty || topic->caught == 0)
        return;
    topic->dirty = true;
    topic->dirty_eseq = first_eseq;
    topic->next_dirty = NULL;
    *topics->dirty_end = topic;
    topics->dirty_end = &topic->next_dirty;
    topics->load += topic->caught;
}

void fws_topic_commit(fws_topic *topic, size_t n, uint64_t eseq)
{
    fws_log_commit(&topic->log, n, eseq);
    topic->account.published += topic->n;
    topic->topics->account.published += topic->n;
    appended(topic, eseq);
}

void fws_topic_appended(fws_topic *topic, uint64_t frames, uint64_t first_eseq)
{
    topic->account.published += frames * topic->n;
    topic->topics->account.published += frames * topic->n;
    if (frames > 0)
        appended(topic, first_eseq);
}
