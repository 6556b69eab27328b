#include "core/wildcards.h"

#include <stdlib.h>
#include <string.h>

#include "wire/hash.h"

/* The beginning of names that wildcards ask for. */
typedef struct fws_pattern {
    fws_topics *topics;
    struct fws_pattern *next; /* in its place of the table */
    fws_wild *wilds;
    uint32_t hash;
    uint8_t n;
    uint8_t prefix[];
} fws_pattern;

/* By prefix; the lengths that there are say which beginnings of a name to look up. */
typedef struct fws_patterns {
    fws_pattern **table;
    uint32_t n, capacity;
    uint32_t lengths[FWS_WILD_PREFIX + 1];
} fws_patterns;

/* Patterns. */

static fws_pattern **place_of(const fws_patterns *patterns, uint32_t hash, const void *prefix,
                              size_t n)
{
    fws_pattern **link = &patterns->table[hash & (patterns->capacity - 1)];
    while (*link != NULL
           && ((*link)->hash != hash || (*link)->n != n || memcmp((*link)->prefix, prefix, n) != 0))
        link = &(*link)->next;
    return link;
}

static bool table_grow(fws_patterns *patterns)
{
    uint32_t capacity = patterns->capacity == 0 ? 16 : patterns->capacity * 2;
    fws_pattern **table = calloc(capacity, sizeof *table), *each, *next;
    if (table == NULL)
        return false;
    for (uint32_t i = 0; i < patterns->capacity; i++) {
        for (each = patterns->table[i]; each != NULL; each = next) {
            next = each->next;
            each->next = table[each->hash & (capacity - 1)];
            table[each->hash & (capacity - 1)] = each;
        }
    }
    free(patterns->table);
    patterns->table = table;
    patterns->capacity = capacity;
    return true;
}

/* The pattern, made when there is none; NULL: memory is out. */
static fws_pattern *pattern_of(fws_topics *topics, const uint8_t *prefix, size_t n)
{
    uint32_t hash = fws_hash(topics->seed, prefix, n);
    if (topics->patterns == NULL)
        topics->patterns = calloc(1, sizeof *topics->patterns);
    fws_patterns *patterns = topics->patterns;
    if (patterns == NULL || (patterns->n >= patterns->capacity && !table_grow(patterns)))
        return NULL;
    fws_pattern **place = place_of(patterns, hash, prefix, n);
    if (*place != NULL)
        return *place;
    fws_pattern *made = calloc(1, sizeof *made + n);
    if (made == NULL)
        return NULL;
    made->topics = topics;
    made->hash = hash;
    made->n = (uint8_t)n;
    memcpy(made->prefix, prefix, n);
    *place = made;
    patterns->n++;
    patterns->lengths[n]++;
    return made;
}

/* The last pattern takes the table along: without wildcards nothing is looked up. */
static void pattern_put(fws_pattern *pattern)
{
    fws_topics *topics = pattern->topics;
    fws_patterns *patterns = topics->patterns;
    if (pattern->wilds != NULL)
        return;
    *place_of(patterns, pattern->hash, pattern->prefix, pattern->n) = pattern->next;
    patterns->lengths[pattern->n]--;
    free(pattern);
    if (--patterns->n > 0)
        return;
    free(patterns->table);
    free(patterns);
    topics->patterns = NULL;
}

static bool begins(const fws_topic *topic, const void *prefix, size_t n)
{
    return topic->name_n >= n && memcmp(topic->name, prefix, n) == 0;
}

/* The wildcards of one connection. */

static fws_wild **find(const fws_conn *conn, const uint8_t *prefix, size_t n)
{
    fws_wild **link = (fws_wild **)(uintptr_t)&conn->wilds;
    while (*link != NULL
           && ((*link)->pattern->n != n || memcmp((*link)->pattern->prefix, prefix, n) != 0))
        link = &(*link)->next_of_conn;
    return link;
}

