/* Snapshots for the owner, by value: nothing outside the core reads a live struct. */
#include <string.h>

#include "core/engine_internal.h"

#define CANDIDATES 4096 /* steps of looking at those that lag, the longest first */
#define LOOKED_AT 1024  /* slots or table entries, to fill a list when fewer lag or hold frames */

static fws_close close_of(uint16_t code, const fws_bytes *reason)
{
    return (fws_close){.code = code,
                       .n = reason == NULL ? 0 : reason->n,
                       .reason = reason == NULL ? NULL : reason->data};
}

fws_closes fws_conn_closes(const fws_conn *conn)
{
    fws_closes found = {.received = close_of(conn->received_code, conn->received_reason)};
    if (conn->close_sent)
        found.sent = close_of(conn->own_code, conn->own_reason);
    found.peer_first = conn->peer_first || (conn->received_code != 0 && !conn->close_sent);
    return found;
}

fws_conn_facts fws_conn_facts_of(const fws_conn *conn)
{
    const fws_bytes *reason = conn->received_code != 0   ? conn->received_reason
                              : conn->close_code == 1006 ? NULL
                                                         : conn->own_reason;
    return (fws_conn_facts){
        .id = conn->id,
        .state = conn->state,
        .over_limit = conn->over_limit,
        .over_address = conn->over_address,
        .acknowledges = conn->acknowledges,
        .close_code = conn->close_code,
        .reason_n = reason == NULL ? 0 : reason->n,
        .reason = reason == NULL ? NULL : reason->data,
        .buffered = conn->outbox.bytes,
    };
}

fws_metered fws_conn_metered(const fws_conn *conn)
{
    return conn->metered == NULL ? (fws_metered){0} : *conn->metered;
}

uint64_t fws_conn_id(const fws_conn *conn)
{
    return conn->id;
}

bool fws_conn_dead(const fws_conn *conn)
{
    return conn->state == FWS_DEAD;
}

int fws_engine_fd(const fws_engine *engine)
{
    return engine->epoll;
}

uint32_t fws_engine_live(const fws_engine *engine)
{
    return engine->live;
}

uint64_t fws_engine_now(const fws_engine *engine)
{
    return engine->sys->monotonic();
}

fws_counters fws_engine_counters(const fws_engine *engine)
{
    fws_counters counters = engine->counters;
    counters.lapped = engine->topics.budget_dropped;
    counters.staged_refused += __atomic_load_n(&engine->staging.refused, __ATOMIC_RELAXED);
    return counters;
}

fws_conn *fws_engine_next_dead(const fws_engine *engine, const fws_conn *conn)
{
    return conn == NULL ? engine->first_dead : conn->next_dead;
}

fws_conn *fws_engine_next_conn(const fws_engine *engine, uint32_t *slot)
{
    while (*slot < engine->n_slots) {
        fws_conn *conn = engine->slots[(*slot)++].conn;
        if (conn != NULL && conn->state != FWS_DEAD)
            return conn;
    }
    return NULL;
}

fws_source *fws_engine_source(fws_engine *engine)
{
    return &engine->source;
}

fws_meter *fws_engine_meter(fws_engine *engine)
{
    return engine->meter;
}

/* The lists of /stats. */

/* Keeps the largest n of what it is given, in order. */
static void rank(void **found, uint64_t *sizes, uint32_t *n, uint32_t most, void *item,
                 uint64_t size)
{
    uint32_t at = *n < most ? (*n)++ : most - 1;
    if (at == most - 1 && *n == most && found[at] != NULL && sizes[at] >= size)
        return;
    for (; at > 0 && sizes[at - 1] < size; at--) {
        found[at] = found[at - 1];
        sizes[at] = sizes[at - 1];
    }
    found[at] = item;
    sizes[at] = size;
}

static uint64_t lag_bytes(const fws_conn *conn)
{
    return fws_conn_snapshot(conn, 0).lag_bytes;
}

uint32_t fws_engine_laggards(const fws_engine *engine, fws_conn **found, uint32_t most)
{
    uint64_t sizes[FWS_LIST_MOST];
    void *ranked[FWS_LIST_MOST] = {NULL};
    uint32_t n = 0, slot = 0;
    int64_t left = CANDIDATES;
    most = most < FWS_LIST_MOST ? most : FWS_LIST_MOST;
    if (most == 0)
        return 0;
    for (const fws_link *link = engine->lagging.next; link != &engine->lagging && left > 0;
         link = link->next) {
        fws_conn *conn = FWS_CONTAINER(link, fws_conn, lagging_link);
        left -= 16 + conn->n_pending;
        if (conn->n_subs > 0)
            rank(ranked, sizes, &n, most, conn, lag_bytes(conn));
    }
    for (left = LOOKED_AT; n < most && left > 0 && slot < engine->n_slots; left--) {
        fws_conn *conn = engine->slots[slot++].conn;
        if (conn != NULL && conn->state != FWS_DEAD && conn->n_subs > 0
            && conn->lagging_link.next == NULL)
            ranked[n++] = conn;
    }
    memcpy(found, ranked, n * sizeof *found);
    return n;
}

