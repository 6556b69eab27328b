#include "core/source.h"

void fws_source_init(fws_source *source, fws_topic *topic, uint64_t seed,
                     enum fws_tick_format format, enum fws_tick_fields fields, enum fws_late late)
{
    fws_topic_ref(topic); /* until the source has another topic, or this one is closed */
    if (source->topic != NULL)
        fws_topic_unref(source->topic);
    source->topic = topic;
    source->max = source->running = source->behind = false;
    fws_ticks_init(&source->ticks, seed, format, fields);
    fws_pace_init(&source->pace, late);
}

/* Ticks due without a subscriber do not count as missed. */
static void set_rate(fws_source *source, uint64_t now, uint64_t rate)
{
    uint64_t missed = source->pace.missed;
    fws_pace_set_rate(&source->pace, now, rate);
    if (!source->running)
        source->pace.missed = missed;
}

void fws_source_set_rate(fws_source *source, uint64_t now, uint64_t rate, bool max)
{
    source->max = max;
    set_rate(source, now, max ? 0 : rate);
}

/* A feed without subscribers stands still; the first subscriber starts it anew, so that the ticks
 * of the time without one do not fall due at once. */
static bool listened_to(fws_source *source, uint64_t now)
{
    if (source->topic != NULL && source->topic->closed) {
        fws_topic_unref(source->topic);
        source->topic = NULL;
    }
    bool wanted = source->topic != NULL && source->topic->n > 0;
    if (wanted && !source->running)
        set_rate(source, now, source->pace.rate);
    source->running = wanted;
    return wanted;
}

static uint64_t room_left(const fws_source *source)
{
    return fws_topic_room(source->topic, FWS_TICK_MAX);
}

static uint8_t *reserve(fws_source *source, uint64_t eseq)
{
    fws_topic *topic = source->topic;
    uint8_t *room = NULL;
    if (fws_log_fits(&topic->log, FWS_TICK_MAX, eseq) || fws_topic_make_room(topic, FWS_TICK_MAX))
        room = fws_log_reserve(&topic->log, FWS_TICK_MAX, eseq);
    source->starved = room == NULL;
    return room;
}

/* Once the topic has keys, the key of a tick is its symbol. */
static void note_symbols(const fws_source *source, uint64_t first_seq, uint32_t n)
{
    size_t name_n;
    for (uint32_t i = 0; source->topic->keys != NULL && i < n; i++) {
        const uint8_t *name = fws_tick_symbol(source->ticks.symbol[i], &name_n);
        fws_topic_note_key(source->topic, name, name_n, first_seq + i);
    }
}

static size_t append(fws_source *source, uint64_t ts_ns, uint64_t *eseq)
{
    fws_topic *topic = source->topic;
    uint8_t *room = reserve(source, *eseq + 1);
    if (room == NULL)
        return 0;
    size_t n = fws_tick_write(&source->ticks, room, ts_ns, topic->log.next_seq);
    fws_log_commit(&topic->log, n, ++*eseq);
    note_symbols(source, topic->log.next_seq - 1, 1);
    return n;
}

/* Several ticks due at the same time, within that many bytes; FWS_TICK_MAX at least. */
static size_t append_block(fws_source *source, uint64_t ts_ns, uint64_t *eseq, uint64_t room,
                           uint64_t *count)
{
    fws_log *log = &source->topic->log;
    if (reserve(source, *eseq + 1) == NULL)
        return 0;
    fws_span span = fws_log_span(log, *eseq + 1);
    uint32_t frames = span.frames < FWS_TICK_BLOCK ? span.frames : FWS_TICK_BLOCK;
    size_t bytes = span.bytes < room ? span.bytes : room;
    frames = fws_ticks_fit(&source->ticks, bytes, frames);
    size_t n = fws_tick_block(&source->ticks, span.data, span.end, span.start, frames, ts_ns,
                              log->next_seq);
    fws_log_commit_span(log, frames, n, *eseq + 1);
    note_symbols(source, log->next_seq - frames, frames);
    *eseq += frames;
    *count += frames;
    return n;
}

static uint64_t run_max(fws_source *source, uint64_t now_real, uint64_t *eseq, uint64_t room)
{
    uint64_t count = 0, bytes = 0;
    while (bytes + FWS_TICK_MAX <= room && bytes < FWS_SOURCE_BATCH) {
        size_t n = append_block(source, now_real, eseq, room - bytes, &count);
        if (n == 0)
            break;
        bytes += n;
    }
    return count;
}

static uint64_t run_paced(fws_source *source, uint64_t now, uint64_t now_real, uint64_t *eseq,
                          uint64_t room)
{
    uint64_t due = fws_pace_due(&source->pace, now), count = 0, bytes = 0;
    source->behind = false;
    if (due == 0)
        return 0;
    fws_stride stride = fws_pace_stride(&source->pace);
    uint64_t real_offset = now_real - now; /* wraps as unsigned arithmetic should */
    while (count < due && bytes + FWS_TICK_MAX <= room && bytes < FWS_SOURCE_BATCH) {
        size_t n = append(source, stride.ns + real_offset, eseq);
        if (n == 0)
            break;
        bytes += n;
        count++;
        fws_stride_next(&stride);
    }
    if (count > 0)
        fws_pace_sent(&source->pace, now, count);
    source->behind = count < due && count > 0;
    return count;
}

uint64_t fws_source_run(fws_source *source, uint64_t now, uint64_t now_real, uint64_t *eseq)
{
    if (!listened_to(source, now))
        return 0;
    source->starved = false;
    uint64_t room = room_left(source), first_eseq = *eseq + 1;
    fws_log_age(&source->topic->log);
    uint64_t count = source->max ? run_max(source, now_real, eseq, room)
                                 : run_paced(source, now, now_real, eseq, room);
    fws_topic_appended(source->topic, count, first_eseq);
    return count;
}

uint64_t fws_source_next(fws_source *source, uint64_t now)
{
    if (!listened_to(source, now))
        return UINT64_MAX;
    if (source->starved) /* no socket will announce memory, or room in the budget */
        return now + FWS_STARVED_NS;
    if (room_left(source) < FWS_TICK_MAX)
        return UINT64_MAX; /* a socket that becomes writable wakes the engine */
    return source->max || source->behind ? 0 : fws_pace_next(&source->pace);
}

void fws_source_set_format(fws_source *source, enum fws_tick_format format)
{
    fws_ticks_set_format(&source->ticks, format);
}

const fws_pace *fws_source_pace(const fws_source *source)
{
    return &source->pace;
}