static fws_wild *longest(const fws_conn *conn, const fws_topic *topic)
{
    fws_wild *found = NULL;
    for (fws_wild *each = conn->wilds; each != NULL; each = each->next_of_conn)
        if (begins(topic, each->pattern->prefix, each->pattern->n)
            && (found == NULL || each->pattern->n > found->pattern->n))
            found = each;
    return found;
}

bool fws_conn_has_wild(const fws_conn *conn, const uint8_t *prefix, size_t n)
{
    return conn->state != FWS_DEAD && *find(conn, prefix, n) != NULL;
}

static void wild_free(fws_wild *wild)
{
    fws_topics *topics = wild->pattern->topics;
    fws_wild **link = &wild->pattern->wilds;
    while (*link != wild)
        link = &(*link)->next;
    *link = wild->next;
    fws_losses_end(topics, wild->losses);
    free((void *)(uintptr_t)wild->keys);
    pattern_put(wild->pattern);
    free(wild);
}

/* Members. */

/* NULL: the topic's. */
static const fws_topic_options *merged(const fws_wild_options *own, const fws_topic *topic,
                                       fws_topic_options *room)
{
    if (!own->has_policy && !own->has_lag)
        return NULL;
    *room = *topic->options;
    if (own->has_policy)
        room->on_slow = own->on_slow;
    if (own->has_lag) {
        uint64_t bytes = own->max_lag_bytes, most = room->retention_bytes;
        room->max_lag_bytes = bytes == 0 || bytes > most ? most : bytes;
        room->max_lag_messages = own->max_lag_messages;
        room->max_lag_ns = own->max_lag_ns;
    }
    if (room->on_slow == FWS_SLOW_LOSSLESS)
        room->max_lag_ns = 0;
    return room;
}

static int tell_losses(const fws_wild *wild, fws_sub *sub)
{
    fws_losses *losses = NULL;
    if (wild->losses != NULL) {
        losses = fws_losses_new(wild->losses->id);
        if (losses == NULL)
            return FWS_E_NOMEM;
        losses->shared = true;
    }
    int status = fws_sub_tell_losses(sub, losses);
    if (status != FWS_OK)
        fws_losses_free(losses);
    return status;
}

/* Gives a member the options of the wildcard. */
static int equip(const fws_wild *wild, fws_sub *sub)
{
    uint8_t on_slow = fws_sub_options(sub)->on_slow;
    int status = fws_sub_set_max_rate(sub, on_slow == FWS_SLOW_LOSSLESS ? 0 : wild->gap_ns);
    return status == FWS_OK ? tell_losses(wild, sub) : status;
}

/* Makes the wildcard's connection a member, or gives the member that it is by a shorter one the
 * options of this one. */
static int join(const fws_wild *wild, fws_topic *topic, uint64_t *eseq)
{
    fws_conn *conn = wild->conn;
    fws_sub *sub = fws_conn_find_sub(conn, topic);
    fws_topic_options room;
    const fws_topic_options *options = merged(&wild->own, topic, &room);
    if (conn->state != FWS_OPEN || (sub != NULL && !sub->wild) || longest(conn, topic) != wild)
        return FWS_OK;
    if (sub != NULL && fws_sub_has_keys(sub, wild->keys, wild->keys_n)) {
        int status = fws_sub_set_options(sub, options);
        return status == FWS_OK ? equip(wild, sub) : status;
    }
    if (sub != NULL)
        fws_topic_leave(sub); /* with other keys it begins anew */
    sub =
        fws_topic_join_filtered(topic, conn, options, FWS_START, ++*eseq, wild->keys, wild->keys_n);
    if (sub == NULL)
        return FWS_E_NOMEM;
    sub->wild = true;
    topic->wild++;
    conn->n_wild++;
    if (equip(wild, sub) == FWS_OK)
        return FWS_OK;
    fws_topic_leave(sub);
    return FWS_E_NOMEM;
}

