/* Publishing to a topic: room for a frame, its key, how many members get it, the wake that
 * follows. */
#include "core/sub.h"

static bool in_the_way(fws_topic *topic, size_t n)
{
    if (topic->lossless == 0 || topic->log.bytes + n <= topic->room_until)
        return false;
    uint64_t room = fws_topic_room(topic, n);
    topic->room_until = topic->log.bytes + room;
    return room < n && room < topic->lossless_lag; /* one frame passes when no member is behind */
}

fws_key *fws_topic_key(fws_topic *topic, const uint8_t *name, size_t n)
{
    fws_keys *keys = fws_topic_keys(topic);
    return keys == NULL ? NULL : fws_keys_reserve(keys, name, n);
}

bool fws_topic_has_room(fws_topic *topic, size_t n)
{
    const fws_slab *slab = topic->log.growing;
    uint64_t eseq = slab == NULL ? 0 : slab->base_eseq;
    return !in_the_way(topic, n)
           && (fws_log_fits(&topic->log, n, eseq) || fws_topic_make_room(topic, n));
}

int fws_topic_reserve(fws_topic *topic, size_t n, uint64_t eseq, uint8_t **room)
{
    if (n == 0 || n > FWS_FRAME_LIMIT)
        return FWS_E_INVALID;
    if (in_the_way(topic, n))
        return FWS_E_FULL;
    fws_log_age(&topic->log);
    if (!fws_log_fits(&topic->log, n, eseq) && !fws_topic_make_room(topic, n))
        return FWS_E_FULL;
    *room = fws_log_reserve(&topic->log, n, eseq);
    return *room == NULL ? FWS_E_NOMEM : FWS_OK;
}

void fws_topic_note_time(fws_topic *topic)
{
    if (topic->options->history_ns > 0 && topic->topics->logs.clock != NULL)
        topic->appended_at = *topic->topics->logs.clock;
}

/* Queues the topic to be woken, and frees what passes the retention. */
static void appended(fws_topic *topic, uint64_t first_eseq)
{
    fws_topics *topics = topic->topics;
    fws_topic_note_time(topic);
    if (topic->n == 0) {
        fws_topic_release(topic);
        return;
    }
    if (topic->log.head - topic->log.tail > 1) {
        fws_topic_trim(topic);
        fws_topic_passed(topic); /* the last slab may have been kept for lapped members */
    }
    if (topic->dirty || topic->caught == 0)
        return;
    topic->dirty = true;
    topic->dirty_eseq = first_eseq;
    topic->next_dirty = NULL;
    *topics->dirty_end = topic;
    topics->dirty_end = &topic->next_dirty;
}

/* How many members get a frame of that key. */
static uint32_t wanted_by(const fws_topic *topic, const fws_key *key)
{
    uint32_t filtered = key->ranks == NULL ? 0 : key->ranks->filters;
    return topic->n - topic->filtering + filtered;
}

static void publish_to(fws_topic *topic, uint64_t members)
{
    topic->account.published += members;
    topic->topics->account.published += members;
}

/* The key of that frame; the empty one, also of those before it whose key is not known yet. */
static void commit_key(fws_topic *topic, fws_key *key, uint64_t seq)
{
    uint64_t frames = seq + 1 - topic->keys->committed;
    publish_to(topic, frames * wanted_by(topic, key));
    fws_keys_commit(topic->keys, key, seq);
}

void fws_topic_note_key(fws_topic *topic, const uint8_t *name, size_t n, uint64_t seq)
{
    fws_key *key = fws_topic_key(topic, name, n);
    commit_key(topic, key == NULL ? topic->keys->plain : key, seq); /* memory is out */
}

void fws_topic_commit(fws_topic *topic, size_t n, uint64_t eseq)
{
    fws_topic_commit_keyed(topic, NULL, n, eseq);
}

void fws_topic_commit_keyed(fws_topic *topic, fws_key *key, size_t n, uint64_t eseq)
{
    fws_log_commit(&topic->log, n, eseq);
    if (topic->keys == NULL)
        publish_to(topic, topic->n);
    else
        commit_key(topic, key == NULL ? topic->keys->plain : key, topic->log.next_seq - 1);
    appended(topic, eseq);
}

void fws_topic_appended(fws_topic *topic, uint64_t frames, uint64_t first_eseq)
{
    if (frames == 0)
        return;
    if (topic->keys == NULL)
        publish_to(topic, frames * topic->n); /* nobody has a filter */
    else if (topic->keys->committed < topic->log.next_seq)
        commit_key(topic, fws_topic_key(topic, NULL, 0), topic->log.next_seq - 1);
    appended(topic, first_eseq);
}
