#include "log/keys.h"

#include <stdlib.h>
#include <string.h>

#include "wire/hash.h"

#define ORDER_FIRST 16    /* places of the first order, and empty ones that are no matter */
#define FORGET_STEPS 1024 /* places that one call looks at */
#define KEY_SHARE 48      /* bytes of the table and the order for one key, about */

/* Allocated for a key. */
static size_t size_of(const fws_key *key)
{
    return sizeof *key + key->n + KEY_SHARE;
}

/* Names. */

/* Where it stands, or would. */
static uint32_t find(const fws_keys *keys, uint32_t hash, const uint8_t *name, size_t n)
{
    uint32_t mask = keys->capacity - 1, at = hash & mask;
    for (;; at = (at + 1) & mask) {
        const fws_key *key = keys->table[at];
        if (key == NULL
            || (key->hash == hash && key->n == n && (n == 0 || memcmp(key->name, name, n) == 0)))
            return at;
    }
}

static bool table_resize(fws_keys *keys, uint32_t capacity)
{
    fws_key **table = calloc(capacity, sizeof *table), **old = keys->table;
    uint32_t n = keys->capacity;
    if (table == NULL)
        return false;
    keys->table = table;
    keys->capacity = capacity;
    for (uint32_t i = 0; i < n; i++) {
        if (old[i] == NULL)
            continue;
        uint32_t at = old[i]->hash & (capacity - 1);
        while (table[at] != NULL)
            at = (at + 1) & (capacity - 1);
        table[at] = old[i];
    }
    free(old);
    return true;
}

static void table_remove(fws_keys *keys, const fws_key *key)
{
    uint32_t mask = keys->capacity - 1;
    uint32_t hole = find(keys, key->hash, (const uint8_t *)key->name, key->n);
    keys->table[hole] = NULL;
    keys->named--;
    for (uint32_t at = (hole + 1) & mask; keys->table[at] != NULL; at = (at + 1) & mask) {
        if (((at - keys->table[at]->hash) & mask) < ((at - hole) & mask))
            continue;
        keys->table[hole] = keys->table[at];
        keys->table[at] = NULL;
        hole = at;
    }
    if (keys->capacity > 64 && keys->named < keys->capacity / 8)
        (void)table_resize(keys, keys->capacity / 4); /* a larger one serves as well */
}

/* The order. */

static fws_keyed *at_place(const fws_keys *keys, uint64_t place)
{
    return &keys->order[place & (keys->order_capacity - 1)];
}

/* Moves the keys together: places without one go. */
static void close_up(fws_keys *keys, fws_keyed *order, uint64_t capacity)
{
    uint64_t end = keys->first;
    for (uint64_t place = keys->first; place != keys->end; place++) {
        fws_keyed *from = at_place(keys, place);
        if (from->key == NULL)
            continue;
        from->key->place = end;
        order[end++ & (capacity - 1)] = *from;
    }
    keys->end = end;
}

static bool order_resize(fws_keys *keys, uint64_t capacity)
{
    fws_keyed *order = malloc(capacity * sizeof *order);
    if (order == NULL)
        return false;
    close_up(keys, order, capacity);
    free(keys->order);
    keys->order = order;
    keys->order_capacity = capacity;
    return true;
}

/* Room for one more, and for the empty key behind it. When half of the places are empty they go: no
 * walk is longer than that. */
static bool order_room(fws_keys *keys)
{
    uint64_t places = keys->end - keys->first;
    if (keys->order_capacity > 64 && keys->n < keys->order_capacity / 8
        && order_resize(keys, keys->order_capacity / 4))
        return true;
    if (places > 2 * (uint64_t)keys->n + ORDER_FIRST) {
        close_up(keys, keys->order, keys->order_capacity);
        return true;
    }
    return places + 1 < keys->order_capacity || order_resize(keys, keys->order_capacity * 2);
}

