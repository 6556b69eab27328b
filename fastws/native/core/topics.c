/* All topics of an engine: names, shared options, references and the end of a topic, the budget. */
#include <stdlib.h>
#include <string.h>

#include "core/sample.h"
#include "wire/hash.h"

#define SWEPT 1024     /* places of the table that one sweep looks at */
#define LOOKED_AT 1024 /* logs that are looked at for one slab that can go */

typedef struct fws_settings {
    fws_topic_options options; /* first: a pointer to it is one to the whole */
    struct fws_settings *next;
} fws_settings;

void fws_topics_init(fws_topics *topics, const uint64_t *clock, uint64_t most, uint64_t seed)
{
    *topics = (fws_topics){.seed = seed, .epochs = seed};
    topics->dirty_end = &topics->dirty;
    fws_link_init(&topics->losses);
    fws_link_init(&topics->waiting);
    fws_link_init(&topics->moved);
    fws_logs_init(&topics->logs, clock, most);
}

/* Names. */

static uint32_t table_find(const fws_topics *topics, uint32_t hash, const char *name, size_t n)
{
    uint32_t mask = topics->capacity - 1, at = hash & mask;
    for (;; at = (at + 1) & mask) {
        const fws_topic_entry *entry = &topics->table[at];
        if (entry->topic == NULL)
            return at;
        if (entry->hash == hash && entry->topic->name_n == n
            && memcmp(entry->topic->name, name, n) == 0)
            return at;
    }
}

static bool table_resize(fws_topics *topics, uint32_t capacity)
{
    fws_topic_entry *table = calloc(capacity, sizeof *table), *old = topics->table;
    if (table == NULL)
        return false;
    for (uint32_t i = 0; i < topics->capacity; i++) {
        if (old[i].topic == NULL)
            continue;
        uint32_t at = old[i].hash & (capacity - 1);
        while (table[at].topic != NULL)
            at = (at + 1) & (capacity - 1);
        table[at] = old[i];
    }
    free(old);
    topics->table = table;
    topics->capacity = capacity;
    return true;
}

void fws_topics_unname(fws_topics *topics, const fws_topic *topic)
{
    uint32_t mask = topics->capacity - 1;
    uint32_t hole = table_find(topics, topic->hash, topic->name, topic->name_n);
    topics->table[hole].topic = NULL;
    topics->n--;
    for (uint32_t at = (hole + 1) & mask; topics->table[at].topic != NULL; at = (at + 1) & mask) {
        if (((at - topics->table[at].hash) & mask) < ((at - hole) & mask))
            continue;
        topics->table[hole] = topics->table[at];
        topics->table[at].topic = NULL;
        hole = at;
    }
    if (topics->capacity > 64 && topics->n < topics->capacity / 8)
        (void)table_resize(topics, topics->capacity / 4); /* a larger one serves as well */
}

fws_topic *fws_topics_find(const fws_topics *topics, const char *name, size_t n)
{
    if (topics->capacity == 0)
        return NULL;
    return topics->table[table_find(topics, fws_hash(topics->seed, name, n), name, n)].topic;
}

fws_topic *fws_topics_get(fws_topics *topics, const char *name, size_t n,
                          const fws_topic_options *options)
{
    fws_topic *topic = fws_topics_find(topics, name, n);
    if (topic != NULL)
        return topic;
    const fws_topic_options *shared = n > FWS_NAME_MAX ? NULL : fws_topics_share(topics, options);
    if (shared == NULL
        || (topics->n >= topics->capacity / 4 * 3
            && !table_resize(topics, topics->capacity == 0 ? 16 : topics->capacity * 2)))
        return NULL;
    topic = malloc(sizeof *topic + n);
    if (topic == NULL)
        return NULL;
    *topic = (fws_topic){.topics = topics,
                         .options = shared,
                         .capacity = 1,
                         .epoch = topics->epochs + 0x9E3779B97F4A7C15ULL * ++topics->incarnations,
                         .hash = fws_hash(topics->seed, name, n),
                         .name_n = (uint16_t)n};
    memcpy(topic->name, name, n);
    topic->members = &topic->one_member;
    fws_log_init(&topic->log, &topics->logs, true);
    topics->table[table_find(topics, topic->hash, name, n)] = (fws_topic_entry){topic, topic->hash};
    topics->n++;
    fws_topic_touch(topic);
    return topic;
}

