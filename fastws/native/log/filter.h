/* Some keys of a topic: what a reader wants who does not want all. Layer 2: no I/O.
 *
 * Frames are counted by key (log/ranks), so what a filter leaves out is neither walked nor noted:
 * the frames that it wants before a place are the sum over its keys, for every place that the log
 * retains. Of what the log has let go the filter keeps the count up to the reader's place.
 */
#ifndef FWS_FILTER_H
#define FWS_FILTER_H

#include "log/keys.h"

#define FWS_FILTER_MOST 64u /* keys of a filter */

typedef struct fws_filter {
    fws_keys *keys;
    uint64_t start;  /* frames of its keys before the reader began */
    uint64_t passed; /* those before the reader's place, of frames that are gone perhaps fewer */
    uint32_t n;
    fws_key *wanted[];
} fws_filter;

/* How many names those bytes hold, each behind a byte with its length (0: frames without a key).
 * 0: they are not well formed, or more than FWS_FILTER_MOST. */
uint32_t fws_filter_names(const uint8_t *names, size_t n);

/* A filter of those names, which must be well formed; they need not have a frame yet. A name may
 * come twice. It walks the frames retained when it is the first to name a key. NULL: memory is
 * out. */
fws_filter *fws_filter_new(fws_keys *keys, const uint8_t *names, size_t n);
void fws_filter_free(fws_filter *filter);

/* Whether it has these names and no others. */
bool fws_filter_same(const fws_filter *filter, const uint8_t *names, size_t n);

bool fws_filter_wants(const fws_filter *filter, const fws_key *key);

/* Frames of its keys ever; those before a frame that the log retains, or the next one. */
uint64_t fws_filter_count(const fws_filter *filter);
uint64_t fws_filter_before(const fws_filter *filter, uint64_t seq);

/* The first frame retained that it wants, at that place or behind it; the log's next one: none. */
uint64_t fws_filter_next(const fws_filter *filter, uint64_t seq);

/* The last one before that place; UINT64_MAX: none is retained. */
uint64_t fws_filter_last(const fws_filter *filter, uint64_t seq);

/* How many frames from that one on, which it wants, one behind the other, it wants; at most that
 * many. */
uint32_t fws_filter_run(const fws_filter *filter, uint64_t seq, uint32_t most);

/* The first place retained from which on it wants at most that many. */
uint64_t fws_filter_newest(const fws_filter *filter, uint64_t most);

/* Of its keys, the one whose newest frame is the first at that place or behind it; NULL: none. How
 * many have such a frame. */
const fws_key *fws_filter_key(const fws_filter *filter, uint64_t seq);
uint32_t fws_filter_keys(const fws_filter *filter, uint64_t seq);

#endif