uint32_t fws_topics_largest(const fws_topics *topics, fws_topic **found, uint32_t most)
{
    uint32_t n = 0, place = 0;
    for (int bucket = FWS_LOG_BUCKETS - 1; bucket >= 0; bucket--) {
        const fws_link *ring = &topics->logs.buckets[bucket];
        for (fws_link *link = ring->next; link != ring && n < most; link = link->next)
            found[n++] = FWS_CONTAINER(FWS_CONTAINER(link, fws_log, link), fws_topic, log);
    }
    for (uint32_t left = LOOKED_AT; n < most && left > 0 && place < topics->capacity; left--) {
        fws_topic *topic = topics->table[place++].topic;
        if (topic != NULL && topic->log.held == 0)
            found[n++] = topic;
    }
    return n;
}

fws_topic *fws_topics_next(const fws_topics *topics, uint32_t *place)
{
    while (*place < topics->capacity) {
        fws_topic *topic = topics->table[(*place)++].topic;
        if (topic != NULL)
            return topic;
    }
    return NULL;
}

const fws_hist *fws_topics_latency(const fws_topics *topics)
{
    return &topics->latency;
}

/* Where the kernel cannot say what was confirmed, what it has taken stands for that. */
static bool reads(const fws_engine *engine, const fws_conn *conn)
{
    uint64_t now = fws_engine_time(engine);
    uint64_t last =
        conn->acknowledges && conn->confirmed_at > 0 ? conn->confirmed_at : conn->progress;
    return now < last || now - last < FWS_NOT_READING_NS;
}

enum fws_behind fws_conn_behind(const fws_engine *engine, const fws_conn *conn)
{
    if (conn->blocked)
        return reads(engine, conn) ? FWS_BEHIND_FULL : FWS_BEHIND_NOT_READING;
    if (conn->n_pending > conn->n_left || conn->partial.data != NULL)
        return FWS_BEHIND_UNSENT;
    return conn->n_resting > 0 ? FWS_BEHIND_RATE : FWS_BEHIND_NOT;
}

fws_account fws_topics_sums(const fws_topics *topics)
{
    fws_account sums = topics->account;
    sums.pending = sums.published - sums.delivered - sums.dropped - sums.conflated;
    return sums;
}

/* Topics and subscriptions. */

fws_topic_facts fws_topic_facts_of(const fws_topic *topic)
{
    return (fws_topic_facts){
        .name = topic->name,
        .name_n = topic->name_n,
        .configured = topic->configured,
        .closed = topic->closed,
        .epoch = topic->epoch,
        .owner = topic->owner,
        .options = *topic->options,
    };
}

void fws_topic_own(fws_topic *topic, void *owner)
{
    topic->owner = owner;
}

void fws_topic_configure(fws_topic *topic, bool configured)
{
    topic->configured = configured;
    fws_topic_touch(topic);
}

void fws_topic_watch(fws_topic *topic, bool watched)
{
    if (!topic->watched)
        topic->wanted = topic->n > 0; /* afterwards it may be still to tell */
    topic->watched = watched;
}

bool fws_topic_wanted(const fws_topic *topic)
{
    return topic->wanted;
}

static fws_topic_message message_in(const fws_slab *slab, uint64_t seq)
{
    fws_header header;
    uint32_t index = (uint32_t)(seq - slab->base_seq), start = fws_slab_start(slab, index);
    const uint8_t *frame = slab->data + start;
    size_t n = slab->end[index] - start;
    size_t head_n = (size_t)fws_header_decode(frame, n, &header); /* our own: whole and legal */
    return (fws_topic_message){.data = frame + head_n, .n = n - head_n, .opcode = header.opcode};
}

fws_key_name fws_sub_key_name(const fws_sub *sub, uint32_t i)
{
    const fws_filter *filter = fws_sub_filter(sub);
    if (filter == NULL || i >= filter->n)
        return (fws_key_name){0};
    return (fws_key_name){.data = filter->wanted[i]->name, .n = filter->wanted[i]->n};
}

fws_topic_message fws_topic_message_at(const fws_topic *topic, uint64_t seq)
{
    const fws_log *log = &topic->log;
    if (seq >= log->first_seq && seq < log->next_seq)
        return message_in(fws_log_slab(log, seq, log->head), seq);
    fws_newest saved = fws_topic_newest_from(topic, seq);
    return saved.seq == seq ? saved.message : (fws_topic_message){0};
}

fws_newest fws_topic_newest_from(const fws_topic *topic, uint64_t seq)
{
    const fws_keyed *at = topic->keys == NULL ? NULL : fws_keys_from(topic->keys, seq);
    if (at == NULL)
        return (fws_newest){0};
    const fws_slab *slab = at->key->saved;
    if (slab == NULL)
        slab = fws_log_slab(&topic->log, at->seq, topic->log.head);
    return (fws_newest){.message = message_in(slab, at->seq),
                        .seq = at->seq,
                        .key = at->key->name,
                        .key_n = at->key->n};
}

fws_sub_facts fws_sub_facts_of(const fws_sub *sub)
{
    const fws_variant *variant = sub->extra == NULL ? NULL : sub->extra->variant;
    const fws_max_rate *rate = sub->extra == NULL ? NULL : sub->extra->max_rate;
    return (fws_sub_facts){
        .id = sub->id,
        .began = sub->began,
        .wild = sub->wild,
        .seq = sub->seq - sub->partial,
        .envelope = variant != NULL && variant->encoding.envelope,
        .batch = variant == NULL ? 0 : sub->extra->batch,
        .gap_ns = rate == NULL ? 0 : rate->gap_ns,
        .options = *fws_sub_options(sub),
    };
}