fws_topic *fws_topics_open(fws_topics *topics, const char *name, size_t n,
                           const fws_topic_options *options)
{
    fws_topic *topic = fws_topics_find(topics, name, n);
    if (topic != NULL)
        return topic;
    topic = fws_topics_get(topics, name, n, options);
    const fws_patterns *patterns = topics->patterns;
    uint64_t none = 0; /* it has no frames that would leave with it */
    size_t longest_n = n < FWS_WILD_PREFIX ? n : FWS_WILD_PREFIX;
    for (size_t length = 0; topic != NULL && patterns != NULL && length <= longest_n; length++) {
        if (patterns->lengths[length] == 0)
            continue;
        const fws_pattern *pattern =
            *place_of(patterns, fws_hash(topics->seed, name, length), name, length);
        for (const fws_wild *each = pattern == NULL ? NULL : pattern->wilds; each != NULL;
             each = each->next) {
            if (join(each, topic, &none) != FWS_OK) {
                fws_topic_close(topic);
                return NULL;
            }
        }
    }
    return topic;
}

int fws_conn_fall_back(fws_conn *conn, fws_topic *topic, uint64_t *eseq)
{
    bool open = conn->state == FWS_OPEN && !topic->closed;
    const fws_wild *wild = open ? longest(conn, topic) : NULL;
    return wild == NULL ? FWS_OK : join(wild, topic, eseq);
}

/* Joining and leaving. */

static int join_all(fws_topics *topics, const fws_wild *wild, uint64_t *eseq)
{
    for (uint32_t i = 0; i < topics->capacity; i++) {
        fws_topic *topic = topics->table[i].topic;
        if (topic != NULL && begins(topic, wild->pattern->prefix, wild->pattern->n)
            && join(wild, topic, eseq) != FWS_OK)
            return FWS_E_NOMEM;
    }
    return FWS_OK;
}

static fws_wild *wild_new(fws_topics *topics, fws_conn *conn, const uint8_t *prefix, size_t n)
{
    fws_wild *wild = calloc(1, sizeof *wild);
    fws_pattern *pattern = wild == NULL ? NULL : pattern_of(topics, prefix, n);
    if (pattern == NULL) {
        free(wild);
        return NULL;
    }
    wild->conn = conn;
    wild->pattern = pattern;
    wild->next = pattern->wilds;
    pattern->wilds = wild;
    wild->next_of_conn = conn->wilds;
    conn->wilds = wild;
    return wild;
}

static uint32_t count(const fws_conn *conn)
{
    uint32_t n = 0;
    for (const fws_wild *each = conn->wilds; each != NULL; each = each->next_of_conn)
        n++;
    return n;
}

/* A copy of the keys that are asked for. False: memory is out. */
static bool copy_keys(const fws_wild *asked, uint8_t **keys)
{
    *keys = asked->keys_n == 0 ? NULL : malloc(asked->keys_n);
    if (*keys != NULL)
        memcpy(*keys, asked->keys, asked->keys_n);
    return *keys != NULL || asked->keys_n == 0;
}

/* The wildcard with what is asked for; was: what it had. */
static void assign(fws_wild *wild, const fws_wild *asked, const uint8_t *keys)
{
    wild->own = asked->own;
    wild->gap_ns = asked->gap_ns;
    wild->losses = asked->losses;
    wild->keys = keys;
    wild->keys_n = asked->keys_n;
}

