/* A stream people subscribe to: a log, its members and its account. Layer 3.
 *
 * Invariants
 *   members[0..to_wake) are caught up and will be woken by the wake that runs; they stand at
 *   `woken` or later. members[to_wake..caught) are caught up and stand at the head as it was when
 *   they were last flushed. members[caught..n) are pending: each is in its connection's heap.
 *   published = delivered + dropped + conflated + what is pending, in frames, summed over members.
 *   A slab that is no longer in the log has been passed by every caught-up member, unless the
 *   budget took it.
 */
#ifndef FWS_TOPIC_H
#define FWS_TOPIC_H

#include "bench/hist.h"
#include "core/conn.h"
#include "core/losses.h"
#include "log/keys.h"

enum fws_on_slow {
    FWS_SLOW_CLOSE = 0,  /* past the limit: 1013 */
    FWS_SLOW_LATEST,     /* jump to the newest frame */
    FWS_SLOW_LOSSLESS,   /* back-pressure: the publisher waits */
    FWS_SLOW_DROP_OLDEST /* jump forward to what the limit allows */
};

typedef struct fws_topic_options {
    uint64_t retention_bytes; /* what subscribers that lag may keep; at least max_lag_bytes */
    uint64_t max_lag_bytes;
    uint8_t on_slow; /* enum fws_on_slow */
    /* Kept for subscribers that come back, each 0: no such limit; all 0: nothing is. */
    uint64_t history_messages, history_bytes, history_ns;
    uint64_t max_lag_messages; /* 0: no such limit */
    uint64_t max_lag_ns;       /* age of what waits for it; 0, and for lossless ones: no limit */
    uint64_t min_rate;         /* bytes/s of a lossless one that holds the publisher; 0: any */
    bool retain;               /* the newest frame is kept, and is a new subscriber's first */
    uint8_t content; /* enum fws_content: what payloads are, in an envelope; the topic's counts */
} fws_topic_options;

typedef struct fws_account {
    uint64_t published;    /* summed over subscriptions: frames published to each */
    uint64_t delivered;    /* whole frames handed to the kernel */
    uint64_t acknowledged; /* confirmed by the peers' kernels, as of the last look at each */
    uint64_t dropped, conflated;
    uint64_t pending; /* of a snapshot only */
} fws_account;

/* Bytes/s of all lossless members of a topic together. Where min_rate comes to more, each is asked
 * for its share of this only: then it is the machine that is slow. */
#define FWS_HELD_RATE 16777216u

#define FWS_NAME_MAX 1024u /* bytes of a topic's name */

struct fws_topics;

/* Somebody waits to publish a message of n bytes. */
typedef struct fws_waiting {
    fws_link link; /* in topics->waiting, or in topics->moved */
    struct fws_topic *topic;
    size_t n;
} fws_waiting;

/* How long a frame takes to the last member: see sample.h. */
#define FWS_SAMPLES 16             /* at a time, one of a topic */
#define FWS_SAMPLE_NS 60000000000u /* then another one may have its place */

typedef struct fws_sample {
    struct fws_topic *topic; /* NULL: it is free */
    uint64_t seq, at;        /* of the frame, and when it was published, ns */
    uint32_t waiting;        /* members that have not passed it */
    uint32_t next_id;        /* of subscriptions that it does not wait for */
} fws_sample;

