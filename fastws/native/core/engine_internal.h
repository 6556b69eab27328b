/* Functions that only the engine's own files share. Layer 3; no other file includes it. */
#ifndef FWS_ENGINE_INTERNAL_H
#define FWS_ENGINE_INTERNAL_H

#include "core/engine_state.h"

#define FWS_NO_SLOT UINT32_MAX
#define FWS_TAG_SPECIAL 0xFFFFFFFF00000000ULL /* a generation that no slot reaches */
#define FWS_TAG_TIMER (FWS_TAG_SPECIAL | 0x100)
#define FWS_TAG_WAKE (FWS_TAG_SPECIAL | 0x101)

/* A peer is not read from while more than this waits for it: one that does not read its answers
 * is stopped by its own window. */
static inline size_t fws_read_paused_above(const fws_engine *engine)
{
    return engine->options.outbox_limit / 4;
}

/* http.c */
void fws_receive_http(fws_engine *engine, fws_conn *conn);

/* receive.c */

/* Bytes of the peer, or 0 when there are none now; an end or an error ends the connection. */
size_t fws_receive_bytes(fws_engine *engine, fws_conn *conn, uint8_t *room, size_t n);
/* Receives one chunk of a connection that is OPEN or CLOSING, and begins to parse it. */
void fws_receive_frames(fws_engine *engine, fws_conn *conn);
/* Parses on in the chunk of engine->reading, up to an event, its end, or the end of its time: what
 * is left then stays with the connection. */
void fws_receive_on(fws_engine *engine);
/* Keeps what is left of the chunk for a later turn. */
void fws_receive_stop(fws_engine *engine);

/* sweep.c */

/* When a connection that was open at now is due for a ping. */
uint64_t fws_ping_due(const fws_engine *engine, const fws_conn *conn);

/* accept.c */
void fws_engine_accept(fws_engine *engine);
/* Answers 503 on a server's socket, whatever is asked, without memory or descriptor, and counts. */
void fws_engine_refuse(fws_engine *engine, int fd);
/* Opens the reserve descriptor again when it is gone. */
void fws_engine_keep_reserve(fws_engine *engine);

/* close.c */

/* Writes down how it ends, for its owner: reason_n at most FWS_REASON_MAX. */
void fws_conn_set_close_reason(fws_conn *conn, uint16_t code, const uint8_t *reason,
                               size_t reason_n);
/* Ends it with 1013; direct messages that have not begun to leave are dropped. */
void fws_conn_end_slow(fws_engine *engine, fws_conn *conn);
/* The peer has shut down its sending side: send the pending responses, then close. */
void fws_conn_serve_out(fws_engine *engine, fws_conn *conn);
/* A Close frame of the peer (RFC 6455 7.1.5). */
void fws_conn_take_close(fws_engine *engine, fws_conn *conn, const fws_message *message);
/* LINGER: reads and throws away. */
void fws_conn_linger(fws_engine *engine, fws_conn *conn);
void fws_conn_leave_all(fws_conn *conn);
/* At the flush: carries out fws_conn_end(). */
void fws_conn_begin_ending(fws_engine *engine, fws_conn *conn);
/* DRAINING: shuts writing down once everything is sent. False: something still waits. */
bool fws_conn_finish(fws_engine *engine, fws_conn *conn);
/* Moves it to another state; which moves are legal stands in close.c. */
void fws_conn_move(fws_conn *conn, enum fws_state state);

/* command.c */

/* Forgets what was staged. */
void fws_engine_discard(fws_engine *engine);

/* poll.c */
#define FWS_POLL_EVENTS 256
#define FWS_POLL_ROUNDS 64 /* then a turn goes on with what it has */
/* Waits, and sorts what happened into the ready and dirty rings. False: epoll_wait failed. */
bool fws_engine_poll(fws_engine *engine, int timeout_ms);

/* send.c */

/* Compresses a message for one connection, which has window_bits: moves *data and *n to the bytes
 * to be sent, and returns the RSV bits of its frame. */
unsigned fws_conn_compress(fws_engine *engine, const fws_conn *conn, uint8_t opcode,
                           const uint8_t **data, size_t *n);
/* Sends engine->plan. 1: all of it is gone; 0: the socket is full; negative: it is dead. */
int fws_conn_send_plan(fws_engine *engine, fws_conn *conn);
/* The socket is full. */
void fws_conn_block(fws_engine *engine, fws_conn *conn);
void fws_conn_unblock(fws_engine *engine, fws_conn *conn);
/* Nothing is left to send to it. */
void fws_conn_caught_up(fws_engine *engine, fws_conn *conn);

/* account.c */

/* Bytes that the peer's kernel has confirmed; where it cannot say, bytes that ours has taken. */
uint64_t fws_conn_confirmed(const fws_engine *engine, const fws_conn *conn);

/* conn.c */

/* epoll_ctl(2), EPOLL_CTL_ADD. */
int fws_engine_watch(fws_engine *engine, int fd, uint32_t what, uint64_t tag);
/* A connection for a socket, which it owns from here on. NULL: errno says why; not owned. */
fws_conn *fws_engine_take(fws_engine *engine, int fd, enum fws_role role,
                          const struct sockaddr_in6 *remote);
/* Frees the connection and its slot. */
void fws_slot_release(fws_engine *engine, fws_conn *conn);
/* Counts its address. False when the address has so many that this one is closed unanswered. */
bool fws_conn_count_peer(fws_engine *engine, fws_conn *conn);
void fws_engine_forget_peer(fws_engine *engine, const fws_conn *conn);
void fws_engine_mark_ready(fws_engine *engine, fws_conn *conn);
/* Raises an event: the only one until its owner asks for the next. */
fws_event *fws_event_raise(fws_engine *engine, fws_conn *conn, enum fws_event_kind kind,
                           const uint8_t *data, size_t n);
/* Frees what the event owns. */
void fws_event_drop(fws_engine *engine);
/* Looks at the clock; after so many steps more, when FWS_LOOK_STEPS have gone by. An event counts as
 * FWS_EVENT_STEPS, or as all of them after a look that found FWS_SLOW_NS gone: a look takes 25 ns. */
#define FWS_LOOK_STEPS 64
#define FWS_EVENT_STEPS 16
#define FWS_SLOW_NS 20000
void fws_engine_look(fws_engine *engine);
static inline void fws_engine_look_after(fws_engine *engine, uint32_t steps)
{
    engine->unlooked += steps;
    if (engine->unlooked >= FWS_LOOK_STEPS)
        fws_engine_look(engine);
}
/* How long, as of the last look, receiving may go on before it gives way to the flush, ns. */
uint64_t fws_turn_left(const fws_engine *engine);
/* Keeps bytes for later; false when memory is out. */
bool fws_inbuf_add(fws_inbuf *inbuf, const uint8_t *data, size_t n);
/* Drops the first n bytes; the buffer goes with the last one. */
void fws_inbuf_drop(fws_inbuf *inbuf, uint32_t n);

#endif
