/* Subscriptions with a max_rate: between two of their flushes they rest, in a heap by time. */
#include <stdlib.h>

#include "core/sub.h"

/* The heap. */

static void put(fws_topics *topics, uint32_t at, fws_rest rest)
{
    topics->resting[at] = rest;
    rest.sub->extra->max_rate->place = at + 1;
}

static void sift_up(fws_topics *topics, uint32_t at, fws_rest rest)
{
    for (uint32_t parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (topics->resting[parent].until <= rest.until)
            break;
        put(topics, at, topics->resting[parent]);
    }
    put(topics, at, rest);
}

static void sift_down(fws_topics *topics, uint32_t at, fws_rest rest)
{
    uint32_t n = topics->n_resting;
    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        child += child + 1 < n && topics->resting[child + 1].until < topics->resting[child].until;
        if (rest.until <= topics->resting[child].until)
            break;
        put(topics, at, topics->resting[child]);
    }
    put(topics, at, rest);
}

static bool make_room(fws_topics *topics)
{
    uint32_t capacity = topics->resting_capacity == 0 ? 16 : topics->resting_capacity * 2;
    if (topics->n_resting < topics->resting_capacity)
        return true;
    fws_rest *resting = realloc(topics->resting, capacity * sizeof *resting);
    if (resting == NULL)
        return false;
    topics->resting = resting;
    topics->resting_capacity = capacity;
    return true;
}

void fws_sub_end_rest(fws_sub *sub)
{
    fws_topics *topics = sub->topic->topics;
    if (!sub->resting)
        return;
    uint32_t at = sub->extra->max_rate->place - 1;
    fws_rest moved = topics->resting[--topics->n_resting];
    if (moved.sub != sub) {
        sift_up(topics, at, moved);
        sift_down(topics, moved.sub->extra->max_rate->place - 1, moved);
    }
    sub->extra->max_rate->place = 0;
    sub->resting = false;
    sub->conn->n_resting--;
}

/* Rests and flushes. */

/* Those who want the newest only have it already while they rest: they keep no slab. */
static bool leave_out_older(fws_sub *sub)
{
    if (sub->conflating)
        return true;
    if (fws_sub_options(sub)->on_slow != FWS_SLOW_LATEST)
        return false;
    return fws_topic_keys(sub->topic) != NULL && fws_sub_conflate(sub);
}

static void begin_flush(fws_sub *sub)
{
    sub->extra->max_rate->flush_to = sub->topic->log.next_seq;
    (void)leave_out_older(sub);
}

static void rest(fws_sub *sub)
{
    fws_topics *topics = sub->topic->topics;
    if (!leave_out_older(sub))
        fws_sub_uncount(sub);
    sub->resting = true;
    sub->conn->n_resting++;
    sift_up(topics, topics->n_resting++, (fws_rest){sub->extra->max_rate->next_at, sub});
    if (!sub->conflating)
        fws_sub_count(sub);
}

bool fws_sub_rests(fws_sub *sub)
{
    fws_topics *topics = sub->topic->topics;
    if (sub->extra == NULL || sub->extra->max_rate == NULL)
        return false;
    const fws_max_rate *rate = sub->extra->max_rate;
    if (rate->flush_to > 0)
        return false;
    bool closes = sub->conn->state >= FWS_CLOSING; /* nothing leaves behind its Close */
    if (closes || topics->logs.clock == NULL || *topics->logs.clock >= rate->next_at
        || !make_room(topics)) {
        begin_flush(sub);
        return false;
    }
    rest(sub);
    return true;
}

void fws_sub_end_flush(fws_sub *sub)
{
    fws_max_rate *rate = sub->extra == NULL ? NULL : sub->extra->max_rate;
    if (rate == NULL || rate->flush_to == 0 || sub->seq < rate->flush_to)
        return;
    uint64_t now = sub->topic->topics->logs.clock == NULL ? 0 : *sub->topic->topics->logs.clock;
    rate->flush_to = 0;
    /* Counted from when it was due: being late now and then makes it no slower. */
    rate->next_at = (now - rate->next_at < rate->gap_ns ? rate->next_at : now) + rate->gap_ns;
}

/* Out of its rest into the heap of its connection. */
static void rise(fws_sub *sub)
{
    bool conflating = sub->conflating;
    if (!conflating)
        fws_sub_uncount(sub);
    fws_sub_end_rest(sub);
    if (!conflating)
        fws_sub_count(sub); /* from now on it is offered what there is */
    begin_flush(sub);
    fws_conn_push(sub->conn, sub, fws_sub_eseq(sub));
    fws_topic_passed(sub->topic); /* who leaves out the older ones needs their slabs no more */
}

fws_sub *fws_topics_rested(fws_topics *topics, uint64_t now)
{
    if (topics->n_resting == 0 || topics->resting[0].until > now)
        return NULL;
    fws_sub *sub = topics->resting[0].sub;
    rise(sub);
    return sub;
}

void fws_sub_shorten_rest(fws_sub *sub)
{
    fws_rest due = {0, sub};
    sub->extra->max_rate->next_at = 0;
    if (sub->resting)
        sift_up(sub->topic->topics, sub->extra->max_rate->place - 1, due);
}

void fws_conn_end_rests(fws_conn *conn)
{
    for (uint32_t i = 0; conn->n_resting > 0 && i < conn->capacity_subs; i++)
        if (conn->subs[i] != NULL && conn->subs[i]->resting)
            rise(conn->subs[i]);
}

int fws_sub_set_max_rate(fws_sub *sub, uint64_t gap_ns)
{
    if (gap_ns == 0 && (sub->extra == NULL || sub->extra->max_rate == NULL))
        return FWS_OK;
    if (sub->extra == NULL && (sub->extra = calloc(1, sizeof *sub->extra)) == NULL)
        return FWS_E_NOMEM;
    if (sub->extra->max_rate == NULL) {
        fws_max_rate *rate = calloc(1, sizeof *rate);
        if (rate == NULL)
            return FWS_E_NOMEM;
        rate->flush_to = sub->pending ? sub->topic->log.next_seq : 0; /* what it begins with */
        sub->extra->max_rate = rate;
    }
    if (sub->extra->max_rate->gap_ns != gap_ns)
        fws_sub_shorten_rest(sub);
    sub->extra->max_rate->gap_ns = gap_ns;
    return FWS_OK;
}
