#include "log/variant.h"

#include <stdlib.h>
#include <string.h>

#define SCRATCH_KEPT 65536u /* a larger one is not kept for the next message */
#define SINGLES_FIRST 16u

fws_variant *fws_variant_new(const fws_log *base, fws_encoding encoding)
{
    fws_variant *variant = malloc(sizeof *variant);
    if (variant == NULL)
        return NULL;
    *variant = (fws_variant){.encoding = encoding};
    fws_log_init(&variant->log, base->logs, false);
    fws_log_restart(&variant->log, base->next_seq);
    return variant;
}

void fws_variant_free(fws_variant *variant)
{
    fws_variant_forget(variant);
    fws_log_clear(&variant->log);
    free(variant->scratch.data);
    free(variant);
}

/* The log. */

/* The frames of a slab have one form: where another one begins, so does another slab. */
static void settle_form(fws_log *log, uint8_t form)
{
    fws_slab *slab = log->growing;
    if (slab != NULL && slab->form != form && slab->n > 0)
        slab->full_at = slab->n;
}

/* False, too, for what is larger than a frame may be: escaped, a text may be six times as long. */
static bool encode(fws_variant *variant, const fws_origin *origin, const fws_slab *slab, uint32_t i,
                   const fws_key *key, fws_encoded *out)
{
    uint32_t start = fws_slab_start(slab, i);
    bool made =
        fws_encode(out, variant->encoding, slab->data + start, slab->end[i] - start,
                   slab->base_seq + i, key, origin->content, origin->codec, &variant->scratch);
    return made && out->n <= FWS_FRAME_LIMIT;
}

static void scratch_settle(fws_variant *variant)
{
    if (variant->scratch.capacity <= SCRATCH_KEPT)
        return;
    free(variant->scratch.data);
    variant->scratch = (fws_scratch){0};
}

/* Appends one frame of the base. */
static bool derive(fws_variant *variant, const fws_origin *origin, const fws_slab *slab, uint32_t i)
{
    fws_log *log = &variant->log;
    uint64_t eseq = fws_slab_eseq(slab, i);
    fws_encoded encoded;
    const fws_key *key =
        origin->keys == NULL ? NULL : fws_keys_at(origin->keys, slab->base_seq + i);
    if (!encode(variant, origin, slab, i, key, &encoded))
        return false;
    settle_form(log, encoded.form);
    uint8_t *room = fws_log_reserve(log, encoded.n, eseq);
    if (room == NULL)
        return false;
    log->growing->form = encoded.form;
    fws_encoded_write(&encoded, room);
    fws_log_commit(log, encoded.n, eseq);
    return true;
}

/* Whether going on where it stands costs more than a step before it reaches seq, or cannot be. */
static bool behind(const fws_variant *variant, const fws_log *base, uint64_t seq)
{
    uint64_t here = variant->log.next_seq;
    if (seq <= here || seq < base->first_seq)
        return false;
    return here < base->first_seq
           || fws_log_position(base, seq) - fws_log_position(base, here) > FWS_DERIVE_STEP;
}

/* A step from where it stands, and as far as the frame before `to`. False: memory is out. */
static bool go_on(fws_variant *variant, const fws_origin *origin, uint64_t to)
{
    const fws_log *base = origin->base;
    const fws_slab *slab = NULL;
    fws_log *log = &variant->log;
    bool whole = true;
    for (uint64_t done = 0; whole && (done < FWS_DERIVE_STEP || log->next_seq < to)
                            && log->next_seq < base->next_seq;) {
        slab = fws_log_slab(base, log->next_seq, slab == NULL ? base->head : slab->id);
        uint32_t i = (uint32_t)(log->next_seq - slab->base_seq);
        done += slab->end[i] - fws_slab_start(slab, i);
        whole = derive(variant, origin, slab, i);
    }
    scratch_settle(variant);
    return whole;
}

void fws_variant_advance(fws_variant *variant, const fws_origin *origin, uint64_t seq)
{
    const fws_log *base = origin->base;
    if (seq >= base->next_seq)
        return;
    if (behind(variant, base, seq))
        fws_log_restart(&variant->log, seq);
    if (variant->log.next_seq >= base->first_seq)
        (void)go_on(variant, origin, seq + 1);
}

