/* Staging: commands of other threads than the driving one wait here for its next turn. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/engine_internal.h"

#define STAGING_KEPT 262144u /* bytes of the buffer that are kept for the next turn */
#define LOOK 16          /* steps between two looks at the clock; a command is one, and one for */
#define STEP_BYTES 1024u /* so many bytes: they may have to be compressed */

/* A staged command of these kinds holds a reference to its topic. */
static bool refers(uint8_t kind)
{
    return kind == FWS_CMD_SUBSCRIBE || kind == FWS_CMD_UNSUBSCRIBE || kind == FWS_CMD_PUBLISH;
}

static bool has_losses(uint8_t kind)
{
    return kind == FWS_CMD_SUBSCRIBE || kind == FWS_CMD_SUBSCRIBE_ALL;
}

static size_t key_size(const fws_command *command)
{
    uint8_t kind = command->kind;
    bool named =
        kind == FWS_CMD_PUBLISH || kind == FWS_CMD_SUBSCRIBE || kind == FWS_CMD_SUBSCRIBE_ALL;
    return named ? command->key_n : 0;
}

/* With its data, and behind that its key. */
static size_t staged_size(const fws_command *command)
{
    return sizeof *command + ((command->n + key_size(command) + 7) & ~(size_t)7);
}

static void staging_count(fws_engine *engine)
{
    const fws_staging *staging = &engine->staging;
    size_t held = fws_allocated(staging->capacity) + fws_allocated(staging->draining_capacity);
    __atomic_store_n(&engine->staged, held, __ATOMIC_RELAXED);
}

/* Whether so much more is within max_buffered_bytes. */
static bool may_hold(fws_engine *engine, size_t more)
{
    uint64_t most = engine->options.max_buffered_bytes;
    uint64_t held = __atomic_load_n(&engine->buffered, __ATOMIC_RELAXED) + engine->staged;
    if (most == 0 || held + more <= most)
        return true;
    __atomic_store_n(&engine->staging.pressed, true, __ATOMIC_RELAXED);
    return false;
}

static bool staging_grow(fws_engine *engine, size_t n, bool always)
{
    fws_staging *staging = &engine->staging;
    size_t need = staging->n + n, capacity = need * 2;
    if (staging->capacity >= need)
        return true;
    if (capacity > FWS_STAGING_BYTES)
        capacity = need > FWS_STAGING_BYTES ? need : FWS_STAGING_BYTES;
    if (!always && !may_hold(engine, capacity - staging->capacity))
        return false;
    uint8_t *grown = realloc(staging->bytes, capacity);
    if (grown == NULL)
        return false;
    staging->bytes = grown;
    staging->capacity = capacity;
    staging_count(engine);
    return true;
}