typedef struct fws_topic {
    fws_log log;
    struct fws_topics *topics;
    const fws_topic_options *options; /* shared: fws_topics_share() */
    fws_variant *variants;            /* one for each encoding that is read */
    fws_keys *keys;                   /* NULL: no frame ever had a key */
    fws_sub **members;                /* &one_member while capacity is 1 */
    fws_sub *one_member;
    uint32_t n, caught, to_wake, capacity;
    uint64_t woken;                 /* no caught-up member stands before it */
    uint64_t wake_to;               /* what woken will be when the wake that runs is complete */
    uint64_t wake_eseq, dirty_eseq; /* first frame of that wake; first one of the next wake */
    struct fws_topic *next_dirty, *next_touched;
    fws_account account;
    uint64_t room_until;   /* back-pressure need not be looked at before so many bytes of the log */
    uint64_t appended_at;  /* nothing was after that, ns; kept for history by age only */
    uint64_t epoch;        /* of this incarnation of the name */
    void *owner;           /* the owner's */
    uint32_t refs;         /* atomic: the owner's, staged commands, subscriptions that have left */
    uint32_t lapped;       /* pending members whose slab is gone */
    uint32_t ahead;        /* pending members that a policy moved to the head: nothing is let go */
    uint32_t filtering;    /* members with a filter: keys know how many name them */
    uint32_t conflating;   /* pending members that get the newest frame of each key only */
    uint32_t lossless;     /* members that hold the publisher */
    uint32_t wild;         /* members by a wildcard */
    uint32_t from_oldest;  /* members that go on at the oldest frame when they are lapped */
    uint64_t lossless_lag; /* the least max_lag_bytes of them, at most */
    uint64_t lossless_most;  /* the largest, at least */
    uint32_t lossless_least; /* members with lossless_lag */
    uint64_t refused;        /* bytes of the frame that there was no room for; 0: there is room */
    fws_sample *sample;      /* NULL: none is taken */
    fws_waiting *waiting;    /* NULL: nobody waits for room */
    uint64_t budget_to;      /* who stands before that frame lost something to the budget */
    uint32_t hash;
    uint16_t name_n;
    bool dirty;      /* in the queue of topics to wake */
    bool touched;    /* in the list of topics to look at: fws_topics_collect() */
    bool configured; /* stays without subscribers */
    bool closed;     /* takes nothing any more; its name is free */
    bool watched;    /* the owner hears of its first and last subscriber */
    bool wanted;     /* what the owner heard last */
    char name[];
} fws_topic;

typedef struct fws_topic_entry {
    fws_topic *topic; /* NULL: free */
    uint32_t hash;
} fws_topic_entry;

/* A subscription that has sent as often as it may, and when it may again, ns. */
typedef struct fws_rest {
    uint64_t until;
    fws_sub *sub;
} fws_rest;

/* What the topics of an engine share. */
typedef struct fws_topics {
    fws_logs logs;
    fws_account account;     /* sums over all topics that ever were */
    uint64_t budget_dropped; /* slabs taken from readers to keep within logs.most */
    fws_topic *dirty, **dirty_end, *waking;
    fws_topic *touched;
    fws_topic_entry *table; /* by name: open addressing */
    uint32_t n, capacity;
    fws_rest *resting; /* a heap, the first one to rise at its top */
    uint32_t n_resting, resting_capacity;
    uint32_t next_sub_id, sweep_at;
    uint64_t incarnations, seed; /* seed: secret, of hashes */
    uint64_t epochs;             /* random, where epochs count from: clients get to know them */
    /* Rings of topics that somebody waits for: those of which nothing has moved since they were
     * looked at, and the others. starved: a look found the logs too full, which held that much; 0:
     * none did. */
    fws_link waiting, moved;
    uint64_t starved;
    fws_sample samples[FWS_SAMPLES];
    uint32_t n_sampled;            /* of them, complete */
    fws_hist latency;              /* of those that were recorded, ns */
    struct fws_patterns *patterns; /* of wildcards; NULL: there is none */
    fws_link losses;    /* ring of subscriptions whose losses are to be told, or their end */
    uint64_t looked_at; /* who could be sent to before that has been, ns: ages count up to it */
    struct fws_settings *settings;
} fws_topics;

/* topics.c */

/* clock: ns, read when a slab is opened; most: bytes that all logs may hold, 0: no limit. */
void fws_topics_init(fws_topics *topics, const uint64_t *clock, uint64_t most, uint64_t seed);

/* Frees all topics; they must have no members. */
void fws_topics_clear(fws_topics *topics);

/* The topic of that name, made with these options when there is none. NULL: memory is out, or the
 * name is longer than FWS_NAME_MAX. A new one goes with the next fws_topics_collect() unless it has
 * got a subscriber, a reference or `configured` by then. */
fws_topic *fws_topics_get(fws_topics *topics, const char *name, size_t n,
                          const fws_topic_options *options);