int fws_conn_join_wild(fws_topics *topics, fws_conn *conn, const fws_wild *asked, uint64_t *eseq)
{
    const uint8_t *prefix = asked->own.prefix;
    size_t n = asked->own.prefix_n;
    uint8_t *keys;
    fws_wild *wild = *find(conn, prefix, n);
    bool again = wild != NULL;
    if (!again && count(conn) >= FWS_WILD_MOST)
        return FWS_E_MANY;
    if (!again && (wild = wild_new(topics, conn, prefix, n)) == NULL)
        return FWS_E_NOMEM;
    if (!copy_keys(asked, &keys)) {
        if (!again)
            fws_conn_leave_wild(conn, prefix, n);
        return FWS_E_NOMEM;
    }
    fws_wild before = *wild;
    assign(wild, asked, keys);
    if (join_all(topics, wild, eseq) == FWS_OK) {
        fws_losses_end(topics, before.losses);
        free((void *)(uintptr_t)before.keys);
        return FWS_OK;
    }
    assign(wild, &before, before.keys); /* its losses are the caller's again */
    free(keys);
    if (!again)
        fws_conn_leave_wild(conn, prefix, n);
    return FWS_E_NOMEM;
}

/* What it has by a wildcard that has ended: another one goes on, or it leaves. */
static void renew(fws_sub *sub)
{
    const fws_wild *other = longest(sub->conn, sub->topic);
    uint64_t none = 0; /* it is a member */
    fws_topic *topic = sub->topic;
    if (other == NULL)
        fws_topic_leave(sub);
    else if (join(other, topic, &none) != FWS_OK
             && (sub = fws_conn_find_sub(other->conn, topic)) != NULL)
        fws_topic_leave(sub);
}

void fws_conn_leave_wild(fws_conn *conn, const uint8_t *prefix, size_t n)
{
    if (!fws_conn_has_wild(conn, prefix, n))
        return;
    fws_wild **link = find(conn, prefix, n), *wild = *link;
    *link = wild->next_of_conn;
    /* Where one leaves, another one may move up into its place, and the table may shrink. */
    for (uint32_t i = 0; i < conn->capacity_subs;) {
        uint32_t capacity = conn->capacity_subs;
        fws_sub *sub = conn->n_subs == 0 ? NULL : conn->subs[i];
        if (sub != NULL && sub->wild && begins(sub->topic, prefix, n))
            renew(sub);
        bool same = conn->n_subs == 0 || conn->subs[i] == sub;
        i = conn->capacity_subs != capacity ? 0 : i + same;
    }
    wild_free(wild);
}

fws_topic *fws_conn_next_wild(const fws_conn *conn, const uint8_t *prefix, size_t n,
                              uint32_t *place)
{
    while (conn->n_subs > 0 && *place < conn->capacity_subs) {
        const fws_sub *sub = conn->subs[(*place)++];
        if (sub != NULL && sub->wild && begins(sub->topic, prefix, n))
            return sub->topic;
    }
    return NULL;
}

void fws_conn_drop_wilds(fws_conn *conn)
{
    while (conn->state != FWS_DEAD && conn->wilds != NULL) {
        fws_wild *wild = conn->wilds;
        conn->wilds = wild->next_of_conn;
        wild_free(wild);
    }
}

/* The end of what nobody else needs. */

/* Whether a member may not send yet: in a new topic it would begin without its max_rate. The sweep
 * looks again. */
static bool paced(const fws_topic *topic)
{
    const uint64_t *clock = topic->topics->logs.clock;
    for (uint32_t i = 0; clock != NULL && i < topic->n; i++) {
        const fws_sub_extra *extra = topic->members[i]->extra;
        if (extra != NULL && extra->max_rate != NULL && extra->max_rate->next_at > *clock)
            return true;
    }
    return false;
}

static bool idle(const fws_topic *topic)
{
    return topic->wild > 0 && topic->n == topic->wild && topic->caught == topic->n
           && __atomic_load_n(&topic->refs, __ATOMIC_ACQUIRE) == topic->wild && !topic->dirty
           && topic != topic->topics->waking && !topic->configured && !topic->closed
           && topic->log.held == 0 && topic->waiting == NULL && !paced(topic);
}

void fws_topics_close_idle(fws_topics *topics)
{
    if (topics->patterns == NULL)
        return;
    for (fws_topic *topic = topics->touched; topic != NULL; topic = topic->next_touched)
        if (idle(topic))
            fws_topic_close(topic);
}
