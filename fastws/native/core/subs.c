/* The subscriptions of one connection: a table by topic, and the heap of pending ones. */
#include <stdlib.h>

#include "core/sub.h"

/* The table: open addressing, at most three quarters full; a table of one has no room to probe. */

static uint32_t slot_of(const fws_conn *conn, const fws_topic *topic)
{
    return topic->hash & (conn->capacity_subs - 1);
}

/* Where it stands, or would: a free place. */
static uint32_t find(const fws_conn *conn, const fws_topic *topic)
{
    uint32_t at = slot_of(conn, topic), mask = conn->capacity_subs - 1;
    while (conn->subs[at] != NULL && conn->subs[at]->topic != topic)
        at = (at + 1) & mask;
    return at;
}

fws_sub *fws_conn_find_sub(const fws_conn *conn, const fws_topic *topic)
{
    if (conn->n_subs == 0)
        return NULL;
    if (conn->capacity_subs == 1)
        return conn->one_sub->topic == topic ? conn->one_sub : NULL;
    return conn->subs[find(conn, topic)];
}

static bool table_resize(fws_conn *conn, uint32_t capacity)
{
    fws_sub **subs = calloc(capacity, sizeof *subs), **old = conn->subs;
    uint32_t n = conn->capacity_subs;
    if (subs == NULL)
        return false;
    conn->subs = subs;
    conn->capacity_subs = capacity;
    for (uint32_t i = 0; i < n; i++)
        if (old[i] != NULL)
            subs[find(conn, old[i]->topic)] = old[i];
    if (n > 1)
        free(old);
    return true;
}

static bool heap_resize(fws_conn *conn, uint32_t capacity)
{
    bool inside = conn->heap == &conn->one_pending || conn->heap == NULL;
    fws_next *heap = realloc(inside ? NULL : conn->heap, capacity * sizeof *heap);
    if (heap == NULL)
        return false;
    if (inside && conn->n_pending > 0)
        heap[0] = conn->one_pending;
    conn->heap = heap;
    conn->capacity_pending = capacity;
    return true;
}

static uint32_t larger(uint32_t capacity)
{
    return capacity < 4 ? 4 : capacity * 2;
}

/* Most of it is empty: a quarter will do, and where memory is out, the whole. */
static bool too_large(uint32_t capacity, uint32_t n)
{
    return capacity > 64 && n < capacity / 8;
}

/* A push must never fail for want of memory: the place in the heap is made when it joins. */
static bool make_room(fws_conn *conn)
{
    if (conn->capacity_subs == 0) {
        conn->subs = &conn->one_sub;
        conn->capacity_subs = 1;
    }
    if (conn->capacity_pending == 0) {
        conn->heap = &conn->one_pending;
        conn->capacity_pending = 1;
    }
    uint32_t n = conn->n_subs + 1;
    if ((conn->capacity_subs == 1 ? n > 1 : n > conn->capacity_subs / 4 * 3)
        && !table_resize(conn, larger(conn->capacity_subs)))
        return false;
    return n + conn->n_left <= conn->capacity_pending
           || heap_resize(conn, larger(conn->capacity_pending));
}

bool fws_conn_add_sub(fws_conn *conn, fws_sub *sub)
{
    if (!make_room(conn))
        return false;
    conn->subs[conn->capacity_subs == 1 ? 0 : find(conn, sub->topic)] = sub;
    conn->n_subs++;
    return true;
}

void fws_conn_remove_sub(fws_conn *conn, const fws_sub *sub)
{
    uint32_t mask = conn->capacity_subs - 1;
    uint32_t hole = conn->capacity_subs == 1 ? 0 : find(conn, sub->topic);
    conn->subs[hole] = NULL;
    conn->n_subs--;
    if (conn->capacity_subs == 1)
        return;
    /* An entry that was pushed past the hole moves up. */
    for (uint32_t at = (hole + 1) & mask; conn->subs[at] != NULL; at = (at + 1) & mask) {
        uint32_t home = slot_of(conn, conn->subs[at]->topic);
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        conn->subs[hole] = conn->subs[at];
        conn->subs[at] = NULL;
        hole = at;
    }
    if (too_large(conn->capacity_subs, conn->n_subs))
        (void)table_resize(conn, conn->capacity_subs / 4);
    if (too_large(conn->capacity_pending, conn->n_subs + conn->n_pending))
        (void)heap_resize(conn, conn->capacity_pending / 4);
}

/* The heap. */

static void sift_down(fws_next *heap, uint32_t n, uint32_t at, fws_next item)
{
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && heap[child + 1].eseq < heap[child].eseq;
        if (item.eseq <= heap[child].eseq)
            break;
        heap[at] = heap[child];
    }
    heap[at] = item;
}

void fws_conn_push(fws_conn *conn, fws_sub *sub, uint64_t eseq)
{
    fws_next *heap = conn->heap;
    uint32_t at = conn->n_pending++;
    for (uint32_t parent; at > 0 && heap[parent = (at - 1) / 2].eseq > eseq; at = parent)
        heap[at] = heap[parent];
    heap[at] = (fws_next){eseq, sub};
    sub->pending = true;
}

fws_next fws_conn_pop(fws_conn *conn)
{
    fws_next first = conn->heap[0];
    uint32_t n = --conn->n_pending;
    if (n > 0)
        sift_down(conn->heap, n, 0, conn->heap[n]);
    first.sub->pending = false;
    return first;
}

void fws_conn_thin(fws_conn *conn)
{
    uint32_t n = 0;
    if (conn->n_left <= conn->n_pending / 2)
        return;
    for (uint32_t i = 0; i < conn->n_pending; i++) {
        fws_sub *sub = conn->heap[i].sub;
        if (!sub->left) {
            conn->heap[n++] = conn->heap[i];
            continue;
        }
        sub->pending = false;
        fws_sub_put(sub);
    }
    conn->n_pending = n;
    conn->n_left = 0;
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(conn->heap, n, i, conn->heap[i]);
}

void fws_conn_clear_subs(fws_conn *conn)
{
    while (conn->n_pending > 0)
        fws_sub_put(fws_conn_pop(conn).sub);
    conn->n_left = 0;
    while (conn->unacked != NULL) {
        fws_sub *sub = conn->unacked;
        conn->unacked = sub->next_unacked;
        sub->listed = false;
        fws_sub_put(sub);
    }
    if (conn->capacity_subs > 1)
        free(conn->subs);
    if (conn->capacity_pending > 1)
        free(conn->heap);
    conn->subs = NULL;
    conn->heap = NULL;
    conn->capacity_subs = conn->capacity_pending = 0;
}

void fws_sub_put(fws_sub *sub)
{
    if (!sub->left || sub->pending || sub->listed || sub->partial)
        return;
    fws_topic_unref(sub->topic);
    free(sub);
}