fws_topic *fws_topics_find(const fws_topics *topics, const char *name, size_t n);

/* Equal options stand once, and live as long as the topics. NULL: memory is out. */
const fws_topic_options *fws_topics_share(fws_topics *topics, const fws_topic_options *options);

/* References keep a topic alive. Any thread that holds one may take another; the topic is freed by
 * fws_topics_collect() only. */
void fws_topic_ref(fws_topic *topic);
void fws_topic_unref(fws_topic *topic); /* by the driver only */

/* To be looked at by fws_topics_collect(). */
void fws_topic_touch(fws_topic *topic);

/* Frees the topics that nothing needs: no members, references, history, configuration. Returns a
 * watched topic that has got its first or lost its last subscriber since `wanted` was set (and sets
 * it), until there is none: then NULL. */
fws_topic *fws_topics_collect(fws_topics *topics);

/* Whether a reader that stands at seq in that epoch can go on with nothing lost. */
bool fws_topic_recovers(const fws_topic *topic, uint64_t epoch, uint64_t seq);

/* Drops the oldest slabs of the logs that hold most until n more bytes fit into the budget. False:
 * the budget is smaller than that, or lossless members need the rest. */
bool fws_topic_make_room(fws_topic *topic, size_t n);

/* Frees history that is too old, and looks again at topics that only wildcards have: in portions,
 * with every sweep. */
void fws_topics_sweep(fws_topics *topics);

/* Frees the name: the topic is in no table any more. */
void fws_topics_unname(fws_topics *topics, const fws_topic *topic);

/* topic.c */

/* Takes the name away and ends all subscriptions; it is freed when nothing refers to it any
 * more. */
void fws_topic_close(fws_topic *topic);

/* Puts other limits and another policy in force, for present members too. FWS_OK, FWS_E_NOMEM. */
int fws_topic_set_options(fws_topic *topic, const fws_topic_options *options);

/* Adds a subscription that starts where fws_topic_start() says. options NULL: the topic's. NULL:
 * memory is out. The connection must not have one yet. */
fws_sub *fws_topic_join(fws_topic *topic, fws_conn *conn, const fws_topic_options *options);

/* The same, with that frame, which must be retained or the next one, or FWS_START. Frames that
 * there are leave as if published with that engine sequence, which is no frame's: behind what was
 * sent to it before. With such frames it is pending at once: the caller sees to it that the
 * connection is flushed. */
fws_sub *fws_topic_join_at(fws_topic *topic, fws_conn *conn, const fws_topic_options *options,
                           uint64_t seq, uint64_t eseq);

/* The same with FWS_START, or with a frame as above, for a member that wants the frames of those
 * keys only (names: fws_filter_names(), names_n 0: all of them). It begins at the first of
 * these. */
fws_sub *fws_topic_join_filtered(fws_topic *topic, fws_conn *conn, const fws_topic_options *options,
                                 uint64_t seq, uint64_t eseq, const uint8_t *names, size_t names_n);

/* The first frame of a new subscription with those options (NULL: the topic's): the retained one,
 * else the next. One that leaves out what is not the newest anyway gets the retained frame of each
 * key, the oldest first: a snapshot. */
uint64_t fws_topic_start(const fws_topic *topic, const fws_topic_options *options);
bool fws_topic_has_snapshot(const fws_topic *topic, const fws_topic_options *options);
#define FWS_START UINT64_MAX

/* That of one with a filter: the first of the newest frames of its keys, when it gets a
 * snapshot, which needs one at least; else the newest frame that it wants, where retain keeps it
 * in the log. */
uint64_t fws_topic_start_filtered(const fws_topic *topic, const fws_filter *filter, bool snapshot);

/* Ends it: what is pending counts as dropped, but a half-sent frame, which leaves whole. */
void fws_topic_leave(fws_sub *sub);

/* Puts a policy of its own in force (NULL: the topic's). FWS_OK, FWS_E_NOMEM. */
int fws_sub_set_options(fws_sub *sub, const fws_topic_options *options);