/* The first place with that sequence number or a higher one. */
static uint64_t place_from(const fws_keys *keys, uint64_t seq)
{
    uint64_t low = keys->first, high = keys->end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (at_place(keys, middle)->seq >= seq)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

const fws_keyed *fws_keys_from(const fws_keys *keys, uint64_t seq)
{
    for (uint64_t place = place_from(keys, seq); place != keys->end; place++)
        if (at_place(keys, place)->key != NULL)
            return at_place(keys, place);
    return NULL;
}

uint32_t fws_keys_run(const fws_keys *keys, uint64_t seq, uint32_t most)
{
    uint32_t n = 0;
    for (uint64_t place = place_from(keys, seq); place != keys->end && n < most; place++, n++) {
        const fws_keyed *at = at_place(keys, place);
        if (at->key == NULL || at->seq != seq + n)
            break;
    }
    return n;
}

const fws_key *fws_keys_at(const fws_keys *keys, uint64_t seq)
{
    const fws_key *key = fws_ring_at(&keys->frames, seq);
    return key != NULL ? key : keys->plain;
}

/* The beginning and the end. */

static fws_key *key_make(uint32_t hash, const uint8_t *name, size_t n)
{
    fws_key *key = malloc(sizeof *key + n);
    if (key == NULL)
        return NULL;
    *key = (fws_key){.place = UINT64_MAX, .hash = hash, .n = (uint8_t)n};
    if (n > 0)
        memcpy(key->name, name, n);
    return key;
}

fws_keys *fws_keys_new(fws_log *log, uint64_t seed)
{
    fws_keys *keys = malloc(sizeof *keys);
    if (keys == NULL)
        return NULL;
    *keys = (fws_keys){.log = log, .seed = seed, .named = 1, .committed = log->next_seq};
    keys->plain = key_make(fws_hash(seed, NULL, 0), NULL, 0);
    if (keys->plain == NULL || !table_resize(keys, ORDER_FIRST)
        || !order_resize(keys, 2 * ORDER_FIRST)) {
        free(keys->plain);
        free(keys->table);
        free(keys);
        return NULL;
    }
    keys->table[find(keys, keys->plain->hash, NULL, 0)] = keys->plain;
    if (log->first_seq < log->next_seq)
        fws_keys_commit(keys, keys->plain, log->next_seq - 1);
    return keys;
}

static void unsave(fws_keys *keys, fws_key *key)
{
    if (key->saved == NULL)
        return;
    fws_log_unsave(keys->log, key->saved);
    key->saved = NULL;
    keys->n_saved--;
}

static void key_free(fws_keys *keys, fws_key *key)
{
    unsave(keys, key);
    if (key != keys->plain)
        fws_log_beside(keys->log, -(int64_t)size_of(key));
    free(key);
}

static void leave_place(fws_keys *keys, fws_key *key)
{
    if (key->place == UINT64_MAX)
        return;
    at_place(keys, key->place)->key = NULL;
    key->place = UINT64_MAX;
    keys->n--;
}

static void forget(fws_keys *keys, fws_key *key)
{
    leave_place(keys, key);
    if (key == keys->plain || key->ranks != NULL) {
        unsave(keys, key);
    } else {
        table_remove(keys, key);
        key_free(keys, key);
    }
    while (keys->first != keys->end && at_place(keys, keys->first)->key == NULL)
        keys->first++;
}

void fws_keys_free(fws_keys *keys)
{
    if (keys == NULL)
        return;
    for (uint32_t i = 0; i < keys->capacity; i++) {
        if (keys->table[i] != NULL)
            key_free(keys, keys->table[i]);
    }
    fws_ring_clear(&keys->frames, keys->log);
    free(keys->table);
    free(keys->order);
    free(keys);
}

/* Publishing. */

static fws_key *key_new(fws_keys *keys, uint32_t hash, const uint8_t *name, size_t n)
{
    fws_key *key = key_make(hash, name, n);
    if (key == NULL)
        return NULL;
    keys->table[find(keys, hash, name, n)] = key;
    keys->named++;
    fws_log_beside(keys->log, (int64_t)size_of(key));
    return key;
}

void fws_keys_unreserve(fws_keys *keys, fws_key *key)
{
    if (key->place == UINT64_MAX)
        forget(keys, key);
}

fws_key *fws_keys_name(fws_keys *keys, const uint8_t *name, size_t n)
{
    uint32_t hash = fws_hash(keys->seed, name, n);
    if (keys->named >= keys->capacity / 4 * 3 && !table_resize(keys, keys->capacity * 2))
        return NULL;
    fws_key *key = keys->table[find(keys, hash, name, n)];
    return key != NULL ? key : key_new(keys, hash, name, n);
}

static bool ranks_room(fws_keys *keys, const fws_key *key)
{
    return key->ranks == NULL || fws_ranks_room(key->ranks, keys->log);
}

fws_key *fws_keys_reserve(fws_keys *keys, const uint8_t *name, size_t n)
{
    if (n == 0) {
        (void)order_room(keys); /* there is some */
        return keys->plain;
    }
    /* Behind it frames without a key may begin another run. */
    if (!order_room(keys) || !fws_ring_room(&keys->frames, keys->log)
        || !ranks_room(keys, keys->plain))
        return NULL;
    fws_key *key = fws_keys_name(keys, name, n);
    if (key == NULL || ranks_room(keys, key))
        return key;
    fws_keys_unreserve(keys, key);
    return NULL;
}

void fws_keys_commit(fws_keys *keys, fws_key *key, uint64_t seq)
{
    leave_place(keys, key);
    unsave(keys, key);
    if (keys->end - keys->first == keys->order_capacity)
        close_up(keys, keys->order, keys->order_capacity);
    key->seq = seq;
    key->place = keys->end++;
    keys->n++;
    *at_place(keys, key->place) = (fws_keyed){seq, key};
    while (at_place(keys, keys->first)->key == NULL)
        keys->first++;
    if (key != keys->plain)
        fws_ring_add(&keys->frames, seq, key);
    if (key->ranks != NULL)
        fws_ranks_add(key->ranks, key == keys->plain ? keys->committed : seq,
                      key == keys->plain ? seq + 1 - keys->committed : 1);
    keys->committed = seq + 1;
}

/* Letting go. */

/* Of the frames of a slab: their keys are told, as far as filters name them. */
static void ranks_leave(fws_keys *keys, uint64_t seq, uint64_t end)
{
    if (keys->n_ranked == 0)
        return;
    if (keys->plain->ranks != NULL)
        fws_ranks_leave(keys->plain->ranks, keys->log, end);
    for (seq = seq > keys->frames.first ? seq : keys->frames.first; seq < end; seq++) {
        const fws_key *key = fws_ring_at(&keys->frames, seq);
        if (key != NULL && key->ranks != NULL)
            fws_ranks_leave(key->ranks, keys->log, end);
    }
}

void fws_keys_leave(fws_keys *keys, const fws_slab *slab, bool keep)
{
    uint64_t end = slab->base_seq + slab->n;
    ranks_leave(keys, slab->base_seq, end);
    for (uint64_t place = place_from(keys, slab->base_seq); place != keys->end; place++) {
        fws_keyed *at = at_place(keys, place);
        if (at->seq >= end)
            break;
        if (at->key == NULL || at->key->saved != NULL)
            continue;
        at->key->saved =
            keep ? fws_log_save(keys->log, slab, (uint32_t)(at->seq - slab->base_seq)) : NULL;
        if (at->key->saved == NULL)
            forget(keys, at->key);
        else
            keys->n_saved++;
    }
    fws_ring_leave(&keys->frames, keys->log, end);
}

void fws_keys_forget(fws_keys *keys, uint64_t before)
{
    uint32_t left = FORGET_STEPS;
    for (uint64_t place = keys->first; place != keys->end && left > 0; place++, left--) {
        fws_keyed *at = at_place(keys, place);
        if (at->seq >= before)
            break;
        if (at->key != NULL && at->key->saved != NULL)
            forget(keys, at->key);
    }
}

uint32_t fws_keys_shrink(fws_keys *keys, uint64_t bytes)
{
    uint32_t n = 0;
    uint64_t least = keys->log->beside > bytes ? keys->log->beside - bytes : 0;
    for (uint64_t place = keys->first; place != keys->end && keys->log->beside > least; place++) {
        fws_key *key = at_place(keys, place)->key;
        if (key == NULL || key->saved == NULL)
            continue;
        forget(keys, key);
        n++;
    }
    return n;
}
