/* Limits and policies of slow subscribers; back-pressure on the publisher of a lossless topic. */
#include "core/sample.h"

/* The limits of the members. */

static void count_lossless(fws_topic *topic, uint64_t lag)
{
    bool first = topic->lossless++ == 0;
    if (first || lag < topic->lossless_lag) {
        topic->lossless_lag = lag;
        topic->lossless_least = 0;
    }
    topic->lossless_least += lag == topic->lossless_lag;
    if (first || lag > topic->lossless_most)
        topic->lossless_most = lag;
    topic->room_until = 0;
}

void fws_topic_count_limits(fws_topic *topic, const fws_sub *sub)
{
    const fws_topic_options *options = fws_sub_options(sub);
    uint64_t quarter = options->max_lag_ns / 4 + (options->max_lag_ns % 4 > 0);
    topic->from_oldest += options->on_slow == FWS_SLOW_DROP_OLDEST;
    if (options->on_slow == FWS_SLOW_LOSSLESS)
        count_lossless(topic, options->max_lag_bytes);
    else if (quarter > 0 && (topic->log.slab_ns == 0 || quarter < topic->log.slab_ns))
        topic->log.slab_ns = quarter;
}

/* What a lossless member needed may go. */
static void look_for_budget(const fws_topic *topic)
{
    if (topic->topics->starved > 0)
        topic->topics->starved = UINT64_MAX;
}

void fws_topic_uncount_limits(fws_topic *topic, const fws_sub *sub)
{
    const fws_topic_options *options = fws_sub_options(sub);
    if (options->on_slow == FWS_SLOW_LOSSLESS) {
        look_for_budget(topic);
        topic->lossless--;
        topic->lossless_least -= options->max_lag_bytes == topic->lossless_lag;
    }
    topic->from_oldest -= options->on_slow == FWS_SLOW_DROP_OLDEST;
    topic->room_until = 0;
    fws_log_unspare(&topic->log);
}

void fws_topic_renew_limits(fws_topic *topic)
{
    look_for_budget(topic);
    topic->lossless = topic->from_oldest = 0;
    topic->log.slab_ns = 0;
    for (uint32_t i = 0; i < topic->n; i++)
        fws_topic_count_limits(topic, topic->members[i]);
}

void fws_topic_check_limits(fws_topic *topic)
{
    if (topic->n == 0 || (topic->lossless > 0 && topic->lossless_least == 0))
        fws_topic_renew_limits(topic);
}

/* Back-pressure. */

/* Bytes of the log behind that frame, which must be retained or the next one. */
static uint64_t lag_from(const fws_sub *sub, uint64_t seq)
{
    const fws_log *log = &sub->topic->log;
    if (seq >= log->next_seq)
        return 0;
    const fws_slab *slab = fws_log_slab(log, seq, fws_sub_hint(sub));
    return log->bytes - slab->base_bytes - fws_slab_start(slab, (uint32_t)(seq - slab->base_seq));
}

/* The same behind its next frame; all that is retained when it is lapped. */
static uint64_t lag_of(const fws_sub *sub)
{
    const fws_log *log = &sub->topic->log;
    return sub->seq < log->first_seq ? fws_log_retained(log) : lag_from(sub, sub->seq);
}

/* Below `most` when it is behind at all, however much its own limit leaves. */
static uint64_t room_of(const fws_sub *sub, uint64_t most)
{
    uint64_t lag = lag_of(sub), limit = fws_sub_options(sub)->max_lag_bytes;
    uint64_t room = lag < limit ? limit - lag : 0;
    return lag > 0 && room >= most ? most - 1 : room;
}

/* The least room of all lossless members, lossless_lag when none of them is behind; a caught-up one
 * stands at `woken` or later. */
static uint64_t least_room(const fws_topic *topic)
{
    const fws_log *log = &topic->log;
    uint64_t limit = topic->lossless_lag, room = limit;
    uint32_t behind = 0;
    for (uint32_t i = topic->caught; i < topic->n; i++) {
        const fws_sub *sub = topic->members[i];
        if (fws_sub_options(sub)->on_slow != FWS_SLOW_LOSSLESS)
            continue;
        uint64_t own = room_of(sub, limit);
        room = own < room ? own : room;
        behind++;
    }
    if (behind < topic->lossless) {
        uint64_t from = topic->woken > log->first_seq ? topic->woken : log->first_seq;
        uint64_t lag = log->bytes - fws_log_position(log, from);
        uint64_t caught = lag < limit ? limit - lag : 0;
        room = caught < room ? caught : room;
    }
    return room;
}

uint64_t fws_topic_room(fws_topic *topic, uint64_t wanted)
{
    const fws_log *log = &topic->log;
    uint64_t limit = topic->lossless_lag, retained = fws_log_retained(log);
    topic->refused = 0;
    if (topic->lossless == 0)
        return UINT64_MAX;
    /* No member lags by more than what is retained: with room to spare, that is near enough. */
    if (retained <= limit / 2 && wanted <= limit - retained)
        return limit - retained;
    uint64_t room = least_room(topic);
    if (room < wanted && room < limit)
        topic->refused = wanted;
    return room;
}

uint64_t fws_sub_held_rate(const fws_sub *sub)
{
    const fws_topic *topic = sub->topic;
    const fws_topic_options *options = fws_sub_options(sub);
    if (options->on_slow != FWS_SLOW_LOSSLESS || topic->refused == 0)
        return 0;
    uint64_t lag = lag_of(sub), limit = options->max_lag_bytes;
    if (lag == 0 || (lag < limit && limit - lag >= topic->refused))
        return 0;
    uint64_t share = FWS_HELD_RATE / topic->lossless;
    return options->min_rate < share ? options->min_rate : share;
}

