/* Snapshots for the owner, by value: nothing outside the core reads a live struct. Layer 3. */
#ifndef FWS_FACTS_H
#define FWS_FACTS_H

#include "core/engine.h"

typedef struct fws_conn_facts {
    uint64_t id;
    uint8_t state;       /* enum fws_state */
    bool over_limit;     /* one too many in all: answer 503 */
    bool over_address;   /* one too many of its address: answer 429 */
    bool acknowledges;   /* the kernel can say what the peer confirmed */
    uint16_t close_code; /* how it ended: the peer's code, else ours, else 1006 */
    uint32_t reason_n;
    const uint8_t *reason; /* good as long as the connection */
    size_t buffered;       /* bytes of direct sends that wait */
} fws_conn_facts;

fws_conn_facts fws_conn_facts_of(const fws_conn *conn);
/* What was metered of it; zeros where it is not. */
fws_metered fws_conn_metered(const fws_conn *conn);

/* A Close frame (RFC 6455 5.5.1). */
typedef struct fws_close {
    uint16_t code;         /* 1005: it was empty; 0: there was none */
    uint8_t n;             /* bytes of the reason */
    const uint8_t *reason; /* good as long as the connection; n == 0: NULL */
} fws_close;

typedef struct fws_closes {
    fws_close received, sent; /* sent: it has left wholly */
    bool peer_first;          /* the peer's came before ours was queued, or alone */
} fws_closes;

fws_closes fws_conn_closes(const fws_conn *conn);
uint64_t fws_conn_id(const fws_conn *conn);
bool fws_conn_dead(const fws_conn *conn);

/* The descriptor that is readable when a turn is due. */
int fws_engine_fd(const fws_engine *engine);
/* Connections held. */
uint32_t fws_engine_live(const fws_engine *engine);
fws_counters fws_engine_counters(const fws_engine *engine);
/* The monotonic clock, ns. */
uint64_t fws_engine_now(const fws_engine *engine);
/* Connections dead since the last reap: the first one (conn NULL), the next one; NULL: no more. */
fws_conn *fws_engine_next_dead(const fws_engine *engine, const fws_conn *conn);
/* Every connection that is not dead, from *slot on; NULL: no more. Start with *slot = 0. */
fws_conn *fws_engine_next_conn(const fws_engine *engine, uint32_t *slot);
/* Up to `most` (at most FWS_LIST_MOST) connections with subscriptions, those furthest behind in
 * bytes first, out of the 256 that have lagged longest; where fewer lag, others. Their number. All
 * topics must have been woken. The cost does not depend on how many connections or topics there
 * are. */
#define FWS_LIST_MOST 64u
uint32_t fws_engine_laggards(const fws_engine *engine, fws_conn **found, uint32_t most);
/* Up to `most` topics, those whose logs hold most first; their number. */
uint32_t fws_topics_largest(const fws_topics *topics, fws_topic **found, uint32_t most);
/* Every topic that has a name, from *place on; NULL: no more. */
fws_topic *fws_topics_next(const fws_topics *topics, uint32_t *place);
/* The time from a publish to the last client, of some publishes. */
const fws_hist *fws_topics_latency(const fws_topics *topics);
/* Why a connection has not had everything. */
enum fws_behind {
    FWS_BEHIND_NOT = 0,     /* it has */
    FWS_BEHIND_UNSENT,      /* it is to be sent to */
    FWS_BEHIND_RATE,        /* it waits for its max_rate */
    FWS_BEHIND_FULL,        /* its socket is full */
    FWS_BEHIND_NOT_READING, /* the same, and its kernel has confirmed nothing for FWS_NOT_READING_NS */
};
#define FWS_NOT_READING_NS 2000000000u
enum fws_behind fws_conn_behind(const fws_engine *engine, const fws_conn *conn);
/* Sums over all topics that ever were, pending included. */
fws_account fws_topics_sums(const fws_topics *topics);
fws_source *fws_engine_source(fws_engine *engine);
fws_meter *fws_engine_meter(fws_engine *engine); /* NULL: nothing is metered */

typedef struct fws_topic_facts {
    const char *name;
    uint16_t name_n;
    bool configured, closed;
    uint64_t epoch;
    void *owner;
    fws_topic_options options;
} fws_topic_facts;

fws_topic_facts fws_topic_facts_of(const fws_topic *topic);
void fws_topic_own(fws_topic *topic, void *owner);
void fws_topic_configure(fws_topic *topic, bool configured);
/* Whether fws_topics_collect() tells of its first and last subscriber, from now on. */
void fws_topic_watch(fws_topic *topic, bool watched);
bool fws_topic_wanted(const fws_topic *topic);

/* A message of its log. */
typedef struct fws_topic_message {
    const uint8_t *data; /* NULL: it is not retained; good until the topic's next change */
    size_t n;
    uint8_t opcode; /* FWS_TEXT or FWS_BINARY */
} fws_topic_message;

fws_topic_message fws_topic_message_at(const fws_topic *topic, uint64_t seq);

/* The newest message of a key: of the first such one with that sequence number or a higher one.
 * message.data NULL: there is none. All of it is good until the topic's next change. */
typedef struct fws_newest {
    fws_topic_message message;
    uint64_t seq;
    const char *key; /* n 0: of the messages without one */
    size_t key_n;
} fws_newest;

fws_newest fws_topic_newest_from(const fws_topic *topic, uint64_t seq);

typedef struct fws_sub_facts {
    uint32_t id;
    uint8_t began;   /* enum fws_began */
    bool wild;       /* by a wildcard */
    uint64_t seq;    /* of its next frame: all before it was handed to the kernel, or passed over */
    uint64_t gap_ns; /* of its max_rate; 0: it has none */
    bool envelope;
    uint16_t batch; /* 0: none */
    fws_topic_options options;
} fws_sub_facts;

/* The name of its key number i in the order in which it was given them; data NULL: it has no more,
 * or it wants all frames. It is good as long as the subscription. */
typedef struct fws_key_name {
    const char *data;
    uint8_t n;
} fws_key_name;

fws_key_name fws_sub_key_name(const fws_sub *sub, uint32_t i);

fws_sub_facts fws_sub_facts_of(const fws_sub *sub);

#endif
