/* Subscriptions to all topics whose names begin so, those that are made later too. Layer 3.
 *
 * Each topic that matches has the connection as an ordinary member, marked `wild`: one at most, so
 * that no message comes twice. Of several wildcards of a connection the longest that matches decides
 * with which options; an explicit subscription goes before all of them, and when it ends they take
 * over. A topic that has only such members, and nothing that they have not had, is closed when each of
 * them may send again (max_rate): when its name is used again, they are members of the new one from the
 * beginning.
 */
#ifndef FWS_WILDCARDS_H
#define FWS_WILDCARDS_H

#include "core/sub.h"

#define FWS_WILD_PREFIX 255u /* bytes of the beginning of names */
#define FWS_WILD_MOST 64u    /* wildcards of one connection */

/* The subscription's own options, merged with those of each topic. */
typedef struct fws_wild_options {
    uint8_t prefix_n, prefix[FWS_WILD_PREFIX]; /* what the names begin with */
    bool has_policy, has_lag;
    uint8_t on_slow;                       /* has_policy */
    uint64_t max_lag_bytes;                /* has_lag; 0: what the topic retains */
    uint64_t max_lag_messages, max_lag_ns; /* has_lag */
} fws_wild_options;

typedef struct fws_wild {
    struct fws_wild *next_of_conn, *next; /* next: of the same prefix */
    fws_conn *conn;
    struct fws_pattern *pattern;
    fws_wild_options own;
    uint64_t gap_ns;     /* of max_rate */
    const uint8_t *keys; /* its own copy of the names that fws_filter_names() reads; NULL: all */
    uint16_t keys_n;
    fws_losses *losses; /* NULL: nobody wants to be told; those of its members have its id */
} fws_wild;

/* The topic of that name, made with these options when there is none; then the wildcards that match
 * have it. NULL: memory is out, or the name is too long. */
fws_topic *fws_topics_open(fws_topics *topics, const char *name, size_t n,
                           const fws_topic_options *options);

/* Subscribes an OPEN connection to all topics that begin so, which looks at every topic's name
 * once; again: with other options. Frames that there are leave with the engine sequences from *eseq
 * on. It takes losses over (NULL: none). FWS_OK, FWS_E_NOMEM (then nothing has changed, but options
 * that were given again), FWS_E_MANY. */
int fws_conn_join_wild(fws_topics *topics, fws_conn *conn, const fws_wild *asked, uint64_t *eseq);
void fws_conn_leave_wild(fws_conn *conn, const uint8_t *prefix, size_t n);
bool fws_conn_has_wild(const fws_conn *conn, const uint8_t *prefix, size_t n);

/* Its explicit subscription has ended: a wildcard that matches goes on. FWS_OK, FWS_E_NOMEM. */
int fws_conn_fall_back(fws_conn *conn, fws_topic *topic, uint64_t *eseq);

/* The next topic, from *place on, that it has by a wildcard, with a name that begins so; NULL: no
 * more. Begin with *place = 0. */
fws_topic *fws_conn_next_wild(const fws_conn *conn, const uint8_t *prefix, size_t n,
                              uint32_t *place);

/* Ends all wildcards of a connection that has left its topics. */
void fws_conn_drop_wilds(fws_conn *conn);

/* Closes the topics, of those to be looked at, that only wildcards have and that hold nothing. */
void fws_topics_close_idle(fws_topics *topics);

#endif