static bool same_options(const fws_topic_options *left, const fws_topic_options *right)
{
    return left->retention_bytes == right->retention_bytes
           && left->max_lag_bytes == right->max_lag_bytes && left->on_slow == right->on_slow
           && left->history_messages == right->history_messages
           && left->history_bytes == right->history_bytes && left->history_ns == right->history_ns
           && left->max_lag_messages == right->max_lag_messages
           && left->max_lag_ns == right->max_lag_ns && left->min_rate == right->min_rate
           && left->retain == right->retain && left->content == right->content;
}

const fws_topic_options *fws_topics_share(fws_topics *topics, const fws_topic_options *options)
{
    fws_settings **link = &topics->settings, *found;
    while ((found = *link) != NULL && !same_options(&found->options, options))
        link = &found->next;
    if (found != NULL) { /* to the front: the next one is likely to be the same */
        *link = found->next;
    } else {
        found = malloc(sizeof *found);
        if (found == NULL)
            return NULL;
        found->options = *options;
    }
    found->next = topics->settings;
    topics->settings = found;
    return &found->options;
}

/* Life. */

void fws_topic_ref(fws_topic *topic)
{
    __atomic_add_fetch(&topic->refs, 1, __ATOMIC_RELAXED);
}

void fws_topic_unref(fws_topic *topic)
{
    __atomic_sub_fetch(&topic->refs, 1, __ATOMIC_RELEASE);
    fws_topic_touch(topic);
}

void fws_topic_touch(fws_topic *topic)
{
    if (topic->touched)
        return;
    topic->touched = true;
    topic->next_touched = topic->topics->touched;
    topic->topics->touched = topic;
}

static bool needed(const fws_topic *topic)
{
    return topic->n > 0 || topic->dirty || topic == topic->topics->waking
           || __atomic_load_n(&topic->refs, __ATOMIC_ACQUIRE) > 0
           || (!topic->closed && (topic->configured || topic->log.held > 0));
}

void fws_topic_unwait(fws_topic *topic)
{
    if (topic->waiting == NULL)
        return;
    fws_link_remove(&topic->waiting->link);
    free(topic->waiting);
    topic->waiting = NULL;
}

static void topic_free(fws_topic *topic)
{
    fws_topic_unwait(topic);
    fws_topic_unsample(topic);
    fws_keys_free(topic->keys);
    fws_log_clear(&topic->log);
    if (topic->capacity > 1)
        free(topic->members);
    free(topic);
}

fws_topic *fws_topics_collect(fws_topics *topics)
{
    while (topics->touched != NULL) {
        fws_topic *topic = topics->touched;
        bool wanted = topic->n > 0;
        topics->touched = topic->next_touched;
        topic->touched = false;
        if (topic->watched && wanted != topic->wanted) {
            topic->wanted = wanted;
            fws_topic_touch(topic); /* whether it goes is the next call's question */
            return topic;
        }
        if (needed(topic))
            continue;
        if (!topic->closed)
            fws_topics_unname(topics, topic);
        topic_free(topic);
    }
    return NULL;
}

