/* Functions that only the engine's own files share. Layer 3; no other file includes it. */
#ifndef FWS_ENGINE_INTERNAL_H
#define FWS_ENGINE_INTERNAL_H

#include "core/engine_state.h"
#include "core/facts.h"

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

/* Whether nothing is read from a WebSocket for now: its handler's queue or its outbox is full, its
 * owner has paused it, or it has sent more than its rates allow. */
static inline bool fws_conn_stopped(const fws_conn *conn)
{
    return conn->credit == 0 || conn->read_paused || conn->throttled;
}

/* buffers.c: what waits in user memory apart from the logs, by what is allocated. What a connection
 * holds is counted whenever it has changed. */

/* Of that, what waits to be sent to it. */
static inline size_t fws_conn_out(const fws_conn *conn)
{
    const fws_partial *partial = &conn->partial;
    return conn->outbox.allocated + (partial->pinned == NULL ? fws_allocated(partial->n) : 0);
}

/* What it holds now. */
size_t fws_conn_buffered(const fws_conn *conn);
/* What it holds has changed. */
void fws_conn_count(fws_engine *engine, fws_conn *conn);
/* The same, where only what waits to be sent can have: it touches nothing else. */
void fws_conn_recount_out(fws_engine *engine, fws_conn *conn);
static inline void fws_conn_count_out(fws_engine *engine, fws_conn *conn)
{
    if (fws_conn_out(conn) != conn->held_out)
        fws_conn_recount_out(engine, conn);
}
/* It holds nothing any more: it is dead, and freed at the end of the turn. */
void fws_conn_uncount(fws_engine *engine, fws_conn *conn);
/* One of those that hold most, within a factor of two; NULL: nobody holds 1 KiB. */
fws_conn *fws_engine_largest(const fws_engine *engine);
/* Whether n bytes more for it are within max_buffered_bytes, the last eighth of which is for
 * those that hold little, the last sixteenth for those that hold nothing; else the next flush
 * makes room. */
bool fws_conn_has_room(fws_engine *engine, const fws_conn *conn, size_t n);
/* Whether what is new is to be refused. */
static inline bool fws_engine_full(const fws_engine *engine)
{
    uint64_t most = engine->options.max_buffered_bytes;
    return engine->pressed || (most != 0 && fws_engine_buffered(engine) > most);
}

/* command.c: at most one publish in FWS_SAMPLE_GAP_NS is sampled, and that by the clock of the
 * turn. */
#define FWS_SAMPLE_GAP_NS 10000000u
void fws_engine_sample(fws_engine *engine, fws_topic *topic);
static inline void fws_engine_published(fws_engine *engine, fws_topic *topic)
{
    if (engine->now >= engine->sample_at && topic->n > 0)
        fws_engine_sample(engine, topic);
}

/* flush.c */

/* Sends what waits, for FWS_TURN_NS, between two events. */
void fws_engine_send_waiting(fws_engine *engine);
/* Cuts an OPEN connection off. If its socket takes it at once, a Close goes first, behind what was
 * sent before; it ends as 1006 in any case, because no Close of the peer came (RFC 6455 7.1.5). */
void fws_conn_cut_with(fws_engine *engine, fws_conn *conn, uint16_t code, const uint8_t *reason,
                       size_t reason_n);

/* shed.c */

/* When max_buffered_bytes was met: closes those that hold most, until a quarter of it is free. */
void fws_engine_shed(fws_engine *engine);

/* The clock of deadlines, ns: it stands still while the engine itself is late. */
static inline uint64_t fws_engine_time(const fws_engine *engine)
{
    return engine->now - engine->lost;
}

/* The sweep looks at the connection as soon as that time has come. */
static inline void fws_conn_due(const fws_engine *engine, const fws_conn *conn, uint64_t at)
{
    fws_slot *slot = &engine->slots[(uint32_t)conn->id];
    slot->due = at < slot->due ? at : slot->due;
}

