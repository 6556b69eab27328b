/* The built-in source: paced ticks written straight into a topic's log. Layer 3: acts on a
 * topic, makes no system call.
 */
#ifndef FWS_SOURCE_H
#define FWS_SOURCE_H

#include "feed/pace.h"
#include "feed/tick.h"
#include "core/sub.h"

#define FWS_STARVED_NS 1000000u  /* until a source without memory tries again */
#define FWS_SOURCE_BATCH 262144u /* bytes appended before the clients are looked at again */

typedef struct fws_source {
    fws_topic *topic; /* NULL: no source */
    fws_ticks ticks;
    fws_pace pace;
    bool max;     /* as fast as the slowest subscriber takes it */
    bool running; /* the topic has subscribers; else time does not count */
    bool starved; /* the last batch found no memory, or no room in the budget */
    bool behind;  /* the last batch was cut short: more is due */
} fws_source;

/* The source must be zeroed before its first use. Holds a reference to the topic. */
void fws_source_init(fws_source *source, fws_topic *topic, uint64_t seed,
                     enum fws_tick_format format, enum fws_tick_fields fields, enum fws_late late);

/* From now on that many ticks a second; max: the rate counts for nothing. */
void fws_source_set_rate(fws_source *source, uint64_t now, uint64_t rate, bool max);

/* Appends what is due at now (CLOCK_MONOTONIC), at most about FWS_SOURCE_BATCH bytes and
 * never past what a lossless topic has room for. Every tick carries the time at which it was due,
 * as now_real (CLOCK_REALTIME at now) has it. *eseq is the engine's counter. Returns
 * the number of ticks appended. */
uint64_t fws_source_run(fws_source *source, uint64_t now, uint64_t now_real, uint64_t *eseq);

/* The ticks' format from now on; the random walk goes on. */
void fws_source_set_format(fws_source *source, enum fws_tick_format format);

const fws_pace *fws_source_pace(const fws_source *source);

/* When it wants to run next: 0 at once, UINT64_MAX not before something changes. */
uint64_t fws_source_next(fws_source *source, uint64_t now);

#endif
