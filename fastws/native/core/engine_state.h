/* The engine's own state. Layer 3: for its files and its tests; others take engine.h. */
#ifndef FWS_ENGINE_STATE_H
#define FWS_ENGINE_STATE_H

#include <pthread.h>

#include "core/engine.h"
#include "core/peers.h"

typedef struct fws_staging {
    pthread_mutex_t lock;
    uint8_t *bytes, *draining;
    size_t n, capacity, draining_capacity;
    size_t draining_n, drained; /* bytes that are being applied; of them, have been */
    uint64_t refused;           /* commands for which there was no room; read without the lock */
    bool pressed;               /* one was refused for max_buffered_bytes; read without the lock */
} fws_staging;

#define FWS_HOLDERS 32

#define FWS_ALLOWANCES 64u /* divides n_slots */

/* What one connection may still send. A block of them is made when one of its connections first
 * sends something: those that are idle take nothing. */
typedef struct fws_allowance {
    fws_rate messages, bytes;
} fws_allowance;

struct fws_engine {
    const fws_sys *sys;
    fws_options options;
    int epoll, timer, wake;
    uint64_t driver; /* number of the thread that drives; 0: none has yet */
    uint32_t forks;  /* *sys->forks when it was made */
    uint64_t now, eseq;
    uint64_t polled_at;      /* when the sockets were looked at last, ns */
    size_t buffered, staged; /* allocated for what the connections hold, for commands; atomic */
    uint64_t lost;           /* of now, while the engine was late: engine time is what is left */
    uint64_t timer_at, sweep_at, source_at; /* when each wants to be woken, ns */
    fws_slot *slots;
    fws_allowance **allowances; /* blocks of FWS_ALLOWANCES; NULL: there is no limit */
    uint32_t n_slots, free_slot, live, admitted; /* admitted: not over a limit */
    /* Rings to read: those that speak HTTP; WebSockets; those of them that took long last time. */
    fws_link http, ready, costly;
    fws_link dirty;   /* ring of connections to flush */
    fws_link answers; /* the same, of HTTP answers: the two by turns, so that neither starves */
    uint32_t n_ready, n_dirty; /* of the three rings to read; of dirty and answers */
    fws_conn *first_dead;
    fws_topics topics;
    fws_link holders[FWS_HOLDERS]; /* those that hold 1 KiB or more, by the logarithm; 0: none */
    uint32_t ping_mark;      /* payload of the engine's own pings, at random: no owner sends it */
    fws_link with_room;      /* ring of connections that have the room they asked for */
    bool pressed;            /* max_buffered_bytes was met: the next flush closes the largest */
    uint32_t acknowledge_at; /* the slot that the sweep asks next */
    bool sweeping;           /* a pass has begun and is not over */
    uint32_t sweep_slot;     /* it goes on there, */
    uint32_t sweep_sub;      /* with that one of its pending subscriptions, if it is still there */
    uint64_t pass_at;        /* when the next pass is due, ns */
    uint32_t swept;          /* steps of the last portion */
    fws_link lagging;        /* ring of lagging connections, the longest first */
    uint64_t sample_at;      /* when the next publish is sampled, ns */
    uint64_t waiting_bytes;  /* published since the last flush */
    int listeners[FWS_LISTENERS];
    bool listener_ready[FWS_LISTENERS];
    uint32_t n_listeners;
    bool woken;             /* commands were staged; cleared when they are applied */
    uint32_t next_listener; /* whose turn it is to be first */
    bool accept_stalled;    /* no descriptor was left: the sweep tries again */
    uint8_t *room;          /* the receive buffer: one chunk */
    fws_conn *reading;      /* the connection whose chunk it holds; NULL: none's */
    uint8_t *unparsed;      /* what is left of the chunk */
    size_t n_unparsed;
    fws_event event;             /* the one that its owner handles, and */
    bool raised;                 /* whether there is one */
    uint64_t began;              /* the turn */
    uint64_t slice_began, slice; /* the reading of this connection, and how long it may take */
    uint32_t n_events, n_slice;  /* events of the turn; messages of this reading */
    uint32_t unlooked;           /* steps since the last look at the clock */
    bool slow;                   /* much time had gone by at that look */
    bool began_full;             /* the turn began with the budget spent */
    uint8_t ring;                /* being read: 0 http, 1 ready, 2 costly, 3: none any more */
    uint8_t passed_over;         /* first ring that the budget left nothing; 0: none */
    uint64_t ring_began;
    uint32_t turns;                /* begun so far; wraps */
    uint32_t ring_events, n_reads; /* events of the turn before that; reads since then */
    fws_plan plan;
    fws_deflate *codec; /* NULL before somebody negotiates compression */
    fws_peers peers;
    struct sockaddr_in6 met_last[FWS_MET_KINDS]; /* who met that limit last */
    int reserve; /* a descriptor to answer with when there is none left */
    fws_source source;
    fws_meter *meter; /* client role: counts what arrives on metered connections */
    fws_staging staging;
    fws_counters counters;
};

#endif