bool fws_variant_approach(fws_variant *variant, const fws_origin *origin, uint64_t seq,
                          uint64_t from)
{
    const fws_log *base = origin->base;
    fws_log *log = &variant->log;
    bool empty = log->first_seq == log->next_seq;
    from = from < base->first_seq ? base->first_seq : from;
    if (seq < log->first_seq)
        fws_log_restart(log, empty ? from : base->first_seq);
    else if (log->next_seq < from && behind(variant, base, seq))
        fws_log_restart(log, from);
    return go_on(variant, origin, 0);
}

void fws_variant_trim(fws_variant *variant, uint64_t first_seq)
{
    fws_log *log = &variant->log;
    const fws_slab *oldest;
    while ((oldest = fws_log_oldest(log)) != NULL && oldest->base_seq + oldest->n <= first_seq)
        fws_log_drop_oldest(log);
}

/* Singles. */

static fws_single *single_at(const fws_variant *variant, uint64_t seq)
{
    uint32_t mask = variant->capacity - 1, at = (uint32_t)seq & mask;
    while (variant->singles[at].slab != NULL && variant->singles[at].seq != seq)
        at = (at + 1) & mask;
    return &variant->singles[at];
}

static bool is_newest(const fws_keys *keys, uint64_t seq)
{
    const fws_keyed *at = fws_keys_from(keys, seq);
    return at != NULL && at->seq == seq;
}

/* Moves the singles to a table of that size; keys not NULL: those of no newest frame go. */
static bool singles_resize(fws_variant *variant, uint32_t capacity, const fws_keys *keys)
{
    fws_single *old = variant->singles, *singles = calloc(capacity, sizeof *singles);
    uint32_t n = variant->capacity;
    if (singles == NULL)
        return false;
    fws_log_beside(&variant->log, ((int64_t)capacity - (int64_t)n) * (int64_t)sizeof *singles);
    variant->singles = singles;
    variant->capacity = capacity;
    for (uint32_t i = 0; i < n; i++) {
        if (old[i].slab == NULL)
            continue;
        if (keys == NULL || is_newest(keys, old[i].seq)) {
            *single_at(variant, old[i].seq) = old[i];
        } else {
            fws_log_unsave(&variant->log, old[i].slab);
            variant->n_singles--;
        }
    }
    free(old);
    return true;
}

/* Room for one more. */
static bool singles_room(fws_variant *variant)
{
    uint32_t capacity = variant->capacity;
    if (capacity == 0)
        return singles_resize(variant, SINGLES_FIRST, NULL);
    return variant->n_singles < capacity / 4 * 3 || singles_resize(variant, capacity * 2, NULL);
}

/* When there are twice as many as were left the last time, those of no newest frames go: as many as
 * come, in the long run. */
static void singles_settle(fws_variant *variant, const fws_keys *keys)
{
    uint32_t capacity = variant->capacity;
    if (variant->n_singles < variant->settle_at)
        return;
    while (capacity > SINGLES_FIRST && keys->n < capacity / 4)
        capacity /= 2;
    while (keys->n >= capacity / 4 * 3)
        capacity *= 2;
    if (singles_resize(variant, capacity, keys))
        variant->settle_at = 2 * variant->n_singles + SINGLES_FIRST;
}

fws_slab *fws_variant_single(fws_variant *variant, const fws_origin *origin, const fws_slab *slab,
                             uint32_t i, const fws_key *key, bool settle)
{
    uint64_t seq = slab->base_seq + i;
    fws_encoded encoded;
    if (settle && variant->capacity > 0)
        singles_settle(variant, origin->keys);
    if (variant->n_singles > 0 && single_at(variant, seq)->slab != NULL)
        return single_at(variant, seq)->slab;
    if (!singles_room(variant) || !encode(variant, origin, slab, i, key, &encoded))
        return NULL;
    fws_slab *single = fws_log_save_as(&variant->log, slab, i, (uint32_t)encoded.n);
    if (single == NULL)
        return NULL;
    single->form = encoded.form;
    fws_encoded_write(&encoded, single->data);
    scratch_settle(variant);
    *single_at(variant, seq) = (fws_single){seq, single};
    variant->n_singles++;
    return single;
}

void fws_variant_forget(fws_variant *variant)
{
    for (uint32_t i = 0; i < variant->capacity; i++)
        if (variant->singles[i].slab != NULL)
            fws_log_unsave(&variant->log, variant->singles[i].slab);
    fws_log_beside(&variant->log, -(int64_t)(variant->capacity * sizeof *variant->singles));
    free(variant->singles);
    variant->singles = NULL;
    variant->n_singles = variant->capacity = variant->settle_at = 0;
}