void fws_topics_clear(fws_topics *topics)
{
    /* Closed topics are not in the table: those that waited for a wake go like the others. */
    for (fws_topic *topic = topics->dirty; topic != NULL; topic = topic->next_dirty) {
        topic->dirty = false;
        fws_topic_touch(topic);
    }
    if (topics->waking != NULL)
        fws_topic_touch(topics->waking);
    topics->dirty = topics->waking = NULL;
    while (fws_topics_collect(topics) != NULL)
        continue;
    for (uint32_t i = 0; i < topics->capacity; i++)
        if (topics->table[i].topic != NULL)
            topic_free(topics->table[i].topic);
    free(topics->table);
    free(topics->resting);
    fws_topics_forget_losses(topics);
    while (topics->settings != NULL) {
        fws_settings *next = topics->settings->next;
        free(topics->settings);
        topics->settings = next;
    }
    fws_logs_clear(&topics->logs);
}

bool fws_topic_recovers(const fws_topic *topic, uint64_t epoch, uint64_t seq)
{
    return epoch == topic->epoch && seq >= topic->log.first_seq && seq <= topic->log.next_seq;
}

/* The budget. */

/* Whether a member still has to get frames of the oldest slab. Those that are caught up are not
 * counted there before they are woken. */
static bool oldest_needed(const fws_topic *topic)
{
    const fws_slab *oldest = fws_log_oldest(&topic->log);
    return oldest->readers > 0 || topic->ahead > 0
           || (topic->caught > 0 && oldest->base_seq + oldest->n > topic->woken);
}

/* Drops the oldest slab of a log. False: a lossless member needs it, or there is none: what the log
 * holds is of its filters. */
static bool take_from(fws_topics *topics, fws_topic *topic)
{
    if (topic->keys != NULL && topic->keys->n_saved > 0) { /* they are older than any slab */
        topics->budget_dropped++;
        fws_topic_touch(topic);
        return fws_keys_shrink(topic->keys, FWS_SLAB_BYTES) > 0;
    }
    if (fws_log_oldest(&topic->log) == NULL)
        return false;
    bool laps = oldest_needed(topic);
    if (laps && topic->lossless > 0)
        return false;
    topics->budget_dropped += laps;
    if (laps)
        topic->budget_to = fws_log_oldest(&topic->log)->base_seq + fws_log_oldest(&topic->log)->n;
    fws_topic_lap(topic);
    fws_topic_dropped(topic);
    if (topic->n == topic->wild)
        fws_topic_touch(topic);
    return true;
}

static bool take_one(fws_topics *topics)
{
    int left = LOOKED_AT;
    for (int bucket = FWS_LOG_SPARED - 1; bucket >= 0; bucket--) {
        fws_link *ring = &topics->logs.buckets[bucket];
        while (!fws_link_empty(ring) && left-- > 0) {
            fws_log *log = FWS_CONTAINER(ring->next, fws_log, link);
            if (take_from(topics, FWS_CONTAINER(log, fws_topic, log)))
                return true;
            fws_log_spare(log);
        }
    }
    return false;
}

bool fws_topic_make_room(fws_topic *topic, size_t n)
{
    const fws_logs *logs = &topic->topics->logs;
    if (logs->most == 0)
        return true;
    if (n > logs->most)
        return false; /* not even if everything else went */
    /* What it needs may change: its own slabs may be taken. */
    while (logs->bytes + fws_log_need(&topic->log, n) > logs->most)
        if (!take_one(topic->topics))
            return false;
    return true;
}

/* History goes by age, too, and so do topics that only wildcards have. */

void fws_topics_sweep(fws_topics *topics)
{
    uint32_t n = topics->capacity < SWEPT ? topics->capacity : SWEPT;
    while (n-- > 0) {
        fws_topic *topic = topics->table[topics->sweep_at++ % topics->capacity].topic;
        bool saved = topic != NULL && topic->keys != NULL && topic->keys->n_saved > 0;
        bool wild = topic != NULL && topic->wild > 0 && topic->wild == topic->n;
        if (topic == NULL || (topic->options->history_ns == 0 && !saved && !wild))
            continue;
        fws_topic_release(topic);
        fws_topic_touch(topic);
    }
}
