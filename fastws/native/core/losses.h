/* What subscriptions will never get, for an owner that wants to be told. Layer 3.
 *
 * The owner makes an fws_losses and gives it to a subscription; it is told of each loss, at most once
 * between two looks, and at last of the subscription's end, with which it is freed.
 */
#ifndef FWS_LOSSES_H
#define FWS_LOSSES_H

#include "core/conn.h"

struct fws_topics;

/* Why a subscription will never get some frames. */
enum fws_why {
    FWS_WHY_SLOW = 0,  /* its policy left them out: it was past its max_lag */
    FWS_WHY_RETENTION, /* the topic let them go for retention_bytes */
    FWS_WHY_BUDGET     /* the logs held max_log_bytes */
};

/* As the readers of envelopes are told it. */
static inline const char *fws_why_name(uint8_t why)
{
    static const char *const names[] = {"slow", "retention", "budget"};
    return names[why];
}

/* Those that it has lost since its owner was told last. Made by the owner, freed when the owner has
 * been told of the end. */
typedef struct fws_losses {
    fws_link link;       /* in topics->losses: there is something to tell */
    struct fws_sub *sub; /* NULL: it has ended */
    uint64_t id;         /* the owner's */
    bool shared;         /* others have that id: its end is not theirs */
    uint64_t first, last, count;
    uint8_t why; /* enum fws_why, of the first ones */
} fws_losses;

/* For an owner that wants to be told what a subscription loses. NULL: memory is out. */
fws_losses *fws_losses_new(uint64_t id);
void fws_losses_free(fws_losses *losses);

/* From now on the subscription's losses are told by that one, which it takes over; NULL: they are
 * told no more. The one before has ended. FWS_OK, FWS_E_NOMEM. */
int fws_sub_tell_losses(fws_sub *sub, fws_losses *losses);

/* Its subscription has ended, or never began; NULL: there is none. */
void fws_losses_end(struct fws_topics *topics, fws_losses *losses);

/* Count frames of [first, last] were lost. */
void fws_losses_add(fws_losses *losses, uint64_t first, uint64_t last, uint64_t count,
                    enum fws_why why);

typedef struct fws_loss {
    uint64_t id;
    bool shared;
    const fws_sub *sub; /* NULL: it has ended, and will not be told of again */
    fws_conn *conn;
    struct fws_topic *topic;
    uint64_t first, last, count; /* count: without what it was not to get */
    uint8_t why;                 /* enum fws_why */
} fws_loss;

/* The next one that is to be told; false: no more. O(1) each. */
bool fws_topics_next_loss(struct fws_topics *topics, fws_loss *loss);
void fws_topics_forget_losses(struct fws_topics *topics);

#endif
