/* What the engine's own files share. Floor 3; nobody else includes it. */
#ifndef FWS_ENGINE_INTERNAL_H
#define FWS_ENGINE_INTERNAL_H

#include "core/engine.h"

#define FWS_TAG_SPECIAL 0xFFFFFFFF00000000ULL /* a generation that no slot reaches */
#define FWS_TAG_TIMER (FWS_TAG_SPECIAL | 0x100)
#define FWS_TAG_WAKE (FWS_TAG_SPECIAL | 0x101)

static inline void fws_link_init(fws_link *ring)
{
    ring->next = ring->previous = ring;
}

static inline void fws_link_append(fws_link *ring, fws_link *link)
{
    link->previous = ring->previous;
    link->next = ring;
    ring->previous->next = link;
    ring->previous = link;
}

/* 1 when it was in a ring, else 0. */
static inline uint32_t fws_link_remove(fws_link *link)
{
    if (link->next == NULL)
        return 0;
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link->next = link->previous = NULL;
    return 1;
}

#define FWS_CONTAINER(pointer, type, member) \
    ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/* A peer is not read from while more than this waits for it: whoever does not read its answers
 * is held by its own window. */
static inline size_t fws_held_back_above(const fws_engine *engine)
{
    return engine->options.outbox_limit / 4;
}

/* engine.c */

/* epoll_ctl(2), EPOLL_CTL_ADD. */
int fws_engine_watch(fws_engine *engine, int fd, uint32_t what, uint64_t tag);
/* A connection for a socket, which it owns from here on. NULL: errno says why; not owned. */
fws_conn *fws_engine_take(fws_engine *engine, int fd, enum fws_role role,
                          const struct sockaddr_in6 *remote);

/* accept.c */
void fws_engine_accept(fws_engine *engine);
/* Answers 503 on a server's socket, whatever is asked, without memory or descriptor, and counts. */
void fws_engine_refuse(fws_engine *engine, int fd);
/* Opens the reserve descriptor again when it is gone. */
void fws_engine_keep_reserve(fws_engine *engine);
void fws_engine_forget_peer(fws_engine *engine, const fws_conn *conn);

/* receive.c */

/* Keeps bytes for later; false when memory is out. */
bool fws_hold(fws_held *held, const uint8_t *data, size_t n);
/* Drops the first n bytes; the buffer goes with the last one. */
void fws_hold_drop(fws_held *held, uint32_t n);
/* Bytes of the peer, or 0 when there are none now; an end or an error ends the connection. */
size_t fws_receive_bytes(fws_engine *engine, fws_conn *conn, uint8_t *room, size_t n);
fws_event *fws_event_add(fws_engine *engine, fws_conn *conn, enum fws_event_kind kind,
                         const uint8_t *data, size_t n);
void fws_engine_mark_ready(fws_engine *engine, fws_conn *conn);
#define FWS_POLL_EVENTS 256
#define FWS_POLL_ROUNDS 64 /* then a turn goes on with what it has */
/* Waits, and sorts what happened into the ready and dirty rings. False: epoll_wait failed. */
bool fws_engine_poll(fws_engine *engine, int timeout_ms);

/* raw.c */
void fws_receive_http(fws_engine *engine, fws_conn *conn);

/* compress.c */

/* For a connection with window_bits: derives what its subscriptions are to get. */
void fws_conn_derive(fws_engine *engine, fws_conn *conn);
/* And compresses a message for it alone: moves *data and *n to what is to be sent, and returns
 * the RSV bits of its frame. */
unsigned fws_conn_compress(fws_engine *engine, const fws_conn *conn, uint8_t opcode,
                           const uint8_t **data, size_t *n);

/* sweep.c */

/* When a connection that was open at now is due for a ping. */
uint64_t fws_ping_due(const fws_engine *engine, const fws_conn *conn);

/* transmit.c */

/* Bytes that the peer's kernel has confirmed; where it cannot say, bytes that ours has taken. */
uint64_t fws_conn_confirmed(const fws_engine *engine, const fws_conn *conn);
void fws_conn_unblock(fws_engine *engine, fws_conn *conn);
/* Writes down how it ends, for its owner: reason_n at most FWS_REASON_MAX. */
void fws_conn_say_why(fws_conn *conn, uint16_t code, const uint8_t *reason, size_t reason_n);
/* Ends it with 1013; direct messages that have not begun to leave are dropped. */
void fws_conn_end_slow(fws_engine *engine, fws_conn *conn);

#endif