/* The wake: begin takes those that are caught up, step returns the next one of them that has news,
 * now pending and in its connection's heap, or resting, or NULL: the wake is complete. Members may
 * join and leave between two calls. */
void fws_topic_begin_wake(fws_topic *topic);
fws_sub *fws_topic_wake(fws_topic *topic);

/* It has been sent everything: it counts as caught up again. */
void fws_topic_caught_up(fws_sub *sub);

/* publish.c */

/* Room for a frame; FWS_E_FULL when a lossless member would get too far behind, or when the logs
 * hold as much as they may and none of it can go; FWS_E_NOMEM, FWS_E_INVALID (n out of range). */
int fws_topic_reserve(fws_topic *topic, size_t n, uint64_t eseq, uint8_t **room);
void fws_topic_commit(fws_topic *topic, size_t n, uint64_t eseq);

/* Whether a frame of n bytes could be reserved; for that the budget may let go of others. */
bool fws_topic_has_room(fws_topic *topic, size_t n);

/* The key of that name, n 0: that of frames without one. NULL: memory is out. The first one of a
 * topic makes its keys. */
fws_key *fws_topic_key(fws_topic *topic, const uint8_t *name, size_t n);

/* The same for a frame with a key, fws_topic_key(): behind the reserve, before anything else. NULL:
 * it has none. */
void fws_topic_commit_keyed(fws_topic *topic, fws_key *key, size_t n, uint64_t eseq);

/* For a frame that was written to the log directly and committed there: it has the key of that
 * name. Such frames one after the other, before fws_topic_appended(). */
void fws_topic_note_key(fws_topic *topic, const uint8_t *name, size_t n, uint64_t seq);

/* The same for many frames that were written to the log directly: their number. Those that no key
 * was noted for have none. */
void fws_topic_appended(fws_topic *topic, uint64_t frames, uint64_t first_eseq);

/* For history by age: the newest frame is at most that old. */
void fws_topic_note_time(fws_topic *topic);

/* room.c */

/* Whether a message of n bytes may be published now: it is taken, or fails for another reason. */
bool fws_topic_takes(fws_topic *topic, size_t n);

/* Whether it is larger than all that the logs may hold. */
bool fws_topic_never_takes(const fws_topic *topic, size_t n);

/* Asks for one notice that such a message may be published. To ask again before the notice changes
 * its size. FWS_OK, FWS_E_NOMEM. */
int fws_topic_want_room(fws_topic *topic, size_t n);

/* Looks at one topic that somebody waits for and of which something has moved; false: there is
 * none. *found: the topic, if it has room now, which takes its asking back; else NULL. */
bool fws_topics_next_room(fws_topics *topics, fws_topic **found);

/* Whether there is one to look at. */
static inline bool fws_topics_room_due(const fws_topics *topics)
{
    return !fws_link_empty(&topics->moved) || topics->starved > topics->logs.bytes;
}

/* What it has room for may have changed. */
static inline void fws_topic_moved(fws_topic *topic)
{
    if (topic->waiting == NULL)
        return;
    fws_link_remove(&topic->waiting->link);
    fws_link_append(&topic->topics->moved, &topic->waiting->link);
}

/* Nobody waits any more. */
void fws_topic_unwait(fws_topic *topic);

/* keep.c */

/* Its keys, made when it has none. NULL: memory is out. */
fws_keys *fws_topic_keys(fws_topic *topic);

/* The first frame that history, or retain, keeps; next_seq: none. */
uint64_t fws_topic_history_from(const fws_topic *topic);

/* Frees the oldest slabs, as far as neither members nor history need them. */
void fws_topic_release(fws_topic *topic);

/* Drops the oldest slab, though members may stand there: those are lapped. After the last call of
 * several comes fws_topic_dropped(). */
void fws_topic_lap(fws_topic *topic);
void fws_topic_dropped(fws_topic *topic);

/* fws_topic_release() after a member has moved: returns at once when the oldest slab is read. */
void fws_topic_passed(fws_topic *topic);

/* After another slab was opened: subscribers that lag keep at most retention_bytes behind it. */
void fws_topic_trim(fws_topic *topic);

#endif