bool fws_conn_drags(fws_conn *conn, uint64_t rate, uint64_t now, uint64_t window_ns)
{
    uint64_t since = conn->hold_since, taken = conn->bytes_written - conn->hold_written;
    bool goes_on = rate > 0 && since > 0;
    if (goes_on && (now < since || now - since < window_ns))
        return false;
    conn->hold_since = rate > 0 ? now : 0;
    conn->hold_written = conn->bytes_written;
    return goes_on && (double)taken * 1e9 < (double)rate * (double)(now - since);
}

/* Frames that it has still to get from seq on: what is kept from it is no lag. */
static uint64_t messages_behind(const fws_sub *sub, uint64_t seq)
{
    return fws_sub_frames(sub, seq, sub->topic->log.next_seq);
}

/* Where its lag begins: what is replayed to it is none, or a history larger than the limits could
 * be sent to nobody. */
static uint64_t lag_begins(const fws_sub *sub)
{
    uint64_t replay_to = sub->extra == NULL ? 0 : sub->extra->replay_to;
    return sub->seq > replay_to ? sub->seq : replay_to;
}

/* Whether what it has still to get, from seq on, is young enough. It was refused some since: what
 * it was not offered in time, and the time in which no socket was looked at, are not its fault. */
static bool fresh(const fws_sub *sub, uint64_t seq, uint64_t most_ns)
{
    uint64_t by = sub->topic->topics->looked_at, since = sub->conn->lag_since;
    if (most_ns == 0 || seq >= sub->topic->log.next_seq)
        return true;
    uint64_t opened = fws_log_slab(&sub->topic->log, seq, fws_sub_hint(sub))->opened;
    since = opened > since ? opened : since;
    return by <= since || by - since <= most_ns;
}

static bool within(const fws_sub *sub, const fws_topic_options *options)
{
    if (fws_sub_lapped(sub))
        return false;
    if (options->on_slow == FWS_SLOW_LOSSLESS)
        return true;
    uint64_t seq = lag_begins(sub), most = options->max_lag_messages;
    return lag_from(sub, seq) <= options->max_lag_bytes && fresh(sub, seq, options->max_lag_ns)
           && (most == 0 || messages_behind(sub, seq) <= most);
}

/* The first frame from its place on that the limits allow. */
static uint64_t oldest_allowed(const fws_sub *sub, const fws_topic_options *options)
{
    const fws_log *log = &sub->topic->log;
    uint64_t seq = sub->seq > log->first_seq ? sub->seq : log->first_seq;
    uint64_t by = sub->topic->topics->looked_at, most = options->max_lag_messages, from;
    if (log->bytes > options->max_lag_bytes) {
        from = fws_log_seq_at(log, log->bytes - options->max_lag_bytes);
        seq = from > seq ? from : seq;
    }
    if (most > 0 && log->next_seq > most) {
        const fws_filter *filter = fws_sub_filter(sub);
        from = filter == NULL ? log->next_seq - most : fws_filter_newest(filter, most);
        seq = from > seq ? from : seq;
    }
    if (options->max_lag_ns > 0 && !fresh(sub, seq, options->max_lag_ns)) {
        from = fws_log_seq_since(log, by - options->max_lag_ns);
        seq = from > seq ? from : seq;
    }
    return seq;
}

static enum fws_why why_of(const fws_sub *sub)
{
    if (sub->seq < sub->topic->budget_to)
        return FWS_WHY_BUDGET;
    return sub->seq < sub->topic->log.first_seq ? FWS_WHY_RETENTION : FWS_WHY_SLOW;
}

/* For those who read an envelope. More of it, when nothing was sent since. */
static void to_tell(fws_sub *sub, uint64_t to)
{
    fws_sub_extra *extra = sub->extra;
    if (extra == NULL || extra->variant == NULL || !extra->variant->encoding.envelope)
        return;
    if (extra->lost_from == extra->lost_to) {
        extra->lost_from = sub->seq;
        extra->lost_why = (uint8_t)why_of(sub);
    }
    extra->lost_to = to;
}

void fws_sub_lose(fws_sub *sub, uint64_t to)
{
    uint64_t count = fws_sub_frames(sub, sub->seq, to);
    fws_sub_dropped(sub, count);
    if (count > 0 && sub->extra != NULL && sub->extra->losses != NULL)
        fws_losses_add(sub->extra->losses, sub->seq, to - 1, count, why_of(sub));
    uint64_t from = sub->seq;
    if (count > 0)
        to_tell(sub, to);
    fws_sub_move(sub, to);
    fws_sub_passed(sub, from);
}

int fws_sub_apply_policy(fws_sub *sub)
{
    const fws_topic_options *options = fws_sub_options(sub);
    if (sub->conflating) /* it needs no slab, but what is excluded for it is kept */
        return fws_sub_runs(sub) <= FWS_RUNS_MOST ? FWS_OK : FWS_E_SLOW;
    if (within(sub, options))
        return FWS_OK;
    if (options->on_slow != FWS_SLOW_LATEST && options->on_slow != FWS_SLOW_DROP_OLDEST)
        return FWS_E_SLOW;
    if (options->on_slow == FWS_SLOW_LATEST && sub->topic->keys != NULL && fws_sub_conflate(sub))
        return FWS_OK;
    uint64_t to = fws_sub_newest(sub);
    if (options->on_slow == FWS_SLOW_DROP_OLDEST) {
        uint64_t allowed = oldest_allowed(sub, options);
        to = allowed < to ? allowed : to;
    }
    fws_sub_lose(sub, to);
    return FWS_OK;
}
