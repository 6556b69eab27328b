/* A topic's log and members. */
#include <stdlib.h>
#include <string.h>

#include "core/topic.h"

#define LINE 64 /* bytes of a cache line */

void fws_topic_init(fws_topic *topic, fws_pool *pool, const fws_topic_options *options)
{
    *topic = (fws_topic){.options = *options};
    fws_log_init(&topic->log, pool, options->retention_bytes);
}

void fws_topic_clear(fws_topic *topic)
{
    while (topic->n > 0)
        fws_topic_leave(topic->members[topic->n - 1]);
    free(topic->members);
    topic->members = NULL;
    topic->capacity = 0;
    fws_log_clear(&topic->log);
}

void fws_topic_set_options(fws_topic *topic, const fws_topic_options *options)
{
    topic->options = *options;
    topic->log.retention_bytes = options->retention_bytes;
    for (uint32_t i = 0; i < topic->n; i++) {
        topic->members[i]->on_slow = options->on_slow;
        topic->members[i]->max_lag_bytes = options->max_lag_bytes;
    }
}

static void place(fws_topic *topic, uint32_t at, fws_sub *sub)
{
    topic->members[at] = sub;
    sub->member = at;
}

static void swap(fws_topic *topic, uint32_t left, uint32_t right)
{
    fws_sub *moved = topic->members[left];
    place(topic, left, topic->members[right]);
    place(topic, right, moved);
}

fws_sub *fws_topic_find(const fws_topic *topic, const fws_conn *conn)
{
    fws_sub *sub = conn->subs;
    while (sub != NULL && sub->topic != topic)
        sub = sub->next;
    return sub;
}

/* The variant that a connection reads, NULL in *variant when it reads the log itself. */
static bool find_variant(fws_topic *topic, const fws_conn *conn, fws_variant **variant)
{
    *variant = NULL;
    if (conn->window_bits == 0)
        return true;
    fws_variant **place = &topic->variants[conn->window_bits - FWS_WINDOW_MIN];
    if (*place == NULL)
        *place = fws_variant_new(&topic->log, conn->window_bits);
    *variant = *place;
    return *place != NULL;
}

static void leave_variant(fws_topic *topic, fws_variant *variant)
{
    if (variant == NULL || --variant->readers > 0)
        return;
    topic->variants[variant->window_bits - FWS_WINDOW_MIN] = NULL;
    fws_variant_free(variant);
}

fws_sub *fws_topic_join(fws_topic *topic, fws_conn *conn)
{
    if (topic->n == topic->capacity) {
        uint32_t capacity = topic->capacity == 0 ? 8 : topic->capacity * 2;
        fws_sub **members = realloc(topic->members, capacity * sizeof *members);
        if (members == NULL)
            return NULL;
        topic->members = members;
        topic->capacity = capacity;
    }
    fws_variant *variant;
    fws_sub *sub = malloc(sizeof *sub);
    if (sub == NULL || !find_variant(topic, conn, &variant)) {
        free(sub);
        return NULL;
    }
    if (variant != NULL)
        variant->readers++;
    *sub = (fws_sub){.topic = topic,
                     .conn = conn,
                     .log = &topic->log,
                     .variant = variant,
                     .next = conn->subs,
                     .on_slow = topic->options.on_slow,
                     .max_lag_bytes = topic->options.max_lag_bytes,
                     .cursor = fws_log_end(&topic->log),
                     .start = topic->log.next_seq};
    conn->subs = sub;
    place(topic, topic->n++, sub);
    if (!conn->blocked)
        fws_topic_unblock(sub);
    return sub;
}

void fws_topic_block(fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    if (sub->member >= topic->active)
        return;
    if (sub->flushed_epoch < topic->epoch)
        topic->unflushed--;
    swap(topic, sub->member, --topic->active);
}

void fws_topic_unblock(fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    if (sub->member < topic->active)
        return;
    sub->flushed_epoch = topic->epoch; /* the engine flushes it on its own account */
    swap(topic, sub->member, topic->active++);
}

static void unlink_from_conn(fws_sub *sub)
{
    fws_sub **link = &sub->conn->subs;
    while (*link != sub)
        link = &(*link)->next;
    *link = sub->next;
    if (sub->conn->partial.sub == sub)
        sub->conn->partial.sub = NULL;
}

void fws_topic_leave(fws_sub *sub)
{
    fws_topic *topic = sub->topic;
    uint64_t bytes;
    topic->dropped += fws_sub_pending(sub, &bytes) - sub->partial;
    topic->acknowledged += sub->acknowledged;
    fws_conn_part(sub->conn, topic, sub->delivered - sub->acknowledged);
    unlink_from_conn(sub);
    fws_topic_block(sub);
    swap(topic, sub->member, --topic->n);
    leave_variant(topic, sub->variant);
    free(sub->marks);
    free(sub);
}

void fws_topic_begin_pass(fws_topic *topic)
{
    topic->epoch++;
    topic->unflushed = topic->active;
    topic->scan++; /* another one starts */
}

static inline __attribute__((always_inline)) void fetch(const void *object, size_t n)
{
    for (size_t at = 0; at < n; at += LINE)
        __builtin_prefetch((const uint8_t *)object + at, 1);
    __builtin_prefetch((const uint8_t *)object + n - 1, 1);
}

/* With a thousand members none of this is in the cache any more: the member after the next one is
 * fetched, and the next one's connection and marks, while the kernel sends to this one. In line,
 * because gcc leaves out calls of what does nothing but prefetch. */
static inline __attribute__((always_inline)) void look_ahead(const fws_topic *topic)
{
    uint32_t next = topic->scan;
    if (next + 1 >= topic->active)
        return;
    const fws_sub *near = topic->members[next];
    fetch(topic->members[next + 1], FWS_SUB_HOT);
    fetch(near->conn, FWS_CONN_HOT);
    if (near->marks != NULL)
        __builtin_prefetch(&near->marks[near->n_marks], 1);
}

fws_sub *fws_topic_next(fws_topic *topic)
{
    while (topic->unflushed > 0) {
        if (topic->scan >= topic->active)
            topic->scan = 0;
        fws_sub *sub = topic->members[topic->scan++];
        if (sub->flushed_epoch < topic->epoch) {
            sub->flushed_epoch = topic->epoch;
            topic->unflushed--;
            look_ahead(topic);
            return sub;
        }
    }
    return NULL;
}

int fws_topic_reserve(fws_topic *topic, size_t n, uint64_t eseq, uint8_t **room)
{
    if (n == 0 || n > FWS_FRAME_LIMIT)
        return FWS_E_INVALID;
    if (topic->options.on_slow == FWS_SLOW_LOSSLESS
        && topic->log.bytes + n - topic->slowest_bytes > topic->options.max_lag_bytes
        && fws_topic_room(topic) < n && topic->slowest_bytes < topic->log.bytes)
        return FWS_E_FULL;
    *room = fws_log_reserve(&topic->log, n, eseq);
    return *room == NULL ? FWS_E_NOMEM : FWS_OK;
}

void fws_topic_commit(fws_topic *topic, size_t n, uint64_t eseq)
{
    fws_log_commit(&topic->log, n, eseq);
    topic->published_to += topic->n;
}