static int stage(fws_engine *engine, const fws_command *command)
{
    fws_staging *staging = &engine->staging;
    size_t n = staged_size(command);
    pthread_mutex_lock(&staging->lock);
    bool first = staging->n == 0;
    bool always = command->kind == FWS_CMD_UNREF;
    bool fits = always || (command->n <= FWS_STAGING_BYTES && staging->n + n <= FWS_STAGING_BYTES);
    fits = fits && staging_grow(engine, n, always);
    if (fits) {
        if (refers(command->kind))
            fws_topic_ref(command->topic); /* until it is applied */
        memcpy(staging->bytes + staging->n, command, sizeof *command);
        if (command->n > 0)
            memcpy(staging->bytes + staging->n + sizeof *command, command->data, command->n);
        if (key_size(command) > 0)
            memcpy(staging->bytes + staging->n + sizeof *command + command->n, command->key,
                   command->key_n);
        staging->n += n;
    } else {
        __atomic_add_fetch(&staging->refused, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&staging->lock);
    if (!fits)
        return FWS_E_FULL;
    const uint64_t one = 1;
    if (first && write(engine->wake, &one, sizeof one) < 0)
        return FWS_E_SYSTEM;
    return FWS_OK;
}

/* Takes the bytes of all staged commands; those taken before have been applied. */
static void take_staged(fws_staging *staging)
{
    pthread_mutex_lock(&staging->lock);
    uint8_t *bytes = staging->bytes;
    size_t capacity = staging->capacity;
    staging->draining_n = staging->n;
    staging->drained = 0;
    staging->bytes = staging->draining;
    staging->capacity = staging->draining_capacity;
    staging->n = 0;
    staging->draining = bytes;
    staging->draining_capacity = capacity;
    pthread_mutex_unlock(&staging->lock);
}

/* The next one that was taken; false: there is none. */
static bool next_taken(fws_staging *staging, fws_command *command)
{
    if (staging->drained == staging->draining_n)
        return false;
    const uint8_t *at = staging->draining + staging->drained;
    memcpy(command, at, sizeof *command);
    command->data = at + sizeof *command;
    command->key = command->data + command->n;
    staging->drained += staged_size(command);
    return true;
}

/* A number that no other thread ever has: a pthread_t is used again when its thread has ended. */
static uint64_t this_thread(void)
{
    static uint64_t threads;
    static _Thread_local uint64_t number;
    if (number == 0)
        number = __atomic_add_fetch(&threads, 1, __ATOMIC_RELAXED);
    return number;
}

void fws_engine_drive(fws_engine *engine)
{
    __atomic_store_n(&engine->driver, this_thread(), __ATOMIC_RELEASE);
}

/* What was drained is freed when it was much: threads that do nothing any more hold nothing. */
static void let_go(fws_engine *engine)
{
    fws_staging *staging = &engine->staging;
    if (staging->draining_capacity <= STAGING_KEPT)
        return;
    pthread_mutex_lock(&staging->lock);
    free(staging->draining);
    staging->draining = NULL;
    staging->draining_capacity = 0;
    staging_count(engine);
    pthread_mutex_unlock(&staging->lock);
}

/* Applies what was taken, for FWS_TURN_NS. False: the rest is left to the next turn. */
static bool apply_taken(fws_engine *engine)
{
    fws_command command;
    uint64_t began = engine->sys->monotonic();
    for (size_t steps = 0; next_taken(&engine->staging, &command);) {
        bool refused = fws_engine_apply(engine, &command) < 0;
        engine->counters.staged_refused += refused;
        if (refused && has_losses(command.kind))
            fws_losses_end(&engine->topics, command.losses);
        if (refers(command.kind))
            fws_topic_unref(command.topic);
        steps += 1 + command.n / STEP_BYTES;
        if (steps < LOOK)
            continue;
        if (engine->sys->monotonic() - began >= FWS_TURN_NS)
            break;
        steps = 0;
    }
    return engine->staging.drained == engine->staging.draining_n;
}

void fws_engine_drain(fws_engine *engine)
{
    fws_staging *staging = &engine->staging;
    if (engine->driver == 0)
        fws_engine_drive(engine);
    engine->woken = false;
    if (staging->drained == staging->draining_n)
        take_staged(staging);
    if (staging->drained < staging->draining_n) {
        engine->now = engine->sys->monotonic();
        fws_engine_note_late(engine); /* or the deadlines that they set had that time in addition */
        engine->woken = !apply_taken(engine);
    }
    if (!engine->woken)
        let_go(engine);
    engine->pressed |= __atomic_exchange_n(&staging->pressed, false, __ATOMIC_RELAXED);
}

static void discard_taken(fws_staging *staging)
{
    fws_command command;
    while (next_taken(staging, &command)) {
        if (has_losses(command.kind))
            fws_losses_free(command.losses);
        if (refers(command.kind) || command.kind == FWS_CMD_UNREF)
            fws_topic_unref(command.topic);
    }
}

void fws_engine_discard(fws_engine *engine)
{
    discard_taken(&engine->staging);
    take_staged(&engine->staging);
    discard_taken(&engine->staging);
}

bool fws_engine_foreign(const fws_engine *engine)
{
    uint64_t driver = __atomic_load_n(&engine->driver, __ATOMIC_ACQUIRE);
    return driver != 0 && driver != this_thread();
}

bool fws_engine_inherited(const fws_engine *engine)
{
    return *engine->sys->forks != engine->forks;
}

int fws_engine_command(fws_engine *engine, const fws_command *command)
{
    if (fws_engine_inherited(engine))
        return FWS_E_CLOSED;
    if (fws_engine_foreign(engine))
        return stage(engine, command);
    return fws_engine_apply(engine, command);
}