/* Moves a deadline, but later only: that the sweep need not know. */
static inline void fws_later(uint64_t *deadline, uint64_t at)
{
    *deadline = at > *deadline ? at : *deadline;
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

/* accept.c */
/* How many connections were accepted. */
int fws_engine_accept(fws_engine *engine);
/* Answers 503 on a server's socket, whatever is asked, without memory or descriptor, and counts. */
void fws_engine_refuse(fws_engine *engine, int fd);
/* That 503, *n bytes. */
const uint8_t *fws_unavailable(size_t *n);
/* Opens the reserve descriptor again when it is gone. */
void fws_engine_keep_reserve(fws_engine *engine);

/* close.c */

/* Ends it with 1013; direct messages that have not begun to leave are dropped. */
void fws_conn_end_slow(fws_engine *engine, fws_conn *conn);
/* The peer has shut down its sending side: send the pending responses, then close. */
void fws_conn_serve_out(fws_engine *engine, fws_conn *conn);
/* A Close frame of the peer (RFC 6455 7.1.5). */
void fws_conn_take_close(fws_engine *engine, fws_conn *conn, const fws_message *message);
/* LINGER: reads and throws away. */
void fws_conn_linger(fws_engine *engine, fws_conn *conn);
void fws_conn_leave_all(fws_conn *conn);
/* Ends it with the close code of a negative status, and a reason where that says which limit. */
void fws_conn_fail(fws_engine *engine, fws_conn *conn, int status);
/* At the flush: carries out fws_conn_end(). */
void fws_conn_begin_ending(fws_engine *engine, fws_conn *conn);
/* DRAINING: shuts writing down once everything is sent. False: something still waits. */
bool fws_conn_finish(fws_engine *engine, fws_conn *conn);
/* Moves it to another state; which moves are legal stands in close.c. */
void fws_conn_move(fws_conn *conn, enum fws_state state);

/* command.c */

/* Applies it now; the caller is the driving thread. */
int fws_engine_apply(fws_engine *engine, const fws_command *command);

/* staging.c */

/* Forgets what was staged. */
void fws_engine_discard(fws_engine *engine);

/* unread.c */

/* Something came for a connection that is not read from. A reset ends it, so does the end of a peer
 * that is being decided on; of a WebSocket the rest is looked at within FWS_UNREAD_NS. */
void fws_conn_hear(fws_engine *engine, fws_conn *conn);
/* Looks at what an OPEN connection has unread, when that is due. Once the peer's end or its Close
 * has lain there for FWS_UNREAD_NS, it counts. */
void fws_conn_look(fws_engine *engine, fws_conn *conn);

/* allowance.c: what each connection may still send in its rates, by slot. */

/* Room for n slots; false when memory is out. */
bool fws_allowances_grow(fws_engine *engine, uint32_t n);
void fws_allowances_clear(fws_engine *engine);
/* The slot's next occupant has all of it. */
void fws_allowance_renew(fws_engine *engine, uint32_t slot);
fws_allowance fws_allowance_of(const fws_engine *engine, const fws_conn *conn);
/* The same to be changed; NULL: memory is out. */
fws_allowance *fws_allowance_own(fws_engine *engine, const fws_conn *conn);

/* throttle.c: the rates of one peer. What it sends too fast waits in the kernel, and stops the peer
 * by its own window. */

/* How many bytes may be read of it now, at most n; 0: none, and it is throttled. */
size_t fws_conn_may_read(fws_engine *engine, fws_conn *conn, size_t n);
/* So many bytes of it were read. */
void fws_conn_spend_bytes(fws_engine *engine, fws_conn *conn, size_t n);
/* A message of it was read: if there may not be another one now, it is throttled. */
void fws_conn_spend_message(fws_engine *engine, fws_conn *conn);
/* It is read from again: its rates allow it, or our Close is queued. */
void fws_conn_unthrottle(fws_engine *engine, fws_conn *conn);
/* When it may be read from again, engine time: now, if it may. */
uint64_t fws_conn_throttled_until(const fws_engine *engine, const fws_conn *conn);

/* poll.c */
#define FWS_POLL_EVENTS 256
#define FWS_POLL_ROUNDS 64 /* then a turn goes on with what it has */
/* Waits, and sorts what happened into the ready and dirty rings. False: epoll_wait failed. */
bool fws_engine_poll(fws_engine *engine, int timeout_ms);
/* The first events of connections that were accepted since: most have sent their request, and are
 * read in this turn. */
void fws_engine_poll_new(fws_engine *engine);

/* send.c */

/* Compresses a message for one connection, which has window_bits: moves *data and *n to the bytes
 * to be sent, and returns the RSV bits of its frame. */
unsigned fws_conn_compress(fws_engine *engine, const fws_conn *conn, uint8_t opcode,
                           const uint8_t **data, size_t *n);
/* As fws_conn_push_frame(), of a message that others get as well. */
int fws_conn_push_shared(fws_engine *engine, fws_conn *conn, uint64_t eseq, fws_shared *message);
/* Sends engine->plan. 1: all of it is gone; 0: the socket is full; negative: it is dead. */
int fws_conn_send_plan(fws_engine *engine, fws_conn *conn);
/* The socket is full. */
void fws_conn_block(fws_engine *engine, fws_conn *conn);
void fws_conn_unblock(fws_engine *engine, fws_conn *conn);
/* Nothing is left to send to it. */
void fws_conn_caught_up(fws_engine *engine, fws_conn *conn);

/* deadline.c */

/* The time by which the engine is late now is no part of engine time. */
void fws_engine_note_late(fws_engine *engine);
/* Its state's deadline is that much later than now. */
void fws_conn_give_time(fws_engine *engine, fws_conn *conn, uint64_t ns);
/* Whether it has progressed since then, and so has the same time again. */
bool fws_conn_progresses(const fws_engine *engine, const fws_conn *conn);
/* OPEN: the next ping is due an interval from now; the first one in its second half. */
void fws_conn_ping_later(fws_engine *engine, fws_conn *conn, bool first);
/* A window begins in which the message that is not whole has to end or to progress. */
void fws_conn_expect_message(fws_engine *engine, fws_conn *conn);

/* sweep.c */

/* Not OPEN: its state's deadline has passed. */
void fws_conn_past_deadline(fws_engine *engine, fws_conn *conn);

/* account.c */

/* Bytes that the peer's kernel has confirmed; where it cannot say, bytes that ours has taken. */
uint64_t fws_conn_confirmed(const fws_engine *engine, const fws_conn *conn);

/* conn.c */

/* epoll_ctl(2), EPOLL_CTL_ADD. */
int fws_engine_watch(fws_engine *engine, int fd, uint32_t what, uint64_t tag);
/* Sets TCP_NODELAY and TCP_NOTSENT_LOWAT. False: it is no TCP socket. */
bool fws_engine_tune(const fws_engine *engine, int fd);
/* A connection for a socket, which it owns from here on. NULL: errno says why; not owned. */
fws_conn *fws_engine_take(fws_engine *engine, int fd, enum fws_role role,
                          const struct sockaddr_in6 *remote);
/* Frees the connection and its slot. */
void fws_slot_release(fws_engine *engine, fws_conn *conn);
/* Counts its address. False when the address has so many that this one is closed unanswered. */
bool fws_conn_count_peer(fws_engine *engine, fws_conn *conn);
void fws_engine_forget_peer(fws_engine *engine, const fws_conn *conn);
/* Counts a head of its address: 0, or after how long the next one may come, ns. */
uint64_t fws_conn_count_request(fws_engine *engine, const fws_conn *conn);
/* It has met the limit, for fws_engine_met_last(). */
void fws_conn_met(fws_engine *engine, const fws_conn *conn, enum fws_limit_met limit);
void fws_engine_mark_ready(fws_engine *engine, fws_conn *conn);
/* It is read from again: what came meanwhile, a pong perhaps, is still to be seen. */
void fws_conn_resume(fws_engine *engine, fws_conn *conn);
/* Raises an event: the only one until its owner asks for the next. */
fws_event *fws_event_raise(fws_engine *engine, fws_conn *conn, enum fws_event_kind kind,
                           const uint8_t *data, size_t n);
/* Frees what the event owns. */
void fws_event_drop(fws_engine *engine);
/* Looks at the clock; after so many steps more, when FWS_LOOK_STEPS have gone by. An event counts
 * as FWS_EVENT_STEPS, or as all of them after a look that found FWS_SLOW_NS gone: a look takes 25
 * ns. */
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
